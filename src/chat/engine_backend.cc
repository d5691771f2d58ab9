#include "chat/engine_backend.h"

#include <algorithm>
#include <utility>

#include "runtime/saved/copy_point.h"

namespace lode::chat {
namespace {

constexpr int kWorkAtOnce = 8;  // pieces of other work between two steps

TokenEvent Failed(Failure failure) {
  TokenEvent event;
  event.kind = TokenEvent::Kind::kFailed;
  event.failure = std::make_shared<const Failure>(std::move(failure));
  return event;
}

TokenEvent Plain(TokenEvent::Kind kind, int64_t tokens) {
  TokenEvent event;
  event.kind = kind;
  event.tokens = tokens;
  return event;
}

Failure Stopping() {
  return {Cause::kStopping, Error(Code::kCancelled, "the server is stopping"), 0.0};
}

}  // namespace

EngineBackend::EngineBackend(runtime::Engine* engine, EngineBackendOptions options)
    : engine_(engine),
      options_(std::move(options)),
      vocabulary_(engine->vocabulary()),
      sequence_tokens_max_(engine->sequence_tokens_max()) {
  thread_ = std::thread([this] { Run(); });
}

EngineBackend::~EngineBackend() { Stop(); }

Result<Ticket> EngineBackend::Submit(TokenRequest request, std::shared_ptr<TokenSink> sink) {
  Ticket ticket = 0;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Stopping().error;
    if (inbox_.size() >= options_.inbox_max) {
      return Error(Code::kNoSpace, "too many requests arrive at once", "try again later");
    }
    ticket = next_ticket_++;
    inbox_.push_back({ticket, std::move(request), std::move(sink)});
  }
  arrived_.notify_one();
  return ticket;
}

void EngineBackend::Cancel(Ticket ticket) {
  {
    const std::lock_guard lock(mutex_);
    cancelled_.push_back(ticket);
  }
  arrived_.notify_one();
}

BackendLoad EngineBackend::load() const {
  const std::lock_guard lock(mutex_);
  BackendLoad load = load_;
  load.waiting += static_cast<int64_t>(inbox_.size());
  return load;
}

void EngineBackend::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  arrived_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void EngineBackend::Post(std::function<void(runtime::Scheduler*)> work) {
  {
    const std::lock_guard lock(mutex_);
    if (!stopped_) {
      work_.push_back(std::move(work));
      arrived_.notify_one();
      return;
    }
  }
  work(nullptr);
}

// --- The thread ----------------------------------------------------------------------------------

void EngineBackend::Run() {
  scheduler_ = std::make_unique<runtime::Scheduler>(engine_, options_.scheduling);
  tenants_[""] = 0;  // whose default_root() is
  std::vector<Arrival> arrivals;
  std::vector<Ticket> cancelled;
  bool idle = false;
  while (true) {
    {
      std::unique_lock lock(mutex_);
      const auto anything = [&] {
        return stopping_ || !inbox_.empty() || !cancelled_.empty() || !work_.empty();
      };
      if (idle) arrived_.wait(lock, anything);
      if (stopping_) break;
      std::swap(arrivals, inbox_);
      std::swap(cancelled, cancelled_);
    }
    for (Arrival& arrival : arrivals) Accept(std::move(arrival));
    for (const Ticket ticket : cancelled) {
      const auto found = ids_.find(ticket);
      if (found != ids_.end()) scheduler_->Cancel(found->second);
    }
    arrivals.clear();
    cancelled.clear();
    const bool more = DoWork();
    idle = !scheduler_->Step([this](const runtime::Event& event) { OnEvent(event); }) && !more;
    PublishLoad();
  }
  for (auto& [id, running] : running_) running.sink->Push(Failed(Stopping()));
  running_.clear();
  std::deque<std::function<void(runtime::Scheduler*)>> work;
  {
    const std::lock_guard lock(mutex_);
    std::swap(arrivals, inbox_);
    stopped_ = true;
    work.swap(work_);
  }
  for (Arrival& arrival : arrivals) arrival.sink->Push(Failed(Stopping()));
  for (const auto& each : work) each(nullptr);
  scheduler_.reset();
}

