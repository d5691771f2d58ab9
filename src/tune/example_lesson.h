// Fine-tuning: to say what the examples say, of which only the answers count. Examples are packed
// into sequences of one length; nothing flows from one to the next.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tune/data/dataset.h"
#include "tune/data/source.h"
#include "tune/lesson.h"
#include "tune/run_text.h"
#include "tune/share.h"

namespace lode::tune {

struct ExampleOptions : RecordsOptions {
  LossMean mean = LossMean::kToken;
};

class ExampleLesson final : public Lesson {
 public:
  // Errors: those of the data, of which every record is read and checked.
  static Result<std::unique_ptr<ExampleLesson>> Open(RunText text, const ExampleOptions& options);

  const text::Tokenizer& tokenizer() const override { return *text_.tokenizer; }
  const TextFiles& files() const override { return text_.files; }
  std::string Summary() const override;
  uint64_t digest() const override { return digest_; }
  Json Cursor() const override { return source_->Save(); }
  Result<void> Seek(const Json& cursor) override { return source_->Restore(cursor); }
  uint64_t Bytes(const model::ModelSpec& spec, int threads) const override;

  Result<void> Begin(const model::Model& model, train::Trainer* trainer, int threads) override;
  Result<void> Step(StepMetrics* metrics) override;
  Result<bool> Evaluate(int64_t most, EvaluationMetrics* metrics) override;

 private:
  explicit ExampleLesson(RunText text, const ExampleOptions& options)
      : text_(std::move(text)), options_(options) {}
  Result<void> Read();

  RunText text_;
  ExampleOptions options_;
  std::unique_ptr<DataSource> source_;
  std::vector<Example> held_out_;
  int64_t examples_ = 0, supervised_ = 0;
  uint64_t digest_ = 0, bytes_ = 0;
  train::Trainer* trainer_ = nullptr;
};

// The texts of a set of data, for a vocabulary of their characters. Errors: files that cannot be
// read; records that cannot are passed over here.
Result<std::vector<std::string>> TextsOf(const std::vector<std::string>& paths);

}  // namespace lode::tune
