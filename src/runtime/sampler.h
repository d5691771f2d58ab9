// Choosing the next token. Randomness is keyed by (seed, choice, position, token), never by thread or
// call: the same request gives the same text however it was computed.
//   token = argmax over the kept tokens of logit / T + Gumbel noise
// which is an exact draw from the softmax (Gumbel 1954; "Gumbel-max trick"). T = 0 takes the largest
// logit; ties go to the lower id. Filters act in the order temperature, top-k, top-p, min-p.
#pragma once

#include <cstdint>
#include <span>

namespace lode::runtime {

struct SamplingOptions {
  double temperature = 0.0;  // 0: greedy
  int64_t top_k = 0;         // 0: all
  double top_p = 1.0;
  double min_p = 0.0;
  uint64_t seed = 0;
  uint32_t choice = 0;       // which of several answers to one prompt
};

// `position`: absolute, of the token to be chosen. logits [V]; NaN counts as minus infinity.
int32_t Sample(std::span<const float> logits, const SamplingOptions& options, uint64_t position);

// Philox4x32-10 (Salmon et al. 2011): 4 words from a 4-word counter and a 2-word key.
void Philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

}  // namespace lode::runtime
