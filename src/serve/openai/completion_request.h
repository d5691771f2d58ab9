// Completions' request -> prompts of token ids.
#pragma once

#include <string>
#include <vector>

#include "chat/service.h"
#include "serve/contexts/context_requests.h"
#include "serve/openai/rules.h"

namespace lode::serve {

struct CompletionCall {
  std::vector<chat::CompletionRequest> prompts;
  StreamRules stream;
  bool echo = false;
  ContextUse use;
};

// The field `name`: a text, token ids, or a list of either. `begins`: texts get what begins one.
// Errors: kBadInput with the field's path.
Result<std::vector<chat::CompletionRequest>> ReadPrompts(const Fields& fields, const char* name,
                                                         const text::Tokenizer& tokenizer,
                                                         bool begins = true);

// `origin`: by the key. Errors: kBadInput, kUnsupported with the field's path.
Result<CompletionCall> ReadCompletionRequest(const Json& body, const FieldLimits& limits,
                                             chat::Origin origin, const text::Tokenizer& tokenizer);

}  // namespace lode::serve
