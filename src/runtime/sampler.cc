#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <numeric>
#include <string>

#include "runtime/sampler_passes.h"

namespace lode::runtime {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kEveryId = std::numeric_limits<int32_t>::max();
constexpr double kTemperatureMin = 1e-6;

// Of a key that select a bucket at a time.
constexpr int kDigitBits = 11;
constexpr size_t kBuckets = size_t{1} << kDigitBits;

// The smallest whole number that is not below share * total.
int64_t Threshold(double share, int64_t total) {
  return std::min(total, static_cast<int64_t>(std::ceil(share * static_cast<double>(total))));
}

bool UsesPenalties(const SamplingOptions& options) {
  return options.repetition_penalty != 1.0 || options.frequency_penalty != 0.0 ||
         options.presence_penalty != 0.0;
}

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.12g", value);
  return text;
}

// NaN lies in no range.
Result<void> CheckRange(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return {};
  return Error(Code::kBadInput, std::string(field) + " is " + Number(value) +
                                    ", it must be between " + Number(low) + " and " + Number(high));
}

}  // namespace

Result<void> ValidateSampling(const SamplingOptions& options, int64_t vocabulary) {
  LODE_TRY(CheckRange("temperature", options.temperature, 0, 1e6));
  LODE_TRY(CheckRange("top_k", static_cast<double>(options.top_k), 0, 2147483648.0));
  LODE_TRY(CheckRange("typical_p", options.typical_p, 0, 1));
  LODE_TRY(CheckRange("top_p", options.top_p, 0, 1));
  LODE_TRY(CheckRange("min_p", options.min_p, 0, 1));
  LODE_TRY(CheckRange("repetition_penalty", options.repetition_penalty, 0.01, 100));
  LODE_TRY(CheckRange("frequency_penalty", options.frequency_penalty, -100, 100));
  LODE_TRY(CheckRange("presence_penalty", options.presence_penalty, -100, 100));
  LODE_TRY(CheckRange("penalty_window", static_cast<double>(options.penalty_window), 0, 1e12));
  LODE_TRY(CheckRange("logprobs", static_cast<double>(options.logprobs), -1,
                      static_cast<double>(kLogprobsMax)));
  LODE_TRY(CheckRange("logit_bias' number of entries",
                      static_cast<double>(options.logit_bias.size()), 0,
                      static_cast<double>(kLogitBiasMax)));
  for (const LogitBias& entry : options.logit_bias) {
    LODE_TRY(CheckRange("logit_bias' token", entry.token, 0, static_cast<double>(vocabulary - 1)));
    if (entry.bias == -kInfinity) continue;
    const std::string field = "logit_bias of token " + std::to_string(entry.token);
    LODE_TRY(CheckRange(field.c_str(), static_cast<double>(entry.bias), -1e4, 1e4));
  }
  return {};
}

bool UsesHistory(const SamplingOptions& options) { return UsesPenalties(options); }

Sampler::Sampler(int64_t vocabulary)
    : vocabulary_(vocabulary),
      blocks_((vocabulary + kSamplerBlock - 1) / kSamplerBlock),
      edited_(static_cast<size_t>(vocabulary)),
      maxima_(static_cast<size_t>(blocks_)),
      ranked_(static_cast<size_t>(blocks_)),
      id_(static_cast<size_t>(vocabulary)),
      value_(static_cast<size_t>(vocabulary)),
      key_(static_cast<size_t>(vocabulary)),
      weight_(static_cast<size_t>(vocabulary)),
      active_(static_cast<size_t>(vocabulary)),
      buckets_(2 * kBuckets),
      likeliest_(static_cast<size_t>(std::min(vocabulary, kLogprobsMax))),
      counts_(vocabulary) {
  LODE_CHECK(vocabulary > 0 && vocabulary <= kVocabularyMax);
}

