#include "runtime/sampling/draft_length.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace lode::runtime {
namespace {

constexpr double kCostWeight = 0.1;   // of a new measurement, after the first ten
constexpr double kCostOutlier = 3.0;  // times the mean: the rest is somebody else's doing
// An observation counts half after 70 more of its position, and after 350 steps that did not reach
// for it: what was once bad is tried again.
constexpr double kForget = 0.99, kForgetUntried = 0.998;
// Before anything is known: a chance worth trying, outweighed by a handful of trials.
constexpr double kPrior = 0.8, kPriorWeight = 3.0;
constexpr int64_t kPatienceMin = 16, kPatienceMax = 1024;
// Of the steps with drafts the 8th, 16th, 32nd and each 64th has none, for what a plain step takes may
// have changed: at the start weights are still being packed.
constexpr int64_t kPlainFirst = 8, kPlainEvery = 64;

}  // namespace

void StepCost::Observe(int64_t rows, double milliseconds) {
  if (rows < 1 || rows > rows_max() || !(milliseconds > 0.0)) return;
  Cost& cost = costs_[static_cast<size_t>(rows)];
  ++cost.count;
  if (cost.count > 1) milliseconds = std::min(milliseconds, kCostOutlier * cost.milliseconds);
  const double weight = std::max(1.0 / static_cast<double>(cost.count), kCostWeight);
  cost.milliseconds += weight * (milliseconds - cost.milliseconds);
  rows_measured_ = std::max(rows_measured_, rows);
}

double StepCost::Milliseconds(int64_t rows) const {
  rows = std::clamp<int64_t>(rows, 1, rows_max());
  const auto at = [&](int64_t r) -> const Cost& { return costs_[static_cast<size_t>(r)]; };
  int64_t below = rows, above = rows;
  while (below > 0 && at(below).count == 0) --below;
  while (above <= rows_max() && at(above).count == 0) ++above;
  if (below == 0 && above > rows_max()) return 0.0;
  if (below == 0) return at(above).milliseconds;
  if (above > rows_max() || above == below) return at(below).milliseconds;
  const double share = static_cast<double>(rows - below) / static_cast<double>(above - below);
  return at(below).milliseconds + share * (at(above).milliseconds - at(below).milliseconds);
}

DraftLength::DraftLength(int64_t length_max)
    : chances_(static_cast<size_t>(length_max)), patience_(kPatienceMin) {
  LODE_CHECK(length_max >= 0);
}

void DraftLength::Observe(int64_t proposed, int64_t accepted) {
  proposed = std::min(proposed, static_cast<int64_t>(chances_.size()));
  for (int64_t i = 0; i < proposed && i <= accepted; ++i) {
    Chance& chance = chances_[static_cast<size_t>(i)];
    chance.accepted = chance.accepted * kForget + (i < accepted ? 1.0 : 0.0);
    chance.tried = chance.tried * kForget + 1.0;
  }
  for (size_t i = static_cast<size_t>(proposed); i < chances_.size(); ++i) {
    chances_[i].accepted *= kForgetUntried;
    chances_[i].tried *= kForgetUntried;
  }
}

double DraftLength::Acceptance(int64_t i) const {
  // What is known of the position before is what is believed of this one until it is tried.
  double chance = kPrior;
  for (int64_t j = 0; j <= i; ++j) {
    const Chance& seen = chances_[static_cast<size_t>(j)];
    chance = (seen.accepted + kPriorWeight * chance) / (seen.tried + kPriorWeight);
  }
  return chance;
}

double DraftLength::ExpectedTokens(int64_t drafts) const {
  double tokens = 1.0, reached = 1.0;
  for (int64_t i = 0; i < drafts; ++i) {
    reached *= Acceptance(i);
    tokens += reached;
  }
  return tokens;
}

int64_t DraftLength::Choose(const StepCost& cost, const StepCompany& company) {
  const int64_t rows = company.rows + 1;
  const int64_t most = std::min({static_cast<int64_t>(chances_.size()), cost.rows_max() - rows,
                                 2 * cost.rows_measured() - rows});
  if (cost.rows_measured() == 0 || most <= 0) return 0;
  int64_t best = 0;
  double best_rate = 0.0, tokens = company.tokens + 1.0, reached = 1.0;
  for (int64_t drafts = 0; drafts <= most; ++drafts) {
    if (drafts > 0) {
      reached *= Acceptance(drafts - 1);
      tokens += reached;
    }
    const double milliseconds = cost.Milliseconds(rows + drafts) +
                                company.draft_milliseconds * static_cast<double>(drafts);
    const double rate = tokens / milliseconds;
    if (rate > best_rate) {
      best = drafts;
      best_rate = rate;
    }
  }
  if (best > 0) {
    idle_ = 0;
    patience_ = kPatienceMin;
    ++drafting_;
    const bool early = drafting_ >= kPlainFirst && std::has_single_bit(static_cast<uint64_t>(drafting_));
    return early || drafting_ % kPlainEvery == 0 ? 0 : best;
  }
  if (++idle_ < patience_) return 0;
  idle_ = 0;
  patience_ = std::min(2 * patience_, kPatienceMax);
  return 1;
}

}  // namespace lode::runtime
