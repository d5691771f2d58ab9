// What a run writes down of itself: metrics.jsonl, a line for every step and every evaluation. A
// run that goes on cuts off what came after its checkpoint, so the file reads as if nothing had
// happened.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace lode::tune {

struct StepMetrics {
  int64_t step = 0;  // counted from 1: updates tried so far
  double loss = 0.0, balance = 0.0, norm = 0.0, rate = 0.0;
  double seconds = 0.0, tokens_per_second = 0.0;
  double imbalance = 0.0;  // of the worst router: the fullest expert's rows over the mean, less 1
  bool skipped = false;
  int64_t tokens = 0;  // that were learnt from, or drawn
  int64_t rows = 0;    // that went forward and back; 0: not known
  // What else the lesson has to say, by name.
  std::vector<std::pair<std::string, double>> more;
};
Json ToJson(const StepMetrics& metrics);

struct EvaluationMetrics {
  int64_t step = 0;
  double loss = 0.0;           // nats a token
  double nats_per_byte = 0.0;  // of text
  int64_t tokens = 0;
  bool best = false;
  // Of answers, the mean; not a number where there is nothing but a loss.
  double reward = std::numeric_limits<double>::quiet_NaN();

  bool rewarded() const { return reward == reward; }
  // What shall be small.
  double cost() const { return rewarded() ? -reward : loss; }
};
Json ToJson(const EvaluationMetrics& metrics);

// Threads: one owner.
class MetricsFile {
 public:
  // Appends after the first `bytes` bytes of the file. Errors: what the system says; kBadInput when
  // there are fewer.
  static Result<std::unique_ptr<MetricsFile>> Open(const std::string& path, uint64_t bytes);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  // One line, given to the system at once.
  Result<void> Append(const Json& line);
  uint64_t bytes() const { return bytes_; }

 private:
  MetricsFile(std::string path, int descriptor, uint64_t bytes)
      : path_(std::move(path)), descriptor_(descriptor), bytes_(bytes) {}
  std::string path_;
  int descriptor_;
  uint64_t bytes_;
};

}  // namespace lode::tune
