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

TEST(EnvironmentTest, JsonIsComparedAsValues) {
  const Json task = {{"expected_answer", {{"a", 1}, {"b", {2, "x"}}}}};
  EXPECT_EQ(Reward("json", task, " {\"b\": [2, \"x\"], \"a\": 1}\n"), 1.0);
  for (const char* answer :
       {"{\"a\": 1}", "{\"a\": 1, \"b\": [\"x\", 2]}", "{\"a\": 1, ", "", "1"}) {
    EXPECT_EQ(Reward("json", task, answer), 0.0) << answer;
  }
  EXPECT_EQ(Reward("json", {{"expected_answer", "[1]"}}, "[ 1 ]"), 1.0);
}

TEST(EnvironmentTest, SchemasAreHeldToTheLetter) {
  const Json schema = {{"type", "object"},
                       {"properties",
                        {{"name", {{"type", "string"}, {"maxLength", 3}}},
                         {"age", {{"type", "integer"}, {"minimum", 0}}}}},
                       {"required", {"name", "age"}},
                       {"additionalProperties", false}};
  const Json task = {{"schema", schema}};
  EXPECT_EQ(Reward("json_schema", task, "{\"age\": 7,\n \"name\": \"Eva\"} "), 1.0);
  for (const char* answer :
       {"{\"age\": -7, \"name\": \"Eva\"}", "{\"age\": 7}", "{\"age\": 7, \"name\": \"Evas\"}",
        "{\"age\": 7, \"name\": \"Eva\", \"x\": 1}", "{\"age\": 7, \"name\": \"Eva\"", "",
        "```{\"age\": 7, \"name\": \"Eva\"}```"}) {
    EXPECT_EQ(Reward("json_schema", task, answer), 0.0) << answer;
  }
}

TEST(EnvironmentTest, InstructionsCountEach) {
  const auto rule = [](const char* kind, const char* key, const Json& value, const char* answer) {
    const Json task = {{"constraints", {{{"kind", kind}, {key, value}}}}};
    return Reward("instructions", task, answer);
  };
  EXPECT_EQ(rule("min_words", "count", 3, "one two  three"), 1.0);
  EXPECT_EQ(rule("min_words", "count", 3, "one two"), 0.0);
  EXPECT_EQ(rule("max_words", "count", 2, "one two three"), 0.0);
  EXPECT_EQ(rule("min_sentences", "count", 2, "It is 3.5. Yes!"), 1.0);
  EXPECT_EQ(rule("max_sentences", "count", 1, "It is. Yes!"), 0.0);
  EXPECT_EQ(rule("bullets", "count", 2, "- a\n * b\nc - d"), 1.0);
  EXPECT_EQ(rule("contains", "text", "sea", "the sea"), 1.0);
  EXPECT_EQ(rule("lacks", "text", "sea", "the sea"), 0.0);
  EXPECT_EQ(rule("starts_with", "text", "So", " So be it"), 1.0);
  EXPECT_EQ(rule("ends_with", "text", "it", "So be it."), 0.0);
  EXPECT_EQ(rule("no_capitals", "x", 0, "so, be it"), 1.0);
  EXPECT_EQ(rule("all_capitals", "x", 0, "SO be it"), 0.0);
  EXPECT_EQ(rule("no_commas", "x", 0, ""), 0.0);  // silence
  const Json two = {{"constraints", {{{"kind", "no_commas"}}, {{"kind", "no_capitals"}}}}};
  EXPECT_EQ(Reward("instructions", two, "So it is"), 0.5);
}

TEST(EnvironmentTest, TasksAreCheckedBeforeARun) {
  const Environment& exact = **FindEnvironment("exact");
  const Environment& math = **FindEnvironment("math");
  EXPECT_FALSE(exact.Check({{"expected", "x"}}).ok());
  EXPECT_TRUE(exact.Check({{"expected_answer", "x"}}).ok());
  EXPECT_FALSE(math.Check({{"expected_answer", "x"}}).ok());
  EXPECT_TRUE(math.Check({{"expected_answer", "17"}}).ok());
  EXPECT_FALSE(FindEnvironment("golf").ok());
  const Environment& schema = **FindEnvironment("json_schema");
  EXPECT_FALSE(schema.Check({{"schema", {{"type", "golf"}}}}).ok());
  EXPECT_FALSE(schema.Check(Json::object()).ok());
  const Environment& rules = **FindEnvironment("instructions");
  EXPECT_FALSE(rules.Check({{"constraints", Json::array()}}).ok());
  EXPECT_FALSE(rules.Check({{"constraints", {{{"kind", "golf"}}}}}).ok());
  EXPECT_FALSE(rules.Check({{"constraints", {{{"kind", "min_words"}}}}}).ok());
  EXPECT_FALSE((*FindEnvironment("json"))->Check({{"expected_answer", "{"}}).ok());
}

}  // namespace
}  // namespace lode::tune
