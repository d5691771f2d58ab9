// The fields that Chat Completions and Completions share: how an answer is drawn, when it ends, how
// it travels.
#pragma once

#include "chat/service.h"
#include "serve/fields.h"

namespace lode::serve {

struct StreamRules {
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool progress = false;  // of the prompt, as chunks of their own
};

// What limits the values of fields.
struct FieldLimits {
  int64_t vocabulary = 0;
  int64_t context = 0;
  int choices_max = 128;
};

// Errors: kBadInput with the field's path.
Result<chat::AnswerRules> ReadRules(const Fields& fields, const FieldLimits& limits);
Result<StreamRules> ReadStreamRules(const Fields& fields);
// `origin` knows the tenant, by the key; salt and priority are the request's.
Result<chat::Origin> ReadOrigin(const Fields& fields, chat::Origin origin);

}  // namespace lode::serve
