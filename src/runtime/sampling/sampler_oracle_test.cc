// The sampler beside the obvious implementation: sort everything, take every logarithm, keep lists.
// They must agree in every token.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "runtime/sampling/sampler.h"
#include "runtime/sampling/sampler_passes.h"

namespace lode::runtime {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Case {
  std::vector<float> logits;
  SamplingOptions options;
  uint64_t position = 0;
  std::vector<int32_t> history;
  size_t answer_begin = 0;
  std::optional<TokenMask> mask;
};

std::vector<double> Edited(const Case& c) {
  std::vector<float> values = c.logits;
  for (const LogitBias& b : c.options.logit_bias) values[static_cast<size_t>(b.token)] += b.bias;
  std::map<int32_t, std::pair<int, int>> counts;
  size_t begin = 0;
  const auto window = static_cast<size_t>(c.options.penalty_window);
  if (window > 0 && c.history.size() > window) begin = c.history.size() - window;
  for (size_t i = begin; i < c.history.size(); ++i) {
    ++counts[c.history[i]].first;
    counts[c.history[i]].second += i >= c.answer_begin;
  }
  for (const auto& [token, count] : counts) {
    double v = values[static_cast<size_t>(token)];
    v = v > 0 ? v / c.options.repetition_penalty : v * c.options.repetition_penalty;
    if (count.second > 0)
      v -= count.second * c.options.frequency_penalty + c.options.presence_penalty;
    values[static_cast<size_t>(token)] = static_cast<float>(v);
  }
  std::vector<double> out;
  for (size_t i = 0; i < values.size(); ++i) {
    const bool allowed = !c.mask || c.mask->allowed(static_cast<int32_t>(i));
    out.push_back(allowed && !std::isnan(values[i]) ? values[i] : -INFINITY);
  }
  return out;
}

// -1: no token is left.
int32_t Obvious(const Case& c) {
  const SamplingOptions& o = c.options;
  const std::vector<double> values = Edited(c);
  std::vector<int32_t> kept;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] > -INFINITY) kept.push_back(static_cast<int32_t>(i));
  }
  if (kept.empty()) return -1;
  const auto value = [&](int32_t i) { return values[static_cast<size_t>(i)]; };
  const auto better = [&](int32_t a, int32_t b) {
    return value(a) != value(b) ? value(a) > value(b) : a < b;
  };
  std::sort(kept.begin(), kept.end(), better);
  if (o.temperature <= 0 || value(kept[0]) == INFINITY) return kept[0];
  const double temperature = std::max(o.temperature, 1e-6);
  const auto weight = [&](int32_t i) {
    return Weight(static_cast<float>(value(i)), static_cast<float>(value(kept[0])),
                  1.0 / temperature);
  };
  // Of `list` the front that reaches the share.
  const auto front = [&](std::vector<int32_t> list, double share) {
    int64_t total = 0, sum = 0;
    for (const int32_t i : list) total += weight(i);
    const auto threshold = std::min(total, static_cast<int64_t>(std::ceil(share * double(total))));
    size_t count = 0;
    while (count < list.size() && (count == 0 || sum < threshold)) sum += weight(list[count++]);
    list.resize(count);
    return list;
  };
  if (o.top_k > 0 && o.top_k < static_cast<int64_t>(kept.size()))
    kept.resize(static_cast<size_t>(o.top_k));
  if (o.typical_p < 1) {
    const double inverse = 1.0 / temperature;
    std::vector<float> side_by_side;
    for (const int32_t i : kept) side_by_side.push_back(static_cast<float>(value(i)));
    const float top = side_by_side[0];
    int64_t sum = 0;
    std::vector<int64_t> weights(kept.size());
    const double mean = MeanDistance(side_by_side.data(), static_cast<int64_t>(kept.size()), top,
                                     inverse, &sum, weights.data());
    const auto apart = [&](int32_t i) {
      const double d = ScaledDistance(static_cast<float>(value(i)), top, inverse);
      return static_cast<float>(std::abs(d - mean));
    };
    auto list = kept;
    std::sort(list.begin(), list.end(), [&](int32_t a, int32_t b) {
      return apart(a) != apart(b) ? apart(a) < apart(b) : a < b;
    });
    list = front(list, o.typical_p);
    std::sort(list.begin(), list.end(), better);
    kept = list;
  }
  if (o.top_p < 1) kept = front(kept, o.top_p);
  if (o.min_p > 0) {
    const double top = value(kept[0]);
    std::erase_if(kept, [&](int32_t i) {
      return value(i) - top < temperature * std::log(o.min_p);
    });
  }
  int32_t best = -1;
  double best_score = 0;
  for (const int32_t i : kept) {
    const double score = value(i) / temperature + GumbelNoise(o, c.position, i);
    if (best < 0 || score > best_score || (score == best_score && i < best)) {
      best = i;
      best_score = score;
    }
  }
  return best;
}

