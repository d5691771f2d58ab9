#include "runtime/sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <functional>
#include <limits>
#include <numeric>
#include <string>

#include "runtime/sampling/sampler_passes.h"

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
      noise_words_(ChooseNoiseWords()),
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
    if (masked && inputs.mask->count() == 0) {
      return Error(Code::kBadInput,
                   "the constraint allows no token at position " + std::to_string(position));
    }
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

// At least the tokens of value `at_least` or more (none of which is minus infinity, unless all are
// taken): a list when they are few.
Sampler::Pool Sampler::Candidates(const float* values, float at_least) {
  const Pool everything = {values, nullptr, vocabulary_};
  if (!(at_least > -kInfinity)) return everything;
  if (CountAtLeast(values, vocabulary_, at_least) > vocabulary_ / 8) return everything;
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
  return {value_.data(), id_.data(), static_cast<int64_t>(found)};
}

// At least the k largest, with all that equal the least of them. The k-th largest block maximum is
// such a bound, for k blocks reach it.
Sampler::Pool Sampler::CandidatesForTop(const float* values, int64_t k) {
  if (k > blocks_ / 2) return Candidates(values, -kInfinity);
  std::copy(maxima_.begin(), maxima_.end(), ranked_.begin());
  std::nth_element(ranked_.begin(), ranked_.begin() + (k - 1), ranked_.end(), std::greater<>());
  return Candidates(values, ranked_[static_cast<size_t>(k - 1)]);
}

// Where the pool's weights (weight_, or 1 each) reach `threshold`, in the order of key_, then of
// ids. Each round puts those in question into buckets by the 11 highest bits in which their keys
// can differ, and goes on with the bucket that reaches it: at most three rounds, so linear in the
// pool, whatever stands in it.
Sampler::Cut Sampler::Select(const Pool& pool, bool weighted, int64_t threshold) {
  const auto weight = [&](size_t i) { return weighted ? weight_[i] : 1; };
  int64_t rest = std::max<int64_t>(threshold, 1);
  uint32_t least = 0, most = 0;
  KeyRange(key_.data(), pool.count, &least, &most);
  auto active = static_cast<size_t>(pool.count);
  bool listed = false;  // in active_
  while (least != most) {
    const int shift = std::max(0, static_cast<int>(std::bit_width(least ^ most)) - kDigitBits);
    const uint32_t base = least >> shift;
    const size_t buckets = size_t{(most >> shift) - base} + 1;
    std::fill_n(buckets_.begin(), 2 * buckets, 0);
    // Two counts by turns: an addition need not wait for the one before it.
    const auto count = [&](size_t a, size_t i) {
      buckets_[2 * size_t{(key_[i] >> shift) - base} + a % 2] += weight(i);
    };
    for (size_t a = 0; a < active && !listed; ++a) count(a, a);
    for (size_t a = 0; a < active && listed; ++a) count(a, static_cast<size_t>(active_[a]));
    uint32_t reached = 0;
    for (; reached < buckets; ++reached) {
      const int64_t both = buckets_[2 * size_t{reached}] + buckets_[2 * size_t{reached} + 1];
      if (both >= rest) break;
      rest -= both;
    }
    if (reached == buckets) return {0, -1, false};
    const uint32_t digit = base + reached;
    if (!listed) {
      const int64_t found =
          FindDigit(key_.data(), pool.count, shift, digit, active_.data());
      active = static_cast<size_t>(found);
      listed = true;
    } else {
      const auto wrong = [&](int32_t i) { return key_[static_cast<size_t>(i)] >> shift != digit; };
      const auto end = active_.begin() + static_cast<int64_t>(active);
      active = static_cast<size_t>(std::remove_if(active_.begin(), end, wrong) - active_.begin());
    }
    least = digit << shift;
    most = least | ((1u << shift) - 1);
  }
  Cut cut = {least, -1, false};
  for (size_t a = 0; a < active && rest > 0; ++a) {
    const auto i = listed ? static_cast<size_t>(active_[a]) : a;
    rest -= weight(i);
    cut.last = pool.ids != nullptr ? pool.ids[i] : static_cast<int32_t>(i);
  }
  cut.reached = rest <= 0;
  return cut;
}

void Sampler::TopK(int64_t k) {
  const Pool pool = CandidatesForTop(values_, k);
  DescendingKeys(pool.values, pool.count, key_.data());
  const Cut cut = Select(pool, false, k);
  if (!cut.reached) return;  // fewer than k
  if (pool.ids == nullptr) {
    Keep(pool, cut);
    return;
  }
  cut_ = ValueOfKey(cut.key);
  last_ = cut.last;
  size_t kept = 0;
  for (size_t i = 0; i < static_cast<size_t>(pool.count); ++i) {
    id_[kept] = id_[i];
    value_[kept] = value_[i];
    kept += Kept(value_[i], id_[i]);
  }
  pool_ = {value_.data(), id_.data(), static_cast<int64_t>(kept)};
}

