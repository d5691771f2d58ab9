// Products of small dense matrices in a thread's scratch, for gradients whose tiles fit the caches.
// Included once per target by the .cc files of this folder.
#if defined(LODE_KERNELS_CPU_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LODE_KERNELS_CPU_PRODUCTS_INL_H_
#undef LODE_KERNELS_CPU_PRODUCTS_INL_H_
#else
#define LODE_KERNELS_CPU_PRODUCTS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

// A matrix whose (i, k) is data[i * row + k * column]: with the strides exchanged its transpose.
struct Left {
  const float* data;
  int64_t row, column;
};

// ROWS x VECTORS of c = (c or 0) + sum over k ascending, fused, of a(i, k) * b[k].
template <int ROWS, int VECTORS>
HWY_INLINE void ProductTile(const Left& a, const float* b, int64_t b_stride, int64_t count,
                            bool add, float* c, int64_t c_stride) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  VF sums[ROWS][VECTORS];
  HWY_UNROLL(8)
  for (int i = 0; i < ROWS; ++i) {
    HWY_UNROLL(8)
    for (int v = 0; v < VECTORS; ++v) {
      sums[i][v] = add ? hn::LoadU(d, c + i * c_stride + v * L) : hn::Zero(d);
    }
  }
  const float* at = a.data;
  for (int64_t k = 0; k < count; ++k, at += a.column, b += b_stride) {
    VF row[VECTORS];
    HWY_UNROLL(8)
    for (int v = 0; v < VECTORS; ++v) row[v] = hn::LoadU(d, b + v * L);
    HWY_UNROLL(8)
    for (int i = 0; i < ROWS; ++i) {
      const VF left = hn::Set(d, at[i * a.row]);
      HWY_UNROLL(8)
      for (int v = 0; v < VECTORS; ++v) sums[i][v] = hn::MulAdd(left, row[v], sums[i][v]);
    }
  }
  HWY_UNROLL(8)
  for (int i = 0; i < ROWS; ++i) {
    HWY_UNROLL(8)
    for (int v = 0; v < VECTORS; ++v) hn::StoreU(sums[i][v], d, c + i * c_stride + v * L);
  }
}

template <int VECTORS>
HWY_INLINE void ProductColumns(int64_t rows, int64_t count, Left a, const float* b,
                               int64_t b_stride, bool add, float* c, int64_t c_stride) {
  constexpr int kRows = 6;  // 12 sums, 2 of b and one of a: 16 registers are enough
  int64_t i = 0;
  const auto next = [&](int step) HWY_ATTR {
    i += step;
    a.data += step * a.row;
    c += step * c_stride;
  };
  while (i + kRows <= rows) {
    ProductTile<kRows, VECTORS>(a, b, b_stride, count, add, c, c_stride);
    next(kRows);
  }
  if (i + 4 <= rows) {
    ProductTile<4, VECTORS>(a, b, b_stride, count, add, c, c_stride);
    next(4);
  }
  if (i + 2 <= rows) {
    ProductTile<2, VECTORS>(a, b, b_stride, count, add, c, c_stride);
    next(2);
  }
  if (i < rows) ProductTile<1, VECTORS>(a, b, b_stride, count, add, c, c_stride);
}

// c [rows, columns] = (c if `add`) + a [rows, count] b [count, columns]; columns a multiple of 16.
HWY_INLINE void Product(int64_t rows, int64_t columns, int64_t count, const Left& a, const float* b,
                        int64_t b_stride, bool add, float* c, int64_t c_stride) {
  const auto L = static_cast<int64_t>(hn::Lanes(DF()));
  int64_t j = 0;
  for (; j + 2 * L <= columns; j += 2 * L) {
    ProductColumns<2>(rows, count, a, b + j, b_stride, add, c + j, c_stride);
  }
  if (j < columns) ProductColumns<1>(rows, count, a, b + j, b_stride, add, c + j, c_stride);
}

// y [columns, rows] = x [rows, columns]^T
HWY_INLINE void TransposeSmall(const float* x, int64_t x_stride, int64_t rows, int64_t columns,
                               float* y, int64_t y_stride) {
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) y[j * y_stride + i] = x[i * x_stride + j];
  }
}

// rows x width numbers into rows of `padded`, zeros behind, times a factor for each row.
HWY_INLINE void CopyScaled(const float* x, int64_t x_stride, int64_t rows, int64_t width,
                           const float* factors, float* y, int64_t padded) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t t = 0; t < rows; ++t) {
    const VF factor = hn::Set(d, factors == nullptr ? 1.0f : factors[t]);
    for (int64_t i = 0; i < padded; i += L) {
      const VF v = LoadPadded(x + t * x_stride, i, width);
      hn::StoreU(hn::Mul(v, factor), d, y + t * padded + i);
    }
  }
}

// sum of x[i] y[i] in 16 lanes; count a multiple of 16.
HWY_INLINE float DotPadded(const float* x, const float* y, int64_t count) {
  const DF d;
  int64_t at = 0;
  return Sum16(
      count,
      [&](int64_t i) HWY_ATTR {
        at = i;
        return hn::LoadU(d, x + i);
      },
      [&](VF v, VF sum) HWY_ATTR { return hn::MulAdd(v, hn::LoadU(d, y + at), sum); });
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
