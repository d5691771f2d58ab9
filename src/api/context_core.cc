#include "api/context_core.h"

#include <algorithm>
#include <utility>

#include "api/context_public.h"
#include "api/contexts.h"
#include "base/check.h"
#include "base/text.h"
#include "base/topology.h"
#include "runtime/saved/copy_point.h"
#include "runtime/saved/saved_context.h"

namespace lode::api {
namespace {

double SecondsSince(ContextJob::Clock::time_point time) {
  return std::chrono::duration<double>(ContextJob::Clock::now() - time).count();
}

// A digest of the parts, each with its length, so that no two lists of parts are alike.
runtime::ContextDigest DigestOf(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += std::to_string(part.size()) + ":" + part;
  return runtime::Sha256(text);
}

Result<RunOptions> ResolveOptions(const v1::EngineOptions& options) {
  RunOptions run;
  run.threads = options.threads;
  run.context_tokens = options.context_tokens;
  run.cache_bytes = options.cache_bytes;
  run.kept_states = options.cache_states;
  if (run.cache_bytes == 0 && run.kept_states == 0) run.cache_bytes = AvailableMemoryBytes() / 4;
  run.rows_max = options.rows_max;
  run.pin = options.bind_threads ? Pin::kAuto : Pin::kOff;
  run.pack = options.pack;
  run.drafts = options.drafts_max;
  LODE_ASSIGN(run.activations, ParseActivations(options.activations));
  LODE_ASSIGN(run.kv, ParseKv(options.kv));
  if (options.threads < 0 || options.context_tokens < 0 || options.rows_max < 0 ||
      options.running_max < 1 || options.drafts_max < 0 || options.cache_states < 0) {
    return Error(Code::kBadInput, "a number of the engine's options is negative");
  }
  return run;
}

}  // namespace

void ContextJob::Wait() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return done; });
}

ContextRoot::~ContextRoot() {
  if (!id) return;
  core->Post([id = *id](ContextOwner* owner) {
    if (owner != nullptr) owner->scheduler->CloseRoot(id);
  });
}

bool ContextState::Expired() {
  const bool late = ttl_seconds > 0.0 && !running && pin == v1::Pin::kNone &&
                    std::chrono::duration<double>(Clock::now() - used).count() > ttl_seconds;
  if (late && !expired) {
    expired = true;
    text = ContextText();
    marks.clear();
  }
  return expired;
}

bool ContextState::Use() {
  if (Expired()) return false;
  used = Clock::now();
  return true;
}

// --- What the owner thread has -------------------------------------------------------------------

Result<runtime::RootId> ContextOwner::Root(const ContextState& state) {
  ContextRoot& root = *state.root;
  if (!root.id) {
    LODE_ASSIGN(root.id, scheduler->OpenRoot(root.tenant->id, root.salt));
  }
  return *root.id;
}

Result<void> ContextOwner::MovePin(ContextState* state, std::span<const int32_t> ids) {
  LODE_ASSIGN(const runtime::RootId root, Root(*state));
  LODE_ASSIGN(const auto pinned,
              scheduler->tree().Pin(root, ids, static_cast<int64_t>(ids.size())));
  Unpin(state);
  state->memory_pin = pinned.pin;
  return {};
}

void ContextOwner::Unpin(ContextState* state) {
  if (state->memory_pin == runtime::kNone) return;
  scheduler->tree().Unpin(std::exchange(state->memory_pin, runtime::kNone));
}

void ContextOwner::TakePublished(runtime::RootId root, std::span<const int32_t> ids) {
  const Published* best = nullptr;
  for (const Published& each : published) {
    const bool longer = best == nullptr || each.tokens.size() > best->tokens.size();
    if (longer && each.tokens.size() <= ids.size() &&
        std::equal(each.tokens.begin(), each.tokens.end(), ids.begin())) {
      best = &each;
    }
  }
  if (best == nullptr) return;
  const auto from = Root(*best->state);
  if (!from.ok() || *from == root) return;
  const auto there = scheduler->tree().Lookup(root, best->tokens, false);
  if (there.resume == std::ssize(best->tokens)) return;
  // Without room it is computed like any other text.
  (void)runtime::CopyPoint(scheduler.get(), *from, root, best->tokens);
}

// --- Loading -------------------------------------------------------------------------------------

