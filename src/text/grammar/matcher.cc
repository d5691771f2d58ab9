#include "text/grammar/matcher.h"

#include <algorithm>

namespace lode::text::grammar {
namespace {

constexpr uint32_t kEndFrame = 0;  // the first frame: the text is complete

}  // namespace

Matcher::Matcher(std::shared_ptr<const Grammar> grammar, const TokenTrie* trie,
                 MatcherLimits limits)
    : grammar_(std::move(grammar)),
      trie_(trie),
      limits_(limits),
      automata_(grammar_->automata()),
      node_seen_(grammar_->nodes()),
      node_pending_(grammar_->nodes()) {
  const uint32_t end[3] = {UINT32_MAX, 0, 0};
  frames_.Intern(end);
  frame_seen_.push_back(0);
  const uint32_t none[1] = {0};
  states_.Intern(none);
  flags_.push_back(0);
  ++epoch_;
  const NodeId root = grammar_->root();
  Enter(root, kEndFrame);
  may_end_ = grammar_->node(root).nullable;
  start_ = Close();
}

size_t Matcher::bytes() const {
  return frames_.bytes() + returns_.bytes() + states_.bytes() + marks_.bytes() + steps_.bytes() +
         automata_.bytes() + scans_bytes_ + masks_.size() * trie_->words() * 8;
}

MatchState Matcher::StepAll(MatchState state, std::string_view bytes) {
  for (const char c : bytes) {
    state = Step(state, static_cast<uint8_t>(c));
    if (state == kNoMatch) break;
  }
  return state;
}

Result<MatchState> Matcher::Advance(MatchState state, uint32_t token) {
  const std::string_view bytes = trie_->bytes_of(token);
  const MatchState next = bytes.empty() ? kNoMatch : StepAll(state, bytes);
  if (next != kNoMatch) return next;
  if (limit_reached())
    return Error(Code::kNoSpace, "the grammar has grown beyond the limit of memory",
                 "use a simpler schema or a shorter answer");
  return Error(Code::kBadInput,
               "token " + std::to_string(token) + " does not fit the grammar here");
}

bool Matcher::Accepts(const Lexeme& lexeme, uint32_t head, uint32_t count) const {
  return automata_.accepting(head) && count >= lexeme.min && count <= lexeme.max;
}

Matcher::Moved Matcher::Move(const Config& config, uint8_t byte) {
  Moved moved{config, false, false};
  if (config.head & kLiteralHead) {
    const uint32_t at = config.head & ~kLiteralHead;
    if (grammar_->literal_byte(at) != byte || grammar_->ends_literal(at)) return moved;
    moved.config.head = config.head + 1;
    moved.accepts = grammar_->ends_literal(at + 1);
    moved.alive = !moved.accepts;
    return moved;
  }
  const uint32_t next = automata_.Next(config.head, byte);
  const Automata::State state = next & ~Automata::kTick;
  if (state == Automata::kDead) return moved;
  moved.config.head = state;
  if (config.lexeme == kNoLexeme) {
    moved.accepts = automata_.accepting(state);
    moved.alive = !automata_.final(state);
    return moved;
  }
  const Lexeme& lexeme = grammar_->lexeme(config.lexeme);
  uint32_t count = config.count + (next != state);
  if (lexeme.max == kUnbounded) count = std::min(count, lexeme.min);
  if (count > lexeme.max) return moved;
  moved.config.count = count;
  moved.accepts = Accepts(lexeme, state, count);
  moved.alive = !automata_.final(state);
  if (moved.alive && lexeme.lengths != nullptr) {
    const uint64_t low = count >= lexeme.min ? 0 : lexeme.min - count;
    const uint64_t high = lexeme.max == kUnbounded ? UINT32_MAX : lexeme.max - count;
    moved.alive = lexeme.lengths->Possible(state, low, high);
  }
  return moved;
}

uint32_t Matcher::InternFrame(Frame frame) {
  const uint32_t data[3] = {frame.node, frame.index, frame.returns};
  const uint32_t id = frames_.Intern(data);
  if (id >= frame_seen_.size()) frame_seen_.resize(id + 1);
  return id;
}

// Phase one of a closure: whatever was waiting for what has just ended goes on.
void Matcher::Resume(std::span<const uint32_t> frames) {
  for (const uint32_t frame : frames) {
    if (frame_seen_[frame] == epoch_) continue;
    frame_seen_[frame] = epoch_;
    resuming_.push_back(frame);
  }
  while (!resuming_.empty()) {
    if (++step_work_ > limits_.step_work_max) {
      limit_reached_ = true;
      resuming_.clear();
      return;
    }
    const uint32_t id = resuming_.back();
    resuming_.pop_back();
    if (id == kEndFrame) {
      may_end_ = true;
      continue;
    }
    const auto data = frames_.data(id);
    ResumeFrame({data[0], data[1], data[2]});
  }
}

void Matcher::ResumeFrame(const Frame& frame) {
  const Node& node = grammar_->node(frame.node);
  bool ends = true;
  if (node.kind == NodeKind::kSequence) {
    for (uint32_t i = frame.index; i < node.count && ends; ++i) {
      const NodeId child = grammar_->child(node, i);
      if (i + 1 == node.count) {
        const auto returns = returns_.data(frame.returns);
        Enter(child, std::vector<uint32_t>(returns.begin(), returns.end()));
      } else {
        Enter(child, InternFrame({frame.node, i + 1, frame.returns}));
      }
      ends = grammar_->node(child).nullable;
    }
  } else if (node.kind == NodeKind::kSet) {
    ends = ResumeSet(frame);
  } else {  // a repetition, of which `index` are done
    if (frame.index < node.max) {
      uint32_t next = frame.index + 1;
      if (node.max == kUnbounded) next = std::min(next, node.min);
      Enter(grammar_->child(node, 0), InternFrame({frame.node, next, frame.returns}));
    }
    ends = frame.index >= node.min;
  }
  if (!ends) return;
  for (const uint32_t next : returns_.data(frame.returns)) {
    if (frame_seen_[next] == epoch_) continue;
    frame_seen_[next] = epoch_;
    resuming_.push_back(next);
  }
}

SetRule::Done Matcher::DoneOf(const SetRule& rule, uint32_t marks) const {
  const auto list = marks_.data(marks);
  SetRule::Done done{.others = list[0] / 2};
  done.parts = static_cast<uint32_t>(list.size() - 1);
  while (done.required < done.parts && list[done.required + 1] <= rule.required) ++done.required;
  return done;
}

// Whether the set may end here; what else may follow is entered.
bool Matcher::ResumeSet(const Frame& frame) {
  const Node& node = grammar_->node(frame.node);
  const SetRule& rule = grammar_->set_rule(node);
  const bool separated = (marks_.data(frame.index)[0] & 1) != 0;
  if (separated || !rule.separated) EnterParts(frame.node, frame.index, frame.returns);
  if (separated) return false;
  const SetRule::Done done = DoneOf(rule, frame.index);
  const uint32_t parts = node.count - 1 - rule.others;
  SetRule::Done part = done, other = done;
  ++part.parts;
  ++other.others;
  part.required = std::min(part.required + 1, rule.required);
  const bool more = (done.parts < parts && rule.CanEnd(part, parts)) ||
                    (rule.others && rule.CanEnd(other, parts));
  if (rule.separated && more) {
    const auto list = marks_.data(frame.index);
    std::vector<uint32_t> marks(list.begin(), list.end());
    marks[0] |= 1;
    Enter(grammar_->child(node, 0),
          InternFrame({frame.node, marks_.Intern(marks), frame.returns}));
  }
  return rule.MayEnd(done);
}

void Matcher::EnterParts(NodeId set, uint32_t marks, uint32_t returns) {
  const Node& node = grammar_->node(set);
  const SetRule& rule = grammar_->set_rule(node);
  const auto data = marks_.data(marks);
  std::vector<uint32_t> list(data.begin(), data.end());
  const SetRule::Done before = DoneOf(rule, marks);
  list[0] &= ~1u;
  const uint32_t end = node.count - rule.others;
  step_work_ += node.count;
  size_t place = 1;  // where the next part would stand in the list
  for (uint32_t i = 1; i < end; ++i) {
    if (place < list.size() && list[place] == i) {
      ++place;
      continue;
    }
    SetRule::Done done = before;
    ++done.parts;
    done.required += i <= rule.required;
    if (!rule.CanEnd(done, end - 1)) continue;
    list.insert(list.begin() + static_cast<std::ptrdiff_t>(place), i);
    Enter(grammar_->child(node, i), InternFrame({set, marks_.Intern(list), returns}));
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(place));
  }
  SetRule::Done done = before;
  ++done.others;
  if (!rule.others || !rule.CanEnd(done, end - 1)) return;
  list[0] = 2 * std::min(done.others, rule.others_max());
  Enter(grammar_->child(node, end), InternFrame({set, marks_.Intern(list), returns}));
}

