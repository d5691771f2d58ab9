// What choosing a token costs on one core, by mode: microseconds a token. Logits are either like a
// trained model's (a normal bulk and a few tokens far above it), or flat (nothing stands out: every
// short cut fails), or all equal. A vocabulary of 131,072.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "runtime/sampling/sampler.h"

namespace lode::runtime {
namespace {

constexpr int64_t kVocabulary = 131072;

enum Shape { kPeaked, kFlat, kEqual };

std::vector<float> Logits(Shape shape) {
  std::mt19937 generator(7);
  std::normal_distribution<float> bulk(0.0f, shape == kPeaked ? 2.5f : 0.5f);
  std::vector<float> logits(kVocabulary);
  for (float& logit : logits) logit = shape == kEqual ? 1.0f : bulk(generator);
  if (shape != kPeaked) return logits;
  std::uniform_real_distribution<float> above(10.0f, 20.0f);
  for (int i = 0; i < 30; ++i) logits[generator() % kVocabulary] = above(generator);
  return logits;
}

SamplingOptions Greedy() { return {}; }
SamplingOptions Plain() { return {.temperature = 1.0}; }
SamplingOptions TopK() { return {.temperature = 1.0, .top_k = 40}; }
SamplingOptions TopKLarge() { return {.temperature = 1.0, .top_k = 50000}; }
SamplingOptions TopP() { return {.temperature = 1.0, .top_p = 0.95}; }
SamplingOptions MinP() { return {.temperature = 1.0, .min_p = 0.05}; }
SamplingOptions Typical() { return {.temperature = 1.0, .typical_p = 0.9}; }
SamplingOptions Usual() { return {.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05}; }
SamplingOptions All() {
  return {.temperature = 0.8, .top_k = 1000, .typical_p = 0.95, .top_p = 0.95, .min_p = 0.01};
}
SamplingOptions Penalties() {
  return {.temperature = 1.0,
          .repetition_penalty = 1.1,
          .frequency_penalty = 0.1,
          .presence_penalty = 0.1};
}
SamplingOptions Logprobs() { return {.temperature = 1.0, .logprobs = 20}; }

void Run(benchmark::State& state, SamplingOptions (*mode)(), Shape shape, bool masked) {
  const auto logits = Logits(shape);
  SamplingOptions options = mode();
  options.seed = 1;
  Sampler sampler(kVocabulary);
  std::mt19937 generator(3);
  std::vector<int32_t> history(4096);
  for (int32_t& token : history) token = static_cast<int32_t>(generator() % kVocabulary);
  TokenCounts counts(kVocabulary);
  counts.Assign({history, 0}, 0);
  TokenMask mask(kVocabulary);
  for (uint64_t& word : mask.words()) word = uint64_t{generator()} << 32 | generator();
  uint64_t position = 0;
  for (auto _ : state) {
    const auto sampled = sampler.Sample(
        logits, options, position++,
        {.history = {history, 0}, .counts = &counts, .mask = masked ? &mask : nullptr});
    benchmark::DoNotOptimize(sampled->token);
  }
}

#define LODE_MODE(mode)                                                                     \
  BENCHMARK_CAPTURE(Run, mode##_peaked, mode, kPeaked, false)->Unit(benchmark::kMicrosecond); \
  BENCHMARK_CAPTURE(Run, mode##_flat, mode, kFlat, false)->Unit(benchmark::kMicrosecond);     \
  BENCHMARK_CAPTURE(Run, mode##_equal, mode, kEqual, false)->Unit(benchmark::kMicrosecond)

LODE_MODE(Greedy);
LODE_MODE(Plain);
LODE_MODE(TopK);
LODE_MODE(TopKLarge);
LODE_MODE(TopP);
LODE_MODE(MinP);
LODE_MODE(Typical);
LODE_MODE(Usual);
LODE_MODE(All);
LODE_MODE(Penalties);
LODE_MODE(Logprobs);
BENCHMARK_CAPTURE(Run, Greedy_masked, Greedy, kPeaked, true)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(Run, Plain_masked, Plain, kFlat, true)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace lode::runtime
