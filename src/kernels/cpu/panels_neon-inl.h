// Vector operations of 128 bits for panels-inl.h: four rows at once. The file that includes this
// defines LODE_NEON_DOT to 1 where there are integer dot products (Armv8.2), else to 0. The BF16 dot
// products of Armv8.6 round otherwise than ops.h says, so they are not used.
// No include guard: included once per namespace.

constexpr int kRows = 4;
constexpr int VectorsFor(int) { return LODE_NEON_DOT ? 2 : 1; }
constexpr int PairVectorsFor(int) { return 2; }
using VF = float32x4_t;
using VI = int32x4_t;
struct WidePair {
  float32x4_t even, odd;
};

LODE_INLINE VF LoadF(const float* p) { return vld1q_f32(p); }
LODE_INLINE void StoreF(VF v, float* p) { vst1q_f32(p, v); }
LODE_INLINE VF SetF(float x) { return vdupq_n_f32(x); }
LODE_INLINE VF MulF(VF a, VF b) { return vmulq_f32(a, b); }
LODE_INLINE VF SubF(VF a, VF b) { return vsubq_f32(a, b); }
LODE_INLINE VF FmaF(VF a, VF b, VF c) { return vfmaq_f32(c, a, b); }
LODE_INLINE VF CvtF(VI v) { return vcvtq_f32_s32(v); }
LODE_INLINE VF BitCastF(VI v) { return vreinterpretq_f32_s32(v); }
LODE_INLINE VI SetI(int32_t x) { return vdupq_n_s32(x); }
LODE_INLINE VI AddI(VI a, VI b) { return vaddq_s32(a, b); }
LODE_INLINE VI SubI(VI a, VI b) { return vsubq_s32(a, b); }
LODE_INLINE VI AndI(VI a, VI b) { return vandq_s32(a, b); }
LODE_INLINE VI OrI(VI a, VI b) { return vorrq_s32(a, b); }
LODE_INLINE VI MaxI(VI a, VI b) { return vmaxq_s32(a, b); }
LODE_INLINE void EndPhase() {}
LODE_INLINE void Hold(VI&) {}
template <int N>
LODE_INLINE VI ShiftLeftI(VI a) {
  return vshlq_n_s32(a, N);
}
LODE_INLINE VF LoadHalves(const uint8_t* p) {
  return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}
LODE_INLINE uint8x8_t LoadFour(const void* p) {
  uint32_t four;
  __builtin_memcpy(&four, p, sizeof(four));
  return vreinterpret_u8_u32(vdup_n_u32(four));
}
LODE_INLINE VI LoadBytesI(const uint8_t* p) {
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(LoadFour(p)))));
}
LODE_INLINE VI LoadSignedI(const uint8_t* p) {
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(LoadFour(p)))));
}

// Tables hold signed codes already, and 8 bits turn with one flip; smaller codes are whole numbers
// below 128 as they are, so the sign costs less once per block than once per code.
constexpr bool SignedDots(PanelFormat format) {
  return TraitsOf(format).table != nullptr || TraitsOf(format).offset_shift == 7;
}

// The codes of one group for rows row0 to row0 + 3, 4 columns each.
template <PanelFormat F>
LODE_INLINE int8x16_t LoadCodes(const uint8_t* codes, int group, int64_t row0) {
  constexpr PanelTraits kT = TraitsOf(F);
  if constexpr (kT.bits == CodeBits::k8) {
    const uint8x16_t w = vld1q_u8(codes + group * 128 + row0 * 4);
    return vreinterpretq_s8_u8(veorq_u8(w, vdupq_n_u8(0x80)));
  }
  const bool upper = row0 >= 16;  // the high halves
  const int64_t at = (row0 & 15) * 4;
  const int8x16_t down = vdupq_n_s8(upper ? -4 : 0);
  uint8x16_t w = vandq_u8(vshlq_u8(vld1q_u8(codes + group * 64 + at), down), vdupq_n_u8(15));
  if constexpr (kT.table != nullptr) return vqtbl1q_s8(vld1q_s8(kT.table), w);
  if constexpr (kT.bits == CodeBits::k5) {
    // Byte i of the vector wants bit i of 16: spread the two bytes, then pick a bit each.
    uint16_t bits;
    __builtin_memcpy(&bits, codes + 512 + group * 16 + row0 / 2, sizeof(bits));
    const uint8x16_t spread = vcombine_u8(vdup_n_u8(static_cast<uint8_t>(bits)),
                                          vdup_n_u8(static_cast<uint8_t>(bits >> 8)));
    const uint8x16_t pick = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    w = vorrq_u8(w, vandq_u8(vtstq_u8(spread, pick), vdupq_n_u8(16)));
  }
  if constexpr (kT.bits == CodeBits::k6) {
    const uint8x16_t high = vld1q_u8(codes + 512 + group / 2 * 64 + at);
    const int from = (group % 2 != 0 ? 4 : 0) + (upper ? 2 : 0);
    const int8x16_t up = vdupq_n_s8(static_cast<int8_t>(4 - from));
    w = vorrq_u8(w, vandq_u8(vshlq_u8(high, up), vdupq_n_u8(0x30)));
  }
  return vreinterpretq_s8_u8(w);
}

