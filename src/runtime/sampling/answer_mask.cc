#include "runtime/sampling/answer_mask.h"

#include <algorithm>

#include "base/check.h"

namespace lode::runtime {

AnswerMask::AnswerMask(const AnswerRules& rules, int64_t vocabulary, int64_t ahead_max)
    : rules_(rules), unstopped_(vocabulary, true) {
  for (const int32_t stop : rules.stop_ids) {
    if (stop >= 0 && stop < vocabulary) unstopped_.Forbid(stop);
  }
  if (rules.constraint == nullptr) return;
  places_.resize(static_cast<size_t>(ahead_max) + 1, Place{{}, -1, false, TokenMask(vocabulary)});
  Set(&places_[0], rules.constraint->Start());
}

void AnswerMask::Set(Place* place, ConstraintState state) {
  place->state = state;
  place->token = -1;
  place->masked = false;
  rules_.constraint->Prefetch(state);
}

bool AnswerMask::IsStop(int32_t token) const {
  return std::find(rules_.stop_ids.begin(), rules_.stop_ids.end(), token) != rules_.stop_ids.end();
}

const TokenMask* AnswerMask::At(int64_t ahead) {
  if (rules_.constraint == nullptr) return MayStop(ahead) ? nullptr : &unstopped_;
  LODE_CHECK(ahead < known_);
  Place& place = PlaceAt(ahead);
  if (place.masked) return &place.mask;
  place.masked = true;
  rules_.constraint->Mask(place.state, &place.mask);
  if (MayStop(ahead)) return &place.mask;
  place.mask.Intersect(unstopped_);
  // An answer that is complete ends, however short it is.
  if (place.mask.count() == 0) rules_.constraint->Mask(place.state, &place.mask);
  return &place.mask;
}

int32_t AnswerMask::Forced(int64_t ahead) {
  const TokenMask* mask = At(ahead);
  const int32_t token = mask == nullptr ? -1 : mask->only();
  return IsStop(token) ? -1 : token;
}

bool AnswerMask::Try(int64_t ahead, int32_t token) {
  if (rules_.constraint == nullptr) return MayStop(ahead) || !IsStop(token);
  LODE_CHECK(ahead < known_);
  LODE_CHECK(ahead + 1 < std::ssize(places_));
  Place& place = PlaceAt(ahead);
  if (ahead + 1 < known_ && place.token == token) return true;
  known_ = ahead + 1;
  if (place.masked && !place.mask.allowed(token)) return false;
  const auto next = rules_.constraint->Advance(place.state, token);
  if (!next.ok()) return false;
  place.token = token;
  Set(&PlaceAt(ahead + 1), *next);
  ++known_;
  return true;
}

Result<void> AnswerMask::Take(int32_t token) {
  ++taken_;
  if (rules_.constraint == nullptr) return {};
  Place& place = PlaceAt(0);
  if (known_ > 1 && place.token == token) {
    first_ = (first_ + 1) % places_.size();
    --known_;
    return {};
  }
  known_ = 1;
  LODE_ASSIGN(const ConstraintState next, rules_.constraint->Advance(place.state, token));
  Set(&place, next);
  return {};
}

}  // namespace lode::runtime