void Sampler::Typical(double share, double temperature) {
  const double inverse = 1.0 / temperature;
  int64_t total = 0;
  const double mean =
      MeanDistance(pool_.values, pool_.count, top_, inverse, &total, weight_.data());
  TypicalKeys(pool_.values, pool_.count, top_, inverse, mean, key_.data());
  Keep(pool_, Select(pool_, true, Threshold(share, total)));
}

// Only the pool's tokens up to `cut` keep their values, and make up the pool from now on.
void Sampler::Keep(const Pool& pool, const Cut& cut) {
  if (pool.ids == nullptr) {
    CopyUpTo(pool.values, key_.data(), pool.count, cut.key, cut.last, edited_.data());
    pool_ = {edited_.data(), nullptr, vocabulary_};
  } else {
    std::fill(edited_.begin(), edited_.end(), -kInfinity);
    size_t kept = 0;
    for (size_t i = 0; i < static_cast<size_t>(pool.count); ++i) {
      if (key_[i] > cut.key || (key_[i] == cut.key && id_[i] > cut.last)) continue;
      edited_[static_cast<size_t>(id_[i])] = value_[i];
      id_[kept] = id_[i];
      value_[kept++] = value_[i];
    }
    pool_ = {value_.data(), id_.data(), static_cast<int64_t>(kept)};
  }
  values_ = edited_.data();
  FindMaxima(values_);
  cut_ = -kInfinity;
  last_ = kEveryId;
}

void Sampler::TopP(double share, double temperature) {
  const double inverse = 1.0 / temperature;
  const int64_t total = WeightSum(pool_.values, pool_.count, top_, inverse);
  const auto select = [&](const Pool& pool) {
    Weights(pool.values, pool.count, top_, inverse, weight_.data());
    DescendingKeys(pool.values, pool.count, key_.data());
    return Select(pool, true, Threshold(share, total));
  };
  Cut cut = {0, 0, false};
  if (pool_.ids != nullptr) {
    cut = select(pool_);
  } else {
    // All tokens lighter than (1 - share) total / count weigh less than 1 - share together, so the
    // share is reached without them. The margins are for rounding; Select would notice.
    const double lightest = (1.0 - share) * static_cast<double>(total) / double(vocabulary_);
    const double distance = std::log(lightest) - kWeightBits * std::log(2.0) - 1e-3;
    const double bound = lightest > 4096.0 ? double{top_} + distance * temperature : -kInfinity;
    cut = select(Candidates(values_, static_cast<float>(bound)));
    if (!cut.reached) cut = select(pool_);
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
  uint32_t flags[kSamplerBlock], words[kSamplerBlock];
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
      noise_words_(static_cast<uint32_t>(begin), key, words);
      if (!NoiseCandidates(values, words, top_, inverse, threshold, flags)) continue;
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
  const Pool pool = CandidatesForTop(logits.data(), count);
  DescendingKeys(pool.values, pool.count, key_.data());
  const Cut cut = Select(pool, false, count);
  size_t found = 0;
  for (int32_t i = 0; i < pool.count; ++i) {
    const int32_t token = pool.ids != nullptr ? pool.ids[i] : i;
    const uint32_t key = key_[static_cast<size_t>(i)];
    if (key > cut.key || (key == cut.key && token > cut.last)) continue;
    const float value = pool.values[i];
    if (value > -kInfinity) likeliest_[found++] = {token, logprob(value)};
  }
  const auto better = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob != b.logprob ? a.logprob > b.logprob : a.token < b.token;
  };
  std::sort(likeliest_.begin(), likeliest_.begin() + static_cast<int64_t>(found), better);
  sampled->likeliest = {likeliest_.data(), found};
}

Sampled Sampler::Judge(std::span<const float> logits, int32_t token, int64_t likeliest) {
  LODE_CHECK(static_cast<int64_t>(logits.size()) == vocabulary_);
  Sampled sampled;
  sampled.token = token;
  Report(logits, likeliest, &sampled);
  return sampled;
}

int32_t Sample(std::span<const float> logits, const SamplingOptions& options, uint64_t position) {
  if (!(options.temperature > 0.0) && options.logit_bias.empty()) {
    size_t best = 0;  // without the memory of a sampler
    for (size_t i = 1; i < logits.size(); ++i) {
      if (logits[i] > logits[best] || std::isnan(logits[best])) best = i;
    }
    return logits[best] > -kInfinity ? static_cast<int32_t>(best) : 0;
  }
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
