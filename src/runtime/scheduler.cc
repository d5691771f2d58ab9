#include "runtime/scheduler.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "runtime/scheduler_task.h"

namespace lode::runtime {
namespace {

// Ids of ghosts take at most so small a part of the budget, but small budgets remember, too: what
// is computed again shall have its reason.
constexpr uint64_t kGhostShare = 16, kGhostsMin = uint64_t{1} << 18;

double SystemMilliseconds() {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  return Milliseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TreeOptions TreeOptionsFor(Engine& engine, const SchedulerOptions& scheduling) {
  TreeOptions options = scheduling.tree;
  if (scheduling.disk != nullptr) options.demotion = scheduling.disk;
  options.recurrent = engine.has_slots();
  options.tap_grid = 1;
  options.hidden_rows = options.recurrent;
  options.ghost_tokens_max =
      std::min(options.ghost_tokens_max, GhostTokensMax(engine.frames().budget()));
  return options;
}

}  // namespace

int64_t GhostTokensMax(uint64_t budget) {
  return static_cast<int64_t>(std::max(kGhostsMin, budget / kGhostShare / sizeof(Token)));
}

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

void Scheduler::Run(const Emit& emit) {
  // The eldest first; whoever is preempted leaves running_.
  std::pmr::vector<Task*> order(&memory_);
  for (auto& task : running_) order.push_back(task.get());
  std::sort(order.begin(), order.end(), [](const Task* a, const Task* b) { return a->id < b->id; });
  for (Task* task : order) {
    if (task->rows > 0 && !task->done) ReserveFor(task, emit);
  }
  for (auto& task : running_) task->passed_over = task->rows > 0 ? 0 : task->passed_over + 1;
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
    task->in_step = true;
    const bool last = task->rows - drafts == task->left();
    item.want = last ? StepItem::Want::kLast : StepItem::Want::kNone;
    item.last = 1 + drafts;
    logit_rows += last ? static_cast<size_t>(1 + drafts) : 0;
    rows += task->rows;
    items.push_back(item);
    tasks.push_back(task.get());
  }
  nobody_ran_ = items.empty();
  if (nobody_ran_) return;
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
  for (Task* task : tasks) {
    LookAt(task, emit);
    logits = Commit(task, task->rows, logits, emit);
    task->in_step = false;
  }
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
  Guessed(task, drafts, stand);
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
      tree_.Append(task->live,
                   std::span<const Token>(task->tokens)
                       .subspan(static_cast<size_t>(begin), static_cast<size_t>(position - begin)));
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
  const bool hidden = KeepHidden(task);
  if (options_.fault == SchedulerFault::kFreezeLate) {
    task->frozen_late = at;
    return;
  }
  if (!engine_->TakeNextSlot(&sequence)) return;
  const bool early = options_.fault == SchedulerFault::kTapTooEarly && at > 1;
  tree_.AddSnapshot(task->live, early ? at - 1 : at, sequence.slot(), role, sequence.pages(),
                    hidden);
}

// The row after the last token goes beside the state. False: it is not at hand.
bool Scheduler::KeepHidden(Task* task) {
  const int64_t at = task->position();
  if (task->hidden_at == at || !task->in_step) return task->hidden_at == at;
  const int64_t width = engine_->model().spec.width;
  int64_t row = task->first_row + at - task->step_begin - 1;
  if (options_.fault == SchedulerFault::kHiddenOfAnother) row = std::max<int64_t>(0, row - 1);
  std::copy_n(engine_->hidden() + row * width, width, engine_->HiddenOf(task->sequence->slot()));
  task->hidden_at = at;
  return true;
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
  if (task->mask) inputs.mask = task->mask->At(0);
  const auto sampled =
      sampler_.Sample({logits, static_cast<size_t>(engine_->vocabulary())}, *sampling,
                      static_cast<uint64_t>(task->tokens.size()), inputs);
  if (!sampled.ok()) {
    Fail(task, sampled.error(), emit);
    return false;
  }
  if (task->IsStop(sampled->token)) {
    Finish(task, StopReason::kStopToken, emit, *sampled);
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
  if (!task->mask) return true;
  if (options_.fault == SchedulerFault::kSkipToken && task->answer % 3 == 0) return true;
  const auto taken = task->mask->Take(task->tokens.back());
  if (!taken.ok()) Fail(task, taken.error(), emit);
  return taken.ok();
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
                        sequence.pages(), KeepHidden(task));
    }
  }
  tree_.Finish(task->live, reason);
  task->live = kNone;
  task->sequence.reset();
}

void Scheduler::Finish(Task* task, StopReason stop, const Emit& emit, const Sampled& sampled) {
  const auto tokens = static_cast<int64_t>(task->tokens.size());
  drain_.Ended(options_.milliseconds());
  End(task, stop == StopReason::kCancelled   ? FinishReason::kCancelled
            : stop == StopReason::kStopToken ? FinishReason::kStop
                                             : FinishReason::kLength);
  task->done = true;
  emit({.kind = Event::Kind::kFinished,
        .request = task->id,
        .tokens = tokens,
        .sampled = sampled,
        .stop = stop});
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

// Lets waiting ones in. Those of which all is known have a token then, too. Whether there were any.
bool Scheduler::Admit(const Emit& emit) {
  AdmitWaiting(emit);
  const bool drew = DrawKnown(emit);
  Sweep();
  return drew;
}

bool Scheduler::Step(const std::function<void(const Event&)>& on_event) {
  const StackMemory::Scope scope(&memory_);
  for (auto& task : running_) {
    if (task->cancelled && !task->done) Finish(task.get(), StopReason::kCancelled, on_event);
  }
  Sweep();
  tree_.SetNow(options_.milliseconds() * 1e-3);
  promotions_.Poll();
  bool drew = Admit(on_event);
  while (running_.empty() && promotions_.any()) {  // all wait for the disk
    promotions_.Wait();
    promotions_.Poll();
    drew |= Admit(on_event);
  }
  if (running_.empty()) {
    LODE_CHECK(drew || queue_.empty());  // whoever is parked waits for one that runs
    return drew;
  }
  Build();
  Run(on_event);
  fair_.Settle(denied_);
  Sweep();
  return true;
}

}  // namespace lode::runtime
