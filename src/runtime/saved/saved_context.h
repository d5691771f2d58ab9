// Between the prefix tree and files: writes what a scheduler's tree has of a text, and puts a
// file's pages and state back into the tree, where the next request finds them as if they had just
// been computed. The same bits come out of a restored state (tests/contexts_test.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "runtime/saved/context_store.h"
#include "runtime/scheduler.h"

namespace lode::runtime {

// How pages and slots of this engine look, for a file to agree with.
ContextGeometry GeometryOf(const Engine& engine);

struct SavedContext {
  int64_t tokens = 0;  // that are saved, up to the deepest state in memory
  ContextSaveReport report;
};
// Saves the deepest resume point of `tokens` in the scheduler's default root as `name`, as a delta
// of what was saved under that name before. Errors: kNotFound if no state of it is in memory; those
// of ContextStore::Save.
Result<SavedContext> SaveContext(Scheduler* scheduler, ContextStore* store, const std::string& name,
                                 std::span<const Token> tokens,
                                 const ContextFingerprints& fingerprints, const Json& meta);

// The deepest sound point of `file`, of those up to `offset_max` unless that is below 0, into a
// root (none: the default one). Returns its tokens; 0: all of its states are damaged, and the ids
// must be computed anew. Errors: kUnsupported for a context of another model or other numerics,
// naming what differs; kNoSpace when there is no room.
Result<int64_t> RestoreContext(Scheduler* scheduler, const ContextFile& file,
                               const ContextFingerprints& fingerprints,
                               std::optional<RootId> into = {}, int64_t offset_max = -1);

}  // namespace lode::runtime
