// Finds out, as Jinja's compiler does, which names each scope hides and which the whole template
// expects from outside. Internal.
#pragma once

#include "text/template/ast.h"

namespace lode::text::jinja {

// Fills the `hidden` lists and Template::free_names.
void AnalyzeScopes(Template* parsed);

}  // namespace lode::text::jinja
