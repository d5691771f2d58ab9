// What is done to saved contexts without their model: forks, cuts, copies to other folders,
// garbage. Ids and records are enough for that; nothing is computed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_store.h"

namespace lode::api {

// `target` becomes a context with the first `at` tokens of `name` (none: all), as a delta: pages
// and states stay where they are, and the file holds ids. It goes on from the deepest state at or
// before its end. Errors: kBadInput for an `at` beyond the end, a target that exists, damage.
Result<runtime::ContextSaveReport> ForkSaved(runtime::ContextStore* store, const std::string& name,
                                             const std::string& target, std::optional<int64_t> at,
                                             const runtime::Sealer* sealer);
// Drops all behind the first `tokens` tokens, bytes included, unless others' files need them.
Result<runtime::ContextSaveReport> TruncateSaved(runtime::ContextStore* store,
                                                 const std::string& name, int64_t tokens,
                                                 const runtime::Sealer* sealer);

// One self-contained file at `path`, whatever `name` leans on. `save` says how it is written: zstd,
// sealer. Errors: kBadInput for damage; those of the disk.
Result<runtime::ContextSaveReport> ExportSaved(runtime::ContextStore* store,
                                               const std::string& name, const std::string& path,
                                               const runtime::ContextSaveOptions& save,
                                               const runtime::ContextOpenOptions& open);
// The other way, after reading every byte. Errors: kBadInput for damage, with the record; for a
// delta and for a name that is taken, unless `replace`.
Result<void> ImportSaved(runtime::ContextStore* store, const std::string& path,
                         const std::string& name, bool replace,
                         const runtime::ContextOpenOptions& open);

struct SavedUse {
  std::string name;
  int64_t used = 0;         // seconds since 1970
  uint64_t own_bytes = 0;   // of its file
  uint64_t freed_bytes = 0; // by removing it after those before it: records that others need stay
  bool kept = false;        // (contexts.h, KeepSaved)
  bool expired = false;     // not used for longer than its ttl
};
struct Garbage {
  uint64_t bytes_before = 0, bytes_after = 0;
  std::vector<SavedUse> removed;  // in this order
  std::vector<SavedUse> kept;     // would have been next, but were asked to stay
};
// Removes contexts that have expired, then others, least recently used first, until what is left
// takes at most `bytes_max`; those that are kept stay. (Of a sealed one nobody knows the ttl.) With
// `dry_run` only says what would go.
Result<Garbage> CollectSaved(runtime::ContextStore* store, uint64_t bytes_max, bool dry_run);

}  // namespace lode::api
