#include "runtime/scheduler.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "runtime/scheduler_task.h"

namespace lode::runtime {
namespace {

double SystemMilliseconds() {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  return Milliseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TreeOptions TreeOptionsFor(const Engine& engine, const SchedulerOptions& scheduling) {
  TreeOptions options = scheduling.tree;
  if (scheduling.disk != nullptr) options.demotion = scheduling.disk;
  options.recurrent = engine.has_slots();
  options.tap_grid = 1;
  options.hidden_rows = false;
  return options;
}

}  // namespace

Scheduler::Scheduler(Engine* engine, const SchedulerOptions& options)
    : engine_(engine),
      options_(options),
      tree_(&engine->frames(), TreeOptionsFor(*engine, options)),
      promotions_(&engine->frames(), &tree_, options.disk),
      sampler_(engine->vocabulary()),
      cost_(engine->rows_max()),
      logits_(static_cast<size_t>(options.running_max * (1 + options.drafts_max) *
                                  engine->vocabulary())) {
  if (!options_.milliseconds) options_.milliseconds = SystemMilliseconds;
  LODE_CHECK(options_.drafts_max == 0 || options_.drafts_max < engine->trial_rows_max());
  if (options_.drafts_max > 0 && !options_.drafter && !engine->model().mtp.layers.empty()) {
    mtp_ = std::make_unique<MtpDrafts>(engine, &sampler_, options_.running_max);
  }
  TenantLimits own = options.tenant;
  // The same in every process, so that a lower tier's records are found again.
  if (own.secret.empty()) own.secret = "lode.tenant.default";
  const auto tenant = AddTenant(own);
  LODE_CHECK(tenant.ok());
  const auto root = OpenRoot(*tenant, "");
  LODE_CHECK(root.ok());
  default_root_ = *root;
}

Scheduler::~Scheduler() {
  for (auto& task : running_) End(task.get(), FinishReason::kCancelled);
  for (auto& task : queue_) {
    promotions_.Leave(task->live);
    tree_.Finish(task->live, FinishReason::kCancelled);
  }
}

// --- A step --------------------------------------------------------------------------------------

// How many tokens to guess for a step of an answer at most.
int64_t Scheduler::DraftsFor(Task* task) {
  if (!task->length) return 0;
  int64_t count = options_.drafts_fixed;
  if (count < 0) {
    const int64_t others = running() - 1;
    const double each = mtp_ ? mtp_->Milliseconds(running()) : 0.0;
    count = task->length->Choose(cost_, {others, static_cast<double>(others), each});
  }
  count = std::min(count, options_.drafts_max);
  if (task->request.tokens_max >= 0) {  // the step draws one token more than it has drafts
    count = std::min(count, task->request.tokens_max - task->answer - 1);
  }
  const auto tokens = static_cast<int64_t>(task->tokens.size());
  return engine_->TooLong(tokens + count) ? 0 : std::max<int64_t>(0, count);
}

// Fills the drafts of an answer's next step.
void Scheduler::Guess(Task* task) {
  task->drafts.resize(static_cast<size_t>(DraftsFor(task)));
  if (task->drafts.empty()) return;
  task->drafts.resize(static_cast<size_t>(task->drafter->Propose(task->tokens, task->drafts)));
  for (size_t i = 0; i < task->drafts.size(); ++i) {
    if (task->drafts[i] < 0 || task->drafts[i] >= engine_->vocabulary()) task->drafts.resize(i);
  }
}

// The model's own head guesses: it sees every row that the step has made a sequence's own, and the
// token that follows.
void Scheduler::GuessAhead(std::span<Task* const> tasks) {
  std::pmr::vector<MtpDrafts::Item> items(&memory_);
  const int64_t width = engine_->model().spec.width;
  for (Task* task : tasks) {
    task->drafts.clear();
    if (task->done || !task->length) continue;
    // Where guesses do not pay, neither do the head's rows of an answer; a prompt's are for those who
    // go on from it, too.
    const int64_t wanted = task->answering() && !task->cancelled ? DraftsFor(task) : 0;
    if (wanted == 0 && task->answer > 1) continue;
    const int64_t rows = task->position() - task->step_begin;
    const auto next = std::span<const Token>(task->tokens)
                          .subspan(static_cast<size_t>(task->step_begin + 1),
                                   static_cast<size_t>(rows));
    items.push_back({.sequence = &*task->sequence,
                     .position = task->step_begin,
                     .hidden = engine_->hidden() + task->first_row * width,
                     .next_tokens = next,
                     .wanted = wanted,
                     .tokens = &task->tokens,
                     .answer = task->answer,
                     .sampling = &task->request.sampling,
                     .drafts = &task->drafts});
  }
  mtp_->Run(items, options_.milliseconds);
}

// Takes the frames for a task's rows; evicts, then preempts others. False: the task itself has no
// rows in this step, or had to go.
bool Scheduler::ReserveFor(Task* task, int64_t rows, const Emit& emit) {
  while (true) {
    const bool trial = !task->drafts.empty();
    const auto reserved = engine_->Reserve(&*task->sequence, rows, trial);
    if (reserved.ok()) return true;
    const int64_t pages = std::max<int64_t>(0, engine_->PagesToReserve(*task->sequence, rows));
    const int64_t slots = engine_->has_slots() ? 1 : 0;
    if (!engine_->TooLong(task->position() + rows) &&
        tree_.MakeRoom(task->request.root, pages, slots).ok() &&
        engine_->Reserve(&*task->sequence, rows, trial).ok()) {
      return true;
    }
    if (trial) {  // guesses are worth nobody's place
      rows -= std::ssize(task->drafts);
      task->rows = rows;
      task->drafts.clear();
      continue;
    }
    if (promotions_.any()) {  // what is being read stands in the way only until it is
      promotions_.Wait();
      promotions_.Poll();
      continue;
    }
    Task* victim = engine_->TooLong(task->position() + rows) ? nullptr : Victim(task);
    if (victim == nullptr) {
      const bool alone = std::none_of(running_.begin(), running_.end(), [&](const auto& other) {
        return other.get() != task && !other->done;
      });
      if (!alone && !engine_->TooLong(task->position() + rows)) {
        // Others are worth more. Who has only begun waits with what it has until one of them ends.
        task->rows = 0;
        if (task->progress() >= options_.progress_min) Preempt(task);
      } else if (!engine_->TooLong(task->position() + rows) &&
                 tree_.MakeRoom(task->request.root, pages, slots, true).ok() &&
                 engine_->Reserve(&*task->sequence, rows).ok()) {
        return true;  // who runs goes before what others have kept
      } else if (!engine_->TooLong(task->position() + rows) &&
                 tree_.GiveUpPoint(task->live, task->position()) &&
                 engine_->Reserve(&*task->sequence, rows).ok()) {
        return true;  // and before what it goes on from itself
      } else if (task->answer > 0) {
        Finish(task, StopReason::kContextFull, emit);
      } else {
        Fail(task, reserved.error(), emit);
      }
      return false;
    }
    Preempt(victim);
  }
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

void Scheduler::Run(const Emit& emit) {
  std::pmr::vector<Task*> order(&memory_);  // the eldest first; whoever is preempted leaves running_
  for (auto& task : running_) order.push_back(task.get());
  std::sort(order.begin(), order.end(), [](const Task* a, const Task* b) { return a->id < b->id; });
  for (Task* task : order) {
    if (task->rows > 0 && !task->done) ReserveFor(task, task->rows, emit);
  }
  std::pmr::vector<StepItem> items(&memory_);
  Tasks::size_type logit_rows = 0;
  int64_t rows = 0;
  std::pmr::vector<Task*> tasks(&memory_);
  for (auto& task : running_) {
    if (task->done || task->rows == 0) continue;
    const int64_t drafts = std::ssize(task->drafts);
    const auto own = std::span<const Token>(task->tokens)
                         .subspan(static_cast<size_t>(task->position()),
                                  static_cast<size_t>(task->rows - drafts));
    StepItem item = {&*task->sequence, own};
    if (drafts > 0) {
      task->trial.assign(own.begin(), own.end());
      task->trial.insert(task->trial.end(), task->drafts.begin(), task->drafts.end());
      item.tokens = task->trial;
      item.commit = false;
    }
    task->first_row = rows;
    task->step_begin = task->position();
    const bool last = task->rows - drafts == task->left();
    item.want = last ? StepItem::Want::kLast : StepItem::Want::kNone;
    item.last = 1 + drafts;
    logit_rows += last ? static_cast<size_t>(1 + drafts) : 0;
    rows += task->rows;
    items.push_back(item);
    tasks.push_back(task.get());
  }
  if (items.empty()) return;
  const double start = options_.milliseconds();
  rows_ += rows;
  const auto stepped = engine_->Step(items, logit_rows > 0 ? logits_.data() : nullptr);
  LODE_CHECK(stepped.ok());  // everything it needs was reserved and checked
  cost_.Observe(rows, options_.milliseconds() - start);
  // A unit of cost is a token: what states are worth is measured by what computing prompts takes.
  const auto most = static_cast<double>(cost_.rows_measured());
  if (most > 0.0) tree_.SetSpeed(cost_.Milliseconds(cost_.rows_measured()) * 1e-3 / most);
  Account(tasks, rows);
  const float* logits = logits_.data();
  for (Task* task : tasks) logits = Commit(task, task->rows, logits, emit);
  if (mtp_) GuessAhead(tasks);
}

// What a step of so many rows means for a task. `logits` are those of its first row that has some;
// returns where they end.
const float* Scheduler::Commit(Task* task, int64_t rows, const float* logits, const Emit& emit) {
  const int64_t vocabulary = engine_->vocabulary();
  const int64_t drafts = std::ssize(task->drafts);
  if (drafts == 0) {
    const bool last = task->left() == 0;
    Moved(task, rows, emit);
    if (task->cancelled) {
      Finish(task, StopReason::kCancelled, emit);
    } else if (last) {
      Draw(task, logits, emit);
    }
    return last ? logits + vocabulary : logits;
  }
  // A trial: token after token for as long as each is the one that was guessed.
  int64_t stand = 0;
  while (true) {
    engine_->Keep(&*task->sequence, 1);
    Moved(task, 1, emit);
    if (!Draw(task, logits + stand * vocabulary, emit)) break;
    if (stand == drafts) break;
    const bool same = task->tokens.back() == task->drafts[static_cast<size_t>(stand)];
    if (!same && options_.fault != SchedulerFault::kTrustGuesses) break;
    ++stand;
  }
  drafted_ += drafts;
  accepted_ += stand;
  if (!task->done) {  // an answer's end says nothing of the guesses behind it
    task->length->Observe(drafts, stand);
    if (task->drafter) task->drafter->Observe(drafts, stand);
  }
  return logits + (1 + drafts) * vocabulary;
}

// The sequence has come further, by so many rows.
void Scheduler::Moved(Task* task, int64_t rows, const Emit& emit) {
  const int64_t position = task->position();
  const int64_t prompt = static_cast<int64_t>(task->tokens.size()) - task->answer;
  if (task->frozen_late > 0 && task->frozen_late < position) {
    tree_.AddSnapshot(task->live, std::exchange(task->frozen_late, 0), task->sequence->slot(),
                      PointRole::kEnd, task->sequence->pages());
  }
  if (position > prompt) {  // decoded tokens that have now run
    const int64_t from = std::max(prompt, position - rows);
    const int64_t known = tree_.tokens(task->live);
    const int64_t begin = std::max(from, known);
    if (begin < position) {
      tree_.Append(task->live, std::span<const Token>(task->tokens)
                                   .subspan(static_cast<size_t>(begin),
                                            static_cast<size_t>(position - begin)));
    }
  } else {
    emit({.kind = Event::Kind::kProgress, .request = task->id, .tokens = position});
  }
  tree_.Progress(task->live, position);
  if (const auto tap = tree_.NextTap(task->live, position - 1); tap && tap->offset == position) {
    Freeze(task, tap->role);
  }
}

// The state after all rows so far becomes a snapshot; the next step writes elsewhere.
void Scheduler::Freeze(Task* task, PointRole role) {
  Sequence& sequence = *task->sequence;
  const int64_t at = task->position();
  if (!engine_->has_slots()) {
    tree_.Publish(task->live, at, sequence.pages());
    return;
  }
  if (!tree_.RoomForPoint(task->live, at, role)) return;
  engine_->Settle(&sequence);
  if (options_.fault == SchedulerFault::kFreezeLate) {
    task->frozen_late = at;
    return;
  }
  if (!engine_->TakeNextSlot(&sequence)) return;
  const bool early = options_.fault == SchedulerFault::kTapTooEarly && at > 1;
  tree_.AddSnapshot(task->live, early ? at - 1 : at, sequence.slot(), role, sequence.pages());
}

// Chooses the next token. False: the request has ended.
bool Scheduler::Draw(Task* task, const float* logits, const Emit& emit) {
  const Request& request = task->request;
  if (options_.on_logits) {
    options_.on_logits(task->id, static_cast<int64_t>(task->tokens.size()),
                       {logits, static_cast<size_t>(engine_->vocabulary())});
  }
  if (request.tokens_max == task->answer) {
    Finish(task, StopReason::kLength, emit);
    return false;
  }
  SampleInputs inputs;
  if (UsesHistory(request.sampling)) {
    inputs.history = {task->tokens, task->tokens.size() - static_cast<size_t>(task->answer)};
  }
  const SamplingOptions* sampling = &request.sampling;
  SamplingOptions faulty;
  if (options_.fault == SchedulerFault::kSeedBySlot) {
    faulty = request.sampling;
    faulty.seed += task->sequence->slot();
    sampling = &faulty;
  }
  const auto sampled =
      sampler_.Sample({logits, static_cast<size_t>(engine_->vocabulary())}, *sampling,
                      static_cast<uint64_t>(task->tokens.size()), inputs);
  if (!sampled.ok()) {
    Fail(task, sampled.error(), emit);
    return false;
  }
  if (std::find(request.stop_ids.begin(), request.stop_ids.end(), sampled->token) !=
      request.stop_ids.end()) {
    Finish(task, StopReason::kStopToken, emit);
    return false;
  }
  task->tokens.push_back(sampled->token);
  ++task->answer;
  emit({.kind = Event::Kind::kToken,
        .request = task->id,
        .tokens = static_cast<int64_t>(task->tokens.size()),
        .sampled = *sampled});
  if (request.tokens_max == task->answer) {  // its logits would not be looked at
    Finish(task, StopReason::kLength, emit);
    return false;
  }
  return true;
}

// The live sequence becomes a snapshot and goes.
void Scheduler::End(Task* task, FinishReason reason) {
  if (task->sequence && task->position() > 0) {
    Sequence& sequence = *task->sequence;
    engine_->Settle(&sequence);
    if (!engine_->has_slots()) {
      tree_.Publish(task->live, task->position(), sequence.pages());
    } else if (sequence.slot() != kNoFrame && task->position() <= tree_.tokens(task->live)) {
      tree_.AddSnapshot(task->live, task->position(), sequence.slot(), PointRole::kEnd,
                        sequence.pages());
    }
  }
  tree_.Finish(task->live, reason);
  task->live = kNone;
  task->sequence.reset();
}

void Scheduler::Finish(Task* task, StopReason stop, const Emit& emit) {
  const auto tokens = static_cast<int64_t>(task->tokens.size());
  drain_.Ended(options_.milliseconds());
  End(task, stop == StopReason::kCancelled    ? FinishReason::kCancelled
            : stop == StopReason::kStopToken ? FinishReason::kStop
                                             : FinishReason::kLength);
  task->done = true;
  emit({.kind = Event::Kind::kFinished, .request = task->id, .tokens = tokens, .stop = stop});
}

void Scheduler::Fail(Task* task, const Error& error, const Emit& emit) {
  const Error kept = error;
  End(task, FinishReason::kCancelled);
  task->done = true;
  emit({.kind = Event::Kind::kFailed, .request = task->id, .error = &kept});
}

void Scheduler::Sweep() {
  std::erase_if(running_, [](const auto& task) { return task->done; });
}

bool Scheduler::Step(const std::function<void(const Event&)>& on_event) {
  const StackMemory::Scope scope(&memory_);
  for (auto& task : running_) {
    if (task->cancelled && !task->done) Finish(task.get(), StopReason::kCancelled, on_event);
  }
  Sweep();
  tree_.SetNow(options_.milliseconds() * 1e-3);
  promotions_.Poll();
  AdmitWaiting(on_event);
  while (running_.empty() && promotions_.any()) {  // all wait for the disk
    promotions_.Wait();
    promotions_.Poll();
    AdmitWaiting(on_event);
  }
  if (running_.empty()) {
    LODE_CHECK(queue_.empty());  // whoever is parked waits for one that runs
    return false;
  }
  Build();
  Run(on_event);
  fair_.Settle(denied_);
  Sweep();
  return true;
}

}  // namespace lode::runtime
