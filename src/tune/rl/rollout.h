// Answers of a model in training, by the engine that serves models: the weights are the trainer's
// own, so what is sampled and what is trained are one model, and a token's log-probability is the
// same bits on both sides. A prompt is run once and forked for all its answers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/grad.h"
#include "runtime/engine.h"
#include "runtime/sampling/sampler.h"

namespace lode::tune {

struct RolloutOptions {
  int64_t answers = 8;       // to each prompt
  int64_t tokens_max = 128;  // of an answer
  int64_t prompt_max = 512;  // tokens
  int64_t together = 64;     // answers at once
  std::vector<int32_t> stop_ids;
  uint64_t seed = 1;
  int threads = 1;
};

struct Rollout {
  int64_t prompt = 0;  // whose answer it is
  std::vector<int32_t> tokens;
  std::vector<float> log_probabilities;  // of each
  double entropy = 0.0;                  // their mean, of what it was drawn from
  bool ended = false;                    // by a stop id, which is its last token
};

// Life: the model outlives it; its weights may change between calls. Threads: one owner.
class Sampling {
 public:
  Sampling(const model::Model& model, const RolloutOptions& options);
  static uint64_t Bytes(const model::ModelSpec& spec, const RolloutOptions& options);

  // All answers to all prompts, a prompt's together. What is drawn depends on (seed, round, prompt,
  // answer, position) alone: neither on the company nor on the threads. Temperature 0 takes the
  // likeliest tokens; else it is 1.
  // Errors: those of the engine; kBadInput for an empty prompt or one beyond prompt_max.
  Result<std::vector<Rollout>> Run(std::span<const std::vector<int32_t>> prompts, int64_t answers,
                                   uint64_t round, double temperature = 1.0);

 private:
  struct Running {
    runtime::Sequence sequence;
    size_t answer;  // index into the answers
    int32_t token;  // drawn, not run yet
  };
  static runtime::EngineOptions Engine(const RolloutOptions& options);
  // Draws the next token of each from rows of logits; tells which go on.
  Result<void> Draw(std::span<const size_t> answers, double temperature, uint64_t round,
                    std::vector<Rollout>* all, std::vector<int32_t>* drawn,
                    std::vector<bool>* done);
  Result<void> Start(std::span<const int32_t> prompt, std::span<const size_t> answers,
                     double temperature, uint64_t round, std::vector<Rollout>* all,
                     std::vector<Running>* running);
  Result<void> Step(double temperature, uint64_t round, std::vector<Rollout>* all,
                    std::vector<Running>* running);

  RolloutOptions options_;
  runtime::Engine engine_;
  runtime::Sampler sampler_;
  kernels::Context kernels_;
  std::vector<float> logits_;  // [together, V]
};

}  // namespace lode::tune
