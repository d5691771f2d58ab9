#include "base/json.h"

#include <gtest/gtest.h>

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

TEST(Json, InvalidUtf8IsReplacedOnOutput) {
  EXPECT_EQ(DumpJson(Json("a\xff")), "\"a\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace lode
