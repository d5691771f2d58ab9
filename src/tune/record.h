// All that a run writes down while it goes on: metrics.jsonl, event files for TensorBoard, and the
// page of curves. Threads: one owner.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "tune/curves.h"
#include "tune/metrics.h"
#include "tune/tensorboard.h"

namespace lode::tune {

class Record {
 public:
  // In a run's folder, after `step` steps whose lines are the first `metrics_bytes` bytes of its
  // metrics. Errors: what the system says; kBadInput for metrics that are too short.
  static Result<std::unique_ptr<Record>> Open(const std::string& folder, int64_t step,
                                              uint64_t metrics_bytes);

  Result<void> Add(const StepMetrics& metrics);
  Result<void> Add(const EvaluationMetrics& metrics);
  // The page of curves, as of now. Adding a step draws it, too, when that is some time ago.
  Result<void> Draw();

  uint64_t metrics_bytes() const { return metrics_->bytes(); }

 private:
  explicit Record(std::string folder) : folder_(std::move(folder)) {}
  Result<void> ReadBack(const std::string& path, uint64_t bytes);
  void Plot(const StepMetrics& metrics);
  void Plot(const EvaluationMetrics& metrics);

  std::string folder_;
  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<EventFile> events_;
  Series loss_, held_out_, norm_, rate_, speed_, imbalance_;
  std::map<std::string, Series> more_;
  StepMetrics last_step_;
  EvaluationMetrics last_evaluation_;
  std::chrono::steady_clock::time_point drawn_;
};

}  // namespace lode::tune
