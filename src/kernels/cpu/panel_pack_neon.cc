// Packing with NEON.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace lode::kernels::pack_neon {

struct Codes {
  uint8x16_t first, second;
};

template <class Each>
LODE_INLINE Codes Halves(Codes v, const Each& each) {
  return {each(v.first), each(v.second)};
}

LODE_INLINE Codes Load32(const uint8_t* p) { return {vld1q_u8(p), vld1q_u8(p + 16)}; }
LODE_INLINE void Store32(Codes v, uint8_t* p) {
  vst1q_u8(p, v.first);
  vst1q_u8(p + 16, v.second);
}
LODE_INLINE Codes OrC(Codes a, Codes b) {
  return {vorrq_u8(a.first, b.first), vorrq_u8(a.second, b.second)};
}

LODE_INLINE Codes Nibbles(const uint8_t* bytes) {
  const uint8x16_t both = vld1q_u8(bytes);
  return {vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8(both, 4)};
}

LODE_INLINE Codes NibbleEights(const uint8_t* bytes) {
  const Codes v = Nibbles(bytes);
  return {vcombine_u8(vget_low_u8(v.first), vget_low_u8(v.second)),
          vcombine_u8(vget_high_u8(v.first), vget_high_u8(v.second))};
}

LODE_INLINE Codes FifthBits(const uint8_t* p) {
  const uint8x16_t pick = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
  const Codes spread = {vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1])),
                        vcombine_u8(vdup_n_u8(p[2]), vdup_n_u8(p[3]))};
  return Halves(spread, [&](uint8x16_t v) { return vandq_u8(vtstq_u8(v, pick), vdupq_n_u8(16)); });
}

LODE_INLINE uint32_t TakeFifthBits(Codes v) {
  // A byte of weight 2^i each, then sums of eight.
  const uint8x16_t pick = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
  const Codes set =
      Halves(v, [&](uint8x16_t half) { return vandq_u8(vtstq_u8(half, vdupq_n_u8(16)), pick); });
  const uint8x16_t fours = vpaddq_u8(vpaddq_u8(set.first, set.second), vdupq_n_u8(0));
  return vgetq_lane_u32(vreinterpretq_u32_u8(vpaddq_u8(fours, fours)), 0);
}

LODE_INLINE Codes FlipSigns(Codes v) {
  return Halves(v, [](uint8x16_t half) { return veorq_u8(half, vdupq_n_u8(0x80)); });
}

LODE_INLINE Codes Bits(Codes v, int64_t from, int count, int to) {
  const int8x16_t down = vdupq_n_s8(static_cast<int8_t>(-from));
  const int8x16_t up = vdupq_n_s8(static_cast<int8_t>(to));
  const uint8x16_t mask = vdupq_n_u8(static_cast<uint8_t>((1 << count) - 1));
  return Halves(
      v, [&](uint8x16_t half) { return vshlq_u8(vandq_u8(vshlq_u8(half, down), mask), up); });
}

LODE_INLINE Codes JoinNibbles(Codes a, Codes b) {
  return {vsliq_n_u8(a.first, b.first, 4), vsliq_n_u8(a.second, b.second, 4)};
}

// Four rows of four groups.
LODE_INLINE void TurnFour(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d, uint8x16_t* out) {
  const uint32x4x2_t ab = vtrnq_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b));
  const uint32x4x2_t cd = vtrnq_u32(vreinterpretq_u32_u8(c), vreinterpretq_u32_u8(d));
  LODE_UNROLL
  for (int odd = 0; odd < 2; ++odd) {
    const uint64x2_t x = vreinterpretq_u64_u32(ab.val[odd]);
    const uint64x2_t y = vreinterpretq_u64_u32(cd.val[odd]);
    out[odd] = vreinterpretq_u8_u64(vtrn1q_u64(x, y));
    out[odd + 2] = vreinterpretq_u8_u64(vtrn2q_u64(x, y));
  }
}

LODE_INLINE void TurnEight(Codes* v) {
  uint8x16_t turned[2][8];  // rows 0-3 and 4-7 of each group
  LODE_UNROLL
  for (int r = 0; r < 2; ++r) {
    const Codes* rows = v + 4 * r;
    TurnFour(rows[0].first, rows[1].first, rows[2].first, rows[3].first, turned[r]);
    TurnFour(rows[0].second, rows[1].second, rows[2].second, rows[3].second, turned[r] + 4);
  }
  LODE_UNROLL
  for (int g = 0; g < 8; ++g) v[g] = {turned[0][g], turned[1][g]};
}

#include "kernels/cpu/panel_pack-inl.h"

}  // namespace lode::kernels::pack_neon

namespace lode::kernels {
bool PackWholePanelNeon(const Weight& weight, PanelFormat format, int64_t panel, int64_t first,
                        int64_t count, uint8_t* out) {
  return pack_neon::PackWholePanel(weight, format, panel, first, count, out);
}
}  // namespace lode::kernels
#endif
