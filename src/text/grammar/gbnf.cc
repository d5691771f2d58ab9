#include "text/grammar/gbnf.h"

#include <algorithm>
#include <map>
#include <string>

#include "base/utf8.h"
#include "text/grammar/compile.h"

namespace lode::text::grammar {
namespace {

constexpr int kDepthMax = 150;        // nested groups
constexpr uint32_t kCountMax = 1000000;
constexpr size_t kRegularMax = 2000;  // parts of a rule that becomes one automaton
constexpr int kRulesDeep = 150;       // rules within rules that become one automaton

enum class Kind : uint8_t { kSet, kConcat, kAlt, kRepeat, kRule };

struct Part {
  Kind kind;
  CodeSet set;
  std::vector<uint32_t> children;
  uint32_t min = 1, max = 1;
  uint32_t rule = 0;
};

struct Rule {
  std::string name;
  bool defined = false;
  uint32_t body = 0;
  int line = 0;  // of its first mention
};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<void> Parse() {
    if (!IsValidUtf8(text_)) return Error(Code::kBadInput, "the grammar is not valid UTF-8");
    for (Space(true); at_ < text_.size(); Space(true)) LODE_TRY(ParseRule());
    for (const Rule& rule : rules)
      if (!rule.defined)
        return Error(Code::kBadInput, "grammar, line " + std::to_string(rule.line) + ": the rule " +
                                          rule.name + " is not defined");
    if (!names_.contains("root")) return Error(Code::kBadInput, "the grammar has no rule root");
    root = names_["root"];
    return {};
  }

  std::vector<Part> parts;
  std::vector<Rule> rules;
  uint32_t root = 0;

