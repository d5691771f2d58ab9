// The gradients of everything that is one pass over rows. Where a parameter gathers over rows, a
// thread owns columns and walks all rows, so that the order of the sum is the rows'.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/targets.h"
#include "kernels/grad.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/grad_pointwise.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/lanes-inl.h"

#ifndef LODE_KERNELS_CPU_GRAD_POINTWISE_ONCE_
#define LODE_KERNELS_CPU_GRAD_POINTWISE_ONCE_
namespace lode::kernels {
// Rows of channels, each array with its stride.
struct ConvGradRows {
  const float* x;
  int64_t x_stride;
  const float* dout;
  int64_t dout_stride;
  float* dx;
  int64_t dx_stride;
};
constexpr int64_t kConvTapsMax = 8;
}  // namespace lode::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

// Calls body(i) for vectors at i in [begin, end), the last one padded.
template <class Body>
HWY_INLINE void ForVectors(int64_t begin, int64_t end, const Body& body) {
  const auto L = static_cast<int64_t>(hn::Lanes(DF()));
  for (int64_t i = begin; i < end; i += L) body(i);
}

// d silu(x) / dx
HWY_INLINE VF SiluSlopeV(VF x) {
  const VF one = hn::Set(DF(), 1.0f);
  const VF s = SigmoidV(x);
  return hn::Mul(s, hn::MulAdd(x, hn::Sub(one, s), one));
}

void ReluSquaredRange(const float* a, int64_t begin, int64_t end, float* dy) {
  ForVectors(begin, end, [&](int64_t i) HWY_ATTR {
    const VF root = hn::Sqrt(LoadPadded(a, i, end));
    StorePadded(hn::Mul(hn::Add(root, root), LoadPadded(dy, i, end)), dy, i, end);
  });
}

// dx (+)= r g - r^3 x (g . x) / D, where g = dy w; returns r.
template <bool kAdd>
HWY_INLINE float NormGradRow(const float* x, const float* w, float eps, const float* dy,
                             int64_t width, float* dx) {
  const DF d;
  const float squares = Sum16(
      width, [&](int64_t i) HWY_ATTR { return LoadPadded(x, i, width); },
      [](VF v, VF sum) HWY_ATTR { return hn::MulAdd(v, v, sum); });
  const float dot = Sum16(
      width,
      [&](int64_t i) HWY_ATTR {
        return hn::Mul(hn::Mul(LoadPadded(dy, i, width), LoadPadded(w, i, width)),
                       LoadPadded(x, i, width));
      },
      [](VF v, VF sum) HWY_ATTR { return hn::Add(v, sum); });
  const auto size = static_cast<float>(width);
  const float r = 1.0f / std::sqrt(squares / size + eps);
  const VF scale = hn::Set(d, r), pull = hn::Set(d, r * r * r * dot / size);
  ForVectors(0, width, [&](int64_t i) HWY_ATTR {
    const VF g = hn::Mul(LoadPadded(dy, i, width), LoadPadded(w, i, width));
    VF v = hn::NegMulAdd(pull, LoadPadded(x, i, width), hn::Mul(scale, g));
    if (kAdd) v = hn::Add(v, LoadPadded(dx, i, width));
    StorePadded(v, dx, i, width);
  });
  return r;
}

float NormGradAdd(const float* x, const float* w, float eps, const float* dy, int64_t width,
                  float* dx) {
  return NormGradRow<true>(x, w, eps, dy, width, dx);
}

// dw[begin, end) += sum_t dy x r
void NormWeightGrad(const float* x, int64_t x_stride, const float* dy, int64_t dy_stride,
                    const float* inverse, int64_t rows, int64_t begin, int64_t end, float* dw) {
  const DF d;
  ForVectors(begin, end, [&](int64_t i) HWY_ATTR {
    VF sum = LoadPadded(dw, i, end);
    for (int64_t t = 0; t < rows; ++t) {
      const VF v = hn::Mul(LoadPadded(x + t * x_stride, i, end), hn::Set(d, inverse[t]));
      sum = hn::MulAdd(v, LoadPadded(dy + t * dy_stride, i, end), sum);
    }
    StorePadded(sum, dw, i, end);
  });
}

