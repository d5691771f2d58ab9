#include "tune/run.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/file.h"
#include "base/text.h"
#include "runtime/engine.h"
#include "runtime/sampling/sampler.h"
#include "tune/atomic_folder.h"

namespace lode::tune {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool Due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

constexpr double kSmooth = 0.98;  // of the running mean of losses

}  // namespace

Result<RunReport> TrainingRun::Run(const std::string& folder, bool resume, const Watcher& watcher) {
  LODE_TRY(Begin(folder, resume, watcher));
  bool stopped = false, patient = true;
  while (state_.step < config_.steps && !stopped && patient) {
    LODE_ASSIGN(const StepMetrics metrics, Step());
    Count(metrics);
    LODE_TRY(Report(metrics, watcher));
    const bool last = state_.step == config_.steps;
    const int64_t best = state_.best_step;
    if (Due(state_.step, config_.evaluate_every) && !last) {
      LODE_TRY(Evaluate(config_.evaluate_sequences, watcher));
      patient = config_.patience == 0 || state_.since_best < config_.patience;
    }
    if (Due(state_.step, config_.sample_every) && !last) LODE_TRY(Sample(watcher));
    stopped = watcher.stopped();
    if ((Due(state_.step, config_.checkpoint_every) || state_.best_step != best) && !last &&
        !stopped && patient) {
      LODE_TRY(Save());
    }
  }
  return Finish(stopped && state_.step < config_.steps, watcher);
}

Result<StepMetrics> TrainingRun::Step() {
  const auto start = Clock::now();
  StepMetrics metrics;
  metrics.step = state_.step + 1;
  metrics.rate = schedule_.At(state_.step);
  LODE_TRY(lesson_->Step(&metrics));
  metrics.seconds = SecondsSince(start);
  metrics.tokens_per_second = static_cast<double>(metrics.tokens) / metrics.seconds;
  return metrics;
}

void TrainingRun::Count(const StepMetrics& metrics) {
  state_.step = metrics.step;
  state_.seconds += metrics.seconds;
  state_.skips += metrics.skipped ? 1 : 0;
  state_.skips_in_row = metrics.skipped ? state_.skips_in_row + 1 : 0;
  if (metrics.skipped) return;
  state_.smooth_loss = state_.smooth_loss == 0.0
                           ? metrics.loss
                           : kSmooth * state_.smooth_loss + (1.0 - kSmooth) * metrics.loss;
}

Result<void> TrainingRun::Report(const StepMetrics& metrics, const Watcher& watcher) {
  LODE_TRY(record_->Add(metrics));
  StepProgress progress;
  progress.metrics = metrics;
  progress.steps = config_.steps;
  progress.smooth_loss = state_.smooth_loss;
  progress.flops_per_second =
      plan_.flops_per_row * static_cast<double>(metrics.rows) / metrics.seconds;
  if (peak_flops_ > 0.0) progress.peak_share = progress.flops_per_second / peak_flops_;
  progress.seconds_left = state_.seconds / static_cast<double>(state_.step) *
                          static_cast<double>(config_.steps - state_.step);
  watcher.step(progress);
  if (state_.skips_in_row < config_.skips_max) return {};
  return Error(
      Code::kBadInput,
      Format("the loss or the gradient was no number in %lld steps in a row, up to step "
             "%lld: the run has diverged",
             static_cast<long long>(state_.skips_in_row), static_cast<long long>(state_.step)),
      "lower schedule.peak or optimizer.norm_max, and go on from the last checkpoint");
}

Result<void> TrainingRun::Evaluate(int64_t most, const Watcher& watcher) {
  EvaluationMetrics metrics;
  metrics.step = state_.step;
  LODE_ASSIGN(const bool judged, lesson_->Evaluate(most, &metrics));
  if (!judged) return {};
  if (most == 0 && state_.judged_step == state_.step) {  // before it was stopped: written down
    metrics.best = state_.best_step == state_.step;
    last_ = metrics;
    return {};
  }
  metrics.best = metrics.cost() < state_.best_loss;
  state_.since_best = metrics.best ? 0 : state_.since_best + 1;
  if (metrics.best) {
    state_.best_loss = metrics.cost();
    state_.best_step = state_.step;
  }
  last_ = metrics;
  if (most == 0) state_.judged_step = state_.step;
  LODE_TRY(record_->Add(metrics));
  watcher.evaluation(metrics);
  return {};
}

