#include "tune/example_lesson.h"

#include <algorithm>

#include "base/text.h"
#include "tune/passes.h"

namespace lode::tune {
namespace {

constexpr uint64_t kHeldOutKey = 0x48656C64;  // apart from every other use of the seed

}  // namespace

Result<std::vector<std::string>> TextsOf(const std::vector<std::string>& paths) {
  std::vector<std::string> texts;
  const auto add = [&](const Words& words) {
    texts.push_back(words.text);
    for (const Json& message : words.messages) {
      const Json* content = FindKey(message, "content");
      if (content != nullptr && content->is_string()) texts.push_back(content->get<std::string>());
    }
  };
  LODE_ASSIGN(const std::vector<std::string> files, FindDataFiles(paths));
  for (const std::string& file : files) {
    LODE_TRY(VisitRecords(file, {}, [&](const Place&, Result<DataRecord> record) -> Result<void> {
      if (!record.ok()) return {};
      for (const Words* words : {&record->prompt, &record->answer, &record->rejected}) add(*words);
      return {};
    }));
  }
  return texts;
}

Result<std::unique_ptr<ExampleLesson>> ExampleLesson::Open(RunText text,
                                                           const ExampleOptions& options) {
  std::unique_ptr<ExampleLesson> lesson(new ExampleLesson(std::move(text), options));
  LODE_TRY(lesson->Read());
  return lesson;
}

Result<void> ExampleLesson::Read() {
  LODE_ASSIGN(const Encoder encoder, Encoder::Make(text_.side(), options_.encoder));
  // An example has a row less than tokens.
  const ReadOptions read = {.record = {}, .sequence_max = options_.sequence + 1};
  Report report;
  LODE_ASSIGN(std::vector<Example> training,
              LoadExamples(options_.training, encoder, read, options_.strict, &report));
  if (!options_.held_out.empty()) {
    Report other;
    LODE_ASSIGN(held_out_, LoadExamples(options_.held_out, encoder, read, options_.strict, &other));
  } else {
    held_out_ = TakeShare(Mix(options_.seed, kHeldOutKey), options_.held_out_share, &training);
  }
  digest_ = DigestOf(held_out_, DigestOf(training, options_.seed));
  examples_ = std::ssize(training);
  for (const Example& example : training) {
    supervised_ += CountSupervised(example);
    bytes_ += ExampleBytes(example);
  }
  LODE_ASSIGN(source_, MakePacked(std::move(training), {.rows = options_.sequence,
                                                        .order = PackOrder::kShuffled,
                                                        .seed = options_.seed}));
  return {};
}

std::string ExampleLesson::Summary() const {
  const auto count = [](int64_t number) { return WithThousands(static_cast<uint64_t>(number)); };
  return count(examples_) + " examples, " + count(supervised_) + " tokens taught, " +
         count(std::ssize(held_out_)) + " held out; " + source_->Summary();
}

uint64_t ExampleLesson::Bytes(const model::ModelSpec&, int) const { return bytes_; }

Result<void> ExampleLesson::Begin(const model::Model&, train::Trainer* trainer, int) {
  trainer_ = trainer;
  return {};
}

Result<void> ExampleLesson::Step(StepMetrics* metrics) {
  LODE_ASSIGN(const std::vector<Bin> bins, source_->Next(options_.batch));
  const auto coefficients = Coefficients(bins, options_.mean);
  size_t sequences = 0;
  for (const Bin& bin : bins) sequences += bin.size();
  Passes passes(options_.each_rows, options_.each_sequences, [&](train::PackedBatch& batch) {
    batch.share = static_cast<double>(batch.lengths.size()) / static_cast<double>(sequences);
    const train::BatchReport report = trainer_->Gather(batch);
    metrics->loss += report.loss - report.balance;
    metrics->balance += report.balance;
    metrics->rows += std::ssize(batch.tokens);
  });
  for (size_t b = 0; b < bins.size(); ++b) {
    for (size_t i = 0; i < bins[b].size(); ++i) passes.Add(bins[b][i], coefficients[b][i]);
  }
  passes.Finish();
  metrics->tokens = metrics->rows;
  Move(trainer_, metrics);
  return {};
}

Result<bool> ExampleLesson::Evaluate(int64_t most, EvaluationMetrics* metrics) {
  const int64_t all = std::ssize(held_out_);
  if (all == 0) return false;
  const int64_t count = most > 0 ? std::min(most, all) : all;
  double nats = 0.0, bytes = 0.0, weights = 0.0;
  Passes passes(options_.each_rows, options_.each_sequences,
                [&](train::PackedBatch& batch) { nats += trainer_->Evaluate(batch).loss; });
  for (int64_t i = 0; i < count; ++i) {
    const Example& example = held_out_[static_cast<size_t>(i * all / count)];
    for (size_t t = 1; t < example.tokens.size(); ++t) {
      weights += static_cast<double>(example.weights[t]);
      if (example.weights[t] == 0.0f) continue;
      bytes += static_cast<double>(text_.tokenizer->TokenBytes(example.tokens[t]).size());
      ++metrics->tokens;
    }
    passes.Add(example, example.weights);
  }
  passes.Finish();
  metrics->loss = nats / weights;
  metrics->nats_per_byte = nats / bytes;
  return true;
}

}  // namespace lode::tune
