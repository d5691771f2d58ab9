// Pretraining: to go on with plain text, every token counting the same.
#pragma once

#include <memory>
#include <string>

#include "tune/corpus.h"
#include "tune/lesson.h"

namespace lode::tune {

struct TextLessonOptions {
  int64_t batch = 16, sequence = 256;
  int64_t each = 16;  // sequences that go through at once; divides the batch
};

class TextLesson final : public Lesson {
 public:
  TextLesson(std::unique_ptr<Corpus> corpus, const TextLessonOptions& options)
      : corpus_(std::move(corpus)), options_(options) {}

  const text::Tokenizer& tokenizer() const override { return corpus_->tokenizer(); }
  const TextFiles& files() const override { return corpus_->files(); }
  std::string Summary() const override;
  uint64_t digest() const override { return corpus_->digest(); }
  uint64_t Bytes(const model::ModelSpec&, int) const override { return corpus_->bytes(); }

  Result<void> Begin(const model::Model& model, train::Trainer* trainer, int threads) override;
  Result<void> Step(StepMetrics* metrics) override;
  Result<bool> Evaluate(int64_t most, EvaluationMetrics* metrics) override;

 private:
  int64_t step_rows() const { return options_.batch * options_.sequence; }

  std::unique_ptr<Corpus> corpus_;
  TextLessonOptions options_;
  train::Trainer* trainer_ = nullptr;
};

}  // namespace lode::tune
