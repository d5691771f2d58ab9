#include "text/tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "text/tokenizer/json_scan.h"

namespace lode::text {
namespace {

// Merges by the definition: again and again the lowest rank, leftmost first, over the whole list.
std::vector<std::string> MergeByDefinition(
    const std::string& text, const std::vector<std::pair<std::string, std::string>>& merges) {
  std::vector<std::string> parts;
  for (const char c : text) parts.emplace_back(1, c);
  while (true) {
    size_t best_rank = merges.size();
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank].first == parts[i] && merges[rank].second == parts[i + 1]) {
          best_rank = rank;
          best_at = i;
        }
      }
    }
    if (best_rank == merges.size()) return parts;
    parts[best_at] += parts[best_at + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(best_at) + 1);
  }
}

TEST(Bpe, MergesShortAndLongPiecesAsTheDefinitionDoes) {
  const std::vector<std::pair<std::string, std::string>> merges = {
      {"a", "b"}, {"b", "a"}, {"a", "a"}, {"ab", "ab"}, {"aa", "b"}, {"b", "b"},
      {"aa", "aa"}, {"ab", "a"}, {"c", "ab"}, {"abab", "c"}, {"cab", "ab"}, {"bb", "aa"}};
  std::vector<std::string> tokens = {"a", "b", "c"};
  for (const auto& [left, right] : merges) {
    if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) {
      tokens.push_back(left + right);
    }
  }
  Vocabulary vocabulary;
  for (size_t i = 0; i < tokens.size(); ++i) vocabulary.Add(tokens[i], static_cast<int64_t>(i));
  ASSERT_TRUE(vocabulary.Finish().ok());
  const std::vector<std::pair<std::string_view, std::string_view>> views(merges.begin(),
                                                                         merges.end());
  const Result<Bpe> bpe = Bpe::Create(std::move(vocabulary), views, {});
  ASSERT_TRUE(bpe.ok()) << bpe.error().ToString();
  BpeScratch scratch;
  uint32_t random = 3;
  for (size_t length = 1; length < 200; ++length) {
    for (int round = 0; round < 20; ++round) {
      std::string text;
      for (size_t i = 0; i < length; ++i) {
        random = random * 1664525 + 1013904223;
        text += "aabbabc"[(random >> 16) % 7];
      }
      std::vector<int32_t> ids;
      ASSERT_TRUE(bpe->Encode(text, false, true, &scratch, &ids).ok());
      std::vector<std::string> parts;
      for (const int32_t id : ids) parts.emplace_back(bpe->vocabulary().Token(id));
      ASSERT_EQ(parts, MergeByDefinition(text, merges)) << text;
      std::vector<int32_t> cached;
      if (Bpe::EncodeCached(text, true, scratch, &cached)) {
        EXPECT_EQ(cached, ids);
      }
    }
  }
}

TEST(JsonScanner, ReadsStringsWithEveryEscape) {
  std::string text;
  JsonScanner good(R"("a\"\\\/\b\f\n\r\t\u00e9\ud83e\udd99é")");
  ASSERT_TRUE(good.ReadString(&text).ok());
  EXPECT_EQ(text, "a\"\\/\b\f\n\r\t\u00E9\U0001F999\u00E9");
  EXPECT_TRUE(good.ExpectEnd().ok());
  for (const char* bad : {"\"a", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"",
                          "\"\\udc00\"", "\"\n\"", "\"\xFF\"", "a", ""}) {
    EXPECT_FALSE(JsonScanner(bad).ReadString(&text).ok()) << bad;
  }
}

TEST(JsonScanner, ReadsIntegersOnly) {
  EXPECT_EQ(JsonScanner(" -12 ").ReadInteger().value(), -12);
  for (const char* bad : {"1.5", "1e3", "", "-", "x", "12345678901234567890"}) {
    EXPECT_FALSE(JsonScanner(bad).ReadInteger().ok()) << bad;
  }
}

TEST(JsonScanner, CutsValuesOutWithoutReadingThem) {
  JsonScanner scanner(R"( {"a": [1, {"]": "}"}], "b" : "x,\"}" } )");
  std::string key;
  ASSERT_TRUE(scanner.BeginObject().ok());
  ASSERT_TRUE(scanner.NextKey(true, &key).value());
  EXPECT_EQ(scanner.ReadValue().value(), R"([1, {"]": "}"}])");
  ASSERT_TRUE(scanner.NextKey(false, &key).value());
  EXPECT_EQ(key, "b");
  EXPECT_EQ(scanner.ReadValue().value(), R"("x,\"}")");
  EXPECT_FALSE(scanner.NextKey(false, &key).value());
  EXPECT_TRUE(scanner.ExpectEnd().ok());
  EXPECT_FALSE(JsonScanner("[1, 2").ReadValue().ok());
  EXPECT_FALSE(JsonScanner("\"a").ReadValue().ok());
}

}  // namespace
}  // namespace lode::text
