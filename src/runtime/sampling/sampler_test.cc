#include "runtime/sampling/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "runtime/sampling/draft.h"

namespace {
int64_t allocations = 0;
}  // namespace

// Counts what this program allocates.
[[gnu::noinline]] void* operator new(size_t size) {
  ++allocations;
  void* memory = std::malloc(size);
  LODE_CHECK(memory != nullptr);
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace lode::runtime {
namespace {

TEST(Philox, MatchesThePublishedVectors) {
  // Random123's known answers for philox4x32-10.
  uint32_t out[4];
  const uint32_t zeros[4] = {0, 0, 0, 0};
  Philox4x32(zeros, zeros, out);
  EXPECT_EQ(out[0], 0x6627e8d5u);
  EXPECT_EQ(out[1], 0xe169c58du);
  EXPECT_EQ(out[2], 0xbc57ac4cu);
  EXPECT_EQ(out[3], 0x9b00dbd8u);
  const uint32_t ones[4] = {~0u, ~0u, ~0u, ~0u};
  Philox4x32(ones, ones, out);
  EXPECT_EQ(out[0], 0x408f276du);
  EXPECT_EQ(out[3], 0x6d5451fdu);
}

TEST(Sample, GreedyTakesTheLargestAndTheLowerIdOfATie) {
  const std::vector<float> logits = {1.0f, NAN, 3.0f, 3.0f};
  EXPECT_EQ(Sample(logits, {}, 0), 2);
}

TEST(Sample, DrawsFromTheSoftmax) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f};
  std::vector<int> hits(3);
  constexpr int kDraws = 60000;
  for (int i = 0; i < kDraws; ++i) {
    ++hits[static_cast<size_t>(
        Sample(logits, {.temperature = 0.5, .seed = 42}, static_cast<uint64_t>(i)))];
  }
  double total = 0.0;
  for (const float l : logits) total += std::exp(l / 0.5);
  for (size_t i = 0; i < 3; ++i) {
    const double p = std::exp(logits[i] / 0.5) / total;
    // Five standard deviations.
    EXPECT_NEAR(hits[i] / double{kDraws}, p, 5 * std::sqrt(p * (1 - p) / kDraws));
  }
}

TEST(Sample, FiltersKeepOnlyWhatTheyShould) {
  const std::vector<float> logits = {0.0f, 3.0f, 1.0f, 2.0f};  // softmax: .032 .644 .087 .237
  const auto support = [&](SamplingOptions options) {
    options.temperature = 1.0;
    std::vector<bool> seen(4);
    for (uint64_t i = 0; i < 3000; ++i)
      seen[static_cast<size_t>(Sample(logits, options, i))] = true;
    return seen;
  };
  EXPECT_EQ(support({.top_k = 2}), (std::vector<bool>{false, true, false, true}));
  EXPECT_EQ(support({.top_p = 0.6}), (std::vector<bool>{false, true, false, false}));
  EXPECT_EQ(support({.top_p = 0.7}), (std::vector<bool>{false, true, false, true}));
  EXPECT_EQ(support({.min_p = 0.1}), (std::vector<bool>{false, true, true, true}));
}

TEST(Sample, TheSameKeyGivesTheSameTokenAndAnotherSeedAnother) {
  std::vector<float> logits(1000, 0.0f);
  int same = 0;
  for (uint64_t i = 0; i < 50; ++i) {
    const int32_t a = Sample(logits, {.temperature = 1.0, .seed = 1}, i);
    EXPECT_EQ(a, Sample(logits, {.temperature = 1.0, .seed = 1}, i));
    same += a == Sample(logits, {.temperature = 1.0, .seed = 2}, i);
  }
  EXPECT_LT(same, 5);
}

// Chi-square of draws against probabilities: its mean is `degrees`, its deviation sqrt(2 degrees).
void ExpectDrawnFrom(const std::vector<double>& weights, const std::vector<int>& hits) {
  double total = 0, draws = 0, chi = 0;
  int degrees = -1;
  for (const double w : weights) total += w;
  for (const int h : hits) draws += h;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double expected = draws * weights[i] / total;
    if (expected == 0) {
      EXPECT_EQ(hits[i], 0) << i;
      continue;
    }
    chi += (hits[i] - expected) * (hits[i] - expected) / expected;
    ++degrees;
  }
  EXPECT_LT(chi, degrees + 4 * std::sqrt(2.0 * degrees));
  EXPECT_GT(chi, degrees - 4 * std::sqrt(2.0 * degrees));
}

