#include "api/context_files.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "api/contexts.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/saved/context_seal.h"
#include "runtime/saved/context_transfer.h"

namespace lode::api {
namespace {

constexpr char kEnding[] = ".lctx";

// Where a name or a path leads.
struct Place {
  std::optional<runtime::ContextStore> own;  // of a path's folder
  runtime::ContextStore* store = nullptr;
  std::string name;
  bool in_engine = false;  // the engine's own folder

  std::string path() const { return store->folder() + "/" + name + kEnding; }
};

Result<Place> PlaceOf(ContextCore* core, const ContextTenant& tenant, const std::string& name,
                      bool must_exist) {
  Place place;
  const size_t slash = name.find_last_of('/');
  place.name = slash == std::string::npos ? name : name.substr(slash + 1);
  if (EndsWith(place.name, kEnding)) place.name.resize(place.name.size() - sizeof(kEnding) + 1);
  LODE_TRY(runtime::ContextStore::CheckName(place.name));
  if (slash == std::string::npos) {
    LODE_ASSIGN(place.store, core->Store(tenant));
    place.in_engine = true;
    return place;
  }
  const std::string folder = slash == 0 ? "/" : name.substr(0, slash);
  if (must_exist && !FileExists(folder + "/" + place.name + kEnding)) {
    return Error(Code::kNotFound, "there is no saved context at " + Quote(name, 300));
  }
  LODE_ASSIGN(runtime::ContextStore store, runtime::ContextStore::Open(folder));
  place.own.emplace(std::move(store));
  return place;
}

std::unique_ptr<runtime::Sealer> SealerOf(const std::optional<std::array<uint8_t, 32>>& key) {
  if (!key) return nullptr;
  std::array<std::byte, 32> bytes;
  std::memcpy(bytes.data(), key->data(), bytes.size());
  return runtime::MakeAesGcmSealer(bytes);
}

// The core's thread, for those who know only its scheduler.
class CoreThread : public runtime::SchedulerThread {
 public:
  explicit CoreThread(ContextCore* core) : core_(*core) {}
  void Post(std::function<void(runtime::Scheduler*)> work) override {
    core_.Post([work = std::move(work)](ContextOwner* owner) {
      work(owner == nullptr ? nullptr : owner->scheduler.get());
    });
  }

