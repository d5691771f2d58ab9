// A request that waits or runs: what the files of the scheduler share, and nobody else sees.
#pragma once

#include <memory>
#include <optional>
#include <vector>

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
  std::vector<Token> drafts;    // guesses that the next step tries
  std::vector<Token> trial;     // the newest token and these
  std::unique_ptr<Drafter> drafter;
  std::optional<DraftLength> length;
  bool cancelled = false;
  bool done = false;

  int64_t position() const { return sequence->tokens(); }
  int64_t left() const { return static_cast<int64_t>(tokens.size()) - position(); }
  int64_t progress() const { return position() - stay_from; }
  // Only its newest token is to run; else it is (again) at its prompt.
  bool answering() const { return answer > 0 && left() == 1; }
};

}  // namespace lode::runtime
