// Compiled with -mavx512f/dq/vl/bw -mfma. Nothing here may run before `usable` said so.
#define VECTOR_BYTES 64
#include "cpu_kernel.h"

namespace msda {
static bool usable() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}
MSDA_KERNELS(AVX512, "AVX-512", usable);
}  // namespace msda
