// Training steps on a tiny hybrid with every kind of block: they learn, they have the same bits on
// any number of threads, and they stand still where gradients are no numbers.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>

#include "runtime/engine.h"
#include "tests/support/random_model.h"
#include "train/fresh.h"
#include "train/trainer.h"

namespace lode {
namespace {

using testing::RandomModel;
using train::PackedBatch;

// Text that can be learnt: three sequences that repeat after some tokens.
PackedBatch Repeating() {
  PackedBatch batch;
  for (const int32_t period : {3, 5, 7}) {
    std::vector<int32_t> tokens, targets;
    for (int32_t t = 0; t < 20; ++t) {
      tokens.push_back(10 * period + t % period);
      targets.push_back(10 * period + (t + 1) % period);
    }
    batch.Add(tokens, targets, std::vector<float>(20, 1.0f / 60.0f));
  }
  return batch;
}

struct Machine {
  explicit Machine(int threads, train::TrainerOptions options = {}) : pool(threads) {
    options.rows_max = 64;
    options.sequences_max = 3;
    options.sequence_max = 64;
    model = std::move(*RandomModel(testing::TinyHybridConfig()));
    trainer = std::move(*train::Trainer::Make(model.get(), &pool, options));
  }
  std::vector<float> Values() {
    std::vector<float> all;
    for (const train::Parameter& p : trainer->parameters().all()) {
      all.insert(all.end(), p.value.begin(), p.value.end());
    }
    return all;
  }
  ThreadPool pool;
  std::unique_ptr<model::Model> model;
  std::unique_ptr<train::Trainer> trainer;
};

TEST(TrainSteps, LearnABatchByHeart) {
  Machine m(2);
  const PackedBatch batch = Repeating();
  const double first = m.trainer->Evaluate(batch).loss;
  EXPECT_GT(first, 4.0);
  double loss = first;
  for (int step = 0; step < 60; ++step) {
    loss = m.trainer->Gather(batch).loss;
    EXPECT_FALSE(m.trainer->Update(3e-3).skipped);
  }
  EXPECT_LT(loss, 0.02);
  EXPECT_NEAR(m.trainer->Evaluate(batch).loss, loss, 0.02);
}

TEST(TrainSteps, HaveTheSameBitsOnAnyThreadsAndWithRecomputation) {
  train::TrainerOptions options;
  options.balance = 1e-2;
  options.bias_rate = 1e-3;
  Machine one(1, options), three(3, options);
  options.recompute = true;
  Machine again(2, options);
  const PackedBatch batch = Repeating();
  for (int step = 0; step < 3; ++step) {
    for (Machine* m : {&one, &three, &again}) {
      m->trainer->Gather(batch);
      m->trainer->Update(1e-3);
    }
  }
  EXPECT_EQ(one.Values(), three.Values());
  EXPECT_EQ(one.Values(), again.Values());
  EXPECT_EQ(one.model->layers[1].moe.bias, three.model->layers[1].moe.bias);
  EXPECT_EQ(one.model->layers[1].moe.bias, again.model->layers[1].moe.bias);
}

TEST(TrainSteps, GatherOverBatches) {
  Machine whole(2), parts(2);
  const PackedBatch batch = Repeating();
  whole.trainer->Gather(batch);
  for (size_t i = 0; i < 3; ++i) {
    PackedBatch part;
    const auto cut = [&](const auto& all) {
      return std::span(all).subspan(20 * i, 20);
    };
    part.Add(cut(batch.tokens), cut(batch.targets), cut(batch.coefficients));
    parts.trainer->Gather(part);
  }
  const auto a = whole.trainer->Update(1e-3), b = parts.trainer->Update(1e-3);
  EXPECT_NEAR(a.norm, b.norm, 1e-5 * a.norm);
}

TEST(TrainSteps, MoveBiasesTowardsExpertsThatGotTooLittle) {
  train::TrainerOptions options;
  options.bias_rate = 1e-2;
  Machine m(2, options);
  const std::vector<float> before = m.model->layers[1].moe.bias;
  m.trainer->Gather(Repeating());
  const std::vector<int64_t> loads = m.trainer->loads()[1];
  int64_t all = 0;
  for (const int64_t load : loads) all += load;
  EXPECT_EQ(all, 120);  // 60 rows, two experts each
  m.trainer->Update(1e-3);
  for (size_t e = 0; e < loads.size(); ++e) {
    const float moved = m.model->layers[1].moe.bias[e] - before[e];
    EXPECT_EQ(moved > 0.0f, loads[e] < 15) << e;
    EXPECT_EQ(moved < 0.0f, loads[e] > 15) << e;
  }
}

TEST(TrainSteps, StandStillWhereGradientsAreNoNumbers) {
  Machine m(2);
  const std::vector<float> before = m.Values();
  m.trainer->Gather(Repeating());
  m.trainer->parameters().all()[3].gradient[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(m.trainer->Update(1e-3).skipped);
  EXPECT_EQ(m.Values(), before);
  m.trainer->Gather(Repeating());
  EXPECT_FALSE(m.trainer->Update(1e-3).skipped);
  EXPECT_NE(m.Values(), before);
}

// The sampler's log-probability of a token and the trainer's are one number, whatever step of
// training the weights are at: the sampler runs the masters, one token after the other.
TEST(TrainSteps, JudgeTokensAsTheSamplerDoesToTheBit) {
  Machine m(2);
  const PackedBatch batch = Repeating();
  for (int step = 0; step < 3; ++step) {
    std::vector<float> trained;
    m.trainer->Gather(batch, &trained);
    runtime::EngineOptions options;
    options.threads = 2;
    runtime::Engine engine(*m.model, options);
    std::vector<float> logits(256), sampled;
    for (size_t row = 0; row < 60; row += 20) {
      auto sequence = engine.NewSequence();
      ASSERT_TRUE(sequence.ok());
      for (size_t t = row; t < row + 20; ++t) {
        ASSERT_TRUE(engine.Append(*sequence, {&batch.tokens[t], 1}, logits.data()).ok());
        const float none = 0.0f;
        sampled.push_back(0.0f);
        kernels::CrossEntropy(m.trainer->runner().kernels(), logits.data(), 1, 256,
                              &batch.targets[t], &none, &sampled.back(), nullptr);
      }
    }
    EXPECT_EQ(trained, sampled) << step;
    m.trainer->Update(1e-3);
  }
}

TEST(TrainSteps, BeginWithAModelThatKnowsNothing) {
  const Json config = testing::TinyHybridConfig();
  auto model = train::FreshModel(config, {.seed = 5, .deviation = 0.02});
  ASSERT_TRUE(model.ok()) << model.error().ToString();
  ThreadPool pool(2);
  train::TrainerOptions options;
  options.rows_max = 64;
  auto trainer = std::move(*train::Trainer::Make(model->get(), &pool, options));
  PackedBatch batch = Repeating();
  EXPECT_NEAR(trainer->Evaluate(batch).loss, std::log(256.0), 0.02 * std::log(256.0));
  // Every kind of weight gathers something, and the same seed makes the same model.
  trainer->Gather(batch);
  trainer->parameters().FinishGradients();
  auto again = std::move(*train::FreshModel(config, {.seed = 5, .deviation = 0.02}));
  auto other = std::move(*train::FreshModel(config, {.seed = 6, .deviation = 0.02}));
  EXPECT_EQ(again->layers[0].mamba2.dt_bias, (*model)->layers[0].mamba2.dt_bias);
  EXPECT_NE(other->layers[0].mamba2.dt_bias, (*model)->layers[0].mamba2.dt_bias);
  for (const train::Parameter& p : trainer->parameters().all()) {
    double gradient = 0.0, square = 0.0;
    for (const float g : p.gradient) gradient += std::abs(g);
    for (const float v : p.value) square += static_cast<double>(v) * v;
    EXPECT_GT(gradient, 0.0) << p.name;
    if (p.form != train::Form::kMatrix) continue;
    const double deviation = std::sqrt(square / static_cast<double>(p.value.size()));
    const bool joins = p.name.find("out_proj") != std::string::npos ||
                       p.name.find("o_proj") != std::string::npos ||
                       p.name.find("down_proj") != std::string::npos;
    EXPECT_NEAR(deviation, joins ? 0.02 / std::sqrt(10.0) : 0.02, 0.1 * 0.02) << p.name;
  }
}

TEST(TrainSteps, TakeTheMemoryThatIsPlanned) {
  Machine m(2);
  EXPECT_EQ(m.trainer->parameters().taken(), train::Parameters::Bytes(m.model->spec));
  EXPECT_EQ(m.trainer->parameters().count(), train::Parameters::Count(m.model->spec));
}

}  // namespace
}  // namespace lode
