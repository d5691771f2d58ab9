// Regular expressions as JSON Schema means them: ECMA-262 with the flag u, as far as they are
// regular. Done: characters, classes, groups, alternatives, counts, ^ and $, look-ahead, \d \w \s,
// \p{general category}. Refused, each by name: back references, look-behind, \b, flags, scripts,
// and ^ behind something that may be empty. Lazy counts accept what greedy ones do.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "text/grammar/characters.h"
#include "text/grammar/grammar.h"

namespace lode::text::grammar {

struct RegexOptions {
  Spelling spelling = Spelling::kJson;
  bool whole = false;  // the text must match from its beginning to its end; else somewhere
};

// All texts that match. Errors: kBadInput for what is no regular expression, kUnsupported for what
// is refused, kNoSpace beyond the limits; each with the place in the pattern.
Result<TermId> RegexTerm(Terms* terms, std::string_view pattern, const RegexOptions& options);

// Plain texts (no strings of JSON) that match from beginning to end. Errors: as above.
Result<NodeId> RegexNode(GrammarBuilder* builder, std::string_view pattern);

// "^C{m,n}$" for a class C, "^C*$", "^C+$": characters of one class, so many of them, which is a
// counter and no automaton. Nothing for any other pattern.
struct CountedClass {
  TermId any;  // any number of them
  uint32_t min, max;
};
std::optional<CountedClass> AsCountedClass(Terms* terms, std::string_view pattern,
                                           Spelling spelling);

}  // namespace lode::text::grammar
