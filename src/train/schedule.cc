#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lode::train {

double Schedule::At(int64_t step) const {
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  const int64_t into = step - (steps - decay);
  if (form == Decay::kNone || decay <= 0 || into < 0) return peak;
  const double u = std::min(1.0, static_cast<double>(into + 1) / static_cast<double>(decay));
  double left = 0.0;
  switch (form) {
    case Decay::kNone:
      left = 1.0;
      break;
    case Decay::kLinear:
      left = 1.0 - u;
      break;
    case Decay::kCosine:
      left = 0.5 * (1.0 + std::cos(std::numbers::pi * u));
      break;
    case Decay::kMinusSqrt:
      left = 1.0 - std::sqrt(u);
      break;
  }
  return lowest + (peak - lowest) * left;
}

}  // namespace lode::train
