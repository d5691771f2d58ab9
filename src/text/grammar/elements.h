// Arguments of a call as elements between tags, in the order of the schema: what models that write
// calls as XML have instead of a JSON object.
#pragma once

#include <string>

#include "base/json.h"
#include "text/grammar/compile.h"
#include "text/grammar/grammar.h"

namespace lode::text::grammar {

// Each is  before_key KEY after_key VALUE after_value . A value that may be a string is any text
// without `value_end`; others are JSON.
struct ElementTags {
  std::string before_key, after_key, after_value, value_end;

  static ElementTags Xml();  // <parameter=KEY> VALUE </parameter>, each on lines of its own
};

// Undeclared keys are not allowed. Errors: those of CompileJsonSchema.
Result<NodeId> ArgumentElements(GrammarBuilder* builder, const Json& schema,
                                const ElementTags& tags, const JsonStyle& style);

}  // namespace lode::text::grammar