// 1 / rms of one group of one row.
float GatedInverse(const float* y, const float* z, float eps, int64_t width) {
  const float squares = Sum16(
      width,
      [&](int64_t i) HWY_ATTR {
        return hn::Mul(LoadPadded(y, i, width), SiluV(LoadPadded(z, i, width)));
      },
      [](VF v, VF sum) HWY_ATTR { return hn::MulAdd(v, v, sum); });
  return 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
}

// One group of one row. u = y silu(z); dout becomes dy. `u` is room for the group.
float GatedNormGrad(const float* y, const float* z, const float* w, float eps, int64_t width,
                    float* dout, float* dz, float* u) {
  ForVectors(0, width, [&](int64_t i) HWY_ATTR {
    StorePadded(hn::Mul(LoadPadded(y, i, width), SiluV(LoadPadded(z, i, width))), u, i, width);
  });
  const float r = NormGradRow<false>(u, w, eps, dout, width, dout);
  ForVectors(0, width, [&](int64_t i) HWY_ATTR {
    const VF gate = LoadPadded(z, i, width), du = LoadPadded(dout, i, width);
    StorePadded(hn::Mul(hn::Mul(du, LoadPadded(y, i, width)), SiluSlopeV(gate)), dz, i, width);
    StorePadded(hn::Mul(du, SiluV(gate)), dout, i, width);
  });
  return r;
}

// dw[begin, end) += sum_t dout u r, of columns in one group; `inverse` has `stride` between rows.
void GatedNormWeightGrad(const float* y, int64_t y_stride, const float* z, int64_t z_stride,
                         const float* dout, int64_t dout_stride, const float* inverse,
                         int64_t stride, int64_t rows, int64_t begin, int64_t end, float* dw) {
  const DF d;
  ForVectors(begin, end, [&](int64_t i) HWY_ATTR {
    VF sum = LoadPadded(dw, i, end);
    for (int64_t t = 0; t < rows; ++t) {
      const VF u = hn::Mul(LoadPadded(y + t * y_stride, i, end),
                           SiluV(LoadPadded(z + t * z_stride, i, end)));
      const VF v = hn::Mul(u, hn::Set(d, inverse[t * stride]));
      sum = hn::MulAdd(v, LoadPadded(dout + t * dout_stride, i, end), sum);
    }
    StorePadded(sum, dw, i, end);
  });
}

// Columns [begin, end) of all rows.
void SoftplusGrad(const float* x, int64_t x_stride, const float* bias, const float* dy,
                  int64_t dy_stride, int64_t rows, int64_t begin, int64_t end, float* dx,
                  int64_t dx_stride, float* dbias) {
  ForVectors(begin, end, [&](int64_t i) HWY_ATTR {
    VF sum = LoadPadded(dbias, i, end);
    const VF shift = LoadPadded(bias, i, end);
    for (int64_t t = 0; t < rows; ++t) {
      const VF v = hn::Mul(LoadPadded(dy + t * dy_stride, i, end),
                           SigmoidV(hn::Add(LoadPadded(x + t * x_stride, i, end), shift)));
      StorePadded(v, dx + t * dx_stride, i, end);
      sum = hn::Add(sum, v);
    }
    StorePadded(sum, dbias, i, end);
  });
}

