// Runs a CUDA kernel on the CPU, to test the very text that the GPU compiler gets: g++ -include this -x c++ kernel.cu
//
// Each thread of a block is a fiber with a stack of its own. It runs until it must wait for others (a shuffle,
// __syncthreads) and hands over. Shuffles, warps and barriers behave as on the GPU, and what would be undefined there
// (a lane that is missing from a shuffle) aborts. Blocks run one after another, in a given order.
#pragma once
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <type_traits>
#include <utility>

#define MSDA_ON_CPU
#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

struct uint2 { unsigned x, y; };
struct uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
inline float2 make_float2(float x, float y) { return {x, y}; }
struct Index { int x, y, z; };

namespace emulation {

constexpr int MAX_THREADS = 1024, STACK = 256 << 10;
struct Barrier { int waiting = 0; long generation = 0; };

inline ucontext_t scheduler, fibers[MAX_THREADS];
inline char* stacks;
inline bool finished[MAX_THREADS];
inline unsigned slots[MAX_THREADS];
inline Barrier warps[MAX_THREADS / 32], block;
inline int current, threads;
inline long progress;  // of anyone: to notice that all wait for ever
inline void (*body)();

inline void fail(const char* why) {
  fprintf(stderr, "cuda_on_cpu: thread %d: %s\n", current, why);
  abort();
}

inline void wait(Barrier& barrier, int members) {
  const long generation = barrier.generation;
  if (++barrier.waiting == members) {
    barrier.waiting = 0;
    ++barrier.generation;
    ++progress;
  } else {
    while (barrier.generation == generation) swapcontext(&fibers[current], &scheduler);
  }
}

inline unsigned exchange(unsigned value, int source) {
  Barrier& warp = warps[current / 32];
  slots[current] = value;
  wait(warp, 32);
  if (finished[source]) fail("shuffle from a lane that has left");
  const unsigned got = slots[source];
  wait(warp, 32);
  return got;
}

template <typename T> T exchange(T value, int source) {
  static_assert(sizeof(T) == 4);
  unsigned bits;
  memcpy(&bits, &value, 4);
  bits = exchange(bits, source);
  memcpy(&value, &bits, 4);
  return value;
}

}  // namespace emulation

inline Index blockIdx, blockDim, gridDim;
#define threadIdx (Index{emulation::current, 0, 0})

namespace emulation {

inline void enter() {
  body();
  finished[current] = true;
  ++progress;
}

inline void run_block() {
  if (!stacks) stacks = static_cast<char*>(aligned_alloc(64, size_t(MAX_THREADS) * STACK));
  if (threads % 32) fail("a block is not a multiple of 32 threads");
  for (Barrier& warp : warps) warp = {};
  block = {};
  for (int i = 0; i < threads; ++i) {
    getcontext(&fibers[i]);
    fibers[i].uc_stack.ss_sp = stacks + size_t(i) * STACK;
    fibers[i].uc_stack.ss_size = STACK;
    fibers[i].uc_link = &scheduler;
    finished[i] = false;
    makecontext(&fibers[i], enter, 0);
  }
  for (int left = threads; left;) {
    const long before = progress;
    left = 0;
    for (current = 0; current < threads; ++current)
      if (!finished[current]) swapcontext(&scheduler, &fibers[current]), left += !finished[current];
    if (left && progress == before) fail("all wait for ever: a shuffle or barrier was not reached by all");
  }
}

}  // namespace emulation

template <typename T> T __shfl_sync(unsigned, T value, int source, int width) {
  return emulation::exchange(value, emulation::current - emulation::current % width + source);
}
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask, int) {
  return emulation::exchange(value, emulation::current ^ mask);
}
inline void __syncthreads() { emulation::wait(emulation::block, emulation::threads); }

template <typename T> T __ldg(const T* at) {
  if (reinterpret_cast<size_t>(at) % sizeof(T)) emulation::fail("misaligned load");
  return *at;
}
inline float __saturatef(float x) { return x > 0.f ? (x < 1.f ? x : 1.f) : 0.f; }  // NaN -> 0
inline long long __float2ll_rn(float x) { return llrintf(x); }
inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
template <typename T> T atomicAdd(T* at, T x) { const T old = *at; *at += x; return old; }

// What ms_deform_attn.cu says in PTX.
struct Half { unsigned short bits; };
struct BFloat16 { unsigned short bits; };
inline float widen(Half x) { _Float16 y; memcpy(&y, &x, 2); return y; }
inline void narrow(float x, Half& y) { const _Float16 z = x; memcpy(&y, &z, 2); }
inline void narrow(float x, BFloat16& y) {  // to nearest, ties to even; NaN stays NaN
  const unsigned bits = __float_as_uint(x);
  y.bits = x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
inline float2 load_once(const float2* at) { return __ldg(at); }
inline float again(float x) { return x; }
template <int BYTES, typename T> T* at_row(T* base, int row) {
  return reinterpret_cast<T*>(reinterpret_cast<size_t>(base) + (long long)row * BYTES);
}
inline void add(float* at, float x) { *at += x; }
inline void add(unsigned long long* at, long long x) { *at += x; }
template <int V> void add(float* at, const float (&x)[V]) {
  if (reinterpret_cast<size_t>(at) % (4 * V)) emulation::fail("misaligned sum");
  for (int i = 0; i < V; ++i) at[i] += x[i];
}

// Run a kernel as cuLaunchKernel would: an array of pointers to its arguments. backwards: the last block first.
namespace emulation {

inline void** arguments;

template <auto KERNEL> struct Caller;
template <typename... A, void (*KERNEL)(A...)> struct Caller<KERNEL> {
  template <size_t... I> static void call(std::index_sequence<I...>) {
    KERNEL(*static_cast<std::remove_cv_t<std::remove_reference_t<A>>*>(arguments[I])...);
  }
  static void run() { call(std::index_sequence_for<A...>()); }
};

template <auto KERNEL> void launch(int x, int y, int z, int block_threads, bool backwards, void** given) {
  gridDim = {x, y, z};
  blockDim = {block_threads, 1, 1};
  threads = block_threads;
  arguments = given;
  body = Caller<KERNEL>::run;
  const long blocks = long(x) * y * z;
  for (long i = 0; i < blocks; ++i) {
    const long at = backwards ? blocks - 1 - i : i;
    blockIdx = {int(at % x), int(at / x % y), int(at / x / y)};
    run_block();
  }
}

}  // namespace emulation
