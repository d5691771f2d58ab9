#include <bit>
#include <cmath>

#include "kernels/ref/ref.h"

namespace lode::kernels::ref {

void MatMul(const MatMulJob& job) {
  const Weight& w = *job.weight;
  std::vector<float> row(static_cast<size_t>(w.cols));
  for (int64_t r = 0; r < w.rows; ++r) {
    DecodeColumns(w, r, 0, w.cols, row.data());
    const float scale = w.row_scales != nullptr ? w.row_scales[r] : w.scale;
    for (int64_t t = 0; t < job.rows; ++t) {
      float sum = 0.0f;
      for (int64_t k = 0; k < w.cols; ++k) {
        sum = std::fma(row[static_cast<size_t>(k)], job.x[t * job.x_stride + k], sum);
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
