// Packing with AVX2: the same bytes as the plain code in panel.cc (a test compares), ten times as fast.
// 32 codes of a row are one vector; eight rows are turned at once, so that a vector has 4 columns of
// each.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,bmi,bmi2");
namespace lode::kernels {
namespace pack_avx2 {

using Codes = __m256i;

struct RowScales {
  uint16_t d, dmin;
  uint8_t scales[2];
};

LODE_INLINE uint16_t Half(const uint8_t* p) {
  uint16_t half;
  __builtin_memcpy(&half, p, 2);
  return half;
}

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

// Bits [from, from + count) of each byte, moved to bit `to`.
LODE_INLINE Codes Bits(Codes bytes, int64_t from, int count, int to) {
  const __m256i down = _mm256_srl_epi16(bytes, _mm_cvtsi64_si128(from));
  const __m256i low = _mm256_and_si256(down, _mm256_set1_epi8(static_cast<char>((1 << count) - 1)));
  return _mm256_slli_epi16(low, to);
}

LODE_INLINE void ScaleAndMin(const uint8_t* packed, int64_t j, uint8_t* pair) {
  if (j < 4) {
    pair[0] = packed[j] & 63;
    pair[1] = packed[j + 4] & 63;
  } else {
    pair[0] = static_cast<uint8_t>((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4));
    pair[1] = static_cast<uint8_t>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4));
  }
}

// Block `block` of a row, as LoadRowBlock has it.
template <PanelFormat F>
LODE_INLINE Codes LoadBlock(const uint8_t* row, int64_t block, RowScales* s) {
  const int64_t j = block % kSuperRecords, super = block / kSuperRecords;
  if constexpr (F == PanelFormat::kQ8_0) {
    const uint8_t* p = row + block * 34;
    s->d = Half(p);
    return _mm256_xor_si256(Load32(p + 2), _mm256_set1_epi8(static_cast<char>(0x80)));
  } else if constexpr (F == PanelFormat::kQ4_0 || F == PanelFormat::kIQ4NL) {
    const uint8_t* p = row + block * 18;
    s->d = Half(p);
    return Nibbles(p + 2);
  } else if constexpr (F == PanelFormat::kQ4_1) {
    const uint8_t* p = row + block * 20;
    s->d = Half(p);
    s->dmin = Half(p + 2);
    return Nibbles(p + 4);
  } else if constexpr (F == PanelFormat::kQ5_0) {
    const uint8_t* p = row + block * 22;
    s->d = Half(p);
    return _mm256_or_si256(Nibbles(p + 6), FifthBits(p + 2));
  } else if constexpr (F == PanelFormat::kQ5_1) {
    const uint8_t* p = row + block * 24;
    s->d = Half(p);
    s->dmin = Half(p + 2);
    return _mm256_or_si256(Nibbles(p + 8), FifthBits(p + 4));
  } else if constexpr (F == PanelFormat::kMXFP4) {
    const uint8_t* p = row + block * 17;
    s->scales[0] = p[0];
    return Nibbles(p + 1);
  } else if constexpr (F == PanelFormat::kQ4K || F == PanelFormat::kQ5K) {
    constexpr bool kFive = F == PanelFormat::kQ5K;
    const uint8_t* p = row + super * (kFive ? 176 : 144);
    s->d = Half(p);
    s->dmin = Half(p + 2);
    ScaleAndMin(p + 4, j, s->scales);
    const Codes low = Bits(Load32(p + (kFive ? 48 : 16) + 32 * (j / 2)), 4 * (j & 1), 4, 0);
    return kFive ? _mm256_or_si256(low, Bits(Load32(p + 16), j, 1, 4)) : low;
  } else if constexpr (F == PanelFormat::kQ6K) {
    const uint8_t* p = row + super * 210;
    const int64_t half = j / 4, k = j % 4;
    s->scales[0] = p[192 + 8 * half + 2 * k];
    s->scales[1] = p[193 + 8 * half + 2 * k];
    s->d = Half(p + 208);
    const Codes low = Bits(Load32(p + 64 * half + 32 * (k & 1)), 4 * (k >> 1), 4, 0);
    return _mm256_or_si256(low, Bits(Load32(p + 128 + 32 * half), 2 * k, 2, 4));
  } else if constexpr (F == PanelFormat::kIQ4XS) {
    const uint8_t* p = row + super * 136;
    const int low = (p[4 + j / 2] >> (4 * (j & 1))) & 15;
    const int high = (Half(p + 2) >> (2 * j)) & 3;
    s->d = Half(p);
    s->scales[0] = static_cast<uint8_t>((low | high << 4) - 32);
    return Nibbles(p + 8 + 16 * j);
  } else {  // GGUF's NVFP4
    const uint8_t* p = row + block / 2 * 36;
    const int64_t first = block % 2 * 2;
    for (int i = 0; i < 2; ++i) {
      const uint8_t scale = p[first + i] & 0x7F;
      s->scales[i] = scale == 0x7F ? 0 : scale;
    }
    // Eight bytes are sixteen elements, low halves first.
    const __m128i both = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 4 + first * 8));
    const __m128i mask = _mm_set1_epi8(15);
    const __m128i low = _mm_and_si128(both, mask);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(both, 4), mask);
    return _mm256_set_m128i(_mm_unpackhi_epi64(low, high), _mm_unpacklo_epi64(low, high));
  }
}

