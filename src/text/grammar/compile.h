// What turns a JSON schema, a regular expression or a GBNF text into a Grammar.
//
// JSON is written as the options say, compact unless asked otherwise; object keys come in the order
// of the schema, then those that only patternProperties or additionalProperties allow, or all in
// any order if so asked. Integers are digits without a fraction. Formats are
// enforced; formats that no draft knows and unknown keywords are annotations, as the drafts say.
// Nothing is enforced in part: a schema with a keyword that cannot be is refused, all such keywords
// with their paths. Threads: free.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "text/grammar/grammar.h"

namespace lode::text::grammar {

struct JsonStyle {
  // White space: none at all; or one space where json.dumps puts one (after ',' and ':') or none;
  // or runs of at most `run_max` of space, tab and line ends wherever JSON allows them between its
  // signs.
  enum class Space { kNone, kSpaced, kRuns };
  Space space = Space::kNone;
  uint32_t run_max = 40;
  // Keys of an object (and elements of arguments) in any order, each that the schema lists at most
  // once; otherwise in the order of the schema.
  bool any_order = false;
};

struct CompileLimits {
  size_t input_bytes_max = size_t{4} << 20;
  GrammarLimits grammar = {};
};

// Errors: kBadInput for a schema that is none or that nothing fits, kUnsupported for what cannot be
// enforced (paths and keywords), kNoSpace for what is too large.
Result<std::shared_ptr<const Grammar>> CompileJsonSchema(const Json& schema,
                                                         const JsonStyle& style = {},
                                                         const CompileLimits& limits = {});
// The same inside of another grammar. `schema` outlives the call only.
Result<NodeId> JsonSchemaNode(GrammarBuilder* builder, const Json& schema, const JsonStyle& style);
// Any JSON value (an object, if so asked).
Result<std::shared_ptr<const Grammar>> CompileAnyJson(bool object, const JsonStyle& style = {});

// Texts that match from beginning to end. See regex.h.
Result<std::shared_ptr<const Grammar>> CompileRegex(std::string_view pattern,
                                                    const CompileLimits& limits = {});

// llama.cpp's GBNF; the rule `root` is the whole. See gbnf.h.
Result<std::shared_ptr<const Grammar>> CompileGbnf(std::string_view text,
                                                   const CompileLimits& limits = {});

}  // namespace lode::text::grammar