Result<std::shared_ptr<ContextCore>> ContextCore::Open(const std::string& model,
                                                       const v1::EngineOptions& options) {
  std::shared_ptr<ContextCore> core(new ContextCore);
  core->options_ = options;
  std::promise<Result<void>> loaded;
  core->thread_ = std::thread([core = core.get(), &model, &loaded] {
    ContextOwner owner;
    Result<void> result = core->Load(model, &owner);
    const bool ok = result.ok();
    loaded.set_value(std::move(result));  // from here on `model` and `loaded` are gone
    if (ok) core->Loop(&owner);
  });
  LODE_TRY(loaded.get_future().get());
  return core;
}

Result<void> ContextCore::Load(const std::string& model, ContextOwner* owner) {
  LODE_ASSIGN(const RunOptions run, ResolveOptions(options_));
  LODE_ASSIGN(source_, OpenSource(model));
  auto text = OpenText(*source_);
  if (text.ok()) {  // ids do without
    text_ = std::move(*text);
    stop_ids_ = text_->stop_ids;
  }
  LODE_ASSIGN(owner->running, api::Run(source_, run));
  runtime::Engine& engine = *owner->running.engine;
  runtime::SchedulerOptions scheduling;
  scheduling.running_max = options_.running_max;
  scheduling.drafts_max = options_.drafts_max;
  scheduling.tenant.secret = "lode.tenant.1";  // nobody else is on this machine's command line
  numerics_ = owner->running.options.numerics;
  vocabulary_ = engine.vocabulary();
  LODE_TRY(AddDisk(owner));
  scheduling.disk = owner->disk.get();
  owner->scheduler = std::make_unique<runtime::Scheduler>(&engine, scheduling);
  tokens_max_ = engine.sequence_tokens_max();
  budget_ = engine.frames().budget();
  page_stride_ = engine.frames().pages().stride();
  slot_stride_ = engine.frames().slots().stride();
  geometry_ = runtime::GeometryOf(engine);
  return AddTenants(owner);
}

Result<void> ContextCore::AddDisk(ContextOwner* owner) {
  if (options_.cache_disk_bytes == 0) return {};
  runtime::DiskTierOptions disk;
  disk.folder = options_.cache_folder;
  if (disk.folder.empty()) {
    LODE_ASSIGN(disk.folder, ContextFolder());
    disk.folder += "/cache";
  }
  disk.budget_bytes = options_.cache_disk_bytes;
  LODE_ASSIGN(const runtime::ContextFingerprints* prints, Fingerprints());
  disk.model = prints->model.digest;
  disk.numerics = prints->numerics.digest;
  LODE_ASSIGN(owner->disk, runtime::DiskTier::Make(&owner->running.engine->frames(), disk));
  return {};
}

Result<void> ContextCore::AddTenants(ContextOwner* owner) {
  // The one that is always there: the scheduler's first.
  tenants_.emplace("", ContextTenant{});
  for (const v1::TenantOptions& options : options_.tenants) {
    if (options.name.empty() || tenants_.count(options.name) > 0) {
      return Error(Code::kBadInput, "tenant " + Quote(options.name) + " has no name of its own");
    }
    ContextTenant tenant;
    tenant.name = options.name;
    tenant.digest = DigestOf({"lode.tenant.1", options.name, options.secret});
    runtime::TenantLimits limits;
    limits.weight = options.weight;
    limits.pin_bytes_max = options.pin_bytes_max;
    limits.secret = runtime::DigestText(tenant.digest);
    LODE_ASSIGN(tenant.id, owner->scheduler->AddTenant(limits));
    tenants_.emplace(options.name, std::move(tenant));
  }
  // A key of its own beside those of tenants and salts, in the account of the one without a quota.
  public_.digest = DigestOf({"lode.public.1"});
  return {};
}

ContextCore::~ContextCore() { Close(); }

void ContextCore::Close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    wake_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  RefuseWork();
}

void ContextCore::RefuseWork() {
  std::deque<Work> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(inbox_);
  }
  for (Work& work : left) work(nullptr);
}

Error ContextCore::Closed() {
  return Error(Code::kCancelled, "the engine is closed", "open it again");
}

// --- The owner thread ----------------------------------------------------------------------------

void ContextCore::Post(Work work) {
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      inbox_.push_back(std::move(work));
      wake_.notify_one();
      return;
    }
  }
  work(nullptr);
}