// True: there is more.
bool EngineBackend::DoWork() {
  for (int i = 0; i < kWorkAtOnce; ++i) {
    std::function<void(runtime::Scheduler*)> work;
    {
      const std::lock_guard lock(mutex_);
      if (work_.empty()) return false;
      work = std::move(work_.front());
      work_.pop_front();
    }
    work(scheduler_.get());
  }
  const std::lock_guard lock(mutex_);
  return !work_.empty();
}

void EngineBackend::Accept(Arrival arrival) {
  const RootName name = {arrival.request.tenant, arrival.request.salt};
  const auto root = OpenRoot(name, arrival.request.limits);
  if (!root.ok()) {
    arrival.sink->Push(Failed({Cause::kQueueFull, root.error(), 1.0}));
    return;
  }
  const size_t prompt = arrival.request.request.prompt.size();
  arrival.request.request.root = (*root)->id;
  TakePublished((*root)->id, arrival.request.request.prompt);
  const auto id = scheduler_->Submit(std::move(arrival.request.request));
  if (!id.ok()) {
    arrival.sink->Push(Failed(ExplainRefusal(id.error(), **root, prompt)));
    LeaveRoot(name);
    return;
  }
  ids_[arrival.ticket] = *id;
  arrival.sink->Push(Plain(TokenEvent::Kind::kQueued, 0));
  running_[*id] = {arrival.ticket, std::move(arrival.sink), name};
}

Failure EngineBackend::ExplainRefusal(const Error& error, const Root& root, size_t prompt) const {
  if (error.code() == Code::kBadInput) return {Cause::kBadRequest, error, 0.0};
  if (error.code() != Code::kNoSpace) return {Cause::kInternal, error, 0.0};
  const bool never = engine_->TooLong(static_cast<int64_t>(prompt));
  const bool waits = scheduler_->use(root.tenant).waiting > 0 || scheduler_->waiting() > 0;
  if (never || !waits) return {Cause::kTooLong, error, 0.0};
  return {Cause::kQueueFull, error, scheduler_->QueueMilliseconds() * 1e-3};
}

// The longest published beginning of a prompt that its root does not have. Without room it is
// computed like any other text.
void EngineBackend::TakePublished(runtime::RootId root, const std::vector<int32_t>& prompt) {
  const Published* best = nullptr;
  for (const auto& [id, each] : published_) {
    const bool longer = best == nullptr || each.tokens.size() > best->tokens.size();
    if (longer && each.from != root && each.tokens.size() <= prompt.size() &&
        std::equal(each.tokens.begin(), each.tokens.end(), prompt.begin())) {
      best = &each;
    }
  }
  if (best == nullptr) return;
  const auto there = scheduler_->tree().Lookup(root, best->tokens, false);
  if (there.resume == std::ssize(best->tokens)) return;
  (void)runtime::CopyPoint(scheduler_.get(), best->from, root, best->tokens);
}

Result<runtime::RootId> EngineBackend::EnterRoot(const RootName& name,
                                                 const TenantLimits& limits) {
  LODE_ASSIGN(const Root* root, OpenRoot(name, limits));
  return root->id;
}

void EngineBackend::Publish(uint64_t id, runtime::RootId from, std::vector<int32_t> tokens) {
  published_[id] = {from, std::move(tokens)};
}

void EngineBackend::Withdraw(uint64_t id) { published_.erase(id); }

