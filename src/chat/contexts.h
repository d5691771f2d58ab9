// Contexts that clients of a server own: exact token ids under a name that the server made up, and
// what is pinned of them. The same runtime as include/lode/context.h: a context's state is a pure
// function of its ids, so whatever of it is in memory is reused and the rest is computed again.
//
// A context belongs to a tenant; another's is not found, in the same words as one that never was.
// One request at a time goes on from a context (ContextTurn); it becomes longer when that request's
// answer has ended, and stays as it was when the request fails or its client goes away.
//
// What is computed runs as a request like any other. Files are read and written by a thread of
// their own, beside the engine's, which only lends frames.
// Errors of contexts begin with "context: ": kNotFound; kCancelled while another request runs on
// it; kNoSpace for what has no room in memory, on disk or in the tenant's quota.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "chat/answer.h"
#include "chat/engine_backend.h"
#include "chat/origin.h"
#include "runtime/saved/context_store.h"

namespace lode::chat {

class Contexts;

// Where a context was whole: after so many messages and tokens.
struct ContextBoundary {
  int64_t messages = 0, tokens = 0;
  bool open = false;  // it ends with an answer as the model wrote it, not closed by the template
};

// What a context is, immutable: forks share it.
struct ContextText {
  std::shared_ptr<const std::vector<int32_t>> tokens;
  // "messages", "tools" and other variables of the template; null: plain text.
  std::shared_ptr<const Json> dialogue;
  std::vector<ContextBoundary> boundaries;
  std::map<std::string, int64_t> marks;

  int64_t size() const { return static_cast<int64_t>(tokens->size()); }
  // The first `at` tokens; messages up to the last boundary there, none if `at` is inside one.
  ContextText First(int64_t at) const;
};

enum class ContextPin : uint8_t { kNone, kMemory };

struct ContextInfo {
  std::string id, name, parent, saved_as;
  int64_t tokens = 0;
  int64_t messages = -1;  // below 0: plain text
  ContextPin pin = ContextPin::kNone;
  bool published = false, running = false;
  std::map<std::string, int64_t> marks;
  double ttl_seconds = 0.0, idle_seconds = 0.0;
  int64_t created = 0;                          // seconds since 1970
  std::shared_ptr<const runtime::Match> reuse;  // of what was last computed for it
};

// A place in a context: its end unless one is given.
struct ContextPlace {
  std::optional<int64_t> token, message;
  std::string mark;
};

struct NewContext {
  ContextText text;
  std::string name, parent;
  ContextPin pin = ContextPin::kNone;
  bool publish = false;  // and all may begin with it
  double ttl_seconds = 0.0;
  std::vector<runtime::Probe> probes;  // offsets that later prompts will go on from
};

struct ContextChange {
  std::optional<std::string> name, mark;  // the mark: of its end
  std::optional<double> ttl_seconds;
  std::optional<ContextPin> pin;
};

struct ContextSaving {
  std::string name;  // empty: the context's own
  bool delta = true;
  int zstd_level = 0;
};

struct ContextRestoring {
  std::string name;
  bool recompute = false;  // of another model or numerics: its ids are taken
  bool verify = false;     // reads every byte first
};

// What became of a job.
struct ContextReport {
  ContextInfo context;
  std::shared_ptr<const runtime::Match> reuse;
  std::optional<runtime::Explanation> explanation;
  std::optional<runtime::ContextSaveReport> saved;
  int64_t state = 0;                // saved or restored: the deepest one
  bool exact = true;                // restored: of the same model and numerics
  std::vector<std::string> damage;  // restored: records that are not what was written
  double seconds = 0.0;
};

// What takes time. Threads: one reader; its end cancels what is computed for it alone.
class ContextJob {
 public:
  struct Outcome {
    std::optional<Result<ContextReport>> report;       // either this
    std::shared_ptr<const Failure> failure = nullptr;  // or that
  };
  // `wake`: as AnswerQueue's.
  explicit ContextJob(std::function<void()> wake) : wake_(std::move(wake)) {}

  // Once; none: it still runs.
  std::optional<Outcome> Take();
  int64_t progress() const;  // tokens that are computed so far
  // Nobody reads any more.
  void Forget();

 private:
  friend class Contexts;
  friend class ContextSink;
  void Finish(Outcome outcome);
  void Progress(int64_t tokens);

  mutable std::mutex mutex_;
  std::function<void()> wake_;
  std::optional<Outcome> outcome_;
  int64_t progress_ = 0;
  std::function<void()> cancel_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

// A request's hold on a context: nobody else goes on from it until this is gone.
class ContextTurn {
 public:
  ~ContextTurn();
  ContextTurn(const ContextTurn&) = delete;
  ContextTurn& operator=(const ContextTurn&) = delete;

  const std::string& id() const;
  const ContextText& text() const { return text_; }
  const std::string& salt() const;
  // The context's tokens stay as they are and what is new comes behind them; else old and new
  // messages are rendered together, as without a context.
  bool append = true;
  // What the prompt became, before it is submitted.
  void SetPrompt(std::vector<int32_t> prompt, std::shared_ptr<const Json> dialogue);
  // The context becomes the prompt, the answer behind it. Threads: the reader's of the answer.
  void Commit(const EndedAnswer& answer);

