#include "tune/data/example.h"

#include <gtest/gtest.h>

namespace lode::tune {
namespace {

double SumOf(const std::vector<std::vector<std::vector<float>>>& all) {
  double sum = 0;
  for (const auto& bin : all) {
    for (const auto& example : bin) {
      for (const float c : example) sum += c;
    }
  }
  return sum;
}

const Bin kLong = {{{1, 2, 3, 4, 5}, {1, 0, 1, 1, 1}}};  // the first label is never predicted
const Bin kShort = {{{6, 7}, {0, 1}}, {{8, 9}, {0, 0}}};

TEST(Example, TheTokenMeanCountsEveryLabelOfTheStepAlikeHoweverItIsCut) {
  const std::vector<Bin> step = {kLong, kShort};
  const auto all = Coefficients(step, LossMean::kToken);
  EXPECT_FLOAT_EQ(all[0][0][2], 0.25f);
  EXPECT_FLOAT_EQ(all[1][0][1], 0.25f);
  EXPECT_EQ(all[0][0][0], 0.0f);
  EXPECT_EQ(all[1][1][1], 0.0f);
  const std::vector<Bin> one_bin = {{kLong[0], kShort[0], kShort[1]}};
  EXPECT_EQ(Coefficients(one_bin, LossMean::kToken)[0][0], all[0][0]);
  EXPECT_NEAR(SumOf(all), 1.0, 1e-6);
}

TEST(Example, TheSampleMeanCountsAShortAnswerAsMuchAsALongOne) {
  const std::vector<Bin> step = {kLong, kShort};
  const auto all = Coefficients(step, LossMean::kSample);
  EXPECT_FLOAT_EQ(all[0][0][2], 1.0f / 6);
  EXPECT_FLOAT_EQ(all[1][0][1], 0.5f);
  EXPECT_NEAR(SumOf(all), 1.0, 1e-6);
}

TEST(Example, WeightsOfAPartCountInProportion) {
  const std::vector<Bin> step = {{{{1, 2, 3}, {0, 0.5f, 1}}}};
  const auto all = Coefficients(step, LossMean::kToken);
  EXPECT_FLOAT_EQ(all[0][0][1] * 2, all[0][0][2]);
  EXPECT_NEAR(SumOf(all), 1.0, 1e-6);
}

TEST(Example, RowsAreShiftedOnce) {
  const std::vector<Bin> step = {{{{1, 2, 3}, {0, 0, 1}}}};
  const auto all = Coefficients(step, LossMean::kToken);
  const Rows rows = RowsOf(step[0][0], all[0][0]);
  EXPECT_EQ(rows.tokens, (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(rows.targets, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(rows.coefficients, (std::vector<float>{0, 1}));
  EXPECT_EQ(CountRows(step[0][0]), 2);
  EXPECT_EQ(CountSupervised(step[0][0]), 1);
}

TEST(Example, AStepWithoutLabelsTeachesNothing) {
  const std::vector<Bin> step = {{{{1, 2}, {1, 0}}, {}}};
  const auto all = Coefficients(step, LossMean::kSample);
  EXPECT_EQ(SumOf(all), 0);
  EXPECT_TRUE(RowsOf(step[0][1], all[0][1]).tokens.empty());
}

TEST(Example, AnUnknownMeanIsNamed) {
  EXPECT_FALSE(ParseLossMean("tokens").ok());
  EXPECT_TRUE(ParseLossMean("sample").ok());
}

}  // namespace
}  // namespace lode::tune
