// A model's tokens: the one thread that owns an engine and its scheduler. Requests come through a
// bounded inbox, are looked at between two steps, and leave as events.
#pragma once

#include <atomic>
#include <condition_variable>
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

namespace lode::chat {

struct EngineBackendOptions {
  runtime::SchedulerOptions scheduling;
  size_t inbox_max = 1024;      // requests that the thread has not looked at yet
  size_t idle_roots_max = 256;  // salts whose state stays findable though nobody uses them now
};

// Life: the engine outlives it, and nobody else calls it meanwhile. Threads: as Backend.
class EngineBackend : public Backend {
 public:
  EngineBackend(runtime::Engine* engine, EngineBackendOptions options);
  ~EngineBackend() override;

  int64_t vocabulary() const override { return vocabulary_; }
  int64_t sequence_tokens_max() const override { return sequence_tokens_max_; }
  Result<Ticket> Submit(TokenRequest request, std::shared_ptr<TokenSink> sink) override;
  void Cancel(Ticket ticket) override;
  BackendLoad load() const override;
  void Stop() override;

 private:
  using RootName = std::pair<std::string, std::string>;  // tenant, salt
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
  Result<Root*> OpenRoot(const RootName& name, const TenantLimits& limits);
  void LeaveRoot(const RootName& name);
  Failure ExplainRefusal(const Error& error, const Root& root, size_t prompt) const;
  void OnEvent(const runtime::Event& event);
  void Retire(runtime::RequestId id);
  void PublishLoad();

  runtime::Engine* const engine_;
  const EngineBackendOptions options_;
  const int64_t vocabulary_, sequence_tokens_max_;

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Arrival> inbox_;  // guarded by mutex_, as the next four
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
  std::thread thread_;
};

}  // namespace lode::chat
