#include "runtime/sampling/token_counts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace lode::runtime {
namespace {

void ExpectSame(const TokenCounts& a, const TokenCounts& b, int32_t vocabulary) {
  for (int32_t token = 0; token < vocabulary; ++token)
    ASSERT_EQ(a.count(token), b.count(token)) << "token " << token;
  std::vector<int32_t> seen_a(a.seen().begin(), a.seen().end());
  std::vector<int32_t> seen_b(b.seen().begin(), b.seen().end());
  std::sort(seen_a.begin(), seen_a.end());
  std::sort(seen_b.begin(), seen_b.end());
  EXPECT_EQ(seen_a, seen_b);
}

TEST(TokenCounts, PushedAndPoppedAreAsCountedAnew) {
  constexpr int32_t kVocabulary = 12;
  std::mt19937 random(1);
  for (const int64_t window : {0, 1, 2, 7, 100}) {
    for (const size_t prompt : {0, 3, 20}) {
      std::vector<int32_t> tokens(prompt);
      for (int32_t& t : tokens) t = static_cast<int32_t>(random() % kVocabulary);
      TokenCounts kept(kVocabulary), anew(kVocabulary);
      kept.Assign({tokens, prompt}, window);
      for (int step = 0; step < 300; ++step) {
        if (random() % 3 != 0 || tokens.size() == prompt) {
          tokens.push_back(static_cast<int32_t>(random() % kVocabulary));
          kept.Push({tokens, prompt}, window);
        } else {
          kept.Pop({tokens, prompt}, window);
          tokens.pop_back();
        }
        anew.Assign({tokens, prompt}, window);
        ExpectSame(kept, anew, kVocabulary);
      }
    }
  }
}

TEST(TokenCounts, AreOfTheWindowAndKnowTheAnswer) {
  const std::vector<int32_t> tokens = {1, 2, 2, 3, 2, 1};
  TokenCounts counts(4);
  counts.Assign({tokens, 3}, 4);  // 2 | 3 2 1
  EXPECT_EQ(counts.count(2), (TokenCounts::Count{2, 1}));
  EXPECT_EQ(counts.count(1), (TokenCounts::Count{1, 1}));
  EXPECT_EQ(counts.count(0), (TokenCounts::Count{0, 0}));
  EXPECT_EQ(counts.seen().size(), 3u);
}

TEST(TokenCounts, ForeignIdsDoNotCount) {
  const std::vector<int32_t> tokens = {-1, 4, 3};
  TokenCounts counts(4);
  counts.Assign({tokens, 0}, 0);
  EXPECT_EQ(counts.seen().size(), 1u);
}

}  // namespace
}  // namespace lode::runtime
