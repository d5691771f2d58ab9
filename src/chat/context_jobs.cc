// What takes time of Contexts: computing, pinning, files, explaining.
#include <algorithm>
#include <utility>

#include "base/text.h"
#include "chat/contexts.h"
#include "chat/contexts_kept.h"
#include "runtime/saved/context_transfer.h"

namespace lode::chat {
namespace {

ContextJob::Outcome Stopping() {
  return {std::nullopt,
          std::make_shared<const Failure>(Failure{
              Cause::kStopping, Error(Code::kCancelled, "the server is stopping"), 0.0})};
}

ContextJob::Outcome Crowded(const char* what) {
  return {std::nullopt, std::make_shared<const Failure>(
                            Failure{Cause::kQueueFull, Error(Code::kNoSpace, what), 1.0})};
}

// So that it is known whose error it is; those of fields begin with their own names.
Error Ours(Error error) {
  if (error.code() != Code::kBadInput) error.AddContext("context");
  return error;
}

runtime::ContextDigest TenantDigest(const std::string& tenant) {
  if (tenant.empty()) return {};
  return runtime::Sha256("lode.serve.tenant:" + tenant);
}

Json MetaOf(const ContextText& text, const std::string& salt, double ttl_seconds) {
  Json meta = {{"marks", Json(text.marks)}};
  if (ttl_seconds > 0.0) meta["ttl_seconds"] = ttl_seconds;
  if (!salt.empty()) meta["salted"] = true;
  if (text.dialogue == nullptr) return meta;
  Json request = *text.dialogue;
  meta["messages"] = std::move(request["messages"]);
  request.erase("messages");
  meta["request"] = std::move(request);
  Json boundaries = Json::array();
  for (const ContextBoundary& each : text.boundaries) {
    boundaries.push_back({{"messages", each.messages}, {"tokens", each.tokens},
                          {"open", each.open}});
  }
  meta["boundaries"] = std::move(boundaries);
  return meta;
}

// The other way. A file may hold anything: what makes no sense is not there.
ContextText TextOf(const runtime::ContextFile& file, bool text_continues) {
  ContextText text;
  const auto ids = file.tokens();
  text.tokens = std::make_shared<const std::vector<int32_t>>(ids.begin(), ids.end());
  const Json& meta = file.meta();
  if (const Json* marks = FindKey(meta, "marks"); marks != nullptr && marks->is_object()) {
    for (const auto& [mark, at] : marks->items()) {
      if (!at.is_number_integer()) continue;
      const auto offset = at.get<int64_t>();
      if (1 <= offset && offset <= text.size()) text.marks[mark] = offset;
    }
  }
  const Json* messages = FindKey(meta, "messages");
  if (!text_continues || messages == nullptr || !messages->is_array()) return text;
  for (const Json& message : *messages) {
    if (!message.is_object()) return text;
  }
  const Json* request = FindKey(meta, "request");
  Json dialogue = request != nullptr && request->is_object() ? *request : Json::object();
  dialogue["messages"] = *messages;
  const auto count = static_cast<int64_t>(messages->size());
  const Json* boundaries = FindKey(meta, "boundaries");
  if (boundaries != nullptr && boundaries->is_array()) {
    for (const Json& each : *boundaries) {
      const int64_t after = GetInt(each, "messages", -1), at = GetInt(each, "tokens", -1);
      const auto* last = text.boundaries.empty() ? nullptr : &text.boundaries.back();
      const bool in_order = last == nullptr || (last->messages < after && last->tokens < at);
      if (!in_order || after < 0 || after > count || at < 1 || at > text.size()) continue;
      text.boundaries.push_back({after, at, GetBool(each, "open")});
    }
  }
  if (text.boundaries.empty()) {  // another program's: an answer stands as the model wrote it
    const bool open = count > 0 && GetString(messages->back(), "role") == "assistant";
    text.boundaries.push_back({count, text.size(), open});
  }
  const ContextBoundary& last = text.boundaries.back();
  if (last.messages != count || last.tokens != text.size()) {
    text.boundaries.clear();
    return text;
  }
  text.dialogue = std::make_shared<const Json>(std::move(dialogue));
  return text;
}

}  // namespace

// --- Jobs ----------------------------------------------------------------------------------------

std::optional<ContextJob::Outcome> ContextJob::Take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(outcome_, std::nullopt);
}

