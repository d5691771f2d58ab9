// Which instruction sets the kernels are compiled for: AVX-512, AVX2 with FMA, SSE4, and a portable
// baseline on x86; NEON on arm64. SSE4 and the baseline have no fused multiply-add, so their bits differ.
#pragma once

// Highway reads this before it chooses targets; SSSE3 adds nothing, AVX3_DL's extra instructions are
// not used here. Vectors of SVE have no size that a compiler knows, so no array holds them.
#if defined(__x86_64__)
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#elif defined(__aarch64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