// The model as it is now goes on with a text, by the runtime's own passes and sampler.
Result<void> TrainingRun::Sample(const Watcher& watcher) {
  const text::Tokenizer& tokenizer = lesson_->tokenizer();
  LODE_ASSIGN(std::vector<int32_t> tokens, tokenizer.Encode(config_.sample_prompt));
  if (tokens.empty()) tokens.push_back(tokenizer.eos_id().value_or(0));
  runtime::EngineOptions options;
  options.threads = pool_->threads();
  options.context_tokens = std::ssize(tokens) + config_.sample_tokens;
  options.rows_max = std::min<int64_t>(64, options.context_tokens);
  runtime::Engine engine(*model_, options);
  runtime::Sampler sampler(engine.vocabulary());
  runtime::SamplingOptions sampling;
  sampling.temperature = config_.sample_temperature;
  sampling.seed = static_cast<uint64_t>(config_.seed);
  std::vector<float> logits(static_cast<size_t>(engine.vocabulary()));
  LODE_ASSIGN(runtime::Sequence sequence, engine.NewSequence());
  LODE_TRY(engine.Append(sequence, tokens, logits.data()));
  text::StreamDecoder decoder(tokenizer, true);
  std::string text;
  for (int64_t i = 0; i < config_.sample_tokens; ++i) {
    LODE_ASSIGN(const runtime::Sampled next,
                sampler.Sample(logits, sampling, static_cast<uint64_t>(sequence.tokens())));
    if (next.token == tokenizer.eos_id()) break;
    text += decoder.Push(next.token);
    if (i + 1 == config_.sample_tokens || watcher.stopped()) break;
    LODE_TRY(engine.Append(sequence, {&next.token, 1}, logits.data()));
  }
  watcher.sample(state_.step, text + decoder.Flush());
  return {};
}

Result<void> TrainingRun::Save() {
  state_.metrics_bytes = record_->metrics_bytes();
  state_.cursor = lesson_->Cursor();
  return checkpoints_->Save(state_);
}

Result<RunReport> TrainingRun::Finish(bool stopped, const Watcher& watcher) {
  RunReport report;
  report.stopped = stopped;
  report.stopped_early = !stopped && state_.step < config_.steps;
  if (!stopped) LODE_TRY(Evaluate(0, watcher));
  LODE_TRY(Save());
  if (!stopped) {
    if (config_.sample_every > 0) LODE_TRY(Sample(watcher));
    report.model = folder_ + "/model";
    LODE_TRY(WriteModel(report.model));
  }
  LODE_TRY(record_->Draw());
  LODE_TRY(checkpoints_->Wait());
  report.state = state_;
  report.last = last_;
  return report;
}

Result<void> TrainingRun::WriteModel(const std::string& path) {
  std::vector<float> values(static_cast<size_t>(weights_->count()));
  weights_->CopyTo(values);
  LODE_ASSIGN(AtomicFolder folder, AtomicFolder::Create(path));
  const auto type = config_.type == "bf16" ? tensor::DType::kBF16 : tensor::DType::kF32;
  LODE_TRY(weights_->Write(folder.temporary(), values, type, lesson_->files()));
  return folder.Commit();
}

Result<double> TrainingRun::MeasureStep(int64_t steps) {
  double before = 0.0;
  for (int64_t i = 0; i <= steps; ++i) {
    LODE_ASSIGN(const StepMetrics metrics, Step());
    Count(metrics);
    if (i == 0) before = state_.seconds;
  }
  return (state_.seconds - before) / static_cast<double>(steps);
}

}  // namespace lode::tune
