#include "api/context_files.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "api/contexts.h"
#include "base/file.h"
#include "base/text.h"
#include "runtime/saved/context_seal.h"
#include "runtime/saved/saved_context.h"

namespace lode::api {
namespace {

using runtime::PageId;
using runtime::SlotId;

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

// Frames of a context that are leased while they are written.
struct Leased {
  std::vector<PageId> pages;
  std::vector<std::pair<int64_t, SlotId>> states;  // offsets ascending
  std::vector<std::span<const std::byte>> page_bytes;
  std::vector<std::span<const std::byte>> state_bytes;
  std::vector<std::byte> tail;  // a copy: whoever goes on in the page may write it meanwhile
  double prompt_rate = 0.0;     // tokens a second, as measured so far; 0: not known

  int64_t deepest() const { return states.empty() ? 0 : states.back().first; }
};

// In the owner thread. The deepest state at or before each of `ends`, ascending.
Result<Leased> Lease(ContextOwner* owner, const ContextState& state,
                     const runtime::ContextGeometry& geometry, std::span<const int32_t> ids,
                     const std::set<int64_t>& ends) {
  runtime::PrefixTree& tree = owner->scheduler->tree();
  runtime::FramePool& frames = owner->running.engine->frames();
  LODE_ASSIGN(const runtime::RootId root, owner->Root(state));
  Leased leased;
  if (owner->prompt_seconds > 0.0) {
    leased.prompt_rate = static_cast<double>(owner->prompt_tokens) / owner->prompt_seconds;
  }
  for (const int64_t end : ends) {
    const auto wanted = ids.first(static_cast<size_t>(end));
    const int64_t at = tree.Lookup(root, wanted, false).resume;
    if (at <= leased.deepest()) continue;
    auto saved = tree.LeaseAt(root, ids.first(static_cast<size_t>(at)));
    if (!saved) continue;  // without recurrent layers, within a node: a deeper one will serve
    for (const PageId page : leased.pages) frames.pages().Unlease(page);
    leased.pages = std::move(saved->pages);
    leased.states.emplace_back(at, saved->slot);
  }
  for (const PageId page : leased.pages) {
    leased.page_bytes.push_back({frames.pages().data(page), geometry.page_bytes});
  }
  if (!leased.page_bytes.empty() && leased.deepest() % geometry.page_tokens != 0) {
    const auto last = leased.page_bytes.back();
    leased.tail.assign(last.begin(), last.end());
    leased.page_bytes.back() = leased.tail;
  }
  for (const auto& [at, slot] : leased.states) {
    if (slot == runtime::kNoFrame) {
      leased.state_bytes.push_back({});
    } else {
      leased.state_bytes.push_back({frames.slots().data(slot), geometry.slot_bytes});
    }
  }
  return leased;
}

void GiveBack(ContextCore* core, const Leased& leased) {
  core->Post([pages = leased.pages, states = leased.states](ContextOwner* owner) {
    if (owner == nullptr) return;
    runtime::FramePool& frames = owner->running.engine->frames();
    for (const PageId page : pages) frames.pages().Unlease(page);
    for (const auto& [at, slot] : states) {
      if (slot != runtime::kNoFrame) frames.slots().Unlease(slot);
    }
  });
}

// In the owner thread: the deepest state, and then those above it as long as there is free room.
Result<int64_t> RestorePoints(ContextOwner* owner, runtime::RootId root,
                              const runtime::ContextFile& file,
                              const runtime::ContextFingerprints& prints) {
  runtime::Scheduler* scheduler = owner->scheduler.get();
  LODE_ASSIGN(const int64_t deepest, runtime::RestoreContext(scheduler, file, prints, root));
  int64_t above = deepest;
  // A state, and a page of its own where it ends inside one.
  while (above > 1 && owner->running.engine->frames().CanTake(2, 2)) {
    const auto restored = runtime::RestoreContext(scheduler, file, prints, root, above - 1);
    if (!restored.ok() || *restored == 0) break;
    above = *restored;
  }
  return deepest;
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
  {
    const std::lock_guard lock(state->mutex);
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
  LODE_ASSIGN(const Leased leased, core->Call([&](ContextOwner* owner) {
    return Lease(owner, *state, core->geometry(), ids, ends);
  }));
  runtime::ContextImage image;
  image.geometry = core->geometry();
  image.fingerprints = *prints;
  image.tenant = state->tenant().digest;
  image.tokens = ids;
  image.pages = leased.page_bytes;
  for (size_t i = 0; i < leased.states.size(); ++i) {
    runtime::ContextSnapshot snapshot;
    snapshot.offset = leased.states[i].first;
    snapshot.state = leased.state_bytes[i];
    image.snapshots.push_back(snapshot);
  }
  image.meta = MetaOf(*state, marks, leased.prompt_rate);
  const auto sealer = SealerOf(options.key);
  runtime::ContextSaveOptions save;
  save.zstd_level = options.zstd_level;
  save.sealer = sealer.get();
  if (options.delta) {
    const bool again = FileExists(place.path()) || beginning.empty() || !place.in_engine;
    save.parent = again ? place.name : beginning;
  }
  const auto report = place.store->Save(place.name, image, save);
  GiveBack(core, leased);
  if (!report.ok()) return report.error();
  if (place.in_engine) {
    const std::lock_guard lock(state->mutex);
    state->saved_as = place.name;
  }
  return v1::Saved{place.path(),          static_cast<int64_t>(ids.size()), leased.deepest(),
                   report->file_bytes,    report->written_bytes,            report->delta,
                   report->seconds};
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
    const auto restored = core->Call([&](ContextOwner* owner) -> Result<int64_t> {
      LODE_ASSIGN(const runtime::RootId root, owner->Root(*state));
      return RestorePoints(owner, root, context, **prints);
    });
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
  if (place->in_engine && exact) state->saved_as = place->name;
  if (report == nullptr) return v1::Done{};
  *report = {state->text.size(), at, exact, {}};
  for (const runtime::ContextDamage& damage : context.damage()) {
    report->damage.push_back(damage.what + " of " + damage.file + ": " + damage.reason);
  }
  return v1::Done{};
}

}  // namespace lode::api
