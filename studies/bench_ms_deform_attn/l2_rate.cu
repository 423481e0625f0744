// How fast a GPU's L2 hands out rows and adds to them, for the floors of the study: eight lanes take one row of 128
// bytes, 16 bytes each, at scattered places of a buffer that fits in L2. `last_row` is a power of two less one.

constexpr int ROUNDS = 64, AT_ONCE = 8, LANES = 8;  // a warp keeps four times AT_ONCE rows under way

struct Walk {
  unsigned place;
  __device__ __forceinline__ Walk() : place((blockIdx.x * blockDim.x + threadIdx.x) / LANES * 2654435761u) {}
  __device__ __forceinline__ unsigned next(unsigned last_row) {
    place = place * 1664525u + 1013904223u;
    return (place >> 8) & last_row;
  }
};

extern "C" __global__ void load_rows(const float4* buffer, float* sum, unsigned last_row) {
  Walk walk;
  float total = 0.f;
  for (int round = 0; round < ROUNDS; ++round) {
#pragma unroll
    for (int i = 0; i < AT_ONCE; ++i) {
      const float4 x = __ldcg(buffer + walk.next(last_row) * LANES + threadIdx.x % LANES);  // not through L1
      total += x.x + x.y + x.z + x.w;
    }
  }
  if (total == 12345.f) *sum = total;  // never: the buffer holds zeros, but the compiler must load them
}

extern "C" __global__ void add_rows(float* buffer, unsigned last_row) {
  Walk walk;
  for (int round = 0; round < ROUNDS * AT_ONCE; ++round) {
    float* row = buffer + walk.next(last_row) * (4 * LANES);
#if __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.v4.f32 [%0], {%1, %1, %1, %1};" ::"l"(
                     __cvta_generic_to_global(row + 4 * (threadIdx.x % LANES))), "f"(1.f));
#else
    for (int i = 0; i < 4; ++i)
      asm volatile("red.global.add.f32 [%0], %1;" ::"l"(__cvta_generic_to_global(row + i * LANES + threadIdx.x % LANES)),
                   "f"(1.f));
#endif
  }
}
