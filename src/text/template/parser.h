// Tokens to a Template, by Jinja's grammar. Internal.
#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "text/template/ast.h"

namespace lode::text::jinja {

// Errors: kBadInput, "template line N: ...". Nesting is limited.
Result<std::unique_ptr<Template>> ParseTemplate(std::string_view source);

}  // namespace lode::text::jinja
