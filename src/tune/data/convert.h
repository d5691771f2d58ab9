// Older and other shapes of conversations, translated into messages as OpenAI writes them.
#pragma once

#include "base/json.h"
#include "base/result.h"

namespace lode::tune {

// {"conversations": [{"from": "human", "value": ...}, ...], "system"?}, the ShareGPT shape; turns
// with role and content are taken as they are. Errors: a turn that has neither.
Result<Json> MessagesOfShareGpt(const Json& record);
// {"instruction", "input"?, "output", "system"?, "history"?}, the Alpaca shape.
Result<Json> MessagesOfAlpaca(const Json& record);
// "input" and "instructions" of a request to OpenAI's Responses API. Errors: an item that is
// neither a message, a call, nor a call's output.
Result<Json> MessagesOfResponses(const Json& params);

}  // namespace lode::tune