 private:
  ContextCore& core_;
};

// What the owner thread knows beside the tree.
struct Known {
  runtime::RootId root = 0;
  double prompt_rate = 0.0;  // tokens a second, as measured so far; 0: not known
  int threads = 1;
};

Result<Known> Ask(ContextCore* core, const ContextState& state) {
  return core->Call([&](ContextOwner* owner) -> Result<Known> {
    Known known;
    LODE_ASSIGN(known.root, owner->Root(state));
    if (owner->prompt_seconds > 0.0) {
      known.prompt_rate = static_cast<double>(owner->prompt_tokens) / owner->prompt_seconds;
    }
    known.threads = owner->running.engine->threads();
    return known;
  });
}

Json MetaOf(const ContextState& state, const std::map<std::string, int64_t>& marks, double rate) {
  Json meta = Json::object();
  if (rate > 0.0) meta["prompt_tokens_per_second"] = rate;
  Json list = Json::object();
  for (const auto& [mark, at] : marks) list[mark] = at;
  meta["marks"] = std::move(list);
  if (!state.root->salt.empty()) meta["salted"] = true;
  return meta;
}

Result<v1::Saved> Write(ContextCore* core, ContextState* state, const std::string& name,
                        const v1::SaveOptions& options) {
  std::vector<int32_t> ids;
  std::map<std::string, int64_t> marks;
  std::string beginning;
  double ttl = 0.0;
  {
    const std::lock_guard lock(state->mutex);
    ttl = state->ttl_seconds;
    ids = state->text.Ids();
    marks = state->marks;
    beginning = state->saved_as;
  }
  if (ids.empty()) return Error(Code::kBadInput, "the context is empty", "append something to it");
  LODE_ASSIGN(Place place, PlaceOf(core, state->tenant(), name, false));
  if (place.own) place.store = &*place.own;
  std::set<int64_t> ends = {static_cast<int64_t>(ids.size())};
  for (const auto& [mark, at] : marks) {
    if (at > 0) ends.insert(at);
  }
  LODE_ASSIGN(const runtime::ContextFingerprints* prints, core->Fingerprints());
  const ContextCore::Loan loan(core);  // its memory stays until we have written it
  LODE_ASSIGN(const Known known, Ask(core, *state));
  runtime::ContextImage image;
  image.geometry = core->geometry();
  image.fingerprints = *prints;
  image.tenant = state->tenant().digest;
  image.tokens = ids;
  image.meta = MetaOf(*state, marks, known.prompt_rate);
  if (ttl > 0.0) image.meta["ttl_seconds"] = ttl;
  const auto sealer = SealerOf(options.key);
  runtime::ContextSaveOptions save;
  save.zstd_level = options.zstd_level;
  save.sealer = sealer.get();
  if (options.delta) {
    const bool again = FileExists(place.path()) || beginning.empty() || !place.in_engine;
    save.parent = again ? place.name : beginning;
  }
  CoreThread thread(core);
  LODE_ASSIGN(const runtime::BesideSaved saved,
              runtime::SaveBeside(&thread, known.root, place.store, place.name, std::move(image),
                                  ends, save));
  if (place.in_engine) {
    const std::lock_guard lock(state->mutex);
    state->saved_as = place.name;
  }
  const runtime::ContextSaveReport& report = saved.report;
  return v1::Saved{place.path(),      static_cast<int64_t>(ids.size()), saved.state,
                   report.file_bytes, report.written_bytes,            report.delta,
                   report.seconds};
}

}  // namespace

v1::Result<v1::Saved> SaveState(ContextCore* core, ContextState* state, const std::string& name,
                                const v1::SaveOptions& options) {
  return Public(Write(core, state, name, options));
}

v1::Status KeepOnDisk(ContextCore* core, const ContextState& state, const std::string& name,
                      bool keep) {
  const auto store = core->Store(state.tenant());
  if (!store.ok()) return Public(store.error());
  return Public(KeepSaved(**store, name, keep));
}

v1::Status RestoreState(ContextCore* core, ContextState* state, const std::string& name,
                        const v1::RestoreOptions& options, v1::Restored* report) {
  auto place = PlaceOf(core, state->tenant(), name, true);
  if (!place.ok()) return Public(place.error());
  if (place->own) place->store = &*place->own;
  const auto sealer = SealerOf(options.key);
  runtime::ContextOpenOptions open;
  open.tenant = state->tenant().digest;
  open.sealer = sealer.get();
  open.map = place->in_engine;  // somebody else's file may shrink while we look
  auto file = place->store->OpenContext(place->name, open);
  if (!file.ok()) return Public(file.error());
  const runtime::ContextFile& context = **file;
  if (options.verify) {
    const auto verified = context.VerifyAll();
    if (!verified.ok()) return Public(verified.error());
  }
  const auto prints = core->Fingerprints();
  if (!prints.ok()) return Public(prints.error());
  const runtime::ContextMatch match = context.Match(core->geometry(), **prints);
  const bool exact = match.use == runtime::ContextMatch::Use::kExact;
  if (!exact && options.on_mismatch == v1::RestoreOptions::OnMismatch::kFail) {
    v1::Error error = Public(match.Require(runtime::ContextMatch::Use::kExact).error());
    error.code = v1::Code::kUnsupported;
    error.fields = match.differing;
    return error;
  }
  const auto ids = context.tokens();
  const auto fits = core->Check(ids, static_cast<int64_t>(ids.size()));
  if (!fits.ok()) return Public(fits.error());
  int64_t at = 0;
  if (exact) {
    const ContextCore::Loan loan(core);  // its memory stays until we have filled it
    CoreThread thread(core);
    const auto known = Ask(core, *state);
    if (!known.ok()) return Public(known.error());
    const auto restored =
        runtime::RestoreBeside(&thread, known->root, context, known->threads);
    if (!restored.ok()) return Public(restored.error());
    at = *restored;
    MarkUsed(*place->store, place->name);
  }
  const std::lock_guard lock(state->mutex);
  state->text = ContextText().Append(ids);
  if (const Json* marks = FindKey(context.meta(), "marks"); marks && marks->is_object()) {
    for (const auto& [mark, offset] : marks->items()) {
      if (!offset.is_number_integer()) continue;
      const auto value = offset.get<int64_t>();
      if (0 <= value && value <= state->text.size()) state->marks[mark] = value;
    }
  }
  if (const Json* ttl = FindKey(context.meta(), "ttl_seconds"); ttl && ttl->is_number()) {
    state->ttl_seconds = std::max(0.0, ttl->get<double>());
  }
  if (place->in_engine && exact) state->saved_as = place->name;
  if (report == nullptr) return v1::Done{};
  *report = {state->text.size(), at, exact, {}};
  for (const runtime::ContextDamage& damage : context.damage()) {
    report->damage.push_back(damage.what + " of " + damage.file + ": " + damage.reason);
  }
  return v1::Done{};
}

}  // namespace lode::api
