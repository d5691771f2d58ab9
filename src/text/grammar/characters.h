// Sets of Unicode characters, and how a text spells them in bytes: as UTF-8, or inside of a JSON
// string. A character may have several spellings; two characters never share one.
//
// Inside of a JSON string (Spelling::kJson) a character stands as UTF-8 if JSON allows it there, or
// as its two-byte escape if it has one; control characters also as \u00XX. Other \uXXXX are only in
// FreeJsonString, which any string without a further demand is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/terms.h"

namespace lode::text::grammar {

struct CodeRange {
  uint32_t first, last;
};

// Sorted, disjoint ranges in 0..0x10FFFF; surrogates may be in them and are never spelled.
class CodeSet {
 public:
  CodeSet() = default;
  CodeSet(std::initializer_list<CodeRange> ranges) {
    for (const CodeRange& range : ranges) Add(range.first, range.last);
  }
  static CodeSet All() { return {{0, 0x10FFFF}}; }

  void Add(uint32_t first, uint32_t last);
  void Add(const CodeSet& other);
  CodeSet Complement() const;
  CodeSet Intersect(const CodeSet& other) const;
  bool has(uint32_t code) const;
  bool empty() const { return ranges_.empty(); }
  const std::vector<CodeRange>& ranges() const { return ranges_; }

 private:
  std::vector<CodeRange> ranges_;
};

enum class Spelling { kRaw, kJson };

// One character of `set`. kNothing for the empty set.
TermId CharacterTerm(Terms* terms, const CodeSet& set, Spelling spelling);
// The text itself, all its spellings. Invalid UTF-8 is taken as U+FFFD.
TermId TextTerm(Terms* terms, std::string_view text, Spelling spelling);
// Any characters: Terms::json_star() or raw_star(), made on first use.
TermId AnyText(Terms* terms, Spelling spelling);
// The inside of any JSON string, every spelling that JSON has.
TermId FreeJsonText(Terms* terms);

}  // namespace lode::text::grammar
