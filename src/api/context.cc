// include/lode/context.h, by ContextCore: checks arguments, claims a context for its one writer,
// hands jobs to the owner thread and waits for them.
#include <lode/context.h>

#include <algorithm>
#include <utility>

#include "api/context_core.h"
#include "api/context_files.h"
#include "api/context_public.h"
#include "base/check.h"
#include "base/text.h"
#include "runtime/saved/context_chain.h"

namespace lode::v1 {
namespace {

using api::ContextCore;
using api::ContextJob;
using api::ContextOwner;
using api::ContextState;
using api::ContextText;
using api::Public;

constexpr int64_t kForksMax = 1 << 20;

Error Busy() {
  return {Code::kBusy, "the context is running", "fork it instead, or wait until it is done"};
}

Error Expired() {
  return {Code::kNotFound, "the context has expired: it was not used for longer than its ttl",
          "a pin, or a longer ttl, keeps it"};
}

// Waits; none when the job is done.
std::optional<Event> NextEvent(ContextJob* job) {
  std::unique_lock lock(job->mutex);
  job->changed.wait(lock, [&] { return job->done || !job->events.empty(); });
  if (job->events.empty()) return std::nullopt;
  Event event = std::move(job->events.front());
  job->events.pop_front();
  return event;
}

}  // namespace

std::string Digest::Hex() const {
  std::string text;
  for (const uint8_t byte : bytes) text += Format("%02x", byte);
  return text;
}

// --- Stream --------------------------------------------------------------------------------------

struct Stream::Impl {
  std::shared_ptr<ContextCore> core;
  std::shared_ptr<ContextJob> job;

  ~Impl() { core->Cancel(job); }
};

Stream::Stream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Stream::~Stream() = default;
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;

std::optional<Event> Stream::Next() { return NextEvent(impl_->job.get()); }

void Stream::Cancel() { impl_->core->Cancel(impl_->job); }

Result<Generated> Stream::Finish() {
  ContextJob& job = *impl_->job;
  job.Wait();
  const std::lock_guard lock(job.mutex);
  job.events.clear();
  if (job.error) return Public(*job.error);
  return Generated{job.tokens, job.stop, job.reuse, job.prompt_seconds, job.seconds, job.warning};
}

// --- Context -------------------------------------------------------------------------------------

struct Context::Impl {
  std::shared_ptr<ContextCore> core;
  std::shared_ptr<ContextState> state;
  bool keeps_pin = false;  // somebody else has the state, too

  ~Impl() {
    if (keeps_pin) return;
    core->Post([state = state](ContextOwner* owner) {
      if (owner != nullptr) owner->Unpin(state.get());
    });
  }

  // A job that adds ids, claimed for us; its request wants the state before the newest id. Null:
  // there is nothing to compute, and it is added already.
  Result<std::shared_ptr<ContextJob>> Claim(std::span<const Token> ids, const std::string& mark) {
    auto job = std::make_shared<ContextJob>();
    const std::lock_guard lock(state->mutex);
    if (!state->Use()) return Expired();
    if (state->running) return Busy();
    job->state = state;
    job->text = state->text.Append(ids);
    job->mark = mark;
    job->follows = state->pin == v1::Pin::kMemory;
    const auto fits = core->Check(ids, job->text.size());
    if (!fits.ok()) return Public(fits.error());
    job->request.tokens_max = 0;
    if (job->text.size() <= 1) {
      state->text = job->text;
      if (!mark.empty()) state->marks[mark] = job->text.size();
      return std::shared_ptr<ContextJob>();
    }
    job->request.prompt = job->text.First(job->text.size() - 1).Ids();
    const auto end = static_cast<int64_t>(job->request.prompt.size());
    job->request.probes = {{end, runtime::PointRole::kHint}};
    state->running = true;
    return job;
  }

  // The context's state is in memory afterwards, all but its newest token's.
  Result<Appended> Compute(std::span<const Token> ids, const AppendOptions& options, bool pins) {
    auto job = Claim(ids, options.mark);
    if (!job.ok()) return job.error();
    if (*job == nullptr) return Appended{std::ssize(Ids()), {}, 0.0, ""};
    ContextJob& run = **job;
    if (pins) run.follows = run.pins = true;
    core->Run(*job);
    while (options.progress) {
      const auto event = NextEvent(&run);
      if (!event) break;
      if (event->kind != Event::Kind::kProgress || options.progress(event->tokens)) continue;
      core->Cancel(*job);
      break;
    }
    run.Wait();
    const std::lock_guard lock(run.mutex);
    if (run.error) return Public(*run.error);
    return Appended{run.text.size(), run.reuse, run.seconds, run.warning};
  }

  // Ids and how many of them, as they are now.
  std::vector<Token> Ids() const {
    ContextText text;
    {
      const std::lock_guard lock(state->mutex);
      (void)state->Expired();
      text = state->text;
    }
    return text.Ids();
  }