uint64_t Sampler::Bytes(int64_t vocabulary) {
  const auto count = static_cast<uint64_t>(vocabulary);
  const uint64_t blocks = (count + kSamplerBlock - 1) / kSamplerBlock;
  const uint64_t each =
      2 * sizeof(float) + 2 * sizeof(int32_t) + sizeof(uint32_t) + sizeof(int64_t);
  return count * each + blocks * 2 * sizeof(float) + 2 * kBuckets * sizeof(int64_t) +
         std::min(count, static_cast<uint64_t>(kLogprobsMax)) * sizeof(TokenLogprob) +
         TokenCounts::Bytes(vocabulary);
}

Result<Sampled> Sampler::Sample(std::span<const float> logits, const SamplingOptions& options,
                                uint64_t position, const SampleInputs& inputs) {
  LODE_CHECK(static_cast<int64_t>(logits.size()) == vocabulary_);
  Prepare(logits, options, inputs);
  if (!(top_ > -kInfinity)) {
    const bool masked = inputs.mask != nullptr;
    return Error(Code::kBadInput, std::string(masked ? "the constraint and" : "logit_bias and") +
                                      " the logits leave no token at position " +
                                      std::to_string(position));
  }
  Sampled sampled;
  if (!(options.temperature > 0.0) || top_ == kInfinity) {
    sampled.token = First(values_, top_);
  } else {
    const double temperature = std::max(options.temperature, kTemperatureMin);
    cut_ = -kInfinity;
    last_ = kEveryId;
    pool_ = {values_, nullptr, vocabulary_};
    if (options.top_k > 0 && options.top_k < vocabulary_) TopK(options.top_k);
    if (options.typical_p < 1.0) Typical(options.typical_p, temperature);
    if (options.top_p < 1.0) TopP(options.top_p, temperature);
    if (options.min_p > 0.0) MinP(options.min_p, temperature);
    sampled.token = Draw(options, temperature, position);
  }
  if (options.logprobs >= 0) Report(logits, options.logprobs, &sampled);
  return sampled;
}

void Sampler::Prepare(std::span<const float> logits, const SamplingOptions& options,
                      const SampleInputs& inputs) {
  values_ = logits.data();
  if (!options.logit_bias.empty() || UsesPenalties(options) || inputs.mask != nullptr) {
    std::copy(logits.begin(), logits.end(), edited_.begin());
    values_ = edited_.data();
    for (const LogitBias& entry : options.logit_bias)
      edited_[static_cast<size_t>(entry.token)] += entry.bias;
    if (UsesPenalties(options)) {
      if (inputs.counts == nullptr) counts_.Assign(inputs.history, options.penalty_window);
      ApplyPenalties(options, inputs.counts != nullptr ? *inputs.counts : counts_);
    }
    if (inputs.mask != nullptr) {
      LODE_CHECK(inputs.mask->vocabulary() == vocabulary_);
      CopyMasked(values_, inputs.mask->words().data(), vocabulary_, edited_.data());
    }
  }
  FindMaxima(values_);
}

void Sampler::ApplyPenalties(const SamplingOptions& options, const TokenCounts& counts) {
  for (const int32_t token : counts.seen()) {
    const TokenCounts::Count count = counts.count(token);
    float& stored = edited_[static_cast<size_t>(token)];
    double value = stored;
    value = value > 0 ? value / options.repetition_penalty : value * options.repetition_penalty;
    if (count.answer > 0)
      value -= count.answer * options.frequency_penalty + options.presence_penalty;
    stored = static_cast<float>(value);
  }
}

void Sampler::FindMaxima(const float* values) {
  top_ = BlockMaxima(values, vocabulary_, maxima_.data());
}

// The lowest id with `value`, which must be a block's maximum.
int32_t Sampler::First(const float* values, float value) const {
  const auto block = std::find(maxima_.begin(), maxima_.end(), value) - maxima_.begin();
  int64_t token = block * kSamplerBlock;
  while (values[token] != value) ++token;
  return static_cast<int32_t>(token);
}

