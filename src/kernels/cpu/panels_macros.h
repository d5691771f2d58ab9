// What the per-instruction-set files of the panels share: attributes, and the way a file is compiled for
// an instruction set that the rest of the program must not need.
#pragma once

#include "hwy/base.h"  // HWY_PUSH_ATTRIBUTES

#define LODE_INLINE static inline __attribute__((always_inline, unused))
#define LODE_TILE static __attribute__((noinline, unused))
// Accumulators stay in registers only when every loop over them is unrolled; that takes minutes to
// compile, which quick tests need not wait for.
#if defined(LODE_QUICK)
#define LODE_UNROLL
#else
#define LODE_UNROLL _Pragma("GCC unroll 16")
#endif
