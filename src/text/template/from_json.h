// JSON text to template values; without the JSON library in sight. Internal.
#pragma once

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

// Values made of input text count as input, byte for byte where they are strings.
bool ParseJsonText(Context* context, const Str& text, Value* out);

}  // namespace lode::text::jinja
