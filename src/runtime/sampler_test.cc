#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

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

}  // namespace
}  // namespace lode::runtime
