// Chat Completions' request -> chat::ChatRequest.
#pragma once

#include <string>

#include "chat/service.h"
#include "serve/contexts/context_requests.h"
#include "serve/openai/rules.h"

namespace lode::serve {

struct ChatCall {
  chat::ChatRequest request;
  StreamRules stream;
  bool include_reasoning = true;
  ContextUse use;
};

// `origin`: by the key. Errors: kBadInput, kUnsupported with the field's path.
Result<ChatCall> ReadChatRequest(const Json& body, const FieldLimits& limits, chat::Origin origin);

}  // namespace lode::serve
