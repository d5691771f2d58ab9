#include "base/utf8.h"

#include <gtest/gtest.h>

namespace lode {
namespace {

TEST(Utf8, RoundTripsEveryCodePoint) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(c, &text);
    const DecodedChar decoded = DecodeUtf8(text, 0);
    ASSERT_TRUE(decoded.valid);
    ASSERT_EQ(decoded.code_point, c);
    ASSERT_EQ(static_cast<size_t>(decoded.bytes), text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(IncompleteUtf8Suffix("x" + text.substr(0, cut)), cut);
    }
    ASSERT_EQ(IncompleteUtf8Suffix(text), 0u);
  }
}

TEST(Utf8, ReplacesMaximalSubparts) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(ReplaceInvalidUtf8("a\xff" "b"), "a" + r + "b");
  EXPECT_EQ(ReplaceInvalidUtf8("\xF0\x9F\x98"), r);           // one truncated emoji
  EXPECT_EQ(ReplaceInvalidUtf8("\xE0\x80\x80"), r + r + r);   // overlong
  EXPECT_EQ(ReplaceInvalidUtf8("\xED\xA0\x80"), r + r + r);   // a surrogate
  EXPECT_EQ(ReplaceInvalidUtf8("\xF1\x80\x41"), r + "A");
  EXPECT_FALSE(IsValidUtf8("\xC0\x80"));
  EXPECT_EQ(IncompleteUtf8Suffix("\xE0\x80"), 0u);  // can never become valid
}

}  // namespace
}  // namespace lode
