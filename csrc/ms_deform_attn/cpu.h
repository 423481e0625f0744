// What the CPU kernels compute on, and the table of functions that each instruction set provides.
#pragma once

#include <cstdint>

namespace msda {

struct Level {
  int32_t height, width;
  int64_t start;  // first row of the level in S
};

constexpr int MAX_LEVELS = 8;
constexpr int MAX_SAMPLES = 128;  // L * P of one query and head

// One call. All tensors are contiguous, in the layouts of csrc/README.md, and of one scalar type.
struct Problem {
  int64_t B, S, M, D, Q, L, P;
  Level levels[MAX_LEVELS];
  const void *value, *locations, *weights, *grad_out;
  void *out, *grad_value, *grad_locations, *grad_weights;
};

// The part of a problem that one thread does at a time: one image and head, queries [q0, q1), levels [l0, l1).
// `packed` is room for `plane_bytes(problem)` (twice that in the backward pass) or null to read the native layout.
struct Task {
  int64_t b, m, q0, q1, l0, l1;
  void* packed;
};

struct Kernels {
  const char* name;
  bool (*usable)();                                       // can this processor run them
  int64_t (*plane_bytes)(const Problem&, bool is_double);  // one head's values, rows padded to whole vectors
  bool (*reads_native)(const Problem&, bool is_double);    // whether a Task may leave `packed` null
  void (*forward)(const Problem&, const Task&, bool is_double);
  void (*backward)(const Problem&, const Task&, bool is_double);
};

extern const Kernels AVX512, AVX2, PORTABLE;

}  // namespace msda
