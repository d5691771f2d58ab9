// Inputs of matrix products in the form that panels want: 8-bit whole numbers with a scale for
// every 32 columns, or bfloat16.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/matmul_parts.h"
#include "kernels/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/activations.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

using DInt = hn::RebindToSigned<DF>;
using DByte = hn::Rebind<int8_t, DF>;

// Largest magnitude of 32 numbers; NaN and infinity give something that is not below infinity.
HWY_INLINE float Largest(const float* x) {
  const DF d;
  const auto L = hn::Lanes(d);
  VF most = hn::Zero(d);
  VF bad = hn::Zero(d);  // x - x is zero unless x is NaN or infinite
  for (size_t i = 0; i < 32; i += L) {
    const VF v = hn::LoadU(d, x + i);
    most = hn::Max(most, hn::Abs(v));
    bad = hn::Add(bad, hn::Sub(v, v));
  }
  const float sum = hn::GetLane(hn::SumOfLanes(d, bad));
  return sum == 0.0f ? hn::GetLane(hn::MaxOfLanes(d, most))
                     : std::numeric_limits<float>::quiet_NaN();
}

// Rounds x * inverse to whole numbers (ties to even) that are stored as bytes; their sums.
HWY_INLINE void RoundBlock(const float* x, float inverse, int8_t* q, int32_t* first,
                           int32_t* second) {
  const DF d;
  const DInt di;
  const auto L = hn::Lanes(d);
  int32_t sums[2];
  for (size_t half = 0; half < 2; ++half) {
    auto sum = hn::Zero(di);
    for (size_t i = 16 * half; i < 16 * half + 16; i += L) {
      const auto whole = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
      hn::StoreU(hn::DemoteTo(DByte(), whole), DByte(), q + i);
      sum = hn::Add(sum, whole);
    }
    sums[half] = hn::GetLane(hn::SumOfLanes(di, sum));
  }
  *first = sums[0];
  *second = sums[1];
}

// In base 255: x * inverse ~ 255 q + low, both within +-127.
HWY_INLINE void RoundWide(const float* x, float inverse, int8_t* q, int8_t* low, int32_t* first,
                          int32_t* second) {
  int32_t sums[2] = {0, 0};
  for (int i = 0; i < 32; ++i) {
    const auto whole = static_cast<int32_t>(std::lrintf(x[i] * inverse));
    const int32_t high = (whole + (whole >= 0 ? 127 : -127)) / 255;
    q[i] = static_cast<int8_t>(high);
    low[i] = static_cast<int8_t>(whole - 255 * high);
    sums[i / 16] += whole;
  }
  *first = sums[0];
  *second = sums[1];
}

void QuantizeTokenV(const float* x, int64_t cols, bool wide, int64_t m, int64_t j, uint8_t* tile) {
  const float top = wide ? 32512.0f : 127.0f;  // 127 * 255 + 127
  for (int64_t k = 0; k < cols; k += 32) {
    HWY_ALIGN float padded[32];
    const float* block = x + k;
    if (k + 32 > cols) {
      std::fill(std::copy(block, x + cols, padded), padded + 32, 0.0f);
      block = padded;
    }
    auto* q = reinterpret_cast<int8_t*>(tile);
    auto* s = reinterpret_cast<float*>(tile + m * (wide ? 64 : 32));
    auto* n = reinterpret_cast<int32_t*>(s + m);
    const float most = Largest(block);
    // Below this the inverse would overflow: such a block counts as zero.
    const float inverse = most > 1e-30f ? top / most : 0.0f;
    s[j] = most > 1e-30f ? most * (1.0f / top) : std::isnan(most) ? most : 0.0f;
    int32_t first, second;
    if (wide) {
      RoundWide(block, inverse, q + j * 32, q + (m + j) * 32, &first, &second);
    } else {
      RoundBlock(block, inverse, q + j * 32, &first, &second);
    }
    n[j] = -(first + second);
    n[m + j] = -first;
    s[3 * m + j] = s[j] * static_cast<float>(first + second);
    tile += m * IntBlockBytes(wide);
  }
}

void ToBF16RowV(const float* x, int64_t cols, int64_t count, uint16_t* high, uint16_t* low) {
  const DF d;
  const hn::Rebind<uint16_t, DF> d16;
  const hn::RebindToUnsigned<DF> du;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const auto store = [&](VF rounded, uint16_t* out, int64_t i) {
    const auto bits = hn::DemoteTo(
        d16, hn::BitCast(hn::RebindToSigned<DF>(), hn::ShiftRight<16>(hn::BitCast(du, rounded))));
    if (i + L <= count) {
      hn::StoreU(bits, d16, out + i);
      return;
    }
    uint16_t tail[kLanes];
    hn::StoreU(bits, d16, tail);
    std::copy(tail, tail + (count - i), out + i);
  };
  for (int64_t i = 0; i < count; i += L) {
    const VF v = i < cols ? LoadPadded(x, i, cols) : hn::Zero(d);
    const VF rounded = RoundBF16V(v);
    store(rounded, high, i);
    if (low != nullptr) store(RoundBF16V(hn::Sub(v, rounded)), low, i);
  }
}

void ReluSquaredScaledV(float* sums, const float* row_scales, float scale) {
  const DF d;
  const auto L = hn::Lanes(d);
  for (size_t i = 0; i < 32; i += L) {
    const VF by = row_scales != nullptr ? hn::LoadU(d, row_scales + i) : hn::Set(d, scale);
    const VF v = hn::Max(hn::Mul(hn::LoadU(d, sums + i), by), hn::Zero(d));
    hn::StoreU(hn::Mul(v, v), d, sums + i);
  }
}

void AddWeightedV(const float* c, const float* row_scales, float scale, float weight, int64_t count,
                  float* y) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < count; i += L) {
    const VF by = row_scales != nullptr ? LoadPadded(row_scales, i, count) : hn::Set(d, scale);
    const VF v = hn::Mul(hn::LoadU(d, c + i), by);
    StorePadded(hn::MulAdd(hn::Set(d, weight), v, LoadPadded(y, i, count)), y, i, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(QuantizeTokenV);
HWY_EXPORT(ToBF16RowV);
HWY_EXPORT(ReluSquaredScaledV);
HWY_EXPORT(AddWeightedV);

void QuantizeToken(const float* x, int64_t cols, bool wide, int64_t m, int64_t j, uint8_t* tile) {
  HWY_DYNAMIC_DISPATCH(QuantizeTokenV)(x, cols, wide, m, j, tile);
}
void ToBF16Row(const float* x, int64_t cols, int64_t count, uint16_t* high, uint16_t* low) {
  HWY_DYNAMIC_DISPATCH(ToBF16RowV)(x, cols, count, high, low);
}
void ReluSquaredScaled(float* sums, const float* row_scales, float scale) {
  HWY_DYNAMIC_DISPATCH(ReluSquaredScaledV)(sums, row_scales, scale);
}
void AddWeighted(const float* c, const float* row_scales, float scale, float weight, int64_t count,
                 float* y) {
  HWY_DYNAMIC_DISPATCH(AddWeightedV)(c, row_scales, scale, weight, count, y);
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
