// Structural tags: the description of a text as tags, free text between them and what stands inside
// of them, as clients of other servers send it -> nodes of a grammar.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/grammar/compile.h"
#include "text/grammar/grammar.h"

namespace lode::chat {

// `format`: {"type": "const_string" | "any_text" | "json_schema" | "regex" | "grammar" | "sequence"
// | "or" | "tag" | "triggered_tags" | "tags_with_separator", ...}; or the older form with
// "structures" and "triggers". Errors: kBadInput, kUnsupported with the path of what is wrong.
Result<text::grammar::NodeId> StructuralTagNode(text::grammar::GrammarBuilder* builder,
                                                const Json& format,
                                                const text::grammar::JsonStyle& style);

// Any text with none of these inside.
text::grammar::TermId TextWithout(text::grammar::Terms* terms,
                                  const std::vector<std::string>& words);

}  // namespace lode::chat
