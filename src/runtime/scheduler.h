// Serves many requests with one engine: admits by arithmetic, computes prompts in chunks beside the
// answers of others, reuses what the prefix tree has, freezes states where the tree wants them,
// gives room back when it is short. A step is schedule, reserve, forward, sample, commit.
//
// What is computed with what, in which chunks and from which state it goes on never shows in a
// token: see engine.h.
//
// Whose turn it is: tenants share the machine's time by their weights (fair_queue.h); of one
// tenant's requests the highest priority goes first, then who came first. Who waits for another to
// compute what it needs holds no turn. When there is no room, the request that is worth least gives
// its place back and comes again: never the eldest, so somebody always ends.
// Threads: one owner. Life: the engine outlives it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/stack_memory.h"
#include "runtime/engine.h"
#include "runtime/fairness/fair_queue.h"
#include "runtime/mtp_drafts.h"
#include "runtime/sampling/draft.h"
#include "runtime/sampling/draft_length.h"
#include "runtime/sampling/sampler.h"
#include "runtime/tier/promotion.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::runtime {

enum class StopReason : uint8_t { kStopToken, kLength, kContextFull, kCancelled };

using RequestId = uint64_t;

struct Request {
  std::vector<Token> prompt;
  SamplingOptions sampling;
  std::vector<Token> stop_ids;
  int64_t tokens_max = -1;  // of the answer; below 0: until the context is full
  // Before so many tokens no stop id is drawn, unless the constraint allows nothing else.
  int64_t tokens_min = 0;
  // Which tokens the answer may have; stop ids are among its masks like other tokens. Where it
  // allows nothing the request fails. Null: none. Shared, for whoever asked may look into it while
  // and after it runs, between steps. One for each request. Where it leaves one token only, that is
  // guessed for nothing (drafts_max).
  std::shared_ptr<Constraint> constraint = nullptr;
  RootId root = 0;       // whose; see Scheduler::OpenRoot
  int32_t priority = 0;  // among the requests of its tenant the higher one goes first
  // Offsets of the prompt from which later prompts will probably go on.
  std::vector<Probe> probes = {};
  uint64_t family = 0;  // prompts that belong together (AnnounceOptions)
  bool use_cache = true;
  // n >= 0: of the prompt's tokens from `prompt_logprobs_from` on (the first one has none), the
  // log-probability of each and the n likeliest there. Their rows are computed though they are known.
  int64_t prompt_logprobs = -1;
  int64_t prompt_logprobs_from = 0;
  // The mean of the prompt's rows after the final norm, which are all computed for that.
  bool pool_hidden = false;
};

struct Event {
  enum class Kind : uint8_t {
    kStarted,      // `match` says what is reused; `again`: it had to give up its place before
    kProgress,     // `tokens` of the prompt are done
    kPromptToken,  // `sampled`: what the model says of the prompt's token at `tokens`
    kPooled,       // `pooled`
    kToken,        // `sampled`, which is not a stop token
    kFinished,     // `stop`; `sampled`: the stop token, if it was one
    kFailed,       // `error`
  };
  Kind kind;
  RequestId request;
  int64_t tokens = 0;  // of the sequence so far
  Match match = {};
  bool again = false;
  Sampled sampled = {};
  std::span<const float> pooled = {};  // [D], summed in order of the tokens in double
  StopReason stop = StopReason::kStopToken;
  const Error* error = nullptr;
};

// One who pays, or whose data nobody else may meet.
struct TenantLimits {
  double weight = 1.0;      // its share of time and memory among all tenants
  int64_t running_max = 0;  // its sequences at once; 0: as many as there may be of all
  int64_t queue_max = 0;    // its requests that wait; 0: as many as there may be of all
  uint64_t pin_bytes_max = ~uint64_t{0};
  // What the keys of its roots are made with; empty: something new for each process (the tenant of
  // default_root(): always the same).
  std::string secret = {};
};

struct TenantUse {
  int64_t running = 0, waiting = 0;
  double milliseconds = 0.0;  // of steps, for its rows, as predicted
};

