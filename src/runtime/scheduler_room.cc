// Room: what a request is promised of it, what its rows of a step take, and who gives way.
#include <algorithm>

#include "base/check.h"
#include "base/text.h"
#include "runtime/scheduler.h"
#include "runtime/scheduler_task.h"

namespace lode::runtime {

// Pages that the request is promised, those it may share with others among them. The eldest is
// promised all that it may ever take, so that it ends whatever the others do; but not more than
// half of what there is, for who asks for a million tokens must not keep everybody else out.
int64_t Scheduler::PagesOf(const Task& task, bool eldest) const {
  if (!engine_->has_pages()) return 0;
  const int64_t most = task.request.tokens_max;
  const int64_t answer = most < 0 ? options_.answer_tokens : std::min(most, options_.answer_tokens);
  const auto tokens = static_cast<int64_t>(task.tokens.size());
  const int64_t pages = PageCount(tokens + answer) + 1;
  if (!eldest || most <= answer) return pages;
  const int64_t whole = PageCount(tokens - task.answer + most) + 1;
  const FramePool& frames = engine_->frames();
  const auto half = static_cast<int64_t>(frames.budget() / 2 / frames.BytesOf(1, 0));
  return std::max(pages, std::min(whole, half));
}

// A state, and another one to write while the first is a snapshot's.
uint64_t Scheduler::BytesOf(const Task& task, bool eldest) const {
  return engine_->frames().BytesOf(PagesOf(task, eldest), engine_->has_slots() ? 2 : 0);
}

const Scheduler::Task* Scheduler::Eldest() const {
  const Task* eldest = nullptr;
  for (const auto& task : running_) {
    if (!task->done && (eldest == nullptr || task->id < eldest->id)) eldest = task.get();
  }
  return eldest;
}

// Whether there is room beside what the running ones have, and were promised and have not taken.
bool Scheduler::Fits(const Task& task) const {
  const FramePool& frames = engine_->frames();
  const Task* eldest = Eldest();
  if (eldest == nullptr || task.id < eldest->id) eldest = &task;
  uint64_t bytes = frames.leased() + BytesOf(task, eldest == &task);
  for (const auto& other : running_) {
    const auto pages = static_cast<int64_t>(other->sequence->pages().size());
    bytes += frames.BytesOf(std::max<int64_t>(0, PagesOf(*other, eldest == other.get()) - pages),
                            engine_->has_slots() ? 1 : 0);
  }
  return bytes <= frames.budget();
}

Result<void> Scheduler::CheckFits(int64_t prompt) const {
  if (engine_->TooLong(prompt)) {
    return Error(Code::kNoSpace,
                 Format("the context is full at %lld tokens, and the prompt has %lld",
                        static_cast<long long>(engine_->sequence_tokens_max()),
                        static_cast<long long>(prompt)),
                 "start with a larger --context");
  }
  const FramePool& frames = engine_->frames();
  const uint64_t least = frames.BytesOf(engine_->has_pages() ? PageCount(prompt + 1) : 0,
                                        engine_->has_slots() ? 1 : 0);
  if (least <= frames.budget()) return {};
  return Error(Code::kNoSpace,
               Format("a prompt of %lld tokens takes %s of context, and there are %s in all",
                      static_cast<long long>(prompt), HumanBytesBinary(least).c_str(),
                      HumanBytesBinary(frames.budget()).c_str()),
               "start with a larger --context");
}

// Frames for a task's rows, if need be of what is kept: of its own tenant and of those above their
// share, or from anybody.
bool Scheduler::TakeRoom(Task* task, bool from_anybody) {
  const bool trial = !task->drafts.empty();
  Sequence& sequence = *task->sequence;
  if (engine_->Reserve(&sequence, task->rows, trial).ok()) return true;
  if (engine_->TooLong(task->position() + task->rows)) return false;
  const int64_t pages = engine_->PagesToReserve(sequence, task->rows);
  const int64_t slots = engine_->SlotsToReserve(sequence);
  return tree_.MakeRoom(task->request.root, pages, slots, from_anybody).ok() &&
         engine_->Reserve(&sequence, task->rows, trial).ok();
}

// Takes the frames for a task's rows; evicts, then preempts others. Else the task has no rows in
// this step, or had to go.
void Scheduler::ReserveFor(Task* task, const Emit& emit) {
  if (TakeRoom(task, false)) return;
  if (!task->drafts.empty()) {  // guesses are worth nobody's place
    task->rows -= std::ssize(task->drafts);
    task->drafts.clear();
    if (TakeRoom(task, false)) return;
  }
  if (engine_->TooLong(task->position() + task->rows)) return EndForRoom(task, emit);
  // What is being read stands in the way only until it is.
  while (promotions_.any()) {
    const bool others = std::any_of(running_.begin(), running_.end(), [&](const auto& other) {
      return other.get() != task && !other->done && other->rows > 0;
    });
    if (others) {
      task->rows = 0;
      return;
    }
    promotions_.Wait();
    promotions_.Poll();
    if (TakeRoom(task, false)) return;
  }
  while (Task* victim = Victim(task)) {
    Preempt(victim);
    if (TakeRoom(task, false)) return;
  }
  const bool alone = std::none_of(running_.begin(), running_.end(), [&](const auto& other) {
    return other.get() != task && !other->done;
  });
  if (!alone) {
    // Others are worth more. Who has only begun waits with what it has until one of them ends.
    task->rows = 0;
    if (task->progress() >= options_.progress_min) Preempt(task);
    return;
  }
  // Who runs goes before what others have kept, and before what it goes on from itself.
  if (TakeRoom(task, true)) return;
  tree_.GiveUpPoint(task->live, task->position());
  tree_.GiveUpPages(task->live);
  if (TakeRoom(task, true)) return;
  EndForRoom(task, emit);
}

// Nothing that could be done gives this task the room that it needs.
void Scheduler::EndForRoom(Task* task, const Emit& emit) {
  if (task->answer > 0) return Finish(task, StopReason::kContextFull, emit);
  const auto reserved = engine_->Reserve(&*task->sequence, task->rows);
  LODE_CHECK(!reserved.ok());
  Fail(task, reserved.error(), emit);
}

// Its state stays as a snapshot as long as there is room; it comes back as any other request.
void Scheduler::Preempt(Task* task) {
  ++preemptions_;
  End(task, FinishReason::kPreempted);
  task->rows = 0;
  task->drafts.clear();
  const auto at = std::find_if(running_.begin(), running_.end(),
                               [&](const auto& other) { return other.get() == task; });
  Announce(task);
  queue_.push_front(std::move(*at));
  running_.erase(at);
}

}  // namespace lode::runtime