 private:
  friend class Contexts;
  struct Hold;
  ContextTurn();
  ContextText text_;
  std::vector<int32_t> prompt_;
  std::shared_ptr<const Json> dialogue_;
  std::unique_ptr<Hold> hold_;
};

struct ContextsOptions {
  std::string folder;  // of saved contexts; empty: none is saved
  // Of model and numerics; asked for when first needed, and may take long.
  std::function<Result<runtime::ContextFingerprints>()> fingerprints;
  int64_t contexts_max = 1024;            // of one tenant, unless its limits say less
  int64_t tokens_max = int64_t{1} << 27;  // of one tenant's contexts together
  size_t file_jobs_max = 64;
  int threads = 1;  // that read a file
};

// Life: the backend outlives it, and is stopped before this ends or by whoever ends it.
// Threads: any.
class Contexts {
 public:
  // Errors: those of the folder.
  static Result<std::unique_ptr<Contexts>> Make(EngineBackend* backend, ContextsOptions options);
  ~Contexts();

  bool can_save() const { return !options_.folder.empty(); }
  int64_t token_limit() const { return backend_->sequence_tokens_max(); }

  // --- At once ---
  std::vector<ContextInfo> List(const Origin& origin);
  Result<ContextInfo> Get(const Origin& origin, const std::string& id);
  // n contexts with the first tokens of this one; nothing is copied and nothing computed.
  Result<std::vector<ContextInfo>> Fork(const Origin& origin, const std::string& id, int64_t n,
                                        const ContextPlace& at);
  Result<ContextInfo> Truncate(const Origin& origin, const std::string& id, const ContextPlace& at);
  // All of a change but for pinning, which is a job.
  Result<ContextInfo> Change(const Origin& origin, const std::string& id,
                             const ContextChange& change);
  Result<void> Remove(const Origin& origin, const std::string& id);
  // Names of saved ones. Errors: kUnsupported without a folder.
  Result<std::vector<runtime::ContextEntry>> Saved(const Origin& origin);
  // Errors: also kCancelled, while another request runs on it; with `fork` a fork is used then.
  Result<std::shared_ptr<ContextTurn>> Begin(const Origin& origin, const std::string& id,
                                             bool fork);
  // The same for looking only: nothing is held.
  Result<std::shared_ptr<ContextTurn>> Look(const Origin& origin, const std::string& id);
  // Drops those whose ttl is over. About once a second.
  void Sweep();
  int64_t count();

  // --- Jobs ---
  using Wake = std::function<void()>;
  Result<std::shared_ptr<ContextJob>> Create(const Origin& origin, NewContext context, Wake wake);
  Result<std::shared_ptr<ContextJob>> Pin(const Origin& origin, const std::string& id, Wake wake);
  Result<std::shared_ptr<ContextJob>> Save(const Origin& origin, const std::string& id,
                                           const ContextSaving& saving, Wake wake);
  Result<std::shared_ptr<ContextJob>> Restore(const Origin& origin,
                                              const ContextRestoring& restoring, Wake wake);
  // Of a context, or of ids that belong to none: what asking for them would reuse. Nothing is
  // computed.
  Result<std::shared_ptr<ContextJob>> Explain(const Origin& origin, const std::string& id,
                                              Wake wake);
  std::shared_ptr<ContextJob> Explain(const Origin& origin, std::vector<int32_t> prompt, Wake wake);

 private:
  friend class ContextTurn;
  struct Kept;
  using KeptPtr = std::shared_ptr<Kept>;
  using JobPtr = std::shared_ptr<ContextJob>;

  Contexts(EngineBackend* backend, ContextsOptions options);
  Result<KeptPtr> Find(const Origin& origin, const std::string& id);
  Result<KeptPtr> Add(const Origin& origin, NewContext context);
  Result<KeptPtr> AddFork(const Origin& origin, const Kept& from, ContextText text);
  std::shared_ptr<ContextTurn> TurnOf(const KeptPtr& kept);
  Result<void> CheckQuota(const Origin& origin, int64_t contexts, int64_t tokens) const;
  ContextInfo InfoOf(const Kept& kept) const;
  ContextReport ReportOf(const KeptPtr& kept);
  void Drop(const KeptPtr& kept);
  void Commit(const KeptPtr& kept, ContextText text, std::shared_ptr<const runtime::Match> match);
  std::string NewId();

  // context_jobs.cc
  void Compute(const KeptPtr& kept, bool is_new, std::vector<runtime::Probe> probes,
               const JobPtr& job, std::function<void(std::shared_ptr<const runtime::Match>)> then);
  void PinNow(const KeptPtr& kept, bool publish, std::function<void(const Result<void>&)> then);
  void Unpin(const KeptPtr& kept);
  Result<void> PostFile(std::function<void()> work);
  void RunFiles();
  Result<ContextReport> SaveNow(const KeptPtr& kept, const std::string& name,
                                const ContextSaving& saving);
  Result<ContextReport> RestoreNow(const Origin& origin, const ContextRestoring& restoring);
  Result<runtime::ContextStore*> Store(const std::string& tenant);
  Result<const runtime::ContextFingerprints*> Prints();
  static void Done(const JobPtr& job, Result<ContextReport> report);

  EngineBackend* const backend_;
  const ContextsOptions options_;

  mutable std::mutex mutex_;  // of what follows, and of what is in a Kept
  std::map<std::string, KeptPtr> kept_;
  struct Sum {
    int64_t contexts = 0, tokens = 0;
  };
  std::map<std::string, Sum> sums_;  // by tenant

  std::mutex stores_mutex_;
  std::map<std::string, runtime::ContextStore> stores_;  // by tenant
  std::optional<runtime::ContextFingerprints> prints_;   // the files' thread's

  std::mutex files_mutex_;
  std::condition_variable files_wake_;
  std::deque<std::function<void()>> files_;
  bool stopping_ = false;
  std::thread files_thread_;
};

}  // namespace lode::chat