class Cases {
 public:
  explicit Cases(uint32_t seed) : random_(seed) {}

  Case Next(int64_t vocabulary) {
    Case c;
    c.logits = Logits(vocabulary);
    SamplingOptions& o = c.options;
    o.seed = random_();
    o.choice = Pick<uint32_t>({0, 0, 1, 7});
    c.position = Pick<uint64_t>({0, 1, 1000, uint64_t{1} << 40}) + random_() % 100;
    o.temperature = Pick<double>({0, 1e-9, 1e-6, 1e-3, 0.1, 0.7, 1, 1, 1, 1.5, 10, 1e6});
    if (Chance(0.4))
      o.top_k = Pick<int64_t>({1, 2, 5, 40, vocabulary / 2, vocabulary - 1, vocabulary, 1 << 30});
    if (Chance(0.3)) o.typical_p = Pick<double>({0, 0.2, 0.9, 0.999});
    if (Chance(0.5)) o.top_p = Pick<double>({0, 1e-9, 0.3, 0.5, 0.9, 0.99, 1 - 1e-15});
    if (Chance(0.3)) o.min_p = Pick<double>({1e-300, 0.01, 0.2, 0.5, 1});
    if (Chance(0.3)) {
      for (size_t i = random_() % 6 + 1; i > 0; --i) {
        const auto token = static_cast<int32_t>(random_() % static_cast<uint64_t>(vocabulary));
        o.logit_bias.push_back({token, Pick<float>({-kInfinity, -5, 0, 1, 100})});
      }
    }
    if (Chance(0.4)) {
      o.repetition_penalty = Pick<double>({1, 0.5, 1.1, 2});
      o.frequency_penalty = Pick<double>({0, 0.3, -1});
      o.presence_penalty = Pick<double>({0, 0.5, -0.5});
      o.penalty_window = Pick<int64_t>({0, 1, 10, 1000});
    }
    for (size_t i = random_() % 60; i > 0; --i)
      c.history.push_back(static_cast<int32_t>(random_() % static_cast<uint64_t>(vocabulary)));
    c.answer_begin = random_() % (c.history.size() + 1);
    if (Chance(0.3)) c.mask = Mask(vocabulary);
    return c;
  }

 private:
  bool Chance(double p) { return std::uniform_real_distribution<double>()(random_) < p; }
  template <typename T>
  T Pick(std::vector<T> from) {
    return from[random_() % from.size()];
  }

  std::vector<float> Logits(int64_t vocabulary) {
    std::vector<float> logits(static_cast<size_t>(vocabulary));
    const float width = Pick<float>({0, 1e-3f, 0.3f, 1, 3, 10, 1e6f, 1e30f});
    std::normal_distribution<float> normal(Pick<float>({0, -20, 1000}), std::max(width, 1e-30f));
    const bool whole = Chance(0.3);  // many ties
    for (float& x : logits) x = whole ? std::round(normal(random_)) : normal(random_);
    if (Chance(0.3)) {
      for (float& x : logits) {
        if (!Chance(0.2)) continue;
        x = Pick<float>({NAN, -NAN, -kInfinity, -kInfinity, 0.0f, -0.0f, 3e38f, -3e38f, 1e-42f});
      }
    }
    if (Chance(0.03)) logits[random_() % logits.size()] = kInfinity;
    if (Chance(0.03)) logits.assign(logits.size(), Chance(0.5) ? NAN : -kInfinity);
    return logits;
  }

  TokenMask Mask(int64_t vocabulary) {
    TokenMask mask(vocabulary, Chance(0.3));
    const double share = Pick<double>({0, 0.01, 0.5, 0.99});
    for (int32_t i = 0; i < vocabulary; ++i) {
      if (Chance(share)) mask.Allow(i);
    }
    if (Chance(0.2)) {
      mask.ForbidAll();
      mask.Allow(static_cast<int32_t>(random_() % static_cast<uint64_t>(vocabulary)));
    }
    return mask;
  }

  std::mt19937_64 random_;
};