int64_t ContextJob::progress() const {
  const std::lock_guard lock(mutex_);
  return progress_;
}

void ContextJob::Forget() {
  std::function<void()> cancel;
  {
    const std::lock_guard lock(mutex_);
    wake_ = nullptr;
    cancel = std::exchange(cancel_, nullptr);
  }
  if (cancel) cancel();
}

void ContextJob::Finish(Outcome outcome) {
  const std::lock_guard lock(mutex_);
  if (outcome.report && outcome.report->ok()) {
    (*outcome.report)->seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
  }
  outcome_ = std::move(outcome);
  cancel_ = nullptr;
  if (wake_) wake_();
}

void ContextJob::Progress(int64_t tokens) {
  const std::lock_guard lock(mutex_);
  progress_ = std::max(progress_, tokens);
  if (wake_) wake_();
}

void Contexts::Done(const JobPtr& job, Result<ContextReport> report) {
  if (!report.ok() && report.error().code() == Code::kCancelled) return job->Finish(Stopping());
  if (!report.ok()) report = Ours(report.error());
  job->Finish({std::move(report)});
}

// The engine's thread tells it how a prompt comes along.
class ContextSink : public TokenSink {
 public:
  using Then = std::function<void(std::shared_ptr<const runtime::Match>)>;
  ContextSink(std::shared_ptr<ContextJob> job, Then then, std::function<void()> failed)
      : job_(std::move(job)), then_(std::move(then)), failed_(std::move(failed)) {}

  void Push(TokenEvent event) override {
    using Kind = TokenEvent::Kind;
    if (event.kind == Kind::kStarted) match_ = event.match;
    if (event.kind == Kind::kStarted || event.kind == Kind::kProgress) {
      job_->Progress(event.tokens);
    }
    const bool cancelled =
        event.kind == Kind::kFinished && event.stop == runtime::StopReason::kCancelled;
    if (event.kind == Kind::kFailed || cancelled) {
      failed_();
      job_->Finish(cancelled ? Stopping() : ContextJob::Outcome{std::nullopt, event.failure});
    } else if (event.kind == Kind::kFinished) {
      then_(match_);
    }
  }

 private:
  std::shared_ptr<ContextJob> job_;
  Then then_;
  std::function<void()> failed_;
  std::shared_ptr<const runtime::Match> match_;
};

// --- The engine's thread -------------------------------------------------------------------------

// The state at the context's end is in memory when `then` is called, on the engine's thread. A
// context that was made for this goes when it fails.
void Contexts::Compute(const KeptPtr& kept, bool is_new, std::vector<runtime::Probe> probes,
                       const JobPtr& job,
                       std::function<void(std::shared_ptr<const runtime::Match>)> then) {
  std::shared_ptr<const std::vector<int32_t>> tokens;
  {
    const std::lock_guard lock(mutex_);
    tokens = kept->text.tokens;
  }
  auto failed = [this, kept, is_new] {
    if (is_new) Drop(kept);
  };
  backend_->Post([this, kept, tokens, job, then = std::move(then), failed = std::move(failed),
                  probes = std::move(probes)](runtime::Scheduler* scheduler) mutable {
    if (scheduler == nullptr || !kept->root) {
      failed();
      return job->Finish(scheduler == nullptr ? Stopping()
                                              : Crowded("too many tenants and salts at once"));
    }
    const auto match = scheduler->tree().Lookup(*kept->root, *tokens, false);
    if (match.computed() == 0) return then(std::make_shared<const runtime::Match>(match));
    TokenRequest request;
    request.request.prompt = *tokens;
    request.request.tokens_max = 0;
    request.request.probes = std::move(probes);
    request.request.probes.push_back({std::ssize(*tokens), runtime::PointRole::kHint});
    request.tenant = kept->tenant;
    request.salt = kept->salt;
    request.limits = kept->limits;
    const auto ticket = backend_->Submit(
        std::move(request), std::make_shared<ContextSink>(job, std::move(then), failed));
    if (!ticket.ok()) {
      failed();
      return job->Finish(Crowded("too many requests arrive at once"));
    }
    const std::lock_guard lock(job->mutex_);
    job->cancel_ = [backend = backend_, id = *ticket] { backend->Cancel(id); };
  });
}

