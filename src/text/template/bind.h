// Binds the arguments of a call to parameter names, as Python does. Internal.
#pragma once

#include <initializer_list>

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

// Fills values[0..names.size()) from `arguments`; what was not given stays missing. A name of ""
// is positional only. The first `required` must be given. Fails with Python's kind of sentence.
bool Bind(Context* context, const char* function, const Arguments& arguments,
          std::initializer_list<const char*> names, size_t required, Value* values);

// Reads a bound integer; `fallback` when it is missing (or none, if `none_too`).
bool BindInt(Context* context, const Value& value, int64_t fallback, bool none_too, int64_t* out);

}  // namespace lode::text::jinja
