#include "tune/rl/policy_loss.h"

#include <algorithm>
#include <cmath>

namespace lode::tune {

std::vector<double> Advantages(std::span<const double> rewards, const PolicyOptions& options) {
  const auto count = static_cast<double>(rewards.size());
  std::vector<double> advantages(rewards.size(), 0.0);
  double sum = 0.0;
  for (const double reward : rewards) sum += reward;
  double squares = 0.0;
  for (const double reward : rewards) squares += std::pow(reward - sum / count, 2);
  if (rewards.size() < 2 || squares <= 1e-12) return advantages;
  const double deviation = std::sqrt(squares / (count - 1.0));
  for (size_t i = 0; i < rewards.size(); ++i) {
    const bool others = options.baseline == Baseline::kLeaveOneOut;
    const double baseline = others ? (sum - rewards[i]) / (count - 1.0) : sum / count;
    advantages[i] = rewards[i] - baseline;
    if (options.divide_by_deviation) advantages[i] /= deviation;
    if (options.advantage_max > 0.0) {
      advantages[i] = std::clamp(advantages[i], -options.advantage_max, options.advantage_max);
    }
  }
  return advantages;
}

TokenLoss PolicyLoss(const TokenLogProbs& p, double advantage, const PolicyOptions& options) {
  TokenLoss out;
  const double ratio = std::exp(p.now - p.before);
  const double low = 1.0 - options.clip_low, high = 1.0 + options.clip_high;
  double weight = 1.0;
  const double drift = std::exp(p.before - p.sampled);
  switch (options.correction) {
    case Correction::kNone:
      break;
    case Correction::kTruncate:
      weight = std::min(drift, options.correction_high);
      break;
    case Correction::kMask:
      out.masked = drift < options.correction_low || drift > options.correction_high;
      weight = out.masked ? 0.0 : drift;
      break;
  }
  const double plain = -advantage * ratio;
  const double bounded = -advantage * std::clamp(ratio, low, high);
  out.clipped = bounded > plain;
  out.loss = weight * std::max(plain, bounded);
  out.slope = out.clipped ? 0.0 : weight * plain;
  if (options.kl > 0.0) {
    const double gap = p.reference - p.now;
    out.loss += options.kl * (std::exp(gap) - gap - 1.0);
    out.slope += options.kl * (1.0 - std::exp(gap));
  }
  return out;
}

}  // namespace lode::tune