void Matcher::Enter(NodeId node, std::span<const uint32_t> frames) {
  if (node_seen_[node] != epoch_) {
    node_seen_[node] = epoch_;
    node_pending_[node] = static_cast<uint32_t>(pending_used_);
    if (pending_used_ == pending_.size()) pending_.emplace_back();
    pending_[pending_used_++].clear();
    heap_.emplace_back(grammar_->node(node).rank, node);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  step_work_ += frames.size();
  auto& list = pending_[node_pending_[node]];
  list.insert(list.end(), frames.begin(), frames.end());
}

// Phase two: nodes are entered in the order of their ranks, so whoever enters one has done so
// before.
void Matcher::ExpandAll() {
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    const NodeId node = heap_.back().second;
    heap_.pop_back();
    auto& list = pending_[node_pending_[node]];
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    if (list.size() > limits_.configs_max || configs_.size() > limits_.configs_max ||
        step_work_ > limits_.step_work_max) {
      limit_reached_ = true;
      heap_.clear();
      return;
    }
    Expand(node, returns_.Intern(list));
  }
}

void Matcher::Expand(NodeId id, uint32_t returns) {
  const Node& node = grammar_->node(id);
  const auto all = [&] {
    const auto data = returns_.data(returns);
    return std::vector<uint32_t>(data.begin(), data.end());
  };
  switch (node.kind) {
    case NodeKind::kLiteral:
    case NodeKind::kAutomaton:
      AddLexeme(id, returns);
      break;
    case NodeKind::kChoice: {
      const auto frames = all();
      for (uint32_t i = 0; i < node.count; ++i) Enter(grammar_->child(node, i), frames);
      break;
    }
    case NodeKind::kSequence:
      for (uint32_t i = 0; i < node.count; ++i) {
        const NodeId child = grammar_->child(node, i);
        if (i + 1 == node.count) {
          Enter(child, all());
        } else {
          Enter(child, InternFrame({id, i + 1, returns}));
        }
        if (!grammar_->node(child).nullable) break;
      }
      break;
    case NodeKind::kSet: {
      const uint32_t none[1] = {0};
      EnterParts(id, marks_.Intern(none), returns);
      break;
    }
    case NodeKind::kRepeat: {
      const uint32_t next = node.max == kUnbounded ? std::min(1u, node.min) : 1;
      Enter(grammar_->child(node, 0), InternFrame({id, next, returns}));
      break;
    }
  }
}

