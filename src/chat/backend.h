// Who makes tokens: one thread behind queues. A model (engine_backend.h), or a script that plays
// given ones (script_backend.h), so that everything above is tested whatever a model's wit.
//
// Any thread submits and cancels; events come on the backend's own thread and must be passed on,
// not worked on: that thread serves everybody.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/scheduler.h"

namespace lode::chat {

using Ticket = uint64_t;
using TenantLimits = runtime::TenantLimits;

// One answer to one prompt.
struct TokenRequest {
  runtime::Request request;  // its root is the backend's business
  std::string tenant;        // whose; empty: nobody's in particular
  TenantLimits limits = {};  // of the tenant, when it is first seen
  std::string salt;          // what it may share state with: only requests of the same salt
  std::string said;          // text of the last message: what scripts look at
};

// Why a request got no answer, as far as a client can do something about it.
enum class Cause : uint8_t {
  kBadRequest,
  kTooLong,    // prompt and answer can never fit
  kQueueFull,  // come again
  kNoRoom,     // ran, and lost its place to others for good
  kStopping,   // the server ends
  kInternal,
};

struct Failure {
  Cause cause = Cause::kInternal;
  Error error{Code::kInternal, "the answer failed"};
  double retry_seconds = 0.0;  // kQueueFull: after which it may be let in
};

struct TokenEvent {
  enum class Kind : uint8_t {
    kQueued,       // it waits, or will run at once
    kStarted,      // `tokens` of the prompt need no computing
    kProgress,     // `tokens` of the prompt are done
    kPromptToken,  // the prompt's token at `tokens`, with its logprob
    kPooled,       // `pooled`: the mean of the prompt's hidden rows
    kToken,
    kFinished,  // `stop`; `drawn`: `token` was it, with its logprob
    kFailed,    // `failure`
  };
  Kind kind = Kind::kToken;
  runtime::StopReason stop = runtime::StopReason::kStopToken;
  bool drawn = false;
  int32_t token = 0;
  int64_t tokens = 0;
  double logprob = 0.0;  // where logprobs were asked for
  std::vector<runtime::TokenLogprob> likeliest = {};
  std::vector<float> pooled = {};
  std::shared_ptr<const Failure> failure = nullptr;
  std::shared_ptr<const runtime::Match> match = nullptr;  // kStarted: what is reused
};

// Gets the events of one request: kFinished or kFailed is the last.
// Threads: called by the backend's; must neither block nor call the backend.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void Push(TokenEvent event) = 0;
};

// As it is at a moment; counters since the start.
struct BackendLoad {
  int64_t running = 0, waiting = 0;
  double queue_milliseconds = 0.0;  // until the next waiting one may start; 0: not known
  int64_t rows = 0, preemptions = 0, drafted = 0, accepted = 0;
  uint64_t bytes_committed = 0, bytes_budget = 0;  // of pages and states
  uint64_t snapshots = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual int64_t vocabulary() const = 0;
  virtual int64_t sequence_tokens_max() const = 0;  // prompt and answer of one request

  // Errors: kNoSpace when the inbox is full. All else comes as an event.
  virtual Result<Ticket> Submit(TokenRequest request, std::shared_ptr<TokenSink> sink) = 0;
  // The request ends with kFinished (kCancelled) soon, unless it has ended. Unknown tickets are no
  // error: who cancels need not know what has ended meanwhile.
  virtual void Cancel(Ticket ticket) = 0;
  virtual BackendLoad load() const = 0;
  // Ends every request with kFailed (kStopping), then the thread. Submit fails from now on.
  virtual void Stop() = 0;
};

}  // namespace lode::chat
