// The functions a chat template may call: range, namespace, raise_exception, strftime_now, ...
// Internal.
#pragma once

#include <string_view>

#include "text/template/context.h"
#include "text/template/value.h"

namespace lode::text::jinja {

// Missing when there is no global function of that name.
Value FindGlobal(std::string_view name);
bool IsGlobal(std::string_view name);

}  // namespace lode::text::jinja