// Each tenant's own, and one for each salt; those that nobody uses stay for a while, for their
// state is only found through them.
Result<EngineBackend::Root*> EngineBackend::OpenRoot(const RootName& name,
                                                     const TenantLimits& limits) {
  if (const auto found = roots_.find(name); found != roots_.end()) {
    Root& root = found->second;
    if (root.users++ == 0) idle_roots_.erase(root.idle);
    return &root;
  }
  auto tenant = tenants_.find(name.first);
  if (tenant == tenants_.end()) {
    LODE_ASSIGN(const runtime::TenantId id, scheduler_->AddTenant(limits));
    tenant = tenants_.emplace(name.first, id).first;
  }
  while (idle_roots_.size() >= options_.idle_roots_max) {
    const auto oldest = roots_.find(idle_roots_.front());
    scheduler_->CloseRoot(oldest->second.id);
    roots_.erase(oldest);
    idle_roots_.pop_front();
  }
  LODE_ASSIGN(const runtime::RootId id, scheduler_->OpenRoot(tenant->second, name.second));
  return &(roots_[name] = {id, tenant->second, 1});
}

void EngineBackend::LeaveRoot(const RootName& name) {
  Root& root = roots_.at(name);
  if (--root.users > 0) return;
  root.idle = idle_roots_.insert(idle_roots_.end(), name);
}

void EngineBackend::OnEvent(const runtime::Event& event) {
  const auto found = running_.find(event.request);
  if (found == running_.end()) return;
  TokenSink& sink = *found->second.sink;
  using Kind = runtime::Event::Kind;
  switch (event.kind) {
    case Kind::kStarted:
      // Who comes again has been told already what it had to compute the first time.
      if (!event.again) {
        TokenEvent started = Plain(TokenEvent::Kind::kStarted, event.match.resume);
        started.match = std::make_shared<const runtime::Match>(event.match);
        sink.Push(std::move(started));
      }
      break;
    case Kind::kProgress:
      sink.Push(Plain(TokenEvent::Kind::kProgress, event.tokens));
      break;
    case Kind::kPooled: {
      TokenEvent pooled = Plain(TokenEvent::Kind::kPooled, 0);
      pooled.pooled.assign(event.pooled.begin(), event.pooled.end());
      sink.Push(std::move(pooled));
      break;
    }
    case Kind::kPromptToken:
    case Kind::kToken: {
      TokenEvent token;
      if (event.kind == Kind::kPromptToken) token.kind = TokenEvent::Kind::kPromptToken;
      token.token = event.sampled.token;
      token.tokens = event.tokens;
      token.logprob = event.sampled.logprob;
      token.likeliest.assign(event.sampled.likeliest.begin(), event.sampled.likeliest.end());
      sink.Push(std::move(token));
      break;
    }
    case Kind::kFinished: {
      TokenEvent finished = Plain(TokenEvent::Kind::kFinished, event.tokens);
      finished.stop = event.stop;
      finished.drawn = event.stop == runtime::StopReason::kStopToken;
      finished.token = event.sampled.token;
      finished.logprob = event.sampled.logprob;
      finished.likeliest.assign(event.sampled.likeliest.begin(), event.sampled.likeliest.end());
      sink.Push(std::move(finished));
      Retire(event.request);
      break;
    }
    case Kind::kFailed:
      sink.Push(Failed({event.error->code() == Code::kNoSpace    ? Cause::kNoRoom
                        : event.error->code() == Code::kBadInput ? Cause::kBadRequest
                                                                 : Cause::kInternal,
                        *event.error, 1.0}));
      Retire(event.request);
      break;
  }
}

void EngineBackend::Retire(runtime::RequestId id) {
  const auto found = running_.find(id);
  LeaveRoot(found->second.root);
  ids_.erase(found->second.ticket);
  running_.erase(found);
}

void EngineBackend::PublishLoad() {
  BackendLoad load;
  load.running = scheduler_->running();
  load.waiting = scheduler_->waiting();
  load.queue_milliseconds = scheduler_->QueueMilliseconds();
  load.rows = scheduler_->rows();
  load.preemptions = scheduler_->preemptions();
  load.drafted = scheduler_->drafted();
  load.accepted = scheduler_->accepted();
  load.bytes_committed = engine_->frames().committed();
  load.bytes_budget = engine_->frames().budget();
  const std::lock_guard lock(mutex_);
  load_ = load;
}

}  // namespace lode::chat
