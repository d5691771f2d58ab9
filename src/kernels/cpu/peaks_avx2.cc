#include "kernels/cpu/peaks_loops.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "hwy/base.h"

// After it the compiler knows nothing of the value (see peaks_avx512.cc).
#define LODE_OPAQUE(x) asm volatile("" : "+x"(x))

namespace lode::kernels {

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c")

double PeakF32Avx2(int64_t rounds) {
  __m256 sums[kPeakChains];
  __m256 factor = _mm256_set1_ps(0.5f), addend = _mm256_set1_ps(1.0f);
  for (__m256& sum : sums) LODE_OPAQUE(sum = _mm256_setzero_ps());
  LODE_OPAQUE(factor);
  LODE_OPAQUE(addend);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) sums[c] = _mm256_fmadd_ps(sums[c], factor, addend);
  }
  for (__m256& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 8 * 2;
}

double PeakBF16Avx2(int64_t rounds) {
  __m256 sums[kPeakChains];
  __m256i pairs = _mm256_set1_epi32(0x3f803f80);
  const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  __m256 x = _mm256_set1_ps(0.5f);
  for (__m256& sum : sums) LODE_OPAQUE(sum = _mm256_setzero_ps());
  LODE_OPAQUE(x);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) {
      LODE_OPAQUE(pairs);
      sums[c] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(pairs, high)), x, sums[c]);
      sums[c] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)), x, sums[c]);
    }
  }
  for (__m256& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 16 * 2;
}

double PeakInt8Avx2(int64_t rounds) {
  __m256i sums[kPeakChains];
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
  const __m256i ones = _mm256_set1_epi16(1);
  for (__m256i& sum : sums) LODE_OPAQUE(sum = _mm256_setzero_si256());
  LODE_OPAQUE(b);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) {
      LODE_OPAQUE(a);
      sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
  for (__m256i& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 32 * 2;
}

uint64_t ReadAllAvx2(const std::byte* data, size_t bytes) {
  __m256i sums[8];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (size_t at = 0; at < bytes; at += 256) {
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; ++i) {
      if (i % 2 == 0) {
        _mm_prefetch(reinterpret_cast<const char*>(data + at + kReadAhead + 32 * i), _MM_HINT_T0);
      }
      sums[i] = _mm256_xor_si256(
          sums[i], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + at + 32 * i)));
    }
  }
  for (int i = 1; i < 8; ++i) sums[0] = _mm256_xor_si256(sums[0], sums[i]);
  alignas(32) uint64_t words[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), sums[0]);
  return words[0] + words[1] + words[2] + words[3];
}

HWY_POP_ATTRIBUTES

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,avxvnni")

double PeakInt8AvxVnni(int64_t rounds) {
  __m256i sums[kPeakChains];
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(5);
  for (__m256i& sum : sums) LODE_OPAQUE(sum = _mm256_setzero_si256());
  LODE_OPAQUE(a);
  LODE_OPAQUE(b);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) sums[c] = _mm256_dpbusd_avx_epi32(sums[c], a, b);
  }
  for (__m256i& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 32 * 2;
}

HWY_POP_ATTRIBUTES

}  // namespace lode::kernels

#endif  // __x86_64__
