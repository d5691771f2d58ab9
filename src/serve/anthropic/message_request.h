// Anthropic's Messages request -> chat::ChatRequest.
#pragma once

#include "chat/service.h"
#include "serve/openai/rules.h"

namespace lode::serve {

struct MessageCall {
  chat::ChatRequest request;
  bool stream = false;
};

// `counting`: max_tokens need not be there. Errors: kBadInput, kUnsupported with the field's path.
Result<MessageCall> ReadMessageRequest(const Json& body, const FieldLimits& limits,
                                       chat::Origin origin, bool counting);

}  // namespace lode::serve
