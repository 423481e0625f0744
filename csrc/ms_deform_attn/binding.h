// The C interface of the CPU kernels. model/ops/native.py repeats MsdaCall field for field.
#pragma once

#include "cpu.h"

#define MSDA_API __attribute__((visibility("default")))

extern "C" {

// Arguments of one call; tensors contiguous, in the layouts of csrc/README.md.
struct MsdaCall {
  int64_t B, S, M, D, Q, L, P;
  int64_t shapes[2 * msda::MAX_LEVELS];  // (H, W) per level
  const void *value, *locations, *weights, *grad_out;
  void *out, *grad_value, *grad_locations, *grad_weights;
  int64_t is_double, threads, variant;
};

// Kernels compiled in, best first; whether this processor can run each.
MSDA_API int msda_variants();
MSDA_API const char* msda_variant_name(int variant);
MSDA_API int msda_variant_usable(int variant);

// Address of GOMP_parallel in the process's OpenMP runtime, or null: then threads are started for each call.
MSDA_API void msda_use_openmp(void* parallel);

// 0: done; 1: out of memory. The backward pass writes its three gradients whole.
MSDA_API int msda_forward(const MsdaCall* call);
MSDA_API int msda_backward(const MsdaCall* call);
}
