// Norms, convolution, softplus, routing: everything that is one pass over rows.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/targets.h"
#include "kernels/ops.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/pointwise.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

HWY_INLINE float InverseRms(const float* x, int64_t width, float eps) {
  const float squares = Sum16(
      width, [&](int64_t i) { return LoadPadded(x, i, width); },
      [](VF v, VF sum) { return hn::MulAdd(v, v, sum); });
  return 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
}

HWY_INLINE void Normalize(const float* x, const float* w, float eps, int64_t width, float* y) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const VF r = hn::Set(d, InverseRms(x, width, eps));
  for (int64_t i = 0; i < width; i += L) {
    const VF v = hn::Mul(LoadPadded(x, i, width), r);
    StorePadded(hn::Mul(v, LoadPadded(w, i, width)), y, i, width);
  }
}

void NormRow(const float* x, const float* w, float eps, int64_t width, float* y) {
  Normalize(x, w, eps, width, y);
}

void GatedNormRow(float* y, const float* z, const float* w, float eps, int64_t width,
                  int64_t groups) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < width; i += L) {
    const VF v = hn::Mul(LoadPadded(y, i, width), SiluV(LoadPadded(z, i, width)));
    StorePadded(v, y, i, width);
  }
  const int64_t group = width / groups;
  for (int64_t g = 0; g < groups; ++g) {
    Normalize(y + g * group, w + g * group, eps, group, y + g * group);
  }
}

void AddRow(const float* x, float* y, int64_t width) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < width; i += L) {
    StorePadded(hn::Add(LoadPadded(y, i, width), LoadPadded(x, i, width)), y, i, width);
  }
}

void SoftplusRow(const float* x, const float* bias, int64_t width, float* y) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < width; i += L) {
    const VF v = hn::Add(LoadPadded(x, i, width), LoadPadded(bias, i, width));
    const VF tail = hn::Log1p(d, ExpV(hn::Neg(hn::Abs(v))));
    StorePadded(hn::Add(hn::Max(v, hn::Zero(d)), tail), y, i, width);
  }
}

void SigmoidRow(const float* x, int64_t width, float* y) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < width; i += L) {
    StorePadded(SigmoidV(LoadPadded(x, i, width)), y, i, width);
  }
}

// Channels [begin, end) of one sequence. Rows before the first are in `source`.
void ConvRange(const ConvSequence& sequence, const float* x, int64_t x_stride, const float* w,
               const float* bias, int64_t taps, int64_t channels, float* out, int64_t out_stride,
               int64_t begin, int64_t end) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const int64_t history = taps - 1;
  const auto row = [&](int64_t t) {  // raw row t of the sequence's rows, t >= -history
    return t >= 0 ? x + (sequence.rows.begin + t) * x_stride
                  : sequence.source + (history + t) * channels;
  };
  for (int64_t t = 0; t < sequence.rows.count; ++t) {
    float* target = out + (sequence.rows.begin + t) * out_stride;
    for (int64_t c = begin; c < end; c += L) {
      VF sum = LoadPadded(bias, c, end);
      for (int64_t j = 0; j < taps; ++j) {
        sum = hn::MulAdd(LoadPadded(w + j * channels, c, end),
                         LoadPadded(row(t - history + j), c, end), sum);
      }
      StorePadded(SiluV(sum), target, c, end);
    }
  }
  // The last raw rows, oldest first: ascending order also holds when source and target are one.
  for (int64_t j = 0; j < history; ++j) {
    const float* from = row(sequence.rows.count - history + j);
    float* to = sequence.target + j * channels;
    if (from != to) std::copy(from + begin, from + end, to + begin);
  }
}

void CombineRow(const float* x, int64_t x_stride, const int32_t* row_of, const float* weights,
                int64_t top_k, int64_t width, float* y) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < width; i += L) {
    VF sum = hn::Zero(d);
    for (int64_t s = 0; s < top_k; ++s) {
      sum = hn::MulAdd(hn::Set(d, weights[s]), LoadPadded(x + row_of[s] * x_stride, i, width), sum);
    }
    StorePadded(sum, y, i, width);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(NormRow);
HWY_EXPORT(GatedNormRow);
HWY_EXPORT(AddRow);
HWY_EXPORT(SoftplusRow);
HWY_EXPORT(SigmoidRow);
HWY_EXPORT(ConvRange);
HWY_EXPORT(CombineRow);

namespace {

// Rows per chunk so that a chunk is worth handing to another thread (a few microseconds).
int64_t RowGrain(int64_t width) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
}

}  // namespace

