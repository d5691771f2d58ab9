// The formats of JSON Schema as regular expressions. Each accepts only what the format's RFC does,
// and not always all of it: dates have T and Z in capitals, host names no doubled hyphens.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lode::text::grammar {

// A pattern that whole texts match, for RegexTerm. Nothing: an unknown format, which is an
// annotation.
std::optional<std::string> FormatPattern(std::string_view format);
// A format that the drafts define and nothing here can enforce.
bool IsUnenforcedFormat(std::string_view format);

}  // namespace lode::text::grammar