  Result<Explanation> Explain(std::span<const Token> prompt) const {
    {
      const std::lock_guard lock(state->mutex);
      if (!state->Use()) return Expired();
    }
    const auto fits = core->Check(prompt, 0);
    if (!fits.ok()) return Public(fits.error());
    if (prompt.empty()) return Error{Code::kBadInput, "there are no tokens to explain", ""};
    return Public(core->Call([&](ContextOwner* owner) {
      return api::ExplainIn(owner, *state, prompt, core->text());
    }));
  }
};

Context::Context(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Context::~Context() = default;
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;

Result<Appended> Context::Append(std::span<const Token> tokens, const AppendOptions& options) {
  return impl_->Compute(tokens, options, false);
}

Result<Stream> Context::Start(const GenerateOptions& options) {
  ContextCore& core = *impl_->core;
  ContextState& state = *impl_->state;
  const int64_t vocabulary = core.vocabulary();
  for (const Token token : options.allowed) {
    if (0 <= token && token < vocabulary) continue;
    return Error{Code::kBadInput,
                 Format("allowed: there is no token %d in a vocabulary of %lld", token,
                        static_cast<long long>(vocabulary)),
                 ""};
  }
  auto job = std::make_shared<ContextJob>();
  {
    const std::lock_guard lock(state.mutex);
    if (!state.Use()) return Expired();
    if (state.running) return Busy();
    if (state.text.size() == 0) {
      return Error{Code::kBadInput, "the context is empty", "append something to it"};
    }
    job->state = impl_->state;
    job->text = state.text;
    job->follows = state.pin == v1::Pin::kMemory;
    state.running = true;
  }
  runtime::Request& request = job->request;
  request.prompt = job->text.Ids();
  request.sampling = api::Internal(options.sampling);
  if (options.logprobs) request.sampling.logprobs = 0;
  request.stop_ids = options.stop_ids;
  if (options.model_stops) {
    const auto& stops = core.stop_ids();
    request.stop_ids.insert(request.stop_ids.end(), stops.begin(), stops.end());
  }
  request.tokens_max = options.tokens_max;
  request.tokens_min = options.tokens_min;
  if (!options.allowed.empty()) request.constraint = api::AllowedOnly(options, request, vocabulary);
  job->draws = true;
  core.Run(job);
  return Stream(std::unique_ptr<Stream::Impl>(new Stream::Impl{impl_->core, job}));
}

Result<Generated> Context::Generate(const GenerateOptions& options,
                                    const std::function<bool(const Event&)>& on_event) {
  auto stream = Start(options);
  if (!stream.ok()) return stream.error();
  while (on_event != nullptr) {
    const auto event = stream->Next();
    if (!event) break;
    if (!on_event(*event)) {
      stream->Cancel();
      break;
    }
  }
  return stream->Finish();
}

Result<std::vector<Context>> Context::Fork(int64_t n, std::optional<int64_t> at) const {
  if (n < 0 || n > kForksMax) {
    return Error{Code::kBadInput, Format("%lld forks", static_cast<long long>(n)),
                 Format("take 0 to %lld", static_cast<long long>(kForksMax))};
  }
  ContextState& from = *impl_->state;
  std::vector<Context> forks;
  const std::lock_guard lock(from.mutex);
  if (!from.Use()) return Expired();
  const int64_t size = from.text.size();
  if (at && (*at < 0 || *at > size)) {
    return Error{Code::kBadInput,
                 Format("token %lld is not one of the context's %lld",
                        static_cast<long long>(*at), static_cast<long long>(size)),
                 ""};
  }
  const ContextText text = from.text.First(at.value_or(size));
  for (int64_t i = 0; i < n; ++i) {
    auto state = std::make_shared<ContextState>();
    state->root = from.root;
    state->text = text;
    state->saved_as = from.saved_as;
    for (const auto& [mark, offset] : from.marks) {
      if (offset <= text.size()) state->marks[mark] = offset;
    }
    forks.push_back(
        Context(std::unique_ptr<Impl>(new Impl{impl_->core, std::move(state)})));
  }
  return forks;
}

Status Context::Truncate(int64_t tokens) {
  ContextState& state = *impl_->state;
  bool pinned = false;
  ContextText text;
  {
    const std::lock_guard lock(state.mutex);
    if (!state.Use()) return Expired();
    if (state.running) return Busy();
    if (tokens < 0 || tokens > state.text.size()) {
      return Error{Code::kBadInput,
                   Format("a context of %lld tokens cannot be cut to %lld",
                          static_cast<long long>(state.text.size()),
                          static_cast<long long>(tokens)),
                   ""};
    }
    text = state.text = state.text.First(tokens);
    std::erase_if(state.marks, [&](const auto& mark) { return mark.second > tokens; });
    pinned = state.pin == v1::Pin::kMemory;
  }
  if (!pinned) return Done{};
  // What is left of it stays pinned as far as it is in memory; the tail must not.
  return Public(impl_->core->Call([&](ContextOwner* owner) -> lode::Result<void> {
    if (!owner->MovePin(&state, text.Ids()).ok()) owner->Unpin(&state);
    return {};
  }));
}

Result<Saved> Context::Save(const std::string& name, const SaveOptions& options) {
  bool running = false;
  {
    const std::lock_guard lock(impl_->state->mutex);
    if (!impl_->state->Use()) return Expired();
    running = impl_->state->running || impl_->state->text.size() == 0;
  }
  if (!running) {  // what was evicted of it comes back first
    const auto computed = impl_->Compute({}, {}, false);
    if (!computed.ok() && computed.error().code != Code::kBusy) return computed.error();
  }
  return api::SaveState(impl_->core.get(), impl_->state.get(), name, options);
}

Status Context::SetPin(Pin pin) {
  ContextState& state = *impl_->state;
  {
    const std::lock_guard lock(state.mutex);
    if (!state.Use()) return Expired();
  }
  if (pin == Pin::kMemory) {
    if (size() < 2) return Error{Code::kBadInput, "the context has no state yet", "append to it"};
    const auto computed = impl_->Compute({}, {}, true);
    if (!computed.ok()) return computed.error();
    return Done{};
  }
  if (pin == Pin::kDisk) {
    const std::string name = info().name;
    if (name.empty()) {
      return Error{Code::kBadInput, "a context without a name cannot be pinned on disk",
                   "give it one with SetName"};
    }
    const auto saved = Save(name);
    if (!saved.ok()) return saved.error();
  }
  const Pin before = [&] {
    const std::lock_guard lock(state.mutex);
    return std::exchange(state.pin, pin);
  }();
  if (pin == Pin::kDisk || before == Pin::kDisk) {
    const auto kept =
        api::KeepOnDisk(impl_->core.get(), state, info().name, pin == Pin::kDisk);
    if (!kept.ok()) return kept.error();
  }
  impl_->core->Post([state = impl_->state](ContextOwner* owner) {
    if (owner != nullptr) owner->Unpin(state.get());
  });
  return Done{};
}

Result<Explanation> Context::Explain() const { return impl_->Explain(impl_->Ids()); }
Result<Explanation> Context::Explain(std::span<const Token> prompt) const {
  return impl_->Explain(prompt);
}

int64_t Context::size() const {
  const std::lock_guard lock(impl_->state->mutex);
  (void)impl_->state->Expired();
  return impl_->state->text.size();
}

std::vector<Token> Context::tokens() const { return impl_->Ids(); }

Info Context::info() const {
  ContextState& state = *impl_->state;
  const std::lock_guard lock(state.mutex);
  const bool expired = state.Expired();
  const std::chrono::duration<double> idle = ContextState::Clock::now() - state.used;
  return {state.name,    state.tenant().name, state.text.size(),
          state.pin,     state.running,       state.marks,
          state.ttl_seconds, state.running ? 0.0 : idle.count(), expired};
}

void Context::SetName(const std::string& name) {
  const std::lock_guard lock(impl_->state->mutex);
  impl_->state->name = name;
}

void Context::SetTtl(double seconds) {
  const std::lock_guard lock(impl_->state->mutex);
  if (impl_->state->Use()) impl_->state->ttl_seconds = std::max(0.0, seconds);
}

Status Context::Mark(const std::string& mark, std::optional<int64_t> at) {
  ContextState& state = *impl_->state;
  const std::lock_guard lock(state.mutex);
  if (!state.Use()) return Expired();
  const int64_t offset = at.value_or(state.text.size());
  if (mark.empty() || offset < 0 || offset > state.text.size()) {
    return Error{Code::kBadInput, "a mark needs a name and an offset inside the context", ""};
  }
  state.marks[mark] = offset;
  return Done{};
}

Result<int64_t> Context::MarkedAt(const std::string& mark) const {
  ContextState& state = *impl_->state;
  const std::lock_guard lock(state.mutex);
  if (state.Expired()) return Expired();
  if (const auto found = state.marks.find(mark); found != state.marks.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, offset] : state.marks) names.push_back(name);
  const std::string near = ClosestName(mark, names);
  return Error{Code::kNotFound, "the context has no mark " + Quote(mark),
               near.empty() ? "" : "did you mean " + near + "?"};
}

Result<Digest> Context::Chain() const {
  const auto prints = impl_->core->Fingerprints();
  if (!prints.ok()) return Public(prints.error());
  const std::vector<Token> ids = impl_->Ids();
  if (info().expired) return Expired();
  const auto chain = runtime::ChainTokens((*prints)->model.digest, (*prints)->numerics.digest,
                                          runtime::kTokensPerPage, ids, {});
  return chain.empty() ? Digest{} : Public(chain.back());
}

Result<Digest> Context::StateDigest() {
  const auto computed = impl_->Compute({}, {}, false);
  if (!computed.ok()) return computed.error();
  const std::vector<Token> ids = impl_->Ids();
  if (ids.size() < 2) return Digest{};
  return Public(impl_->core->Call([&](ContextOwner* owner) {
    return api::DigestIn(owner, *impl_->state, std::span(ids).first(ids.size() - 1));
  }));
}

// --- Engine --------------------------------------------------------------------------------------

struct Engine::Impl {
  std::shared_ptr<ContextCore> core;