// Tokens of value `at_least` or more (and more than minus infinity): their ids and values.
int64_t Sampler::Gather(const float* values, float at_least) {
  at_least = std::max(at_least, -std::numeric_limits<float>::max());
  size_t found = 0;
  for (int64_t block = 0; block < blocks_; ++block) {
    if (maxima_[static_cast<size_t>(block)] < at_least) continue;
    const int64_t end = std::min((block + 1) * kSamplerBlock, vocabulary_);
    for (int64_t token = block * kSamplerBlock; token < end; ++token) {
      id_[found] = static_cast<int32_t>(token);
      value_[found] = values[token];
      found += values[token] >= at_least;
    }
  }
  return static_cast<int64_t>(found);
}

// At least the k largest, with all that equal the least of them. The k-th largest block maximum is
// such a bound, for k blocks reach it.
int64_t Sampler::GatherTop(const float* values, int64_t k) {
  float bound = -kInfinity;
  if (k <= blocks_ / 2) {
    std::copy(maxima_.begin(), maxima_.end(), ranked_.begin());
    std::nth_element(ranked_.begin(), ranked_.begin() + (k - 1), ranked_.end(), std::greater<>());
    bound = ranked_[static_cast<size_t>(k - 1)];
  }
  const int64_t found = Gather(values, bound);
  DescendingKeys(value_.data(), found, key_.data());
  return found;
}

// Where the candidates' weights reach `threshold`, in the order of key_, then of ids. Each round
// puts those in question into buckets by the 11 highest bits in which their keys can differ, and
// goes on with the bucket that reaches it: at most three rounds, so linear in the candidates,
// whatever they are.
Sampler::Cut Sampler::Select(int64_t candidates, int64_t threshold) {
  auto active = static_cast<size_t>(candidates);
  std::iota(active_.begin(), active_.begin() + candidates, 0);
  int64_t rest = std::max<int64_t>(threshold, 1);
  uint32_t least = 0, most = 0;
  KeyRange(key_.data(), candidates, &least, &most);
  while (least != most) {
    const int shift = std::max(0, static_cast<int>(std::bit_width(least ^ most)) - kDigitBits);
    const uint32_t base = least >> shift;
    const size_t buckets = size_t{(most >> shift) - base} + 1;
    std::fill_n(buckets_.begin(), 2 * buckets, 0);
    // Two counts by turns: an addition need not wait for the one before it.
    for (size_t a = 0; a < active; ++a) {
      const auto i = static_cast<size_t>(active_[a]);
      buckets_[2 * size_t{(key_[i] >> shift) - base} + a % 2] += weight_[i];
    }
    uint32_t reached = 0;
    for (; reached < buckets; ++reached) {
      const int64_t weight = buckets_[2 * size_t{reached}] + buckets_[2 * size_t{reached} + 1];
      if (weight >= rest) break;
      rest -= weight;
    }
    if (reached == buckets) return {0, -1, false};
    size_t kept = 0;
    for (size_t a = 0; a < active; ++a) {
      const int32_t i = active_[a];
      active_[kept] = i;
      kept += (key_[static_cast<size_t>(i)] >> shift) == base + reached;
    }
    active = kept;
    least = (base + reached) << shift;
    most = least | ((1u << shift) - 1);
  }
  Cut cut = {least, -1, false};
  for (size_t a = 0; a < active && rest > 0; ++a) {
    const auto i = static_cast<size_t>(active_[a]);
    rest -= weight_[i];
    cut.last = id_[i];
  }
  cut.reached = rest <= 0;
  return cut;
}

void Sampler::TopK(int64_t k) {
  const int64_t found = GatherTop(values_, k);
  auto kept = static_cast<size_t>(found);
  if (found >= k) {  // when there are just k, others may still be below the bound
    std::fill_n(weight_.begin(), found, 1);
    const Cut cut = Select(found, k);
    cut_ = ValueOfKey(cut.key);
    last_ = cut.last;
    kept = 0;
    for (size_t i = 0; i < static_cast<size_t>(found); ++i) {
      id_[kept] = id_[i];
      value_[kept] = value_[i];
      kept += Kept(value_[i], id_[i]);
    }
  }
  pool_ = {value_.data(), id_.data(), static_cast<int64_t>(kept)};
}

