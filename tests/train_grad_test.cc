// The gradients of whole models against differences of their losses, tensor by tensor, and what
// must not change them: threads, recomputation, and how sequences are packed.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <utility>

#include "model/backward.h"
#include "tests/support/random_model.h"
#include "train/parameters.h"

namespace lode {
namespace {

using testing::RandomModel;

Json Config(bool latent) {
  Json config = testing::TinyHybridConfig();
  config["hybrid_override_pattern"] = "ME*-M";
  config["num_attention_heads"] = 4;
  config["num_key_value_heads"] = 2;
  if (latent) config["moe_latent_size"] = 32;
  return config;
}

// A model, its parameters, and one batch: sequences of tokens whose every next token is a target.
class Trial {
 public:
  Trial(bool latent, int threads, bool recompute, std::vector<int64_t> lengths)
      : lengths_(std::move(lengths)), pool_(threads) {
    auto model = RandomModel(Config(latent));
    LODE_CHECK(model.ok());
    model_ = std::move(*model);
    for (const int64_t length : lengths_) rows_ += length;
    runner_ = std::make_unique<model::Runner>(*model_, model::Numerics(), &pool_, rows_);
    auto parameters = train::Parameters::Make(model_.get(), &runner_->kernels());
    LODE_CHECK(parameters.ok());
    parameters_ = std::move(*parameters);
    tape_ = std::make_unique<model::Tape>(runner_.get(), rows_, recompute);
    backward_ = std::make_unique<model::Backward>(runner_.get(), rows_, std::ssize(lengths_));
    std::mt19937 random(7);
    for (int64_t i = 0; i < rows_; ++i) {
      tokens_.push_back(static_cast<int32_t>(random() % 256));
      targets_.push_back(static_cast<int32_t>(random() % 256));
      wanted_.push_back(static_cast<int32_t>(i));
      coefficients_.push_back(i % 5 == 2 ? 0.0f : 1.0f / static_cast<float>(rows_));
    }
    const model::StateLayout& layout = runner_->layout();
    int64_t first = 0;
    for (const int64_t length : lengths_) {
      LODE_CHECK(length <= kernels::kPageTokens);
      pages_.emplace_back(layout.page_bytes);
      zero_.resize(layout.slot_bytes);
      slots_.emplace_back(layout.slot_bytes);
      page_lists_.push_back(pages_.back().data());
      model::SequenceView view;
      view.rows = {first, length};
      view.slot_source = zero_.data();
      view.slot_target = slots_.back().data();
      views_.push_back(view);
      first += length;
    }
    for (size_t i = 0; i < views_.size(); ++i) views_[i].pages = &page_lists_[i];
  }

  // - sum c log p over rows [begin, end)
  double Loss() {
    Forward();
    double loss = 0.0;
    std::vector<float> logits(static_cast<size_t>(model_->spec.vocabulary));
    for (int64_t t = 0; t < rows_; ++t) {
      runner_->Head(runner_->workspace().hidden + t * model_->spec.width, 1, logits.data());
      double sum = 0.0;
      for (const float z : logits) sum += std::exp(static_cast<double>(z));
      const auto at = static_cast<size_t>(t);
      loss += coefficients_[at] *
              (std::log(sum) - logits[static_cast<size_t>(targets_[at])]);
    }
    return loss;
  }

  // Adds this batch's gradients; returns the loss by the log-probabilities.
  double Gradients(const model::BackwardOptions& options = {}) {
    Forward();
    std::vector<float> log_p(wanted_.size());
    backward_->Loss(wanted_, targets_.data(), coefficients_.data(), rows_, &parameters_->grad(),
                    log_p.data(), nullptr);
    backward_->Run(tokens_, views_, tape_.get(), options, &parameters_->grad());
    parameters_->FinishGradients();
    double loss = 0.0;
    for (size_t i = 0; i < log_p.size(); ++i) loss -= coefficients_[i] * log_p[i];
    return loss;
  }

  train::Parameters& parameters() { return *parameters_; }
  // Every token goes to these two.
  void ChooseExperts(int first, int second) {
    for (model::Layer& layer : model_->layers) {
      for (size_t e = 0; e < layer.moe.bias.size(); ++e) {
        layer.moe.bias[e] = std::cmp_equal(e, first) || std::cmp_equal(e, second) ? 9.0f : 0.0f;
      }
    }
  }
  std::vector<float> AllGradients() {
    std::vector<float> all;
    for (const train::Parameter& p : parameters_->all()) {
      all.insert(all.end(), p.gradient.begin(), p.gradient.end());
    }
    return all;
  }
  void SetTokens(std::vector<int32_t> tokens, std::vector<int32_t> targets,
                 std::vector<float> coefficients) {
    tokens_ = std::move(tokens);
    targets_ = std::move(targets);
    coefficients_ = std::move(coefficients);
  }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::vector<int32_t>& targets() const { return targets_; }
  const std::vector<float>& coefficients() const { return coefficients_; }

