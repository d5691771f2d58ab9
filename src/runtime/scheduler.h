// Serves many requests with one engine: admits by arithmetic, computes prompts in chunks beside the
// answers of others, reuses what the prefix tree has, freezes states where the tree wants them,
// gives room back when it is short. A step is schedule, reserve, forward, sample, commit.
//
// What is computed with what, in which chunks and from which state it goes on never shows in a
// token: see engine.h. Threads: one owner. Life: the engine outlives it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "runtime/draft.h"
#include "runtime/draft_length.h"
#include "runtime/engine.h"
#include "runtime/prefix_tree.h"
#include "runtime/sampler.h"

namespace lode::runtime {

enum class StopReason : uint8_t { kStopToken, kLength, kContextFull, kCancelled };

using RequestId = uint64_t;

struct Request {
  std::vector<Token> prompt;
  SamplingOptions sampling;
  std::vector<Token> stop_ids;
  int64_t tokens_max = -1;  // of the answer; below 0: until the context is full
  RootId root = 0;
  // Offsets of the prompt from which later prompts will probably go on.
  std::vector<Probe> probes = {};
  uint64_t family = 0;      // prompts that belong together (AnnounceOptions)
  bool use_cache = true;
};

struct Event {
  enum class Kind : uint8_t {
    kStarted,   // `match` says what is reused
    kProgress,  // `tokens` of the prompt are done
    kToken,     // `sampled`, which is not a stop token
    kFinished,  // `stop`
    kFailed,    // `error`
  };
  Kind kind;
  RequestId request;
  int64_t tokens = 0;  // of the sequence so far
  Match match = {};
  Sampled sampled = {};
  StopReason stop = StopReason::kStopToken;
  const Error* error = nullptr;
};

struct SchedulerOptions {
  TreeOptions tree;             // cost, recurrent and tap_grid are the scheduler's
  int64_t running_max = 1;      // sequences at once
  int64_t queue_max = 1024;     // requests that wait
  int64_t chunk_rows = 0;       // rows of a prompt in a step; 0: all that the engine takes
  double stall_milliseconds = 300.0;  // that prompts may hold up the answers of others
  // Guessed tokens in a step at most, of each answer; 0: none are guessed. What is guessed shows in
  // no token (draft.h): a step runs the guesses as a trial, and if not all of them stand, the next
  // one runs those that do again from the state before.
  int64_t drafts_max = 0;
  // Who guesses, for each request; null: earlier text that began alike (NgramDrafter).
  std::function<std::unique_ptr<Drafter>(const Request&)> drafter = nullptr;
  // Fixed numbers of guesses instead of chosen ones (tests); below 0: chosen by what pays.
  int64_t drafts_fixed = -1;
  // Tokens of an answer that room is promised for on admission; more come as there is room.
  int64_t answer_tokens = 1024;
  std::function<double()> milliseconds = nullptr;  // any clock; null: the system's
  // Sees every row of logits that a token is drawn from (tests, digests).
  std::function<void(RequestId, int64_t position, std::span<const float>)> on_logits = nullptr;
};

class Scheduler {
 public:
  Scheduler(Engine* engine, const SchedulerOptions& options);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // The root that requests have which nobody else opened one for.
  RootId default_root() const { return default_root_; }
  PrefixTree& tree() { return tree_; }
  Engine& engine() { return *engine_; }

  // Errors: kBadInput for an empty prompt, token ids outside the vocabulary, sampling options;
  // kNoSpace for one that can never fit, with the bytes, and when the queue is full.
  Result<RequestId> Submit(Request request);
  // Seen by the next step, which reports kFinished.
  void Cancel(RequestId request);

  // One step; events come as they happen, and may submit and cancel. False: there was nothing to do.
  bool Step(const std::function<void(const Event&)>& on_event);

  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(queue_.size()); }
  int64_t preemptions() const { return preemptions_; }
  int64_t drafted() const { return drafted_; }    // tokens guessed so far
  int64_t accepted() const { return accepted_; }  // of these, those that stand

 private:
  struct Task;
  using Tasks = std::vector<std::unique_ptr<Task>>;
  using Emit = std::function<void(const Event&)>;

  int64_t PagesOf(const Task& task) const;
  uint64_t BytesOf(const Task& task) const;
  uint64_t Promised() const;
  bool Fits(const Task& task) const;
  void Announce(Task* task);
  void AdmitWaiting(const Emit& emit);
  void Start(std::unique_ptr<Task> task, const Emit& emit);
  int64_t PromptRows(int64_t answers) const;
  void Build();
  bool ReserveFor(Task* task, int64_t rows, const Emit& emit);
  void Preempt(Task* task);
  Task* Victim(const Task* asking);
  void Run(const Emit& emit);
  void Guess(Task* task);
  const float* Commit(Task* task, int64_t rows, const float* logits, const Emit& emit);
  void Moved(Task* task, int64_t rows, const Emit& emit);
  void Freeze(Task* task, PointRole role);
  bool Draw(Task* task, const float* logits, const Emit& emit);
  void End(Task* task, FinishReason reason);
  void Finish(Task* task, StopReason stop, const Emit& emit);
  void Fail(Task* task, const Error& error, const Emit& emit);
  void Sweep();

  Engine* engine_;
  SchedulerOptions options_;
  PrefixTree tree_;
  RootId default_root_ = 0;
  Sampler sampler_;
  StepCost cost_;
  std::vector<float> logits_;  // [running_max (1 + drafts_max), V]
  std::deque<std::unique_ptr<Task>> queue_;
  Tasks running_;
  RequestId next_id_ = 1;
  int64_t preemptions_ = 0, drafted_ = 0, accepted_ = 0;
};

}  // namespace lode::runtime
