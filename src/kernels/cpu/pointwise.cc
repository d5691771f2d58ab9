// Norms, convolution, softplus, routing: everything that is one pass over rows.
#include <algorithm>
#include <cmath>
#include <memory_resource>
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

HWY_INLINE float InverseRms(float squares, int64_t width, float eps) {
  return 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
}

// y = (x * r) * w
HWY_INLINE void Scale(const float* x, const float* w, float inverse_rms, int64_t width, float* y) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const VF r = hn::Set(d, inverse_rms);
  for (int64_t i = 0; i < width; i += L) {
    const VF v = hn::Mul(LoadPadded(x, i, width), r);
    StorePadded(hn::Mul(v, LoadPadded(w, i, width)), y, i, width);
  }
}

void NormRow(const float* x, const float* w, float eps, int64_t width, float* y) {
  const float squares = Sum16(
      width, [&](int64_t i) HWY_ATTR { return LoadPadded(x, i, width); },
      [](VF v, VF sum) HWY_ATTR { return hn::MulAdd(v, v, sum); });
  Scale(x, w, InverseRms(squares, width, eps), width, y);
}

void GatedNormRow(float* y, const float* z, const float* w, float eps, int64_t width,
                  int64_t groups) {
  const int64_t group = width / groups;
  for (int64_t g = 0; g < groups; ++g, y += group, z += group, w += group) {
    const float squares = Sum16(
        group,
        [&](int64_t i) HWY_ATTR {
          const VF v = hn::Mul(LoadPadded(y, i, group), SiluV(LoadPadded(z, i, group)));
          StorePadded(v, y, i, group);
          return v;
        },
        [](VF v, VF sum) HWY_ATTR { return hn::MulAdd(v, v, sum); });
    Scale(y, w, InverseRms(squares, group, eps), group, y);
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

// silu(bias + sum over taps of w * the tap's row) for channels [begin, end); kTaps = 0: any number.
template <int kTaps, class Row>
HWY_INLINE void ConvRow(const Row& row, const float* w, const float* bias, int64_t taps,
                        int64_t channels, int64_t begin, int64_t end, float* out) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const int64_t count = kTaps > 0 ? kTaps : taps;
  const float* rows[kTaps > 0 ? kTaps : 1];
  for (int j = 0; j < kTaps; ++j) rows[j] = row(j);
  const auto at = [&](int64_t j) HWY_ATTR { return kTaps > 0 ? rows[j] : row(j); };
  int64_t c = begin;
  for (; c + L <= end; c += L) {
    VF sum = hn::LoadU(d, bias + c);
    HWY_UNROLL(4)
    for (int64_t j = 0; j < count; ++j) {
      sum = hn::MulAdd(hn::LoadU(d, w + j * channels + c), hn::LoadU(d, at(j) + c), sum);
    }
    hn::StoreU(SiluV(sum), d, out + c);
  }
  if (c == end) return;
  VF sum = LoadPadded(bias, c, end);
  for (int64_t j = 0; j < count; ++j) {
    sum = hn::MulAdd(LoadPadded(w + j * channels, c, end), LoadPadded(at(j), c, end), sum);
  }
  StorePadded(SiluV(sum), out, c, end);
}

// Channels [begin, end) of one sequence. Rows before the first are the replay's, then `source`'s.
void ConvRange(const ConvSequence& sequence, const float* x, int64_t x_stride, const float* w,
               const float* bias, int64_t taps, int64_t channels, float* out, int64_t out_stride,
               int64_t begin, int64_t end) {
  const int64_t history = taps - 1;
  const int64_t replayed = sequence.replay_rows;
  const auto row = [&](int64_t t) {  // raw row t of the sequence's rows, t >= -history - replayed
    if (t >= 0) return x + (sequence.rows.begin + t) * x_stride;
    return t >= -replayed ? sequence.replay + (replayed + t) * channels
                          : sequence.source + (history + replayed + t) * channels;
  };
  for (int64_t t = 0; t < sequence.rows.count; ++t) {
    float* target = out + (sequence.rows.begin + t) * out_stride;
    const auto tap = [&](int64_t j) { return row(t - history + j); };
    if (taps == 4) {
      ConvRow<4>(tap, w, bias, taps, channels, begin, end, target);
    } else {
      ConvRow<0>(tap, w, bias, taps, channels, begin, end, target);
    }
  }
  // The last raw rows, oldest first: ascending order also holds when source and target are one.
  const int64_t kept = sequence.keep ? sequence.rows.count : 0;
  if (kept + replayed == 0) return;
  for (int64_t j = 0; j < history; ++j) {
    const float* from = row(kept - history + j);
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

constexpr size_t kRouterRoom = 8192;  // on the stack: 512 experts and what is chosen of them

// An expert and what it is chosen by.
struct Ranked {
  float key;
  int32_t expert;
};

// The experts of the largest score + bias, best first; of equals the lower id first. Most experts
// cost one comparison: with the worst that is kept.
void SelectBest(std::span<const float> scores, const float* bias, std::span<Ranked> best) {
  const auto top_k = static_cast<int64_t>(best.size());
  int64_t kept = 0;
  for (size_t e = 0; e < scores.size(); ++e) {
    const float key = scores[e] + (bias != nullptr ? bias[e] : 0.0f);
    if (kept == top_k && !(key > best[static_cast<size_t>(kept - 1)].key)) continue;
    int64_t at = kept < top_k ? kept++ : kept - 1;
    for (; at > 0 && key > best[static_cast<size_t>(at - 1)].key; --at) {
      best[static_cast<size_t>(at)] = best[static_cast<size_t>(at - 1)];
    }
    best[static_cast<size_t>(at)] = {key, static_cast<int32_t>(e)};
  }
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
  int64_t rows = 0;
  for (const ConvSequence& s : sequences) rows += s.rows.count;
  // Blocks worth a few microseconds together; one token is not worth another thread.
  const int64_t grain = std::max<int64_t>(1, 32 * count / std::max<int64_t>(1, rows));
  context.pool().ParallelFor(blocks * count, grain, [&](int64_t begin, int64_t end, int) {
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
    alignas(std::max_align_t) std::byte room[kRouterRoom];
    std::pmr::monotonic_buffer_resource memory(room, sizeof(room));
    std::pmr::vector<float> scores(static_cast<size_t>(experts), &memory);
    std::pmr::vector<Ranked> best(static_cast<size_t>(top_k), &memory);
    for (int64_t t = begin; t < end; ++t) {
      sigmoid(logits + t * experts, experts, scores.data());
      SelectBest(scores, bias, best);
      float sum = 0.0f;
      for (const Ranked& r : best) sum += scores[static_cast<size_t>(r.expert)];
      std::sort(best.begin(), best.end(),
                [](const Ranked& a, const Ranked& b) { return a.expert < b.expert; });
      for (int64_t s = 0; s < top_k; ++s) {
        const int32_t e = best[static_cast<size_t>(s)].expert;
        const float score = scores[static_cast<size_t>(e)];
        expert_ids[t * top_k + s] = e;
        weights[t * top_k + s] = (normalize ? score / (sum + 1e-20f) : score) * scale;
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
