#include "tune/record.h"

#include <string_view>

#include "base/file.h"
#include "base/text.h"

namespace lode::tune {
namespace {

constexpr auto kDrawEvery = std::chrono::seconds(15);

StepMetrics StepOf(const Json& line) {
  StepMetrics m;
  m.step = GetInt(line, "step");
  m.loss = GetDouble(line, "loss");
  m.norm = GetDouble(line, "grad_norm");
  m.rate = GetDouble(line, "lr");
  m.tokens_per_second = GetDouble(line, "tokens_per_second");
  m.imbalance = GetDouble(line, "imbalance");
  m.skipped = GetBool(line, "skipped");
  return m;
}

EvaluationMetrics EvaluationOf(const Json& line) {
  EvaluationMetrics m;
  m.step = GetInt(line, "step");
  m.loss = GetDouble(line, "held_out_loss");
  m.nats_per_byte = GetDouble(line, "held_out_nats_per_byte");
  return m;
}

}  // namespace

Result<std::unique_ptr<Record>> Record::Open(const std::string& folder, int64_t step,
                                             uint64_t metrics_bytes) {
  std::unique_ptr<Record> record(new Record(folder));
  const std::string path = folder + "/metrics.jsonl";
  LODE_ASSIGN(record->metrics_, MetricsFile::Open(path, metrics_bytes));
  LODE_TRY(record->ReadBack(path, metrics_bytes));
  LODE_ASSIGN(record->events_, EventFile::Open(folder + "/tensorboard", step));
  return record;
}

Result<void> Record::ReadBack(const std::string& path, uint64_t bytes) {
  if (bytes == 0) return {};
  LODE_ASSIGN(const std::string text, ReadFile(path, uint64_t{4} << 30));
  for (const std::string& line : Split(text, '\n')) {
    if (line.empty()) continue;
    auto parsed = ParseJson(line);
    if (!parsed.ok()) return std::move(parsed.error().AddContext(path));
    if (FindKey(*parsed, "held_out_loss") != nullptr) {
      Plot(EvaluationOf(*parsed));
    } else {
      Plot(StepOf(*parsed));
    }
  }
  return {};
}

void Record::Plot(const StepMetrics& m) {
  last_step_ = m;
  if (m.skipped) return;
  const auto step = static_cast<double>(m.step);
  loss_.Add(step, m.loss);
  norm_.Add(step, m.norm);
  rate_.Add(step, m.rate);
  speed_.Add(step, m.tokens_per_second);
  imbalance_.Add(step, m.imbalance);
}

void Record::Plot(const EvaluationMetrics& m) {
  last_evaluation_ = m;
  held_out_.Add(static_cast<double>(m.step), m.loss);
}

Result<void> Record::Add(const StepMetrics& m) {
  LODE_TRY(metrics_->Append(ToJson(m)));
  Plot(m);
  const Scalar scalars[] = {
      {"train/loss", m.loss},           {"train/balance", m.balance},
      {"train/grad_norm", m.norm},      {"train/learning_rate", m.rate},
      {"train/imbalance", m.imbalance}, {"speed/tokens_per_second", m.tokens_per_second}};
  LODE_TRY(events_->Append(m.step, scalars));
  if (std::chrono::steady_clock::now() - drawn_ < kDrawEvery) return {};
  return Draw();
}

Result<void> Record::Add(const EvaluationMetrics& m) {
  LODE_TRY(metrics_->Append(ToJson(m)));
  Plot(m);
  const Scalar scalars[] = {{"held_out/loss", m.loss}, {"held_out/nats_per_byte", m.nats_per_byte}};
  return events_->Append(m.step, scalars);
}

Result<void> Record::Draw() {
  drawn_ = std::chrono::steady_clock::now();
  std::string summary =
      Format("step %lld, loss %.4f", static_cast<long long>(last_step_.step), last_step_.loss);
  if (last_evaluation_.step > 0) {
    summary +=
        Format("; held out %.4f nats a token, %.4f a byte, at step %lld", last_evaluation_.loss,
               last_evaluation_.nats_per_byte, static_cast<long long>(last_evaluation_.step));
  }
  const std::vector<Chart> charts = {
      {"Loss, nats a token", {{"training", &loss_}, {"held out", &held_out_, true}}},
      {"Norm of the gradient", {{"norm", &norm_}}, true},
      {"Learning rate", {{"rate", &rate_}}},
      {"Tokens a second", {{"speed", &speed_}}},
      {"Fullest expert over the mean, less 1", {{"imbalance", &imbalance_}}}};
  return WriteFileAtomic(folder_ + "/curves.html", CurvesPage(folder_, summary, charts));
}

}  // namespace lode::tune