// The newest state of it that is in memory is pinned instead of what was. `then`, unless null, is
// told on the engine's thread.
void Contexts::PinNow(const KeptPtr& kept, bool publish,
                      std::function<void(const Result<void>&)> then) {
  std::shared_ptr<const std::vector<int32_t>> tokens;
  {
    const std::lock_guard lock(mutex_);
    tokens = kept->text.tokens;
  }
  backend_->Post([kept, tokens, publish, then = std::move(then),
                  backend = backend_](runtime::Scheduler* scheduler) {
    const auto pin = [&]() -> Result<void> {
      if (scheduler == nullptr || !kept->root) {
        return Error(Code::kCancelled, "the server is stopping");
      }
      runtime::PrefixTree& tree = scheduler->tree();
      LODE_ASSIGN(const auto pinned, tree.Pin(*kept->root, *tokens, std::ssize(*tokens)));
      if (kept->memory_pin != runtime::kNone) tree.Unpin(kept->memory_pin);
      kept->memory_pin = pinned.pin;
      const auto id = reinterpret_cast<uintptr_t>(kept.get());
      if (!publish) backend->Withdraw(id);
      if (publish && pinned.offset > 0) {
        backend->Publish(id, *kept->root,
                         {tokens->begin(), tokens->begin() + pinned.offset});
      }
      return {};
    };
    const Result<void> done = pin();
    if (then) then(done);
  });
}

void Contexts::Unpin(const KeptPtr& kept) {
  backend_->Post([kept, backend = backend_](runtime::Scheduler* scheduler) {
    if (scheduler == nullptr || kept->memory_pin == runtime::kNone) return;
    backend->Withdraw(reinterpret_cast<uintptr_t>(kept.get()));
    scheduler->tree().Unpin(std::exchange(kept->memory_pin, runtime::kNone));
  });
}

Result<Contexts::JobPtr> Contexts::Create(const Origin& origin, NewContext context, Wake wake) {
  if (context.publish && !origin.may_publish) {
    return Error(Code::kUnsupported, "publish: this key may not publish to others");
  }
  const bool publish = context.publish;
  const bool pin = publish || context.pin == ContextPin::kMemory;
  std::vector<runtime::Probe> probes = std::move(context.probes);
  KeptPtr kept;
  {
    const std::lock_guard lock(mutex_);
    LODE_ASSIGN(kept, Add(origin, std::move(context)));
    kept->running = true;
  }
  auto job = std::make_shared<ContextJob>(std::move(wake));
  const auto ready = [this, kept, job](std::shared_ptr<const runtime::Match> match) {
    {
      const std::lock_guard lock(mutex_);
      kept->running = false;
      kept->used = Kept::Clock::now();
      kept->reuse = match;
    }
    ContextReport report = ReportOf(kept);
    report.reuse = std::move(match);
    Done(job, std::move(report));
  };
  Compute(kept, true, std::move(probes), job,
          [this, kept, job, ready, pin, publish](std::shared_ptr<const runtime::Match> match) {
            if (!pin) return ready(std::move(match));
            PinNow(kept, publish, [this, kept, job, ready, publish, match](const auto& done) {
              if (!done.ok()) {
                Drop(kept);
                return Done(job, done.error());
              }
              {
                const std::lock_guard lock(mutex_);
                kept->pin = ContextPin::kMemory;
                kept->published = publish;
              }
              ready(match);
            });
          });
  return job;
}

