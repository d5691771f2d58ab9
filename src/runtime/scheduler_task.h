// A request that waits or runs: what the files of the scheduler share, and nobody else sees.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/sampling/answer_mask.h"
#include "runtime/scheduler.h"

namespace lode::runtime {

struct Scheduler::Task {
  RequestId id = 0;  // ascending as they came
  Request request;
  TenantId tenant = 0;
  std::vector<Token> tokens;    // prompt and answer
  int64_t answer = 0;           // of these, the answer's
  LiveId live = kNone;
  std::optional<Sequence> sequence;
  int64_t rows = 0;             // of the step at hand
  int64_t passed_over = 0;      // steps in a row that had no row for it
  int64_t stay_from = 0;        // where it was when it got its place
  int64_t stays = 0;            // how often it got one
  int64_t frozen_late = 0;      // SchedulerFault::kFreezeLate
  int64_t first_row = 0;        // of the step at hand, in the batch
  int64_t step_begin = 0;       // where it was before
  bool in_step = false;         // the step's rows after the final norm are at hand
  int64_t hidden_at = -1;       // the position whose row lies beside its state
  int64_t judged = 1;           // of the prompt, tokens whose log-probability was said
  int64_t pooled = 0;           // of the prompt, tokens whose row is in the sums
  std::vector<double> sums;     // [D]
  std::vector<Token> drafts;    // guesses that the next step tries
  int64_t forced = 0;           // of these, the first ones that the constraint forces
  std::vector<Token> trial;     // the newest token and these
  std::unique_ptr<Drafter> drafter;
  std::optional<DraftLength> length;
  std::optional<AnswerMask> mask;  // where not every token may come
  bool cancelled = false;
  bool done = false;

  int64_t position() const { return sequence->tokens(); }
  int64_t left() const { return static_cast<int64_t>(tokens.size()) - position(); }
  int64_t progress() const { return position() - stay_from; }
  bool IsStop(Token token) const {
    const auto& stops = request.stop_ids;
    return std::find(stops.begin(), stops.end(), token) != stops.end();
  }
  // Only its newest token is to run; else it is (again) at its prompt.
  bool answering() const { return answer > 0 && left() == 1; }
};

}  // namespace lode::runtime
