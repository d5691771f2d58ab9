#include "text/grammar/grammar.h"

#include <algorithm>
#include <unordered_set>

namespace lode::text::grammar {
namespace {

constexpr int kDepthMax = 1000;

}  // namespace

bool SetRule::CanEnd(const Done& done, uint32_t parts) const {
  const uint64_t all = uint64_t{done.parts} + done.others;
  if (all > max) return false;
  const uint64_t room = max == kUnbounded ? UINT32_MAX : max - all;
  const uint32_t counted = done.parts + (done.others > 0);
  const uint32_t missing = std::max(min > counted ? min - counted : 0, required - done.required);
  const uint32_t left = parts - done.parts + (others && done.others == 0);
  return missing <= room && missing <= left;
}

size_t Grammar::bytes() const {
  return nodes_.size() * sizeof(Node) + children_.size() * sizeof(NodeId) +
         lexemes_.size() * sizeof(Lexeme) + sets_.size() * sizeof(SetRule) + literals_.size() * 2 +
         automata_.bytes();
}

GrammarBuilder::GrammarBuilder(GrammarLimits limits) : limits_(limits) {}

NodeId GrammarBuilder::Intern(Node node, const std::vector<NodeId>& children) {
  std::string key;
  const auto put = [&](uint32_t value) {
    key.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  put(static_cast<uint32_t>(node.kind));
  put(node.first);
  put(node.count);
  put(node.min);
  put(node.max);
  for (const NodeId child : children) put(child);
  const auto [it, added] = known_.try_emplace(key, static_cast<NodeId>(grammar_.nodes_.size()));
  if (!added) return it->second;
  if (grammar_.nodes_.size() >= limits_.nodes_max ||
      grammar_.children_.size() + children.size() > limits_.children_max) {
    overflowed_ = true;
    known_.erase(it);
    return 0;
  }
  if (!children.empty()) {
    node.first = static_cast<uint32_t>(grammar_.children_.size());
    node.count = static_cast<uint32_t>(children.size());
    grammar_.children_.insert(grammar_.children_.end(), children.begin(), children.end());
  }
  grammar_.nodes_.push_back(node);
  return it->second;
}

NodeId GrammarBuilder::Literal(std::string_view bytes) {
  if (bytes.empty()) return Empty();
  const std::string key = "literal" + std::string(bytes);
  const auto known = known_.find(key);
  if (known != known_.end()) return known->second;
  Node node{.kind = NodeKind::kLiteral, .count = static_cast<uint32_t>(bytes.size())};
  node.first = static_cast<uint32_t>(grammar_.literals_.size());
  grammar_.literals_ += bytes;
  grammar_.literals_ += '\0';
  grammar_.literal_ends_.resize(grammar_.literals_.size());
  grammar_.literal_ends_.back() = true;
  const NodeId id = Intern(node, {});
  known_[key] = id;
  return id;
}

NodeId GrammarBuilder::Regular(TermId term) {
  if (term == Terms::kEmpty) return Empty();
  return Counted(term, Counting::kNone, 0, kUnbounded, true);
}

NodeId GrammarBuilder::Counted(TermId term, Counting counting, uint32_t min, uint32_t max,
                               bool any) {
  Lexeme lexeme{.start = grammar_.automata_.Start(term, counting),
                .counted = counting != Counting::kNone,
                .min = min,
                .max = max,
                .lengths = nullptr};
  if (lexeme.counted && !any && lexeme.start != Automata::kDead) {
    auto lengths = std::make_shared<Lengths>();
    if (!lengths->Build(&grammar_.automata_, lexeme.start)) {
      if (!problem_)
        problem_ = Error(Code::kNoSpace, "a pattern with a bounded length is too large",
                         "leave out the pattern or the length");
      return 0;
    }
    if (!lengths->Possible(lexeme.start, min, max)) lexeme.start = Automata::kDead;
    lexeme.lengths = std::move(lengths);
  }
  if (lexeme.counted && min > max) lexeme.start = Automata::kDead;
  const std::string key = "lexeme" + std::to_string(lexeme.start) + "," +
                          std::to_string(lexeme.counted) + "," + std::to_string(min) + "," +
                          std::to_string(max) + "," + std::to_string(any);
  const auto known = known_.find(key);
  if (known != known_.end()) return known->second;
  grammar_.lexemes_.push_back(lexeme);
  const NodeId id = Intern({.kind = NodeKind::kAutomaton,
                            .first = static_cast<uint32_t>(grammar_.lexemes_.size() - 1)},
                           {});
  known_[key] = id;
  return id;
}

NodeId GrammarBuilder::Sequence(std::vector<NodeId> parts) {
  if (parts.size() == 1) return parts[0];
  return Intern({.kind = NodeKind::kSequence}, parts);
}

NodeId GrammarBuilder::Choice(std::vector<NodeId> parts) {
  std::vector<NodeId> once;
  std::unordered_set<NodeId> seen;
  for (const NodeId part : parts)
    if (seen.insert(part).second) once.push_back(part);
  if (once.size() == 1) return once[0];
  return Intern({.kind = NodeKind::kChoice}, once);
}

NodeId GrammarBuilder::Repeat(NodeId part, uint32_t min, uint32_t max) {
  if (min == 1 && max == 1) return part;
  if (max == 0) return Empty();
  return Intern({.kind = NodeKind::kRepeat, .min = min, .max = max}, {part});
}

NodeId GrammarBuilder::Set(NodeId separator, const std::vector<NodeId>& parts,
                           const SetRule& rule) {
  std::vector<NodeId> children{separator};
  children.insert(children.end(), parts.begin(), parts.end());
  grammar_.sets_.push_back(rule);  // so no two of them are the same node
  return Intern({.kind = NodeKind::kSet, .min = static_cast<uint32_t>(grammar_.sets_.size() - 1)},
                children);
}

NodeId GrammarBuilder::Declare() {
  grammar_.nodes_.push_back({.kind = NodeKind::kChoice,
                             .first = static_cast<uint32_t>(grammar_.children_.size())});
  if (grammar_.nodes_.size() > limits_.nodes_max) overflowed_ = true;
  return static_cast<NodeId>(grammar_.nodes_.size() - 1);
}

void GrammarBuilder::Define(NodeId declared, NodeId node) {
  grammar_.nodes_[declared].first = static_cast<uint32_t>(grammar_.children_.size());
  grammar_.nodes_[declared].count = 1;
  grammar_.children_.push_back(node);
}

// What holds of a sequence if of all its children, of a choice if of one, of a repeat if of its child
// or if that may be left out; `leaf` for what has no children.
template <typename Leaf, typename Child>
bool GrammarBuilder::HoldsOf(const Node& node, const Leaf& leaf, const Child& child) const {
  if (node.kind == NodeKind::kLiteral || node.kind == NodeKind::kAutomaton) return leaf();
  const auto children = grammar_.children_.begin() + node.first;
  if (node.kind == NodeKind::kRepeat) return node.min == 0 || child(*children);
  return node.kind == NodeKind::kSequence ? std::all_of(children, children + node.count, child)
                                          : std::any_of(children, children + node.count, child);
}

bool GrammarBuilder::IsNullable(const Node& node) const {
  if (node.kind == NodeKind::kSet) return grammar_.sets_[node.min].MayEnd({});
  const auto leaf = [&] {
    if (node.kind == NodeKind::kLiteral) return false;
    const Lexeme& lexeme = grammar_.lexemes_[node.first];
    return grammar_.automata_.accepting(lexeme.start) && lexeme.min == 0;
  };
  return HoldsOf(node, leaf, [&](NodeId child) { return grammar_.nodes_[child].nullable; });
}

std::vector<std::vector<NodeId>> GrammarBuilder::Parents() const {
  const auto& nodes = grammar_.nodes_;
  std::vector<std::vector<NodeId>> parents(nodes.size());
  for (NodeId id = 0; id < nodes.size(); ++id) {
    if (nodes[id].kind == NodeKind::kLiteral || nodes[id].kind == NodeKind::kAutomaton) continue;
    for (uint32_t i = 0; i < nodes[id].count; ++i)
      parents[grammar_.children_[nodes[id].first + i]].push_back(id);
  }
  return parents;
}

void GrammarBuilder::FindNullable() {
  auto& nodes = grammar_.nodes_;
  const auto parents = Parents();
  for (Node& node : nodes) node.nullable = false;
  std::vector<NodeId> pending;
  for (NodeId id = static_cast<NodeId>(nodes.size()); id-- > 0;) pending.push_back(id);
  while (!pending.empty()) {
    const NodeId id = pending.back();
    pending.pop_back();
    if (nodes[id].nullable || !IsNullable(nodes[id])) continue;
    nodes[id].nullable = true;
    pending.insert(pending.end(), parents[id].begin(), parents[id].end());
  }
}

// The texts of a node but the empty one.
NodeId GrammarBuilder::NotEmpty(NodeId id, std::unordered_map<NodeId, NodeId>* memo, int depth) {
  const Node node = grammar_.nodes_[id];
  if (!node.nullable) return id;
  if (depth > kDepthMax) {
    overflowed_ = true;
    return id;
  }
  const auto known = memo->find(id);
  if (known != memo->end()) return known->second;
  const NodeId declared = Declare();
  (*memo)[id] = declared;
  const auto child = [&](uint32_t i) { return grammar_.children_[node.first + i]; };
  NodeId result = 0;
  switch (node.kind) {
    case NodeKind::kLiteral:
      break;
    case NodeKind::kAutomaton: {  // whatever it counts may be empty only at its very beginning
      const Lexeme lexeme = grammar_.lexemes_[node.first];
      const TermId term = grammar_.automata_.term(lexeme.start);
      const TermId some = terms().And({term, terms().Not(Terms::kEmpty)});
      result = lexeme.counted
                   ? Counted(some, Counting::kRawText, lexeme.min, lexeme.max, false)
                   : Regular(some);
      break;
    }
    case NodeKind::kSequence: {
      std::vector<NodeId> choices;
      for (uint32_t i = 0; i < node.count; ++i) {
        std::vector<NodeId> parts{NotEmpty(child(i), memo, depth + 1)};
        for (uint32_t j = i + 1; j < node.count; ++j) parts.push_back(child(j));
        choices.push_back(Sequence(std::move(parts)));
      }
      result = Choice(std::move(choices));
      break;
    }
    case NodeKind::kChoice: {
      std::vector<NodeId> choices;
      for (uint32_t i = 0; i < node.count; ++i)
        choices.push_back(NotEmpty(child(i), memo, depth + 1));
      result = Choice(std::move(choices));
      break;
    }
    case NodeKind::kSet: {
      SetRule rule = grammar_.sets_[node.min];
      rule.min = std::max(rule.min, 1u);
      const auto first = grammar_.children_.begin() + node.first;
      result = Set(*first, std::vector<NodeId>(first + 1, first + node.count), rule);
      break;
    }
    case NodeKind::kRepeat: {
      const NodeId part = NotEmpty(child(0), memo, depth + 1);
      const bool may = grammar_.nodes_[child(0)].nullable;
      const uint32_t min = may || node.min == 0 ? 1 : node.min;
      result = Repeat(part, min, node.max);
      break;
    }
  }
  Define(declared, result);
  return declared;
}

void GrammarBuilder::RepeatOnlyWhatReads() {
  std::unordered_map<NodeId, NodeId> memo;
  const size_t count = grammar_.nodes_.size();
  for (NodeId id = 0; id < count; ++id) {
    if (grammar_.nodes_[id].kind != NodeKind::kRepeat) continue;
    const NodeId part = grammar_.children_[grammar_.nodes_[id].first];
    if (!grammar_.nodes_[part].nullable) continue;
    const NodeId reads = NotEmpty(part, &memo, 0);
    grammar_.children_[grammar_.nodes_[id].first] = reads;
    grammar_.nodes_[id].min = 0;
  }
}

bool GrammarBuilder::IsProductiveSet(const Node& node, const std::vector<bool>& productive) const {
  const SetRule& rule = grammar_.sets_[node.min];
  const auto children = grammar_.children_.begin() + node.first;
  for (uint32_t i = 1; i <= rule.required; ++i)
    if (!productive[children[i]]) return false;
  const uint32_t end = node.count - rule.others;
  uint32_t parts = 0;
  for (uint32_t i = 1; i < end; ++i) parts += productive[children[i]];
  SetRule left = rule;
  left.others = rule.others && productive[children[end]];
  return left.CanEnd({}, parts);
}

bool GrammarBuilder::IsProductive(const Node& node, const std::vector<bool>& productive) const {
  if (node.kind == NodeKind::kSet) return IsProductiveSet(node, productive);
  const auto leaf = [&] {
    return node.kind == NodeKind::kLiteral ||
           grammar_.lexemes_[node.first].start != Automata::kDead;
  };
  return HoldsOf(node, leaf, [&](NodeId child) { return productive[child]; });
}

std::vector<bool> GrammarBuilder::FindProductive() const {
  const auto& nodes = grammar_.nodes_;
  std::vector<bool> productive(nodes.size());
  const auto parents = Parents();
  std::vector<NodeId> pending;
  for (NodeId id = 0; id < nodes.size(); ++id) pending.push_back(id);
  while (!pending.empty()) {
    const NodeId id = pending.back();
    pending.pop_back();
    if (productive[id] || !IsProductive(nodes[id], productive)) continue;
    productive[id] = true;
    pending.insert(pending.end(), parents[id].begin(), parents[id].end());
  }
  return productive;
}

void GrammarBuilder::PruneSet(Node* node, const std::vector<bool>& productive) {
  NodeId* children = grammar_.children_.data() + node->first;
  SetRule& rule = grammar_.sets_[node->min];
  if (rule.others && !productive[children[node->count - 1]]) {
    rule.others = false;
    --node->count;
  }
  NodeId* const end = children + node->count - rule.others;
  const auto hopeless = [&](NodeId child) { return !productive[child]; };
  NodeId* kept = std::remove_if(children + 1, end, hopeless);
  if (rule.others) *kept++ = *end;
  node->count = static_cast<uint32_t>(kept - children);
}

void GrammarBuilder::Prune(const std::vector<bool>& productive) {
  for (NodeId id = 0; id < grammar_.nodes_.size(); ++id) {
    Node& node = grammar_.nodes_[id];
    NodeId* children = grammar_.children_.data() + node.first;
    if (node.kind == NodeKind::kSet) {
      if (productive[id]) PruneSet(&node, productive);
    } else if (node.kind == NodeKind::kChoice) {
      NodeId* end = std::remove_if(children, children + node.count,
                                   [&](NodeId child) { return !productive[child]; });
      node.count = static_cast<uint32_t>(end - children);
    } else if (node.kind == NodeKind::kRepeat && !productive[children[0]]) {
      node = {.kind = NodeKind::kSequence, .nullable = true};
    }
  }
}

void GrammarBuilder::LeftCorners(NodeId id, std::vector<NodeId>* corners) const {
  const Node& node = grammar_.nodes_[id];
  if (node.kind == NodeKind::kLiteral || node.kind == NodeKind::kAutomaton) return;
  for (uint32_t i = 0; i < node.count; ++i) {
    const NodeId child = grammar_.children_[node.first + i];
    if (node.kind == NodeKind::kSet) {
      if (i > 0) corners->push_back(child);
      continue;
    }
    corners->push_back(child);
    if (node.kind != NodeKind::kChoice && !grammar_.nodes_[child].nullable) return;
  }
}

// Numbers the nodes; false if one reaches itself without reading anything.
bool GrammarBuilder::Rank() {
  enum : uint8_t { kNew, kOpen, kDone };
  std::vector<uint8_t> mark(grammar_.nodes_.size(), kNew);
  struct Visit {
    NodeId id;
    size_t next;
    std::vector<NodeId> corners;
  };
  uint32_t rank = static_cast<uint32_t>(grammar_.nodes_.size());
  for (NodeId start = 0; start < grammar_.nodes_.size(); ++start) {
    if (mark[start] != kNew) continue;
    std::vector<Visit> stack;
    const auto open = [&](NodeId id) {
      mark[id] = kOpen;
      stack.push_back({id, 0, {}});
      LeftCorners(id, &stack.back().corners);
    };
    open(start);
    while (!stack.empty()) {
      Visit& visit = stack.back();
      if (visit.next == visit.corners.size()) {
        mark[visit.id] = kDone;
        grammar_.nodes_[visit.id].rank = --rank;
        stack.pop_back();
        continue;
      }
      const NodeId corner = visit.corners[visit.next++];
      if (mark[corner] == kOpen) return false;
      if (mark[corner] == kNew) open(corner);
    }
  }
  return true;
}

Result<std::shared_ptr<const Grammar>> GrammarBuilder::Finish(NodeId root) {
  FindNullable();
  RepeatOnlyWhatReads();
  FindNullable();
  if (problem_) return *problem_;
  if (overflowed_ || terms().overflowed() || grammar_.automata_.limit_reached())
    return Error(Code::kNoSpace, "the grammar is too large", "ask for less at once");
  const std::vector<bool> productive = FindProductive();
  if (!productive[root]) return Error(Code::kBadInput, "no text at all fits");
  Prune(productive);
  // Only what the root reaches matters; the rest is left where it is.
  std::vector<NodeId> pending{root};
  std::vector<bool> reached(grammar_.nodes_.size());
  reached[root] = true;
  while (!pending.empty()) {
    const Node node = grammar_.nodes_[pending.back()];
    pending.pop_back();
    if (node.kind == NodeKind::kLiteral || node.kind == NodeKind::kAutomaton) continue;
    for (uint32_t i = 0; i < node.count; ++i) {
      const NodeId child = grammar_.children_[node.first + i];
      if (!reached[child]) pending.push_back(child);
      reached[child] = true;
    }
  }
  for (NodeId id = 0; id < grammar_.nodes_.size(); ++id)
    if (!reached[id]) grammar_.nodes_[id] = {.kind = NodeKind::kSequence};
  if (!Rank())
    return Error(Code::kUnsupported, "a rule begins with itself (left recursion)",
                 "write the repetition at the rule's end");
  grammar_.root_ = root;
  return std::make_shared<const Grammar>(std::move(grammar_));
}

}  // namespace lode::text::grammar
