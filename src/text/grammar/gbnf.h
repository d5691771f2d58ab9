// GBNF, the grammar notation of llama.cpp, read into a Grammar: rules of literals, classes, groups,
// counts and other rules; `root` is the whole. What is regular becomes an automaton, the rest
// nodes.
//
// Refused: tokens by number or name (<...>), left recursion. Beyond llama.cpp, an alternative may
// begin a line.
#pragma once

#include <string_view>

#include "base/result.h"
#include "text/grammar/grammar.h"

namespace lode::text::grammar {

// Errors: kBadInput with the line for what is no GBNF and for rules that are missing; kUnsupported;
// kNoSpace beyond the limits.
Result<NodeId> GbnfNode(GrammarBuilder* builder, std::string_view text);

}  // namespace lode::text::grammar