  ~Impl() { core->Close(); }

  Result<Context> New(const std::string& tenant_name, const std::string& salt,
                      const std::string& name) {
    const api::ContextTenant* tenant = core->Tenant(tenant_name);
    if (tenant == nullptr) {
      return Error{Code::kNotFound, "there is no tenant " + Quote(tenant_name),
                   "name it in EngineOptions"};
    }
    auto state = std::make_shared<ContextState>();
    state->name = name;
    state->root = std::make_shared<api::ContextRoot>();
    state->root->core = core.get();
    state->root->tenant = tenant;
    state->root->salt = salt;
    return Context(
        std::unique_ptr<Context::Impl>(new Context::Impl{core, std::move(state)}));
  }
};

Engine::Engine(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

Result<Engine> Engine::Open(const std::string& model, const EngineOptions& options) {
  auto core = ContextCore::Open(model, options);
  if (!core.ok()) return Public(core.error());
  return Engine(std::shared_ptr<Impl>(new Impl{std::move(*core)}));
}

Result<Context> Engine::NewContext(const ContextOptions& options) {
  if (!options.adapter.empty()) {
    return Error{Code::kUnsupported, "there is no adapter " + Quote(options.adapter, 120),
                 "adapters cannot be loaded yet; leave it empty for the model itself"};
  }
  if (options.pin == Pin::kDisk) {
    return Error{Code::kBadInput, "a new context has nothing to keep on disk",
                 "SetPin(Pin::kDisk) when it has"};
  }
  auto context = impl_->New(options.tenant, options.salt, options.name);
  if (!context.ok()) return context;
  ContextState& state = *context->impl_->state;
  if (options.pin == Pin::kMemory) state.pin = Pin::kMemory;  // from the first state on
  state.ttl_seconds = std::max(0.0, options.ttl_seconds);
  return context;
}

Status Engine::Publish(std::span<const Token> tokens) {
  if (tokens.size() < 2) return Error{Code::kBadInput, "there is nothing to publish", ""};
  auto state = std::make_shared<ContextState>();
  state->root = impl_->core->PublicRoot();
  Context context(std::unique_ptr<Context::Impl>(new Context::Impl{impl_->core, state}));
  const auto computed = context.impl_->Compute(tokens, {}, true);
  if (!computed.ok()) return computed.error();
  const auto published = impl_->core->Publish(state, tokens.first(tokens.size() - 1));
  if (!published.ok()) return Public(published.error());
  context.impl_->keeps_pin = true;
  return Done{};
}

Result<Context> Engine::Restore(const std::string& name, const RestoreOptions& options,
                                Restored* report) {
  const size_t slash = name.find_last_of('/');
  auto context = impl_->New(options.tenant, options.salt,
                            slash == std::string::npos ? name : name.substr(slash + 1));
  if (!context.ok()) return context;
  const auto restored = api::RestoreState(impl_->core.get(), context->impl_->state.get(), name,
                                          options, report);
  if (!restored.ok()) return restored.error();
  return context;
}

Result<std::vector<Token>> Engine::Tokenize(const std::string& text, bool bos) const {
  const auto& tools = impl_->core->text();
  if (!tools) {
    return Error{Code::kUnsupported, "the model has no tokenizer", "give token ids"};
  }
  return Public(tools->tokenizer->Encode(text, {.recognise_special = true, .add_special = bos}));
}

std::string Engine::Text(std::span<const Token> tokens) const {
  const auto& tools = impl_->core->text();
  if (!tools) return "";
  const auto text = tools->tokenizer->Decode(tokens);
  return text.ok() ? *text : "";
}

int64_t Engine::vocabulary() const { return impl_->core->vocabulary(); }

uint64_t Engine::pinned_bytes(const std::string& tenant) const {
  const api::ContextTenant* found = impl_->core->Tenant(tenant);
  if (found == nullptr) return 0;
  const auto bytes = impl_->core->Call([&](ContextOwner* owner) -> lode::Result<uint64_t> {
    return owner->scheduler->tree().pinned_bytes(found->id);
  });
  return bytes.ok() ? *bytes : 0;
}

}  // namespace lode::v1
