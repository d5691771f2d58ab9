// What is made of rows after the final norm besides answers: first tokens of texts that are known
// to their end, log-probabilities of prompts, and means over them.
#include <algorithm>
#include <limits>

#include "runtime/scheduler.h"
#include "runtime/scheduler_task.h"

namespace lode::runtime {
namespace {

// Rows of logits at once, for a prompt: enough that reading the head's weights is not what takes
// the time, few enough that they are a small part of what a model takes (16 MiB of 131,072 tokens).
constexpr int64_t kPromptLogitRows = 32;

}  // namespace

// Tokens of its text that may be reused: those whose rows are still to be looked at may not.
int64_t Scheduler::ReuseMax(const Task& task) {
  const Request& request = task.request;
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  int64_t most = std::numeric_limits<int64_t>::max();
  if (request.prompt_logprobs >= 0 && task.judged < prompt) most = task.judged - 1;
  if (request.pool_hidden && task.pooled < prompt) most = std::min(most, task.pooled);
  return most;
}

// Whoever runs and has no row to compute draws from the row that lies beside its state. Whether
// there was anybody.
bool Scheduler::DrawKnown(const Emit& emit) {
  const int64_t width = engine_->model().spec.width;
  const auto most = static_cast<size_t>(std::min(engine_->rows_max(), options_.running_max));
  std::pmr::vector<Task*> tasks(&memory_);
  for (auto& task : running_) {
    if (!task->done && task->left() <= 0) tasks.push_back(task.get());
  }
  std::pmr::vector<float> rows(&memory_);
  for (size_t begin = 0; begin < tasks.size(); begin += most) {
    const auto some = std::span<Task* const>(tasks).subspan(begin).first(
        std::min(most, tasks.size() - begin));
    rows.clear();
    for (const Task* task : some) {
      const float* row = engine_->HiddenOf(task->sequence->slot());
      rows.insert(rows.end(), row, row + width);
    }
    engine_->Logits(rows.data(), std::ssize(some), logits_.data());
    for (size_t i = 0; i < some.size(); ++i) {
      const int64_t tokens = some[i]->position();
      emit({.kind = Event::Kind::kProgress, .request = some[i]->id, .tokens = tokens});
      Draw(some[i], logits_.data() + static_cast<int64_t>(i) * engine_->vocabulary(), emit);
    }
  }
  return !tasks.empty();
}

// What somebody wants to know of a step's rows of a prompt.
void Scheduler::LookAt(Task* task, const Emit& emit) {
  if (task->request.prompt_logprobs >= 0) Judge(task, emit);
  if (task->request.pool_hidden) Pool(task, emit);
}

void Scheduler::Judge(Task* task, const Emit& emit) {
  const std::vector<Token>& prompt = task->request.prompt;
  const int64_t width = engine_->model().spec.width, vocabulary = engine_->vocabulary();
  const int64_t end = std::min(task->position(), std::ssize(prompt) - 1);  // of rows
  const int64_t most = std::min(kPromptLogitRows, engine_->rows_max());
  prompt_logits_.resize(static_cast<size_t>(most * vocabulary));
  for (int64_t row = std::max(task->step_begin, task->judged - 1); row < end;) {
    const int64_t count = std::min(most, end - row);
    const int64_t in_step = task->first_row + row - task->step_begin;
    engine_->Logits(engine_->hidden() + in_step * width, count, prompt_logits_.data());
    for (int64_t i = 0; i < count; ++i, ++row) {
      const std::span<const float> logits(prompt_logits_.data() + i * vocabulary,
                                          static_cast<size_t>(vocabulary));
      emit({.kind = Event::Kind::kPromptToken,
            .request = task->id,
            .tokens = row + 1,
            .sampled = sampler_.Judge(logits, prompt[static_cast<size_t>(row + 1)],
                                      task->request.prompt_logprobs)});
    }
    task->judged = row + 1;
  }
}

// In order of the tokens, so that chunks do not show.
void Scheduler::Pool(Task* task, const Emit& emit) {
  const int64_t width = engine_->model().spec.width;
  const auto prompt = static_cast<int64_t>(task->request.prompt.size());
  const int64_t end = std::min(task->position(), prompt);
  if (task->pooled >= end) return;
  task->sums.resize(static_cast<size_t>(width));
  for (; task->pooled < end; ++task->pooled) {
    const int64_t row = task->first_row + task->pooled - task->step_begin;
    const float* hidden = engine_->hidden() + row * width;
    for (size_t d = 0; d < task->sums.size(); ++d) task->sums[d] += double{hidden[d]};
  }
  if (task->pooled < prompt) return;
  std::vector<float> mean;
  for (const double sum : task->sums) {
    mean.push_back(static_cast<float>(sum / static_cast<double>(prompt)));
  }
  emit({.kind = Event::Kind::kPooled, .request = task->id, .tokens = prompt, .pooled = mean});
}

}  // namespace lode::runtime
