// Measures a model on this machine: prompts and answers at every combination of depth, threads and
// batch, each beside the machine's limits of the same moment, the work of other processes, and
// energy where it can be read. What a figure is divided by is in api/bench_cost.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/bench_limits.h"
#include "api/open.h"
#include "base/json.h"

namespace lode::api {

// Each list is one axis; every combination is a row. Prompts and generations make rows of their
// own. Rows that differ only in depth are measured in turn and come one after the other.
struct BenchOptions {
  std::vector<int64_t> prompts = {512};      // tokens read at once; 0 is skipped
  std::vector<int64_t> generations = {128};  // tokens written one by one; 0 is skipped
  std::vector<int64_t> depths = {0};         // tokens that the context holds before
  std::vector<int> threads;                  // empty: the cores we may use
  std::vector<int64_t> batches = {1};        // sequences at once
  int repetitions = 5;
  int64_t rows_max = 0;  // rows of a prompt step; 0: the default
  Pin pin = Pin::kAuto;
  ActivationMode activations = ActivationMode::kAuto;
};

struct BenchRow {
  int64_t prompt = 0, generated = 0;  // one of them is 0
  int64_t depth = 0, batch = 1;
  int threads = 1;
  std::string pinning;
  std::vector<double> samples;  // tokens a second, all sequences together
  double median = 0.0, min = 0.0, max = 0.0, deviation = 0.0;
  // Tokens a second over those at the shallowest depth, the median of pairs run one after the
  // other; none at that depth itself.
  std::optional<double> of_first_depth;
  double bytes_per_second = 0.0, flops_per_second = 0.0;
  double bytes_per_token = 0.0, flops_per_token = 0.0;
  double bandwidth_share = 0.0;       // of the plain read
  double compute_share = 0.0;         // of the time that the operations take at their peaks
  Limits limits;                      // medians of what was measured between the samples
  std::optional<double> foreign_cpu;  // CPUs' worth of other processes
  std::optional<double> joules_per_token;

  bool spoiled() const;      // by more than 8 % of a core of other processes
  std::string Name() const;  // "pp512", "tg128"
};

// What all rows have in common.
struct BenchFacts {
  std::string model, type, isa, cpu, date;
  double weight_bytes = 0.0;
};
Json ToJson(const BenchRow& row, const BenchFacts& facts);

struct BenchProgress {
  std::string what;    // "pp512, depth 16384, 2 threads"
  double share = 0.0;  // of the whole, by arithmetic
};

class Bench {
 public:
  // Opens the model with room for the largest row.
  // Errors: kBadInput for options that make no row; those of Run.
  static Result<std::unique_ptr<Bench>> Open(std::shared_ptr<const tensor::TensorSource> source,
                                             const BenchOptions& options);

  const BenchFacts& facts() const { return facts_; }
  // Calls `on_row` with each row as it is done. `progress` is told after every step; returning
  // false ends with kCancelled.
  Result<void> Run(const std::function<void(const BenchRow&)>& on_row,
                   const std::function<bool(const BenchProgress&)>& progress);

 private:
  Bench() = default;
  struct Test;
  std::vector<Test> Tests() const;
  Result<void> FillTo(runtime::Sequence* base, int64_t depth);
  BenchRow EmptyRow(const Test& test, int64_t depth) const;
  void Summarize(const Test& test, const std::vector<Limits>& limits, BenchRow* row) const;
  // A row of each depth.
  Result<std::vector<BenchRow>> Measure(const Test& test,
                                        std::span<const runtime::Sequence> bases);
  Result<double> RunOnce(const Test& test, const runtime::Sequence& base, int64_t tokens);
  Result<void> Tick(double work);

  BenchOptions options_;
  Running running_;
  BenchFacts facts_;
  std::unique_ptr<class CostModel> cost_;
  std::unique_ptr<LimitsMeter> meter_;
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
  std::function<bool(const BenchProgress&)> progress_;
  std::string what_;
  double work_done_ = 0.0, work_total_ = 0.0;

 public:
  ~Bench();
};

}  // namespace lode::api