// Returns how many had a token.
int Compare(int64_t vocabulary, int cases, uint32_t seed) {
  Sampler sampler(vocabulary);  // one for all: nothing may be left from the case before
  Cases random(seed);
  int drawn = 0;
  for (int i = 0; i < cases && !testing::Test::HasFailure(); ++i) {
    const Case c = random.Next(vocabulary);
    EXPECT_TRUE(ValidateSampling(c.options, vocabulary).ok());
    const auto got = sampler.Sample(c.logits, c.options, c.position,
                                    {.history = {c.history, c.answer_begin},
                                     .mask = c.mask ? &*c.mask : nullptr});
    const int32_t want = Obvious(c);
    EXPECT_EQ(got.ok() ? got->token : -1, want)
        << "case " << i << " of seed " << seed << ", vocabulary " << vocabulary << ", T "
        << c.options.temperature << ", top_k " << c.options.top_k << ", typical_p "
        << c.options.typical_p << ", top_p " << c.options.top_p << ", min_p " << c.options.min_p
        << ", mask " << c.mask.has_value();
    drawn += want >= 0;
  }
  return drawn;
}

TEST(SamplerOracle, SmallVocabulariesAgreeInEveryToken) {
  uint32_t seed = 1;
  for (const int64_t vocabulary : {1, 2, 3, 17, 63, 64, 65, 97, 128, 200}) {
    EXPECT_GT(Compare(vocabulary, 3000, seed++), 2000);
  }
}

TEST(SamplerOracle, LargeVocabulariesAgreeInEveryToken) {
  EXPECT_GT(Compare(1000, 3000, 100), 2000);
  EXPECT_GT(Compare(4099, 1000, 101), 700);
  EXPECT_GT(Compare(40000, 60, 102), 40);
}

TEST(SamplerOracle, EveryFilterAloneAgreesAtManyPositions) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  constexpr int64_t kVocabulary = 3000;
  Sampler sampler(kVocabulary);
  const SamplingOptions modes[] = {{.temperature = 1.0},
                                   {.temperature = 1.0, .top_k = 50},
                                   {.temperature = 1.0, .top_k = 2000},
                                   {.temperature = 1.0, .typical_p = 0.8},
                                   {.temperature = 1.0, .top_p = 0.9},
                                   {.temperature = 1.0, .min_p = 0.02},
                                   {.temperature = 3.0}};
  for (const SamplingOptions& mode : modes) {
    Case c;
    c.options = mode;
    for (int i = 0; i < kVocabulary; ++i) c.logits.push_back(normal(random));
    for (c.position = 0; c.position < 150; ++c.position) {
      const auto got = sampler.Sample(c.logits, c.options, c.position);
      ASSERT_TRUE(got.ok());
      ASSERT_EQ(got->token, Obvious(c)) << "position " << c.position;
    }
  }
}

TEST(SamplerOracle, LogprobsAreThoseOfTheSoftmaxOfTheLogitsAsTheyCame) {
  std::mt19937 random(6);
  for (const int64_t vocabulary : {1, 50, 3000, 40000}) {
    Sampler sampler(vocabulary);
    for (int round = 0; round < 5; ++round) {
      std::normal_distribution<float> normal(0.0f, 0.5f + static_cast<float>(round));
      std::vector<float> logits(static_cast<size_t>(vocabulary));
      for (float& x : logits) x = std::round(normal(random) * 8) / 8;
      if (vocabulary > 1) logits[1] = NAN;
      TokenMask mask(vocabulary, true);
      if (vocabulary > 1) mask.Forbid(0);
      const SamplingOptions options = {.temperature = 0.7,
                                       .top_k = 100,
                                       .logit_bias = {{0, 3.0f}},
                                       .logprobs = 30,
                                       .seed = random()};
      const auto got = sampler.Sample(logits, options, 3, {.mask = &mask});
      ASSERT_TRUE(got.ok());
      std::vector<int32_t> order;
      long double total = 0;
      for (size_t i = 0; i < logits.size(); ++i) {
        if (std::isnan(logits[i])) continue;
        order.push_back(static_cast<int32_t>(i));
        total += std::exp(static_cast<long double>(logits[i]));
      }
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
      });
      const auto logprob = [&](int32_t i) {
        return static_cast<double>(logits[static_cast<size_t>(i)] - std::log(total));
      };
      EXPECT_NEAR(got->logprob, logprob(got->token), 1e-6);
      const auto place = std::find(order.begin(), order.end(), got->token) - order.begin();
      EXPECT_EQ(got->rank, place + 1);
      ASSERT_EQ(got->likeliest.size(), std::min<size_t>(30, order.size()));
      for (size_t i = 0; i < got->likeliest.size(); ++i) {
        EXPECT_EQ(got->likeliest[i].token, order[i]);
        EXPECT_NEAR(got->likeliest[i].logprob, logprob(order[i]), 1e-6);
      }
    }
  }
}