void ContextCore::Loop(ContextOwner* owner) {
  const auto on_event = [&](const runtime::Event& event) { See(owner, event); };
  bool idle = true;
  while (true) {
    std::deque<Work> work;
    {
      std::unique_lock lock(mutex_);
      if (idle) wake_.wait(lock, [&] { return closing_ || !inbox_.empty(); });
      if (closing_) break;
      work.swap(inbox_);
    }
    for (Work& each : work) each(owner);
    idle = !owner->scheduler->Step(on_event);
  }
  RefuseWork();
  while (!owner->jobs.empty()) {
    const std::shared_ptr<ContextJob> job = owner->jobs.begin()->second;
    Finish(owner, job.get(), Closed(), v1::Stop::kCancelled);
  }
  // Whoever borrows frames may wait for an answer of ours: from now on it gets one at once.
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return loans_ == 0; });
}

void ContextCore::Lend(int by) {
  const std::lock_guard lock(mutex_);
  loans_ += by;
  wake_.notify_all();
}

void ContextCore::Run(const std::shared_ptr<ContextJob>& job) {
  Post([job](ContextOwner* owner) {
    if (owner == nullptr) return Finish(nullptr, job.get(), Closed(), v1::Stop::kCancelled);
    const auto root = owner->Root(*job->state);
    if (!root.ok()) return Finish(owner, job.get(), root.error(), v1::Stop::kCancelled);
    job->request.root = *root;
    owner->TakePublished(*root, job->request.prompt);
    if (!job->draws) {  // its state may be there
      const auto match = owner->scheduler->tree().Lookup(*root, job->request.prompt, false);
      if (match.computed() == 0) {
        job->reuse = Public(match);
        return Finish(owner, job.get(), std::nullopt, v1::Stop::kLength);
      }
    }
    const auto id = owner->scheduler->Submit(std::move(job->request));
    if (!id.ok()) return Finish(owner, job.get(), id.error(), v1::Stop::kCancelled);
    job->id = *id;
    owner->jobs.emplace(*id, job);
  });
}

std::shared_ptr<ContextRoot> ContextCore::PublicRoot() {
  auto root = std::make_shared<ContextRoot>();
  root->core = this;
  root->tenant = &public_;
  root->salt = runtime::DigestText(public_.digest);
  return root;
}

Result<void> ContextCore::Publish(const std::shared_ptr<ContextState>& state,
                                  std::span<const int32_t> ids) {
  return Call([&](ContextOwner* owner) -> Result<void> {
    owner->published.push_back({{ids.begin(), ids.end()}, state});
    return {};
  });
}

void ContextCore::Cancel(const std::shared_ptr<ContextJob>& job) {
  Post([job](ContextOwner* owner) {
    if (owner != nullptr && owner->jobs.count(job->id) > 0) owner->scheduler->Cancel(job->id);
  });
}

void ContextCore::See(ContextOwner* owner, const runtime::Event& event) {
  using Kind = runtime::Event::Kind;
  const auto found = owner->jobs.find(event.request);
  LODE_CHECK(found != owner->jobs.end());
  const std::shared_ptr<ContextJob> job = found->second;
  if (event.kind == Kind::kFailed) {
    return Finish(owner, job.get(), *event.error, v1::Stop::kCancelled);
  }
  if (event.kind == Kind::kFinished) {
    return Finish(owner, job.get(), std::nullopt, Public(event.stop));
  }
  const std::lock_guard lock(job->mutex);
  v1::Event out;
  out.tokens = event.tokens;
  if (event.kind == Kind::kStarted) {
    if (std::exchange(job->started, true)) return;  // it had to wait once more
    out.kind = v1::Event::Kind::kStarted;
    out.reuse = job->reuse = Public(event.match);
  } else if (event.kind == Kind::kProgress) {
    out.kind = v1::Event::Kind::kProgress;
  } else {
    if (job->drawn.empty()) job->prompt_seconds = SecondsSince(job->begun);
    job->drawn.push_back(event.sampled.token);
    out.kind = v1::Event::Kind::kToken;
    out.token = event.sampled.token;
    out.logprob = event.sampled.logprob;
  }
  job->events.push_back(std::move(out));
  job->changed.notify_all();
}

