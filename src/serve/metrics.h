// Counters and histograms of the server, as Prometheus reads them. Names of their own, and beside
// them the names that dashboards for other servers look for.
// Threads: free for all.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "chat/answer.h"
#include "chat/backend.h"

namespace lode::serve {

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)) {
    counts_.resize(bounds_.size() + 1);
  }
  void Observe(double value);
  // Lines of one histogram, without its type.
  void Append(const std::string& name, const std::string& labels, std::string* out) const;

 private:
  std::vector<double> bounds_;
  std::vector<uint64_t> counts_;
  double sum_ = 0.0;
  uint64_t count_ = 0;
};

// One answer that is over.
struct AnswerRecord {
  chat::Usage usage;
  chat::AnswerTimes times;
  std::map<std::string, int> finished;  // choices by how they ended
  bool abandoned = false;               // its client went away
  int unknown_calls = 0;
};

class Metrics {
 public:
  void CountRequest(const std::string& route, int status);
  // An answer that is being made: what has come since `*counted`, which is brought up to date.
  void CountUsage(const chat::Usage& now, chat::Usage* counted);
  // One that is over; its tokens are counted already.
  void CountAnswer(const AnswerRecord& record);
  // Of all answers since the start.
  chat::Usage totals() const;
  // Everything, with what the backend says of itself.
  std::string Text(const std::string& model, const chat::BackendLoad& load, size_t connections,
                   size_t busy) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, uint64_t> requests_;
  std::map<std::string, uint64_t> finished_;
  chat::Usage totals_;
  uint64_t abandoned_ = 0, unknown_calls_ = 0;
  Histogram first_token_{{.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 60, 120, 300}};
  Histogram between_tokens_{{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}};
  Histogram whole_{{.05, .1, .2, .5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600}};
  Histogram queued_{{.001, .01, .05, .1, .5, 1, 2, 5, 10, 20, 60, 300}};
  Histogram prompt_lengths_{{16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576}};
  Histogram answer_lengths_{{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144}};
};

}  // namespace lode::serve
