// Saving and restoring beside a scheduler that runs in a thread of its own: that thread leases and
// gives back frames, between two steps; the caller's reads and writes their bytes meanwhile.
#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>

#include "runtime/saved/saved_context.h"

namespace lode::runtime {

// The thread that owns a scheduler, as others see it.
class SchedulerThread {
 public:
  virtual ~SchedulerThread() = default;
  // `work` runs there, later; with nullptr, in any thread, when the scheduler is gone. The engine's
  // memory must outlive whoever still reads frames then.
  virtual void Post(std::function<void(Scheduler*)> work) = 0;
  // The same, and waits. Not from the thread itself.
  void PostAndWait(const std::function<void(Scheduler*)>& work);
};

// Writes `image`, whose pages and snapshots are still empty, as `name`, with what `root` has in
// memory of its tokens: the deepest state at or before each of `ends`. Errors: those of
// ContextStore::Save; kCancelled when the scheduler is gone.
struct BesideSaved {
  ContextSaveReport report;
  int64_t state = 0;  // the deepest one that was saved
};
Result<BesideSaved> SaveBeside(SchedulerThread* thread, RootId root, ContextStore* store,
                               const std::string& name, ContextImage image,
                               const std::set<int64_t>& ends, const ContextSaveOptions& options);

// The deepest sound state of `file` into `root`, read by so many threads, and then those above it
// as long as there is free room. Returns the deepest one's tokens; 0: there is none. Errors:
// kNoSpace; kCancelled when the scheduler is gone.
Result<int64_t> RestoreBeside(SchedulerThread* thread, RootId root, const ContextFile& file,
                              int threads);

}  // namespace lode::runtime
