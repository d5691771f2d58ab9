#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "kernels/panel.h"
#include "kernels/ref/ref.h"
#include "tensor/blocks.h"
#include "tensor/scalar.h"

namespace lode::kernels::ref {
namespace {

// 32 inputs as whole numbers times a scale.
struct IntBlock {
  int32_t q[32];
  float scale;
};

IntBlock Quantize(const float* x, int64_t count, bool wide) {
  IntBlock block = {};
  float most = 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    most = std::max(most, std::fabs(x[i]));
    if (!std::isfinite(x[i])) most = NAN;
    if (std::isnan(most)) break;
  }
  if (std::isnan(most)) block.scale = NAN;
  if (!(most > 1e-30f)) return block;
  const float top = wide ? 32512.0f : 127.0f;
  block.scale = most * (1.0f / top);
  for (int64_t i = 0; i < count; ++i) {
    block.q[i] = static_cast<int32_t>(std::nearbyint(x[i] * (top / most)));
  }
  return block;
}

// A weight's block as numbers: what the codes stand for, and the f32 factors of its two halves.
struct WeightBlock {
  int32_t codes[32];
  float scales[2];
  float minimum = 0.0f;
  bool split = false;  // the halves have their own sums
  bool has_minimum = false;
};

WeightBlock Load(const Weight& w, PanelFormat format, int64_t row, int64_t index) {
  const PanelTraits traits = TraitsOf(format);
  RowBlock b;
  LoadRowBlock(w, format, row, index, &b);
  WeightBlock out;
  for (int i = 0; i < 32; ++i) {
    out.codes[i] = traits.table != nullptr    ? traits.table[b.codes[i]]
                   : traits.offset_shift >= 0 ? b.codes[i] - (1 << traits.offset_shift)
                                              : b.codes[i];
  }
  const float d = tensor::F16ToFloat(b.d), dmin = tensor::F16ToFloat(b.dmin);
  const auto signed_scale = [&](int i) {
    return static_cast<float>(static_cast<int8_t>(b.scales[i]));
  };
  switch (traits.scales) {
    case ScaleKind::kF16Min:
      out.minimum = dmin;
      out.has_minimum = true;
      [[fallthrough]];
    case ScaleKind::kF16:
      out.scales[0] = d;
      break;
    case ScaleKind::kE8M0:
      out.scales[0] = static_cast<float>(std::ldexp(1.0, b.scales[0] - 128));
      break;
    case ScaleKind::kUE4M3Pair:
      out.split = true;
      for (int i = 0; i < 2; ++i) out.scales[i] = tensor::E4M3ToFloat(b.scales[i]) * 0.5f;
      break;
    case ScaleKind::kSuperMin:
      out.scales[0] = d * static_cast<float>(b.scales[0]);
      out.minimum = -(dmin * static_cast<float>(b.scales[1]));
      out.has_minimum = true;
      break;
    case ScaleKind::kSuperPair:
      out.split = true;
      for (int i = 0; i < 2; ++i) out.scales[i] = d * signed_scale(i);
      break;
    case ScaleKind::kSuper:
      out.scales[0] = d * signed_scale(0);
      break;
  }
  return out;
}

float IntegerSum(const Weight& w, PanelFormat format, int64_t row, const float* x, bool wide) {
  float sum = 0.0f;
  for (int64_t k = 0; k < w.cols; k += 32) {
    const IntBlock in = Quantize(x + k, std::min<int64_t>(32, w.cols - k), wide);
    const WeightBlock block = Load(w, format, row, k / 32);
    int64_t dots[2] = {0, 0};
    int64_t inputs = 0;
    for (int i = 0; i < 32; ++i) {
      dots[block.split ? i / 16 : 0] += int64_t{block.codes[i]} * in.q[i];
      inputs += in.q[i];
    }
    for (int half = 0; half < (block.split ? 2 : 1); ++half) {
      sum = std::fma(static_cast<float>(dots[half]), block.scales[half] * in.scale, sum);
    }
    if (block.has_minimum) {
      sum = std::fma(block.minimum, in.scale * static_cast<float>(inputs), sum);
    }
  }
  return sum;
}

float BF16Sum(const std::vector<float>& row, const float* x, int64_t cols, bool wide) {
  float sum = 0.0f;
  for (int64_t k = 0; k < cols; k += 2) {
    const bool pair = k + 1 < cols;
    const float even = RoundToBF16(x[k]), odd = pair ? RoundToBF16(x[k + 1]) : 0.0f;
    const float w_even = row[static_cast<size_t>(k)];
    const float w_odd = pair ? row[static_cast<size_t>(k + 1)] : 0.0f;
    sum = std::fma(w_even, even, std::fma(w_odd, odd, sum));
    if (!wide) continue;
    const float odd_left = pair ? RoundToBF16(x[k + 1] - odd) : 0.0f;
    sum = std::fma(w_even, RoundToBF16(x[k] - even), std::fma(w_odd, odd_left, sum));
  }
  return sum;
}

}  // namespace

void MatMul(const MatMulJob& job) {
  const Weight& w = *job.weight;
  PanelFormat format = PanelFormatOf(w);
  if (job.precision == Precision::kF32 || TakesFloats(format)) format = PanelFormat::kNone;
  const bool wide = job.precision == Precision::kNativeWide;
  std::vector<float> row(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    DecodeColumns(w, r, 0, w.cols, row.data());
    const float scale = w.row_scales != nullptr ? w.row_scales[r] : w.scale;
    for (int64_t t = 0; t < job.rows; ++t) {
      const float* x = job.x + t * job.x_stride;
      float sum = 0.0f;
      if (IsInteger(format)) {
        sum = IntegerSum(w, format, r, x, wide);
      } else if (format != PanelFormat::kNone) {
        sum = BF16Sum(row, x, w.cols, wide);
      } else {
        for (int64_t k = 0; k < w.cols; ++k) sum = std::fma(row[static_cast<size_t>(k)], x[k], sum);
      }
      sum *= scale;
      float& y = job.y[t * job.y_stride + r];
      if (job.epilogue == Epilogue::kStore) y = sum;
      if (job.epilogue == Epilogue::kAdd) y = y + sum;
      if (job.epilogue == Epilogue::kReluSquared) y = sum > 0.0f ? sum * sum : 0.0f;
    }
  }
}

float RoundToBF16(float x) {
  if (std::isnan(x)) return x;
  const auto bits = std::bit_cast<uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u);
}

}  // namespace lode::kernels::ref
