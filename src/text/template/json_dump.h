// Python's json.dumps, as Hugging Face's tojson filter calls it. Internal.
#pragma once

#include <string>

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

struct JsonStyle {
  bool ascii_only = false;
  bool indented = false;
  std::string indent;              // one level's white space, when indented
  Value item_separator;            // missing: ", ", or "," when indented
  Value key_separator;             // missing: ": "
  bool sort_keys = false;
};

bool DumpValue(Context* context, const Value& value, const JsonStyle& style, Value* result);

}  // namespace lode::text::jinja
