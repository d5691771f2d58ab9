// The one form that JSON schemas, regular expressions, GBNF and frames of tool calls become: a
// graph of nodes over lexemes (literals and automata), checked and ready to be walked by a Matcher.
//
// Promises of a Grammar: every node has some text; no node reaches itself without reading a byte
// (left recursion is refused); what is repeated is never empty. So whatever is begun can be
// finished. Threads: read-only, free for all.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "text/grammar/automata.h"

namespace lode::text::grammar {

using NodeId = uint32_t;

enum class NodeKind : uint8_t { kLiteral, kAutomaton, kSequence, kChoice, kRepeat, kSet };

struct Node {
  NodeKind kind;
  bool nullable = false;
  uint32_t first = 0;  // kLiteral: offset in the pool; kAutomaton: lexeme; others: first child
  uint32_t count = 0;  // kLiteral: bytes; others: number of children
  uint32_t min = 0, max = 0;  // kRepeat; kSet: `min` is the number of its SetRule
  uint32_t rank = 0;   // whoever enters another node before a byte is read has the smaller rank
};

// Parts in any order, each at most once. The children are what stands between two of them, the
// parts that must be there, those that may, and last, if there is one, what may come often.
struct SetRule {
  uint32_t required = 0;
  bool others = false;     // the last child may come often; once it counts for `min`
  bool separated = false;  // the first child stands between; otherwise it means nothing
  uint32_t min = 0, max = kUnbounded;  // parts in all

  struct Done {
    uint32_t parts = 0, required = 0, others = 0;
  };
  bool MayEnd(const Done& done) const {
    return done.required == required && done.parts + (done.others > 0) >= min;
  }
  // Whether it can be brought to an end, with `parts` in all besides what may come often.
  bool CanEnd(const Done& done, uint32_t parts) const;
  // More of them need not be told apart.
  uint32_t others_max() const { return max != kUnbounded ? max : min > 0 ? 1 : 0; }
};

// A terminal that is an automaton, with the number of its characters, if that is bounded.
struct Lexeme {
  Automata::State start;
  bool counted = false;
  uint32_t min = 0, max = kUnbounded;
  std::shared_ptr<const Lengths> lengths;  // null: any number of further characters is possible
};

class Grammar {
 public:
  const Node& node(NodeId id) const { return nodes_[id]; }
  NodeId child(const Node& node, uint32_t index) const { return children_[node.first + index]; }
  const Lexeme& lexeme(uint32_t id) const { return lexemes_[id]; }
  const SetRule& set_rule(const Node& node) const { return sets_[node.min]; }
  NodeId root() const { return root_; }
  size_t nodes() const { return nodes_.size(); }
  // Literals lie in one pool; behind each stands a byte that ends_literal() marks.
  uint8_t literal_byte(uint32_t offset) const { return static_cast<uint8_t>(literals_[offset]); }
  bool ends_literal(uint32_t offset) const { return literal_ends_[offset]; }
  const Automata& automata() const { return automata_; }
  size_t bytes() const;

 private:
  friend class GrammarBuilder;
  std::vector<Node> nodes_;
  std::vector<NodeId> children_;
  std::vector<Lexeme> lexemes_;
  std::vector<SetRule> sets_;
  std::string literals_;
  std::vector<bool> literal_ends_;
  Automata automata_;
  NodeId root_ = 0;
};

struct GrammarLimits {
  size_t nodes_max = 400000;
  size_t children_max = 2000000;
};

// Equal nodes are made once. Threads: one.
class GrammarBuilder {
 public:
  explicit GrammarBuilder(GrammarLimits limits = {});

  Automata& automata() { return grammar_.automata_; }
  Terms& terms() { return grammar_.automata_.terms(); }

  NodeId Empty() { return Sequence({}); }
  NodeId Literal(std::string_view bytes);
  // A regular language; counted: only texts of `min` to `max` characters of it. `any` says that its
  // language is closed under taking characters away and adding them (no pattern).
  NodeId Regular(TermId term);
  NodeId Counted(TermId term, Counting counting, uint32_t min, uint32_t max, bool any);
  NodeId Sequence(std::vector<NodeId> parts);
  NodeId Choice(std::vector<NodeId> parts);
  NodeId Repeat(NodeId part, uint32_t min, uint32_t max);
  // `rule.required` says how many of `parts` must be there, `rule.others` that the last may come
  // often.
  NodeId Set(NodeId separator, const std::vector<NodeId>& parts, const SetRule& rule);
  NodeId Optional(NodeId part) { return Choice({Empty(), part}); }
  // A node that is defined later; it may be used meanwhile.
  NodeId Declare();
  void Define(NodeId declared, NodeId node);

  bool overflowed() const { return overflowed_; }
  // Ends the building. Errors: kNoSpace beyond the limits; kUnsupported for left recursion and for
  // counted patterns that are too large; kBadInput if no text at all fits.
  Result<std::shared_ptr<const Grammar>> Finish(NodeId root);

 private:
  NodeId Intern(Node node, const std::vector<NodeId>& children);
  std::vector<std::vector<NodeId>> Parents() const;
  template <typename Leaf, typename Child>
  bool HoldsOf(const Node& node, const Leaf& leaf, const Child& child) const;
  bool IsNullable(const Node& node) const;
  void FindNullable();
  NodeId NotEmpty(NodeId id, std::unordered_map<NodeId, NodeId>* memo, int depth);
  void RepeatOnlyWhatReads();
  std::vector<bool> FindProductive() const;
  bool IsProductive(const Node& node, const std::vector<bool>& productive) const;
  bool IsProductiveSet(const Node& node, const std::vector<bool>& productive) const;
  void Prune(const std::vector<bool>& productive);
  void PruneSet(Node* node, const std::vector<bool>& productive);
  // The nodes that `id` enters before a byte is read.
  void LeftCorners(NodeId id, std::vector<NodeId>* corners) const;
  bool Rank();

  GrammarLimits limits_;
  Grammar grammar_;
  bool overflowed_ = false;
  std::optional<Error> problem_;
  std::unordered_map<std::string, NodeId> known_;
};

}  // namespace lode::text::grammar
