// Deterministic automata over bytes, built while they are walked: a state is a term (terms.h) and,
// where characters are counted, the place inside of a character. Transitions say whether a
// character begins ("tick"), so that lengths are counters and never states.
//
// Every state that Next returns is alive: some string still leads to acceptance (counters aside).
// Where a term does not show that, what can be reached from it is explored, within limits; beyond
// them the state counts as dead and limit_reached() is set.
// Threads: one. Copies are independent.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "text/grammar/characters.h"
#include "text/grammar/terms.h"

namespace lode::text::grammar {

// Terms that every Automata begins with, under the same numbers.
struct StandardTerms {
  TermId free_text;     // the inside of any JSON string
  TermId free_string;   // the same, quoted
  TermId free_rest;     // the inside and the closing quote: what is left within a string
  TermId plain_rest;    // AnyText(kJson) and the closing quote
};

enum class Counting : uint8_t { kNone, kJsonString, kRawText };

class Automata {
 public:
  using State = uint32_t;
  static constexpr State kDead = 0;
  static constexpr uint32_t kTick = 0x80000000;

  explicit Automata(size_t states_max = 32768);

  Terms& terms() { return terms_; }
  const Terms& terms() const { return terms_; }
  const StandardTerms& standard() const { return standard_; }

  // The state of `term`; kDead if it holds nothing.
  State Start(TermId term, Counting counting);
  // The state after `byte`, and kTick if a character begins with it. kDead has none.
  uint32_t Next(State state, uint8_t byte) {
    const uint32_t row = states_[state].row;
    if (row != 0) {
      const uint32_t known = rows_[(row - 1) * size_t{256} + byte];
      if (known != kUnknown) return known;
    }
    return Compute(state, byte);
  }
  bool accepting(State state) const { return states_[state].accepting; }
  // Accepting, and nothing follows.
  bool final(State state) const { return states_[state].term == Terms::kEmpty; }
  TermId term(State state) const { return states_[state].term; }

  // All states that can be reached, breadth first, `start` first. Empty beyond `states_max`.
  std::vector<State> Explore(State start, size_t states_max);

  bool limit_reached() const { return limit_reached_ || terms_.overflowed(); }
  size_t bytes() const { return terms_.bytes() + rows_.size() * 4 + states_.size() * 16; }

 private:
  static constexpr uint32_t kUnknown = UINT32_MAX;
  enum class Life : uint8_t { kAlive, kDead, kUnknown };
  struct StateData {
    TermId term;
    uint32_t row = 0;  // number of the row of transitions, + 1
    uint8_t phase = 0;
    bool accepting = false;
    Life life = Life::kAlive;
  };

  State Add(TermId term, uint8_t phase);
  uint32_t Compute(State state, uint8_t byte);
  void Settle(State state);

  size_t states_max_;
  bool limit_reached_ = false;
  bool exploring_ = false;
  Terms terms_;
  StandardTerms standard_;
  std::vector<StateData> states_;
  std::vector<uint32_t> rows_;
  std::unordered_map<uint64_t, State> known_;
};

// For a counted automaton that is more than any characters: which numbers of further characters
// lead from a state to acceptance. Sets by number, from some number on periodic.
class Lengths {
 public:
  // Errors (false): too many states or too long until the sets repeat.
  bool Build(Automata* automata, Automata::State start);
  // Whether some number of `low` to `high` further characters is possible. A state that was not
  // explored has none.
  bool Possible(Automata::State state, uint64_t low, uint64_t high) const {
    const uint32_t number = NumberOf(state);
    return number < states_ && PossibleAt(number, low, high);
  }
  // The same by the state's number among those that were explored: below states() for these.
  bool PossibleAt(uint32_t number, uint64_t low, uint64_t high) const;
  uint32_t states() const { return states_; }
  uint32_t NumberOf(Automata::State state) const {
    return state < number_of_.size() ? number_of_[state] : UINT32_MAX;
  }

 private:
  uint32_t states_ = 0;
  std::vector<uint32_t> number_of_;
  std::vector<std::vector<bool>> sets_;  // by number of characters; the last `period_` repeat
  size_t period_ = 1;
};

}  // namespace lode::text::grammar
