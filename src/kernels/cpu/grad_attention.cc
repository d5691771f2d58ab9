// Attention differentiated without ever holding its probabilities: they are computed again, tile by
// tile, from each row's maximum and sum. A thread owns a head of keys in one sequence and takes the
// query heads that read it one after the other, so nobody else adds to its dk and dv.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/grad_scratch.h"
#include "kernels/cpu/targets.h"
#include "kernels/grad.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/grad_attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/products-inl.h"

#ifndef LODE_KERNELS_CPU_GRAD_ATTENTION_ONCE_
#define LODE_KERNELS_CPU_GRAD_ATTENTION_ONCE_
namespace lode::kernels {

constexpr int64_t kGradQueries = 32;  // rows of a tile: its scores, 8 KiB each, stay in L1
constexpr int64_t kGradKeys = 64;

// One head of keys in one sequence, and the query heads that read it.
struct AttentionGradHead {
  int64_t rows, head_dim, queries;  // query heads
  const float* q;
  int64_t q_stride;
  const float *k, *v;
  int64_t kv_stride;
  const float* out;
  int64_t out_stride;
  const float* dout;
  int64_t dout_stride;
  float* dq;
  int64_t dq_stride;
  float *dk, *dv;
  int64_t dkv_stride;
};

struct AttentionGradScratch {
  AttentionGradScratch(int64_t head_dim, int64_t rows, float* memory)
      : p(RoundUp(head_dim, 16)), keys(RoundUp(rows, kGradKeys)), pieces(memory) {
    for (float** tile : {&q, &dout, &dq}) *tile = pieces.Take(kGradQueries * p);
    for (float** tile : {&scores, &slopes}) *tile = pieces.Take(kGradQueries * kGradKeys);
    for (float** row : {&delta, &largest, &sum}) *row = pieces.Take(kGradQueries);
    for (float** all : {&k, &k_t, &v_t, &dk, &dv}) *all = pieces.Take(keys * p);
  }
  int64_t p, keys;
  ScratchPieces pieces;
  float *q, *dout, *dq, *scores, *slopes, *delta, *largest, *sum;  // of a tile of queries
  float *k, *k_t, *v_t, *dk, *dv;                                  // of all keys
};

}  // namespace lode::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

// Scores of queries [i0, i0 + count) and keys [j0, j0 + kGradKeys); minus infinity behind a query.
HWY_INLINE void TileScores(int64_t i0, int64_t count, int64_t j0, AttentionGradScratch* s) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  Product(count, kGradKeys, s->p, {s->q, s->p, 1}, s->k_t + j0, s->keys, false, s->scores,
          kGradKeys);
  if (j0 + kGradKeys <= i0 + 1) return;
  const VF none = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < count; ++i) {
    const VF last = hn::Set(d, static_cast<float>(i0 + i - j0));
    for (int64_t j = 0; j < kGradKeys; j += L) {
      float* at = s->scores + i * kGradKeys + j;
      const auto seen = hn::Le(hn::Iota(d, static_cast<float>(j)), last);
      hn::StoreU(hn::IfThenElse(seen, hn::LoadU(d, at), none), d, at);
    }
  }
}

// Each row's largest score and the sum of exp(score - largest).
HWY_INLINE void RowSums(int64_t i0, int64_t count, AttentionGradScratch* s) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  std::fill_n(s->largest, count, -std::numeric_limits<float>::infinity());
  std::fill_n(s->sum, count, 0.0f);
  for (int64_t j0 = 0; j0 < i0 + count; j0 += kGradKeys) {
    TileScores(i0, count, j0, s);
    for (int64_t i = 0; i < count; ++i) {
      const float* row = s->scores + i * kGradKeys;
      VF top = hn::LoadU(d, row);
      for (int64_t j = L; j < kGradKeys; j += L) top = hn::Max(top, hn::LoadU(d, row + j));
      const float largest = std::max(s->largest[i], hn::GetLane(hn::MaxOfLanes(d, top)));
      if (largest == -std::numeric_limits<float>::infinity()) continue;  // the tile is all behind
      const VF shift = hn::Set(d, largest);
      const float sum = Sum16(
          kGradKeys,
          [&](int64_t j) HWY_ATTR { return ExpV(hn::Sub(hn::LoadU(d, row + j), shift)); },
          [](VF v, VF all) HWY_ATTR { return hn::Add(v, all); });
      s->sum[i] = s->sum[i] * std::exp(s->largest[i] - largest) + sum;
      s->largest[i] = largest;
    }
  }
}

// One tile: probabilities and their gradients, then what keys, values and queries feel.
HWY_INLINE void TileGradients(int64_t i0, int64_t count, int64_t j0, AttentionGradScratch* s) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  TileScores(i0, count, j0, s);
  Product(count, kGradKeys, s->p, {s->dout, s->p, 1}, s->v_t + j0, s->keys, false, s->slopes,
          kGradKeys);
  for (int64_t i = 0; i < count; ++i) {
    const VF shift = hn::Set(d, s->largest[i]), scale = hn::Set(d, 1.0f / s->sum[i]);
    const VF delta = hn::Set(d, s->delta[i]);
    for (int64_t j = 0; j < kGradKeys; j += L) {
      float* score = s->scores + i * kGradKeys + j;
      float* slope = s->slopes + i * kGradKeys + j;
      const VF p = hn::Mul(ExpV(hn::Sub(hn::LoadU(d, score), shift)), scale);
      hn::StoreU(p, d, score);
      hn::StoreU(hn::Mul(p, hn::Sub(hn::LoadU(d, slope), delta)), d, slope);
    }
  }
  Product(kGradKeys, s->p, count, {s->scores, 1, kGradKeys}, s->dout, s->p, true,
          s->dv + j0 * s->p, s->p);
  Product(kGradKeys, s->p, count, {s->slopes, 1, kGradKeys}, s->q, s->p, true, s->dk + j0 * s->p,
          s->p);
  Product(count, s->p, kGradKeys, {s->slopes, kGradKeys, 1}, s->k + j0 * s->p, s->p, true, s->dq,
          s->p);
}

