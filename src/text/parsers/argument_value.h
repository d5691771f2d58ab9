// The text of one argument, as a model wrote it between its tags, turned into JSON by the kind that
// the tool's schema names. Numbers keep their digits: nothing is rounded through a double.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json_text.h"
#include "text/parsers/tool_schemas.h"

namespace lode::text {

// JSON text for `text`. What does not fit its kind becomes a JSON string, never an error: the
// client validates, and it can only do so with what the model wrote.
//   integer, number  the digits as written (+1, .5, 1_000, 3.0 for an integer: normalized)
//   boolean          true/false in any case
//   object, array    JSON; else a Python literal; else JSON inside one JSON string
//   any of these     null/None
//   string           verbatim; null/None only when the type is nullable
// A number too large for a double does not fit, because readers of JSON refuse it.
// Nesting deeper than kArgumentDepthMax is not read as JSON.
std::string ConvertArgument(std::string_view text, const ParameterType& type);
constexpr int kArgumentDepthMax = 100;

// `text` as JSON without white space between its tokens, or nothing when it is not strictly JSON.
std::optional<std::string> CompactJson(std::string_view text);
// The same for a Python literal: True, None, 'strings', (tuples), trailing commas.
std::optional<std::string> CompactPython(std::string_view text);

}  // namespace lode::text
