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
  int64_t progress() const { return position() - stay_from; }
  // Only its newest tokens are to run; else it is (again) at its prompt.
  bool answering() const { return answer > 0 && left() == pending; }
};

}  // namespace lode::runtime