// Mistakes that a test plants, as engine.h's Fault.
enum class SchedulerFault : uint8_t {
  kNone,
  kSeedBySlot,       // the noise depends on where the state lies
  kTapTooEarly,      // a state is bound to the offset one before its own
  kFreezeLate,       // a state is frozen a step after its offset
  kResumeTooDeep,    // a resumed sequence believes to be a page further
  kTrustGuesses,     // guesses stand whatever was drawn
  kSkipToken,        // a constraint does not see every token of its answer
  kHiddenOfAnother,  // the row that is kept beside a state is that of the row before
};

struct SchedulerOptions {
  TreeOptions tree;  // cost, recurrent and tap_grid are the scheduler's
  // Where states go that are evicted, and come from when a request wants them; null: nowhere. Must
  // outlive the scheduler.
  DiskTier* disk = nullptr;
  int64_t running_max = 1;  // sequences at once
  // Requests that wait. Who has less than its part of them by weight may come even then.
  int64_t queue_max = 1024;
  int64_t chunk_rows = 0;             // rows of a prompt in a step; 0: all that the engine takes
  double stall_milliseconds = 300.0;  // that prompts may hold up the answers of others
  // Guessed tokens in a step at most, of each answer; 0: none are guessed. What is guessed shows in
  // no token (draft.h): a step runs the guesses as a trial (Engine::Keep), whose rows the engine must
  // have room for: one more than these.
  int64_t drafts_max = 0;
  // Who guesses, for each request; null: the model's MTP head (mtp_drafts.h), or if it has none,
  // earlier text that began alike (NgramDrafter).
  std::function<std::unique_ptr<Drafter>(const Request&)> drafter = nullptr;
  // Fixed numbers of guesses instead of chosen ones (tests); below 0: chosen by what pays.
  int64_t drafts_fixed = -1;
  // Tokens of an answer that room is promised for on admission; more come as there is room.
  int64_t answer_tokens = 1024;
  std::function<double()> milliseconds = nullptr;  // any clock; null: the system's
  TenantLimits tenant = {};                        // whose default_root() is
  // Fingerprints of the engine's model and numerics: part of the keys of roots.
  std::string model_id = {}, numerics_id = {};
  int64_t portion_rows = 32;  // of a prompt, before the next tenant's turn
  int64_t aged_steps = 16;    // who had no row for so many steps comes before all turns
  // Tokens that a sequence gets done before it has to give up its place (again), except to the
  // eldest.
  int64_t progress_min = 256;
  // Sees every row of logits that a token is drawn from (tests, digests).
  std::function<void(RequestId, int64_t position, std::span<const float>)> on_logits = nullptr;
  SchedulerFault fault = SchedulerFault::kNone;  // tests only
};

// Ids of evicted prefixes that are remembered beside a budget of so many bytes, for the reasons why
// tokens are computed again.
int64_t GhostTokensMax(uint64_t budget);

class Scheduler {
 public:
  Scheduler(Engine* engine, const SchedulerOptions& options);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // The root that requests have which nobody else opened one for.
  RootId default_root() const { return default_root_; }
  // Errors: kNoSpace when no more tenants can be told apart; kBadInput for a weight that is not
  // above 0.
  Result<TenantId> AddTenant(const TenantLimits& limits);
  // Nothing of a root is ever found from another: one for each (tenant, salt), which the key is an
  // HMAC of (context_root_key.h). It stays until CloseRoot has been called as often as this.
  // Errors: kNotFound for a tenant that is not there; kNoSpace when too many roots are open.
  Result<RootId> OpenRoot(TenantId tenant, std::string_view salt);
  void CloseRoot(RootId root);
  TenantUse use(TenantId tenant) const;
  PrefixTree& tree() { return tree_; }
  Engine& engine() { return *engine_; }

  // Errors: kBadInput for an empty prompt, token ids outside the vocabulary, sampling options;
  // kNoSpace for one that can never fit, with the bytes, and when the queue is full, with how fast
  // it drains.
  Result<RequestId> Submit(Request request);
  // Milliseconds until the next waiting request of all may start, by how fast the last few ended;
  // 0: not known yet.
  double QueueMilliseconds() const { return drain_.Interval(); }
  // Seen by the next step, which reports kFinished.
  void Cancel(RequestId request);

