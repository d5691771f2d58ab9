#include "runtime/saved/saved_context.h"

#include <algorithm>
#include <string>

namespace lode::runtime {

ContextGeometry GeometryOf(const Engine& engine) {
  const model::StateLayout& layout = engine.layout();
  ContextGeometry geometry;
  geometry.page_tokens = kTokensPerPage;
  geometry.page_bytes = layout.page_bytes;
  geometry.slot_bytes = layout.slot_bytes;
  geometry.mtp_page_bytes = layout.mtp_page_bytes;
  if (engine.has_slots()) {
    geometry.hidden_bytes = static_cast<uint64_t>(engine.model().spec.width) * sizeof(float);
  }
  geometry.layout = "pages of panels of 32 keys, slots of convolution rows and states, 1";
  return geometry;
}

// --- Saving --------------------------------------------------------------------------------------

void LeasedContext::AddTo(ContextImage* image) const {
  image->pages = page_bytes;
  for (size_t i = 0; i < states.size(); ++i) {
    ContextSnapshot snapshot;
    snapshot.offset = states[i].first;
    snapshot.state = state_bytes[i];
    snapshot.hidden = hidden_bytes[i];
    image->snapshots.push_back(snapshot);
  }
}

LeasedContext LeaseContext(Scheduler* scheduler, RootId root, std::span<const Token> tokens,
                           const std::set<int64_t>& ends) {
  PrefixTree& tree = scheduler->tree();
  FramePool& frames = scheduler->engine().frames();
  const ContextGeometry geometry = GeometryOf(scheduler->engine());
  LeasedContext leased;
  std::vector<bool> hidden;
  for (const int64_t end : ends) {
    const auto wanted = tokens.first(static_cast<size_t>(end));
    const int64_t at = tree.Lookup(root, wanted, false).resume;
    if (at <= leased.deepest()) continue;
    auto saved = tree.LeaseAt(root, tokens.first(static_cast<size_t>(at)));
    if (!saved) continue;  // without recurrent layers, within a node: a deeper one will serve
    for (const PageId page : leased.pages) frames.pages().Unlease(page);
    leased.pages = std::move(saved->pages);
    leased.states.emplace_back(at, saved->slot);
    hidden.push_back(saved->hidden);
  }
  for (const PageId page : leased.pages) {
    leased.page_bytes.push_back({frames.pages().data(page), geometry.page_bytes});
  }
  if (!leased.page_bytes.empty() && leased.deepest() % geometry.page_tokens != 0) {
    const auto last = leased.page_bytes.back();
    leased.tail.assign(last.begin(), last.end());
    leased.page_bytes.back() = leased.tail;
  }
  for (size_t i = 0; i < leased.states.size(); ++i) {
    const SlotId slot = leased.states[i].second;
    const std::byte* bytes = slot == kNoFrame ? nullptr : frames.slots().data(slot);
    const bool row = bytes != nullptr && hidden[i];
    leased.state_bytes.push_back({bytes, bytes == nullptr ? 0 : geometry.slot_bytes});
    leased.hidden_bytes.push_back({row ? bytes + geometry.slot_bytes : nullptr,
                                   row ? geometry.hidden_bytes : 0});
  }
  return leased;
}

void GiveBack(FramePool* frames, const LeasedContext& leased) {
  for (const PageId page : leased.pages) frames->pages().Unlease(page);
  for (const auto& [at, slot] : leased.states) {
    if (slot != kNoFrame) frames->slots().Unlease(slot);
  }
}

std::set<int64_t> StatesOf(Scheduler* scheduler, RootId root, std::span<const Token> tokens,
                           int64_t count) {
  std::set<int64_t> ends;
  auto rest = tokens;
  while (std::ssize(ends) < count && !rest.empty()) {
    const int64_t at = scheduler->tree().Lookup(root, rest, false).resume;
    if (at == 0) break;
    ends.insert(at);
    if (!scheduler->engine().has_slots()) break;  // every offset before it is one
    rest = tokens.first(static_cast<size_t>(at - 1));
  }
  return ends;
}

Result<SavedContext> SaveContext(Scheduler* scheduler, ContextStore* store, const std::string& name,
                                 std::span<const Token> tokens,
                                 const ContextFingerprints& fingerprints, const Json& meta,
                                 int64_t states, const Sealer* sealer) {
  const RootId root = scheduler->default_root();
  const LeasedContext leased =
      LeaseContext(scheduler, root, tokens, StatesOf(scheduler, root, tokens, states));
  ContextImage image;
  image.geometry = GeometryOf(scheduler->engine());
  image.fingerprints = fingerprints;
  image.tokens = tokens;
  image.meta = meta;
  leased.AddTo(&image);
  ContextSaveOptions options;
  options.parent = name;
  options.sealer = sealer;
  auto report = store->Save(name, image, options);
  GiveBack(&scheduler->engine().frames(), leased);
  if (!report.ok()) return report.error();
  return SavedContext{std::ssize(tokens), leased.deepest(), std::move(*report)};
}

// --- Restoring -----------------------------------------------------------------------------------

Result<std::unique_ptr<PointRestore>> PointRestore::Begin(Scheduler* scheduler,
                                                          const ContextFile& file, RootId root,
                                                          int64_t offset) {
  PrefixTree& tree = scheduler->tree();
  Engine& engine = scheduler->engine();
  FramePool& frames = engine.frames();
  const auto tokens = file.tokens().first(static_cast<size_t>(offset));
  const int64_t resident = tree.Lookup(root, tokens, false).resident;
  const int64_t pages = engine.has_pages() ? PageCount(offset) : 0;
  std::unique_ptr<PointRestore> point(new PointRestore(scheduler, file, offset));
  PointRestore& p = *point;
  AnnounceOptions announce;
  announce.last_logits = false;
  p.live_ = tree.Announce(root, tokens, announce);
  p.pages_ = tree.LeasePages(p.live_);
  // A page that is not full is read anew.
  while (std::ssize(p.pages_) > resident / kTokensPerPage) {
    frames.pages().Unlease(p.pages_.back());
    p.pages_.pop_back();
  }
  p.first_ = std::ssize(p.pages_);
  LODE_TRY(tree.MakeRoom(root, pages - p.first_, engine.has_slots() ? 1 : 0));
  while (std::ssize(p.pages_) < pages) {
    p.pages_.push_back(frames.pages().Take(tree.owner(root)));
    p.targets_.push_back(frames.pages().data(p.pages_.back()));
  }
  if (engine.has_slots()) {
    p.slot_ = frames.slots().Take(tree.owner(root));
    p.state_ = frames.slots().data(p.slot_);
    p.hidden_ = file.HasHidden(offset) &&
                file.geometry().hidden_bytes == GeometryOf(engine).hidden_bytes;
  }
  return point;
}

PointRestore::~PointRestore() {
  if (abandoned_) return;
  FramePool& frames = scheduler_.engine().frames();
  for (const PageId page : pages_) frames.pages().Unlease(page);
  if (slot_ != kNoFrame) frames.slots().Unlease(slot_);
  if (live_ != kNone) scheduler_.tree().Finish(live_, FinishReason::kStop);
}

int64_t PointRestore::pieces() const {
  return std::ssize(targets_) + (state_ != nullptr ? 1 : 0);
}

void PointRestore::Read(int64_t piece) {
  {
    const std::lock_guard lock(mutex_);
    if (failed_) return;
  }
  // The state first: it is the largest piece.
  const int64_t states = state_ != nullptr ? 1 : 0;
  const auto read = [&]() -> Result<void> {
    if (piece < states) {
      const ContextGeometry& geometry = file_.geometry();
      LODE_TRY(file_.ReadState(offset_, {state_, geometry.slot_bytes}));
      if (!hidden_) return {};
      return file_.ReadHidden(offset_, {state_ + geometry.slot_bytes, geometry.hidden_bytes});
    }
    const int64_t i = piece - states;
    return file_.ReadPage(first_ + i,
                          {targets_[static_cast<size_t>(i)], file_.geometry().page_bytes});
  };
  if (const Result<void> done = read(); !done.ok()) {
    const std::lock_guard lock(mutex_);
    failed_ = done.error();
  }
}

Result<void> PointRestore::Finish() {
  const std::lock_guard lock(mutex_);
  if (failed_) return *failed_;
  scheduler_.tree().AddSnapshot(live_, offset_, slot_, PointRole::kEnd, pages_, hidden_);
  return {};
}

Result<int64_t> DeepestRestored(const ContextFile& file, int64_t offset_max,
                                const std::function<Result<void>(int64_t offset)>& restore) {
  // Those that were found damaged on the way are no points any more.
  std::vector<int64_t> points = file.Points();
  if (offset_max >= 0) std::erase_if(points, [=](int64_t point) { return point > offset_max; });
  while (!points.empty()) {
    const int64_t offset = points.back();
    const auto restored = restore(offset);
    if (restored.ok()) return offset;
    const Code code = restored.error().code();
    if (code == Code::kNoSpace || code == Code::kCancelled) return restored.error();
    points = file.Points();
    std::erase_if(points, [offset](int64_t point) { return point >= offset; });
  }
  return 0;
}

Result<int64_t> RestoreContext(Scheduler* scheduler, const ContextFile& file,
                               const ContextFingerprints& fingerprints,
                               std::optional<RootId> into, int64_t offset_max) {
  LODE_TRY(
      file.Match(GeometryOf(scheduler->engine()), fingerprints).Require(ContextMatch::Use::kExact));
  const RootId root = into.value_or(scheduler->default_root());
  return DeepestRestored(file, offset_max, [&](int64_t offset) -> Result<void> {
    LODE_ASSIGN(const auto point, PointRestore::Begin(scheduler, file, root, offset));
    scheduler->engine().pool().Run(point->pieces(),
                                   [&](int64_t piece, int) { point->Read(piece); });
    return point->Finish();
  });
}

bool RoomForAnotherState(Scheduler* scheduler) {
  return scheduler->engine().frames().CanTake(2, 2);
}

Result<int64_t> RestoreStates(Scheduler* scheduler, const ContextFile& file,
                              const ContextFingerprints& fingerprints) {
  LODE_ASSIGN(const int64_t deepest, RestoreContext(scheduler, file, fingerprints));
  int64_t above = deepest;
  while (above > 1 && RoomForAnotherState(scheduler)) {
    const auto restored = RestoreContext(scheduler, file, fingerprints, {}, above - 1);
    if (!restored.ok() || *restored == 0) break;
    above = *restored;
  }
  return deepest;
}

}  // namespace lode::runtime
