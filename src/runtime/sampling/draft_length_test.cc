#include "runtime/sampling/draft_length.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <vector>

namespace lode::runtime {
namespace {

TEST(StepCost, IsInterpolatedBetweenWhatWasMeasured) {
  StepCost cost(16);
  EXPECT_EQ(cost.Milliseconds(1), 0.0);
  cost.Observe(2, 10.0);
  EXPECT_EQ(cost.Milliseconds(1), 10.0);
  EXPECT_EQ(cost.Milliseconds(16), 10.0);
  cost.Observe(6, 30.0);
  EXPECT_EQ(cost.Milliseconds(3), 15.0);
  EXPECT_EQ(cost.rows_measured(), 6);
  cost.Observe(17, 1.0);  // outside: nothing
  cost.Observe(0, 1.0);
  EXPECT_EQ(cost.rows_measured(), 6);
}

TEST(StepCost, AnOutlierCountsLittleAndAChangeIsFollowed) {
  StepCost cost(4);
  for (int i = 0; i < 50; ++i) cost.Observe(1, 10.0);
  cost.Observe(1, 5000.0);
  EXPECT_LT(cost.Milliseconds(1), 12.1);
  for (int i = 0; i < 60; ++i) cost.Observe(1, 20.0);
  EXPECT_NEAR(cost.Milliseconds(1), 20.0, 0.1);
}

TEST(DraftLength, LearnsTheChanceOfEachPosition) {
  DraftLength length(3);
  for (int i = 0; i < 600; ++i) length.Observe(3, i % 4 == 0 ? 0 : i % 2 == 0 ? 1 : 3);
  // First: 3 of 4. Second, when the first stands: 2 of 3. Third: always.
  EXPECT_NEAR(length.Acceptance(0), 0.75, 0.03);
  EXPECT_NEAR(length.Acceptance(1), 0.67, 0.03);
  EXPECT_GT(length.Acceptance(2), 0.97);
  EXPECT_NEAR(length.ExpectedTokens(3), 1 + 0.75 + 0.5 + 0.5, 0.1);
}

// Tokens a millisecond over `steps` steps on a machine with such costs, where each draft is
// accepted with `chance`; with `fixed` drafts in every step, or (below 0) as DraftLength chooses.
double Rate(const std::function<double(int64_t)>& milliseconds, double chance, int64_t fixed,
            int steps, int64_t length_max, int64_t* last = nullptr) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> uniform;
  StepCost cost(32);
  DraftLength length(length_max);
  double tokens = 0, time = 0;
  for (int i = 0; i < steps; ++i) {
    const int64_t drafts = fixed >= 0 ? fixed : length.Choose(cost);
    int64_t accepted = 0;
    while (accepted < drafts && uniform(random) < chance) ++accepted;
    const double noise = 0.95 + 0.1 * uniform(random);
    cost.Observe(1 + drafts, milliseconds(1 + drafts) * noise);
    if (drafts > 0) length.Observe(drafts, accepted);
    tokens += 1 + static_cast<double>(accepted);
    time += milliseconds(1 + drafts);
    if (last != nullptr) *last = drafts;
  }
  return tokens / time;
}

TEST(DraftLength, ComesCloseToTheBestFixedLength) {
  const std::function<double(int64_t)> machines[] = {
      [](int64_t rows) { return 30.0 + 1.0 * static_cast<double>(rows); },   // bound by weights
      [](int64_t rows) { return 20.0 + 6.0 * static_cast<double>(rows); },   // experts add up
      [](int64_t rows) { return 5.0 + 20.0 * static_cast<double>(rows); },   // bound by arithmetic
      [](int64_t rows) { return rows <= 4 ? 30.0 : 60.0; }};                 // a tile of four rows
  for (const auto& machine : machines) {
    for (const double chance : {0.0, 0.2, 0.5, 0.7, 0.9, 1.0}) {
      double best = 0;
      for (int64_t fixed = 0; fixed <= 8; ++fixed)
        best = std::max(best, Rate(machine, chance, fixed, 4000, 8));
      EXPECT_GT(Rate(machine, chance, -1, 4000, 8), 0.95 * best)
          << "chance " << chance << ", a row takes " << machine(1) << ", five " << machine(5);
    }
  }
}

TEST(DraftLength, DraftsNothingWhereItDoesNotPayButTriesNowAndThen) {
  const auto machine = [](int64_t rows) { return 10.0 * static_cast<double>(rows); };
  StepCost cost(16);
  DraftLength length(4);
  int drafted = 0, late = 0;
  for (int i = 0; i < 4000; ++i) {
    const int64_t drafts = length.Choose(cost);
    cost.Observe(1 + drafts, machine(1 + drafts));
    if (drafts > 0) length.Observe(drafts, 0);
    drafted += drafts > 0;
    late += drafts > 0 && i > 2000;
  }
  EXPECT_LT(drafted, 20);
  EXPECT_GT(late, 0);
  EXPECT_LT(late, 5);
}

TEST(DraftLength, NoticesThatDraftsPayAgain) {
  StepCost cost(16);
  DraftLength length(4);
  const auto run = [&](int steps, bool good) {
    int64_t drafts = 0;
    for (int i = 0; i < steps; ++i) {
      drafts = length.Choose(cost);
      cost.Observe(1 + drafts, 30.0 + static_cast<double>(drafts));
      if (drafts > 0) length.Observe(drafts, good ? drafts : 0);
    }
    return drafts;
  };
  EXPECT_EQ(run(200, true), 4);
  EXPECT_LE(run(500, false), 1);
  EXPECT_EQ(run(3000, true), 4);
}

TEST(DraftLength, CompanyAndTheCostOfDraftsCount) {
  StepCost cost(64);
  // Up to 16 rows cost the same, then each as much again.
  for (int64_t rows = 1; rows <= 40; ++rows)
    cost.Observe(rows, rows <= 16 ? 32.0 : 32.0 + 8.0 * static_cast<double>(rows - 16));
  DraftLength length(4);
  for (int i = 0; i < 200; ++i) length.Observe(4, 4);
  EXPECT_EQ(length.Choose(cost), 4);
  EXPECT_EQ(length.Choose(cost, {.rows = 13, .tokens = 13.0}), 2);
  EXPECT_EQ(length.Choose(cost, {.rows = 20, .tokens = 20.0}), 0);
  EXPECT_EQ(length.Choose(cost, {.draft_milliseconds = 100.0}), 0);
}

TEST(DraftLength, NothingIsTriedBeforeAPlainStepWasMeasured) {
  DraftLength length(8);
  StepCost cost(16);
  EXPECT_EQ(length.Choose(cost), 0);
  cost.Observe(1, 10.0);
  EXPECT_EQ(length.Choose(cost), 1);  // at most twice the rows that were measured
  cost.Observe(2, 10.0);
  EXPECT_EQ(length.Choose(cost), 3);
  EXPECT_EQ(DraftLength(0).Choose(cost), 0);
}

}  // namespace
}  // namespace lode::runtime
