// Packing with AVX2.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,bmi,bmi2");
namespace lode::kernels::pack_avx2 {

using Codes = __m256i;

LODE_INLINE Codes OrC(Codes a, Codes b) { return _mm256_or_si256(a, b); }
LODE_INLINE Codes Nibbles(const uint8_t* bytes) {
  const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m256i wide = _mm256_set_m128i(_mm_srli_epi16(both, 4), both);
  return _mm256_and_si256(wide, _mm256_set1_epi8(15));
}

LODE_INLINE Codes Load32(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

LODE_INLINE Codes FifthBits(const uint8_t* p) {
  int32_t bits;
  __builtin_memcpy(&bits, p, 4);
  const __m256i spread = _mm256_shuffle_epi8(
      _mm256_set1_epi32(bits),
      _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
  const __m256i pick = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, pick), pick),
                          _mm256_set1_epi8(16));
}

LODE_INLINE Codes Bits(Codes bytes, int64_t from, int count, int to) {
  const __m256i down = _mm256_srl_epi16(bytes, _mm_cvtsi64_si128(from));
  const __m256i low = _mm256_and_si256(down, _mm256_set1_epi8(static_cast<char>((1 << count) - 1)));
  return _mm256_slli_epi16(low, to);
}

LODE_INLINE uint32_t TakeFifthBits(Codes v) {
  return static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_slli_epi16(v, 3)));
}

LODE_INLINE Codes NibbleEights(const uint8_t* bytes) {
  const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m128i mask = _mm_set1_epi8(15);
  const __m128i low = _mm_and_si128(both, mask);
  const __m128i high = _mm_and_si128(_mm_srli_epi16(both, 4), mask);
  return _mm256_set_m128i(_mm_unpackhi_epi64(low, high), _mm_unpacklo_epi64(low, high));
}

LODE_INLINE Codes FlipSigns(Codes v) {
  return _mm256_xor_si256(v, _mm256_set1_epi8(static_cast<char>(0x80)));
}

LODE_INLINE Codes JoinNibbles(Codes a, Codes b) {
  const Codes mask = _mm256_set1_epi8(15);
  return OrC(_mm256_and_si256(a, mask), _mm256_slli_epi16(_mm256_and_si256(b, mask), 4));
}

LODE_INLINE void TurnEight(Codes* v) {
  Codes t[8], u[8];
  LODE_UNROLL
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
  }
  LODE_UNROLL
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
    u[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
    u[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  LODE_UNROLL
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x20);
    v[i + 4] = _mm256_permute2x128_si256(u[i], u[i + 4], 0x31);
  }
}

LODE_INLINE void Store32(Codes v, uint8_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}

#include "kernels/cpu/panel_pack-inl.h"

}  // namespace lode::kernels::pack_avx2
HWY_POP_ATTRIBUTES

namespace lode::kernels {
bool PackWholePanelAvx2(const Weight& weight, PanelFormat format, int64_t panel, int64_t first,
                        int64_t count, uint8_t* out) {
  return pack_avx2::PackWholePanel(weight, format, panel, first, count, out);
}
}  // namespace lode::kernels
#endif
