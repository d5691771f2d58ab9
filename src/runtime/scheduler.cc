#include "runtime/scheduler.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace lode::runtime {
namespace {

constexpr int64_t kRowsMin = 32;  // fewer rows of a prompt only waste the weights they read
// Until steps were measured.
constexpr int64_t kRowsGuess = 64;

double SystemMilliseconds() {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  return Milliseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TreeOptions TreeOptionsFor(const Engine& engine, TreeOptions options) {
  options.recurrent = engine.has_slots();
  options.tap_grid = 1;
  options.hidden_rows = false;
  return options;
}

}  // namespace

struct Scheduler::Task {
  RequestId id = 0;
  Request request;
  std::vector<Token> tokens;    // prompt and answer
  int64_t answer = 0;           // of these, the answer's
  LiveId live = kNone;
  std::optional<Sequence> sequence;
  int64_t rows = 0;             // of the step at hand
  // Newest tokens that no step has made the sequence's own; one, unless guesses fell.
  int64_t pending = 1;
  std::vector<Token> drafts;    // of the step at hand
  std::vector<Token> trial;     // the pending tokens and these
  std::unique_ptr<Drafter> drafter;
  std::optional<DraftLength> length;
  bool cancelled = false;
  bool done = false;

  int64_t position() const { return sequence->tokens(); }
  int64_t left() const { return static_cast<int64_t>(tokens.size()) - position(); }
  // Only its newest tokens are to run; else it is (again) at its prompt.
  bool answering() const { return answer > 0 && left() == pending; }
};

Scheduler::Scheduler(Engine* engine, const SchedulerOptions& options)
    : engine_(engine),
      options_(options),
      tree_(&engine->frames(), TreeOptionsFor(*engine, options.tree)),
      sampler_(engine->vocabulary()),
      cost_(engine->rows_max()),
      logits_(static_cast<size_t>(options.running_max * (1 + options.drafts_max) *
                                  engine->vocabulary())) {
  if (!options_.milliseconds) options_.milliseconds = SystemMilliseconds;
  const auto tenant = tree_.AddTenant({});
  LODE_CHECK(tenant.ok());
  const auto root = tree_.OpenRoot(*tenant, RootKey{});
  LODE_CHECK(root.ok());
  default_root_ = *root;
}

Scheduler::~Scheduler() {
  for (auto& task : running_) End(task.get(), FinishReason::kCancelled);
  for (auto& task : queue_) tree_.Finish(task->live, FinishReason::kCancelled);
}

// --- Admission -----------------------------------------------------------------------------------

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

// --- A step --------------------------------------------------------------------------------------

// Rows of prompts that may run beside so many answers.
int64_t Scheduler::PromptRows(int64_t answers) const {
  const int64_t most = engine_->rows_max() - answers;
  if (answers == 0) return most;
  int64_t rows = std::min(kRowsGuess, most);
  if (cost_.rows_measured() > kRowsMin) {
    rows = std::min(most, kRowsMin);
    while (rows * 2 <= most &&
           cost_.Milliseconds(rows * 2 + answers) <= options_.stall_milliseconds) {
      rows *= 2;
    }
  }
  return std::max<int64_t>(rows, 0);
}

// How many rows each running request has in this step: answers first, then prompts as they came.
void Scheduler::Build() {
  int64_t answers = 0;
  for (auto& task : running_) {
    task->rows = 0;
    task->drafts.clear();
    if (!task->answering() || answers + task->pending > engine_->rows_max()) continue;
    if (task->drafter && !task->cancelled) Guess(task.get());
    if (answers + task->pending + std::ssize(task->drafts) > engine_->rows_max()) {
      task->drafts.clear();
    }
    task->rows = task->pending + std::ssize(task->drafts);
    answers += task->rows;
  }
  int64_t room = PromptRows(answers);
  for (auto& task : running_) {
    if (task->answering() || room == 0) continue;
    int64_t rows = std::min(room, task->left());
    if (options_.chunk_rows > 0) rows = std::min(rows, options_.chunk_rows);
    if (const auto tap = tree_.NextTap(task->live, task->position())) {
      rows = std::min(rows, tap->offset - task->position());
    }
    task->rows = rows;
    room -= rows;
  }
}

// Fills the drafts of an answer's next step.
void Scheduler::Guess(Task* task) {
  int64_t count = options_.drafts_fixed;
  if (count < 0) count = task->length->Choose(cost_, {static_cast<int64_t>(running_.size()) - 1});
  count = std::min(count, options_.drafts_max);
  if (task->request.tokens_max >= 0) {  // the step draws one token more than it has drafts
    count = std::min(count, task->request.tokens_max - task->answer - 1);
  }
  // Rows that run again and again are a loss; then they are made its own first.
  if (task->pending > options_.drafts_max) count = 0;
  if (engine_->TooLong(task->position() + task->pending + count)) count = 0;
  if (count <= 0) return;
  task->drafts.resize(static_cast<size_t>(count));
  task->drafts.resize(static_cast<size_t>(task->drafter->Propose(task->tokens, task->drafts)));
  for (size_t i = 0; i < task->drafts.size(); ++i) {
    if (task->drafts[i] < 0 || task->drafts[i] >= engine_->vocabulary()) task->drafts.resize(i);
  }
}

// Takes the frames for a task's rows; evicts, then preempts the youngest. False: the task itself had
// to go.
bool Scheduler::ReserveFor(Task* task, int64_t rows, const Emit& emit) {
  while (true) {
    const bool trial = !task->drafts.empty();
    const auto reserved = engine_->Reserve(&*task->sequence, rows, trial);
    if (reserved.ok()) return true;
    const int64_t pages = std::max<int64_t>(0, engine_->PagesToReserve(*task->sequence, rows));
    if (!engine_->TooLong(task->position() + rows) &&
        tree_.MakeRoom(task->request.root, pages, engine_->has_slots() ? 1 : 0).ok() &&
        engine_->Reserve(&*task->sequence, rows, trial).ok()) {
      return true;
    }
    if (trial) {  // guesses are worth nobody's place
      rows -= std::ssize(task->drafts);
      task->rows = rows;
      task->drafts.clear();
      continue;
    }
    Task* victim = engine_->TooLong(task->position() + rows) ? nullptr : Victim(task);
    if (victim == nullptr) {
      const bool alone = std::none_of(running_.begin(), running_.end(), [&](const auto& other) {
        return other.get() != task && !other->done;
      });
      if (!alone && !engine_->TooLong(task->position() + rows)) {
        Preempt(task);  // it is the youngest: those before it finish first
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

Scheduler::Task* Scheduler::Victim(const Task* asking) {
  for (size_t i = running_.size(); i > 0; --i) {
    Task* task = running_[i - 1].get();
    if (task == asking) return nullptr;  // it is the youngest: those before it may finish
    if (!task->done && task->sequence) return task;
  }
  return nullptr;
}

// Its state stays as a snapshot as long as there is room; it comes back as any other request.
void Scheduler::Preempt(Task* task) {
  ++preemptions_;
  End(task, FinishReason::kPreempted);
  task->rows = 0;
  task->pending = 1;
  const auto at = std::find_if(running_.begin(), running_.end(),
                               [&](const auto& other) { return other.get() == task; });
  Announce(task);
  queue_.push_front(std::move(*at));
  running_.erase(at);
}

void Scheduler::Run(const Emit& emit) {
  // Whoever is preempted leaves running_: those behind the one that asks, or itself.
  for (size_t i = 0; i < running_.size();) {
    Task* task = running_[i].get();
    if (task->rows > 0 && !task->done) ReserveFor(task, task->rows, emit);
    if (i < running_.size() && running_[i].get() == task) ++i;
  }
  std::vector<StepItem> items;
  Tasks::size_type logit_rows = 0;
  int64_t rows = 0;
  std::vector<Task*> tasks;
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
  const auto stepped = engine_->Step(items, logit_rows > 0 ? logits_.data() : nullptr);
  LODE_CHECK(stepped.ok());  // everything it needs was reserved and checked
  cost_.Observe(rows, options_.milliseconds() - start);
  const float* logits = logits_.data();
  for (Task* task : tasks) logits = Commit(task, task->rows, logits, emit);
}

// What a step of so many rows means for a task. `logits` are those of its first row that has some;
// returns where they end.
const float* Scheduler::Commit(Task* task, int64_t rows, const float* logits, const Emit& emit) {
  const int64_t drafts = std::ssize(task->drafts);
  if (drafts == 0) {
    const bool last = task->left() == 0;
    if (last) task->pending = 0;
    Moved(task, rows, emit);
    if (task->cancelled) {
      Finish(task, StopReason::kCancelled, emit);
    } else if (last && Draw(task, logits, emit)) {
      task->pending = 1;
    }
    return last ? logits + engine_->vocabulary() : logits;
  }
  // A trial: token after token for as long as each is the one that was guessed.
  const float* const end = logits + (1 + drafts) * engine_->vocabulary();
  drafted_ += drafts;
  int64_t stand = 0;
  while (true) {
    if (!Draw(task, logits + stand * engine_->vocabulary(), emit)) return end;
    ++task->pending;
    if (stand == drafts || task->tokens.back() != task->drafts[static_cast<size_t>(stand)]) break;
    ++stand;
  }
  accepted_ += stand;
  task->length->Observe(drafts, stand);
  task->drafter->Observe(drafts, stand);
  if (stand == drafts) {  // all its rows are true
    engine_->Keep(&*task->sequence, rows);
    task->pending = 1;
    Moved(task, rows, emit);
  }
  return end;
}

// The sequence has come further, by so many rows.
void Scheduler::Moved(Task* task, int64_t rows, const Emit& emit) {
  const int64_t position = task->position();
  const int64_t prompt = static_cast<int64_t>(task->tokens.size()) - task->answer;
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
  if (!tree_.RoomForPoint(task->live, at, role) || !engine_->TakeNextSlot(&sequence)) return;
  tree_.AddSnapshot(task->live, at, sequence.slot(), role, sequence.pages());
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
  const auto sampled =
      sampler_.Sample({logits, static_cast<size_t>(engine_->vocabulary())}, request.sampling,
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
  for (auto& task : running_) {
    if (task->cancelled && !task->done) Finish(task.get(), StopReason::kCancelled, on_event);
  }
  Sweep();
  tree_.SetNow(options_.milliseconds() * 1e-3);
  AdmitWaiting(on_event);
  if (running_.empty()) {
    LODE_CHECK(queue_.empty());  // whoever is parked waits for one that runs
    return false;
  }
  Build();
  Run(on_event);
  Sweep();
  return true;
}

}  // namespace lode::runtime