Result<Contexts::JobPtr> Contexts::Pin(const Origin& origin, const std::string& id, Wake wake) {
  KeptPtr kept;
  {
    const std::lock_guard lock(mutex_);
    LODE_ASSIGN(kept, Find(origin, id));
  }
  auto job = std::make_shared<ContextJob>(std::move(wake));
  Compute(kept, false, {}, job, [this, kept, job](std::shared_ptr<const runtime::Match> match) {
    PinNow(kept, kept->published, [this, kept, job, match](const auto& done) {
      if (!done.ok()) return Done(job, done.error());
      {
        const std::lock_guard lock(mutex_);
        kept->pin = ContextPin::kMemory;
      }
      ContextReport report = ReportOf(kept);
      report.reuse = match;
      Done(job, std::move(report));
    });
  });
  return job;
}

Contexts::JobPtr Contexts::Explain(const Origin& origin, std::vector<int32_t> prompt, Wake wake) {
  auto job = std::make_shared<ContextJob>(std::move(wake));
  backend_->Post([job, origin, prompt = std::move(prompt),
                  backend = backend_](runtime::Scheduler* scheduler) {
    if (scheduler == nullptr) return job->Finish(Stopping());
    const EngineBackend::RootName name = {origin.tenant, origin.salt};
    const auto root = backend->EnterRoot(name, origin.limits);
    if (!root.ok()) return Done(job, root.error());
    ContextReport report;
    report.explanation = scheduler->tree().Explain(*root, prompt);
    backend->LeaveRoot(name);
    Done(job, std::move(report));
  });
  return job;
}

Result<Contexts::JobPtr> Contexts::Explain(const Origin& origin, const std::string& id,
                                           Wake wake) {
  KeptPtr kept;
  std::shared_ptr<const std::vector<int32_t>> tokens;
  {
    const std::lock_guard lock(mutex_);
    LODE_ASSIGN(kept, Find(origin, id));
    tokens = kept->text.tokens;
  }
  auto job = std::make_shared<ContextJob>(std::move(wake));
  backend_->Post([this, job, kept, tokens](runtime::Scheduler* scheduler) {
    if (scheduler == nullptr || !kept->root) return job->Finish(Stopping());
    ContextReport report = ReportOf(kept);
    report.reuse = report.context.reuse;
    report.explanation = scheduler->tree().Explain(*kept->root, *tokens);
    Done(job, std::move(report));
  });
  return job;
}

// --- The files' thread ---------------------------------------------------------------------------

Contexts::Contexts(EngineBackend* backend, ContextsOptions options)
    : backend_(backend), options_(std::move(options)) {
  files_thread_ = std::thread([this] { RunFiles(); });
}

Result<std::unique_ptr<Contexts>> Contexts::Make(EngineBackend* backend, ContextsOptions options) {
  std::unique_ptr<Contexts> contexts(new Contexts(backend, std::move(options)));
  if (contexts->can_save()) LODE_TRY(contexts->Store(""));
  return contexts;
}

Contexts::~Contexts() {
  backend_->Stop();  // nothing of ours is called from there any more
  {
    const std::lock_guard lock(files_mutex_);
    stopping_ = true;
  }
  files_wake_.notify_all();
  files_thread_.join();
}

Result<void> Contexts::PostFile(std::function<void()> work) {
  {
    const std::lock_guard lock(files_mutex_);
    if (files_.size() >= options_.file_jobs_max) {
      return Error(Code::kNoSpace, "too many contexts are being saved and restored at once");
    }
    files_.push_back(std::move(work));
  }
  files_wake_.notify_one();
  return {};
}

// What is in the queue at the end is done all the same: the engine's thread refuses it.
void Contexts::RunFiles() {
  while (true) {
    std::function<void()> work;
    {
      std::unique_lock lock(files_mutex_);
      files_wake_.wait(lock, [&] { return stopping_ || !files_.empty(); });
      if (files_.empty()) return;
      work = std::move(files_.front());
      files_.pop_front();
    }
    work();
  }
}

