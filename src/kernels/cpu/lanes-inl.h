// Helpers that every SIMD body uses: sums in 16 lanes whatever the vector's length, maps with a
// padded tail (never a scalar variant, so that an element's bits do not depend on where it stands),
// exp and SiLU. Included once per target by the .cc files of this folder.
#if defined(LODE_KERNELS_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LODE_KERNELS_CPU_LANES_INL_H_
#undef LODE_KERNELS_CPU_LANES_INL_H_
#else
#define LODE_KERNELS_CPU_LANES_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using DF = hn::CappedTag<float, 16>;
using VF = hn::Vec<DF>;
constexpr int64_t kLanes = 16;  // lanes of every canonical sum

// The tree of halves inside a vector.
template <class D>
HWY_INLINE float SumTreeV(D d, hn::Vec<D> v) {
#if HWY_TARGET == HWY_SCALAR
  return hn::GetLane(v);
#else
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    return SumTreeV(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    v = hn::Add(v, hn::Shuffle1032(v));
    return hn::GetLane(hn::Add(v, hn::Shuffle2301(v)));
  }
#endif
}

// The same of 16 lanes in as many vectors as they take.
constexpr int kVectorsOf16 = 16 / static_cast<int>(hn::MaxLanes(DF()));
HWY_INLINE float SumTreeV(VF (&lanes)[kVectorsOf16]) {
  for (int step = kVectorsOf16 / 2; step >= 1; step /= 2) {
    for (int i = 0; i < step; ++i) lanes[i] = hn::Add(lanes[i], lanes[i + step]);
  }
  return SumTreeV(DF(), lanes[0]);
}

// Sum over i of f(i-th vector), lane j taking i = j mod 16 in ascending order. `add` gets (vector,
// accumulator) and returns the new accumulator; the last vectors come from `load` padded with
// zeros.
template <class Load, class Add>
HWY_INLINE float Sum16(int64_t count, const Load& load, const Add& add) {
  const DF d;
  const int64_t L = static_cast<int64_t>(hn::Lanes(d));
  if constexpr (kVectorsOf16 == 1) {  // GCC 12 fails on an array of one
    VF sum = hn::Zero(d);
    for (int64_t i = 0; i < count; i += kLanes) sum = add(load(i), sum);
    return SumTreeV(d, sum);
  } else {
    VF sums[kVectorsOf16];
    for (int v = 0; v < kVectorsOf16; ++v) sums[v] = hn::Zero(d);
    for (int64_t i = 0; i < count; i += kLanes) {
      for (int v = 0; v < kVectorsOf16; ++v) sums[v] = add(load(i + v * L), sums[v]);
    }
    return SumTreeV(sums);
  }
}

// Loads L elements from x + i, zeros behind `count`.
HWY_INLINE VF LoadPadded(const float* x, int64_t i, int64_t count) {
  const DF d;
  const int64_t L = static_cast<int64_t>(hn::Lanes(d));
  if (HWY_LIKELY(i + L <= count)) return hn::LoadU(d, x + i);
  HWY_ALIGN float tail[kLanes] = {};
  for (int64_t j = i; j < count; ++j) tail[j - i] = x[j];
  return hn::Load(d, tail);
}

HWY_INLINE void StorePadded(VF v, float* y, int64_t i, int64_t count) {
  const DF d;
  const int64_t L = static_cast<int64_t>(hn::Lanes(d));
  if (HWY_LIKELY(i + L <= count)) {
    hn::StoreU(v, d, y + i);
    return;
  }
  HWY_ALIGN float tail[kLanes];
  hn::Store(v, d, tail);
  for (int64_t j = i; j < count; ++j) y[j] = tail[j - i];
}

HWY_INLINE VF ExpV(VF x) { return hn::Exp(DF(), x); }

// 2^r for r in [-1/2, 1/2]: minimax of degree 6 with p(0) = 1, relative error 1.6e-8 before
// rounding.
HWY_INLINE VF Exp2PolynomialV(VF r) {
  const DF d;
  VF p = hn::Set(d, 0x1.41fbbep-13f);
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.5f3e54p-10f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.3b2d4cp-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.c6aee8p-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.ebfbdcp-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.62e430p-1f));
  return hn::MulAdd(p, r, hn::Set(d, 1.0f));
}

// exp(x) with x clamped to [-87, 87], where no result is subnormal or infinite; relative error
// below 2e-7, about half of the instructions of ExpV. The reduction is exact: x log2(e) = n + r.
HWY_INLINE VF ExpClampedV(VF x) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  // x stands second: x86 then lets NaN through.
  x = hn::Min(hn::Set(d, 87.0f), hn::Max(hn::Set(d, -87.0f), x));
  const VF magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: the sum's low bits are round(x log2(e))
  const VF log2e = hn::Set(d, 0x1.715476p+0f);
  const VF shifted = hn::MulAdd(x, log2e, magic);
  VF r = hn::MulSub(x, log2e, hn::Sub(shifted, magic));
  r = hn::MulAdd(x, hn::Set(d, 0x1.4ae0cp-26f), r);
  const VF p = Exp2PolynomialV(r);
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(du, p), exponent));
}

// 1 / (1 + exp(-x))
HWY_INLINE VF SigmoidV(VF x) {
  const DF d;
  const VF one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, ExpClampedV(hn::Neg(x))));
}

// x / (1 + exp(-x)); at -87 and below about x 1e-38 instead of less.
HWY_INLINE VF SiluV(VF x) {
  const DF d;
  return hn::Div(x, hn::Add(hn::Set(d, 1.0f), ExpClampedV(hn::Neg(x))));
}

// To nearest bfloat16, ties to even; NaN stays NaN.
HWY_INLINE VF RoundBF16V(VF x) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const auto bits = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::And(hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), odd),
                               hn::Set(du, 0xFFFF0000u));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::BitCast(d, rounded));
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
