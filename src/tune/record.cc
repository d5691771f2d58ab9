#include "tune/record.h"

#include <list>
#include <string_view>

#include "base/file.h"
#include "base/text.h"

namespace lode::tune {
namespace {

constexpr auto kDrawEvery = std::chrono::seconds(15);

// Of what lessons say besides, what has curves of its own.
constexpr const char* kDrawn[] = {"reward", "entropy", "answer_tokens", "preferred"};

StepMetrics StepOf(const Json& line) {
  StepMetrics m;
  m.step = GetInt(line, "step");
  m.loss = GetDouble(line, "loss");
  m.norm = GetDouble(line, "grad_norm");
  m.rate = GetDouble(line, "lr");
  m.tokens_per_second = GetDouble(line, "tokens_per_second");
  m.imbalance = GetDouble(line, "imbalance");
  m.skipped = GetBool(line, "skipped");
  for (const char* name : kDrawn) {
    if (FindKey(line, name) != nullptr) m.more.emplace_back(name, GetDouble(line, name));
  }
  return m;
}

EvaluationMetrics EvaluationOf(const Json& line) {
  EvaluationMetrics m;
  m.step = GetInt(line, "step");
  m.loss = GetDouble(line, "held_out_loss");
  m.nats_per_byte = GetDouble(line, "held_out_nats_per_byte");
  if (FindKey(line, "held_out_reward") != nullptr) m.reward = GetDouble(line, "held_out_reward");
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
    if (FindKey(*parsed, "held_out_tokens") != nullptr) {
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
  for (const auto& [name, value] : m.more) {
    for (const char* drawn : kDrawn) {
      if (name == drawn) more_[name].Add(step, value);
    }
  }
}

void Record::Plot(const EvaluationMetrics& m) {
  last_evaluation_ = m;
  held_out_.Add(static_cast<double>(m.step), m.rewarded() ? m.reward : m.loss);
}

Result<void> Record::Add(const StepMetrics& m) {
  LODE_TRY(metrics_->Append(ToJson(m)));
  Plot(m);
  std::vector<Scalar> scalars = {
      {"train/loss", m.loss},           {"train/balance", m.balance},
      {"train/grad_norm", m.norm},      {"train/learning_rate", m.rate},
      {"train/imbalance", m.imbalance}, {"speed/tokens_per_second", m.tokens_per_second}};
  std::list<std::string> tags;  // that the scalars look at
  for (const auto& [name, value] : m.more) {
    scalars.push_back({tags.emplace_back("train/" + name), value});
  }
  LODE_TRY(events_->Append(m.step, scalars));
  if (std::chrono::steady_clock::now() - drawn_ < kDrawEvery) return {};
  return Draw();
}

Result<void> Record::Add(const EvaluationMetrics& m) {
  LODE_TRY(metrics_->Append(ToJson(m)));
  Plot(m);
  std::vector<Scalar> scalars = {{"held_out/loss", m.loss},
                                 {"held_out/nats_per_byte", m.nats_per_byte}};
  if (m.rewarded()) scalars = {{"held_out/reward", m.reward}};
  return events_->Append(m.step, scalars);
}

Result<void> Record::Draw() {
  drawn_ = std::chrono::steady_clock::now();
  std::string summary =
      Format("step %lld, loss %.4f", static_cast<long long>(last_step_.step), last_step_.loss);
  const auto evaluated = static_cast<long long>(last_evaluation_.step);
  if (evaluated > 0 && last_evaluation_.rewarded()) {
    summary += Format("; held-out reward %.4f at step %lld", last_evaluation_.reward, evaluated);
  } else if (evaluated > 0) {
    summary += Format("; held out %.4f nats a token, %.4f a byte, at step %lld",
                      last_evaluation_.loss, last_evaluation_.nats_per_byte, evaluated);
  }
  std::vector<Chart> charts;
  if (more_.contains("reward")) {
    charts = {{"Reward", {{"training", &more_["reward"]}, {"held out", &held_out_, true}}},
              {"Entropy, nats a token", {{"entropy", &more_["entropy"]}}},
              {"Tokens of an answer", {{"tokens", &more_["answer_tokens"]}}}};
  } else if (more_.contains("preferred")) {
    charts = {{"Loss of pairs", {{"training", &loss_}}},
              {"Pairs that moved the right way",
               {{"training", &more_["preferred"]}, {"held out", &held_out_, true}}}};
  } else {
    charts = {{"Loss, nats a token", {{"training", &loss_}, {"held out", &held_out_, true}}}};
  }
  const std::vector<Chart> common = {
      {"Norm of the gradient", {{"norm", &norm_}}, true},
      {"Learning rate", {{"rate", &rate_}}},
      {"Tokens a second", {{"speed", &speed_}}},
      {"Fullest expert over the mean, less 1", {{"imbalance", &imbalance_}}}};
  charts.insert(charts.end(), common.begin(), common.end());
  return WriteFileAtomic(folder_ + "/curves.html", CurvesPage(folder_, summary, charts));
}

}  // namespace lode::tune
