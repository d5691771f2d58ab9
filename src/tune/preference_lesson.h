// Preferences: of two answers to a prompt the chosen one shall become likelier than the rejected,
// compared with the model that the run begins with.
//   loss = mean over pairs of softplus(-h),
//   h = beta ((log p(c) - log p0(c)) - (log p(r) - log p0(r)))
// Source: Rafailov et al. 2023 (direct preference optimization).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tune/data/dataset.h"
#include "tune/lesson.h"
#include "tune/passes.h"
#include "tune/run_text.h"
#include "tune/share.h"

namespace lode::tune {

struct PreferenceOptions : RecordsOptions {
  double beta = 0.1;
  double imitate = 0.0;  // weight of the chosen answers' own loss beside it, per token
};

class PreferenceLesson final : public Lesson {
 public:
  // Errors: those of the data; records that are no preferences, or too long.
  static Result<std::unique_ptr<PreferenceLesson>> Open(RunText text,
                                                        const PreferenceOptions& options);

  const text::Tokenizer& tokenizer() const override { return *text_.tokenizer; }
  const TextFiles& files() const override { return text_.files; }
  std::string Summary() const override;
  uint64_t digest() const override { return digest_; }
  uint64_t Bytes(const model::ModelSpec& spec, int threads) const override;

  // Asks the model, as it is now, for the log-probabilities that all later ones are compared with.
  Result<void> Begin(const model::Model& model, train::Trainer* trainer, int threads) override;
  Result<void> Step(StepMetrics* metrics) override;
  // The reward is the share of held-out pairs that moved the right way (h > 0).
  Result<bool> Evaluate(int64_t most, EvaluationMetrics* metrics) override;

 private:
  struct Side {
    std::vector<Example> examples;
    double reference = 0.0;
  };
  struct Pair {
    Side chosen, rejected;
  };

  PreferenceLesson(RunText text, const PreferenceOptions& options)
      : text_(std::move(text)), options_(options) {}
  Result<void> Read();
  Result<std::vector<Pair>> ReadPairs(const std::vector<std::string>& paths,
                                      const Encoder& encoder);
  // log p of each answer, in order.
  std::vector<double> LogProbabilities(std::span<const Side* const> sides);
  // h of each pair.
  std::vector<double> Margins(std::span<const Pair* const> pairs);

  RunText text_;
  PreferenceOptions options_;
  std::vector<Pair> training_, held_out_;
  uint64_t digest_ = 0, bytes_ = 0;
  train::Trainer* trainer_ = nullptr;
};

}  // namespace lode::tune