void RmsNorm(Context& context, const float* x, int64_t x_stride, const float* w, float eps,
             int64_t rows, int64_t width, float* y, int64_t y_stride) {
  const auto norm = HWY_DYNAMIC_DISPATCH(NormRow);
  context.pool().ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) norm(x + t * x_stride, w, eps, width, y + t * y_stride);
  });
}

void GatedRmsNorm(Context& context, float* y, int64_t y_stride, const float* z, int64_t z_stride,
                  const float* w, float eps, int64_t rows, int64_t width, int64_t groups) {
  const auto norm = HWY_DYNAMIC_DISPATCH(GatedNormRow);
  context.pool().ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      norm(y + t * y_stride, z + t * z_stride, w, eps, width, groups);
    }
  });
}

void AddRows(Context& context, const float* x, int64_t x_stride, float* y, int64_t y_stride,
             int64_t rows, int64_t width) {
  const auto add = HWY_DYNAMIC_DISPATCH(AddRow);
  context.pool().ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) add(x + t * x_stride, y + t * y_stride, width);
  });
}

void CausalConvSilu(Context& context, std::span<const ConvSequence> sequences, const float* x,
                    int64_t x_stride, const float* w, const float* bias, int64_t taps,
                    int64_t channels, float* out, int64_t out_stride) {
  const auto conv = HWY_DYNAMIC_DISPATCH(ConvRange);
  // Blocks of 256 channels; every sequence in each block.
  constexpr int64_t kBlock = 256;
  const int64_t blocks = (channels + kBlock - 1) / kBlock;
  const auto count = static_cast<int64_t>(sequences.size());
  context.pool().ParallelFor(blocks * count, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t block = i % blocks;
      conv(sequences[static_cast<size_t>(i / blocks)], x, x_stride, w, bias, taps, channels, out,
           out_stride, block * kBlock, std::min(channels, (block + 1) * kBlock));
    }
  });
}

void Softplus(Context& context, const float* x, int64_t x_stride, const float* bias, int64_t rows,
              int64_t width, float* y, int64_t y_stride) {
  const auto softplus = HWY_DYNAMIC_DISPATCH(SoftplusRow);
  context.pool().ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) softplus(x + t * x_stride, bias, width, y + t * y_stride);
  });
}

void RouteTopK(Context& context, const float* logits, const float* bias, int64_t rows,
               int64_t experts, int64_t top_k, bool normalize, float scale, int32_t* expert_ids,
               float* weights) {
  const auto sigmoid = HWY_DYNAMIC_DISPATCH(SigmoidRow);
  context.pool().ParallelFor(rows, RowGrain(experts * 4), [&](int64_t begin, int64_t end, int) {
    std::vector<float> scores(static_cast<size_t>(experts));
    std::vector<int32_t> order(static_cast<size_t>(experts));
    for (int64_t t = begin; t < end; ++t) {
      sigmoid(logits + t * experts, experts, scores.data());
      for (int64_t e = 0; e < experts; ++e) order[static_cast<size_t>(e)] = static_cast<int32_t>(e);
      const auto key = [&](int32_t e) { return scores[e] + (bias != nullptr ? bias[e] : 0.0f); };
      std::partial_sort(order.begin(), order.begin() + top_k, order.end(),
                        [&](int32_t a, int32_t b) {
                          const float ka = key(a);
                          const float kb = key(b);
                          return ka != kb ? ka > kb : a < b;
                        });
      float sum = 0.0f;
      for (int64_t s = 0; s < top_k; ++s) sum += scores[order[static_cast<size_t>(s)]];
      std::sort(order.begin(), order.begin() + top_k);
      for (int64_t s = 0; s < top_k; ++s) {
        const int32_t e = order[static_cast<size_t>(s)];
        expert_ids[t * top_k + s] = e;
        weights[t * top_k + s] = (normalize ? scores[e] / (sum + 1e-20f) : scores[e]) * scale;
      }
    }
  });
}

void CombineExperts(Context& context, const float* x, int64_t x_stride, const int32_t* row_of,
                    const float* weights, int64_t rows, int64_t top_k, int64_t width, float* y,
                    int64_t y_stride) {
  const auto combine = HWY_DYNAMIC_DISPATCH(CombineRow);
  context.pool().ParallelFor(rows, RowGrain(width * top_k), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      combine(x, x_stride, row_of + t * top_k, weights + t * top_k, top_k, width, y + t * y_stride);
    }
  });
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