TEST(Sample, DrawsPassChiSquareAtEveryTemperatureAndChoice) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> logits(150);
  for (float& x : logits) x = normal(random);
  Sampler sampler(150);
  for (const double temperature : {0.5, 1.0, 3.0}) {
    for (const uint32_t choice : {0, 1}) {
      std::vector<int> hits(150);
      std::vector<double> weights;
      for (const float x : logits) weights.push_back(std::exp(x / temperature));
      for (uint64_t i = 0; i < 100000; ++i) {
        const SamplingOptions options = {.temperature = temperature, .seed = 5, .choice = choice};
        ++hits[static_cast<size_t>(sampler.Sample(logits, options, i)->token)];
      }
      ExpectDrawnFrom(weights, hits);
    }
  }
}

TEST(Sample, AFilteredDrawIsOfWhatIsLeftAndSeedsAreAsGoodAsPositions) {
  std::vector<float> logits;
  for (int i = 0; i < 40; ++i) logits.push_back(0.1f * static_cast<float>((i * 7) % 40));
  Sampler sampler(40);
  std::vector<int> hits(40);
  std::vector<double> weights(40);
  for (size_t i = 0; i < 40; ++i) {
    if (logits[i] > 2.95f) weights[i] = std::exp(static_cast<double>(logits[i]));  // ten of them
  }
  for (uint64_t seed = 0; seed < 60000; ++seed) {
    const SamplingOptions options = {.temperature = 1.0, .top_k = 10, .seed = seed};
    ++hits[static_cast<size_t>(sampler.Sample(logits, options, 77)->token)];
  }
  ExpectDrawnFrom(weights, hits);
}

// The tokens that 3,000 draws give.
std::vector<int32_t> Support(const std::vector<float>& logits, SamplingOptions options) {
  options.temperature = 1.0;
  Sampler sampler(static_cast<int64_t>(logits.size()));
  std::vector<bool> seen(logits.size());
  for (uint64_t i = 0; i < 3000; ++i)
    seen[static_cast<size_t>(sampler.Sample(logits, options, i)->token)] = true;
  std::vector<int32_t> support;
  for (size_t i = 0; i < seen.size(); ++i) {
    if (seen[i]) support.push_back(static_cast<int32_t>(i));
  }
  return support;
}

