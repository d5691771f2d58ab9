// Verdicts on answers as models write them.
#include "tune/rl/environment.h"

#include <gtest/gtest.h>

namespace lode::tune {
namespace {

double Reward(const char* environment, const Json& task, const char* answer) {
  const Verdict verdict = (*FindEnvironment(environment))->Judge(task, answer);
  EXPECT_TRUE(verdict.valid);
  return verdict.reward;
}

TEST(EnvironmentTest, ExactComparesTextsButForBlanksAround) {
  const Json task = {{"expected_answer", "Rome"}};
  EXPECT_EQ(Reward("exact", task, " Rome\n"), 1.0);
  EXPECT_EQ(Reward("exact", task, "rome"), 0.0);
  EXPECT_EQ(Reward("exact", task, "Rome."), 0.0);
  EXPECT_EQ(Reward("exact", {{"answer", 12}}, "12"), 1.0);
}

TEST(EnvironmentTest, MathComparesNumbersAsFractions) {
  const Json half = {{"expected_answer", "1/2"}};
  for (const char* answer : {"0.5", ".50", "50%", "so it is 2/4", "\\boxed{0.5}", "#### 0.5",
                             "first 7, then \\boxed{ 1/2 }, not 9"}) {
    EXPECT_EQ(Reward("math", half, answer), 1.0) << answer;
  }
  for (const char* answer : {"", "none", "0.51", "-0.5", "1/2 or 3", "\\boxed{x}", "\\boxed{0.5"}) {
    EXPECT_EQ(Reward("math", half, answer), 0.0) << answer;
  }
  const Json large = {{"expected_answer", "The answer is #### 1,234,567"}};
  EXPECT_EQ(Reward("math", large, "It costs $1234567."), 1.0);
  EXPECT_EQ(Reward("math", {{"expected_answer", -3}}, "x = -3"), 1.0);
}

TEST(EnvironmentTest, NumbersThatNoMachineHoldsAreNone) {
  EXPECT_EQ(ParseFraction("99999999999999999999"), std::nullopt);
  EXPECT_EQ(ParseFraction("1/0"), std::nullopt);
  EXPECT_EQ(ParseFraction("1e5"), std::nullopt);
  EXPECT_EQ(ParseFraction("--1"), std::nullopt);
  EXPECT_EQ(ParseFraction(","), std::nullopt);
  EXPECT_EQ(ParseFraction("6/4"), (Fraction{3, 2}));
  EXPECT_EQ(ParseFraction("-0.25"), (Fraction{-1, 4}));
  EXPECT_EQ(ParseFraction("0"), (Fraction{0, 1}));
}

TEST(EnvironmentTest, TasksAreCheckedBeforeARun) {
  const Environment& exact = **FindEnvironment("exact");
  const Environment& math = **FindEnvironment("math");
  EXPECT_FALSE(exact.Check({{"expected", "x"}}).ok());
  EXPECT_TRUE(exact.Check({{"expected_answer", "x"}}).ok());
  EXPECT_FALSE(math.Check({{"expected_answer", "x"}}).ok());
  EXPECT_TRUE(math.Check({{"expected_answer", "17"}}).ok());
  EXPECT_FALSE(FindEnvironment("golf").ok());
}

}  // namespace
}  // namespace lode::tune