// A vector of channels at c of one sequence. Of the last `taps` rows du is remembered.
HWY_INLINE void ConvGradVector(const ConvGradRows& r, int64_t rows, const float* w,
                               const float* bias, int64_t taps, int64_t channels, int64_t c,
                               float* dw, float* dbias) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float weights[kConvTapsMax * kLanes], slopes[kConvTapsMax * kLanes];
  HWY_ALIGN float sums[kConvTapsMax * kLanes];
  for (int64_t j = 0; j < taps; ++j) {
    hn::Store(LoadPadded(w + j * channels, c, channels), d, weights + j * L);
    hn::Store(LoadPadded(dw + j * channels, c, channels), d, sums + j * L);
    hn::Store(hn::Zero(d), d, slopes + j * L);
  }
  const VF shift = LoadPadded(bias, c, channels);
  VF of_bias = LoadPadded(dbias, c, channels);
  const int64_t before = taps - 1;
  for (int64_t t = 0; t < rows + before; ++t) {
    VF du = hn::Zero(d);
    if (t < rows) {
      VF u = shift;
      for (int64_t j = 0; j < taps; ++j) {
        if (t - before + j < 0) continue;
        const VF x = LoadPadded(r.x + (t - before + j) * r.x_stride, c, channels);
        u = hn::MulAdd(hn::Load(d, weights + j * L), x, u);
      }
      du = hn::Mul(LoadPadded(r.dout + t * r.dout_stride, c, channels), SiluSlopeV(u));
      of_bias = hn::Add(of_bias, du);
      for (int64_t j = 0; j < taps; ++j) {
        if (t - before + j < 0) continue;
        const VF x = LoadPadded(r.x + (t - before + j) * r.x_stride, c, channels);
        hn::Store(hn::MulAdd(du, x, hn::Load(d, sums + j * L)), d, sums + j * L);
      }
    }
    // slopes[j]: du of row t - before + j
    for (int64_t j = 0; j < before; ++j) {
      hn::Store(hn::Load(d, slopes + (j + 1) * L), d, slopes + j * L);
    }
    hn::Store(du, d, slopes + before * L);
    if (t < before) continue;
    VF dx = hn::Zero(d);  // of row t - before, which row t was the last to read
    for (int64_t j = 0; j < taps; ++j) {
      dx = hn::MulAdd(hn::Load(d, slopes + j * L), hn::Load(d, weights + (before - j) * L), dx);
    }
    StorePadded(dx, r.dx + (t - before) * r.dx_stride, c, channels);
  }
  for (int64_t j = 0; j < taps; ++j) {
    StorePadded(hn::Load(d, sums + j * L), dw + j * channels, c, channels);
  }
  StorePadded(of_bias, dbias, c, channels);
}

void ConvGrad(const ConvGradRows& r, int64_t rows, const float* w, const float* bias, int64_t taps,
              int64_t channels, int64_t begin, int64_t end, float* dw, float* dbias) {
  // A block ends where a vector of any length does, or where the channels do.
  ForVectors(begin, end, [&](int64_t c) HWY_ATTR {
    ConvGradVector(r, rows, w, bias, taps, channels, c, dw, dbias);
  });
}

void AddScaled(const float* x, float weight, int64_t width, bool add, float* y) {
  const DF d;
  const VF factor = hn::Set(d, weight);
  ForVectors(0, width, [&](int64_t i) HWY_ATTR {
    VF v = hn::Mul(factor, LoadPadded(x, i, width));
    if (add) v = hn::Add(LoadPadded(y, i, width), v);
    StorePadded(v, y, i, width);
  });
}

float DotRow(const float* x, const float* y, int64_t width) {
  int64_t at = 0;
  return Sum16(
      width,
      [&](int64_t i) HWY_ATTR {
        at = i;
        return LoadPadded(x, i, width);
      },
      [&](VF v, VF sum) HWY_ATTR { return hn::MulAdd(v, LoadPadded(y, at, width), sum); });
}

