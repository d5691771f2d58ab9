#include "serve/openai/completion_request.h"

#include <utility>

#include "base/text.h"
#include "serve/openai/answer_form.h"

namespace lode::serve {
namespace {

constexpr size_t kPromptsMax = 1024;

Result<std::vector<int32_t>> ReadIds(const Fields& fields, const char* name, const Json& list,
                                     const text::Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || !tokenizer.Has(id.get<int64_t>())) {
      return fields.Bad(name, Quote(DumpJson(id), 40) + " is not the id of a token");
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

Result<std::vector<chat::CompletionRequest>> ReadPrompts(const Fields& fields, const char* name,
                                                         const text::Tokenizer& tokenizer,
                                                         bool begins) {
  std::vector<chat::CompletionRequest> prompts;
  const auto add = [&](const Json& one) -> Result<void> {
    chat::CompletionRequest request;
    if (one.is_string()) {
      request.said = one.get<std::string>();
      LODE_ASSIGN(request.prompt, tokenizer.Encode(request.said, {.add_special = begins}));
    } else if (one.is_array()) {
      LODE_ASSIGN(request.prompt, ReadIds(fields, name, one, tokenizer));
      LODE_ASSIGN(request.said, tokenizer.Decode(request.prompt));
    } else {
      return fields.Bad(name, "must be text, token ids, or a list of either");
    }
    if (request.prompt.empty()) return fields.Bad(name, "is empty");
    prompts.push_back(std::move(request));
    return {};
  };
  const Json* prompt = fields.Find(name);
  if (prompt == nullptr) return fields.Bad(name, "is missing");
  const bool several = prompt->is_array() && (prompt->empty() || !prompt->front().is_number());
  if (!several) {
    LODE_TRY(add(*prompt));
    return prompts;
  }
  if (prompt->empty()) return fields.Bad(name, "is an empty list");
  if (prompt->size() > kPromptsMax) {
    return fields.Bad(name,
                      Format("has %zu entries, and may have %zu", prompt->size(), kPromptsMax));
  }
  for (const Json& one : *prompt) LODE_TRY(add(one));
  return prompts;
}

Result<CompletionCall> ReadCompletionRequest(const Json& body, const FieldLimits& limits,
                                             chat::Origin origin,
                                             const text::Tokenizer& tokenizer) {
  const Fields fields(body);
  CompletionCall call;
  LODE_ASSIGN(call.use, ReadContextUse(fields));
  LODE_ASSIGN(call.prompts, ReadPrompts(fields, "prompt", tokenizer, call.use.id.empty()));
  LODE_ASSIGN(chat::AnswerRules rules, ReadRules(fields, limits));
  LODE_ASSIGN(const auto tokens_max, fields.Integer("max_tokens", 0, int64_t{1} << 31));
  rules.tokens_max = tokens_max.value_or(16);
  LODE_ASSIGN(const auto logprobs, fields.Integer("logprobs", 0, 20));
  rules.logprobs = logprobs.value_or(-1);
  LODE_ASSIGN(const auto best_of, fields.Integer("best_of", 1, limits.choices_max));
  if (best_of && *best_of != rules.choices) {
    return Error(Code::kUnsupported, "best_of: must be the same as n");
  }
  if (const Json* suffix = fields.Find("suffix"); suffix != nullptr && *suffix != "") {
    return Error(Code::kUnsupported, "suffix: this model does not fill in between");
  }
  LODE_ASSIGN(const auto echo, fields.Bool("echo"));
  call.echo = echo.value_or(false);
  rules.prompt_logprobs = call.echo && rules.logprobs >= 0;
  LODE_ASSIGN(call.stream, ReadStreamRules(fields));
  LODE_ASSIGN(const chat::Origin own, ReadOrigin(fields, std::move(origin)));
  LODE_ASSIGN(const Json form, ReadAnswerForm(fields));
  for (chat::CompletionRequest& prompt : call.prompts) {
    prompt.response_format = form;
    prompt.rules = rules;
    prompt.origin = own;
  }
  return call;
}

}  // namespace lode::serve
