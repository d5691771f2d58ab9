// Packing of whole panels (kernels/panel.h), written over the few operations on 32 codes of a row
// that an instruction set defines before it includes this file, inside a namespace of its own and
// under its compile attributes. The same bytes as the plain code in panel.cc (a test compares), with
// AVX2 ten times as fast.
//   Codes                32 bytes
//   Load32(p) Store32(v, p) OrC(a, b)
//   Nibbles(p)           16 bytes' low halves, then their high ones
//   NibbleEights(p)      the same of each 8 bytes
//   FifthBits(p)         32 bits, each to bit 4 of a byte;  TakeFifthBits(v)  the way back
//   FlipSigns(v)         bit 7 of each
//   Bits(v, from, count, to)   bits [from, from + count) of each byte, moved to bit `to`
//   JoinNibbles(a, b)    low halves of a, and of b as the high halves
//   TurnEight(v)         v[r] has 8 groups of 4 columns; afterwards v[g] has group g of the 8 rows
// No include guard: included once per namespace.

struct RowScales {
  uint16_t d, dmin;
  uint8_t scales[2];
};

LODE_INLINE uint16_t Half(const uint8_t* p) {
  uint16_t half;
  __builtin_memcpy(&half, p, 2);
  return half;
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
    return FlipSigns(Load32(p + 2));
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
    return OrC(Nibbles(p + 6), FifthBits(p + 2));
  } else if constexpr (F == PanelFormat::kQ5_1) {
    const uint8_t* p = row + block * 24;
    s->d = Half(p);
    s->dmin = Half(p + 2);
    return OrC(Nibbles(p + 8), FifthBits(p + 4));
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
    return kFive ? OrC(low, Bits(Load32(p + 16), j, 1, 4)) : low;
  } else if constexpr (F == PanelFormat::kQ6K) {
    const uint8_t* p = row + super * 210;
    const int64_t half = j / 4, k = j % 4;
    s->scales[0] = p[192 + 8 * half + 2 * k];
    s->scales[1] = p[193 + 8 * half + 2 * k];
    s->d = Half(p + 208);
    const Codes low = Bits(Load32(p + 64 * half + 32 * (k & 1)), 4 * (k >> 1), 4, 0);
    return OrC(low, Bits(Load32(p + 128 + 32 * half), 2 * k, 2, 4));
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
    return NibbleEights(p + 4 + first * 8);
  }
}

template <PanelFormat F>
LODE_INLINE void StoreCodes(const Codes (&v)[4][8], uint8_t* out) {
  constexpr CodeBits kBits = TraitsOf(F).bits;
  for (int g = 0; g < 8; ++g) {
    if constexpr (kBits == CodeBits::k8) {
      LODE_UNROLL
      for (int e = 0; e < 4; ++e) Store32(v[e][g], out + g * 128 + e * 32);
    } else {
      LODE_UNROLL
      for (int e = 0; e < 2; ++e) {
        Store32(JoinNibbles(v[e][g], v[e + 2][g]), out + g * 64 + e * 32);
      }
    }
    if constexpr (kBits == CodeBits::k5) {
      LODE_UNROLL
      for (int e = 0; e < 4; ++e) {
        const uint32_t bits = TakeFifthBits(v[e][g]);
        __builtin_memcpy(out + 512 + g * 16 + e * 4, &bits, 4);
      }
    }
    if constexpr (kBits == CodeBits::k6) {
      if (g % 2 != 0) continue;
      LODE_UNROLL
      for (int e = 0; e < 2; ++e) {
        const Codes even = OrC(Bits(v[e][g], 4, 2, 0), Bits(v[e + 2][g], 4, 2, 2));
        const Codes odd = OrC(Bits(v[e][g + 1], 4, 2, 4), Bits(v[e + 2][g + 1], 4, 2, 6));
        Store32(OrC(even, odd), out + 512 + g / 2 * 64 + e * 32);
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
    if constexpr (kKind != ScaleKind::kE8M0 && kKind != ScaleKind::kSuper) {
      out[32 + r] = s.scales[1];
    }
    if (HeaderBytes(kKind) > 0 && header != nullptr) {
      __builtin_memcpy(header + 2 * r, &s.d, 2);
      if constexpr (kKind == ScaleKind::kSuperMin) {
        __builtin_memcpy(header + 64 + 2 * r, &s.dmin, 2);
      }
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

LODE_TILE bool PackWholePanel(const Weight& w, PanelFormat format, int64_t panel, int64_t first,
                              int64_t count, uint8_t* out) {
  const auto* rows = reinterpret_cast<const uint8_t*>(w.data) + panel * kPanelRows * w.row_bytes;
  switch (format) {
#define LODE_PACK(F)                                            \
  case PanelFormat::F:                                          \
    Pack<PanelFormat::F>(rows, w.row_bytes, first, count, out); \
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
      Pack<PanelFormat::kNVFP4>(rows, w.row_bytes, first, count, out);
      return true;
    case PanelFormat::kBF16:
      PackBF16(rows, w.row_bytes, first, count, out);
      return true;
    default:
      return false;
  }
}
