// Whose rows run in a step, and who gives way when there is no room.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "runtime/scheduler.h"
#include "runtime/scheduler_task.h"

namespace lode::runtime {
namespace {

constexpr int64_t kRowsMin = 32;  // fewer rows of a prompt only waste the weights they read
// Until steps were measured.
constexpr int64_t kRowsGuess = 64;

}  // namespace

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

// Rows of answers, of as many as there is room for; who had none for longest comes first.
int64_t Scheduler::BuildAnswers() {
  std::pmr::vector<Task*> order(&memory_);
  bool prompts = false, aged = false;
  for (auto& task : running_) {
    task->rows = 0;
    if (task->answering()) {
      order.push_back(task.get());
    } else {
      prompts = true;
      aged |= task->passed_over >= options_.aged_steps;
    }
  }
  std::sort(order.begin(), order.end(), [](const Task* a, const Task* b) {
    return a->passed_over != b->passed_over ? a->passed_over > b->passed_over : a->id < b->id;
  });
  // Where answers could fill all of a step, prompts have a part of it.
  int64_t most = engine_->rows_max();
  if (prompts) most -= std::max<int64_t>(std::min(kRowsMin, most / 4), aged ? 1 : 0);
  int64_t answers = 0;
  for (Task* task : order) {
    if (answers == most) break;
    if (task->drafter) Guess(task);
    if (answers + 1 + std::ssize(task->drafts) > most || task->cancelled) task->drafts.clear();
    task->rows = 1 + std::ssize(task->drafts);
    answers += task->rows;
  }
  return answers;
}

// Up to the next place where its state is frozen.
int64_t Scheduler::NextRows(const Task& task) const {
  int64_t rows = task.left();
  if (options_.chunk_rows > 0) rows = std::min(rows, options_.chunk_rows);
  if (const auto tap = tree_.NextTap(task.live, task.position())) {
    rows = std::min(rows, tap->offset - task.position());
  }
  return rows;
}

// How many rows each running request has in this step: answers first, then prompts by whose turn it
// is.
void Scheduler::Build() {
  if (nobody_ran_) return BuildEldest();
  const int64_t room = PromptRows(BuildAnswers());
  std::pmr::vector<RowWish> wishes(&memory_);
  std::pmr::vector<Task*> prompts(&memory_);
  for (auto& task : running_) {
    if (task->answering()) continue;
    wishes.push_back(
        {task->tenant, task->request.priority, task->id, NextRows(*task), task->passed_over});
    prompts.push_back(task.get());
  }
  RowShareOptions share;
  share.rows = room;
  share.portion = options_.portion_rows;
  share.aged = options_.aged_steps;
  if (room > 0 && cost_.rows_measured() > 0) {
    share.row_milliseconds = cost_.Milliseconds(room) / static_cast<double>(room);
  }
  const std::vector<int64_t> rows = ShareRows(fair_, wishes, share);
  for (size_t i = 0; i < prompts.size(); ++i) {
    prompts[i]->rows = rows[i];
    if (rows[i] < wishes[i].rows) denied_[prompts[i]->tenant] = 1;
  }
  for (auto& task : running_) {
    if (task->rows == 0) denied_[task->tenant] = 1;
  }
}

// After a step in which nobody found room: those whose turn it is wait for one another, and would
// again. The eldest alone asks, for it gets what it needs from everybody.
void Scheduler::BuildEldest() {
  const Task* eldest = Eldest();
  for (auto& task : running_) {
    task->rows = 0;
    task->drafts.clear();
    if (task.get() != eldest) continue;
    task->rows = std::min(NextRows(*task), engine_->rows_max());
  }
}

// Which of two gives up its place: the lower priority, then of the tenant that has more memory than
// its share, then who loses least, then who came later.
bool Scheduler::GivesWayBefore(const Task& a, const Task& b) const {
  if (a.request.priority != b.request.priority) return a.request.priority < b.request.priority;
  const auto over = [&](const Task& task) {
    return static_cast<double>(tree_.used_bytes(task.tenant)) /
           static_cast<double>(tree_.share_bytes(task.tenant));
  };
  if (a.tenant != b.tenant && over(a) != over(b)) return over(a) > over(b);
  if (a.progress() != b.progress()) return a.progress() < b.progress();
  return a.id > b.id;
}

// Who gives way to the one that asks; null: nobody. The eldest never does, and asks of everybody.
Scheduler::Task* Scheduler::Victim(const Task* asking) {
  const Task* eldest = Eldest();
  Task* victim = nullptr;
  for (const auto& task : running_) {
    if (task->done || task.get() == asking || task.get() == eldest) continue;
    if (asking != eldest && task->progress() < options_.progress_min) continue;
    if (victim == nullptr || GivesWayBefore(*task, *victim)) victim = task.get();
  }
  if (victim != nullptr && asking != eldest && GivesWayBefore(*asking, *victim)) return nullptr;
  return victim;
}

// Everybody pays for its rows of a step, as predicted: what a step took by chance is nobody's
// doing.
void Scheduler::Account(std::span<Task* const> tasks, int64_t rows) {
  const double step = cost_.Milliseconds(rows);  // 0: the clock has not moved yet
  const double row = step > 0.0 ? step / static_cast<double>(rows) : 1.0;
  for (const Task* task : tasks) {
    fair_.Charge(task->tenant, static_cast<double>(task->rows) * row);
  }
}

}  // namespace lode::runtime
