// A tiny hybrid answers, is judged and moves: what is sampled is what is trained, to the bit,
// whatever the company and the threads; and rewards rise.
#include "tune/rl/grpo.h"

#include <gtest/gtest.h>

#include "tests/support/random_model.h"
#include "train/fresh.h"

namespace lode::tune {
namespace {

const std::vector<std::vector<int32_t>> kPrompts = {{5, 9, 200}, {7}, {100, 101, 102, 103, 104}};

RolloutOptions Options() {
  RolloutOptions options;
  options.answers = 6;
  options.tokens_max = 9;
  options.prompt_max = 16;
  options.together = 8;
  options.stop_ids = {3, 4, 5, 6};
  return options;
}

struct Machine {
  explicit Machine(int threads = 1, double rate = 0.0) : pool(threads) {
    train::TrainerOptions options;
    options.rows_max = 40;  // several passes a step
    options.sequences_max = 8;
    options.sequence_max = 32;
    options.router_frozen = true;
    options.bias_rate = 1e-3;
    options.adam.weight_decay = 0.0;
    train::FreshOptions fresh;
    fresh.deviation = 0.1;
    model = std::move(*train::FreshModel(testing::TinyHybridConfig(), fresh));
    trainer = std::move(*train::Trainer::Make(model.get(), &pool, options));
    this->rate = rate;
  }
  ThreadPool pool;
  std::unique_ptr<model::Model> model;
  std::unique_ptr<train::Trainer> trainer;
  double rate;
};

GrpoOptions Step() {
  GrpoOptions options;
  options.answers = 6;
  options.rows_max = 40;
  options.sequences_max = 8;
  return options;
}

// One for every even token.
Result<std::vector<Verdict>> Even(std::span<const Rollout> answers) {
  std::vector<Verdict> verdicts;
  for (const Rollout& answer : answers) {
    double even = 0.0;
    for (const int32_t token : answer.tokens) even += token % 2 == 0 ? 1.0 : 0.0;
    verdicts.push_back({even / static_cast<double>(answer.tokens.size())});
  }
  return verdicts;
}

TEST(RolloutTest, AnswersDependNeitherOnCompanyNorOnThreads) {
  Machine m;
  std::vector<std::vector<Rollout>> runs;
  for (const auto& [together, threads] : {std::pair(8, 1), std::pair(18, 1), std::pair(6, 3)}) {
    RolloutOptions options = Options();
    options.together = together;
    options.threads = threads;
    Sampling sampling(*m.model, options);
    runs.push_back(*sampling.Run(kPrompts, 6, 1));
  }
  bool ended = false, cut_off = false;
  for (size_t i = 0; i < runs[0].size(); ++i) {
    EXPECT_EQ(runs[0][i].prompt, static_cast<int64_t>(i) / 6);
    for (const size_t other : {1, 2}) {
      EXPECT_EQ(runs[0][i].tokens, runs[other][i].tokens);
      EXPECT_EQ(runs[0][i].log_probabilities, runs[other][i].log_probabilities);
    }
    (runs[0][i].ended ? ended : cut_off) = true;
  }
  EXPECT_TRUE(ended);
  EXPECT_TRUE(cut_off);
  EXPECT_NE(runs[0][0].tokens, runs[0][1].tokens);
  Sampling sampling(*m.model, Options());
  EXPECT_NE((*sampling.Run(kPrompts, 6, 2))[0].tokens, runs[0][0].tokens);  // another round
  const auto greedy = *sampling.Run(kPrompts, 2, 1, 0.0);
  EXPECT_EQ(greedy[0].tokens, greedy[1].tokens);
}

TEST(RolloutTest, PromptsThatDoNotFitAreRefused) {
  Machine m;
  Sampling sampling(*m.model, Options());
  const std::vector<std::vector<int32_t>> empty = {{}}, wide = {std::vector<int32_t>(17, 1)};
  EXPECT_FALSE(sampling.Run(empty, 2, 1).ok());
  EXPECT_FALSE(sampling.Run(wide, 2, 1).ok());
}

TEST(GrpoTest, WhatIsSampledIsWhatIsTrainedToTheBit) {
  Machine m(2);
  Sampling sampling(*m.model, Options());
  for (uint64_t round = 1; round <= 5; ++round) {  // also on weights that moved
    const auto report = GrpoStep(m.trainer.get(), &sampling, kPrompts, Even, Step(), round, 1e-2);
    ASSERT_TRUE(report.ok()) << report.error().ToString();
    EXPECT_EQ(report->drift_max, 0.0);
    EXPECT_GT(report->norm, 0.0);
    EXPECT_GT(report->entropy, 0.0);
  }
}

TEST(GrpoTest, RewardsRise) {
  for (const int64_t updates : {1, 2}) {
    Machine m;
    Sampling sampling(*m.model, Options());
    GrpoOptions options = Step();
    options.updates = updates;
    double first = 0.0, last = 0.0, clipped = 0.0;
    for (uint64_t round = 0; round < 30; ++round) {
      const auto report =
          GrpoStep(m.trainer.get(), &sampling, kPrompts, Even, options, round, 5e-3);
      ASSERT_TRUE(report.ok());
      if (round < 3) first += report->reward / 3;
      if (round >= 27) last += report->reward / 3;
      clipped += report->clipped;
    }
    EXPECT_LT(first, 0.7) << updates;
    EXPECT_GT(last, 0.95) << updates;
    EXPECT_EQ(clipped > 0.0, updates > 1);
  }
}

TEST(GrpoTest, TheSameBitsOnAnyNumberOfThreads) {
  std::vector<std::vector<float>> values;
  for (const int threads : {1, 3}) {
    Machine m(threads);
    RolloutOptions rollouts = Options();
    rollouts.threads = threads;
    Sampling sampling(*m.model, rollouts);
    for (uint64_t round = 0; round < 3; ++round) {
      ASSERT_TRUE(GrpoStep(m.trainer.get(), &sampling, kPrompts, Even, Step(), round, 5e-3).ok());
    }
    values.emplace_back();
    for (const train::Parameter& p : m.trainer->parameters().all()) {
      values.back().insert(values.back().end(), p.value.begin(), p.value.end());
    }
  }
  EXPECT_EQ(values[0], values[1]);
}

TEST(GrpoTest, WhatCouldNotBeJudgedTeachesNothing) {
  Machine m;
  Sampling sampling(*m.model, Options());
  std::vector<float> before;
  for (const train::Parameter& p : m.trainer->parameters().all()) {
    before.insert(before.end(), p.value.begin(), p.value.end());
  }
  const Judge nobody = [](std::span<const Rollout> answers) -> Result<std::vector<Verdict>> {
    std::vector<Verdict> verdicts;
    for (size_t i = 0; i < answers.size(); ++i) {
      verdicts.push_back({static_cast<double>(i % 2), i % 6 == 0});  // one of each group
    }
    return verdicts;
  };
  const auto report = GrpoStep(m.trainer.get(), &sampling, kPrompts, nobody, Step(), 1, 1e-2);
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report->invalid, 15);
  EXPECT_EQ(report->flat_groups, 1.0);
  EXPECT_EQ(report->norm, 0.0);
  std::vector<float> after;
  for (const train::Parameter& p : m.trainer->parameters().all()) {
    after.insert(after.end(), p.value.begin(), p.value.end());
  }
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace lode::tune
