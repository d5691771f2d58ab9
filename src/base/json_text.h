// Text as JSON writes it, where no tree of values is wanted. Threads: free for all. Errors: none.
#pragma once

#include <string>
#include <string_view>

namespace lode {

// Appends `text` as the inside of a JSON string, in the shortest spelling. Bytes above 0x7F stay.
void AppendEscaped(std::string_view text, std::string* out);
// `text` as a JSON string, quotes included.
std::string QuoteJson(std::string_view text);

}  // namespace lode
