#include "base/json.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace lode {
namespace {

TEST(Json, KeepsTheOrderOfKeys) {
  EXPECT_EQ(DumpJson(ParseJson(R"({"b":1,"a":[true,null]})").value()), R"({"b":1,"a":[true,null]})");
}

TEST(Json, SaysWhereTheTextIsBroken) {
  EXPECT_NE(ParseJson("{\n\"a\": }").error().ToString().find("line 2"), std::string::npos);
  EXPECT_FALSE(ParseJson("").ok());
  EXPECT_FALSE(ParseJson("\xff").ok());
}

TEST(Json, RefusesDepthAndDuplicates) {
  EXPECT_FALSE(ParseJson(std::string(100000, '[')).ok());
  EXPECT_TRUE(ParseJson(R"({"a":"[[[","b":{"a":1}})", {.depth_max = 2}).ok());
  EXPECT_TRUE(ParseJson(R"({"a":1,"a":2})").ok());
  EXPECT_FALSE(ParseJson(R"({"a":1,"a":2})", {.refuse_duplicates = true}).ok());
  EXPECT_TRUE(ParseJson(R"({"x":{"a":1},"a":2})", {.refuse_duplicates = true}).ok());
}

TEST(Json, TheLastOfRepeatedKeysWinsInTheFirstOnesPlace) {
  EXPECT_EQ(DumpJson(ParseJson(R"({"a":1,"b":2,"a":[3],"c":4})").value()),
            R"({"a":[3],"b":2,"c":4})");
}

TEST(Json, AVocabularyOfManyKeysParsesInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += (i ? ",\"token" : "\"token") + std::to_string(i) + "\":" + std::to_string(i);
  text += "}";
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(ParseJson(text).value().size(), 200000u);
  // Quadratic time would be a minute.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(Json, KeepsNumbersOfEveryKind) {
  EXPECT_EQ(DumpJson(ParseJson("[-1,18446744073709551615,1.5,1e3,true,null,\"x\"]").value()),
            "[-1,18446744073709551615,1.5,1000.0,true,null,\"x\"]");
  EXPECT_EQ(DumpJson(ParseJson(" 3 ").value()), "3");
  EXPECT_FALSE(ParseJson("1e999").ok());
  EXPECT_FALSE(ParseJson("{} x").ok());
}

TEST(Json, InvalidUtf8IsReplacedOnOutput) {
  EXPECT_EQ(DumpJson(Json("a\xff")), "\"a\xEF\xBF\xBD\"");
}

TEST(Json, ReadsPythonsBareWordsAsStringsWhenAsked) {
  const std::string text = R"({"a": [0.0, Infinity], "b": -Infinity, "c":NaN, "d \" NaN": "Infinity -3"})";
  EXPECT_FALSE(ParseJson(text).ok());
  const auto json = ParseJson(text, {.python_numbers = true});
  ASSERT_TRUE(json.ok()) << json.error().ToString();
  EXPECT_EQ(DumpJson(*json),
            R"({"a":[0.0,"Infinity"],"b":"-Infinity","c":"NaN","d \" NaN":"Infinity -3"})");
  EXPECT_FALSE(ParseJson("[Infinity3]", {.python_numbers = true}).ok());
  EXPECT_FALSE(ParseJson("[-Infinit]", {.python_numbers = true}).ok());
}

}  // namespace
}  // namespace lode
