#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace lode::runtime {

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

namespace {

double Gumbel(const SamplingOptions& options, uint64_t position, int32_t token) {
  const uint32_t counter[4] = {static_cast<uint32_t>(token), static_cast<uint32_t>(position),
                               static_cast<uint32_t>(position >> 32), options.choice};
  const uint32_t key[2] = {static_cast<uint32_t>(options.seed),
                           static_cast<uint32_t>(options.seed >> 32)};
  uint32_t words[4];
  Philox4x32(counter, key, words);
  // 53 bits, never 0 and never 1.
  const uint64_t bits = (uint64_t{words[0]} << 32 | words[1]) >> 11;
  const double u = (static_cast<double>(bits) + 0.5) * 0x1p-53;
  return -std::log(-std::log(u));
}

float Clean(float logit) {
  return std::isnan(logit) ? -std::numeric_limits<float>::infinity() : logit;
}

}  // namespace

int32_t Sample(std::span<const float> logits, const SamplingOptions& options, uint64_t position) {
  const auto count = static_cast<int32_t>(logits.size());
  if (options.temperature <= 0.0) {
    int32_t best = 0;
    for (int32_t i = 1; i < count; ++i) {
      if (Clean(logits[static_cast<size_t>(i)]) > Clean(logits[static_cast<size_t>(best)]))
        best = i;
    }
    return best;
  }
  std::vector<int32_t> kept(static_cast<size_t>(count));
  std::iota(kept.begin(), kept.end(), 0);
  const auto logit = [&](int32_t i) { return Clean(logits[static_cast<size_t>(i)]); };
  const auto better = [&](int32_t a, int32_t b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  };
  if (options.top_k > 0 && options.top_k < count) {
    std::nth_element(kept.begin(), kept.begin() + options.top_k, kept.end(), better);
    kept.resize(static_cast<size_t>(options.top_k));
  }
  const int32_t top = *std::min_element(kept.begin(), kept.end(), better);
  const auto weight = [&](int32_t i) {
    return std::exp((double{logit(i)} - double{logit(top)}) / options.temperature);
  };
  if (options.top_p < 1.0) {
    std::sort(kept.begin(), kept.end(), better);
    double total = 0.0;
    for (const int32_t i : kept) total += weight(i);
    double sum = 0.0;
    size_t keep = 0;
    while (keep < kept.size() && (keep == 0 || sum < options.top_p * total)) {
      sum += weight(kept[keep++]);
    }
    kept.resize(keep);
  }
  if (options.min_p > 0.0) {
    std::erase_if(kept, [&](int32_t i) { return weight(i) < options.min_p; });
  }
  int32_t best = top;
  double best_score = -std::numeric_limits<double>::infinity();
  for (const int32_t i : kept) {
    const double score = double{logit(i)} / options.temperature + Gumbel(options, position, i);
    if (score > best_score || (score == best_score && i < best)) {
      best = i;
      best_score = score;
    }
  }
  return best;
}

}  // namespace lode::runtime
