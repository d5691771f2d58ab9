#include <gtest/gtest.h>

#include "base/text.h"
#include "hub/pull.h"

namespace lode::hub {
namespace {

TEST(ProgressLine, SaysHowMuchHowFastAndHowLong) {
  PullProgress progress;
  progress.bytes_done = 500'000'000;
  progress.bytes_total = 2'000'000'000;
  progress.bytes_per_second = 50e6;
  progress.seconds_left = 30;
  progress.files_done = 1;
  progress.files_total = 3;
  EXPECT_EQ(ProgressLine(progress, 0), " 25% [#####...............]  " +
                                           HumanBytes(progress.bytes_done) + " of " +
                                           HumanBytes(progress.bytes_total) + "  " +
                                           HumanBytes(50'000'000) + "/s  0:30 left  file 2 of 3");
  EXPECT_EQ(ProgressLine(progress, 12), " 25% [#####.");
  progress.seconds_left = 3661;
  EXPECT_NE(ProgressLine(progress, 0).find("1:01:01 left"), std::string::npos);
  progress.seconds_left = -1;
  EXPECT_EQ(ProgressLine(progress, 0).find("left"), std::string::npos);
}

TEST(ProgressLine, SaysWhyItWaits) {
  PullProgress progress;
  progress.note = "waiting 5 s: busy";
  EXPECT_EQ(ProgressLine(progress, 0), "waiting 5 s: busy");
}

}  // namespace
}  // namespace lode::hub
