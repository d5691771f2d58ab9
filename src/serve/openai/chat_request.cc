#include "serve/openai/chat_request.h"

#include <utility>

#include "base/text.h"
#include "serve/dialogue.h"
#include "serve/openai/answer_form.h"
#include "serve/openai/tool_choice.h"

namespace lode::serve {
namespace {

// The older names of tools and their choice.
Json FunctionTools(const Json& functions) {
  Json tools = Json::array();
  if (!functions.is_array()) return functions;
  for (const Json& function : functions) {
    tools.push_back({{"type", "function"}, {"function", function}});
  }
  return tools;
}

Result<void> ReadTools(const Fields& fields, chat::ChatRequest* request) {
  Json tools = Json::array();
  if (const Json* own = fields.Find("tools"); own != nullptr) {
    LODE_ASSIGN(tools, NormalTools(*own));
  } else if (const Json* functions = fields.Find("functions"); functions != nullptr) {
    LODE_ASSIGN(tools, NormalTools(FunctionTools(*functions)));
  }
  LODE_TRY(ReadToolChoice(fields, tools, request));
  LODE_ASSIGN(const auto parallel, fields.Bool("parallel_tool_calls"));
  request->parallel_calls = parallel.value_or(true);
  if (!tools.empty()) request->template_request["tools"] = std::move(tools);
  return {};
}

Result<void> ReadReasoning(const Fields& fields, chat::ChatRequest* request) {
  LODE_ASSIGN(const auto effort, fields.String("reasoning_effort"));
  if (effort) {
    LODE_TRY(CheckEffort(fields, "reasoning_effort", *effort));
    request->effort = *effort;
  }
  LODE_ASSIGN(const auto budget, fields.Integer("thinking_token_budget", 0, int64_t{1} << 31));
  request->thinking_tokens_max = budget.value_or(-1);
  return {};
}

// Everything that goes to the template as it is.
Result<void> ReadTemplate(const Fields& fields, bool goes_on, chat::ChatRequest* request) {
  const Json* messages = fields.Find("messages");
  const bool none = messages == nullptr || (messages->is_array() && messages->empty());
  if (messages == nullptr && !goes_on) return fields.Bad("messages", "is missing");
  Json& made = request->template_request;
  made["messages"] = Json::array();
  if (!none || !goes_on) {
    LODE_ASSIGN(made["messages"], NormalMessages(*messages));
  }
  LODE_ASSIGN(const Json* extra, fields.Object("chat_template_kwargs"));
  if (extra != nullptr) {
    LODE_TRY(CheckTemplateVariables(fields, *extra));
    made["chat_template_kwargs"] = *extra;
  }
  LODE_ASSIGN(const Json* documents, fields.Array("documents"));
  if (documents != nullptr) made["documents"] = *documents;
  LODE_ASSIGN(const auto prompt, fields.Bool("add_generation_prompt"));
  made["add_generation_prompt"] = prompt.value_or(true);
  return {};
}

}  // namespace

Result<ChatCall> ReadChatRequest(const Json& body, const FieldLimits& limits, chat::Origin origin) {
  const Fields fields(body);
  ChatCall call;
  chat::ChatRequest& request = call.request;
  LODE_ASSIGN(call.use, ReadContextUse(fields));
  LODE_TRY(ReadTemplate(fields, !call.use.id.empty(), &request));
  LODE_TRY(ReadTools(fields, &request));
  LODE_TRY(ReadReasoning(fields, &request));
  LODE_ASSIGN(request.response_format, ReadAnswerForm(fields));
  LODE_ASSIGN(request.rules, ReadRules(fields, limits));
  LODE_ASSIGN(request.origin, ReadOrigin(fields, std::move(origin)));
  constexpr int64_t kTokensMax = int64_t{1} << 31;
  LODE_ASSIGN(auto tokens_max, fields.Integer("max_completion_tokens", 1, kTokensMax));
  if (!tokens_max) {
    LODE_ASSIGN(tokens_max, fields.Integer("max_tokens", 1, kTokensMax));
  }
  request.rules.tokens_max = tokens_max.value_or(-1);
  LODE_ASSIGN(const auto logprobs, fields.Bool("logprobs"));
  LODE_ASSIGN(const auto top, fields.Integer("top_logprobs", 0, 20));
  if (top && *top > 0 && !logprobs.value_or(false)) {
    return fields.Bad("top_logprobs", "needs logprobs to be true");
  }
  if (logprobs.value_or(false)) request.rules.logprobs = top.value_or(0);
  LODE_ASSIGN(call.stream, ReadStreamRules(fields));
  LODE_ASSIGN(const auto reasoning, fields.Bool("include_reasoning"));
  call.include_reasoning = reasoning.value_or(true);
  return call;
}

}  // namespace lode::serve
