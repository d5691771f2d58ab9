// NAME.call(KEY="...", ...): how one family of models calls the tools that it was trained with.
#pragma once

#include <string>
#include <string_view>

#include "text/parsers/lookahead.h"

namespace lode::text {

struct BuiltinCall {
  size_t bytes = 0;       // of the text that it takes
  std::string name;
  std::string arguments;  // JSON text of an object
};

// Whether `text` begins with such a call: kMore as long as it may become one, which it does within
// kBuiltinCallBytesMax bytes. Values are literals of Python.
Match MatchBuiltinCall(std::string_view text, BuiltinCall* call);
constexpr size_t kBuiltinCallBytesMax = 4096;

}  // namespace lode::text
