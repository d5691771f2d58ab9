#include "kernels/cpu/peaks_loops.h"

#if defined(__x86_64__)

// GCC 12's own header uses values that it says are undefined.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "hwy/base.h"

// An empty assembly statement after which the compiler knows nothing of the value: without it equal
// chains would become one, and products of constants would leave the loop.
#define LODE_OPAQUE(x) asm volatile("" : "+v"(x))

namespace lode::kernels {

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq")

double PeakF32Avx512(int64_t rounds) {
  __m512 sums[kPeakChains];
  __m512 factor = _mm512_set1_ps(0.5f), addend = _mm512_set1_ps(1.0f);
  for (__m512& sum : sums) LODE_OPAQUE(sum = _mm512_setzero_ps());
  LODE_OPAQUE(factor);
  LODE_OPAQUE(addend);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) sums[c] = _mm512_fmadd_ps(sums[c], factor, addend);
  }
  for (__m512& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 16 * 2;
}

double PeakBF16Avx512(int64_t rounds) {
  __m512 sums[kPeakChains];
  __m512i pairs = _mm512_set1_epi32(0x3f803f80);
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  __m512 x = _mm512_set1_ps(0.5f);
  for (__m512& sum : sums) LODE_OPAQUE(sum = _mm512_setzero_ps());
  LODE_OPAQUE(x);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) {
      LODE_OPAQUE(pairs);
      sums[c] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(pairs, high)), x, sums[c]);
      sums[c] = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), x, sums[c]);
    }
  }
  for (__m512& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 32 * 2;
}

double PeakInt8Avx512(int64_t rounds) {
  __m512i sums[kPeakChains];
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  const __m512i ones = _mm512_set1_epi16(1);
  for (__m512i& sum : sums) LODE_OPAQUE(sum = _mm512_setzero_si512());
  LODE_OPAQUE(b);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) {
      LODE_OPAQUE(a);
      sums[c] = _mm512_add_epi32(sums[c], _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), ones));
    }
  }
  for (__m512i& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 64 * 2;
}

uint64_t ReadAllAvx512(const std::byte* data, size_t bytes) {
  __m512i sums[8];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (size_t at = 0; at < bytes; at += 512) {
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(data + at + kReadAhead + 64 * i), _MM_HINT_T0);
      sums[i] = _mm512_xor_si512(
          sums[i], _mm512_load_si512(reinterpret_cast<const __m512i*>(data + at + 64 * i)));
    }
  }
  for (int i = 1; i < 8; ++i) sums[0] = _mm512_xor_si512(sums[0], sums[i]);
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(sums[0]));
}

HWY_POP_ATTRIBUTES

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")

double PeakBF16Avx512Dot(int64_t rounds) {
  __m512 sums[kPeakChains];
  __m512i bits = _mm512_set1_epi32(0x3f803f80);
  LODE_OPAQUE(bits);
  const auto pairs = reinterpret_cast<__m512bh>(bits);
  for (__m512& sum : sums) LODE_OPAQUE(sum = _mm512_setzero_ps());
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) sums[c] = _mm512_dpbf16_ps(sums[c], pairs, pairs);
  }
  for (__m512& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 32 * 2;
}

double PeakInt8Avx512Dot(int64_t rounds) {
  __m512i sums[kPeakChains];
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (__m512i& sum : sums) LODE_OPAQUE(sum = _mm512_setzero_si512());
  LODE_OPAQUE(a);
  LODE_OPAQUE(b);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], a, b);
  }
  for (__m512i& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 64 * 2;
}

HWY_POP_ATTRIBUTES

}  // namespace lode::kernels

#endif  // __x86_64__