  // One step; events come as they happen, and may submit and cancel. False: there was nothing to do.
  bool Step(const std::function<void(const Event&)>& on_event);

  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(queue_.size()); }
  int64_t rows() const { return rows_; }  // that steps have run so far
  int64_t preemptions() const { return preemptions_; }
  int64_t drafted() const { return drafted_; }    // tokens guessed so far
  int64_t accepted() const { return accepted_; }  // of these, those that stand

 private:
  struct Task;
  using Tasks = std::vector<std::unique_ptr<Task>>;
  using Emit = std::function<void(const Event&)>;

  // scheduler_room.cc
  int64_t PagesOf(const Task& task, bool eldest) const;
  uint64_t BytesOf(const Task& task, bool eldest) const;
  const Task* Eldest() const;  // of those that run; null: none does
  bool Fits(const Task& task) const;
  Result<void> CheckFits(int64_t prompt) const;
  bool TakeRoom(Task* task, bool from_anybody);
  void ReserveFor(Task* task, const Emit& emit);
  void EndForRoom(Task* task, const Emit& emit);
  void Preempt(Task* task);
  // scheduler_admission.cc
  Result<void> CheckQueue(TenantId tenant) const;
  void Announce(Task* task);
  void DropCancelled(const Emit& emit);
  Task* FirstOf(TenantId tenant) const;
  int64_t RunningOf(TenantId tenant) const;
  int64_t RunningMax(TenantId tenant) const;
  double MillisecondsLeft(const Task& task) const;
  std::vector<double> PromisedTime() const;
  void AdmitWaiting(const Emit& emit);
  bool MakePlace(const Task& task);
  void Start(Task* task, const Emit& emit);
  // scheduler_turns.cc
  int64_t PromptRows(int64_t answers) const;
  int64_t BuildAnswers();
  int64_t NextRows(const Task& task) const;
  void Build();
  void BuildEldest();
  bool GivesWayBefore(const Task& a, const Task& b) const;
  Task* Victim(const Task* asking);
  void Account(std::span<Task* const> tasks, int64_t rows);
  // scheduler_guesses.cc
  int64_t DraftsMax(const Task& task) const;
  int64_t DraftsFor(Task* task);
  void GuessForced(Task* task);
  void CutGuesses(Task* task);
  void Guess(Task* task);
  void GuessAhead(std::span<Task* const> tasks);
  void Guessed(Task* task, int64_t drafts, int64_t stand);
  // scheduler_rows.cc
  static int64_t ReuseMax(const Task& task);
  bool DrawKnown(const Emit& emit);
  void LookAt(Task* task, const Emit& emit);
  void Judge(Task* task, const Emit& emit);
  void Pool(Task* task, const Emit& emit);
  // scheduler.cc
  bool Admit(const Emit& emit);
  void Run(const Emit& emit);
  const float* Commit(Task* task, int64_t rows, const float* logits, const Emit& emit);
  void Moved(Task* task, int64_t rows, const Emit& emit);
  void Freeze(Task* task, PointRole role);
  bool KeepHidden(Task* task);
  bool Draw(Task* task, const float* logits, const Emit& emit);
  void End(Task* task, FinishReason reason);
  void Finish(Task* task, StopReason stop, const Emit& emit, const Sampled& sampled = {});
  void Fail(Task* task, const Error& error, const Emit& emit);
  void Sweep();

  Engine* engine_;
  SchedulerOptions options_;
  PrefixTree tree_;
  Promotions promotions_;
  RootId default_root_ = 0;
  Sampler sampler_;
  StackMemory memory_;              // for the lists of a step
  std::unique_ptr<MtpDrafts> mtp_;  // where the model's own head guesses
  StepCost cost_;
  std::vector<float> logits_;          // [running_max (1 + drafts_max), V]
  std::vector<float> prompt_logits_;   // of rows of prompts, once somebody asks for them
  std::vector<TenantLimits> tenants_;  // by TenantId, as the accounts
  struct Opened {
    TenantId tenant = 0;
    int64_t times = 0;
  };
  std::vector<Opened> opened_;  // by RootId
  FairQueue fair_;
  DrainRate drain_;
  bool nobody_ran_ = false;      // in the step before: those who had their turn found no room
  std::vector<uint8_t> denied_;  // by TenantId: who wants more than the step at hand gives it
  std::deque<std::unique_ptr<Task>> queue_;
  Tasks running_;
  RequestId next_id_ = 1;
  int64_t rows_ = 0, preemptions_ = 0, drafted_ = 0, accepted_ = 0;
};

}  // namespace lode::runtime
