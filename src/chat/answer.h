// The answers to one request as they come: token events of the backend become text, reasoning, tool
// calls, logprobs and counts, in order. Nothing here knows a wire format.
//
// The backend's thread only appends to a queue; whoever reads (a thread of the server) decodes,
// parses and looks for stop strings. So a slow reader costs the others nothing, and what waits for
// it is bounded by the tokens that it asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "chat/backend.h"
#include "chat/stop_strings.h"
#include "text/parsers/output_parser.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::chat {

struct TokenReport {
  int32_t token = 0;
  double logprob = 0.0;
  std::vector<runtime::TokenLogprob> likeliest;
};

struct AnswerEvent {
  enum class Kind : uint8_t {
    kQueued,
    kStarted,   // usage().prompt and .cached are known
    kProgress,  // `tokens` of the prompt are done
    kPrompt,    // `reports`: of the prompt's token at `tokens`
    kPooled,    // `pooled`
    kOutput,    // `output`; `reports` of the tokens that led here since the last one
    kFinished,  // of this choice: `finish`, `stop_string` if it was one; `reports` that are left
    kFailed,    // of the whole request, and its last event
  };
  Kind kind = Kind::kOutput;
  int choice = 0;
  text::OutputEvent output = {};
  std::vector<TokenReport> reports = {};
  text::FinishReason finish = text::FinishReason::kStop;
  std::string stop_string = {};
  int64_t tokens = 0;
  std::vector<float> pooled = {};
  std::shared_ptr<const Failure> failure = nullptr;
};

struct Usage {
  int64_t prompt = 0;      // once, however many choices
  int64_t cached = 0;      // of these, not computed
  int64_t completion = 0;  // of all choices; stop tokens do not count
  int64_t reasoning = 0;   // of these, in traces
};

// Points in time, as seen when the backend reported them.
struct AnswerTimes {
  using Clock = std::chrono::steady_clock;
  Clock::time_point submitted, started, first_token, last_token;
};

// All of one choice, when it has ended by itself.
struct EndedAnswer {
  std::vector<int32_t> tokens;  // up to where a stop string ended it
  text::ParsedOutput output;
  std::shared_ptr<const runtime::Match> match;  // of its prompt
};

struct AnswerOptions {
  int choices = 1;
  bool parse = true;  // reasoning and tool calls; else all is content
  text::OutputParserOptions parsing = {};
  std::vector<std::string> stops = {};
  bool include_stop = false;
  bool report_reasoning = false;  // `reports` of tokens of a trace, too
  bool skip_special = false;
  int64_t prompt_tokens = 0;
  // Gets the only choice's answer, before its last event; null: nobody keeps it.
  std::function<void(EndedAnswer)> on_end = nullptr;
};

// Events of all choices on their way from the backend to the reader.
// Threads: Push from the backend's, Take from the reader's.
class AnswerQueue {
 public:
  // `wake` is called on the backend's thread whenever something came to an empty queue. It must not
  // call the queue.
  explicit AnswerQueue(std::function<void()> wake) : wake_(std::move(wake)) {}
  void Push(int choice, TokenEvent event);
  void Take(std::deque<std::pair<int, TokenEvent>>* events);
  AnswerTimes times() const;
  void Forget();  // nobody reads any more: `wake` is not called after this

 private:
  friend class Answer;
  mutable std::mutex mutex_;
  std::deque<std::pair<int, TokenEvent>> events_;
  AnswerTimes times_;
  std::function<void()> wake_;
};

// Life: backend and tokenizer outlive it. Its end cancels what still runs.
// Threads: one reader at a time.
class Answer {
 public:
  Answer(Backend* backend, const text::Tokenizer* tokenizer, AnswerOptions options,
         std::function<void()> wake);
  ~Answer();
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  // Hands the choice's prompt to the backend, at most so many of one request at once: a list of a
  // thousand texts is one request, and no reason to refuse others. The rest follows as choices end.
  // What the backend refuses comes as an event, too.
  static constexpr int kTogether = 64;
  void Submit(int choice, TokenRequest request);

  // Appends what has come, of at most so many tokens. True: there may be more at once.
  bool Poll(std::vector<AnswerEvent>* events, int64_t tokens_max = 1024);
  // Every choice has finished, or the request failed.
  bool done() const { return done_; }
  void Cancel();

  const Usage& usage() const { return usage_; }
  // What was reused of the prompt, and why no more; null: not known (yet).
  const runtime::Match* match() const { return match_.get(); }
  const AnswerOptions& options() const { return options_; }
  AnswerTimes times() const { return queue_->times(); }
  int unknown_calls() const;

 private:
  struct Choice;
  void Pass(int choice, TokenRequest request);
  void OnToken(int choice, TokenEvent event, std::vector<AnswerEvent>* events);
  void PassOn(int choice, std::vector<text::OutputEvent> outputs, std::vector<AnswerEvent>* events);
  void Emit(int choice, text::OutputEvent output, std::vector<AnswerEvent>* events);
  void Finish(int choice, TokenEvent event, std::vector<AnswerEvent>* events);
  void End(int choice, text::FinishReason reason, std::string stop_string,
           std::vector<AnswerEvent>* events);

  Backend* backend_;
  const text::Tokenizer* tokenizer_;
  AnswerOptions options_;
  std::shared_ptr<AnswerQueue> queue_;
  std::vector<std::unique_ptr<Choice>> choices_;
  std::deque<std::pair<int, TokenEvent>> pending_;
  std::deque<std::pair<int, TokenRequest>> held_;  // not with the backend yet
  int passed_ = 0;                                 // with the backend now
  Usage usage_;
  std::shared_ptr<const runtime::Match> match_;
  int open_ = 0;
  bool queued_ = false, started_ = false, done_ = false;
};

}  // namespace lode::chat
