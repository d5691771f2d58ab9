// Which tokens may come next in an answer: those that its constraint allows, stop ids only after so
// many tokens. Guesses lead to places ahead of the answer, each with a mask of its own; a mask is
// computed once, when it is first asked for, and places behind a guess that did not stand are
// forgotten.
//
// Masks are computed by whoever asks. What may be computed elsewhere meanwhile: see
// Constraint::Prefetch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "runtime/sampling/constraint.h"

namespace lode::runtime {

struct AnswerRules {
  Constraint* constraint = nullptr;       // null: none
  std::span<const int32_t> stop_ids = {};
  int64_t tokens_min = 0;  // of the answer, before a stop id may come (unless nothing else may)
};

// Life: constraint and stop ids outlive it; one for each answer, from its first token on. It takes
// its memory at the start. Threads: one owner.
class AnswerMask {
 public:
  // For guesses up to `ahead_max` tokens ahead.
  AnswerMask(const AnswerRules& rules, int64_t vocabulary, int64_t ahead_max);

  // What may come `ahead` tokens behind the answer so far (0: next), where Try has led. Null:
  // everything may.
  const TokenMask* At(int64_t ahead);
  // The only token that may come there; -1: there are none or several, or it ends the answer.
  int32_t Forced(int64_t ahead);
  // That `token` comes there: At(ahead + 1) is what may follow then. False: it may not come, or the
  // constraint can follow it no further. What was tried from `ahead` on before is forgotten.
  bool Try(int64_t ahead, int32_t token);
  // The answer has `token` from now on. Errors: those of Constraint::Advance.
  Result<void> Take(int32_t token);

 private:
  struct Place {
    ConstraintState state;
    int32_t token = -1;   // that leads to the next place, once that is there
    bool masked = false;  // `mask` is that of `state`
    TokenMask mask;
  };
  Place& PlaceAt(int64_t ahead) {
    return places_[(first_ + static_cast<size_t>(ahead)) % places_.size()];
  }
  void Set(Place* place, ConstraintState state);
  bool IsStop(int32_t token) const;
  bool MayStop(int64_t ahead) const { return taken_ + ahead >= rules_.tokens_min; }

  AnswerRules rules_;
  int64_t taken_ = 0;          // tokens of the answer
  TokenMask unstopped_;        // all but the stop ids
  std::vector<Place> places_;  // a ring; the answer's own is the first
  size_t first_ = 0;
  int64_t known_ = 1;          // places that are there
};

}  // namespace lode::runtime
