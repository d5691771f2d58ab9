// Choosing the next token. Randomness is keyed by (seed, choice, position, token), never by thread
// or call: the same request gives the same text however it was computed.
//   token = argmax over the kept tokens of logit / T + Gumbel noise
// which is an exact draw from the softmax (Gumbel 1954; "Gumbel-max trick"). T = 0 takes the
// largest logit; ties go to the lower id. NaN counts as minus infinity, and minus infinity is never
// chosen.
//
// Nothing is remembered between two tokens: a choice is a function of the logits, the options, the
// position, the tokens before it and the mask. What acts on the logits, always in this order:
//   1. logit_bias is added
//   2. repetition_penalty (Keskar et al. 2019, CTRL): a logit above 0 is divided by it, else
//      multiplied
//   3. frequency_penalty times a token's count, and presence_penalty once, are taken off
//   4. the mask of a constraint
//   5. temperature; 0 ends here with the largest logit
//   6. top_k       the k largest logits
//   7. typical_p   the tokens whose surprise is nearest to the entropy, until they hold this share
//                  of what is left (Meister et al. 2022)
//   8. top_p       the largest, until they hold this share of what is left (Holtzman et al. 2019)
//   9. min_p       those at least this likely, as a share of the likeliest left
// At the edge of 6 to 8 equal tokens are kept from the lower id on. Shares are sums of whole
// numbers (sampler_passes.h), so they do not depend on an order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "runtime/sampling/constraint.h"
#include "runtime/sampling/token_counts.h"

namespace lode::runtime {

constexpr int64_t kLogprobsMax = 1024;  // alternatives that a token may be reported with

constexpr int64_t kLogitBiasMax = 65536;

struct LogitBias {
  int32_t token = 0;
  float bias = 0.0f;  // minus infinity: never this token
};

// ValidateSampling names the ranges.
struct SamplingOptions {
  double temperature = 0.0;  // 0: greedy; others below a millionth count as a millionth
  int64_t top_k = 0;         // 0: all
  double typical_p = 1.0;    // 1: all
  double top_p = 1.0;        // 1: all
  double min_p = 0.0;        // 0: all
  double repetition_penalty = 1.0;  // of tokens in prompt or answer
  double frequency_penalty = 0.0;   // of tokens in the answer, per occurrence
  double presence_penalty = 0.0;    // of tokens in the answer
  int64_t penalty_window = 0;       // penalties look at so many newest tokens; 0: at all
  std::vector<LogitBias> logit_bias = {};  // a token named twice gets both
  int64_t logprobs = -1;  // below 0: none; n: of the chosen token and of the n likeliest
  uint64_t seed = 0;
  uint32_t choice = 0;  // which of several answers to one prompt
};

// The one place that judges options. Errors: kBadInput, naming the field, its value and its range.
Result<void> ValidateSampling(const SamplingOptions& options, int64_t vocabulary);

// Whether `options` look at the tokens before, so that a caller must hand them over.
bool UsesHistory(const SamplingOptions& options);

struct NoiseKey;  // sampler_passes.h

struct TokenLogprob {
  int32_t token;
  double logprob;  // natural logarithm
};

// Log-probabilities and ranks are of the model's own distribution: softmax of the logits as they
// came, before bias, penalties, mask, temperature and filters.
struct Sampled {
  int32_t token = 0;
  double logprob = 0.0;  // with options.logprobs >= 0, as what follows
  int64_t rank = 0;      // 1: the likeliest; ties by id
  std::span<const TokenLogprob> likeliest;  // likeliest first; valid until the sampler's next call
};

// What else a choice depends on.
struct SampleInputs {
  History history = {};                 // the tokens before; only for penalties
  const TokenCounts* counts = nullptr;  // of `history` and the options' window; null: counted here
  const TokenMask* mask = nullptr;      // null: every token may come
};

// Life: one for all sequences of an owner; memory is taken once, for the vocabulary.
// Threads: one call at a time. Cost: bench/sampler_bench.cc.
class Sampler {
 public:
  explicit Sampler(int64_t vocabulary);
  static uint64_t Bytes(int64_t vocabulary);  // what it takes
  int64_t vocabulary() const { return vocabulary_; }

  // logits [V]. `position`: absolute, of the token to be chosen. `options` must be valid.
  // Errors: kBadInput when mask, bias and logits leave no token.
  Result<Sampled> Sample(std::span<const float> logits, const SamplingOptions& options,
                         uint64_t position, const SampleInputs& inputs = {});

  // What the model says of a token: its log-probability and rank, and the `likeliest` ones.
  Sampled Judge(std::span<const float> logits, int32_t token, int64_t likeliest);

 private:
  // Of the tokens in hand: their values side by side; without ids, token i is the i-th.
  struct Pool {
    const float* values;
    const int32_t* ids;
    int64_t count;
  };
  // In an order (keys ascending, then ids) the last that is kept.
  struct Cut {
    uint32_t key;
    int32_t last;
    bool reached;  // false: all together do not reach the threshold
  };

  void Prepare(std::span<const float> logits, const SamplingOptions& options,
               const SampleInputs& inputs);
  void ApplyPenalties(const SamplingOptions& options, const TokenCounts& counts);
  void FindMaxima(const float* values);
  int32_t First(const float* values, float value) const;

  void TopK(int64_t k);
  void Typical(double share, double temperature);
  void TopP(double share, double temperature);
  void MinP(double share, double temperature);
  Pool Candidates(const float* values, float at_least);
  Pool CandidatesForTop(const float* values, int64_t k);
  void Keep(const Pool& pool, const Cut& cut);
  Cut Select(const Pool& pool, bool weighted, int64_t threshold);
  bool Kept(float value, int64_t token) const {
    return int{value > cut_} | (int{value == cut_} & int{token <= last_});
  }

  int32_t Draw(const SamplingOptions& options, double temperature, uint64_t position) const;
  void Report(std::span<const float> logits, int64_t count, Sampled* sampled);

  int64_t vocabulary_;
  void (*noise_words_)(uint32_t first, const NoiseKey& key, uint32_t words[]);
  int64_t blocks_;
  // During a call: the values after what has acted so far, their largest, and who is kept of them.
  const float* values_ = nullptr;
  float top_ = 0.0f;
  float cut_ = 0.0f;
  int32_t last_ = 0;
  Pool pool_ = {};

  std::vector<float> edited_;  // [V] values where something acted on them
  std::vector<float> maxima_;  // [V / 64] of each 64 values
  std::vector<float> ranked_;  // as many, to be put in order
  std::vector<int32_t> id_;  // of a pool's list, ascending
  std::vector<float> value_;
  std::vector<uint32_t> key_;  // of a pool
  std::vector<int64_t> weight_;
  std::vector<int32_t> active_;  // indices into a pool
  std::vector<int64_t> buckets_;
  std::vector<TokenLogprob> likeliest_;
  TokenCounts counts_;
};

// For one choice without penalties, mask or reports. Takes a sampler's memory for it, unless
// greedy: whoever chooses many tokens keeps a Sampler. All logits minus infinity give 0.
int32_t Sample(std::span<const float> logits, const SamplingOptions& options, uint64_t position);

// Philox4x32-10 (Salmon et al. 2011): 4 words from a 4-word counter and a 2-word key.
void Philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

// The noise that is added to a token's logit / T.
double GumbelNoise(const SamplingOptions& options, uint64_t position, int32_t token);

}  // namespace lode::runtime
