#include "text/grammar/automata.h"

#include <algorithm>

namespace lode::text::grammar {
namespace {

constexpr size_t kSettleMax = 8192;  // states looked at to see that one is alive

// Where in a JSON string, or in UTF-8 text, the next byte stands. Only what tells the beginning of
// a character apart; that the string is right is the term's business.
enum Phase : uint8_t {
  kUncounted, kBeforeQuote, kInside, kAfter, kEscape, kHex1, kHex2, kHex3, kHex4,
  kHex2Surrogate, kHigh3, kHigh4, kLowEscape, kLowU, kLow1, kLow2, kLow3, kLow4, kRaw
};

struct PhaseStep {
  uint8_t phase;
  bool tick;
};

PhaseStep StepPhase(uint8_t phase, uint8_t byte) {
  const bool continued = byte >= 0x80 && byte < 0xC0;
  switch (phase) {
    case kBeforeQuote:
      return {kInside, false};
    case kInside:
      if (byte == '"') return {kAfter, false};
      if (byte == '\\') return {kEscape, true};
      return {kInside, !continued};
    case kEscape:
      return {static_cast<uint8_t>(byte == 'u' ? kHex1 : kInside), false};
    case kHex1:
      return {static_cast<uint8_t>((byte | 32) == 'd' ? kHex2Surrogate : kHex2), false};
    case kHex2Surrogate: {
      const uint8_t lower = byte | 32;
      const bool high = byte == '8' || byte == '9' || lower == 'a' || lower == 'b';
      return {static_cast<uint8_t>(high ? kHigh3 : kHex3), false};
    }
    case kHex4:
    case kLow4:
      return {kInside, false};
    case kHex2: case kHex3: case kHigh3: case kHigh4: case kLowEscape: case kLowU: case kLow1:
    case kLow2: case kLow3:
      return {static_cast<uint8_t>(phase + 1), false};
    case kRaw:
      return {kRaw, !continued};
    default:
      return {phase, false};
  }
}

}  // namespace

Automata::Automata(size_t states_max) : states_max_(states_max) {
  AnyText(&terms_, Spelling::kJson);
  AnyText(&terms_, Spelling::kRaw);
  const TermId quote = terms_.Byte('"');
  standard_.free_text = FreeJsonText(&terms_);
  standard_.free_rest = terms_.Concat(standard_.free_text, quote);
  standard_.free_string = terms_.Concat(quote, standard_.free_rest);
  standard_.plain_rest = terms_.Concat(terms_.json_star(), quote);
  states_.push_back({.term = Terms::kNothing, .life = Life::kDead});
}

Automata::State Automata::Start(TermId term, Counting counting) {
  const uint8_t phase = counting == Counting::kNone         ? kUncounted
                        : counting == Counting::kJsonString ? kBeforeQuote
                                                            : kRaw;
  const State state = Add(term, phase);
  if (states_[state].life == Life::kUnknown) Settle(state);
  return states_[state].life == Life::kAlive ? state : kDead;
}

Automata::State Automata::Add(TermId term, uint8_t phase) {
  if (term == Terms::kNothing || terms_.overflowed()) return kDead;
  const uint64_t key = uint64_t{term} << 8 | phase;
  const auto [it, added] = known_.try_emplace(key, static_cast<State>(states_.size()));
  if (!added) return it->second;
  if (states_.size() >= states_max_) {
    known_.erase(it);
    limit_reached_ = true;
    return kDead;
  }
  const Term& data = terms_[term];
  states_.push_back({.term = term,
                     .phase = phase,
                     .accepting = data.nullable,
                     .life = data.sure ? Life::kAlive : Life::kUnknown});
  return static_cast<State>(states_.size() - 1);
}

uint32_t Automata::Compute(State state, uint8_t byte) {
  if (state == kDead) return kDead;
  if (states_[state].row == 0) {
    rows_.resize(rows_.size() + 256, kUnknown);
    states_[state].row = static_cast<uint32_t>(rows_.size() / 256);
  }
  ByteSet same;
  const TermId rest = terms_.Derive(states_[state].term, byte, &same);
  if (terms_.overflowed()) return kDead;  // not kept: nobody may believe it
  const uint8_t phase = states_[state].phase;
  const size_t row = (states_[state].row - 1) * size_t{256};
  uint32_t found = kDead;
  for (int other = same.first(); other < 256; ++other) {
    const auto b = static_cast<uint8_t>(other);
    if (!same.has(b)) continue;
    const PhaseStep step = StepPhase(phase, b);
    State target = Add(rest, step.phase);
    if (states_[target].life == Life::kUnknown && !exploring_) Settle(target);
    if (states_[target].life == Life::kDead) target = kDead;
    const uint32_t entry = target == kDead ? kDead : target | (step.tick ? kTick : 0);
    rows_[row + b] = entry;
    if (b == byte) found = entry;
  }
  return found;
}

std::vector<Automata::State> Automata::Explore(State start, size_t states_max) {
  std::vector<State> order{start};
  std::vector<bool> seen(states_.size());
  if (start == kDead) return {};
  seen[start] = true;
  for (size_t i = 0; i < order.size(); ++i) {
    for (int byte = 0; byte < 256; ++byte) {
      const State target = Next(order[i], static_cast<uint8_t>(byte)) & ~kTick;
      if (limit_reached()) return {};
      if (target == kDead) continue;
      if (seen.size() < states_.size()) seen.resize(states_.size());
      if (seen[target]) continue;
      seen[target] = true;
      if (order.size() >= states_max) return {};
      order.push_back(target);
    }
  }
  return order;
}

// Decides for `start` and for what it reaches through states of unknown life whether they are
// alive.
void Automata::Settle(State start) {
  exploring_ = true;
  std::vector<State> order{start}, alive;
  std::vector<std::pair<State, State>> edges;  // target, source
  std::unordered_map<State, bool> seen{{start, true}};
  for (size_t i = 0; i < order.size(); ++i) {
    State last = kDead;
    for (int byte = 0; byte < 256; ++byte) {
      const State target = Next(order[i], static_cast<uint8_t>(byte)) & ~kTick;
      if (target == kDead || target == last) continue;
      last = target;
      edges.emplace_back(target, order[i]);
      if (!seen.try_emplace(target, true).second) continue;
      if (states_[target].life == Life::kAlive) {
        alive.push_back(target);
      } else {
        order.push_back(target);
      }
    }
    terms_.Work(16);
    const bool room = order.size() <= kSettleMax && states_.size() < states_max_;
    if (room && !terms_.overflowed()) continue;
    limit_reached_ = true;  // nobody knows: they all count as dead
    alive.clear();
    break;
  }
  exploring_ = false;
  std::sort(edges.begin(), edges.end());
  while (!alive.empty()) {
    const State state = alive.back();
    alive.pop_back();
    auto it = std::lower_bound(edges.begin(), edges.end(), std::pair<State, State>(state, 0));
    for (; it != edges.end() && it->first == state; ++it) {
      if (states_[it->second].life != Life::kUnknown) continue;
      states_[it->second].life = Life::kAlive;
      alive.push_back(it->second);
    }
  }
  for (const State state : order)
    if (states_[state].life == Life::kUnknown) states_[state].life = Life::kDead;
  for (const State state : order) {  // transitions into the dead go
    if (states_[state].row == 0) continue;
    uint32_t* entries = rows_.data() + (states_[state].row - 1) * size_t{256};
    for (int byte = 0; byte < 256; ++byte)
      if (entries[byte] != kUnknown && states_[entries[byte] & ~kTick].life == Life::kDead)
        entries[byte] = kDead;
  }
}

bool Lengths::Build(Automata* automata, Automata::State start) {
  constexpr size_t kStatesMax = 4096, kWorkMax = 10000000, kSetsMax = 4096;
  const std::vector<Automata::State> order = automata->Explore(start, kStatesMax);
  if (order.empty()) return false;
  states_ = static_cast<uint32_t>(order.size());
  number_of_.assign(*std::max_element(order.begin(), order.end()) + size_t{1}, UINT32_MAX);
  for (uint32_t i = 0; i < order.size(); ++i) number_of_[order[i]] = i;
  struct Edge {
    uint32_t from, to;
    bool tick;
    auto operator<=>(const Edge&) const = default;
  };
  std::vector<Edge> edges;
  for (uint32_t i = 0; i < order.size(); ++i) {
    for (int byte = 0; byte < 256; ++byte) {
      const uint32_t next = automata->Next(order[i], static_cast<uint8_t>(byte));
      if ((next & ~Automata::kTick) == Automata::kDead) continue;
      const Edge edge{i, number_of_[next & ~Automata::kTick], (next & Automata::kTick) != 0};
      if (edges.empty() || !(edges.back() == edge)) edges.push_back(edge);
    }
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  std::vector<bool> set(order.size());
  for (uint32_t i = 0; i < order.size(); ++i) set[i] = automata->accepting(order[i]);
  size_t work = 0;
  for (;;) {
    for (bool changed = true; changed;) {  // steps without a character
      changed = false;
      work += edges.size() + 1;
      for (const Edge& edge : edges) {
        if (edge.tick || !set[edge.to] || set[edge.from]) continue;
        set[edge.from] = changed = true;
      }
    }
    const auto same = std::find(sets_.begin(), sets_.end(), set);
    if (same != sets_.end()) {
      period_ = static_cast<size_t>(sets_.end() - same);
      return true;
    }
    sets_.push_back(set);
    work += edges.size() + sets_.size() * (order.size() / 256 + 1);
    if (work > kWorkMax || sets_.size() > kSetsMax) return false;
    std::vector<bool> before(order.size());
    for (const Edge& edge : edges)
      if (edge.tick && set[edge.to]) before[edge.from] = true;
    set.swap(before);
  }
}

bool Lengths::PossibleAt(uint32_t number, uint64_t low, uint64_t high) const {
  const size_t head = sets_.size() - period_;  // sets_[head..] repeat
  for (uint64_t length = low; length <= high; ++length) {
    if (length >= head + period_ && length >= low + period_) return false;  // all were seen
    const size_t set = length < sets_.size() ? length : head + (length - head) % period_;
    if (sets_[set][number]) return true;
  }
  return false;
}

}  // namespace lode::text::grammar
