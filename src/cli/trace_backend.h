// A backend's requests, written down for the simulator of contexts (trace.h) as they end.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "chat/backend.h"
#include "cli/trace.h"

namespace lode::cli {

// Life: `inner` outlives it. Threads: as Backend; the file is written by a thread of its own.
class TraceBackend : public chat::Backend {
 public:
  TraceBackend(chat::Backend* inner, TraceFile file);
  ~TraceBackend() override;

  int64_t vocabulary() const override { return inner_->vocabulary(); }
  int64_t sequence_tokens_max() const override { return inner_->sequence_tokens_max(); }
  Result<chat::Ticket> Submit(chat::TokenRequest request,
                              std::shared_ptr<chat::TokenSink> sink) override;
  void Cancel(chat::Ticket ticket) override { inner_->Cancel(ticket); }
  chat::BackendLoad load() const override { return inner_->load(); }
  void Stop() override { inner_->Stop(); }

  // One request that has ended.
  struct Ended {
    std::vector<int32_t> tokens;
    int64_t prompt = 0;
    std::vector<runtime::Probe> probes;
    bool length = false;
    int64_t reused = 0;
    std::string reason;
    double prompt_seconds = 0.0, answer_seconds = 0.0;
  };

 private:
  // Shared with the requests that run.
  struct Queue {
    std::mutex mutex;
    std::condition_variable arrived;
    std::deque<Ended> ended;
    bool stopping = false;
  };
  class Sink;
  void Write(TraceFile file);

  chat::Backend* inner_;
  std::shared_ptr<Queue> queue_ = std::make_shared<Queue>();
  std::thread thread_;
};

}  // namespace lode::cli
