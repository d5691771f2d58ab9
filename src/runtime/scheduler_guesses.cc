// What a step tries behind an answer's newest token: tokens that its constraint forces, then those
// that somebody guesses.
#include <algorithm>

#include "runtime/scheduler.h"
#include "runtime/scheduler_task.h"

namespace lode::runtime {

// How many tokens a step of an answer may try at most.
int64_t Scheduler::DraftsMax(const Task& task) const {
  if (!task.length) return 0;
  int64_t count = options_.drafts_max;
  if (task.request.tokens_max >= 0) {  // the step draws one token more than it has drafts
    count = std::min(count, task.request.tokens_max - task.answer - 1);
  }
  const auto tokens = static_cast<int64_t>(task.tokens.size());
  return engine_->TooLong(tokens + count) ? 0 : std::max<int64_t>(0, count);
}

// How many guesses are worth their rows.
int64_t Scheduler::DraftsFor(Task* task) {
  if (!task->length) return 0;
  int64_t count = options_.drafts_fixed;
  if (count < 0) {
    const int64_t others = running() - 1;
    const double each = mtp_ ? mtp_->Milliseconds(running()) : 0.0;
    count = task->length->Choose(cost_, {others, static_cast<double>(others), each});
  }
  return std::min(count, DraftsMax(*task));
}

// Tokens without an alternative cost a row and nothing else: the first drafts, whoever guesses.
void Scheduler::GuessForced(Task* task) {
  task->drafts.clear();
  task->forced = 0;
  if (!task->mask) return;
  const int64_t most = DraftsMax(*task);
  for (int64_t place = 0; place < most; ++place) {
    const Token token = task->mask->Forced(place);
    if (token < 0 || !task->mask->Try(place, token)) break;
    task->drafts.push_back(token);
  }
  task->forced = std::ssize(task->drafts);
}

// Ends the drafts before the first one that cannot stand, or that nothing can follow.
void Scheduler::CutGuesses(Task* task) {
  for (int64_t i = task->forced; i < std::ssize(task->drafts); ++i) {
    const Token draft = task->drafts[static_cast<size_t>(i)];
    const bool may = draft >= 0 && draft < engine_->vocabulary() && !task->IsStop(draft) &&
                     (!task->mask || task->mask->Try(i, draft));
    if (!may) task->drafts.resize(static_cast<size_t>(i));
  }
}

// Fills the drafts of an answer's next step.
void Scheduler::Guess(Task* task) {
  GuessForced(task);
  const auto forced = static_cast<size_t>(task->forced);
  const int64_t wanted = std::min(DraftsFor(task), DraftsMax(*task) - task->forced);
  if (wanted <= 0) return;
  std::vector<Token>& tokens = task->tokens;
  const size_t known = tokens.size();
  tokens.insert(tokens.end(), task->drafts.begin(), task->drafts.end());
  task->drafts.resize(forced + static_cast<size_t>(wanted));
  const auto guesses = std::span<Token>(task->drafts).subspan(forced);
  const int64_t made = task->drafter->Propose(tokens, guesses);
  tokens.resize(known);
  task->drafts.resize(forced + static_cast<size_t>(made));
  CutGuesses(task);
}

// The model's own head guesses: it sees every row that the step has made a sequence's own, and the
// token that follows.
void Scheduler::GuessAhead(std::span<Task* const> tasks) {
  std::pmr::vector<MtpDrafts::Item> items(&memory_);
  const int64_t width = engine_->model().spec.width;
  for (Task* task : tasks) {
    task->drafts.clear();
    task->forced = 0;
    if (task->done || !task->length) continue;
    int64_t wanted = 0;
    if (task->answering() && !task->cancelled) {
      GuessForced(task);
      wanted = DraftsFor(task);
      // The head's guesses begin with the forced tokens, for they know the mask.
      if (wanted <= task->forced) wanted = 0;
    }
    // Where guesses do not pay, neither do the head's rows of an answer; a prompt's are also for
    // those who go on from it.
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
                     .mask = task->mask ? &*task->mask : nullptr,
                     .drafts = &task->drafts});
  }
  mtp_->Run(items, options_.milliseconds);
  for (Task* task : tasks) {
    task->forced = std::min(task->forced, std::ssize(task->drafts));
    if (!task->done) CutGuesses(task);
  }
}

// What became of a step's drafts. Forced ones say nothing of who guesses, and an answer's end
// nothing of the guesses behind it.
void Scheduler::Guessed(Task* task, int64_t drafts, int64_t stand) {
  drafted_ += drafts;
  accepted_ += stand;
  const int64_t guesses = drafts - task->forced;
  if (task->done || guesses <= 0) return;
  const int64_t stood = std::max<int64_t>(0, stand - task->forced);
  task->length->Observe(guesses, stood);
  if (task->drafter) task->drafter->Observe(guesses, stood);
}

}  // namespace lode::runtime