 private:
  Error Bad(const std::string& what, Code code = Code::kBadInput) const {
    return Error(code, "grammar, line " + std::to_string(Line()) + ": " + what);
  }
  int Line() const {
    const std::string_view before = text_.substr(0, at_);
    return 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  }
  bool Has(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool Take(std::string_view what) {
    if (!Has(what)) return false;
    at_ += what.size();
    return true;
  }
  void Space(bool lines) {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        at_ = std::min(text_.find('\n', at_), text_.size());
      } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }
  // Whether the next line goes on with an alternative.
  bool AlternativeFollows() {
    const size_t before = at_;
    Space(true);
    if (Has("|")) return true;
    at_ = before;
    return false;
  }
  static bool IsName(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  }
  std::string Name() {
    const size_t begin = at_;
    while (at_ < text_.size() && IsName(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  uint32_t RuleOf(const std::string& name) {
    const auto [it, added] = names_.try_emplace(name, static_cast<uint32_t>(rules.size()));
    if (added) rules.push_back({.name = name, .line = Line()});
    return it->second;
  }
  uint32_t Add(Part part) {
    parts.push_back(std::move(part));
    return static_cast<uint32_t>(parts.size() - 1);
  }
  uint32_t AddSet(CodeSet set) {
    return Add({.kind = Kind::kSet, .set = std::move(set), .children = {}});
  }

  Result<void> ParseRule() {
    const std::string name = Name();
    if (name.empty()) return Bad("a rule's name is missing");
    Space(false);
    if (!Take("::=")) return Bad("::= is missing behind " + name);
    Space(true);
    LODE_ASSIGN(const uint32_t body, Alternatives(0));
    Space(false);
    if (at_ < text_.size() && !Has("\n") && !Has("\r")) return Bad("unexpected text behind a rule");
    Rule& rule = rules[RuleOf(name)];
    if (rule.defined) return Bad("the rule " + name + " is defined twice");
    rule.defined = true;
    rule.body = body;
    return {};
  }

  Result<uint32_t> Alternatives(int depth) {
    if (depth > kDepthMax) return Bad("groups are nested too deeply", Code::kNoSpace);
    std::vector<uint32_t> choices;
    do {
      Space(true);
      LODE_ASSIGN(const uint32_t choice, Sequence(depth));
      choices.push_back(choice);
      if (depth > 0) Space(true);
    } while (AlternativeFollows() && Take("|"));
    if (choices.size() == 1) return choices[0];
    return Add({.kind = Kind::kAlt, .set = {}, .children = std::move(choices)});
  }

  Result<uint32_t> Sequence(int depth) {
    std::vector<uint32_t> items;
    for (;;) {
      Space(depth > 0);
      if (at_ >= text_.size() || Has("|") || Has(")") || Has("\n") || Has("\r")) break;
      const size_t first = items.size();
      LODE_TRY(Item(depth, &items));
      LODE_TRY(Counts(first, &items));
    }
    if (items.size() == 1) return items[0];
    return Add({.kind = Kind::kConcat, .set = {}, .children = std::move(items)});
  }

  Result<void> Item(int depth, std::vector<uint32_t>* items) {
    if (Take("\"")) {
      std::vector<uint32_t> characters;
      while (!Take("\"")) {
        LODE_ASSIGN(const uint32_t code, Character());
        characters.push_back(AddSet({{code, code}}));
      }
      items->push_back(Add({.kind = Kind::kConcat, .set = {}, .children = std::move(characters)}));
      return {};
    }
    if (Take("[")) {
      const bool complement = Take("^");
      CodeSet set;
      while (!Take("]")) {
        LODE_ASSIGN(const uint32_t first, Character());
        uint32_t last = first;
        if (Has("-") && !Has("-]")) {
          ++at_;
          LODE_ASSIGN(last, Character());
        }
        if (last < first) return Bad("a range whose ends are exchanged");
        set.Add(first, last);
      }
      items->push_back(AddSet(complement ? set.Complement() : std::move(set)));
      return {};
    }
    if (Take(".")) {
      items->push_back(AddSet(CodeSet::All()));
      return {};
    }
    if (Take("(")) {
      LODE_ASSIGN(const uint32_t inside, Alternatives(depth + 1));
      if (!Take(")")) return Bad("a group without its )");
      items->push_back(inside);
      return {};
    }
    if (Has("<")) return Bad("tokens (<...>) are not supported", Code::kUnsupported);
    const std::string name = Name();
    if (name.empty()) return Bad("unexpected text");
    items->push_back(Add({.kind = Kind::kRule, .set = {}, .children = {}, .rule = RuleOf(name)}));
    return {};
  }

  Result<void> Counts(size_t first, std::vector<uint32_t>* items) {
    for (;;) {
      uint32_t min = 0, max = kUnbounded;
      if (Take("+")) {
        min = 1;
      } else if (Take("?")) {
        max = 1;
      } else if (Take("{")) {
        LODE_TRY(Braces(&min, &max));
      } else if (!Take("*")) {
        return {};
      }
      if (items->size() == first) return Bad("a count of nothing");
      const uint32_t part = items->back();
      if (parts.size() > 1 && parts[part].kind == Kind::kRepeat && ++nested_ > 1000)
        return Bad("too many counts of counts", Code::kNoSpace);
      items->back() =
          Add({.kind = Kind::kRepeat, .set = {}, .children = {part}, .min = min, .max = max});
    }
  }

  Result<void> Braces(uint32_t* min, uint32_t* max) {
    const auto number = [&]() -> Result<uint32_t> {
      Space(false);
      uint64_t value = 0;
      const size_t begin = at_;
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9')
        value = std::min<uint64_t>(value * 10 + static_cast<uint64_t>(text_[at_++] - '0'), 1 << 30);
      if (at_ == begin) return Bad("a count without a number");
      if (value > kCountMax)
        return Bad("a count beyond " + std::to_string(kCountMax), Code::kNoSpace);
      Space(false);
      return static_cast<uint32_t>(value);
    };
    LODE_ASSIGN(*min, number());
    *max = *min;
    if (Take(",")) {
      Space(false);
      *max = kUnbounded;
      if (!Has("}")) {
        LODE_ASSIGN(*max, number());
      }
    }
    if (!Take("}")) return Bad("a count without its }");
    if (*min > *max) return Bad("a count whose ends are exchanged");
    return {};
  }

  Result<uint32_t> Character() {
    if (at_ >= text_.size()) return Bad("the text ends within a literal or a class");
    if (!Take("\\")) {
      const DecodedChar character = DecodeUtf8(text_, at_);
      at_ += static_cast<size_t>(character.bytes);
      return static_cast<uint32_t>(character.code_point);
    }
    if (at_ >= text_.size()) return Bad("the text ends within an escape");
    const char c = text_[at_++];
    switch (c) {
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      case '\\': case '"': case '[': case ']': case '-': case '^': case '/':
        return static_cast<uint32_t>(c);
      case 'x': return Hex(2);
      case 'u': return Hex(4);
      case 'U': return Hex(8);
      default: return Bad(std::string("the escape \\") + c + " is not known");
    }
  }

  Result<uint32_t> Hex(int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = at_ < text_.size() ? text_[at_] : ' ';
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return Bad("an escape without its hexadecimal digits");
      value = value << 4 | static_cast<uint32_t>(digit);
      ++at_;
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
      return Bad("an escape that is no character");
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
  int nested_ = 0;
  std::map<std::string, uint32_t> names_;
};

// From parts to nodes: what is regular and small as one automaton.
class Maker {
 public:
  Maker(GrammarBuilder* builder, const Parser& parser)
      : builder_(*builder), parser_(parser), rules_(parser.rules.size()) {}

  Result<NodeId> Make() {
    for (RuleState& rule : rules_) rule.node = builder_.Declare();
    for (uint32_t i = 0; i < rules_.size(); ++i) {
      builder_.Define(rules_[i].node, NodeOf(parser_.rules[i].body));
      if (builder_.overflowed() || builder_.terms().overflowed())
        return Error(Code::kNoSpace, "the grammar is too large");
    }
    return rules_[parser_.root].node;
  }

 private:
  struct RuleState {
    NodeId node = 0;
    enum : uint8_t { kNew, kOpen, kRegular, kNot } mark = kNew;
    size_t size = 0;
    TermId term = Terms::kNothing;
  };

  // How many parts a regular part has with all its rules; 0 if it is not regular, or too large.
  size_t RegularSize(uint32_t id, int depth) {
    const Part& part = parser_.parts[id];
    if (depth > kRulesDeep) return 0;
    if (part.kind == Kind::kSet) return 1;
    if (part.kind == Kind::kRule) {
      RuleState& rule = rules_[part.rule];
      if (rule.mark == RuleState::kNew) {
        rule.mark = RuleState::kOpen;
        rule.size = RegularSize(parser_.rules[part.rule].body, depth + 1);
        rule.mark = rule.size == 0 ? RuleState::kNot : RuleState::kRegular;
      }
      return rule.mark == RuleState::kRegular ? rule.size : 0;
    }
    size_t size = 1;
    for (const uint32_t child : part.children) {
      const size_t more = RegularSize(child, depth + 1);
      if (more == 0 || size + more > kRegularMax) return 0;
      size += more;
    }
    return size;
  }

  TermId TermOf(uint32_t id) {
    const Part& part = parser_.parts[id];
    Terms& terms = builder_.terms();
    switch (part.kind) {
      case Kind::kSet:
        return CharacterTerm(&terms, part.set, Spelling::kRaw);
      case Kind::kRule: {
        RuleState& rule = rules_[part.rule];
        if (rule.term == Terms::kNothing) rule.term = TermOf(parser_.rules[part.rule].body);
        return rule.term;
      }
      case Kind::kConcat: {
        TermId term = Terms::kEmpty;
        for (size_t i = part.children.size(); i-- > 0;)
          term = terms.Concat(TermOf(part.children[i]), term);
        return term;
      }
      case Kind::kAlt: {
        std::vector<TermId> choices;
        for (const uint32_t child : part.children) choices.push_back(TermOf(child));
        return terms.Alt(std::move(choices));
      }
      case Kind::kRepeat:
        return terms.Repeat(TermOf(part.children[0]), part.min, part.max);
    }
    return Terms::kNothing;
  }

  NodeId NodeOf(uint32_t id) {
    const Part& part = parser_.parts[id];
    if (RegularSize(id, 0) > 0) return builder_.Regular(TermOf(id));
    switch (part.kind) {
      case Kind::kRule:
        return rules_[part.rule].node;
      case Kind::kRepeat:
        return builder_.Repeat(NodeOf(part.children[0]), part.min, part.max);
      case Kind::kAlt: {
        std::vector<NodeId> choices;
        for (const uint32_t child : part.children) choices.push_back(NodeOf(child));
        return builder_.Choice(std::move(choices));
      }
      default:
        return Concat(part);
    }
  }

  // Neighbours that are regular become one automaton.
  NodeId Concat(const Part& part) {
    std::vector<NodeId> nodes;
    TermId term = Terms::kEmpty;
    const auto flush = [&] {
      if (term != Terms::kEmpty) nodes.push_back(builder_.Regular(term));
      term = Terms::kEmpty;
    };
    for (const uint32_t child : part.children) {
      if (RegularSize(child, 0) > 0) {
        term = builder_.terms().Concat(term, TermOf(child));
      } else {
        flush();
        nodes.push_back(NodeOf(child));
      }
    }
    flush();
    return builder_.Sequence(std::move(nodes));
  }

  GrammarBuilder& builder_;
  const Parser& parser_;
  std::vector<RuleState> rules_;
};

}  // namespace

Result<NodeId> GbnfNode(GrammarBuilder* builder, std::string_view text) {
  Parser parser(text);
  LODE_TRY(parser.Parse());
  return Maker(builder, parser).Make();
}

Result<std::shared_ptr<const Grammar>> CompileGbnf(std::string_view text,
                                                   const CompileLimits& limits) {
  if (text.size() > limits.input_bytes_max)
    return Error(Code::kNoSpace, "the grammar is too large");
  GrammarBuilder builder(limits.grammar);
  LODE_ASSIGN(const NodeId root, GbnfNode(&builder, text));
  return builder.Finish(root);
}

}  // namespace lode::text::grammar
