// A model's tokens: the one thread that owns an engine and its scheduler. Requests come through a
// bounded inbox, are looked at between two steps, and leave as events. Other work with the
// scheduler (contexts.h) is done between two steps as well, a few pieces at a time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "chat/backend.h"
#include "runtime/saved/context_transfer.h"

namespace lode::chat {

struct EngineBackendOptions {
  runtime::SchedulerOptions scheduling;
  size_t inbox_max = 1024;      // requests that the thread has not looked at yet
  size_t idle_roots_max = 256;  // salts whose state stays findable though nobody uses them now
};

// Life: the engine outlives it, and nobody else calls it meanwhile. Threads: as Backend.
class EngineBackend : public Backend, public runtime::SchedulerThread {
 public:
  using RootName = std::pair<std::string, std::string>;  // tenant, salt

  EngineBackend(runtime::Engine* engine, EngineBackendOptions options);
  ~EngineBackend() override;

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t sequence_tokens_max() const override { return sequence_tokens_max_; }
  Result<Ticket> Submit(TokenRequest request, std::shared_ptr<TokenSink> sink) override;
  void Cancel(Ticket ticket) override;
  BackendLoad load() const override;
  void Stop() override;

  // Between two steps, some at a time, so each must be short.
  void Post(std::function<void(runtime::Scheduler*)> work) override;

  // --- In posted work only, where there is a scheduler ---
  // The root of a tenant and a salt. It stays until LeaveRoot, called as often. Errors: kNoSpace.
  Result<runtime::RootId> EnterRoot(const RootName& name, const TenantLimits& limits);
  void LeaveRoot(const RootName& name);
  // A beginning that all may read: whoever's prompt begins with `tokens`, which `from` has a pinned
  // state of, gets a copy of that instead of computing it, until Withdraw.
  void Publish(uint64_t id, runtime::RootId from, std::vector<int32_t> tokens);
  void Withdraw(uint64_t id);

 private:
  struct Root {
    runtime::RootId id = 0;
    runtime::TenantId tenant = 0;
    int64_t users = 0;
    std::list<RootName>::iterator idle = {};  // where users == 0
  };
  struct Arrival {
    Ticket ticket;
    TokenRequest request;
    std::shared_ptr<TokenSink> sink;
  };
  struct Running {
    Ticket ticket;
    std::shared_ptr<TokenSink> sink;
    RootName root;
  };

  // All below: of the thread.
  void Run();
  void Accept(Arrival arrival);
  bool DoWork();
  void TakePublished(runtime::RootId root, const std::vector<int32_t>& prompt);
  Result<Root*> OpenRoot(const RootName& name, const TenantLimits& limits);
  Failure ExplainRefusal(const Error& error, const Root& root, size_t prompt) const;
  void OnEvent(const runtime::Event& event);
  void Retire(runtime::RequestId id);
  void PublishLoad();

  runtime::Engine* const engine_;
  const EngineBackendOptions options_;
  const int64_t vocabulary_, sequence_tokens_max_;

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Arrival> inbox_;  // guarded by mutex_, as the next six
  std::deque<std::function<void(runtime::Scheduler*)>> work_;
  bool stopped_ = false;  // no scheduler any more
  std::vector<Ticket> cancelled_;
  Ticket next_ticket_ = 1;
  bool stopping_ = false;
  BackendLoad load_;

  std::unique_ptr<runtime::Scheduler> scheduler_;
  std::map<std::string, runtime::TenantId> tenants_;
  std::map<RootName, Root> roots_;
  std::list<RootName> idle_roots_;  // the longest idle first
  std::unordered_map<runtime::RequestId, Running> running_;
  std::unordered_map<Ticket, runtime::RequestId> ids_;
  struct Published {
    runtime::RootId from = 0;
    std::vector<int32_t> tokens;
  };
  std::map<uint64_t, Published> published_;
  std::thread thread_;
};

}  // namespace lode::chat