// Returns the log-probability; logits become coefficient (softmax - onehot).
float CrossEntropyRow(float* logits, int64_t width, int64_t target, float coefficient,
                      float* entropy) {
  const DF d;
  const float lowest = -std::numeric_limits<float>::max();
  float largest = lowest;
  for (int64_t i = 0; i < width; ++i) largest = std::max(largest, logits[i]);
  const VF shift = hn::Set(d, largest);
  const VF behind = hn::Set(d, lowest);  // whose exp is zero
  const auto load = [&](int64_t i) HWY_ATTR {
    const auto L = static_cast<int64_t>(hn::Lanes(d));
    const VF v = LoadPadded(logits, i, width);
    if (HWY_LIKELY(i + L <= width)) return v;
    const auto inside = hn::Lt(hn::Iota(d, 0.0f), hn::Set(d, static_cast<float>(width - i)));
    return hn::IfThenElse(inside, v, behind);
  };
  const float sum = Sum16(
      width, [&](int64_t i) HWY_ATTR { return ExpV(hn::Sub(load(i), shift)); },
      [](VF v, VF all) HWY_ATTR { return hn::Add(v, all); });
  const float log_sum = std::log(sum);
  const float result = logits[target] - largest - log_sum;
  if (entropy != nullptr) {
    // H = log sum - sum p (z - largest)
    const float mean = Sum16(
        width,
        [&](int64_t i) HWY_ATTR {
          const VF z = hn::Max(hn::Sub(load(i), shift), hn::Set(d, -1e30f));
          return hn::Mul(ExpV(z), z);
        },
        [](VF v, VF all) HWY_ATTR { return hn::Add(v, all); });
    *entropy = log_sum - mean / sum;
  }
  const VF scale = hn::Set(d, coefficient / sum);
  ForVectors(0, width, [&](int64_t i) HWY_ATTR {
    StorePadded(hn::Mul(scale, ExpV(hn::Sub(load(i), shift))), logits, i, width);
  });
  logits[target] -= coefficient;
  return result;
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(ReluSquaredRange);
HWY_EXPORT(NormGradAdd);
HWY_EXPORT(NormWeightGrad);
HWY_EXPORT(GatedInverse);
HWY_EXPORT(GatedNormGrad);
HWY_EXPORT(GatedNormWeightGrad);
HWY_EXPORT(SoftplusGrad);
HWY_EXPORT(ConvGrad);
HWY_EXPORT(AddScaled);
HWY_EXPORT(DotRow);
HWY_EXPORT(CrossEntropyRow);

namespace {

constexpr int64_t kColumns = 64;  // of a chunk that walks all rows

int64_t RowGrain(int64_t width) {
  return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, width));
}

// Calls body(begin, end) for blocks of columns, on all threads.
template <class Body>
void ForColumns(Context& context, int64_t width, const Body& body) {
  const int64_t blocks = (width + kColumns - 1) / kColumns;
  context.pool().ParallelFor(blocks, 1, [&](int64_t begin, int64_t end, int) {
    body(begin * kColumns, std::min(width, end * kColumns));
  });
}

}  // namespace

void ReluSquaredBackward(Context& context, const float* a, int64_t count, float* dy) {
  const auto run = HWY_DYNAMIC_DISPATCH(ReluSquaredRange);
  context.pool().ParallelFor((count + 4095) / 4096, 1, [&](int64_t begin, int64_t end, int) {
    run(a, begin * 4096, std::min(count, end * 4096), dy);
  });
}

void RmsNormBackward(Context& context, const float* x, int64_t x_stride, const float* w, float eps,
                     const float* dy, int64_t dy_stride, int64_t rows, int64_t width, float* dx,
                     int64_t dx_stride, float* dw, float* inverse) {
  const auto row = HWY_DYNAMIC_DISPATCH(NormGradAdd);
  const auto columns = HWY_DYNAMIC_DISPATCH(NormWeightGrad);
  context.pool().ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      inverse[t] = row(x + t * x_stride, w, eps, dy + t * dy_stride, width, dx + t * dx_stride);
    }
  });
  ForColumns(context, width, [&](int64_t begin, int64_t end) {
    columns(x, x_stride, dy, dy_stride, inverse, rows, begin, end, dw);
  });
}

