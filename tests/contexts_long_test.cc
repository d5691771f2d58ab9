// The grid of contexts at length, for `./dev test --long`: any three levels of its factors meet,
// and random walks of many more requests.
#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "kernels/isa.h"
#include "tests/support/grid.h"
#include "tests/support/serving.h"

namespace lode::runtime {
namespace {

TEST(ContextsAtLength, AnyThreeFactorsHaveTheBitsOfAColdRun) {
  const auto rows = CoveringArray(GridFactors(), 3, 2);
  EXPECT_TRUE(Covers(rows, GridFactors(), 3));
  const Tally all = RunGrid(rows, 1000);
  std::printf("    %zu walks, %lld rows, %lld draws, %lld states\n", rows.size(),
              static_cast<long long>(all.rows), static_cast<long long>(all.draws),
              static_cast<long long>(all.states));
  EXPECT_EQ(all.failed, 0);
}

TEST(ContextsAtLength, AnyTwoFactorsHaveTheBitsOfAColdRunInEveryInstructionSet) {
  const kernels::Isa active = kernels::ActiveIsa();
  for (const kernels::Isa isa : kernels::SupportedIsas()) {
    if (isa == active) continue;  // the normal run's
    SCOPED_TRACE(kernels::Name(isa));
    kernels::ForceIsa(isa);
    EXPECT_EQ(RunGrid(CoveringArray(GridFactors(), 2, 3), 500).failed, 0);
  }
  kernels::ForceIsa(active);
}

TEST(ContextsAtLength, LongWalksOfAnyLevelsHaveTheBitsOfAColdRun) {
  for (const GridSubject& subject : kSubjects) {
    const auto model = LoadGolden(subject.path);
    ASSERT_NE(model, nullptr);
    Oracle oracle(*model, subject.numerics);
    SavedForms saved(*model, subject);
    for (const uint32_t seed : Seeds(6)) {
      const Replayable replay(seed);
      std::mt19937 random(seed);
      std::vector<int> row;
      for (const Factor& factor : GridFactors()) {
        row.push_back(static_cast<int>(random() % factor.levels.size()));
      }
      row[0] = static_cast<int>(&subject - kSubjects);
      SCOPED_TRACE(Describe(row));
      Setting setting = SettingOf(row);
      setting.requests = 150;
      const Tally tally = Walk(*model, subject.numerics, setting, seed, &oracle, &saved);
      EXPECT_EQ(tally.errors(), 0) << "of " << tally.rows;
      EXPECT_EQ(tally.failed, 0);
    }
  }
}

}  // namespace
}  // namespace lode::runtime
