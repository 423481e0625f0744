// Compiled for the architecture's baseline: SSE2 on x86-64, NEON on 64-bit ARM.
#define VECTOR_BYTES 16
#include "cpu_kernel.h"

namespace msda {
static bool usable() { return true; }
#ifdef __aarch64__
MSDA_KERNELS(PORTABLE, "NEON", usable);
#else
MSDA_KERNELS(PORTABLE, "portable", usable);
#endif
}  // namespace msda
