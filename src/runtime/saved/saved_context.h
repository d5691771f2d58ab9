// Between the prefix tree and files: writes what a scheduler's tree has of a text, and puts a
// file's pages and states back into the tree, where the next request finds them as if they had just
// been computed. The same bits come out of a restored state (tests/contexts_test.cc).
//
// Both ways frames are leased by the owner's thread, and then read or filled by any: a save, or a
// restore, runs beside whatever the engine computes. Bytes go between the file and frames, a piece
// at a time: nothing is ever in memory twice.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "runtime/saved/context_store.h"
#include "runtime/scheduler.h"

namespace lode::runtime {

// How pages and slots of this engine look, for a file to agree with.
ContextGeometry GeometryOf(const Engine& engine);

// --- Saving ---

// What a tree has of a text, leased: nobody writes it until it is given back.
struct LeasedContext {
  std::vector<PageId> pages;
  std::vector<std::pair<int64_t, SlotId>> states;  // offsets ascending
  std::vector<std::span<const std::byte>> page_bytes, state_bytes;
  std::vector<std::span<const std::byte>> hidden_bytes;  // beside the states; empty: not kept
  std::vector<std::byte> tail;  // a copy: whoever goes on in the last page may write it meanwhile

  int64_t deepest() const { return states.empty() ? 0 : states.back().first; }
  // Pages and snapshots; the spans live as long as this.
  void AddTo(ContextImage* image) const;
};
// The deepest state at or before each of `ends`. Threads: the owner, as GiveBack.
LeasedContext LeaseContext(Scheduler* scheduler, RootId root, std::span<const Token> tokens,
                           const std::set<int64_t>& ends);
void GiveBack(FramePool* frames, const LeasedContext& leased);
// Offsets of at most `count` states of these tokens that are in memory, the deepest ones.
std::set<int64_t> StatesOf(Scheduler* scheduler, RootId root, std::span<const Token> tokens,
                           int64_t count);

struct SavedContext {
  int64_t tokens = 0;  // that are saved: all
  int64_t state = 0;   // the deepest state among them; what comes after it will be computed again
  ContextSaveReport report;
};
// Saves `tokens`, and at most so many `states` of them that are in the scheduler's default root, as
// `name`, as a delta of what was saved under that name before. Errors: those of ContextStore::Save.
Result<SavedContext> SaveContext(Scheduler* scheduler, ContextStore* store, const std::string& name,
                                 std::span<const Token> tokens,
                                 const ContextFingerprints& fingerprints, const Json& meta,
                                 int64_t states = 1, const Sealer* sealer = nullptr);

// --- Restoring ---

// One state of a file, and the pages before it that are not in memory, on their way into a tree.
// Threads: Begin, Finish and the end of its life are the owner's; Read anybody's, many at once.
// Life: not longer than the file and the scheduler.
class PointRestore {
 public:
  // Takes the frames. Errors: kNoSpace.
  static Result<std::unique_ptr<PointRestore>> Begin(Scheduler* scheduler, const ContextFile& file,
                                                     RootId root, int64_t offset);
  ~PointRestore();
  PointRestore(const PointRestore&) = delete;
  PointRestore& operator=(const PointRestore&) = delete;

  // Pieces of work; each is to be read once. A piece is read from the file, checked and written in
  // one pass.
  int64_t pieces() const;
  void Read(int64_t piece);
  // Into the tree. Errors: what was wrong with a record; the file then knows it, too.
  Result<void> Finish();
  // Its scheduler is gone, and the frames with it.
  void Abandon() { abandoned_ = true; }

 private:
  PointRestore(Scheduler* scheduler, const ContextFile& file, int64_t offset)
      : scheduler_(*scheduler), file_(file), offset_(offset) {}

  Scheduler& scheduler_;
  const ContextFile& file_;
  int64_t offset_;
  LiveId live_ = kNone;  // a request that never runs: its ids stand in the tree meanwhile
  std::vector<PageId> pages_;
  SlotId slot_ = kNoFrame;
  int64_t first_ = 0;  // page that is read
  std::byte* state_ = nullptr;
  bool hidden_ = false;  // a row lies beside it
  std::vector<std::byte*> targets_;  // of the pages from first_ on
  bool abandoned_ = false;
  std::mutex mutex_;
  std::optional<Error> failed_;
};

// The deepest of the file's points, of those up to `offset_max` unless that is below 0, that
// `restore` has no error with but kNoSpace, kCancelled; 0: there is none.
Result<int64_t> DeepestRestored(const ContextFile& file, int64_t offset_max,
                                const std::function<Result<void>(int64_t offset)>& restore);

// The deepest sound point of `file`, of those up to `offset_max` unless that is below 0, into a
// root (none: the default one). Returns its tokens; 0: all of its states are damaged, and the ids
// must be computed anew. Errors: kUnsupported for a context of another model or other numerics,
// naming what differs; kNoSpace when there is no room.
Result<int64_t> RestoreContext(Scheduler* scheduler, const ContextFile& file,
                               const ContextFingerprints& fingerprints,
                               std::optional<RootId> into = {}, int64_t offset_max = -1);
// The same, and the points above it as long as there is free room.
Result<int64_t> RestoreStates(Scheduler* scheduler, const ContextFile& file,
                              const ContextFingerprints& fingerprints);
// Whether a state more, and a page of its own where it ends inside one, would push nothing out.
bool RoomForAnotherState(Scheduler* scheduler);

}  // namespace lode::runtime
