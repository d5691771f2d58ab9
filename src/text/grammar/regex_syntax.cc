#include "text/grammar/regex_syntax.h"

#include <utf8proc.h>

#include <algorithm>
#include <map>
#include <string>

#include "base/utf8.h"

namespace lode::text::grammar {
namespace {

constexpr size_t kPatternMax = 65536;  // bytes
constexpr int kDepthMax = 100;         // nested groups
constexpr uint32_t kCountMax = 1000000;

const CodeSet& Digits() {
  static const CodeSet set{{'0', '9'}};
  return set;
}
const CodeSet& Word() {
  static const CodeSet set{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  return set;
}
const CodeSet& Space() {
  static const CodeSet set{{9, 13},          {32, 32},         {0xA0, 0xA0},     {0x1680, 0x1680},
                           {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                           {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
  return set;
}
const CodeSet& LineEnds() {
  static const CodeSet set{{10, 10}, {13, 13}, {0x2028, 0x2029}};
  return set;
}

// All characters of a general category: "L", "Lu". Empty for an unknown one.
CodeSet Category(std::string_view name) {
  CodeSet set;
  uint32_t first = 0;
  bool inside = false;
  for (uint32_t code = 0; code <= 0x110000; ++code) {
    const bool has =
        code < 0x110000 &&
        std::string_view(utf8proc_category_string(static_cast<int32_t>(code))).starts_with(name);
    if (has && !inside) first = code;
    if (!has && inside) set.Add(first, code - 1);
    inside = has;
  }
  return set;
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  Result<RegexSyntax> Parse() {
    if (pattern_.size() > kPatternMax)
      return Error(Code::kNoSpace, "the regular expression is longer than " +
                                       std::to_string(kPatternMax) + " bytes");
    if (!IsValidUtf8(pattern_))
      return Error(Code::kBadInput, "the regular expression is not valid UTF-8");
    LODE_ASSIGN(syntax_.root, Alternatives(0));
    if (at_ < pattern_.size()) return Bad("an unmatched )");
    return std::move(syntax_);
  }

 private:
  Error Fail(Code code, const std::string& what) const {
    return Error(code, "regular expression: " + what + " at byte " + std::to_string(at_));
  }
  Error Bad(const std::string& what) const { return Fail(Code::kBadInput, what); }
  Error No(const std::string& what) const {
    return Fail(Code::kUnsupported, what + " is not supported,");
  }
  bool Has(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  bool Take(std::string_view text) {
    if (!Has(text)) return false;
    at_ += text.size();
    return true;
  }
  bool done() const { return at_ >= pattern_.size(); }
  uint32_t TakeCode() {
    const DecodedChar character = DecodeUtf8(pattern_, at_);
    at_ += static_cast<size_t>(character.bytes);
    return static_cast<uint32_t>(character.code_point);
  }

  uint32_t AddSet(CodeSet set) {
    syntax_.sets.push_back(std::move(set));
    return AddNode({.kind = RegexKind::kSet,
                    .first = static_cast<uint32_t>(syntax_.sets.size() - 1)});
  }
  uint32_t AddNode(RegexSyntax::Node node) {
    syntax_.nodes.push_back(node);
    return static_cast<uint32_t>(syntax_.nodes.size() - 1);
  }
  uint32_t AddParent(RegexKind kind, const std::vector<uint32_t>& children) {
    RegexSyntax::Node node{.kind = kind,
                           .first = static_cast<uint32_t>(syntax_.children.size()),
                           .count = static_cast<uint32_t>(children.size())};
    node.special = kind == RegexKind::kCaret || kind == RegexKind::kDollar ||
                   kind == RegexKind::kAhead || kind == RegexKind::kNotAhead;
    for (const uint32_t child : children) node.special |= syntax_.nodes[child].special;
    syntax_.children.insert(syntax_.children.end(), children.begin(), children.end());
    return AddNode(node);
  }

  Result<uint32_t> Alternatives(int depth) {
    if (depth > kDepthMax) return Fail(Code::kNoSpace, "groups are nested too deeply");
    std::vector<uint32_t> alternatives;
    do {
      std::vector<uint32_t> parts;
      while (!done() && !Has("|") && !Has(")")) {
        LODE_ASSIGN(const uint32_t part, Counted(depth));
        parts.push_back(part);
      }
      alternatives.push_back(parts.size() == 1 ? parts[0] : AddParent(RegexKind::kConcat, parts));
    } while (Take("|"));
    return alternatives.size() == 1 ? alternatives[0] : AddParent(RegexKind::kAlt, alternatives);
  }

  // An atom and the counts behind it.
  Result<uint32_t> Counted(int depth) {
    LODE_ASSIGN(uint32_t atom, Atom(depth));
    uint32_t min = 1, max = 1;
    if (Take("*")) {
      min = 0, max = kUnbounded;
    } else if (Take("+")) {
      max = kUnbounded;
    } else if (Take("?")) {
      min = 0;
    } else if (Has("{")) {
      LODE_ASSIGN(const bool is_count, Count(&min, &max));
      if (!is_count) return atom;
    } else {
      return atom;
    }
    Take("?");
    if (Has("*") || Has("+") || Has("?")) return Bad("a count of a count");
    const uint32_t node = AddParent(RegexKind::kRepeat, {atom});
    syntax_.nodes[node].min = min;
    syntax_.nodes[node].max = max;
    return node;
  }

  // {n}, {n,}, {n,m}; false if the brace is only a brace.
  Result<bool> Count(uint32_t* min, uint32_t* max) {
    const size_t begin = at_;
    ++at_;
    const auto number = [&](uint32_t* value) {
      const size_t first = at_;
      uint64_t sum = 0;
      while (!done() && pattern_[at_] >= '0' && pattern_[at_] <= '9')
        sum = std::min<uint64_t>(sum * 10 + static_cast<uint64_t>(pattern_[at_++] - '0'), 1 << 30);
      *value = static_cast<uint32_t>(sum);
      return at_ > first;
    };
    if (Has(",")) return No("a count without its lower end");
    if (!number(min)) {
      at_ = begin;
      return Bad("a brace that is no count (write \\{)");
    }
    *max = *min;
    if (Take(",") && !number(max)) *max = kUnbounded;
    if (!Take("}")) {
      at_ = begin;
      return Bad("a brace that is no count (write \\{)");
    }
    if (*min > *max) return Bad("a count whose ends are exchanged");
    if (*min > kCountMax || (*max > kCountMax && *max != kUnbounded))
      return Fail(Code::kNoSpace, "a count beyond " + std::to_string(kCountMax));
    return true;
  }

  Result<uint32_t> Atom(int depth) {
    if (Take("^")) return AddParent(RegexKind::kCaret, {});
    if (Take("$")) return AddParent(RegexKind::kDollar, {});
    if (Take(".")) return AddSet(LineEnds().Complement());
    if (Has("(")) return Group(depth);
    if (Take("[")) return Class();
    if (Has("*") || Has("+") || Has("?")) return Bad("a count of nothing");
    // A brace that opens no count stands for itself, as everybody's programs have it.
    if (Has("\\")) {
      CodeSet set;
      LODE_ASSIGN(const bool one, EscapeInto(&set, false));
      static_cast<void>(one);
      return AddSet(std::move(set));
    }
    const uint32_t code = TakeCode();
    return AddSet({{code, code}});
  }

  Result<uint32_t> Group(int depth) {
    ++at_;
    RegexKind look = RegexKind::kConcat;
    if (Take("?")) {
      if (Take("=")) {
        look = RegexKind::kAhead;
      } else if (Take("!")) {
        look = RegexKind::kNotAhead;
      } else if (Has("<=") || Has("<!")) {
        return No("look-behind");
      } else if (Take("<") || Take("P<")) {
        const size_t end = pattern_.find('>', at_);
        if (end == std::string_view::npos) return Bad("a group's name without an end");
        at_ = end + 1;
      } else if (!Take(":")) {
        return No("a group with flags");
      }
    }
    LODE_ASSIGN(const uint32_t inside, Alternatives(depth + 1));
    if (!Take(")")) return Bad("a group without its )");
    return look == RegexKind::kConcat ? inside : AddParent(look, {inside});
  }

  Result<uint32_t> Class() {
    const bool complement = Take("^");
    CodeSet set;
    while (!Has("]")) {
      if (done()) return Bad("a class without its ]");
      LODE_TRY(ClassItem(&set));
    }
    ++at_;
    return AddSet(complement ? set.Complement() : std::move(set));
  }

  Result<void> ClassItem(CodeSet* set) {
    CodeSet first;
    LODE_ASSIGN(const bool one, ClassAtom(&first));
    const bool range = Has("-") && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']';
    if (!range || !one) {
      set->Add(first);
      return {};
    }
    const size_t dash = at_;
    ++at_;
    CodeSet last;
    LODE_ASSIGN(const bool ends, ClassAtom(&last));
    if (!ends) {  // [a-\d]: the dash is a dash
      set->Add(first);
      set->Add(last);
      set->Add('-', '-');
      return {};
    }
    if (first.ranges()[0].first > last.ranges()[0].first) {
      at_ = dash;
      return Bad("a range whose ends are exchanged");
    }
    set->Add(first.ranges()[0].first, last.ranges()[0].first);
    return {};
  }

  // True if it is one character, which may begin a range.
  Result<bool> ClassAtom(CodeSet* set) {
    if (done()) return Bad("a class without its ]");
    if (Has("\\")) return EscapeInto(set, true);
    const uint32_t code = TakeCode();
    set->Add(code, code);
    return true;
  }

  Result<uint32_t> Hex(int digits) {
    uint32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = done() ? ' ' : pattern_[at_];
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return Bad("an escape without its hexadecimal digits");
      value = value * 16 + static_cast<uint32_t>(digit);
      ++at_;
    }
    return value;
  }

  Result<uint32_t> UnicodeEscape() {
    if (Take("{")) {
      const size_t end = pattern_.find('}', at_);
      if (end == std::string_view::npos || end == at_ || end - at_ > 6)
        return Bad("an escape without its hexadecimal digits");
      LODE_ASSIGN(const uint32_t code, Hex(static_cast<int>(end - at_)));
      ++at_;
      return code > 0x10FFFF ? Result<uint32_t>(Bad("a character beyond Unicode"))
                             : Result<uint32_t>(code);
    }
    LODE_ASSIGN(const uint32_t code, Hex(4));
    if (code >= 0xD800 && code <= 0xDBFF && Has("\\u") && !Has("\\u{")) {
      at_ += 2;
      LODE_ASSIGN(const uint32_t low, Hex(4));
      if (low < 0xDC00 || low > 0xDFFF) return Bad("half of a surrogate pair");
      return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code >= 0xD800 && code <= 0xDFFF) return No("half of a surrogate pair");
    return code;
  }

  Result<void> Property(bool complement, CodeSet* set) {
    const size_t end = pattern_.find('}', at_);
    if (!Take("{") || end == std::string_view::npos) return Bad("a property without braces");
    std::string_view name = pattern_.substr(at_, end - at_);
    static constexpr std::pair<std::string_view, std::string_view> kNames[] = {
        {"Letter", "L"},      {"Lowercase_Letter", "Ll"}, {"Uppercase_Letter", "Lu"},
        {"Number", "N"},      {"Decimal_Number", "Nd"},   {"digit", "Nd"},
        {"Punctuation", "P"}, {"Symbol", "S"},            {"Mark", "M"},
        {"Separator", "Z"},   {"Space_Separator", "Zs"}};
    for (const auto& [full, brief] : kNames)
      if (name == full) name = brief;
    CodeSet found;
    const bool category = !name.empty() && name.size() <= 2 &&
                          std::string_view("LMNPSZC").find(name[0]) != std::string_view::npos;
    if (category) {
      const auto [known, added] = categories_.try_emplace(std::string(name));
      if (added) known->second = Category(name);
      found = known->second;
    }
    if (found.empty()) return No("the property " + std::string(name));
    at_ = end + 1;
    set->Add(complement ? found.Complement() : found);
    return {};
  }

  // What \x means. True if it is one character.
  Result<bool> EscapeInto(CodeSet* set, bool in_class) {
    ++at_;
    if (done()) return Bad("a \\ at the end");
    const auto add = [&](uint32_t code) {
      set->Add(code, code);
      return true;
    };
    const uint32_t code = TakeCode();
    switch (code) {
      case 'd': return set->Add(Digits()), false;
      case 'D': return set->Add(Digits().Complement()), false;
      case 'w': return set->Add(Word()), false;
      case 'W': return set->Add(Word().Complement()), false;
      case 's': return set->Add(Space()), false;
      case 'S': return set->Add(Space().Complement()), false;
      case 'n': return add('\n');
      case 'r': return add('\r');
      case 't': return add('\t');
      case 'f': return add('\f');
      case 'v': return add('\v');
      case '0':
        if (!done() && pattern_[at_] >= '0' && pattern_[at_] <= '9') return No("an octal escape");
        return add(0);
      case 'x': {
        LODE_ASSIGN(const uint32_t value, Hex(2));
        return add(value);
      }
      case 'u': {
        LODE_ASSIGN(const uint32_t value, UnicodeEscape());
        return add(value);
      }
      case 'c':
        if (done() || !std::isalpha(static_cast<unsigned char>(pattern_[at_])))
          return Bad("\\c without a letter");
        return add(static_cast<uint32_t>(pattern_[at_++]) & 31);
      case 'p':
      case 'P': {
        LODE_TRY(Property(code == 'P', set));
        return false;
      }
      case 'b':
        if (in_class) return add(8);
        return No("\\b (a word's edge)");
      default:
        break;
    }
    const bool letter = (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z');
    if (code >= '1' && code <= '9') return No("a back reference");
    if (letter) return No(std::string("the escape \\") + static_cast<char>(code));
    return add(code);
  }

  std::string_view pattern_;
  size_t at_ = 0;
  std::map<std::string, CodeSet> categories_;  // a walk over all of Unicode each
  RegexSyntax syntax_;
};

}  // namespace

Result<RegexSyntax> ParseRegexSyntax(std::string_view pattern) { return Parser(pattern).Parse(); }

}  // namespace lode::text::grammar
