#include "chat/stop_strings.h"

#include <gtest/gtest.h>

namespace lode::chat {
namespace {

struct Cut {
  std::string text;
  std::string match;
};

// Pushes `text` in two pieces.
Cut Push(const std::string& text, size_t at, const std::vector<std::string>& stops,
         bool include = false) {
  StopStrings matcher(stops, include);
  Cut cut;
  for (const std::string& piece : {text.substr(0, at), text.substr(at)}) {
    if (const auto match = matcher.Push(piece, &cut.text)) cut.match = *match;
  }
  if (cut.match.empty()) matcher.Flush(&cut.text);
  return cut;
}

TEST(StopStrings, TheMatchDoesNotDependOnTheCut) {
  struct Case {
    std::string text;
    std::vector<std::string> stops;
    std::string before, match;
  };
  const std::vector<Case> cases = {
      {"abcdef", {"cd"}, "ab", "cd"},
      {"aaab", {"aab"}, "a", "aab"},
      {"xabcabd", {"abd", "abcabe"}, "xabc", "abd"},
      {"abc", {"b", "abc"}, "a", "b"},     // complete first
      {"zabc", {"c", "abc"}, "z", "abc"},  // both end at one place: the longest
      {"nothing here", {"none"}, "nothing here", ""},
      {"ends with no", {"none"}, "ends with no", ""},
      {"ü☃x", {"☃"}, "ü", "☃"},
      {"text", {""}, "text", ""},
      {"text", {}, "text", ""},
  };
  for (const Case& one : cases) {
    for (size_t at = 0; at <= one.text.size(); ++at) {
      const Cut cut = Push(one.text, at, one.stops);
      EXPECT_EQ(cut.text, one.before) << one.text << " cut at " << at;
      EXPECT_EQ(cut.match, one.match) << one.text << " cut at " << at;
    }
  }
}

TEST(StopStrings, TheMatchIsPartOfTheTextWhenAskedFor) {
  EXPECT_EQ(Push("abcdef", 3, {"cd"}, true).text, "abcd");
}

TEST(StopStrings, NothingIsHeldThatCannotBecomeAMatch) {
  StopStrings matcher({"END"}, false);
  std::string out;
  EXPECT_FALSE(matcher.Push("text E", &out));
  EXPECT_EQ(out, "text ");
  EXPECT_EQ(matcher.held(), 1u);
  EXPECT_FALSE(matcher.Push("xtra", &out));
  EXPECT_EQ(out, "text Extra");
}

}  // namespace
}  // namespace lode::chat
