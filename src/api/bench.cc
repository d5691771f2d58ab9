#include "api/bench.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>

#include "api/bench_cost.h"
#include "base/cpu_usage.h"
#include "base/power.h"
#include "base/text.h"
#include "base/topology.h"

namespace lode::api {
namespace {

constexpr double kForeignMax = 0.08;  // of a core
constexpr int64_t kWarmUpTokens = 4;  // of an answer; of a prompt it is one step

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

Limits MedianOf(const std::vector<Limits>& all) {
  const auto median = [&](double Limits::*field) {
    std::vector<double> values;
    for (const Limits& each : all) {
      if (each.*field > 0.0) values.push_back(each.*field);
    }
    return Median(std::move(values));
  };
  return {median(&Limits::read), median(&Limits::f32), median(&Limits::bf16),
          median(&Limits::int8)};
}

std::string Date() {
  const time_t now = ::time(nullptr);
  struct tm parts = {};
  ::gmtime_r(&now, &parts);
  char text[32];
  ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// Ascending, each once: contexts only grow.
template <typename T>
std::vector<T> Ascending(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

int64_t MaxOf(const std::vector<int64_t>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

// Seconds that the operations take at the peaks.
double SecondsAtPeak(const Cost& cost, const Limits& limits) {
  const auto part = [](double flops, double peak) { return flops > 0.0 ? flops / peak : 0.0; };
  return part(cost.int8, limits.int8) + part(cost.bf16, limits.bf16) + part(cost.f32, limits.f32);
}

}  // namespace

// One row to be at each depth.
struct Bench::Test {
  bool is_prompt = false;
  int64_t tokens = 0;  // of each sequence
  int64_t batch = 1;
  int threads = 1;

  // The steps of so many tokens: rows of each sequence.
  std::vector<int64_t> Steps(int64_t count, int64_t rows_max) const {
    const int64_t each = is_prompt ? std::max<int64_t>(1, rows_max / batch) : 1;
    std::vector<int64_t> steps;
    for (int64_t at = 0; at < count; at += each) steps.push_back(std::min(each, count - at));
    return steps;
  }
  int64_t WarmUp(int64_t rows_max) const {
    return is_prompt ? std::min(tokens, std::max<int64_t>(1, rows_max / batch))
                     : std::min(tokens, kWarmUpTokens);
  }
};

bool BenchRow::spoiled() const { return foreign_cpu.value_or(0.0) > kForeignMax; }

std::string BenchRow::Name() const {
  return prompt > 0 ? "pp" + std::to_string(prompt) : "tg" + std::to_string(generated);
}

Bench::~Bench() = default;

Result<std::unique_ptr<Bench>> Bench::Open(std::shared_ptr<const tensor::TensorSource> source,
                                           const BenchOptions& options) {
  std::unique_ptr<Bench> bench(new Bench());
  BenchOptions& resolved = bench->options_;
  resolved = options;
  if (resolved.threads.empty()) resolved.threads = {UsableCores()};
  resolved.depths = Ascending(resolved.depths);
  std::erase(resolved.prompts, 0);
  std::erase(resolved.generations, 0);
  if (resolved.prompts.empty() && resolved.generations.empty()) {
    return Error(Code::kBadInput, "nothing to measure: no prompt and no answer has a length",
                 "give -p or -n a number above 0");
  }
  if (resolved.depths.empty() || resolved.batches.empty() || resolved.repetitions < 1) {
    return Error(Code::kBadInput, "nothing to measure: a list is empty");
  }
  RunOptions run;
  run.threads = *std::max_element(resolved.threads.begin(), resolved.threads.end());
  run.pin = resolved.pin;
  run.activations = resolved.activations;
  run.context_tokens =
      resolved.depths.back() + std::max(MaxOf(resolved.prompts), MaxOf(resolved.generations));
  const int64_t batch = MaxOf(resolved.batches);
  run.agents = batch + std::ssize(resolved.depths);  // one at each depth, which are copied
  run.rows_max = resolved.rows_max;
  bench->facts_.model = source->path();
  LODE_ASSIGN(bench->running_, api::Run(std::move(source), run));
  const runtime::EngineOptions& engine = bench->running_.options;
  if (engine.rows_max < batch) {  // a short context made steps shorter than the batch is wide
    std::shared_ptr<const tensor::TensorSource> again = bench->running_.source;
    run.rows_max = batch;
    bench->running_ = Running();
    LODE_ASSIGN(bench->running_, api::Run(std::move(again), run));
  }
  bench->running_.FinishPacking();
  const model::Model& model = *bench->running_.model;
  bench->cost_ = std::make_unique<CostModel>(model, engine.numerics);
  bench->facts_.type = bench->cost_->weight_type();
  bench->facts_.weight_bytes = bench->cost_->weight_bytes();
  bench->facts_.isa = kernels::Name(kernels::ActiveIsa());
  bench->facts_.cpu = CpuModelName();
  bench->facts_.date = Date();
  std::mt19937 random(1);
  for (int64_t i = 0; i < run.context_tokens; ++i) {
    bench->tokens_.push_back(
        static_cast<int32_t>(random() % static_cast<uint32_t>(model.spec.vocabulary)));
  }
  bench->logits_.resize(static_cast<size_t>(batch * model.spec.vocabulary));
  bench->meter_ = std::make_unique<LimitsMeter>(&bench->running_.engine->pool());
  return bench;
}

std::vector<Bench::Test> Bench::Tests() const {
  std::vector<Test> tests;
  for (const int threads : options_.threads) {
    for (const int64_t batch : options_.batches) {
      for (const int64_t p : options_.prompts) tests.push_back({true, p, batch, threads});
      for (const int64_t n : options_.generations) tests.push_back({false, n, batch, threads});
    }
  }
  return tests;
}

Result<void> Bench::Tick(double work) {
  work_done_ += work;
  if (progress_ && !progress_({what_, std::min(1.0, work_done_ / work_total_)})) {
    return Error(Code::kCancelled, "interrupted");
  }
  return {};
}

Result<void> Bench::FillTo(runtime::Sequence* base, int64_t depth) {
  runtime::Engine& engine = *running_.engine;
  what_ = Format("filling a context of %lld tokens", static_cast<long long>(depth));
  const auto rows = static_cast<size_t>(engine.rows_max());
  while (base->tokens() < depth) {
    const auto at = static_cast<size_t>(base->tokens());
    const size_t count = std::min(rows, static_cast<size_t>(depth) - at);
    const auto part = std::span(tokens_).subspan(at, count);
    LODE_TRY(engine.Append(*base, part, nullptr));
    LODE_TRY(
        Tick(cost_->Step(1, static_cast<int64_t>(count), static_cast<int64_t>(at), 0).flops()));
  }
  return {};
}

Result<double> Bench::RunOnce(const Test& test, const runtime::Sequence& base, int64_t tokens) {
  const int64_t depth = base.tokens();
  runtime::Engine& engine = *running_.engine;
  std::vector<runtime::Sequence> sequences;
  for (int64_t i = 0; i < test.batch; ++i) {
    LODE_ASSIGN(runtime::Sequence copy, engine.Fork(base));
    sequences.push_back(std::move(copy));
  }
  const std::vector<int64_t> steps = test.Steps(tokens, engine.rows_max());
  double seconds = 0.0;
  size_t at = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool wanted = !test.is_prompt || i + 1 == steps.size();
    const auto rows = static_cast<size_t>(steps[i]);
    std::vector<runtime::StepItem> items;
    for (size_t s = 0; s < sequences.size(); ++s) {
      // Each sequence other tokens, so that experts are chosen as a batch of strangers would.
      const size_t begin = (at + 7919 * s) % (tokens_.size() - rows + 1);
      items.push_back({&sequences[s], std::span(tokens_).subspan(begin, rows),
                       wanted ? runtime::StepItem::Want::kLast : runtime::StepItem::Want::kNone});
    }
    const double start = Now();
    LODE_TRY(engine.Step(items, logits_.data()));
    seconds += Now() - start;
    at += rows;
    const Cost cost = cost_->Step(test.batch, steps[i], depth + static_cast<int64_t>(at), 1);
    LODE_TRY(Tick(test.is_prompt ? cost.flops() : cost.flops() + cost.bytes));
  }
  return seconds;
}

BenchRow Bench::EmptyRow(const Test& test, int64_t depth) const {
  BenchRow row;
  (test.is_prompt ? row.prompt : row.generated) = test.tokens;
  row.depth = depth;
  row.batch = test.batch;
  row.threads = test.threads;
  row.pinning = lode::Name(running_.engine->pool().pinning());
  return row;
}

void Bench::Summarize(const Test& test, const std::vector<Limits>& limits, BenchRow* row) const {
  row->median = Median(row->samples);
  row->min = *std::min_element(row->samples.begin(), row->samples.end());
  row->max = *std::max_element(row->samples.begin(), row->samples.end());
  double mean = 0.0, square = 0.0;
  const auto count = static_cast<double>(row->samples.size());
  for (const double sample : row->samples) mean += sample / count;
  for (const double sample : row->samples) square += (sample - mean) * (sample - mean);
  if (row->samples.size() > 1) row->deviation = std::sqrt(square / (count - 1.0));
  Cost cost;
  int64_t at = 0;
  for (const int64_t rows : test.Steps(test.tokens, running_.engine->rows_max())) {
    const bool wanted = !test.is_prompt || at + rows == test.tokens;
    cost += cost_->Step(test.batch, rows, row->depth + at, wanted ? test.batch : 0);
    at += rows;
  }
  const auto all_tokens = static_cast<double>(test.batch * test.tokens);
  const double median_seconds = all_tokens / row->median;
  row->limits = MedianOf(limits);
  row->bytes_per_token = cost.bytes / all_tokens;
  row->flops_per_token = cost.flops() / all_tokens;
  row->bytes_per_second = cost.bytes / median_seconds;
  row->flops_per_second = cost.flops() / median_seconds;
  row->bandwidth_share = row->bytes_per_second / row->limits.read;
  row->compute_share = SecondsAtPeak(cost, row->limits) / median_seconds;
}

// The depths take turns in every repetition: what one costs beside another shows where the machine
// drifts more from minute to minute than they differ.
Result<std::vector<BenchRow>> Bench::Measure(const Test& test,
                                             std::span<const runtime::Sequence> bases) {
  runtime::Engine& engine = *running_.engine;
  engine.pool().SetThreads(test.threads);
  std::vector<BenchRow> rows;
  for (const runtime::Sequence& base : bases) rows.push_back(EmptyRow(test, base.tokens()));
  what_ = rows[0].Name() + Format(", %d threads, batch %lld", test.threads,
                                  static_cast<long long>(test.batch));
  for (const runtime::Sequence& base : bases) {
    LODE_TRY(RunOnce(test, base, test.WarmUp(engine.rows_max())));
  }
  const ForeignCpuMeter foreign;
  EnergyMeter energy;
  const auto all_tokens = static_cast<double>(test.batch * test.tokens);
  std::vector<double> joules(rows.size(), 0.0);
  std::vector<std::vector<Limits>> limits(rows.size());
  for (int i = 0; i < options_.repetitions; ++i) {
    for (size_t d = 0; d < rows.size(); ++d) {
      limits[d].push_back(meter_->Measure(&engine.pool()));
      const double before = energy.Joules().value_or(0.0);
      LODE_ASSIGN(const double took, RunOnce(test, bases[d], test.tokens));
      joules[d] += energy.Joules().value_or(0.0) - before;
      rows[d].samples.push_back(all_tokens / took);
    }
  }
  const Limits last = meter_->Measure(&engine.pool());
  for (size_t d = 0; d < rows.size(); ++d) {
    BenchRow& row = rows[d];
    limits[d].push_back(last);
    Summarize(test, limits[d], &row);
    row.foreign_cpu = foreign.Share();
    if (energy.available()) row.joules_per_token = joules[d] / all_tokens / options_.repetitions;
    std::vector<double> ratios;
    for (size_t i = 0; i < row.samples.size(); ++i) {
      ratios.push_back(row.samples[i] / rows[0].samples[i]);
    }
    if (d > 0) row.of_first_depth = Median(std::move(ratios));
  }
  return rows;
}

Result<void> Bench::Run(const std::function<void(const BenchRow&)>& on_row,
                        const std::function<bool(const BenchProgress&)>& progress) {
  runtime::Engine& engine = *running_.engine;
  progress_ = progress;
  // What there is to do, in operations; an answer's steps count their bytes too, which take longer.
  work_done_ = 0.0;
  work_total_ = cost_->Step(1, std::max<int64_t>(1, options_.depths.back()), 0, 0).flops();
  for (const int64_t depth : options_.depths) {
    for (const Test& test : Tests()) {
      const Cost step = cost_->Step(test.batch, 1, depth, 1);
      const double each = test.is_prompt ? step.flops() : step.flops() + step.bytes;
      work_total_ += each * static_cast<double>(test.tokens * options_.repetitions +
                                                test.WarmUp(engine.rows_max()));
    }
  }
  engine.pool().SetThreads(engine.pool().threads_max());
  std::vector<runtime::Sequence> bases;
  for (const int64_t depth : options_.depths) {
    auto base = bases.empty() ? engine.NewSequence() : engine.Fork(bases.back());
    if (!base.ok()) return base.error();
    bases.push_back(std::move(*base));
    LODE_TRY(FillTo(&bases.back(), depth));
  }
  for (const Test& test : Tests()) {
    LODE_ASSIGN(const std::vector<BenchRow> rows, Measure(test, bases));
    for (const BenchRow& row : rows) on_row(row);
  }
  return {};
}

Json ToJson(const BenchRow& row, const BenchFacts& facts) {
  const auto maybe = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json();
  };
  Json json;
  json["test"] = row.Name();
  json["n_prompt"] = row.prompt;
  json["n_gen"] = row.generated;
  json["n_depth"] = row.depth;
  json["batch"] = row.batch;
  json["threads"] = row.threads;
  json["tokens_per_second"] = row.median;
  json["tokens_per_second_min"] = row.min;
  json["tokens_per_second_max"] = row.max;
  json["tokens_per_second_stddev"] = row.deviation;
  json["samples"] = row.samples;
  json["of_first_depth"] = maybe(row.of_first_depth);
  json["gb_per_second"] = row.bytes_per_second * 1e-9;
  json["gflop_per_second"] = row.flops_per_second * 1e-9;
  json["bandwidth_share"] = row.bandwidth_share;
  json["compute_share"] = row.compute_share;
  json["mb_per_token"] = row.bytes_per_token * 1e-6;
  json["gflop_per_token"] = row.flops_per_token * 1e-9;
  json["machine"] = {{"read_gb_per_second", row.limits.read * 1e-9},
                     {"f32_gflop_per_second", row.limits.f32 * 1e-9},
                     {"bf16_gflop_per_second", row.limits.bf16 * 1e-9},
                     {"int8_gflop_per_second", row.limits.int8 * 1e-9}};
  json["foreign_cpu_share"] = maybe(row.foreign_cpu);
  json["spoiled"] = row.spoiled();
  json["joules_per_token"] = maybe(row.joules_per_token);
  json["pinning"] = row.pinning;
  json["model"] = facts.model;
  json["model_type"] = facts.type;
  json["model_weight_bytes"] = facts.weight_bytes;
  json["isa"] = facts.isa;
  json["cpu"] = facts.cpu;
  json["date"] = facts.date;
  return json;
}

}  // namespace lode::api
