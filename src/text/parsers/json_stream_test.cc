#include "text/parsers/json_stream.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace lode::text {
namespace {

std::string Through(std::string_view text, bool* whole = nullptr) {
  JsonStream stream;
  std::string out;
  size_t consumed = 0;
  const JsonStream::Status status = stream.Push(text, &out, &consumed);
  const bool closed = stream.Close(&out);
  if (whole != nullptr) *whole = closed && status != JsonStream::Status::kBroken;
  return out;
}

TEST(JsonStream, PassesJsonOnWithoutItsWhiteSpace) {
  EXPECT_EQ(Through(R"( { "a" : [ 1 , -2.5e3 , true ] , "b c" : { } , "d" : " x " } )"),
            R"({"a":[1,-2.5e3,true],"b c":{},"d":" x "})");
  EXPECT_EQ(Through("[]"), "[]");
  EXPECT_EQ(Through("\"x\""), "\"x\"");
  EXPECT_EQ(Through("12"), "12");
}

TEST(JsonStream, IsStrictJsonWhereverItIsCutOff) {
  const std::string text =
      R"({"a": [1, 20, {"b": null}], "c\n\u00e9": "x\ud83d\ude00 \" \u0041", )"
      R"("d": {"e": [[], {}]}, "f": -1e5})";
  bool whole = false;
  for (size_t cut = 1; cut <= text.size(); ++cut) {
    const std::string out = Through(std::string_view(text).substr(0, cut), &whole);
    EXPECT_TRUE(ParseJson(out).ok()) << out;
    EXPECT_EQ(whole, cut == text.size());
  }
}

TEST(JsonStream, GivesTextOutAtOnce) {
  JsonStream stream;
  std::string out;
  size_t consumed = 0;
  for (const char c : std::string_view(R"({"path": "a)")) {
    EXPECT_EQ(stream.Push(std::string_view(&c, 1), &out, &consumed), JsonStream::Status::kMore);
  }
  EXPECT_EQ(out, R"({"path":"a)");
}

TEST(JsonStream, StopsBeforeTheByteThatCannotStandThere) {
  for (const auto& [text, at] : std::vector<std::pair<std::string, size_t>>{
           {"{\"a\" 1}", 5}, {"{\"a\":]}", 5}, {"[1 2]", 3}, {"{a:1}", 1}, {"[}", 1}, {"<", 0}}) {
    JsonStream stream;
    std::string out;
    size_t consumed = 0;
    EXPECT_EQ(stream.Push(text, &out, &consumed), JsonStream::Status::kBroken) << text;
    EXPECT_EQ(consumed, at) << text;
  }
}

TEST(JsonStream, RefusesNestingThatIsTooDeepAndWordsThatAreTooLong) {
  JsonStream deep;
  std::string out;
  size_t consumed = 0;
  EXPECT_EQ(deep.Push(std::string(1000, '['), &out, &consumed), JsonStream::Status::kBroken);
  deep.Close(&out);
  EXPECT_TRUE(ParseJson(out).ok());
  JsonStream longest;
  EXPECT_EQ(longest.Push("[" + std::string(100'000, '1'), &out, &consumed),
            JsonStream::Status::kBroken);
  EXPECT_LE(longest.pending_bytes(), JsonStream::kWordBytesMax + 4);
}

}  // namespace
}  // namespace lode::text