// The context becomes what the job made of it, then whoever waits hears of it. Without an owner:
// the thread is gone.
void ContextCore::Finish(ContextOwner* owner, ContextJob* job, std::optional<Error> error,
                         v1::Stop stop) {
  const double seconds = SecondsSince(job->begun);
  const double prompt_seconds = job->drawn.empty() ? seconds : job->prompt_seconds;
  ContextState& state = *job->state;
  std::string warning;
  const ContextText text = job->text.Append(job->drawn);
  if (!error && !job->draws && stop == v1::Stop::kCancelled) {
    error = Error(Code::kCancelled, "cancelled");
  }
  if (owner != nullptr && !error && job->follows) {
    const auto moved = owner->MovePin(&state, text.Ids());
    const bool first = state.memory_pin == runtime::kNone;  // refused when asked for
    if (!moved.ok() && first) error = moved.error();
    if (!moved.ok()) warning = "the pin stays where it was: " + moved.error().ToString();
  }
  if (owner != nullptr) {
    owner->prompt_seconds += prompt_seconds;
    owner->prompt_tokens += job->reuse.computed;
  }
  {
    const std::lock_guard lock(state.mutex);
    if (!error || !job->drawn.empty()) {
      state.text = text;
      if (!job->mark.empty()) state.marks[job->mark] = text.size();
    }
    if (!error && job->pins) state.pin = v1::Pin::kMemory;
    state.running = false;
    state.used = ContextState::Clock::now();
  }
  {
    const std::lock_guard lock(job->mutex);
    job->done = true;
    job->error = std::move(error);
    job->stop = stop;
    job->tokens = job->drawn;
    job->seconds = seconds;
    job->prompt_seconds = prompt_seconds;
    job->warning = std::move(warning);
    job->changed.notify_all();
  }
  if (owner != nullptr) owner->jobs.erase(job->id);  // may be the job's last owner
}

// --- Facts ---------------------------------------------------------------------------------------

const ContextTenant* ContextCore::Tenant(const std::string& name) const {
  const auto found = tenants_.find(name);
  return found == tenants_.end() ? nullptr : &found->second;
}

Result<const runtime::ContextFingerprints*> ContextCore::Fingerprints() {
  const std::lock_guard lock(fingerprints_mutex_);
  if (!fingerprints_) {
    LODE_ASSIGN(fingerprints_,
                FingerprintsOf(*source_, numerics_, vocabulary_, text_ ? &*text_ : nullptr));
  }
  return &*fingerprints_;
}

Result<void> ContextCore::Check(std::span<const int32_t> ids, int64_t tokens) const {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary_) {
      return Error(Code::kBadInput, Format("token id %d is not in the vocabulary of %lld", id,
                                           static_cast<long long>(vocabulary_)));
    }
  }
  const uint64_t bytes =
      static_cast<uint64_t>(runtime::PageCount(tokens)) * page_stride_ + slot_stride_;
  if ((tokens_max_ == 0 || tokens <= tokens_max_) && bytes <= budget_) return {};
  const std::string limit =
      bytes > budget_ ? HumanBytesBinary(budget_) + " in all"
                      : Format("room for %lld tokens each", static_cast<long long>(tokens_max_));
  return Error(Code::kNoSpace,
               Format("a context of %lld tokens takes %s (%lld pages of %s and a state of %s), and "
                      "there is %s",
                      static_cast<long long>(tokens), HumanBytesBinary(bytes).c_str(),
                      static_cast<long long>(runtime::PageCount(tokens)),
                      HumanBytesBinary(page_stride_).c_str(),
                      HumanBytesBinary(slot_stride_).c_str(), limit.c_str()),
               "open the engine with more context_tokens or cache_bytes");
}

Result<runtime::ContextStore*> ContextCore::Store(const ContextTenant& tenant) {
  const std::lock_guard lock(stores_mutex_);
  const auto found = stores_.find(tenant.name);
  if (found != stores_.end()) return &found->second;
  std::string folder = options_.folder;
  if (folder.empty()) {
    LODE_ASSIGN(folder, ContextFolder());
  }
  // A folder belongs to one owner.
  if (tenant.digest != runtime::ContextDigest{}) {
    folder += "/tenant-" + runtime::DigestText(tenant.digest, 16);
  }
  LODE_ASSIGN(runtime::ContextStore store, runtime::ContextStore::Open(folder));
  return &stores_.emplace(tenant.name, std::move(store)).first->second;
}

}  // namespace lode::api
