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
};

// Rows of one head: x, b and c share a stride. Without y only the state changes.
struct HeadRows {
  int64_t count;
  const float *x, *b, *c;
  int64_t stride;
  const float* dt;
  int64_t dt_stride;
  float* y = nullptr;
  int64_t y_stride = 0;
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

// T tokens (1 or 2) over `VECTORS` vectors of p, from `source` to `target` [N, padded].
template <int T, int VECTORS, bool OUTPUT>
HWY_INLINE void ScanPass(const ScanHead& head, const float* source, float* target,
                         const ScanRows<T>& rows, int64_t p) {
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
  float* to = target + p;
  for (int64_t n = 0; n < head.state; ++n, from += padded, to += padded) {
    VF h[VECTORS];
    HWY_UNROLL(16)
    for (int v = 0; v < VECTORS; ++v) h[v] = hn::LoadU(d, from + v * L);
    HWY_UNROLL(16)
    for (int t = 0; t < T; ++t) {
      const VF bn = hn::Set(d, rows.b[t][n]);
      HWY_UNROLL(16)
      for (int v = 0; v < VECTORS; ++v) h[v] = hn::MulAdd(h[v], decays[t], hn::Mul(x[t][v], bn));
      if constexpr (OUTPUT) {
        const VF cn = hn::Set(d, rows.c[t][n]);
        HWY_UNROLL(16)
        for (int v = 0; v < VECTORS; ++v) sum[t][v] = hn::MulAdd(h[v], cn, sum[t][v]);
      }
    }
    HWY_UNROLL(16)
    for (int v = 0; v < VECTORS; ++v) hn::StoreU(h[v], d, to + v * L);
  }
  if constexpr (OUTPUT) {
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
}

template <int T, bool OUTPUT>
HWY_INLINE void ScanTokens(const ScanHead& head, const float* source, float* target,
                           const HeadRows& rows, int64_t first) {
  const auto L = static_cast<int64_t>(hn::Lanes(DF()));
  ScanRows<T> tokens;
  for (int i = 0; i < T; ++i) {
    const int64_t t = first + i;
    tokens.x[i] = rows.x + t * rows.stride;
    tokens.b[i] = rows.b + t * rows.stride;
    tokens.c[i] = rows.c + t * rows.stride;
    tokens.dt[i] = rows.dt[t * rows.dt_stride];
    tokens.decay[i] = ExpOne(tokens.dt[i] * head.a);
    tokens.y[i] = OUTPUT ? rows.y + t * rows.y_stride : nullptr;
  }
  int64_t p = 0;
  for (; p + 2 * L <= head.padded; p += 2 * L) {
    ScanPass<T, 2, OUTPUT>(head, source, target, tokens, p);
  }
  for (; p < head.padded; p += L) ScanPass<T, 1, OUTPUT>(head, source, target, tokens, p);
}

template <bool OUTPUT>
HWY_INLINE void ScanRowsOf(const ScanHead& head, const float* source, float* target,
                           const HeadRows& rows) {
  int64_t t = 0;
  for (; t + 2 <= rows.count; t += 2) {
    ScanTokens<2, OUTPUT>(head, source, target, rows, t);
    source = target;
  }
  if (t < rows.count) ScanTokens<1, OUTPUT>(head, source, target, rows, t);
}

void ScanHeadRows(const ScanHead& head, const float* source, float* target, const HeadRows& rows) {
  if (rows.y != nullptr) {
    ScanRowsOf<true>(head, source, target, rows);
  } else {
    ScanRowsOf<false>(head, source, target, rows);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(ScanHeadRows);

int64_t ScanScratchFloats(const ScanShape& shape) {
  return shape.state * PaddedHeadDim(shape.head_dim);
}

void SelectiveScan(Context& context, const ScanShape& shape,
                   std::span<const ScanSequence> sequences, const float* x, const float* b,
                   const float* c, int64_t xbc_stride, const float* dt, int64_t dt_stride,
                   const float* a, const float* d, float* y, int64_t y_stride) {
  const auto scan = HWY_DYNAMIC_DISPATCH(ScanHeadRows);
  const int64_t padded = PaddedHeadDim(shape.head_dim);
  const auto count = static_cast<int64_t>(sequences.size());
  const auto run = [&](const ScanSequence& s, int64_t h, float* scratch) {
    const int64_t g = h / (shape.heads / shape.groups);
    const int64_t row = s.rows.begin;
    const ScanHead head = {shape.head_dim, padded, shape.state, a[h], d[h]};
    const float* source = s.source + h * shape.state * padded;
    float* target = s.target + h * shape.state * padded;
    if (s.replay_rows > 0) {
      // B and C lie behind x as they do in the rows at hand.
      const float* replay_b = s.replay + (b - x) + g * shape.state;
      scan(head, source, target,
           {s.replay_rows, s.replay + h * shape.head_dim, replay_b, replay_b, xbc_stride,
            s.replay_dt + h, dt_stride});
      source = target;
    }
    if (s.rows.count == 0) return;
    const int64_t group = row * xbc_stride + g * shape.state;
    scan(head, source, s.keep ? target : scratch,
         {s.rows.count, x + row * xbc_stride + h * shape.head_dim, b + group, c + group, xbc_stride,
          dt + row * dt_stride + h, dt_stride, y + row * y_stride + h * shape.head_dim, y_stride});
  };
  context.pool().ParallelFor(count * shape.heads, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      run(sequences[static_cast<size_t>(i / shape.heads)], i % shape.heads,
          context.scratch(thread));
    }
  });
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
