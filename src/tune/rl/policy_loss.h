// What an answer's reward says about each of its tokens: advantages within a group of answers to
// one prompt, and the clipped surrogate loss.
// Source: Shao et al. 2024 (group baselines), Yu et al. 2025 (the upper clip apart from the lower,
// the mean over all tokens), Schulman et al. 2017 (the surrogate), Schulman 2020 (estimate of KL).
// Threads: free for all. Errors: none.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lode::tune {

enum class Baseline : uint8_t {
  kLeaveOneOut,  // the mean of the other answers
  kMean,         // of all
};

// What is done where the sampler's probabilities are not the trainer's; in one program they are the
// same bits, so only answers of older weights need it.
enum class Correction : uint8_t {
  kNone,
  kTruncate,  // the ratio counts, but at most so much
  kMask,      // tokens whose ratio is outside do not count
};

struct PolicyOptions {
  Baseline baseline = Baseline::kLeaveOneOut;
  bool divide_by_deviation = true;
  double advantage_max = 0.0;  // of its magnitude; 0: no bound
  double clip_low = 0.2, clip_high = 0.28;
  double kl = 0.0;  // the weight of the distance to a reference model
  Correction correction = Correction::kNone;
  double correction_low = 0.5, correction_high = 2.0;
};

// Of one group. A group whose rewards are all the same teaches nothing: zeros.
std::vector<double> Advantages(std::span<const double> rewards, const PolicyOptions& options);

// Log-probabilities of one token.
struct TokenLogProbs {
  double now = 0.0;
  double before = 0.0;   // of the weights that this batch of answers met first
  double sampled = 0.0;  // the sampler's own
  double reference = 0.0;
};

struct TokenLoss {
  double loss = 0.0;
  double slope = 0.0;  // d loss / d now
  bool clipped = false;
  bool masked = false;
};

// To be divided by how many tokens count.
TokenLoss PolicyLoss(const TokenLogProbs& p, double advantage, const PolicyOptions& options);

}  // namespace lode::tune
