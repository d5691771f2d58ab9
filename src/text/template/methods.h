// Attributes that values have by their type: "abc".upper, {}.items, [].index. Internal.
#pragma once

#include <string_view>

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

using Method = bool (*)(Context* context, const Value& self, const Arguments& arguments,
                        Value* result);

// Python's getattr(value, name) without the item fallback: a bound method, an attribute of an
// object, or an undefined value that refuses (what would change a container, and private names).
bool FindMethod(Context* context, const Value& value, std::string_view name, Value* out,
                bool* found);
// The method itself, for a call that needs no bound object; null when `name` is none.
Method LookUpMethod(const Value& value, std::string_view name);
Method LookUpStrMethod(std::string_view name);

}  // namespace lode::text::jinja
