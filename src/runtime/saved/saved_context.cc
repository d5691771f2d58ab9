#include "runtime/saved/saved_context.h"

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"

namespace lode::runtime {
namespace {

// Frames that are leased for a while.
class Leases {
 public:
  explicit Leases(FramePool* frames) : frames_(*frames) {}
  ~Leases() {
    for (const PageId page : pages) frames_.pages().Unlease(page);
    if (slot != kNoFrame) frames_.slots().Unlease(slot);
  }
  Leases(const Leases&) = delete;
  Leases& operator=(const Leases&) = delete;

  std::vector<PageId> pages;
  SlotId slot = kNoFrame;

 private:
  FramePool& frames_;
};

// A request that never runs: its ids stand in the tree meanwhile.
class Announced {
 public:
  Announced(PrefixTree* tree, RootId root, std::span<const Token> tokens) : tree_(*tree) {
    AnnounceOptions options;
    options.last_logits = false;
    id = tree->Announce(root, tokens, options);
  }
  ~Announced() { tree_.Finish(id, FinishReason::kStop); }
  Announced(const Announced&) = delete;
  Announced& operator=(const Announced&) = delete;

  LiveId id;

 private:
  PrefixTree& tree_;
};

}  // namespace

ContextGeometry GeometryOf(const Engine& engine) {
  const model::StateLayout& layout = engine.layout();
  ContextGeometry geometry;
  geometry.page_tokens = kTokensPerPage;
  geometry.page_bytes = layout.page_bytes;
  geometry.slot_bytes = layout.slot_bytes;
  geometry.mtp_page_bytes = layout.mtp_page_bytes;
  geometry.layout = "pages of panels of 32 keys, slots of convolution rows and states, 1";
  return geometry;
}

Result<SavedContext> SaveContext(Scheduler* scheduler, ContextStore* store, const std::string& name,
                                 std::span<const Token> tokens,
                                 const ContextFingerprints& fingerprints, const Json& meta) {
  PrefixTree& tree = scheduler->tree();
  Engine& engine = scheduler->engine();
  const RootId root = scheduler->default_root();
  const int64_t offset = tree.Lookup(root, tokens, false).resume;
  const auto kept = tokens.first(static_cast<size_t>(offset));
  std::optional<PrefixTree::Saved> saved;
  if (offset > 0) saved = tree.LeaseAt(root, kept);
  if (!saved) {
    return Error(Code::kNotFound, "no state of this dialogue is in memory",
                 "there was no room to keep one");
  }
  Leases leases(&engine.frames());
  leases.pages = std::move(saved->pages);
  leases.slot = saved->slot;

  ContextImage image;
  image.geometry = GeometryOf(engine);
  image.fingerprints = fingerprints;
  image.tokens = kept;
  image.meta = meta;
  for (const PageId page : leases.pages) {
    image.pages.push_back({engine.frames().pages().data(page), image.geometry.page_bytes});
  }
  ContextSnapshot snapshot;
  snapshot.offset = offset;
  if (leases.slot != kNoFrame) {
    snapshot.state = {engine.frames().slots().data(leases.slot), image.geometry.slot_bytes};
  }
  image.snapshots.push_back(snapshot);
  ContextSaveOptions options;
  options.parent = name;
  SavedContext done;
  done.tokens = offset;
  LODE_ASSIGN(done.report, store->Save(name, image, options));
  return done;
}

namespace {

// The point at `offset` into the tree. Each byte is read, checked and written once, on all threads.
// Errors: kNoSpace; what is wrong with a record (the file then knows it, too).
Result<void> RestoreAt(Scheduler* scheduler, const ContextFile& file, RootId root, int64_t offset) {
  PrefixTree& tree = scheduler->tree();
  Engine& engine = scheduler->engine();
  FramePool& frames = engine.frames();
  const auto tokens = file.tokens().first(static_cast<size_t>(offset));
  const int64_t resident = tree.Lookup(root, tokens, false).resident;
  const int64_t pages = engine.has_pages() ? PageCount(offset) : 0;
  const Announced live(&tree, root, tokens);
  Leases leases(&frames);
  leases.pages = tree.LeasePages(live.id);
  // A page that is not full is read anew.
  while (std::ssize(leases.pages) > resident / kTokensPerPage) {
    frames.pages().Unlease(leases.pages.back());
    leases.pages.pop_back();
  }
  const int64_t first = std::ssize(leases.pages);
  LODE_TRY(tree.MakeRoom(root, pages - first, engine.has_slots() ? 1 : 0));
  while (std::ssize(leases.pages) < pages) {
    leases.pages.push_back(frames.pages().Take(tree.owner(root)));
  }
  if (engine.has_slots()) leases.slot = frames.slots().Take(tree.owner(root));

  std::mutex mutex;
  std::optional<Error> failed;
  const auto note = [&](const Result<void>& read) {
    if (read.ok()) return;
    const std::lock_guard lock(mutex);
    failed = read.error();
  };
  // The state first: it is the largest piece.
  const int64_t states = engine.has_slots() ? 1 : 0;
  engine.pool().Run(states + pages - first, [&](int64_t chunk, int) {
    if (chunk < states) {
      std::byte* slot = frames.slots().data(leases.slot);
      return note(file.ReadState(offset, {slot, file.geometry().slot_bytes}));
    }
    const int64_t i = first + chunk - states;
    std::byte* page = frames.pages().data(leases.pages[static_cast<size_t>(i)]);
    note(file.ReadPage(i, {page, file.geometry().page_bytes}));
  });
  if (failed) return *failed;
  tree.AddSnapshot(live.id, offset, leases.slot, PointRole::kEnd, leases.pages);
  return {};
}

}  // namespace

Result<int64_t> RestoreContext(Scheduler* scheduler, const ContextFile& file,
                               const ContextFingerprints& fingerprints,
                               std::optional<RootId> into, int64_t offset_max) {
  LODE_TRY(
      file.Match(GeometryOf(scheduler->engine()), fingerprints).Require(ContextMatch::Use::kExact));
  const RootId root = into.value_or(scheduler->default_root());
  // Those that were found damaged on the way are no points any more.
  std::vector<int64_t> points = file.Points();
  if (offset_max >= 0) std::erase_if(points, [=](int64_t point) { return point > offset_max; });
  while (!points.empty()) {
    const int64_t offset = points.back();
    const auto restored = RestoreAt(scheduler, file, root, offset);
    if (restored.ok()) return offset;
    if (restored.error().code() == Code::kNoSpace) return restored.error();
    points = file.Points();
    std::erase_if(points, [offset](int64_t point) { return point >= offset; });
  }
  return 0;
}

}  // namespace lode::runtime
