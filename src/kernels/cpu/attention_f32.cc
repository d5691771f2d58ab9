// Attention with keys and values in f32: the reference mode. Scores of 32 keys are two vectors and
// d is the loop (no horizontal sums); V lies row by row, so a value's dimensions are the vector and
// the key is the loop.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_f32.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

// Running softmax of one lane, followed by (m, l, o).
HWY_INLINE void MergeOne(float* into_m, float* into_l, float* into_o, float m, float l,
                         const float* o, int64_t width) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const float top = std::max(*into_m, m);
  const VF a = ExpV(hn::Set(d, *into_m - top));
  const VF b = ExpV(hn::Set(d, m - top));
  for (int64_t i = 0; i < width; i += L) {
    const VF scaled = hn::Mul(hn::Load(d, o + i), b);
    hn::Store(hn::MulAdd(hn::Load(d, into_o + i), a, scaled), d, into_o + i);
  }
  *into_l = hn::GetLane(hn::MulAdd(hn::Set(d, *into_l), a, hn::Mul(hn::Set(d, l), b)));
  *into_m = top;
}

// scores[0..127] of one query over one tile: 4 panels of 32 keys.
HWY_INLINE void Scores(const float* q, const float* k, int64_t width, int64_t head_dim, float scale,
                       float* scores) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t panel = 0; panel < kPageTokens / kKeyPanel; ++panel) {
    for (int64_t key = 0; key < kKeyPanel; key += L) {
      VF sum = hn::Zero(d);
      const float* at = k + panel * width * kKeyPanel + key;
      for (int64_t i = 0; i < head_dim; ++i) {
        sum = hn::MulAdd(hn::LoadU(d, at + i * kKeyPanel), hn::Set(d, q[i]), sum);
      }
      hn::Store(hn::Mul(sum, hn::Set(d, scale)), d, scores + panel * kKeyPanel + key);
    }
  }
}

// Masks, m = max, p = exp(s - m), l = sum in 16 lanes. Returns m; scores become p.
HWY_INLINE float Softmax(float* scores, int64_t keys, float* l) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  float m = scores[0];
  for (int64_t i = 1; i < keys; ++i) m = std::max(m, scores[i]);
  for (int64_t i = 0; i < kPageTokens; i += L) {
    VF p = ExpV(hn::Sub(hn::Load(d, scores + i), hn::Set(d, m)));
    if (i + L > keys) {
      const VF index = hn::Add(hn::Iota(d, 0.0f), hn::Set(d, static_cast<float>(i)));
      p = hn::IfThenElseZero(hn::Lt(index, hn::Set(d, static_cast<float>(keys))), p);
    }
    hn::Store(p, d, scores + i);
  }
  *l = Sum16(
      kPageTokens, [&](int64_t i) { return hn::Load(d, scores + i); },
      [](VF v, VF sum) { return hn::Add(sum, v); });
  return m;
}

HWY_INLINE void WeightedValues(const float* p, int64_t keys, const float* v, int64_t width,
                               float* o) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  // Four vectors of dimensions at a time hide the latency of the chain over keys.
  int64_t i = 0;
  for (; i + 4 * L <= width; i += 4 * L) {
    VF s0 = hn::Zero(d);
    VF s1 = hn::Zero(d);
    VF s2 = hn::Zero(d);
    VF s3 = hn::Zero(d);
    for (int64_t key = 0; key < keys; ++key) {
      const VF w = hn::Set(d, p[key]);
      const float* at = v + key * width + i;
      s0 = hn::MulAdd(w, hn::LoadU(d, at), s0);
      s1 = hn::MulAdd(w, hn::LoadU(d, at + L), s1);
      s2 = hn::MulAdd(w, hn::LoadU(d, at + 2 * L), s2);
      s3 = hn::MulAdd(w, hn::LoadU(d, at + 3 * L), s3);
    }
    hn::Store(s0, d, o + i);
    hn::Store(s1, d, o + i + L);
    hn::Store(s2, d, o + i + 2 * L);
    hn::Store(s3, d, o + i + 3 * L);
  }
  for (; i < width; i += L) {
    VF sum = hn::Zero(d);
    for (int64_t key = 0; key < keys; ++key) {
      sum = hn::MulAdd(hn::Set(d, p[key]), hn::LoadU(d, v + key * width + i), sum);
    }
    hn::Store(sum, d, o + i);
  }
}

