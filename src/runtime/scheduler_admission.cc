// Who waits and who may run: the scheduler's arithmetic of room.
#include <algorithm>
#include <memory>
#include <utility>

#include "base/text.h"
#include "runtime/scheduler.h"
#include "runtime/scheduler_task.h"

namespace lode::runtime {

// Pages that the request is promised, those it may share with others among them.
int64_t Scheduler::PagesOf(const Task& task) const {
  if (!engine_->has_pages()) return 0;
  const int64_t answer = task.request.tokens_max < 0
                             ? options_.answer_tokens
                             : std::min(task.request.tokens_max, options_.answer_tokens);
  return PageCount(static_cast<int64_t>(task.tokens.size()) + answer) + 1;
}

// A state, and another one to write while the first is a snapshot's.
uint64_t Scheduler::BytesOf(const Task& task) const {
  return engine_->frames().BytesOf(PagesOf(task), engine_->has_slots() ? 2 : 0);
}

// Frames that running requests were promised and have not taken.
uint64_t Scheduler::Promised() const {
  uint64_t bytes = 0;
  for (const auto& task : running_) {
    const auto pages = static_cast<int64_t>(task->sequence->pages().size());
    bytes += engine_->frames().BytesOf(std::max<int64_t>(0, PagesOf(*task) - pages),
                                       engine_->has_slots() ? 1 : 0);
  }
  return bytes;
}

bool Scheduler::Fits(const Task& task) const {
  const FramePool& frames = engine_->frames();
  return frames.leased() + Promised() + BytesOf(task) <= frames.budget();
}

Result<RequestId> Scheduler::Submit(Request request) {
  if (request.prompt.empty()) return Error(Code::kBadInput, "the prompt is empty");
  LODE_TRY(ValidateSampling(request.sampling, engine_->vocabulary()));
  LODE_TRY(engine_->CheckTokens(request.prompt));
  if (waiting() >= options_.queue_max) {
    return Error(Code::kNoSpace, Format("%lld requests wait already",
                                        static_cast<long long>(options_.queue_max)),
                 "try again later");
  }
  auto task = std::make_unique<Task>();
  task->id = next_id_;
  task->request = std::move(request);
  task->tokens = task->request.prompt;
  if (options_.drafts_max > 0) {
    task->drafter = options_.drafter ? options_.drafter(task->request)
                                     : std::make_unique<NgramDrafter>();
    task->length.emplace(options_.drafts_max);
  }
  const auto prompt = static_cast<int64_t>(task->tokens.size());
  if (engine_->TooLong(prompt)) {
    return Error(Code::kNoSpace,
                 Format("the context is full at %lld tokens, and the prompt has %lld",
                        static_cast<long long>(engine_->sequence_tokens_max()),
                        static_cast<long long>(prompt)),
                 "start with a larger --context");
  }
  const uint64_t least = engine_->frames().BytesOf(
      engine_->has_pages() ? PageCount(prompt + 1) : 0, engine_->has_slots() ? 1 : 0);
  if (least > engine_->frames().budget()) {
    return Error(Code::kNoSpace,
                 Format("a prompt of %lld tokens takes %s of context, and there are %s in all",
                        static_cast<long long>(prompt), HumanBytesBinary(least).c_str(),
                        HumanBytesBinary(engine_->frames().budget()).c_str()),
                 "start with a larger --context");
  }
  Announce(task.get());
  queue_.push_back(std::move(task));
  return next_id_++;
}

// Its tokens so far enter the tree: it waits.
void Scheduler::Announce(Task* task) {
  AnnounceOptions options;
  options.probes = task->request.probes;
  options.family = task->request.family;
  options.use_cache = task->request.use_cache;
  task->live = tree_.Announce(task->request.root, task->tokens, options);
}

void Scheduler::Cancel(RequestId request) {
  for (auto& task : queue_) {
    if (task->id == request) task->cancelled = true;
  }
  for (auto& task : running_) {
    if (task->id == request) task->cancelled = true;
  }
}

void Scheduler::AdmitWaiting(const Emit& emit) {
  for (size_t i = 0; i < queue_.size();) {
    Task& task = *queue_[i];
    if (task.cancelled) {
      tree_.Finish(task.live, FinishReason::kCancelled);
      const std::unique_ptr<Task> gone = std::move(queue_[i]);
      queue_.erase(queue_.begin() + static_cast<int64_t>(i));
      emit({.kind = Event::Kind::kFinished, .request = gone->id, .stop = StopReason::kCancelled});
      continue;
    }
    if (running() >= options_.running_max) return;
    // Somebody computes what this one needs: it waits for that, and lets others pass.
    if (tree_.Advise(task.live).leader != kNone) {
      ++i;
      continue;
    }
    // Whoever is alone may try: then its promise is more than it may need.
    if (!running_.empty() && !Fits(task)) return;
    std::unique_ptr<Task> next = std::move(queue_[i]);
    queue_.erase(queue_.begin() + static_cast<int64_t>(i));
    Start(std::move(next), emit);
  }
}

void Scheduler::Start(std::unique_ptr<Task> task, const Emit& emit) {
  Admission admission = tree_.Admit(task->live);
  const Match& match = admission.match;
  task->sequence = engine_->NewSequence(tree_.owner(task->request.root), match.resume,
                                        std::move(admission.pages), match.slot);
  const Event event = {
      .kind = Event::Kind::kStarted, .request = task->id, .tokens = match.resume, .match = match};
  running_.push_back(std::move(task));
  emit(event);
}

}  // namespace lode::runtime