void GatedRmsNormBackward(Context& context, const float* y, int64_t y_stride, const float* z,
                          int64_t z_stride, const float* w, float eps, int64_t rows, int64_t width,
                          int64_t groups, float* dout, int64_t dout_stride, float* dz,
                          int64_t dz_stride, float* dw, float* inverse) {
  const auto part = HWY_DYNAMIC_DISPATCH(GatedNormGrad);
  const auto columns = HWY_DYNAMIC_DISPATCH(GatedNormWeightGrad);
  const auto inverse_of = HWY_DYNAMIC_DISPATCH(GatedInverse);
  const int64_t group = width / groups;
  // The weights feel dout, which the rows replace: r first, then columns, then rows.
  context.pool().ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t g = 0; g < groups; ++g) {
        inverse[t * groups + g] = inverse_of(y + t * y_stride + g * group,
                                             z + t * z_stride + g * group, eps, group);
      }
    }
  });
  const int64_t blocks = (group + kColumns - 1) / kColumns;
  context.pool().ParallelFor(groups * blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t g = i / blocks, from = g * group + i % blocks * kColumns;
      columns(y, y_stride, z, z_stride, dout, dout_stride, inverse + g, groups, rows, from,
              std::min((g + 1) * group, from + kColumns), dw);
    }
  });
  context.pool().ParallelFor(rows, RowGrain(width), [&](int64_t begin, int64_t end, int thread) {
    float* u = context.scratch(thread);
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t at = g * group;
        part(y + t * y_stride + at, z + t * z_stride + at, w + at, eps, group,
             dout + t * dout_stride + at, dz + t * dz_stride + at, u);
      }
    }
  });
}

void SoftplusBackward(Context& context, const float* x, int64_t x_stride, const float* bias,
                      const float* dy, int64_t dy_stride, int64_t rows, int64_t width, float* dx,
                      int64_t dx_stride, float* dbias) {
  const auto run = HWY_DYNAMIC_DISPATCH(SoftplusGrad);
  ForColumns(context, width, [&](int64_t begin, int64_t end) {
    run(x, x_stride, bias, dy, dy_stride, rows, begin, end, dx, dx_stride, dbias);
  });
}

void CausalConvSiluBackward(Context& context, std::span<const RowRange> sequences, const float* x,
                            int64_t x_stride, const float* w, const float* bias, int64_t taps,
                            int64_t channels, const float* dout, int64_t dout_stride, float* dx,
                            int64_t dx_stride, float* dw, float* dbias) {
  LODE_CHECK(taps <= kConvTapsMax);
  const auto run = HWY_DYNAMIC_DISPATCH(ConvGrad);
  ForColumns(context, channels, [&](int64_t begin, int64_t end) {
    for (const RowRange& s : sequences) {
      run({x + s.begin * x_stride, x_stride, dout + s.begin * dout_stride, dout_stride,
           dx + s.begin * dx_stride, dx_stride},
          s.count, w, bias, taps, channels, begin, end, dw, dbias);
    }
  });
}

void CombineExpertsBackward(Context& context, const int32_t* row_of, const float* weights,
                            const float* dy, int64_t dy_stride, int64_t rows, int64_t top_k,
                            int64_t width, float* dx, int64_t dx_stride) {
  const auto run = HWY_DYNAMIC_DISPATCH(AddScaled);
  context.pool().ParallelFor(rows, RowGrain(width * top_k), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * top_k; i < end * top_k; ++i) {
      run(dy + i / top_k * dy_stride, weights[i], width, false, dx + row_of[i] * dx_stride);
    }
  });
}

void SlotDots(Context& context, const float* x, int64_t x_stride, const float* dy,
              int64_t dy_stride, const int32_t* row_of, int64_t rows, int64_t top_k, int64_t width,
              float* dweights) {
  const auto dot = HWY_DYNAMIC_DISPATCH(DotRow);
  const int64_t slots = rows * top_k;
  context.pool().ParallelFor(slots, RowGrain(width), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      dweights[i] = dot(x + row_of[i] * x_stride, dy + i / top_k * dy_stride, width);
    }
  });
}

void GatherSum(Context& context, const float* x, int64_t x_stride, const int32_t* row_of,
               int64_t rows, int64_t top_k, int64_t width, bool add, float* y, int64_t y_stride) {
  const auto run = HWY_DYNAMIC_DISPATCH(AddScaled);
  context.pool().ParallelFor(rows, RowGrain(width * top_k), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t s = 0; s < top_k; ++s) {
        run(x + row_of[t * top_k + s] * x_stride, 1.0f, width, add || s > 0, y + t * y_stride);
      }
    }
  });
}

