// What Chat Completions and Responses read in the same way: which tools may be called, how much is
// thought, what the template is told.
#pragma once

#include <string>

#include "chat/service.h"
#include "serve/fields.h"

namespace lode::serve {

// The field "tool_choice" (or "function_call"), in all its forms. `tools`: as NormalTools gives
// them. Errors of all three: kBadInput with the field's path.
Result<void> ReadToolChoice(const Fields& fields, const Json& tools, chat::ChatRequest* request);
// `name`: of the field that said it.
Result<void> CheckEffort(const Fields& fields, const char* name, const std::string& effort);
// "chat_template_kwargs" may not say what other fields say.
Result<void> CheckTemplateVariables(const Fields& fields, const Json& variables);

}  // namespace lode::serve
