// The histories of `lode selftest` on a tiny model: all the same, and red for mistakes that a test
// plants.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "api/open.h"
#include "cli/selftest_contexts.h"

namespace lode::cli {
namespace {

using runtime::Fault;

class SelftestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto source = api::OpenSource(std::string(LODE_SOURCE_DIR) + "/tests/golden/moe-nano");
    ASSERT_TRUE(source.ok());
    api::RunOptions options;
    options.threads = 2;
    options.pack = false;
    auto running = api::Run(*source, options);
    ASSERT_TRUE(running.ok());
    running_ = std::move(*running);
    for (int32_t i = 0; i < 560; ++i) prompt_.push_back((i * i + 7 * i) % 97);
  }
  // Cells with other bits, of so many.
  std::pair<int, int> Red(Fault fault) {
    running_.options.fault = fault;
    int red = 0;
    const auto cells = CompareHistories(running_, prompt_, 2, [&](const HistoryCell& cell) {
      red += cell.different > 0;
      return true;
    });
    EXPECT_TRUE(cells.ok()) << cells.error().ToString();
    return {red, cells.ok() ? static_cast<int>(cells->size()) : 0};
  }

  api::Running running_;
  std::vector<int32_t> prompt_;
};

TEST_F(SelftestTest, EveryHistoryGivesTheSameBits) {
  const auto [red, cells] = Red(Fault::kNone);
  EXPECT_EQ(red, 0);
  EXPECT_EQ(cells, 14);
}

TEST_F(SelftestTest, PlantedFaultsAreSeen) {
  for (const Fault fault :
       {Fault::kWriteSharedPage, Fault::kWriteSharedSlot, Fault::kReadTargetSlot,
        Fault::kPositionTooSmall, Fault::kSwapPages, Fault::kSkipReplay, Fault::kMixSlots}) {
    EXPECT_GT(Red(fault).first, 0) << "fault " << static_cast<int>(fault);
  }
}

}  // namespace
}  // namespace lode::cli
