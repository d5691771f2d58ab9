// What a recipe tells whoever watches it, while it runs. Threads: called from the recipe's own.
#pragma once

#include <functional>
#include <string>

#include "tune/metrics.h"

namespace lode::tune {

struct StepProgress {
  StepMetrics metrics;
  int64_t steps = 0;                                // of the whole run
  double smooth_loss = 0.0;                         // a running mean
  double flops_per_second = 0.0, peak_share = 0.0;  // of the measured peak; 0: not measured
  double seconds_left = 0.0;
};

struct Watcher {
  std::function<void(const StepProgress&)> step;
  std::function<void(const EvaluationMetrics&)> evaluation;
  std::function<void(int64_t step, const std::string& text)> sample;
  std::function<void(const std::string&)> note;  // a sentence
  std::function<bool()> stopped;                 // the user wants the run to end
};

}  // namespace lode::tune
