// A constraint for tests: a random automaton over token ids. Of its states some force a token, some
// allow a few or half of all, and some let the answer end.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "runtime/sampling/constraint.h"

namespace lode::runtime {

class Automaton : public Constraint {
 public:
  static constexpr int32_t kStop = 1;  // where the answer may end

  Automaton(uint32_t seed, int64_t vocabulary) : vocabulary_(vocabulary) {
    std::mt19937 random(seed);
    const auto any = [&] { return static_cast<int32_t>(random() % vocabulary); };
    for (uint32_t i = 0; i < kStates; ++i) {
      TokenMask mask(vocabulary);
      switch (i == 0 ? 2 : random() % 4) {  // there is a choice at the start
        case 0:
        case 1:
          mask.Allow(2 + any() % static_cast<int32_t>(vocabulary - 2));
          break;
        case 2:
          for (int n = 0; n < 4; ++n) mask.Allow(any());
          if (i > 0) mask.Allow(kStop);
          break;
        default:
          for (int64_t n = 0; n < vocabulary / 2; ++n) mask.Allow(any());
          mask.Allow(kStop);
      }
      masks_.push_back(mask);
    }
  }

  ConstraintState Start() const override { return {}; }
  void Prefetch(ConstraintState) override { ++prefetched; }
  void Mask(ConstraintState state, TokenMask* mask) override {
    ++computed;
    *mask = masks_[state.bits[0]];
  }
  Result<ConstraintState> Advance(ConstraintState state, int32_t token) override {
    if (token < 0 || token >= vocabulary_ || !masks_[state.bits[0]].allowed(token)) {
      return Error(Code::kBadInput, "token " + std::to_string(token) + " does not follow here");
    }
    const uint64_t pair = state.bits[0] * 1000003 + static_cast<uint64_t>(token);
    const uint64_t mixed = pair * 0x9e3779b97f4a7c15;
    return ConstraintState{{(mixed >> 40) % kStates, state.bits[1] + 1}};
  }
  // What an answer may go on with, stop ids after `tokens_min` only (unless nothing else may come);
  // nothing when it does not allow the answer.
  std::optional<TokenMask> MaskAfter(const std::vector<int32_t>& answer, int64_t tokens_min) {
    ConstraintState state = Start();
    for (const int32_t token : answer) {
      const auto next = Advance(state, token);
      if (!next.ok()) return std::nullopt;
      state = *next;
    }
    TokenMask without = masks_[state.bits[0]];
    without.Forbid(kStop);
    const bool early = std::ssize(answer) < tokens_min && without.count() > 0;
    return early ? without : masks_[state.bits[0]];
  }

  int64_t computed = 0, prefetched = 0;  // masks

 private:
  static constexpr uint32_t kStates = 24;
  int64_t vocabulary_;
  std::vector<TokenMask> masks_;
};

}  // namespace lode::runtime
