#include "tune/rl/rollout.h"

#include <algorithm>

#include "base/text.h"

namespace lode::tune {

namespace {

int64_t PagesOf(int64_t tokens) {
  return (tokens + kernels::kPageTokens - 1) / kernels::kPageTokens;
}

int64_t Together(const RolloutOptions& options) {
  return std::max(options.together, options.answers);
}

}  // namespace

runtime::EngineOptions Sampling::Engine(const RolloutOptions& options) {
  const int64_t together = Together(options);
  runtime::EngineOptions engine;
  engine.threads = options.threads;
  engine.sequences_max = together + 1;  // the prompt itself beside its answers
  engine.sequence_tokens_max = options.prompt_max + options.tokens_max;
  engine.context_tokens =
      (together + 1) * PagesOf(engine.sequence_tokens_max) * kernels::kPageTokens;
  engine.rows_max = std::max<int64_t>(256, together);
  return engine;
}

Sampling::Sampling(const model::Model& model, const RolloutOptions& options)
    : options_(options),
      engine_(model, Engine(options)),
      sampler_(model.spec.vocabulary),
      kernels_(&engine_.pool(), 0),
      logits_(static_cast<size_t>(Together(options) * model.spec.vocabulary)) {}

uint64_t Sampling::Bytes(const model::ModelSpec& spec, const RolloutOptions& options) {
  return runtime::Engine::Bytes(spec, Engine(options)) + runtime::Sampler::Bytes(spec.vocabulary) +
         static_cast<uint64_t>(Together(options) * spec.vocabulary) * sizeof(float);
}

Result<void> Sampling::Draw(std::span<const size_t> answers, double temperature, uint64_t round,
                            std::vector<Rollout>* all, std::vector<int32_t>* drawn,
                            std::vector<bool>* done) {
  const auto vocabulary = static_cast<size_t>(engine_.vocabulary());
  drawn->clear();
  done->clear();
  runtime::SamplingOptions sampling;
  sampling.temperature = temperature;
  for (size_t i = 0; i < answers.size(); ++i) {
    Rollout& answer = (*all)[answers[i]];
    // A key of its own for every answer of every round.
    sampling.seed = options_.seed * 0x9E3779B97F4A7C15u + round;
    sampling.choice = static_cast<uint32_t>(answers[i]);
    const std::span<const float> row(logits_.data() + i * vocabulary, vocabulary);
    LODE_ASSIGN(const auto sampled, sampler_.Sample(row, sampling, answer.tokens.size()));
    drawn->push_back(sampled.token);
  }
  // As the trainer will see them: by the kernel of its loss.
  const std::vector<float> none(answers.size(), 0.0f);
  std::vector<float> log_p(answers.size()), entropies(answers.size());
  kernels::CrossEntropy(kernels_, logits_.data(), std::ssize(answers), engine_.vocabulary(),
                        drawn->data(), none.data(), log_p.data(), entropies.data());
  for (size_t i = 0; i < answers.size(); ++i) {
    Rollout& answer = (*all)[answers[i]];
    const int32_t token = (*drawn)[i];
    answer.tokens.push_back(token);
    answer.log_probabilities.push_back(log_p[i]);
    answer.entropy += entropies[i];
    answer.ended = std::find(options_.stop_ids.begin(), options_.stop_ids.end(), token) !=
                   options_.stop_ids.end();
    done->push_back(answer.ended || std::ssize(answer.tokens) >= options_.tokens_max);
  }
  return {};
}

Result<void> Sampling::Start(std::span<const int32_t> prompt, std::span<const size_t> answers,
                             double temperature, uint64_t round, std::vector<Rollout>* all,
                             std::vector<Running>* running) {
  LODE_ASSIGN(runtime::Sequence base, engine_.NewSequence());
  LODE_TRY(engine_.Append(base, prompt, logits_.data()));
  // The first tokens of all answers are drawn from one row.
  const auto vocabulary = static_cast<size_t>(engine_.vocabulary());
  for (size_t i = 1; i < answers.size(); ++i) {
    std::copy_n(logits_.data(), vocabulary, logits_.data() + i * vocabulary);
  }
  std::vector<int32_t> drawn;
  std::vector<bool> done;
  LODE_TRY(Draw(answers, temperature, round, all, &drawn, &done));
  for (size_t i = 0; i < answers.size(); ++i) {
    if (done[i]) continue;
    LODE_ASSIGN(runtime::Sequence own, engine_.Fork(base));
    running->push_back({std::move(own), answers[i], drawn[i]});
  }
  return {};
}

Result<void> Sampling::Step(double temperature, uint64_t round, std::vector<Rollout>* all,
                            std::vector<Running>* running) {
  std::vector<runtime::StepItem> items;
  std::vector<size_t> answers;
  for (Running& r : *running) {
    items.push_back({&r.sequence, {&r.token, 1}});
    answers.push_back(r.answer);
  }
  LODE_TRY(engine_.Step(items, logits_.data()));
  std::vector<int32_t> drawn;
  std::vector<bool> done;
  LODE_TRY(Draw(answers, temperature, round, all, &drawn, &done));
  size_t kept = 0;
  for (size_t i = 0; i < running->size(); ++i) {
    if (done[i]) continue;
    (*running)[i].token = drawn[i];
    if (kept != i) (*running)[kept] = std::move((*running)[i]);
    ++kept;
  }
  running->erase(running->begin() + static_cast<std::ptrdiff_t>(kept), running->end());
  return {};
}

Result<std::vector<Rollout>> Sampling::Run(std::span<const std::vector<int32_t>> prompts,
                                           int64_t answers, uint64_t round, double temperature) {
  std::vector<Rollout> all(prompts.size() * static_cast<size_t>(answers));
  for (size_t i = 0; i < all.size(); ++i) all[i].prompt = static_cast<int64_t>(i) / answers;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t tokens = std::ssize(prompts[i]);
    if (tokens > 0 && tokens <= options_.prompt_max) continue;
    return Error(
        Code::kBadInput,
        Format("prompt %zu has %lld tokens", i + 1, static_cast<long long>(tokens)),
        Format("1 to %lld can be asked here", static_cast<long long>(options_.prompt_max)));
  }
  std::vector<Running> running;
  const int64_t room = Together(options_);
  size_t next = 0;
  while (next < prompts.size() || !running.empty()) {
    while (next < prompts.size() && std::ssize(running) + answers <= room) {
      std::vector<size_t> own;
      for (int64_t a = 0; a < answers; ++a) {
        own.push_back(next * static_cast<size_t>(answers) + static_cast<size_t>(a));
      }
      LODE_TRY(Start(prompts[next], own, temperature, round, &all, &running));
      ++next;
    }
    if (!running.empty()) LODE_TRY(Step(temperature, round, &all, &running));
  }
  for (Rollout& answer : all) {
    answer.entropy /= static_cast<double>(std::max<size_t>(1, answer.tokens.size()));
  }
  return all;
}

}  // namespace lode::tune
