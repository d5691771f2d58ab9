// Behind include/lode/context.h: one thread that owns an engine and its scheduler, an inbox of work
// for it, and the requests that run for contexts. Everything that the engine, the scheduler and the
// tree know is touched by that thread alone, from when the model is loaded until it is gone.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <lode/context.h>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "api/context_text.h"
#include "api/open.h"
#include "base/result.h"
#include "runtime/saved/context_store.h"
#include "runtime/scheduler.h"
#include "runtime/tier/disk_tier.h"

namespace lode::api {

// What contexts of one owner have in common. Immutable.
struct ContextTenant {
  std::string name;
  runtime::TenantId id = 0;
  runtime::ContextDigest digest{};  // in its files; all zero: the one that is always there
};

class ContextCore;

// A root of the prefix tree that contexts refer to: opened when the owner thread first needs it,
// closed when the last of them is gone. Life: whoever has one has the core, too, or is the core's.
struct ContextRoot {
  ~ContextRoot();

  ContextCore* core = nullptr;
  const ContextTenant* tenant = nullptr;
  std::string salt;
  std::optional<runtime::RootId> id = {};  // the owner thread's
};

// A context, shared by its handle and by what runs for it.
struct ContextState {
  using Clock = std::chrono::steady_clock;

  std::shared_ptr<ContextRoot> root;  // immutable
  const ContextTenant& tenant() const { return *root->tenant; }
  // It is being used now. False: too late, it has expired, and its ids are gone. Needs the mutex.
  bool Use();
  bool Expired();  // the same, without using it

  std::mutex mutex;  // of what follows
  std::string name;
  ContextText text;
  bool running = false;
  v1::Pin pin = v1::Pin::kNone;
  std::map<std::string, int64_t> marks;
  std::string saved_as;  // the file that has its beginning; empty: none
  double ttl_seconds = 0.0;  // 0: never
  Clock::time_point used = Clock::now();
  bool expired = false;

  runtime::PinId memory_pin = runtime::kNone;  // the owner thread's
};

// One request. Events go from the owner thread to whoever reads them.
struct ContextJob {
  using Clock = std::chrono::steady_clock;

  // Set before it is posted.
  std::shared_ptr<ContextState> state;
  runtime::Request request;
  ContextText text;  // what the context becomes, before what is drawn
  std::string mark;  // set at its end then; empty: none
  bool draws = false;    // tokens are wanted, not only the state
  // At its end the newest state is pinned instead of what was; for the first time a refusal is the
  // job's error. With `pins` the context is one that does so from then on.
  bool follows = false, pins = false;
  Clock::time_point begun = Clock::now();

  // The owner thread's.
  runtime::RequestId id = 0;
  bool started = false;
  std::vector<int32_t> drawn;

  std::mutex mutex;  // of what follows
  std::condition_variable changed;
  std::deque<v1::Event> events;
  bool done = false;
  std::optional<Error> error;
  v1::Stop stop = v1::Stop::kStopToken;
  v1::Reuse reuse;
  std::vector<int32_t> tokens;  // drawn
  double prompt_seconds = 0.0, seconds = 0.0;
  std::string warning;

  void Wait();  // until done
};

// What the owner thread has.
struct ContextOwner {
  Running running;
  std::unique_ptr<runtime::DiskTier> disk;  // null: none
  std::unique_ptr<runtime::Scheduler> scheduler;
  std::map<runtime::RequestId, std::shared_ptr<ContextJob>> jobs;
  double prompt_seconds = 0.0;  // that prompts took so far,
  int64_t prompt_tokens = 0;    // and how many of them were computed
  struct Published {
    std::vector<int32_t> tokens;  // up to its state
    std::shared_ptr<ContextState> state;
  };
  std::vector<Published> published;

  // Copies the longest published beginning of these ids that this root does not have.
  void TakePublished(runtime::RootId root, std::span<const int32_t> ids);

