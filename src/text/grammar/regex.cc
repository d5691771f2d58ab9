#include "text/grammar/regex.h"

#include <algorithm>

#include "text/grammar/regex_syntax.h"

namespace lode::text::grammar {
namespace {

// Builds terms with what follows in hand ("tail"), so that look-ahead and $ are plain
// intersections.
class Builder {
 public:
  Builder(Terms* terms, const RegexSyntax& syntax, const RegexOptions& options)
      : terms_(terms), syntax_(syntax), spelling_(options.spelling) {
    any_ = AnyText(terms, spelling_);
  }

  Result<TermId> Whole() { return Build(syntax_.root, true, Terms::kEmpty); }
  Result<TermId> Search() {
    LODE_ASSIGN(const TermId here, Build(syntax_.root, true, any_));
    LODE_ASSIGN(const TermId later, Build(syntax_.root, false, any_));
    return terms_->Alt({here, terms_->Concat(any_, later)});
  }

 private:
  using Node = RegexSyntax::Node;
  const Node& at(uint32_t node) const { return syntax_.nodes[node]; }
  std::span<const uint32_t> children(uint32_t node) const {
    return {syntax_.children.data() + at(node).first, at(node).count};
  }

  // A node without anchors and look-ahead.
  TermId Plain(uint32_t node) {
    switch (at(node).kind) {
      case RegexKind::kSet:
        return CharacterTerm(terms_, syntax_.sets[at(node).first], spelling_);
      case RegexKind::kConcat: {
        TermId term = Terms::kEmpty;
        const auto parts = children(node);
        for (size_t i = parts.size(); i-- > 0;) term = terms_->Concat(Plain(parts[i]), term);
        return term;
      }
      case RegexKind::kAlt: {
        std::vector<TermId> parts;
        for (const uint32_t child : children(node)) parts.push_back(Plain(child));
        return terms_->Alt(std::move(parts));
      }
      case RegexKind::kRepeat:
        return terms_->Repeat(Plain(children(node)[0]), at(node).min, at(node).max);
      default:
        return Terms::kNothing;
    }
  }

  bool MayBeEmpty(uint32_t node) const {
    switch (at(node).kind) {
      case RegexKind::kSet:
        return false;
      case RegexKind::kConcat:
        return std::ranges::all_of(children(node), [&](uint32_t c) { return MayBeEmpty(c); });
      case RegexKind::kAlt:
        return std::ranges::any_of(children(node), [&](uint32_t c) { return MayBeEmpty(c); });
      case RegexKind::kRepeat:
        return at(node).min == 0 || MayBeEmpty(children(node)[0]);
      default:
        return true;
    }
  }
  bool IsZeroWidth(uint32_t node) const {
    return at(node).kind == RegexKind::kCaret || at(node).kind == RegexKind::kDollar ||
           at(node).kind == RegexKind::kAhead || at(node).kind == RegexKind::kNotAhead;
  }
  bool HasCaret(uint32_t node) const {
    if (!at(node).special) return false;
    if (at(node).kind == RegexKind::kCaret) return true;
    return std::ranges::any_of(children(node), [&](uint32_t c) { return HasCaret(c); });
  }

  // `begin`: nothing stands before, so ^ holds; otherwise something does.
  Result<TermId> Build(uint32_t node, bool begin, TermId tail) {
    if (!at(node).special) return terms_->Concat(Plain(node), tail);
    switch (at(node).kind) {
      case RegexKind::kCaret:
        return begin ? tail : Terms::kNothing;
      case RegexKind::kDollar:
        return terms_->And({tail, Terms::kEmpty});
      case RegexKind::kAhead:
      case RegexKind::kNotAhead: {
        LODE_ASSIGN(const TermId ahead, Build(children(node)[0], begin, any_));
        const bool negative = at(node).kind == RegexKind::kNotAhead;
        return terms_->And({negative ? terms_->Not(ahead) : ahead, tail});
      }
      case RegexKind::kAlt: {
        std::vector<TermId> parts;
        for (const uint32_t child : children(node)) {
          LODE_ASSIGN(const TermId part, Build(child, begin, tail));
          parts.push_back(part);
        }
        return terms_->Alt(std::move(parts));
      }
      case RegexKind::kConcat:
        return BuildConcat(node, begin, tail);
      case RegexKind::kRepeat:
        if (at(node).min == 0 && at(node).max == 1) {
          LODE_ASSIGN(const TermId once, Build(children(node)[0], begin, tail));
          return terms_->Alt({once, tail});
        }
        [[fallthrough]];
      default:
        return Error(Code::kUnsupported,
                     "regular expression: an anchor or a look-ahead is repeated by a count");
    }
  }

  Result<TermId> BuildConcat(uint32_t node, bool begin, TermId tail) {
    const auto parts = children(node);
    std::vector<bool> begins(parts.size());
    bool maybe = false;  // whether something stands before is not certain
    for (size_t i = 0; i < parts.size(); ++i) {
      begins[i] = begin;
      if (maybe && HasCaret(parts[i]))
        return Error(Code::kUnsupported,
                     "regular expression: ^ stands behind something that may be empty");
      if (IsZeroWidth(parts[i])) continue;
      if (MayBeEmpty(parts[i])) {
        maybe = maybe || begin;
      } else {
        begin = maybe = false;
      }
    }
    for (size_t i = parts.size(); i-- > 0;) {
      LODE_ASSIGN(tail, Build(parts[i], begins[i], tail));
    }
    return tail;
  }

  Terms* terms_;
  const RegexSyntax& syntax_;
  Spelling spelling_;
  TermId any_;
};

}  // namespace

Result<TermId> RegexTerm(Terms* terms, std::string_view pattern, const RegexOptions& options) {
  LODE_ASSIGN(const RegexSyntax syntax, ParseRegexSyntax(pattern));
  Builder builder(terms, syntax, options);
  auto term = options.whole ? builder.Whole() : builder.Search();
  if (terms->overflowed())
    return Error(Code::kNoSpace, "the regular expression is too large",
                 "use fewer or smaller classes and alternatives");
  return term;
}

Result<NodeId> RegexNode(GrammarBuilder* builder, std::string_view pattern) {
  LODE_ASSIGN(const TermId term, RegexTerm(&builder->terms(), pattern,
                                           {.spelling = Spelling::kRaw, .whole = true}));
  return builder->Regular(term);
}

std::optional<CountedClass> AsCountedClass(Terms* terms, std::string_view pattern,
                                           Spelling spelling) {
  const auto syntax = ParseRegexSyntax(pattern);
  if (!syntax.ok()) return std::nullopt;
  const auto& nodes = syntax->nodes;
  const auto& root = nodes[syntax->root];
  if (root.kind != RegexKind::kConcat || root.count != 3) return std::nullopt;
  const auto child = [&](uint32_t i) -> const RegexSyntax::Node& {
    return nodes[syntax->children[root.first + i]];
  };
  const RegexSyntax::Node& repeat = child(1);
  if (child(0).kind != RegexKind::kCaret || child(2).kind != RegexKind::kDollar ||
      repeat.kind != RegexKind::kRepeat)
    return std::nullopt;
  const RegexSyntax::Node& set = nodes[syntax->children[repeat.first]];
  if (set.kind != RegexKind::kSet) return std::nullopt;
  const TermId one = CharacterTerm(terms, syntax->sets[set.first], spelling);
  return CountedClass{terms->Star(one), repeat.min, repeat.max};
}

}  // namespace lode::text::grammar