Result<runtime::ContextStore*> Contexts::Store(const std::string& tenant) {
  if (!can_save()) {
    return Error(Code::kUnsupported, "this server keeps no files of contexts",
                 "start it with --contexts DIR");
  }
  const std::lock_guard lock(stores_mutex_);
  if (const auto found = stores_.find(tenant); found != stores_.end()) return &found->second;
  std::string folder = options_.folder;  // one belongs to one owner
  if (!tenant.empty()) folder += "/tenant-" + runtime::DigestText(TenantDigest(tenant), 16);
  LODE_ASSIGN(runtime::ContextStore store, runtime::ContextStore::Open(folder));
  LODE_TRY(store.Sweep());  // what a crash left
  return &stores_.emplace(tenant, std::move(store)).first->second;
}

Result<const runtime::ContextFingerprints*> Contexts::Prints() {
  if (!prints_) {
    LODE_ASSIGN(prints_, options_.fingerprints());
  }
  return &*prints_;
}

Result<std::vector<runtime::ContextEntry>> Contexts::Saved(const Origin& origin) {
  LODE_ASSIGN(const runtime::ContextStore* store, Store(origin.tenant));
  return store->List(TenantDigest(origin.tenant));
}

Result<Contexts::JobPtr> Contexts::Save(const Origin& origin, const std::string& id,
                                        const ContextSaving& saving, Wake wake) {
  KeptPtr kept;
  std::string name = saving.name;
  bool running = false;
  {
    const std::lock_guard lock(mutex_);
    LODE_ASSIGN(kept, Find(origin, id));
    if (name.empty()) name = kept->name;
    running = kept->running;
  }
  LODE_TRY(Store(origin.tenant));
  if (const auto good = runtime::ContextStore::CheckName(name); !good.ok()) {
    return Error(Code::kBadInput, "name: " + good.error().message(), good.error().hint());
  }
  auto job = std::make_shared<ContextJob>(std::move(wake));
  const auto write = [this, kept, name, saving, job](const auto&) {
    const auto posted = PostFile([this, kept, name, saving, job] {
      Done(job, SaveNow(kept, name, saving));
    });
    if (!posted.ok()) job->Finish(Crowded("too many contexts are saved at once"));
  };
  if (running) {
    write(nullptr);  // as it was before
  } else {
    Compute(kept, false, {}, job, write);  // what was evicted of it comes back first
  }
  return job;
}

Result<ContextReport> Contexts::SaveNow(const KeptPtr& kept, const std::string& name,
                                        const ContextSaving& saving) {
  ContextText text;
  std::string beginning;
  double ttl_seconds = 0.0;
  {
    const std::lock_guard lock(mutex_);
    text = kept->text;
    beginning = kept->saved_as;
    ttl_seconds = kept->ttl_seconds;
  }
  LODE_ASSIGN(runtime::ContextStore* store, Store(kept->tenant));
  LODE_ASSIGN(const runtime::ContextFingerprints* prints, Prints());
  runtime::ContextImage image;
  std::optional<runtime::RootId> root;
  backend_->PostAndWait([&](runtime::Scheduler* scheduler) {
    if (scheduler == nullptr) return;
    root = kept->root;
    image.geometry = runtime::GeometryOf(scheduler->engine());
  });
  if (!root) return Error(Code::kCancelled, "the server is stopping");
  image.fingerprints = *prints;
  image.tenant = TenantDigest(kept->tenant);
  image.tokens = *text.tokens;
  image.meta = MetaOf(text, kept->salt, ttl_seconds);
  std::set<int64_t> ends = {text.size()};
  for (const auto& [mark, at] : text.marks) ends.insert(at);
  for (const ContextBoundary& boundary : text.boundaries) ends.insert(boundary.tokens);
  runtime::ContextSaveOptions options;
  options.zstd_level = saving.zstd_level;
  if (saving.delta) options.parent = beginning.empty() ? name : beginning;
  LODE_ASSIGN(const runtime::BesideSaved saved,
              runtime::SaveBeside(backend_, *root, store, name, std::move(image), ends, options));
  {
    const std::lock_guard lock(mutex_);
    kept->saved_as = name;
  }
  ContextReport report = ReportOf(kept);
  report.saved = saved.report;
  report.state = saved.state;
  return report;
}

