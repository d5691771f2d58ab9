// A JSON document as template values. Internal.
#pragma once

#include "base/json.h"
#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

// `input` says whether the document comes from the request. Invalid UTF-8 is replaced.
bool FromJson(Context* context, const Json& json, bool input, Value* out);

}  // namespace lode::text::jinja
