// Python's two ways to format text: "%s" % x and "{}".format(x). Internal.
#pragma once

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

// `arguments` is what stands right of %: a tuple of values, a dict for %(name)s, or one value.
bool PercentFormat(Context* context, const Str& format, const Value& arguments, Value* result);
bool BraceFormat(Context* context, const Str& format, const Arguments& arguments, Value* result);

}  // namespace lode::text::jinja
