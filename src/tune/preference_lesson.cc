#include "tune/preference_lesson.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/text.h"
#include "tune/data/order.h"

namespace lode::tune {
namespace {

constexpr uint64_t kHeldOutKey = 0x50616972;  // apart from every other use of the seed

}  // namespace

Result<std::unique_ptr<PreferenceLesson>> PreferenceLesson::Open(RunText text,
                                                                 const PreferenceOptions& options) {
  std::unique_ptr<PreferenceLesson> lesson(new PreferenceLesson(std::move(text), options));
  LODE_TRY(lesson->Read());
  return lesson;
}

Result<std::vector<PreferenceLesson::Pair>> PreferenceLesson::ReadPairs(
    const std::vector<std::string>& paths, const Encoder& encoder) {
  Report report;
  // An example has a row less than tokens.
  const ReadOptions read = {.record = {}, .sequence_max = options_.sequence + 1};
  LODE_ASSIGN(std::vector<Preference> found,
              LoadPreferences(paths, encoder, read, options_.strict, &report));
  std::vector<Pair> pairs;
  for (Preference& p : found) pairs.push_back({{std::move(p.chosen)}, {std::move(p.rejected)}});
  return pairs;
}

Result<void> PreferenceLesson::Read() {
  LODE_ASSIGN(const Encoder encoder, Encoder::Make(text_.side(), options_.encoder));
  LODE_ASSIGN(training_, ReadPairs(options_.training, encoder));
  if (options_.held_out.empty()) {
    held_out_ = TakeShare(Mix(options_.seed, kHeldOutKey), options_.held_out_share, &training_);
  } else {
    LODE_ASSIGN(held_out_, ReadPairs(options_.held_out, encoder));
  }
  if (training_.empty()) return Error(Code::kBadInput, "there is no preference to learn from");
  digest_ = options_.seed;
  for (const auto* pairs : {&training_, &held_out_}) {
    for (const Pair& pair : *pairs) {
      for (const Side* side : {&pair.chosen, &pair.rejected}) {
        digest_ = DigestOf(side->examples, digest_);
        for (const Example& example : side->examples) bytes_ += ExampleBytes(example);
      }
    }
  }
  return {};
}

std::string PreferenceLesson::Summary() const {
  const auto count = [](int64_t number) { return WithThousands(static_cast<uint64_t>(number)); };
  return count(std::ssize(training_)) + " pairs, " + count(std::ssize(held_out_)) + " held out";
}

uint64_t PreferenceLesson::Bytes(const model::ModelSpec&, int) const { return bytes_; }

std::vector<double> PreferenceLesson::LogProbabilities(std::span<const Side* const> sides) {
  std::vector<float> all;  // of every supervised label
  Passes passes(options_.each_rows, options_.each_sequences, [&](train::PackedBatch& batch) {
    std::vector<float> log_p;
    trainer_->Evaluate(batch, &log_p);
    all.insert(all.end(), log_p.begin(), log_p.end());
  });
  for (const Side* side : sides) {
    for (const Example& example : side->examples) passes.Add(example, example.weights);
  }
  passes.Finish();
  std::vector<double> sums;
  size_t at = 0;
  for (const Side* side : sides) {
    double sum = 0.0;
    for (const Example& example : side->examples) {
      for (const float weight : example.weights) {
        if (weight != 0.0f) sum += static_cast<double>(weight) * all[at++];
      }
    }
    sums.push_back(sum);
  }
  LODE_CHECK(at == all.size());
  return sums;
}

Result<void> PreferenceLesson::Begin(const model::Model&, train::Trainer* trainer, int) {
  trainer_ = trainer;
  std::vector<Side*> sides;
  for (auto* pairs : {&training_, &held_out_}) {
    for (Pair& pair : *pairs) sides.insert(sides.end(), {&pair.chosen, &pair.rejected});
  }
  const std::vector<const Side*> asked(sides.begin(), sides.end());
  const std::vector<double> references = LogProbabilities(asked);
  for (size_t i = 0; i < sides.size(); ++i) sides[i]->reference = references[i];
  return {};
}

std::vector<double> PreferenceLesson::Margins(std::span<const Pair* const> pairs) {
  std::vector<const Side*> sides;
  for (const Pair* pair : pairs) sides.insert(sides.end(), {&pair->chosen, &pair->rejected});
  const std::vector<double> now = LogProbabilities(sides);
  std::vector<double> margins;
  for (size_t i = 0; i < pairs.size(); ++i) {
    margins.push_back(options_.beta * ((now[2 * i] - pairs[i]->chosen.reference) -
                                       (now[2 * i + 1] - pairs[i]->rejected.reference)));
  }
  return margins;
}

Result<void> PreferenceLesson::Step(StepMetrics* metrics) {
  std::vector<const Pair*> pairs;
  for (int64_t i = 0; i < options_.batch; ++i) {
    const auto at = static_cast<uint64_t>((metrics->step - 1) * options_.batch + i);
    pairs.push_back(&training_[AtOfEpochs(at, training_.size(), options_.seed)]);
  }
  const std::vector<double> margins = Margins(pairs);
  const auto count = static_cast<double>(pairs.size());
  double taught = 0.0;  // labels of chosen answers
  for (const Pair* pair : pairs) {
    for (const Example& example : pair->chosen.examples) {
      taught += static_cast<double>(CountSupervised(example));
    }
  }
  Passes passes(options_.each_rows, options_.each_sequences, [&](train::PackedBatch& batch) {
    batch.share = static_cast<double>(batch.lengths.size()) / (2.0 * count);
    const train::BatchReport report = trainer_->Gather(batch);
    metrics->balance += report.balance;
    metrics->rows += std::ssize(batch.tokens);
  });
  double right = 0.0, margin = 0.0;
  for (size_t i = 0; i < pairs.size(); ++i) {
    // d loss / d log p(chosen) = -beta sigmoid(-h) / pairs; the trainer's loss is - sum c log p.
    const double pull = options_.beta / (1.0 + std::exp(margins[i])) / count;
    metrics->loss +=
        std::log1p(std::exp(-std::fabs(margins[i]))) / count + std::max(0.0, -margins[i]) / count;
    right += margins[i] > 0.0 ? 1.0 / count : 0.0;
    margin += margins[i] / count;
    const auto add = [&](const Side& side, double scale) {
      for (const Example& example : side.examples) {
        std::vector<float> coefficients = example.weights;
        for (float& c : coefficients) c *= static_cast<float>(scale);
        passes.Add(example, coefficients);
      }
    };
    add(pairs[i]->chosen, pull + options_.imitate / std::max(1.0, taught));
    add(pairs[i]->rejected, -pull);
  }
  passes.Finish();
  metrics->tokens = metrics->rows;
  metrics->more = {{"preferred", right}, {"margin", margin}};
  Move(trainer_, metrics);
  return {};
}

Result<bool> PreferenceLesson::Evaluate(int64_t most, EvaluationMetrics* metrics) {
  const int64_t all = std::ssize(held_out_);
  if (all == 0) return false;
  const int64_t count = most > 0 ? std::min(most, all) : all;
  std::vector<const Pair*> pairs;
  for (int64_t i = 0; i < count; ++i) {
    pairs.push_back(&held_out_[static_cast<size_t>(i * all / count)]);
    for (const Example& example : pairs.back()->chosen.examples) {
      metrics->tokens += CountSupervised(example);
    }
  }
  double right = 0.0;
  for (const double margin : Margins(pairs)) right += margin > 0.0 ? 1.0 : 0.0;
  metrics->reward = right / static_cast<double>(count);
  return true;
}

}  // namespace lode::tune