void Sampler::Typical(double share, double temperature) {
  const double inverse = 1.0 / temperature;
  const double mean = MeanDistance(pool_.values, pool_.count, top_, inverse);
  if (pool_.ids == nullptr) {
    const int64_t found = Gather(values_, -kInfinity);
    pool_ = {value_.data(), id_.data(), found};
  }
  Weights(pool_.values, pool_.count, top_, inverse, weight_.data());
  TypicalKeys(pool_.values, pool_.count, top_, inverse, mean, key_.data());
  int64_t total = 0;
  for (size_t i = 0; i < static_cast<size_t>(pool_.count); ++i) total += weight_[i];
  Keep(Select(pool_.count, Threshold(share, total)));
}

// Only the pool's tokens up to `cut` keep their values.
void Sampler::Keep(const Cut& cut) {
  std::fill(edited_.begin(), edited_.end(), -kInfinity);
  for (size_t i = 0; i < static_cast<size_t>(pool_.count); ++i) {
    // No branches in such loops: nobody can foresee them.
    const int kept = int{key_[i] < cut.key} | (int{key_[i] == cut.key} & int{id_[i] <= cut.last});
    edited_[static_cast<size_t>(id_[i])] = kept != 0 ? value_[i] : -kInfinity;
  }
  values_ = edited_.data();
  FindMaxima(values_);
  cut_ = -kInfinity;
  last_ = kEveryId;
  pool_ = {values_, nullptr, vocabulary_};
}

void Sampler::TopP(double share, double temperature) {
  const double inverse = 1.0 / temperature;
  const int64_t total = WeightSum(pool_.values, pool_.count, top_, inverse);
  const int64_t threshold = Threshold(share, total);
  const auto select = [&](int64_t candidates) {
    Weights(value_.data(), candidates, top_, inverse, weight_.data());
    DescendingKeys(value_.data(), candidates, key_.data());
    return Select(candidates, threshold);
  };
  Cut cut = {0, 0, false};
  if (pool_.ids != nullptr) {
    cut = select(pool_.count);
  } else {
    // All tokens lighter than (1 - share) total / count weigh less than 1 - share together, so the
    // share is reached without them. The margins are for rounding; Select would notice.
    const double lightest = (1.0 - share) * static_cast<double>(total) / double(vocabulary_);
    const double distance = std::log(lightest) - kWeightBits * std::log(2.0) - 1e-3;
    if (lightest > 4096.0)
      cut = select(Gather(values_, static_cast<float>(top_ + distance * temperature)));
    if (!cut.reached) cut = select(Gather(values_, -kInfinity));
  }
  cut_ = ValueOfKey(cut.key);
  last_ = cut.last;
}

void Sampler::MinP(double share, double temperature) {
  const double distance = temperature * std::log(share);
  const auto likely = [&](float value) { return double{value} - double{top_} >= distance; };
  // The smallest value that is likely.
  float least = static_cast<float>(double{top_} + distance);
  while (!likely(least)) least = std::nextafter(least, kInfinity);
  while (likely(std::nextafter(least, -kInfinity))) least = std::nextafter(least, -kInfinity);
  if (least <= cut_) return;
  cut_ = least;
  last_ = kEveryId;
}

