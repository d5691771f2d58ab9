// What an answer must look like, in the words of several servers: "response_format", and those that
// clients of vLLM and llama.cpp send. All become what chat::ChatRequest::response_format says.
#pragma once

#include "base/json.h"
#include "base/result.h"
#include "serve/fields.h"

namespace lode::serve {

// null: anything. Errors: kBadInput and kUnsupported with the field's path; two forms at once are
// one of them.
Result<Json> ReadAnswerForm(const Fields& fields);

}  // namespace lode::serve
