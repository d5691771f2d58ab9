#include <algorithm>
#include <cmath>

#include "kernels/ref/ref.h"

namespace lode::kernels::ref {

void AttendExact(const float* q, const float* k, const float* v, int64_t keys, int64_t head_dim,
                 double* out) {
  std::vector<double> p(static_cast<size_t>(keys));
  double top = -INFINITY;
  for (int64_t j = 0; j < keys; ++j) {
    double score = 0.0;
    for (int64_t i = 0; i < head_dim; ++i) score += double{q[i]} * double{k[j * head_dim + i]};
    p[static_cast<size_t>(j)] = score / std::sqrt(static_cast<double>(head_dim));
    top = std::max(top, p[static_cast<size_t>(j)]);
  }
  double sum = 0.0;
  for (double& value : p) {
    value = std::exp(value - top);
    sum += value;
  }
  for (int64_t i = 0; i < head_dim; ++i) {
    out[i] = 0.0;
    for (int64_t j = 0; j < keys; ++j) {
      out[i] += p[static_cast<size_t>(j)] / sum * double{v[j * head_dim + i]};
    }
  }
}

}  // namespace lode::kernels::ref
