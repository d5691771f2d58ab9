// The part of the noise that is worth intrinsics: a product of 32 bits by 32 is one instruction on
// every processor, and compilers do not find it.
#include <cstring>

#include "runtime/sampling/sampler_passes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace lode::runtime {
namespace {

namespace narrow {
#define LODE_LANES 2
#if defined(__x86_64__)
#define LODE_MULTIPLY(a, b) (Lanes)(_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#elif defined(__aarch64__)
#define LODE_MULTIPLY(a, b) \
  (Lanes)(vmull_u32(vmovn_u64((uint64x2_t)(a)), vmovn_u64((uint64x2_t)(b))))
#else
#define LODE_MULTIPLY(a, b) ((a) & 0xFFFFFFFFu) * ((b) & 0xFFFFFFFFu)
#endif
#include "runtime/sampling/sampler_noise-inl.h"
#undef LODE_LANES
#undef LODE_MULTIPLY
}  // namespace narrow

#if defined(__x86_64__) && !defined(__clang__)
#define LODE_WIDE_NOISE
#pragma GCC push_options
#pragma GCC target("avx2")
namespace wide {
#define LODE_LANES 4
#define LODE_MULTIPLY(a, b) (Lanes)(_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#include "runtime/sampling/sampler_noise-inl.h"
#undef LODE_LANES
#undef LODE_MULTIPLY
}  // namespace wide
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f")
namespace widest {
#define LODE_LANES 8
// Masked by nothing: the plain one makes GCC warn of a variable of its own.
#define LODE_MULTIPLY(a, b) (Lanes)(_mm512_maskz_mul_epu32(0xFF, (__m512i)(a), (__m512i)(b)))
#include "runtime/sampling/sampler_noise-inl.h"
#undef LODE_LANES
#undef LODE_MULTIPLY
}  // namespace widest
#pragma GCC pop_options
#endif

}  // namespace

NoiseWords ChooseNoiseWords(int lanes_max) {
#if defined(LODE_WIDE_NOISE)
  if (lanes_max >= 8 && __builtin_cpu_supports("avx512f")) return widest::FirstWords;
  if (lanes_max >= 4 && __builtin_cpu_supports("avx2")) return wide::FirstWords;
#endif
  return narrow::FirstWords;
}

}  // namespace lode::runtime