void AttendF32(const AttentionShape& shape, const AttentionLanes& lanes, const float* q,
               int64_t q_stride, int64_t tile, int64_t tile_end, const AttentionScratch& scratch,
               SoftmaxState state) {
  const int64_t width = ValueWidth(shape);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  std::fill(state.m, state.m + lanes.count(), -std::numeric_limits<float>::infinity());
  std::fill(state.l, state.l + lanes.count(), 0.0f);
  std::fill(state.o, state.o + lanes.count() * width, 0.0f);
  for (; tile < tile_end; ++tile) {
    const auto* page = reinterpret_cast<const float*>(lanes.sequence->pages[tile] +
                                                      lanes.sequence->page_offset);
    const float* k = page + lanes.kv_head * kPageTokens * width;
    const float* v = k + shape.kv_heads * kPageTokens * width;
    for (int64_t i = 0; i < lanes.count(); ++i) {
      const int64_t keys = std::min(kPageTokens, lanes.position(i) + 1 - tile * kPageTokens);
      if (keys <= 0) continue;
      Scores(q + lanes.Offset(shape, i, q_stride), k, width, shape.head_dim, scale, scratch.scores);
      float l = 0.0f;
      const float m = Softmax(scratch.scores, keys, &l);
      WeightedValues(scratch.scores, keys, v, width, scratch.weights);
      MergeOne(state.m + i, state.l + i, state.o + i * width, m, l, scratch.weights, width);
    }
  }
}

void MergeF32(int64_t lanes, int64_t width, SoftmaxState part, SoftmaxState total) {
  for (int64_t i = 0; i < lanes; ++i) {
    if (part.l[i] == 0.0f) continue;  // no keys
    MergeOne(total.m + i, total.l + i, total.o + i * width, part.m[i], part.l[i],
             part.o + i * width, width);
  }
}

void FinishF32(const AttentionShape& shape, const AttentionLanes& lanes, SoftmaxState total,
               float* out, int64_t out_stride) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = ValueWidth(shape);
  for (int64_t i = 0; i < lanes.count(); ++i) {
    float* target = out + lanes.Offset(shape, i, out_stride);
    const VF l = hn::Set(d, total.l[i]);
    for (int64_t p = 0; p < shape.head_dim; p += L) {
      StorePadded(hn::Div(hn::Load(d, total.o + i * width + p), l), target, p, shape.head_dim);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(AttendF32);
HWY_EXPORT(MergeF32);
HWY_EXPORT(FinishF32);

namespace {

void AppendF32(const AttentionShape& shape, const AttentionSequence& sequence, int64_t kv_head,
               int64_t begin, int64_t end, const float* k, const float* v, int64_t kv_stride) {
  const int64_t width = ValueWidth(shape);
  for (int64_t row = begin; row < end; ++row) {
    const int64_t position = sequence.position + row;
    const int64_t slot = position % kPageTokens;
    auto* page = reinterpret_cast<float*>(sequence.pages[position / kPageTokens] +
                                          sequence.page_offset);
    float* keys = page + kv_head * kPageTokens * width + slot / kKeyPanel * width * kKeyPanel +
                  slot % kKeyPanel;
    float* values = page + (shape.kv_heads + kv_head) * kPageTokens * width + slot * width;
    const int64_t at = (sequence.rows.begin + row) * kv_stride + kv_head * shape.head_dim;
    for (int64_t i = 0; i < shape.head_dim; ++i) keys[i * kKeyPanel] = k[at + i];
    std::copy(v + at, v + at + shape.head_dim, values);
    std::fill(values + shape.head_dim, values + width, 0.0f);
  }
}

}  // namespace

AttentionKernels AttentionF32() {
  return {AppendF32, HWY_DYNAMIC_DISPATCH(AttendF32), HWY_DYNAMIC_DISPATCH(MergeF32),
          HWY_DYNAMIC_DISPATCH(FinishF32)};
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