int32_t Sampler::Draw(const SamplingOptions& options, double temperature, uint64_t position) const {
  const NoiseKey key = {options.seed, position, options.choice};
  int32_t best = First(values_, top_);
  double best_score = double{top_} / temperature + Noise(key, static_cast<uint32_t>(best));
  const auto consider = [&](int64_t token) {
    const float value = values_[token];
    if (!Kept(value, token) || !(value > -kInfinity)) return;
    const double scaled = double{value} / temperature;
    if (scaled + kNoiseMax < best_score) return;
    const double score = scaled + Noise(key, static_cast<uint32_t>(token));
    if (score > best_score || (score == best_score && token < best)) {
      best = static_cast<int32_t>(token);
      best_score = score;
    }
  };
  const double scaled_top = double{top_} / temperature;
  // Past it, scores are too coarse for the bound of NoiseCandidates.
  const bool bounded = std::abs(scaled_top) < 0x1p40;
  const auto inverse = static_cast<float>(1.0 / temperature);
  uint32_t flags[kSamplerBlock];
  float tail[kSamplerBlock];
  for (int64_t block = 0; block < blocks_; ++block) {
    const float most = maxima_[static_cast<size_t>(block)];
    if (most < cut_ || most == -kInfinity) continue;
    const int64_t begin = block * kSamplerBlock;
    const int64_t count = std::min(kSamplerBlock, vocabulary_ - begin);
    if (bounded) {
      const auto threshold = static_cast<float>(best_score - scaled_top - kNoiseSlack);
      if ((most - top_) * inverse + static_cast<float>(kNoiseMax) < threshold) continue;
      const float* values = values_ + begin;
      if (count < kSamplerBlock) {
        std::fill(std::copy(values, values + count, tail), tail + kSamplerBlock, -kInfinity);
        values = tail;
      }
      if (!NoiseCandidates(values, static_cast<uint32_t>(begin), key, top_, inverse, threshold,
                           flags))
        continue;
    } else {
      std::fill(flags, flags + kSamplerBlock, 1);
    }
    for (int64_t i = 0; i < count; ++i) {
      if (flags[i] != 0) consider(begin + i);
    }
  }
  return best;
}

// Of the logits as they came; what the choice left in the scratch is no longer needed.
void Sampler::Report(std::span<const float> logits, int64_t count, Sampled* sampled) {
  FindMaxima(logits.data());
  const int64_t total = top_ < kInfinity ? WeightSum(logits.data(), vocabulary_, top_, 1.0)
                                         : int64_t{1} << kWeightBits;
  const double log_total = std::log(static_cast<double>(total)) - kWeightBits * std::log(2.0);
  const auto logprob = [&](float value) {
    return value == top_ ? -log_total : double{value} - double{top_} - log_total;
  };
  const float chosen = logits[static_cast<size_t>(sampled->token)];
  sampled->logprob = logprob(chosen);
  sampled->rank = 1 + CountAhead(logits.data(), vocabulary_, chosen, sampled->token);
  count = std::min(count, vocabulary_);
  if (count == 0) return;
  const int64_t found = GatherTop(logits.data(), count);
  for (int32_t i = 0; i < found; ++i) active_[static_cast<size_t>(i)] = i;
  const auto better = [&](int32_t a, int32_t b) {
    const auto i = static_cast<size_t>(a), j = static_cast<size_t>(b);
    return key_[i] != key_[j] ? key_[i] < key_[j] : id_[i] < id_[j];
  };
  count = std::min(count, found);
  std::partial_sort(active_.begin(), active_.begin() + count, active_.begin() + found, better);
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const auto from = static_cast<size_t>(active_[i]);
    likeliest_[i] = {id_[from], logprob(value_[from])};
  }
  sampled->likeliest = {likeliest_.data(), static_cast<size_t>(count)};
}

int32_t Sample(std::span<const float> logits, const SamplingOptions& options, uint64_t position) {
  Sampler sampler(static_cast<int64_t>(logits.size()));
  const auto sampled = sampler.Sample(logits, options, position);
  return sampled.ok() ? sampled->token : 0;
}

double GumbelNoise(const SamplingOptions& options, uint64_t position, int32_t token) {
  return Noise({options.seed, position, options.choice}, static_cast<uint32_t>(token));
}

void Philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
  uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
  uint32_t k[2] = {key[0], key[1]};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0];
    const uint64_t b = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {
        static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
        static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
    std::copy(next, next + 4, c);
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  std::copy(c, c + 4, out);
}

}  // namespace lode::runtime
