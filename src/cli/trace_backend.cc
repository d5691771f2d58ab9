#include "cli/trace_backend.h"

#include <chrono>
#include <cstdio>
#include <utility>

namespace lode::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kQueueMax = 4096;  // more are not written down: the disk is too slow

double Seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

// Passes events on and keeps what the line needs. Threads: the backend's.
class TraceBackend::Sink : public chat::TokenSink {
 public:
  Sink(std::shared_ptr<chat::TokenSink> inner, std::shared_ptr<Queue> queue,
       const runtime::Request& request)
      : inner_(std::move(inner)), queue_(std::move(queue)) {
    ended_.tokens = request.prompt;
    ended_.prompt = std::ssize(request.prompt);
    ended_.probes = request.probes;
  }

  void Push(chat::TokenEvent event) override {
    using Kind = chat::TokenEvent::Kind;
    const auto now = Clock::now();
    if (event.kind == Kind::kStarted) {
      started_ = now;
      ended_.reused = event.tokens;
      if (event.match != nullptr) ended_.reason = Name(event.match->reason);
    }
    if (event.kind == Kind::kToken) {
      if (std::ssize(ended_.tokens) == ended_.prompt) first_ = now;
      ended_.tokens.push_back(event.token);
    }
    const bool done = event.kind == Kind::kFinished &&
                      event.stop != runtime::StopReason::kCancelled;
    if (done) {
      ended_.length = event.stop != runtime::StopReason::kStopToken;
      const bool answered = std::ssize(ended_.tokens) > ended_.prompt;
      ended_.prompt_seconds = Seconds(started_, answered ? first_ : now);
      ended_.answer_seconds = answered ? Seconds(first_, now) : 0.0;
    }
    inner_->Push(std::move(event));
    if (!done) return;
    const std::lock_guard lock(queue_->mutex);
    if (queue_->ended.size() < kQueueMax) queue_->ended.push_back(std::move(ended_));
    queue_->arrived.notify_one();
  }

 private:
  std::shared_ptr<chat::TokenSink> inner_;
  std::shared_ptr<Queue> queue_;
  Ended ended_;
  Clock::time_point started_ = Clock::now(), first_ = started_;
};

TraceBackend::TraceBackend(chat::Backend* inner, TraceFile file) : inner_(inner) {
  thread_ = std::thread([this, file = std::move(file)]() mutable { Write(std::move(file)); });
}

TraceBackend::~TraceBackend() {
  {
    const std::lock_guard lock(queue_->mutex);
    queue_->stopping = true;
  }
  queue_->arrived.notify_one();
  thread_.join();
}

Result<chat::Ticket> TraceBackend::Submit(chat::TokenRequest request,
                                          std::shared_ptr<chat::TokenSink> sink) {
  auto own = std::make_shared<Sink>(std::move(sink), queue_, request.request);
  return inner_->Submit(std::move(request), std::move(own));
}

void TraceBackend::Write(TraceFile file) {
  while (true) {
    Ended ended;
    {
      std::unique_lock lock(queue_->mutex);
      queue_->arrived.wait(lock, [&] { return queue_->stopping || !queue_->ended.empty(); });
      if (queue_->ended.empty()) return;
      ended = std::move(queue_->ended.front());
      queue_->ended.pop_front();
    }
    const auto added = file.Add({ended.tokens, ended.prompt, ended.probes, ended.length,
                                 ended.reused, ended.reason, ended.prompt_seconds,
                                 ended.answer_seconds});
    if (added.ok()) continue;
    std::fprintf(stderr, "lode: the trace ends here: %s\n", added.error().ToString().c_str());
    return;
  }
}

}  // namespace lode::cli