void Matcher::AddLexeme(NodeId id, uint32_t returns) {
  const Node& node = grammar_->node(id);
  if (node.kind == NodeKind::kLiteral) {
    configs_.push_back({kLiteralHead | node.first, kNoLexeme, 0, returns});
    return;
  }
  const Lexeme& lexeme = grammar_->lexeme(node.first);
  configs_.push_back({lexeme.start, lexeme.counted ? node.first : kNoLexeme, 0, returns});
}

// Turns configs_ and what is pending into a state.
MatchState Matcher::Close() {
  ExpandAll();
  pending_used_ = 0;
  work_ += step_work_;
  if (work_ > limits_.work_max) limit_reached_ = true;
  step_work_ = 0;
  std::sort(configs_.begin(), configs_.end());
  configs_.erase(std::unique(configs_.begin(), configs_.end()), configs_.end());
  std::vector<uint32_t> data{may_end_ ? kMayEnd : 0u};
  for (size_t i = 0; i < configs_.size();) {
    Config config = configs_[i];
    size_t j = i + 1;
    std::vector<uint32_t> joined;
    for (; j < configs_.size() && configs_[j].head == config.head &&
           configs_[j].lexeme == config.lexeme && configs_[j].count == config.count; ++j) {
      if (joined.empty()) {
        const auto first = returns_.data(config.returns);
        joined.assign(first.begin(), first.end());
      }
      const auto more = returns_.data(configs_[j].returns);
      joined.insert(joined.end(), more.begin(), more.end());
    }
    if (!joined.empty()) {
      std::sort(joined.begin(), joined.end());
      joined.erase(std::unique(joined.begin(), joined.end()), joined.end());
      config.returns = returns_.Intern(joined);
    }
    data.insert(data.end(), {config.head, config.lexeme, config.count, config.returns});
    i = j;
  }
  configs_.clear();
  may_end_ = false;
  if (limit_reached_ || data.size() > limits_.configs_max * 4) {
    limit_reached_ = true;
    return kNoMatch;
  }
  const uint32_t state = states_.Intern(data);  // nothing, and no end, is kNoMatch
  if (state >= flags_.size()) flags_.push_back(static_cast<uint8_t>(data[0]));
  return state;
}

MatchState Matcher::Compute(MatchState state, uint8_t byte) {
  if (state == kNoMatch) return kNoMatch;
  if (limit_reached_ || bytes() > limits_.bytes_max) {
    limit_reached_ = true;
    return kNoMatch;
  }
  ++epoch_;
  const size_t count = configs(state).size();
  for (size_t i = 0; i < count; ++i) {
    const Moved moved = Move(configs(state)[i], byte);
    if (moved.alive) configs_.push_back(moved.config);
    if (moved.accepts) {
      const auto frames = returns_.data(moved.config.returns);
      Resume(frames);  // Resume interns frames and no sets of them, so `frames` stays
    }
  }
  const MatchState next = Close();
  if (!limit_reached_) steps_.Add(uint64_t{state} << 8 | byte, next);
  return next;
}

// The state in which everything goes on that waits in a set of frames.
MatchState Matcher::After(uint32_t returns) {
  const auto known = after_.find(returns);
  if (known != after_.end()) return known->second;
  ++epoch_;
  Resume(returns_.data(returns));
  const MatchState state = Close();
  if (!limit_reached_) after_[returns] = state;
  return state;
}

}  // namespace lode::text::grammar