#if LODE_NEON_DOT
// Group `group` + Lane; its numbers of token m are that lane of q[m].
template <PanelFormat F, int M, int Lane, int V>
LODE_INLINE void DotGroup(const uint8_t* codes, int group, int64_t row0, const int8x16_t (&q)[M],
                          VI (&sums)[M][V]) {
  LODE_UNROLL
  for (int v = 0; v < V; ++v) {
    const int8x16_t w = LoadCodes<F>(codes, group + Lane, row0 + v * kRows);
    LODE_UNROLL
    for (int m = 0; m < M; ++m) sums[m][v] = vdotq_laneq_s32(sums[m][v], w, q[m], Lane);
  }
}

template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void Dots(const uint8_t* codes, int group0, int64_t row0, const int8_t* q,
                      VI (&sums)[M][V]) {
  static_assert(Groups % 4 == 0);
  LODE_UNROLL
  for (int g = group0; g < group0 + Groups; g += 4) {
    int8x16_t x[M];
    LODE_UNROLL
    for (int m = 0; m < M; ++m) x[m] = vld1q_s8(q + m * 32 + g * 4);
    DotGroup<F, M, 0>(codes, g, row0, x, sums);
    DotGroup<F, M, 1>(codes, g, row0, x, sums);
    DotGroup<F, M, 2>(codes, g, row0, x, sums);
    DotGroup<F, M, 3>(codes, g, row0, x, sums);
  }
}
#else
// Groups whose products fit together in 16 bits: 127 * the largest code * groups < 2^15, which two
// times 127 * 128 is, too.
constexpr int GroupsThatFit(PanelFormat format) {
  const PanelTraits traits = TraitsOf(format);
  return traits.offset_shift == 7 ? 2 : traits.bits == CodeBits::k6 ? 4 : 8;
}

template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void Dots(const uint8_t* codes, int group0, int64_t row0, const int8_t* q,
                      VI (&sums)[M][V]) {
  constexpr int kEvery = std::min(Groups, GroupsThatFit(F));
  VI low[M], high[M];  // rows 0-1 and 2-3: columns 0-1, 2-3 of each
  LODE_UNROLL
  for (int begin = 0; begin < Groups; begin += kEvery) {
    int8x16_t w[kEvery];
    LODE_UNROLL
    for (int i = 0; i < kEvery; ++i) w[i] = LoadCodes<F>(codes, group0 + begin + i, row0);
    LODE_UNROLL
    for (int m = 0; m < M; ++m) {
      int16x8_t first = vdupq_n_s16(0), second = first;
      LODE_UNROLL
      for (int i = 0; i < kEvery; ++i) {
        const int8x8_t x = vreinterpret_s8_u8(LoadFour(q + m * 32 + (group0 + begin + i) * 4));
        const int8x16_t both = vcombine_s8(x, x);
        first = i == 0 ? vmull_s8(vget_low_s8(w[i]), x) : vmlal_s8(first, vget_low_s8(w[i]), x);
        second = i == 0 ? vmull_high_s8(w[i], both) : vmlal_high_s8(second, w[i], both);
      }
      low[m] = begin == 0 ? vpaddlq_s16(first) : vpadalq_s16(low[m], first);
      high[m] = begin == 0 ? vpaddlq_s16(second) : vpadalq_s16(high[m], second);
    }
  }
  LODE_UNROLL
  for (int m = 0; m < M; ++m) sums[m][0] = AddI(sums[m][0], vpaddq_s32(low[m], high[m]));
}
#endif

LODE_INLINE WidePair LoadPair(const uint8_t* p) {
  const VI pair = vreinterpretq_s32_u8(vld1q_u8(p));
  return {BitCastF(ShiftLeftI<16>(pair)),
          BitCastF(AndI(pair, SetI(static_cast<int32_t>(0xFFFF0000u))))};
}
// Even and odd as f32 in two lanes, which a multiply-add takes as they are.
LODE_INLINE float32x2_t SetPair(const uint16_t* x) {
  const uint32x4_t wide = vshll_n_u16(vreinterpret_u16_u8(LoadFour(x)), 16);
  return vreinterpret_f32_u32(vget_low_u32(wide));
}
LODE_INLINE VF DotPair(const WidePair& a, float32x2_t b, VF sum) {
  return vfmaq_lane_f32(vfmaq_lane_f32(sum, a.odd, b, 1), a.even, b, 0);
}
