#include <cmath>

#include "kernels/ref/ref.h"

namespace lode::kernels::ref {
namespace {

float Silu(float x) { return x / (1.0f + std::exp(-x)); }

}  // namespace

float SumOfSquares(const float* x, int64_t count) {
  float lanes[16] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i % 16] = std::fma(x[i], x[i], lanes[i % 16]);
  for (int step = 8; step >= 1; step /= 2) {
    for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  }
  return lanes[0];
}

void RmsNorm(const float* x, const float* w, float eps, int64_t width, float* y) {
  const float r = 1.0f / std::sqrt(SumOfSquares(x, width) / static_cast<float>(width) + eps);
  for (int64_t i = 0; i < width; ++i) y[i] = x[i] * r * w[i];
}

void GatedRmsNorm(float* y, const float* z, const float* w, float eps, int64_t width,
                  int64_t groups) {
  for (int64_t i = 0; i < width; ++i) y[i] *= Silu(z[i]);
  const int64_t group = width / groups;
  for (int64_t g = 0; g < groups; ++g) {
    RmsNorm(y + g * group, w + g * group, eps, group, y + g * group);
  }
}

void CausalConvSilu(const float* x, const float* w, const float* bias, int64_t taps,
                    int64_t channels, int64_t rows, float* out) {
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      float sum = bias[c];
      for (int64_t j = 0; j < taps; ++j) {
        sum = std::fma(w[j * channels + c], x[(t + j) * channels + c], sum);
      }
      out[t * channels + c] = Silu(sum);
    }
  }
}

}  // namespace lode::kernels::ref