 private:
  void Forward() {
    tape_->Begin(rows_);
    runner_->Forward({tokens_, views_, {}, nullptr});
  }

  std::vector<int64_t> lengths_;
  ThreadPool pool_;
  int64_t rows_ = 0;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<model::Runner> runner_;
  std::unique_ptr<train::Parameters> parameters_;
  std::unique_ptr<model::Tape> tape_;
  std::unique_ptr<model::Backward> backward_;
  std::vector<int32_t> tokens_, targets_, wanted_;
  std::vector<float> coefficients_;
  std::vector<std::vector<std::byte>> pages_, slots_;
  std::vector<std::byte> zero_;
  std::vector<std::byte*> page_lists_;
  std::vector<model::SequenceView> views_;
};

// The slope of the loss along a tensor's own gradient, over the gradient's square: 1.
double SlopeAlongGradient(Trial* trial, train::Parameter* p, double square) {
  const double step = 0.001 / square;  // moves the loss by 0.002, well above f32's noise
  const std::vector<float> before(p->value.begin(), p->value.end());
  const auto at = [&](double factor) {
    for (size_t i = 0; i < before.size(); ++i) {
      p->value[i] = before[i] + static_cast<float>(factor * step * p->gradient[i]);
    }
    trial->parameters().Publish();
    return trial->Loss();
  };
  const double slope = (8.0 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12.0 * step);
  at(0);
  return slope / square;
}

// Each time two other experts are chosen by a bias that no step overturns: the loss is not smooth
// where the choice changes.
TEST(TrainGradients, AgreeWithDifferencesOfTheLossForEveryTensor) {
  for (int pair = 0; pair < 4; ++pair) {
    Trial trial(pair % 2 == 1, 2, false, {40, 3, 21});
    trial.ChooseExperts(2 * pair, 2 * pair + 1);
    const double loss = trial.Gradients();
    EXPECT_NEAR(loss, trial.Loss(), 1e-5);
    int silent = 0;
    for (train::Parameter& p : trial.parameters().all()) {
      double square = 0.0;
      for (const float g : p.gradient) square += static_cast<double>(g) * g;
      if (square == 0.0) {
        EXPECT_NE(p.name.find(".experts."), std::string::npos) << p.name;
        ++silent;
        continue;
      }
      EXPECT_NEAR(SlopeAlongGradient(&trial, &p, square), 1.0, 2e-3) << p.name << " " << pair;
    }
    EXPECT_EQ(silent, 12);  // both matrices of the six experts that nobody asked
  }
}

TEST(TrainGradients, AreTheSameBitsOnAnyThreadsAndWithRecomputation) {
  Trial one(true, 1, false, {40, 3, 21});
  one.Gradients({0.01, false});
  for (const bool recompute : {false, true}) {
    Trial three(true, 3, recompute, {40, 3, 21});
    three.Gradients({0.01, false});
    EXPECT_EQ(one.AllGradients(), three.AllGradients()) << recompute;
  }
}

TEST(TrainGradients, OfPackedSequencesAreThoseOfEachAlone) {
  Trial packed(false, 2, false, {30, 12});
  packed.Gradients();
  const std::vector<float> together = packed.AllGradients();
  std::vector<double> apart(together.size(), 0.0);
  size_t first = 0;
  for (const int64_t length : {30, 12}) {
    Trial alone(false, 2, false, {length});
    const auto part = [&](const auto& all) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
      return std::decay_t<decltype(all)>(begin, begin + length);
    };
    alone.SetTokens(part(packed.tokens()), part(packed.targets()), part(packed.coefficients()));
    alone.Gradients();
    const std::vector<float> own = alone.AllGradients();
    for (size_t i = 0; i < own.size(); ++i) apart[i] += own[i];
    first += static_cast<size_t>(length);
  }
  double error = 0.0, norm = 0.0;
  for (size_t i = 0; i < apart.size(); ++i) {
    error += (together[i] - apart[i]) * (together[i] - apart[i]);
    norm += apart[i] * apart[i];
  }
  EXPECT_LT(std::sqrt(error / norm), 1e-6);
}

}  // namespace
}  // namespace lode
