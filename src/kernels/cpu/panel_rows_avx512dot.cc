// Q8_0 and Q4_0 for a few tokens straight from the file's rows: what runs until a weight is packed. Two
// rows fill a vector, their dot products are added across lanes by a tree over 16 rows; block sums are
// exact integers, so the bits are those of the panels.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,bmi,bmi2,avx512f,avx512vl,avx512dq,avx512bw,avx512vnni");
namespace lode::kernels {
namespace rows_avx512dot {

constexpr int kRowsTogether = 16;

// Eight vectors, each with 8 partial sums of one row below 8 of another -> the sums of 16 rows. Vector i
// holds rows RowOf(i) and RowOf(i) + 4, so that the result is in the order of the rows.
LODE_INLINE __m512i SumRows(const __m512i* c) {
  __m512i a[4], b[2];
  LODE_UNROLL
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(c[2 * i], c[2 * i + 1]),
                            _mm512_unpackhi_epi32(c[2 * i], c[2 * i + 1]));
  }
  LODE_UNROLL
  for (int i = 0; i < 2; ++i) {
    b[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(a[2 * i], a[2 * i + 1]),
                            _mm512_unpackhi_epi64(a[2 * i], a[2 * i + 1]));
  }
  return _mm512_add_epi32(_mm512_shuffle_i32x4(b[0], b[1], 0x88),
                          _mm512_shuffle_i32x4(b[0], b[1], 0xDD));
}
constexpr int RowOf(int i) { return i < 4 ? i : i + 4; }

// The offset codes of one block of two rows.
template <PanelFormat F>
LODE_INLINE __m512i LoadTwo(const uint8_t* a, const uint8_t* b) {
  if constexpr (F == PanelFormat::kQ8_0) {
    const __m512i low =
        _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a + 2)));
    const __m512i both =
        _mm512_inserti64x4(low, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 2)), 1);
    return _mm512_xor_si512(both, _mm512_set1_epi8(static_cast<char>(0x80)));
  } else {
    const __m256i la =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + 2)));
    const __m256i lb =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + 2)));
    const __m512i shifts = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(la), lb, 1);
    return _mm512_and_si512(_mm512_srlv_epi32(both, shifts), _mm512_set1_epi8(15));
  }
}

LODE_INLINE __m512i LoadInputs(const uint8_t* q) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(q)));
}

// sums[0..15] of 16 rows times token j of a tile of m.
template <PanelFormat F, bool Wide>
LODE_TILE void SixteenRows(const uint8_t* rows, int64_t row_bytes, int64_t blocks,
                           const uint8_t* tile, int64_t m, int64_t j, float* sums) {
  constexpr int64_t kBytes = F == PanelFormat::kQ8_0 ? 34 : 18;
  constexpr int kShift = TraitsOf(F).offset_shift;
  __m512 f = _mm512_setzero_ps();
  for (int64_t block = 0; block < blocks; ++block) {
    const uint8_t* w = rows + block * kBytes;
    const auto* s = reinterpret_cast<const float*>(tile + m * (Wide ? 64 : 32));
    const int32_t n = reinterpret_cast<const int32_t*>(s + m)[j];
    const __m512i x = LoadInputs(tile + j * 32);
    const __m512i low = Wide ? LoadInputs(tile + (m + j) * 32) : x;
    __m512i c[8];
    alignas(32) uint16_t halves[kRowsTogether];
    LODE_UNROLL
    for (int i = 0; i < 8; ++i) {
      const uint8_t* a = w + RowOf(i) * row_bytes;
      const uint8_t* b = a + 4 * row_bytes;
      const __m512i codes = LoadTwo<F>(a, b);
      __builtin_memcpy(&halves[RowOf(i)], a, 2);
      __builtin_memcpy(&halves[RowOf(i) + 4], b, 2);
      c[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes, x);
      if constexpr (Wide) {  // base 255
        c[i] = _mm512_sub_epi32(_mm512_slli_epi32(c[i], 8), c[i]);
        c[i] = _mm512_dpbusd_epi32(c[i], codes, low);
      }
    }
    const auto offset = static_cast<int32_t>(static_cast<uint32_t>(n) << kShift);
    const __m512i total = _mm512_add_epi32(SumRows(c), _mm512_set1_epi32(offset));
    const __m512 scale =
        _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(halves)));
    f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(scale, _mm512_set1_ps(s[j])), f);
    if (block % 2 == 0) {  // about a line of each row for two blocks
      LODE_UNROLL
      for (int r = 0; r < kRowsTogether; ++r) __builtin_prefetch(w + r * row_bytes + 1024);
    }
    tile += m * IntBlockBytes(Wide);
  }
  _mm512_storeu_ps(sums, f);
}

template <PanelFormat F>
LODE_TILE void Run(const Weight& w, int64_t panel, const uint8_t* tile, int64_t m, bool wide,
                   float* sums) {
  const auto* rows = reinterpret_cast<const uint8_t*>(w.data) + panel * kPanelRows * w.row_bytes;
  for (int64_t r = 0; r < kPanelRows; r += kRowsTogether) {
    for (int64_t j = 0; j < m; ++j) {
      const uint8_t* at = rows + r * w.row_bytes;
      float* out = sums + j * kPanelRows + r;
      if (wide) {
        SixteenRows<F, true>(at, w.row_bytes, RecordsOf(w.cols), tile, m, j, out);
      } else {
        SixteenRows<F, false>(at, w.row_bytes, RecordsOf(w.cols), tile, m, j, out);
      }
    }
  }
}

}  // namespace rows_avx512dot

bool RunRowsAvx512Dot(const Weight& w, PanelFormat format, int64_t panel, const uint8_t* tile,
                      int64_t m, bool wide, float* sums) {
  if ((panel + 1) * kPanelRows > w.rows) return false;
  if (format == PanelFormat::kQ8_0) {
    rows_avx512dot::Run<PanelFormat::kQ8_0>(w, panel, tile, m, wide, sums);
    return true;
  }
  if (format == PanelFormat::kQ4_0) {
    rows_avx512dot::Run<PanelFormat::kQ4_0>(w, panel, tile, m, wide, sums);
    return true;
  }
  return false;
}

}  // namespace lode::kernels
HWY_POP_ATTRIBUTES
#endif