// rows[r] has 8 groups of 4 columns; afterwards rows[g] has group g of the 8 rows.
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

template <PanelFormat F>
LODE_INLINE void StoreCodes(const Codes (&v)[4][8], uint8_t* out) {
  constexpr CodeBits kBits = TraitsOf(F).bits;
  const Codes mask = _mm256_set1_epi8(15);
  for (int g = 0; g < 8; ++g) {
    if constexpr (kBits == CodeBits::k8) {
      LODE_UNROLL
      for (int e = 0; e < 4; ++e) Store32(v[e][g], out + g * 128 + e * 32);
    } else {
      LODE_UNROLL
      for (int e = 0; e < 2; ++e) {
        const Codes low = _mm256_and_si256(v[e][g], mask);
        const Codes high = _mm256_slli_epi16(_mm256_and_si256(v[e + 2][g], mask), 4);
        Store32(_mm256_or_si256(low, high), out + g * 64 + e * 32);
      }
    }
    if constexpr (kBits == CodeBits::k5) {
      LODE_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int bits = _mm256_movemask_epi8(_mm256_slli_epi16(v[e][g], 3));
        __builtin_memcpy(out + 512 + g * 16 + e * 4, &bits, 4);
      }
    }
    if constexpr (kBits == CodeBits::k6) {
      if (g % 2 != 0) continue;
      LODE_UNROLL
      for (int e = 0; e < 2; ++e) {
        const Codes even = _mm256_or_si256(Bits(v[e][g], 4, 2, 0), Bits(v[e + 2][g], 4, 2, 2));
        const Codes odd =
            _mm256_or_si256(Bits(v[e][g + 1], 4, 2, 4), Bits(v[e + 2][g + 1], 4, 2, 6));
        Store32(_mm256_or_si256(even, odd), out + 512 + g / 2 * 64 + e * 32);
      }
    }
  }
}

template <PanelFormat F>
LODE_INLINE void StoreScales(const RowScales& s, int64_t r, uint8_t* header, uint8_t* out) {
  constexpr ScaleKind kKind = TraitsOf(F).scales;
  if constexpr (kKind == ScaleKind::kF16 || kKind == ScaleKind::kF16Min) {
    __builtin_memcpy(out + 2 * r, &s.d, 2);
    if constexpr (kKind == ScaleKind::kF16Min) __builtin_memcpy(out + 64 + 2 * r, &s.dmin, 2);
  } else {
    out[r] = s.scales[0];
    if constexpr (kKind != ScaleKind::kE8M0 && kKind != ScaleKind::kSuper)
      out[32 + r] = s.scales[1];
    if (HeaderBytes(kKind) > 0 && header != nullptr) {
      __builtin_memcpy(header + 2 * r, &s.d, 2);
      if constexpr (kKind == ScaleKind::kSuperMin)
        __builtin_memcpy(header + 64 + 2 * r, &s.dmin, 2);
    }
  }
}

