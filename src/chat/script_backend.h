// A model that plays given tokens, so that what stands above a model is tested whatever its wit:
// the same queues, limits, delays and cancellations, and no engine.
//
// A script is JSON lines:
//   {"match": "weather", "text": "It rains.", "delay_ms": 5}
// `match`: the last message must contain it; null or absent: anything. The first line that fits is
// played, "times" times at most or any number of times. What is played: "tokens" [ids], "text", or
// "pieces" [texts that become tokens each for itself]. Besides: "start_ms" before the first token,
// "delay_ms" before each other, "fail": a sentence that the answer ends with as an error of the
// engine's. One line may be {"running_max": n, "queue_max": n, "context": n}: limits, as an engine
// has them.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "chat/backend.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::chat {

struct ScriptLine {
  std::optional<std::string> match;
  std::vector<int32_t> tokens;
  int64_t times = 0;  // 0: any number
  int64_t start_ms = 0, delay_ms = 0;
  std::string fail;
};

struct Script {
  std::vector<ScriptLine> lines;
  int64_t running_max = 1 << 20, queue_max = 1 << 20, context = 1 << 20;

  // Errors: kBadInput with the line's number.
  static Result<Script> Parse(std::string_view text, const text::Tokenizer& tokenizer);
};

// Threads: as Backend.
class ScriptBackend : public Backend {
 public:
  ScriptBackend(Script script, int64_t vocabulary);
  ~ScriptBackend() override;

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t sequence_tokens_max() const override { return script_.context; }
  Result<Ticket> Submit(TokenRequest request, std::shared_ptr<TokenSink> sink) override;
  void Cancel(Ticket ticket) override;
  BackendLoad load() const override;
  void Stop() override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Play {
    TokenRequest request;
    std::shared_ptr<TokenSink> sink;
    const ScriptLine* line = nullptr;  // null: nothing fits
    size_t at = 0;
    Clock::time_point due;
    bool running = false;
  };

  void Run();
  void Start(Play* play, Clock::time_point now);
  bool Advance(Play* play, Clock::time_point now);  // false: it has ended
  int64_t Known(const std::vector<int32_t>& prompt);
  void End(Play* play, runtime::StopReason stop) const;

  const Script script_;
  const int64_t vocabulary_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::map<Ticket, Play> plays_;
  std::map<const ScriptLine*, int64_t> played_;
  std::deque<std::vector<int32_t>> prompts_;  // the newest few, for what "need no computing"
  Ticket next_ticket_ = 1;
  int64_t running_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace lode::chat
