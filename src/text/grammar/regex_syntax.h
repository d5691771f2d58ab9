// The syntax tree of a regular expression (see regex.h), and the parser that makes it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/grammar/characters.h"

namespace lode::text::grammar {

enum class RegexKind : uint8_t { kSet, kConcat, kAlt, kRepeat, kCaret, kDollar, kAhead, kNotAhead };

struct RegexSyntax {
  struct Node {
    RegexKind kind;
    bool special = false;     // holds an anchor or a look-ahead
    uint32_t first = 0;       // index in sets (kSet) or in children
    uint32_t count = 0;       // of children
    uint32_t min = 0, max = 0;  // kRepeat
  };
  std::vector<Node> nodes;
  std::vector<uint32_t> children;
  std::vector<CodeSet> sets;
  uint32_t root = 0;
};

// Errors: as RegexTerm.
Result<RegexSyntax> ParseRegexSyntax(std::string_view pattern);

}  // namespace lode::text::grammar
