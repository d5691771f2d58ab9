// A step of group-relative policy optimization: prompts are answered, answers judged, and the model
// moves towards those that were better than the others of their group.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/trainer.h"
#include "tune/rl/environment.h"
#include "tune/rl/policy_loss.h"
#include "tune/rl/rollout.h"

namespace lode::tune {

struct GrpoOptions {
  PolicyOptions policy;
  int64_t answers = 8;        // to each prompt
  int64_t updates = 1;        // of the weights for one batch of answers
  bool skip_cut_off = false;  // answers that reached the limit teach nothing
  int64_t rows_max = 4096;    // of a pass, as the trainer's
  int64_t sequences_max = 256;
};

struct GrpoReport {
  double reward = 0.0, reward_deviation = 0.0;
  double solved = 0.0;       // share of answers with a reward of 1
  double flat_groups = 0.0;  // share of groups whose answers all got the same
  double loss = 0.0, norm = 0.0;
  double clipped = 0.0;                               // share of tokens
  double entropy = 0.0, length = 0.0, cut_off = 0.0;  // means over answers
  double drift_max = 0.0;  // |log p of the trainer - of the sampler| on the same weights
  int64_t tokens = 0;      // of answers, that were drawn
  int64_t rows = 0;        // that went forward and back
  int64_t invalid = 0;
  double imbalance = 0.0;  // of the experts' loads (Trainer::Imbalance)
  bool skipped = false;    // some update was
};

// Judges answers [prompt * answers + i].
using Judge = std::function<Result<std::vector<Verdict>>(std::span<const Rollout>)>;

// Errors: those of the sampling and of the judge; kBadInput for a prompt and an answer that are
// more than a pass takes.
Result<GrpoReport> GrpoStep(train::Trainer* trainer, Sampling* sampling,
                            std::span<const std::vector<int32_t>> prompts, const Judge& judge,
                            const GrpoOptions& options, uint64_t round, double rate);

}  // namespace lode::tune