  Result<runtime::RootId> Root(const ContextState& state);
  // The newest state of the context that is in memory is pinned instead of what was. Errors: those
  // of PrefixTree::Pin; the old pin stays then.
  Result<void> MovePin(ContextState* state, std::span<const int32_t> ids);
  void Unpin(ContextState* state);
};

// In the owner thread: what asking for this prompt would reuse, beside words for what differs.
Result<v1::Explanation> ExplainIn(ContextOwner* owner, const ContextState& state,
                                  std::span<const int32_t> prompt,
                                  const std::optional<TextTools>& text);
// Of the slot and all full pages after these ids. Errors: kNotFound when that state is not in
// memory.
Result<v1::Digest> DigestIn(ContextOwner* owner, const ContextState& state,
                            std::span<const int32_t> ids);

class ContextCore {
 public:
  // Loads the model in the new thread and waits for it.
  static Result<std::shared_ptr<ContextCore>> Open(const std::string& model,
                                                   const v1::EngineOptions& options);
  ~ContextCore();
  ContextCore(const ContextCore&) = delete;
  ContextCore& operator=(const ContextCore&) = delete;
  // What runs is cancelled, what waits is refused, the thread ends. Not from the owner thread.
  void Close();

  // `work` runs in the owner thread, later; with nullptr, in any, when the core is closed.
  using Work = std::function<void(ContextOwner*)>;
  void Post(Work work);
  // The same, and waits. `work` returns a Result.
  template <typename F>
  auto Call(F work) {
    using R = std::invoke_result_t<F&, ContextOwner*>;
    std::promise<R> promise;
    Post([&](ContextOwner* owner) { promise.set_value(owner ? work(owner) : R(Closed())); });
    return promise.get_future().get();
  }
  // `work` itself, also when the core is closed (nullptr).
  void PostAndWait(const Work& work) {
    std::promise<void> done;
    Post([&](ContextOwner* owner) {
      work(owner);
      done.set_value();
    });
    done.get_future().wait();
  }
  static Error Closed();

  // While one is there the engine's memory stays, even when the core is being closed: for whoever
  // reads leased frames in another thread.
  class Loan {
   public:
    explicit Loan(ContextCore* core) : core_(*core) { core_.Lend(+1); }
    ~Loan() { core_.Lend(-1); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;

   private:
    ContextCore& core_;
  };

  // What everybody may begin with lies in a root of its own. Of `state`, which is one there, `ids`
  // are computed and pinned.
  std::shared_ptr<ContextRoot> PublicRoot();
  Result<void> Publish(const std::shared_ptr<ContextState>& state, std::span<const int32_t> ids);

  // Lets a job run; its state is marked as running already.
  void Run(const std::shared_ptr<ContextJob>& job);
  void Cancel(const std::shared_ptr<ContextJob>& job);

  // --- Facts: immutable since Open ---
  const ContextTenant* Tenant(const std::string& name) const;
  const std::optional<TextTools>& text() const { return text_; }
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }
  int64_t vocabulary() const { return vocabulary_; }
  const runtime::ContextGeometry& geometry() const { return geometry_; }
  // Computed on the first call, which may have to read the weights.
  Result<const runtime::ContextFingerprints*> Fingerprints();
  // Errors: kBadInput for an id outside the vocabulary; kNoSpace, with the bytes, when a context of
  // so many tokens can never fit.
  Result<void> Check(std::span<const int32_t> ids, int64_t tokens) const;

  // The folder of a tenant's saved contexts; made when first asked for.
  Result<runtime::ContextStore*> Store(const ContextTenant& tenant);

 private:
  ContextCore() = default;
  Result<void> Load(const std::string& model, ContextOwner* owner);
  Result<void> AddTenants(ContextOwner* owner);
  Result<void> AddDisk(ContextOwner* owner);
  void Loop(ContextOwner* owner);
  void RefuseWork();  // what is in the inbox, and all that comes
  void Lend(int by);
  void See(ContextOwner* owner, const runtime::Event& event);
  static void Finish(ContextOwner* owner, ContextJob* job, std::optional<Error> error,
                     v1::Stop stop);

  v1::EngineOptions options_;
  std::map<std::string, ContextTenant> tenants_;
  ContextTenant public_;  // owns what is published
  std::shared_ptr<const tensor::TensorSource> source_;
  model::Numerics numerics_;
  std::optional<TextTools> text_;
  std::vector<int32_t> stop_ids_;
  int64_t vocabulary_ = 0, tokens_max_ = 0;
  uint64_t budget_ = 0, page_stride_ = 0, slot_stride_ = 0;
  runtime::ContextGeometry geometry_;

  std::mutex fingerprints_mutex_;
  std::optional<runtime::ContextFingerprints> fingerprints_;
  std::mutex stores_mutex_;
  std::map<std::string, runtime::ContextStore> stores_;

  std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  std::deque<Work> inbox_;
  bool closing_ = false, closed_ = false;
  int loans_ = 0;

  std::thread thread_;
};

}  // namespace lode::api