// A whole panel's records; all 32 rows exist.
template <PanelFormat F>
LODE_TILE void Pack(const uint8_t* rows, int64_t row_bytes, int64_t first, int64_t count,
                    uint8_t* out) {
  constexpr PanelTraits kT = TraitsOf(F);
  for (int64_t b = first; b < first + count; ++b) {
    uint8_t* header = nullptr;
    if (HeaderBytes(kT.scales) > 0 && b % kSuperRecords == 0) {
      header = out;
      out += HeaderBytes(kT.scales);
    }
    Codes v[4][8];
    LODE_UNROLL
    for (int e = 0; e < 4; ++e) {
      LODE_UNROLL
      for (int r = 0; r < 8; ++r) {
        RowScales scales;
        v[e][r] = LoadBlock<F>(rows + (e * 8 + r) * row_bytes, b, &scales);
        StoreScales<F>(scales, e * 8 + r, header, out + CodeBytes(kT.bits));
      }
      TurnEight(v[e]);
    }
    StoreCodes<F>(v, out);
    out += RecordBytes(F);
  }
}

// Pairs of bfloat16, or of bytes: eight rows of 32 bytes are turned like codes.
LODE_TILE void PackBF16(const uint8_t* rows, int64_t row_bytes, int64_t first, int64_t count,
                        uint8_t* out) {
  for (int64_t half = 2 * first; half < 2 * (first + count); ++half) {  // 16 columns
    for (int e = 0; e < 4; ++e) {
      Codes v[8];
      LODE_UNROLL
      for (int r = 0; r < 8; ++r) v[r] = Load32(rows + (e * 8 + r) * row_bytes + half * 32);
      TurnEight(v);
      LODE_UNROLL
      for (int pair = 0; pair < 8; ++pair) Store32(v[pair], out + pair * 128 + e * 32);
    }
    out += 8 * 128;
  }
}

}  // namespace pack_avx2

bool PackWholePanelAvx2(const Weight& w, PanelFormat format, int64_t panel, int64_t first,
                        int64_t count, uint8_t* out) {
  const auto* rows = reinterpret_cast<const uint8_t*>(w.data) + panel * kPanelRows * w.row_bytes;
  switch (format) {
#define LODE_PACK(F)                                                       \
  case PanelFormat::F:                                                     \
    pack_avx2::Pack<PanelFormat::F>(rows, w.row_bytes, first, count, out); \
    return true;
    LODE_PACK(kQ8_0)
    LODE_PACK(kQ4_0)
    LODE_PACK(kQ4_1)
    LODE_PACK(kQ5_0)
    LODE_PACK(kQ5_1)
    LODE_PACK(kIQ4NL)
    LODE_PACK(kIQ4XS)
    LODE_PACK(kMXFP4)
    LODE_PACK(kQ4K)
    LODE_PACK(kQ5K)
    LODE_PACK(kQ6K)
#undef LODE_PACK
    case PanelFormat::kNVFP4:
      if (w.block_scales != nullptr) return false;
      pack_avx2::Pack<PanelFormat::kNVFP4>(rows, w.row_bytes, first, count, out);
      return true;
    case PanelFormat::kBF16:
      pack_avx2::PackBF16(rows, w.row_bytes, first, count, out);
      return true;
    default:
      return false;
  }
}

}  // namespace lode::kernels
HWY_POP_ATTRIBUTES
#endif
