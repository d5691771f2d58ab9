#include "runtime/sampling/answer_mask.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace lode::runtime {
namespace {

constexpr int64_t kVocabulary = 70;

// Allows a few tokens that depend on all tokens before, and writes down what it is asked.
class Counting : public Constraint {
 public:
  ConstraintState Start() const override { return {{1, 0}}; }
  void Prefetch(ConstraintState) override { ++prefetched; }
  void Mask(ConstraintState state, TokenMask* mask) override {
    ++masks;
    mask->ForbidAll();
    for (int32_t token = 0; token < kVocabulary; ++token) {
      if (Allows(state, token)) mask->Allow(token);
    }
  }
  Result<ConstraintState> Advance(ConstraintState state, int32_t token) override {
    ++advances;
    if (!Allows(state, token)) return Error(Code::kBadInput, "not here");
    return ConstraintState{{state.bits[0] * 31 + static_cast<uint64_t>(token), state.bits[1] + 1}};
  }
  static bool Allows(ConstraintState state, int32_t token) {
    return (state.bits[0] * 7 + static_cast<uint64_t>(token) * 13) % 5 < 2;
  }

  int masks = 0, advances = 0, prefetched = 0;
};

TEST(AnswerMask, SaysWhatTheConstraintSaysAtEveryPlaceHoweverItWasLedThere) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    Counting constraint;
    AnswerMask mask({.constraint = &constraint}, kVocabulary, 4);
    Counting plain;
    ConstraintState state = plain.Start();
    TokenMask want(kVocabulary);
    for (int step = 0; step < 60; ++step) {
      // Guesses, sound and unsound; some of what was tried before stands already.
      ConstraintState ahead = state;
      for (int64_t place = 0; place < 4; ++place) {
        const auto token = static_cast<int32_t>(random() % 6);
        const bool may = Counting::Allows(ahead, token);
        if (random() % 2 == 0) {
          plain.Mask(ahead, &want);
          EXPECT_EQ(*mask.At(place), want);
        }
        EXPECT_EQ(mask.Try(place, token), may);
        if (!may) break;
        ahead = *plain.Advance(ahead, token);
        plain.Mask(ahead, &want);
        EXPECT_EQ(*mask.At(place + 1), want);
      }
      plain.Mask(state, &want);
      EXPECT_EQ(*mask.At(0), want);
      int32_t token = static_cast<int32_t>(random() % 6);
      while (!Counting::Allows(state, token)) ++token;
      state = *plain.Advance(state, token);
      ASSERT_TRUE(mask.Take(token).ok());
    }
  }
}

TEST(AnswerMask, AMaskIsComputedOnceAndAPlaceThatStoodIsNotLeftAgain) {
  Counting constraint;
  AnswerMask mask({.constraint = &constraint}, kVocabulary, 3);
  EXPECT_EQ(constraint.prefetched, 1);
  std::vector<int32_t> tokens;
  ConstraintState state = constraint.Start();
  for (int i = 0; i < 3; ++i) {
    int32_t token = 0;
    while (!Counting::Allows(state, token)) ++token;
    tokens.push_back(token);
    state = *Counting().Advance(state, token);
  }
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(mask.Try(i, tokens[static_cast<size_t>(i)]));
    mask.At(i);
    mask.At(i);
  }
  EXPECT_TRUE(mask.Try(0, tokens[0]));  // again: nothing behind it is forgotten
  for (const int32_t token : tokens) ASSERT_TRUE(mask.Take(token).ok());
  mask.At(0);
  EXPECT_EQ(constraint.masks, 4);
  EXPECT_EQ(constraint.advances, 3);
  EXPECT_EQ(constraint.prefetched, 4);
}

TEST(AnswerMask, ForcedTokensAreToldFromChoicesAndFromTheEnd) {
  constexpr int32_t kStop = 1;
  const std::vector<int32_t> stops = {kStop};
  FixedSequence fixed({8, 9}, kStop);
  AnswerMask mask({&fixed, stops, 0}, kVocabulary, 4);
  EXPECT_EQ(mask.Forced(0), 8);
  ASSERT_TRUE(mask.Try(0, 8));
  EXPECT_EQ(mask.Forced(1), 9);
  ASSERT_TRUE(mask.Try(1, 9));
  EXPECT_EQ(mask.Forced(2), -1);
  EXPECT_TRUE(mask.At(2)->allowed(kStop));
  Counting counting;
  EXPECT_EQ(AnswerMask({.constraint = &counting}, kVocabulary, 4).Forced(0), -1);
  EXPECT_EQ(AnswerMask({}, kVocabulary, 4).Forced(0), -1);
}

TEST(AnswerMask, StopIdsComeAfterTheLeastNumberOfTokensUnlessNothingElseMay) {
  const std::vector<int32_t> stops = {3, 69};
  AnswerMask free({nullptr, stops, 2}, kVocabulary, 4);
  for (int taken = 0; taken < 2; ++taken) {
    EXPECT_FALSE(free.At(0)->allowed(3));
    EXPECT_EQ(free.At(0)->count(), kVocabulary - 2);
    EXPECT_FALSE(free.Try(0, 69));
    EXPECT_EQ(free.At(2 - taken), nullptr);
    ASSERT_TRUE(free.Take(5).ok());
  }
  EXPECT_EQ(free.At(0), nullptr);

  TokenMask some(kVocabulary);
  some.Allow(3);
  some.Allow(4);
  AllowList list(some);
  AnswerMask both({&list, stops, 2}, kVocabulary, 4);
  EXPECT_EQ(both.Forced(0), 4);
  ASSERT_TRUE(both.Take(4).ok());
  ASSERT_TRUE(both.Try(0, 4));
  EXPECT_EQ(both.At(1)->count(), 2);

  FixedSequence fixed({}, 3);
  AnswerMask complete({&fixed, stops, 9}, kVocabulary, 4);
  EXPECT_TRUE(complete.At(0)->allowed(3));
}

}  // namespace
}  // namespace lode::runtime
