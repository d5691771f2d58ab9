#include "tune/text_lesson.h"

#include <algorithm>

#include "base/text.h"

namespace lode::tune {

std::string TextLesson::Summary() const {
  const auto count = [](int64_t number) { return WithThousands(static_cast<uint64_t>(number)); };
  const auto drawn = static_cast<double>(step_rows());
  return count(corpus_->training_tokens()) + " tokens in " + count(corpus_->documents()) +
         (corpus_->documents() == 1 ? " document, " : " documents, ") +
         count(corpus_->held_out_tokens()) + " held out; a step sees " +
         Format("%.3g of the text", drawn / static_cast<double>(corpus_->training_tokens()));
}

Result<void> TextLesson::Begin(const model::Model&, train::Trainer* trainer, int) {
  trainer_ = trainer;
  return {};
}

// The batch in pieces, then the optimizer.
Result<void> TextLesson::Step(StepMetrics* metrics) {
  metrics->tokens = metrics->rows = step_rows();
  const auto coefficient = static_cast<float>(1.0 / static_cast<double>(step_rows()));
  train::PackedBatch batch;
  for (int64_t first = 0; first < options_.batch; first += options_.each) {
    batch.Clear();
    batch.share = static_cast<double>(options_.each) / static_cast<double>(options_.batch);
    for (int64_t row = first; row < first + options_.each; ++row) {
      corpus_->AddTraining(metrics->step - 1, row, coefficient, &batch);
    }
    const train::BatchReport report = trainer_->Gather(batch);
    metrics->loss += report.loss - report.balance;
    metrics->balance += report.balance;
  }
  Move(trainer_, metrics);
  return {};
}

Result<bool> TextLesson::Evaluate(int64_t most, EvaluationMetrics* metrics) {
  const int64_t all = corpus_->held_out();
  if (all == 0) return false;
  const int64_t count = most > 0 ? std::min(most, all) : all;
  double nats = 0.0, bytes = 0.0;
  train::PackedBatch batch;
  for (int64_t first = 0; first < count; first += options_.each) {
    batch.Clear();
    for (int64_t i = first; i < std::min(count, first + options_.each); ++i) {
      corpus_->AddHeldOut(i * all / count, 1.0f, &batch);
    }
    nats += trainer_->Evaluate(batch).loss;
    metrics->tokens += std::ssize(batch.targets);
    for (const int32_t target : batch.targets) {
      bytes += static_cast<double>(corpus_->BytesOf(target));
    }
  }
  metrics->loss = nats / static_cast<double>(metrics->tokens);
  metrics->nats_per_byte = nats / bytes;
  return true;
}

}  // namespace lode::tune
