// The Mamba-2 recurrence. A thread owns heads and walks all tokens of a sequence through one head:
// the state of a head (N x P floats, 32 KiB at N = 128, P = 64) stays in L1. Two tokens share a
// pass over the state, which halves its traffic and changes no bit: each (n, p) sees its tokens in
// order and each y takes n in ascending order. No horizontal sums: n is the loop, p is the vector.
#include <algorithm>

#include "kernels/cpu/targets.h"
#include "kernels/ops.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/mamba2.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/lanes-inl.h"

#ifndef LODE_KERNELS_CPU_MAMBA2_ONCE_
#define LODE_KERNELS_CPU_MAMBA2_ONCE_
namespace lode::kernels {
struct ScanHead {
  int64_t head_dim, padded, state;
  float a, d;
  const float* source;  // [N, padded]
  float* target;        // [N, padded]
};
}  // namespace lode::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

HWY_INLINE float ExpOne(float x) { return hn::GetLane(ExpV(hn::Set(DF(), x))); }

// T tokens of one head: what changes with the token.
template <int T>
struct ScanRows {
  const float* x[T];
  const float* b[T];
  const float* c[T];
  float dt[T];
  float decay[T];  // exp(dt * A)
  float* y[T];
};

// T tokens (1 or 2) over `VECTORS` vectors of p, from `source` to `target`.
template <int T, int VECTORS>
HWY_INLINE void ScanPass(const ScanHead& head, const float* source, const ScanRows<T>& rows,
                         int64_t p) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const int64_t padded = head.padded;
  VF x[T][VECTORS];  // dt * x
  VF sum[T][VECTORS];
  VF decays[T];
  HWY_UNROLL(16)
  for (int t = 0; t < T; ++t) {
    decays[t] = hn::Set(d, rows.decay[t]);
    HWY_UNROLL(16)
    for (int v = 0; v < VECTORS; ++v) {
      x[t][v] = hn::Mul(hn::Set(d, rows.dt[t]), LoadPadded(rows.x[t], p + v * L, head.head_dim));
      sum[t][v] = hn::Zero(d);
    }
  }
  const float* from = source + p;
  float* to = head.target + p;
  for (int64_t n = 0; n < head.state; ++n, from += padded, to += padded) {
    VF h[VECTORS];
    HWY_UNROLL(16)
    for (int v = 0; v < VECTORS; ++v) h[v] = hn::LoadU(d, from + v * L);
    HWY_UNROLL(16)
    for (int t = 0; t < T; ++t) {
      const VF bn = hn::Set(d, rows.b[t][n]);
      const VF cn = hn::Set(d, rows.c[t][n]);
      HWY_UNROLL(16)
      for (int v = 0; v < VECTORS; ++v) {
        h[v] = hn::MulAdd(h[v], decays[t], hn::Mul(x[t][v], bn));
        sum[t][v] = hn::MulAdd(h[v], cn, sum[t][v]);
      }
    }
    HWY_UNROLL(16)
    for (int v = 0; v < VECTORS; ++v) hn::StoreU(h[v], d, to + v * L);
  }
  const VF skip = hn::Set(d, head.d);
  HWY_UNROLL(16)
  for (int t = 0; t < T; ++t) {
    HWY_UNROLL(16)
    for (int v = 0; v < VECTORS; ++v) {
      const VF raw = LoadPadded(rows.x[t], p + v * L, head.head_dim);
      StorePadded(hn::MulAdd(skip, raw, sum[t][v]), rows.y[t], p + v * L, head.head_dim);
    }
  }
}

template <int T>
HWY_INLINE void ScanTokens(const ScanHead& head, const float* source, ScanRows<T>& rows) {
  const auto L = static_cast<int64_t>(hn::Lanes(DF()));
  for (int t = 0; t < T; ++t) rows.decay[t] = ExpOne(rows.dt[t] * head.a);
  int64_t p = 0;
  for (; p + 2 * L <= head.padded; p += 2 * L) ScanPass<T, 2>(head, source, rows, p);
  for (; p < head.padded; p += L) ScanPass<T, 1>(head, source, rows, p);
}

void ScanHeadRows(const ScanHead& head, int64_t rows, const float* x, const float* b,
                  const float* c, int64_t xbc_stride, const float* dt, int64_t dt_stride, float* y,
                  int64_t y_stride) {
  const float* source = head.source;
  int64_t t = 0;
  for (; t + 2 <= rows; t += 2) {
    ScanRows<2> two;
    for (int i = 0; i < 2; ++i) {
      two.x[i] = x + (t + i) * xbc_stride;
      two.b[i] = b + (t + i) * xbc_stride;
      two.c[i] = c + (t + i) * xbc_stride;
      two.dt[i] = dt[(t + i) * dt_stride];
      two.y[i] = y + (t + i) * y_stride;
    }
    ScanTokens<2>(head, source, two);
    source = head.target;
  }
  if (t < rows) {
    ScanRows<1> one = {{x + t * xbc_stride}, {b + t * xbc_stride}, {c + t * xbc_stride},
                       {dt[t * dt_stride]},  {},                   {y + t * y_stride}};
    ScanTokens<1>(head, source, one);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(ScanHeadRows);

void SelectiveScan(Context& context, const ScanShape& shape,
                   std::span<const ScanSequence> sequences, const float* x, const float* b,
                   const float* c, int64_t xbc_stride, const float* dt, int64_t dt_stride,
                   const float* a, const float* d, float* y, int64_t y_stride) {
  const auto scan = HWY_DYNAMIC_DISPATCH(ScanHeadRows);
  const int64_t padded = PaddedHeadDim(shape.head_dim);
  const auto count = static_cast<int64_t>(sequences.size());
  context.pool().ParallelFor(count * shape.heads, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const ScanSequence& sequence = sequences[static_cast<size_t>(i / shape.heads)];
      if (sequence.rows.count == 0) continue;
      const int64_t h = i % shape.heads;
      const int64_t g = h / (shape.heads / shape.groups);
      const int64_t row = sequence.rows.begin;
      const ScanHead head = {shape.head_dim,
                             padded,
                             shape.state,
                             a[h],
                             d[h],
                             sequence.source + h * shape.state * padded,
                             sequence.target + h * shape.state * padded};
      scan(head, sequence.rows.count, x + row * xbc_stride + h * shape.head_dim,
           b + row * xbc_stride + g * shape.state, c + row * xbc_stride + g * shape.state,
           xbc_stride, dt + row * dt_stride + h, dt_stride, y + row * y_stride + h * shape.head_dim,
           y_stride);
    }
  });
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
