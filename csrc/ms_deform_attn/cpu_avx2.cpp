// Compiled with -mavx2 -mfma. Nothing here may run before `usable` said so.
#define VECTOR_BYTES 32
#include "cpu_kernel.h"

namespace msda {
static bool usable() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
MSDA_KERNELS(AVX2, "AVX2", usable);
}  // namespace msda