void EmbedBackward(Context& context, std::span<const int32_t> tokens, const float* dx,
                   int64_t dx_stride, int64_t width, float* dtable) {
  const auto run = HWY_DYNAMIC_DISPATCH(AddScaled);
  ForColumns(context, width, [&](int64_t begin, int64_t end) {
    for (size_t t = 0; t < tokens.size(); ++t) {
      run(dx + static_cast<int64_t>(t) * dx_stride + begin, 1.0f, end - begin, true,
          dtable + tokens[t] * width + begin);
    }
  });
}

void CrossEntropy(Context& context, float* logits, int64_t rows, int64_t vocabulary,
                  const int32_t* targets, const float* coefficients, float* log_probabilities,
                  float* entropies) {
  const auto run = HWY_DYNAMIC_DISPATCH(CrossEntropyRow);
  context.pool().ParallelFor(rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      log_probabilities[t] = run(logits + t * vocabulary, vocabulary, targets[t], coefficients[t],
                                 entropies == nullptr ? nullptr : entropies + t);
    }
  });
}

double RouteBackward(Context& context, const RouterShape& shape,
                     std::span<const RowRange> sequences, const float* logits,
                     const int32_t* expert_ids, const float* dweights, double alpha,
                     float* dlogits) {
  const int64_t experts = shape.experts, top_k = shape.top_k;
  const auto count = static_cast<int64_t>(sequences.size());
  std::vector<double> losses(sequences.size(), 0.0);
  const auto sigmoid = [](float x) { return 1.0f / (1.0f + std::exp(-x)); };
  const auto weights = [&](int64_t t) {
    const float* row = logits + t * experts;
    float sum = 0.0f, dot = 0.0f;
    for (int64_t i = t * top_k; i < (t + 1) * top_k; ++i) {
      const float score = sigmoid(row[expert_ids[i]]);
      sum += score;
      dot += dweights[i] * score;
    }
    std::fill_n(dlogits + t * experts, experts, 0.0f);
    for (int64_t i = t * top_k; i < (t + 1) * top_k; ++i) {
      const float score = sigmoid(row[expert_ids[i]]);
      const auto scale = static_cast<float>(shape.scale);
      const float ds =
          shape.normalize ? scale / sum * (dweights[i] - dot / sum) : scale * dweights[i];
      dlogits[t * experts + expert_ids[i]] = ds * score * (1.0f - score);
    }
  };
  const auto balance = [&](RowRange rows, double* loss) {
    std::vector<float> k(static_cast<size_t>(experts), 0.0f);
    const double unit = alpha * static_cast<double>(experts) /
                        static_cast<double>(top_k * rows.count * rows.count);
    for (int64_t i = rows.begin * top_k; i < (rows.begin + rows.count) * top_k; ++i) {
      k[static_cast<size_t>(expert_ids[i])] += static_cast<float>(unit);
    }
    for (int64_t t = rows.begin; t < rows.begin + rows.count; ++t) {
      float sum = 0.0f, dot = 0.0f;
      for (int64_t e = 0; e < experts; ++e) {
        const float score = sigmoid(logits[t * experts + e]);
        sum += score;
        dot += k[static_cast<size_t>(e)] * score;
      }
      *loss += dot / sum;
      for (int64_t e = 0; e < experts; ++e) {
        const float score = sigmoid(logits[t * experts + e]);
        dlogits[t * experts + e] +=
            (k[static_cast<size_t>(e)] - dot / sum) / sum * score * (1.0f - score);
      }
    }
  };
  context.pool().ParallelFor(count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t s = begin; s < end; ++s) {
      const RowRange rows = sequences[static_cast<size_t>(s)];
      for (int64_t t = rows.begin; t < rows.begin + rows.count; ++t) weights(t);
      if (alpha > 0.0 && rows.count > 0) balance(rows, &losses[static_cast<size_t>(s)]);
    }
  });
  double loss = 0.0;
  for (const double each : losses) loss += each;
  return loss;
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
