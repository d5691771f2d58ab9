// Advantages against their definitions, slopes against differences of the loss.
#include "tune/rl/policy_loss.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lode::tune {
namespace {

TEST(PolicyLossTest, AnAnswerIsMeasuredByTheOthersOfItsGroup) {
  const std::vector<double> rewards = {1.0, 0.0, 0.0, 1.0, 0.5};
  PolicyOptions options;
  options.divide_by_deviation = false;
  const std::vector<double> others = Advantages(rewards, options);
  EXPECT_DOUBLE_EQ(others[0], 1.0 - 1.5 / 4);
  EXPECT_DOUBLE_EQ(others[1], -2.5 / 4);
  options.baseline = Baseline::kMean;
  const std::vector<double> mean = Advantages(rewards, options);
  EXPECT_DOUBLE_EQ(mean[0], 0.5);
  options.divide_by_deviation = true;  // sample deviation: sqrt(1 / 4)
  EXPECT_DOUBLE_EQ(Advantages(rewards, options)[0], 1.0);
  options.advantage_max = 0.25;
  EXPECT_DOUBLE_EQ(Advantages(rewards, options)[1], -0.25);
}

TEST(PolicyLossTest, AGroupOfOneOpinionTeachesNothing) {
  for (const double advantage : Advantages(std::vector<double>{0.3, 0.3, 0.3}, {})) {
    EXPECT_EQ(advantage, 0.0);
  }
  EXPECT_EQ(Advantages(std::vector<double>{1.0}, {})[0], 0.0);
}

TEST(PolicyLossTest, SlopesAreThoseOfTheLoss) {
  int clipped = 0;
  for (const Correction correction :
       {Correction::kNone, Correction::kTruncate, Correction::kMask}) {
    for (const double advantage : {-1.5, 0.7}) {
      for (const double now : {-2.0, -1.01, -0.99, -0.3}) {
        for (const double sampled : {-1.0, -2.5}) {
          PolicyOptions options;
          options.correction = correction;
          options.kl = 0.1;
          const TokenLogProbs p = {now, -1.0, sampled, -1.2};
          TokenLogProbs up = p, down = p;
          up.now += 1e-6;
          down.now -= 1e-6;
          const TokenLoss loss = PolicyLoss(p, advantage, options);
          const double slope = (PolicyLoss(up, advantage, options).loss -
                                PolicyLoss(down, advantage, options).loss) /
                               2e-6;
          EXPECT_NEAR(loss.slope, slope, 1e-7) << advantage << " " << now;
          clipped += loss.clipped ? 1 : 0;
        }
      }
    }
  }
  EXPECT_GT(clipped, 0);
}

TEST(PolicyLossTest, OnlyStepsThatWentTooFarAreClipped) {
  PolicyOptions options;
  const auto at = [&](double ratio, double advantage) {
    return PolicyLoss({std::log(ratio), 0.0, 0.0}, advantage, options);
  };
  EXPECT_FALSE(at(1.27, 1.0).clipped);
  EXPECT_TRUE(at(1.29, 1.0).clipped);
  EXPECT_FALSE(at(0.5, 1.0).clipped);  // a good token that became rarer is pulled back
  EXPECT_TRUE(at(0.79, -1.0).clipped);
  EXPECT_FALSE(at(0.81, -1.0).clipped);
  EXPECT_FALSE(at(3.0, -1.0).clipped);
  EXPECT_DOUBLE_EQ(at(1.0, 2.0).slope, -2.0);
}

TEST(PolicyLossTest, AnswersOfOlderWeightsCountByTheirRatio) {
  PolicyOptions options;
  options.correction = Correction::kTruncate;
  EXPECT_NEAR(PolicyLoss({0.0, 0.0, std::log(0.8)}, 1.0, options).slope, -1.25, 1e-12);
  EXPECT_NEAR(PolicyLoss({0.0, 0.0, std::log(0.1)}, 1.0, options).slope, -2.0, 1e-12);
  options.correction = Correction::kMask;
  const TokenLoss masked = PolicyLoss({0.0, 0.0, std::log(0.1)}, 1.0, options);
  EXPECT_TRUE(masked.masked);
  EXPECT_EQ(masked.slope, 0.0);
}

}  // namespace
}  // namespace lode::tune