TEST(Sample, TypicalKeepsWhatSurprisesAsMuchAsIsExpected) {
  // p = .4 and six times .1: entropy 1.75, surprises .92 and 2.30, so the six come first.
  std::vector<float> logits(7, std::log(0.1f));
  logits[3] = std::log(0.4f);
  EXPECT_EQ(Support(logits, {.typical_p = 0.55}), (std::vector<int32_t>{0, 1, 2, 4, 5, 6}));
  EXPECT_EQ(Support(logits, {.typical_p = 0.25}), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(Support(logits, {.typical_p = 0.65}).size(), 7u);
}

TEST(Sample, FiltersWorkOnWhatTheOneBeforeLeft) {
  // .5 .2 .15 .1 .05
  std::vector<float> logits;
  for (const float p : {0.5f, 0.2f, 0.15f, 0.1f, 0.05f}) logits.push_back(std::log(p));
  EXPECT_EQ(Support(logits, {.top_p = 0.75}).size(), 3u);
  // Of the first two alone, .5 is .71: enough for .7, not for .75.
  EXPECT_EQ(Support(logits, {.top_k = 2, .top_p = 0.7}).size(), 1u);
  EXPECT_EQ(Support(logits, {.top_k = 2, .top_p = 0.75}).size(), 2u);
}

TEST(Sample, PenaltiesAreThoseOfTheirDefinitions) {
  const std::vector<float> logits = {2.0f, 1.9f, -1.0f, -1.1f};
  Sampler sampler(4);
  const auto greedy = [&](const SamplingOptions& options, std::vector<int32_t> tokens,
                          size_t answer_begin) {
    return sampler.Sample(logits, options, 9, {.history = {tokens, answer_begin}})->token;
  };
  // 2 / 1.1 < 1.9, in the prompt, too.
  EXPECT_EQ(greedy({.repetition_penalty = 1.1}, {0}, 1), 1);
  EXPECT_EQ(greedy({.repetition_penalty = 1.05}, {0}, 1), 0);
  // Frequency counts, presence does not; the prompt is free of both.
  EXPECT_EQ(greedy({.frequency_penalty = 0.06}, {0, 0}, 0), 1);
  EXPECT_EQ(greedy({.frequency_penalty = 0.06}, {0, 0}, 1), 0);
  EXPECT_EQ(greedy({.presence_penalty = 0.06}, {0, 0}, 0), 0);
  EXPECT_EQ(greedy({.presence_penalty = 0.11}, {0, 0}, 0), 1);
  EXPECT_EQ(greedy({.presence_penalty = 0.11}, {0, 0}, 2), 0);
  // Outside the window it is forgotten.
  EXPECT_EQ(greedy({.presence_penalty = 0.11, .penalty_window = 2}, {0, 2, 3}, 0), 0);
  // A logit below 0 is multiplied, so it falls as well.
  EXPECT_EQ(greedy({.repetition_penalty = 2, .logit_bias = {{0, -9}, {1, -9}}}, {2}, 1), 3);
  // Bias comes first: 0 - 1 + 2 is divided.
  EXPECT_EQ(greedy({.repetition_penalty = 1.5, .logit_bias = {{2, 3.5f}}}, {2}, 1), 0);
  EXPECT_EQ(greedy({.repetition_penalty = 1.1, .logit_bias = {{2, 3.5f}}}, {2}, 1), 2);
}

TEST(Sample, WhatIsForbiddenNeverComesAndNothingLeftIsAnError) {
  const std::vector<float> logits = {5.0f, 4.0f, 3.0f};
  Sampler sampler(3);
  TokenMask mask(3);
  for (const double temperature : {0.0, 1.0}) {
    SamplingOptions options = {.temperature = temperature};
    mask.ForbidAll();
    const auto nothing = sampler.Sample(logits, options, 7, {.mask = &mask});
    ASSERT_FALSE(nothing.ok());
    EXPECT_EQ(nothing.error().code(), Code::kBadInput);
    EXPECT_EQ(nothing.error().message(), "the constraint allows no token at position 7");
    mask.Allow(1);
    EXPECT_EQ(sampler.Sample(logits, options, 7, {.mask = &mask})->token, 1);
    options.logit_bias = {{1, -INFINITY}};
    EXPECT_EQ(sampler.Sample(logits, options, 7, {.mask = &mask}).error().message(),
              "the constraint and the logits leave no token at position 7");
  }
  EXPECT_FALSE(sampler.Sample(std::vector<float>(3, NAN), {}, 0).ok());
}

TEST(ValidateSampling, NamesTheFieldAndItsRange) {
  const auto message = [](const SamplingOptions& options) {
    const auto valid = ValidateSampling(options, 100);
    return valid.ok() ? "" : valid.error().message();
  };
  EXPECT_EQ(message({}), "");
  EXPECT_EQ(message({.temperature = -1}), "temperature is -1, it must be between 0 and 1000000");
  EXPECT_EQ(message({.temperature = NAN}), "temperature is nan, it must be between 0 and 1000000");
  EXPECT_EQ(message({.top_k = -1}), "top_k is -1, it must be between 0 and 2147483648");
  EXPECT_EQ(message({.typical_p = 2}), "typical_p is 2, it must be between 0 and 1");
  EXPECT_EQ(message({.top_p = 1.5}), "top_p is 1.5, it must be between 0 and 1");
  EXPECT_EQ(message({.min_p = -0.1}), "min_p is -0.1, it must be between 0 and 1");
  EXPECT_EQ(message({.repetition_penalty = 0}),
            "repetition_penalty is 0, it must be between 0.01 and 100");
  EXPECT_NE(message({.frequency_penalty = INFINITY}), "");
  EXPECT_NE(message({.presence_penalty = 101}), "");
  EXPECT_NE(message({.penalty_window = -1}), "");
  EXPECT_NE(message({.logprobs = 1025}), "");
  EXPECT_EQ(message({.logit_bias = {{99, -INFINITY}}}), "");
  EXPECT_EQ(message({.logit_bias = {{100, 0}}}),
            "logit_bias' token is 100, it must be between 0 and 99");
  EXPECT_EQ(message({.logit_bias = {{3, INFINITY}}}),
            "logit_bias of token 3 is inf, it must be between -10000 and 10000");
}

TEST(Sampler, TakesNoMemoryWhileServing) {
  constexpr int64_t kVocabulary = 5000;
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> logits(3 * kVocabulary);
  for (float& x : logits) x = normal(random);
  Sampler sampler(kVocabulary);
  TokenCounts counts(kVocabulary);
  NgramDrafter drafter({.tokens_max = 1000});
  AllowList list(TokenMask(kVocabulary, true));
  AnswerMask mask({.constraint = &list}, kVocabulary, 2);
  std::vector<int32_t> history, drafts(2);
  history.reserve(10000);
  DrawState state;
  state.history = &history;
  state.mask = &mask;
  const std::vector<SamplingOptions> modes = {
      {},
      {.temperature = 1.0},
      {.temperature = 1.0, .top_k = 30, .top_p = 0.9, .min_p = 0.01},
      {.temperature = 1.0, .top_k = 3000, .typical_p = 0.9, .top_p = 0.9},
      {.temperature = 1.0,
       .repetition_penalty = 1.1,
       .presence_penalty = 1.0,
       .penalty_window = 50,
       .logit_bias = {{3, 1.0f}},
       .logprobs = 20}};
  const int64_t before = allocations;
  for (int i = 0; i < 200; ++i) {
    const SamplingOptions& options = modes[static_cast<size_t>(i) % modes.size()];
    state.counts = i % 2 == 0 ? nullptr : &counts;
    if (i % 2 == 1) counts.Assign({history, 0}, options.penalty_window);
    const auto proposed = static_cast<size_t>(drafter.Propose(history, drafts));
    const std::span<const int32_t> some(drafts.data(), proposed);
    if (!AcceptDrafts(sampler, logits.data(), some, options, &state).ok()) break;
  }
  EXPECT_EQ(allocations - before, 0);
  EXPECT_GE(history.size(), 200u);
  // And what it takes at the start is what it says.
  EXPECT_GT(Sampler::Bytes(131072), uint64_t{5} << 20);
  EXPECT_LT(Sampler::Bytes(131072), uint64_t{8} << 20);
}

TEST(TokenMask, IsASetOfTokens) {
  TokenMask mask(70, true);
  EXPECT_EQ(mask.count(), 70);
  mask.Forbid(69);
  EXPECT_FALSE(mask.allowed(69));
  TokenMask other(70);
  other.Allow(69);
  other.Allow(64);
  EXPECT_EQ(other.only(), -1);
  mask.Intersect(other);
  EXPECT_EQ(mask.only(), 64);
  mask.ForbidAll();
  EXPECT_EQ(mask.only(), -1);
  EXPECT_EQ(TokenMask(64, true).count(), 64);
}

TEST(Constraint, AnAllowListAndAFixedSequenceRefuseTheRest) {
  TokenMask allowed(10), mask(10);
  allowed.Allow(4);
  AllowList list(allowed);
  list.Mask(list.Start(), &mask);
  EXPECT_EQ(mask, allowed);
  EXPECT_TRUE(list.Advance(list.Start(), 4).ok());
  EXPECT_FALSE(list.Advance(list.Start(), 5).ok());
  EXPECT_FALSE(list.Advance(list.Start(), 10).ok());
  FixedSequence fixed({7, 8}, 1);
  ConstraintState state = fixed.Start();
  for (const int32_t token : {7, 8, 1, 1}) {
    const ConstraintState copy = state;  // a guess that led nowhere
    EXPECT_FALSE(fixed.Advance(copy, 9).ok());
    fixed.Mask(state, &mask);
    EXPECT_EQ(mask.only(), token);
    state = *fixed.Advance(state, token);
  }
}

}  // namespace
}  // namespace lode::runtime