Result<Contexts::JobPtr> Contexts::Restore(const Origin& origin, const ContextRestoring& restoring,
                                           Wake wake) {
  LODE_TRY(Store(origin.tenant));
  if (const auto good = runtime::ContextStore::CheckName(restoring.name); !good.ok()) {
    return Error(Code::kBadInput, "name: " + good.error().message(), good.error().hint());
  }
  auto job = std::make_shared<ContextJob>(std::move(wake));
  const auto posted =
      PostFile([this, origin, restoring, job] { Done(job, RestoreNow(origin, restoring)); });
  if (!posted.ok()) job->Finish(Crowded("too many contexts are restored at once"));
  return job;
}

Result<ContextReport> Contexts::RestoreNow(const Origin& origin,
                                           const ContextRestoring& restoring) {
  LODE_ASSIGN(runtime::ContextStore* store, Store(origin.tenant));
  runtime::ContextOpenOptions open;
  open.tenant = TenantDigest(origin.tenant);
  LODE_ASSIGN(const auto file, store->OpenContext(restoring.name, open));
  if (restoring.verify) LODE_TRY(file->VerifyAll());
  LODE_ASSIGN(const runtime::ContextFingerprints* prints, Prints());
  runtime::ContextGeometry geometry;
  backend_->PostAndWait([&](runtime::Scheduler* scheduler) {
    if (scheduler != nullptr) geometry = runtime::GeometryOf(scheduler->engine());
  });
  const runtime::ContextMatch match = file->Match(geometry, *prints);
  const bool exact = match.use == runtime::ContextMatch::Use::kExact;
  if (!restoring.recompute) LODE_TRY(match.Require(runtime::ContextMatch::Use::kExact));
  NewContext context;
  context.name = restoring.name;
  context.text = TextOf(*file, match.text_continues);
  const auto& ids = *context.text.tokens;
  const int64_t vocabulary = backend_->vocabulary();
  const bool known = std::all_of(ids.begin(), ids.end(),
                                 [&](int32_t id) { return 0 <= id && id < vocabulary; });
  if (!known) {
    return Error(Code::kUnsupported, "its tokens are none of this model's",
                 "it was saved with another vocabulary");
  }
  if (ids.empty() || std::ssize(ids) >= token_limit()) {
    return Error(Code::kNoSpace, Format("it has %zu tokens, and there may be %lld", ids.size(),
                                        static_cast<long long>(token_limit() - 1)));
  }
  if (const Json* ttl = FindKey(file->meta(), "ttl_seconds"); ttl != nullptr && ttl->is_number()) {
    context.ttl_seconds = ttl->get<double>();
  }
  KeptPtr kept;
  {
    const std::lock_guard lock(mutex_);
    LODE_ASSIGN(kept, Add(origin, std::move(context)));
    if (exact) kept->saved_as = restoring.name;
  }
  int64_t state = 0;
  if (exact) {
    std::optional<runtime::RootId> root;
    backend_->PostAndWait([&](runtime::Scheduler* scheduler) {
      if (scheduler != nullptr) root = kept->root;
    });
    auto restored = root ? runtime::RestoreBeside(backend_, *root, *file, options_.threads)
                         : Result<int64_t>(Error(Code::kCancelled, "the server is stopping"));
    if (!restored.ok()) {
      Drop(kept);
      return restored.error();
    }
    state = *restored;
  }
  ContextReport report = ReportOf(kept);
  report.state = state;
  report.exact = exact;
  for (const runtime::ContextDamage& damage : file->damage()) {
    report.damage.push_back(damage.what + " of " + damage.file + ": " + damage.reason);
  }
  return report;
}

}  // namespace lode::chat
