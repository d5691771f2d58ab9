#include "runtime/saved/context_transfer.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace lode::runtime {
namespace {

Error Gone() { return Error(Code::kCancelled, "the engine is closed", "open it again"); }

// Begun and ended by the owner's thread, read by this one and others beside it.
Result<void> RestorePoint(SchedulerThread* thread, RootId root, const ContextFile& file,
                          int64_t offset, int threads) {
  std::unique_ptr<PointRestore> point;
  Result<void> begun = Gone();
  thread->PostAndWait([&](Scheduler* scheduler) {
    if (scheduler == nullptr) return;
    auto made = PointRestore::Begin(scheduler, file, root, offset);
    begun = made.ok() ? Result<void>() : Result<void>(made.error());
    if (made.ok()) point = std::move(*made);
  });
  LODE_TRY(std::move(begun));
  std::atomic<int64_t> next = 0;
  const auto read = [&] {
    for (int64_t i = next++; i < point->pieces(); i = next++) point->Read(i);
  };
  std::vector<std::thread> others;
  for (int64_t i = std::min<int64_t>(threads, point->pieces()); i > 1; --i) {
    others.emplace_back(read);
  }
  read();
  for (std::thread& other : others) other.join();
  Result<void> done = Gone();
  thread->PostAndWait([&](Scheduler* scheduler) {
    if (scheduler == nullptr) {
      point->Abandon();
    } else {
      done = point->Finish();
    }
    point.reset();
  });
  return done;
}

}  // namespace

void SchedulerThread::PostAndWait(const std::function<void(Scheduler*)>& work) {
  std::promise<void> done;
  Post([&](Scheduler* scheduler) {
    work(scheduler);
    done.set_value();
  });
  done.get_future().wait();
}

Result<BesideSaved> SaveBeside(SchedulerThread* thread, RootId root, ContextStore* store,
                               const std::string& name, ContextImage image,
                               const std::set<int64_t>& ends, const ContextSaveOptions& options) {
  const auto leased = std::make_shared<LeasedContext>();
  bool there = false;
  thread->PostAndWait([&](Scheduler* scheduler) {
    there = scheduler != nullptr;
    if (there) *leased = LeaseContext(scheduler, root, image.tokens, ends);
  });
  if (!there) return Gone();
  leased->AddTo(&image);
  auto report = store->Save(name, image, options);
  const int64_t deepest = leased->deepest();
  thread->Post([leased](Scheduler* scheduler) {
    if (scheduler != nullptr) GiveBack(&scheduler->engine().frames(), *leased);
  });
  if (!report.ok()) return report.error();
  return BesideSaved{std::move(*report), deepest};
}

Result<int64_t> RestoreBeside(SchedulerThread* thread, RootId root, const ContextFile& file,
                              int threads) {
  const auto restore = [&](int64_t offset) {
    return RestorePoint(thread, root, file, offset, threads);
  };
  LODE_ASSIGN(const int64_t deepest, DeepestRestored(file, -1, restore));
  const auto room = [&] {
    bool free = false;
    thread->PostAndWait([&](Scheduler* scheduler) {
      free = scheduler != nullptr && RoomForAnotherState(scheduler);
    });
    return free;
  };
  int64_t above = deepest;
  while (above > 1 && room()) {
    const auto restored = DeepestRestored(file, above - 1, restore);
    if (!restored.ok() || *restored == 0) break;
    above = *restored;
  }
  return deepest;
}

}  // namespace lode::runtime