HWY_INLINE void QueryTile(const AttentionGradHead& head, int64_t h, int64_t i0, int64_t count,
                          float scale, AttentionGradScratch* s) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const int64_t at = h * head.head_dim;
  HWY_ALIGN float scales[kGradQueries];
  std::fill_n(scales, kGradQueries, scale);
  CopyScaled(head.q + i0 * head.q_stride + at, head.q_stride, count, head.head_dim, scales, s->q,
             s->p);
  const float* dout = head.dout + i0 * head.dout_stride + at;
  CopyScaled(dout, head.dout_stride, count, head.head_dim, nullptr, s->dout, s->p);
  // dq is free until the tiles are walked: it holds the outputs for a moment.
  CopyScaled(head.out + i0 * head.out_stride + at, head.out_stride, count, head.head_dim, nullptr,
             s->dq, s->p);
  for (int64_t i = 0; i < count; ++i) {
    s->delta[i] = DotPadded(s->dout + i * s->p, s->dq + i * s->p, s->p);
  }
  std::fill_n(s->dq, count * s->p, 0.0f);
  RowSums(i0, count, s);
  for (int64_t j0 = 0; j0 < i0 + count; j0 += kGradKeys) TileGradients(i0, count, j0, s);
  const VF factor = hn::Set(d, scale);
  for (int64_t i = 0; i < count; ++i) {
    float* dq = head.dq + (i0 + i) * head.dq_stride + at;
    for (int64_t j = 0; j < head.head_dim; j += L) {
      StorePadded(hn::Mul(factor, hn::LoadU(d, s->dq + i * s->p + j)), dq, j, head.head_dim);
    }
  }
}

void AttentionGradRows(const AttentionGradHead& head, float* memory) {
  AttentionGradScratch s(head.head_dim, head.rows, memory);
  const auto copy = [&](const float* from, float* rows) HWY_ATTR {
    CopyScaled(from, head.kv_stride, head.rows, head.head_dim, nullptr, rows, s.p);
    std::fill_n(rows + head.rows * s.p, (s.keys - head.rows) * s.p, 0.0f);
  };
  copy(head.v, s.k);
  TransposeSmall(s.k, s.p, s.keys, s.p, s.v_t, s.keys);
  copy(head.k, s.k);
  TransposeSmall(s.k, s.p, s.keys, s.p, s.k_t, s.keys);
  std::fill_n(s.dk, s.keys * s.p, 0.0f);
  std::fill_n(s.dv, s.keys * s.p, 0.0f);
  const float scale = 1.0f / std::sqrt(static_cast<float>(head.head_dim));
  for (int64_t h = 0; h < head.queries; ++h) {
    for (int64_t i0 = 0; i0 < head.rows; i0 += kGradQueries) {
      QueryTile(head, h, i0, std::min(kGradQueries, head.rows - i0), scale, &s);
    }
  }
  const auto L = static_cast<int64_t>(hn::Lanes(DF()));
  for (int64_t t = 0; t < head.rows; ++t) {
    for (int64_t i = 0; i < head.head_dim; i += L) {
      StorePadded(hn::LoadU(DF(), s.dk + t * s.p + i), head.dk + t * head.dkv_stride, i,
                  head.head_dim);
      StorePadded(hn::LoadU(DF(), s.dv + t * s.p + i), head.dv + t * head.dkv_stride, i,
                  head.head_dim);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(AttentionGradRows);

int64_t AttentionBackwardScratchFloats(const AttentionShape& shape, int64_t rows_max) {
  return AttentionGradScratch(shape.head_dim, rows_max, nullptr).pieces.taken();
}

void AttentionBackward(Context& context, const AttentionShape& shape,
                       std::span<const RowRange> sequences, const float* q, int64_t q_stride,
                       const float* k, const float* v, int64_t kv_stride, const float* out,
                       int64_t out_stride, const float* dout, int64_t dout_stride,
                       const AttentionGradients& gradients) {
  const auto run = HWY_DYNAMIC_DISPATCH(AttentionGradRows);
  const auto count = static_cast<int64_t>(sequences.size());
  const int64_t queries = shape.heads / shape.kv_heads;
  context.pool().ParallelFor(count * shape.kv_heads, 1, [&](int64_t begin, int64_t end,
                                                            int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const RowRange rows = sequences[static_cast<size_t>(i / shape.kv_heads)];
      if (rows.count == 0) continue;
      const int64_t kv = i % shape.kv_heads * shape.head_dim, first = rows.begin;
      const int64_t head = kv * queries;
      run({rows.count, shape.head_dim, queries, q + first * q_stride + head, q_stride,
           k + first * kv_stride + kv, v + first * kv_stride + kv, kv_stride,
           out + first * out_stride + head, out_stride, dout + first * dout_stride + head,
           dout_stride, gradients.dq + first * gradients.dq_stride + head, gradients.dq_stride,
           gradients.dk + first * gradients.dkv_stride + kv,
           gradients.dv + first * gradients.dkv_stride + kv, gradients.dkv_stride},
          context.scratch(thread));
    }
  });
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
