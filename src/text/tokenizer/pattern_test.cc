// The hand-written matchers and PCRE2 on the same expressions must agree; both are also compared with
// the reference by tokenizer_test.cc.
#include "text/tokenizer/pattern.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/text.h"
#include "base/utf8.h"
#include "text/tokenizer/regex.h"

namespace lode::text {
namespace {

std::vector<std::string> Cut(Pattern pattern, std::string_view text) {
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t end = MatchEnd(pattern, text, at);
    if (end <= at || end > text.size()) {
      ADD_FAILURE() << "no progress at " << at << " of " << Quote(text);
      break;
    }
    pieces.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}

std::vector<std::string> Cut(const Regex& regex, std::string_view text) {
  std::vector<Span> spans;
  EXPECT_TRUE(regex.Split(text, &spans).ok());
  std::vector<std::string> pieces;
  for (const Span& span : spans) {
    EXPECT_TRUE(span.is_match);
    pieces.emplace_back(text.substr(span.begin, span.end - span.begin));
  }
  return pieces;
}

// Characters of every class that the patterns tell apart.
constexpr char32_t kAlphabet[] = {
    U'a', U's', U'T', U'l', U'L', U'e', U'R', U'v', U'\'', U'\u017F', U' ',  U' ',     U'\t',
    U'\n', U'\r', U'\u00A0', U'\u2028', U'1', U'2', U'\u0663', U'\u00BD', U'!', U'/',  U'.',
    U'\u00E9', U'\u00C9', U'\u01C5', U'\u02B0', U'\u4E2D', U'\u0301', U'\u0903', U'\u20DD',
    U'\U0001F999', U'\U00010400', U'\U00010428', U'\U0001D7D8', U'\u200B', U'\uFFFD'};

TEST(Pattern, AgreesWithTheExpressionOnRandomText) {
  for (const Pattern pattern : {Pattern::kGpt2, Pattern::kLlama3, Pattern::kQwen2, Pattern::kQwen35,
                                Pattern::kTekken, Pattern::kO200k}) {
    SCOPED_TRACE(std::string(PatternRegex(pattern)));
    EXPECT_EQ(RecognisePattern(PatternRegex(pattern)), pattern);
    const Result<std::unique_ptr<Regex>> regex = Regex::Compile(PatternRegex(pattern));
    ASSERT_TRUE(regex.ok()) << regex.error().ToString();
    uint32_t random = 7;
    for (int round = 0; round < 20000; ++round) {
      std::string text;
      for (uint32_t i = 0; i < 1 + static_cast<uint32_t>(round) % 14; ++i) {
        random = random * 1664525 + 1013904223;
        AppendUtf8(kAlphabet[(random >> 10) % std::size(kAlphabet)], &text);
      }
      ASSERT_EQ(Cut(pattern, text), Cut(**regex, text)) << Quote(text);
    }
  }
}

TEST(Pattern, TakesLinearTimeOnRuns) {
  for (const Pattern pattern : {Pattern::kGpt2, Pattern::kLlama3, Pattern::kQwen2, Pattern::kQwen35,
                                Pattern::kTekken, Pattern::kO200k}) {
    for (const char* unit : {"a", "A", "aA", " ", "\n", " \n", "1", "!", "'", "\u4E2D", "\u4E2DA",
                             "\u0301", "' ", "/\n"}) {
      std::string text;
      while (text.size() < 1000000) text += unit;
      size_t total = 0;
      for (const std::string& piece : Cut(pattern, text)) total += piece.size();
      EXPECT_EQ(total, text.size());
    }
  }
}

TEST(Regex, TranslatesWhatOnigurumaReadsDifferently) {
  const auto matches = [](const char* pattern, const char* text) {
    const Result<std::unique_ptr<Regex>> regex = Regex::Compile(pattern);
    EXPECT_TRUE(regex.ok()) << pattern;
    std::vector<Span> spans;
    EXPECT_TRUE((*regex)->Split(text, &spans).ok());
    std::vector<std::string> found;
    for (const Span& span : spans) {
      if (span.is_match) found.emplace_back(std::string(text).substr(span.begin, span.end - span.begin));
    }
    return found;
  };
  using Strings = std::vector<std::string>;
  EXPECT_EQ(matches(R"(\s)", "a\u180Eb\u0085c"), (Strings{"\u0085"}));
  EXPECT_EQ(matches(R"([\s-]+)", "a - b"), (Strings{" - "}));
  EXPECT_EQ(matches(R"(\w+)", "e\u0301\u200Dx!"), (Strings{"e\u0301", "x"}));
  EXPECT_EQ(matches(R"(\h+)", "xfF0g"), (Strings{"fF0"}));
  EXPECT_EQ(matches(R"([\]\[]+)", "a[]b"), (Strings{"[]"}));
  EXPECT_EQ(matches("(?m:a.)", "a\n"), (Strings{"a\n"}));
  EXPECT_EQ(matches("^b", "a\nb"), (Strings{"b"}));
  EXPECT_EQ(matches("x*", "axxb"), (Strings{"", "xx", ""}));
}

TEST(Regex, RefusesWhatItCannotTranslate) {
  for (const char* pattern : {"[a-z&&[aeiou]]", "[a[bc]]", "a{2,3}+", R"([\W])", "(", "[", "a\\"}) {
    EXPECT_FALSE(Regex::Compile(pattern).ok()) << pattern;
  }
}

TEST(Regex, GivesUpOnCatastrophicBacktracking) {
  const Result<std::unique_ptr<Regex>> regex = Regex::Compile("(a+)+(?=b|c)");
  ASSERT_TRUE(regex.ok());
  std::vector<Span> spans;
  const Result<void> cut = (*regex)->Split(std::string(100, 'a'), &spans);
  ASSERT_FALSE(cut.ok());
  EXPECT_EQ(cut.error().code(), Code::kNoSpace);
}

}  // namespace
}  // namespace lode::text
