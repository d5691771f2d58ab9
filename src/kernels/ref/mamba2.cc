#include <cmath>

#include "kernels/ref/ref.h"

namespace lode::kernels::ref {

void ScanHead(int64_t rows, int64_t head_dim, int64_t state, const float* x, const float* b,
              const float* c, const float* dt, float a, float d, float* h, float* y) {
  for (int64_t t = 0; t < rows; ++t) {
    const float decay = std::exp(dt[t] * a);
    for (int64_t p = 0; p < head_dim; ++p) {
      const float xp = x[t * head_dim + p];
      float sum = 0.0f;
      for (int64_t n = 0; n < state; ++n) {
        float& hn = h[n * head_dim + p];
        hn = std::fma(hn, decay, dt[t] * xp * b[t * state + n]);
        sum = std::fma(hn, c[t * state + n], sum);
      }
      y[t * head_dim + p] = std::fma(d, xp, sum);
    }
  }
}

}  // namespace lode::kernels::ref