TEST(SamplerPasses, AWeightIsTheExponentialToTheLastDigits) {
  for (float x = 0.0f; x > -40.0f; x -= 0.00137f) {
    const double exact = std::exp(static_cast<double>(x)), unit = std::ldexp(1.0, -kWeightBits);
    EXPECT_NEAR(static_cast<double>(Weight(x, 0.0f, 1.0)) * unit, exact, exact * 3e-7 + unit);
  }
  EXPECT_EQ(Weight(5.0f, 5.0f, 0.3), int64_t{1} << kWeightBits);
  EXPECT_EQ(Weight(-kInfinity, 5.0f, 1.0), 0);
  EXPECT_EQ(Weight(NAN, 5.0f, 1.0), 0);
}

TEST(SamplerPasses, SumsAreThoseOfTheSingleWeights) {
  std::mt19937 random(8);
  std::normal_distribution<float> normal(0.0f, 5.0f);
  for (const int64_t count : {1, 15, 16, 64, 65, 1000}) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& x : values) x = normal(random);
    values[0] = 25.0f;
    if (count > 2) values[2] = NAN;
    std::vector<int64_t> weights(values.size());
    Weights(values.data(), count, 25.0f, 0.7, weights.data());
    int64_t sum = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(weights[i], Weight(values[i], 25.0f, 0.7));
      sum += weights[i];
    }
    EXPECT_EQ(WeightSum(values.data(), count, 25.0f, 0.7), sum);
  }
}

TEST(SamplerPasses, VectorsOfEveryWidthGiveThePhiloxOfTheirTokens) {
  std::mt19937_64 random(10);
  for (const int lanes : {2, 4, 8}) {
    for (int round = 0; round < 200; ++round) {
      const NoiseKey key = {random(), random(), static_cast<uint32_t>(random())};
      const auto first = static_cast<uint32_t>(random() % 1000000);
      uint32_t words[kSamplerBlock];
      ChooseNoiseWords(lanes)(first, key, words);
      for (uint32_t i = 0; i < kSamplerBlock; ++i) {
        const uint32_t counter[4] = {first + i, static_cast<uint32_t>(key.position),
                                     static_cast<uint32_t>(key.position >> 32), key.choice};
        const uint32_t seed[2] = {static_cast<uint32_t>(key.seed),
                                  static_cast<uint32_t>(key.seed >> 32)};
        uint32_t out[4];
        Philox4x32(counter, seed, out);
        ASSERT_EQ(words[i], out[0]);
      }
    }
  }
}

TEST(SamplerPasses, TheBoundOfTheNoiseMissesNobodyAndNamesFew) {
  std::mt19937_64 random(9);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  int reached = 0, named = 0;
  for (int round = 0; round < 4000; ++round) {
    const NoiseKey key = {random(), random(), static_cast<uint32_t>(random())};
    const auto first = static_cast<uint32_t>(random() % 100000);
    const double temperature = 0.3 + static_cast<double>(random() % 100) / 50;
    float values[kSamplerBlock];
    for (float& x : values) x = normal(random);
    values[random() % kSamplerBlock] = NAN;
    const float top = 7.0f;
    const auto threshold = static_cast<float>(-4.0 + static_cast<double>(random() % 600) / 100);
    uint32_t flags[kSamplerBlock];
    uint32_t words[kSamplerBlock];
    ChooseNoiseWords()(first, key, words);
    const bool any = NoiseCandidates(values, words, top, static_cast<float>(1 / temperature),
                                     threshold - static_cast<float>(kNoiseSlack), flags);
    bool flagged = false;
    for (uint32_t i = 0; i < kSamplerBlock; ++i) {
      const double noise = Noise(key, first + i);
      EXPECT_LT(noise, kNoiseMax);
      const double score = (values[i] - top) / temperature + noise;
      EXPECT_TRUE(flags[i] || !(score >= threshold));
      reached += score >= threshold;
      named += flags[i] != 0;
      flagged |= flags[i] != 0;
    }
    EXPECT_EQ(any, flagged);
  }
  EXPECT_GT(reached, 1000);
  EXPECT_LT(named, 2 * reached);
}

}  // namespace
}  // namespace lode::runtime
