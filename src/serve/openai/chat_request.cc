#include "serve/openai/chat_request.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.h"
#include "serve/dialogue.h"

namespace lode::serve {
namespace {

constexpr std::array<const char*, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                 "high", "xhigh",   "max"};

// The older names of tools and their choice.
Json FunctionTools(const Json& functions) {
  Json tools = Json::array();
  if (!functions.is_array()) return functions;
  for (const Json& function : functions) {
    tools.push_back({{"type", "function"}, {"function", function}});
  }
  return tools;
}

Result<void> ReadNamedChoice(const Fields& fields, const Json& choice, const Json& tools,
                             chat::ChatRequest* request) {
  const std::string type = GetString(choice, "type");
  if (type == "auto" || type == "none" || type == "required") {
    request->tool_choice = type == "auto"   ? chat::ToolChoice::kAuto
                           : type == "none" ? chat::ToolChoice::kNone
                                            : chat::ToolChoice::kRequired;
    return {};
  }
  if (type != "function") {
    return fields.Bad("tool_choice", "has the type " + Quote(type, 40) + ", and may be a function");
  }
  const Json* function = FindKey(choice, "function");
  request->tool_name =
      function == nullptr ? GetString(choice, "name") : GetString(*function, "name");
  if (!HasTool(tools, request->tool_name)) {
    return fields.Bad("tool_choice", "names the tool " + Quote(request->tool_name, 40) +
                                         ", which is not in tools");
  }
  request->tool_choice = chat::ToolChoice::kNamed;
  return {};
}

Result<void> ReadToolChoice(const Fields& fields, const Json& tools, chat::ChatRequest* request) {
  const Json* choice = fields.Find("tool_choice");
  if (choice == nullptr) choice = fields.Find("function_call");
  if (choice == nullptr) return {};
  if (choice->is_object()) {
    LODE_TRY(ReadNamedChoice(fields, *choice, tools, request));
  } else if (*choice == "none") {
    request->tool_choice = chat::ToolChoice::kNone;
  } else if (*choice == "required" || *choice == "any") {
    request->tool_choice = chat::ToolChoice::kRequired;
  } else if (*choice != "auto") {
    return fields.Bad("tool_choice", "may be none, auto, required or the name of a function");
  }
  if (request->tool_choice == chat::ToolChoice::kRequired && tools.empty()) {
    return fields.Bad("tool_choice", "asks for a tool call, and there are no tools");
  }
  return {};
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
  for (const Json& tool : tools) {
    request->strict_tools |= GetBool(tool["function"], "strict");
  }
  if (!tools.empty()) request->template_request["tools"] = std::move(tools);
  return {};
}

Result<void> ReadReasoning(const Fields& fields, chat::ChatRequest* request) {
  LODE_ASSIGN(const auto effort, fields.String("reasoning_effort"));
  if (effort) {
    if (std::find(kEfforts.begin(), kEfforts.end(), *effort) == kEfforts.end()) {
      return fields.Bad("reasoning_effort",
                        "may be none, minimal, low, medium, high, xhigh or max");
    }
    request->effort = *effort;
  }
  LODE_ASSIGN(const auto budget, fields.Integer("thinking_token_budget", 0, int64_t{1} << 31));
  request->thinking_tokens_max = budget.value_or(-1);
  return {};
}

Result<void> ReadFormat(const Fields& fields, chat::ChatRequest* request) {
  LODE_ASSIGN(const Json* format, fields.Object("response_format"));
  if (format == nullptr) return {};
  const Fields inner(*format, fields.Path("response_format"));
  LODE_ASSIGN(const auto type, inner.String("type"));
  if (!type) return inner.Bad("type", "is missing");
  if (*type != "text" && *type != "json_object" && *type != "json_schema" &&
      *type != "structural_tag") {
    return inner.Bad("type", "may be text, json_object or json_schema");
  }
  if (*type == "json_schema") {
    LODE_ASSIGN(const Json* schema, inner.Object("json_schema"));
    const Json* own = schema == nullptr ? inner.Find("schema") : FindKey(*schema, "schema");
    if (own == nullptr || !(own->is_object() || own->is_boolean())) {
      return inner.Bad("json_schema", "has no schema");
    }
  }
  if (*type != "text") request->response_format = *format;
  return {};
}

// Everything that goes to the template as it is.
Result<void> ReadTemplate(const Fields& fields, chat::ChatRequest* request) {
  const Json* messages = fields.Find("messages");
  if (messages == nullptr) return fields.Bad("messages", "is missing");
  Json& made = request->template_request;
  LODE_ASSIGN(made["messages"], NormalMessages(*messages));
  LODE_ASSIGN(const Json* extra, fields.Object("chat_template_kwargs"));
  if (extra != nullptr) {
    for (const char* own : {"messages", "tools"}) {
      if (extra->contains(own)) {
        return fields.Bad("chat_template_kwargs", std::string("may not set ") + own);
      }
    }
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
  LODE_TRY(ReadTemplate(fields, &request));
  LODE_TRY(ReadTools(fields, &request));
  LODE_TRY(ReadReasoning(fields, &request));
  LODE_TRY(ReadFormat(fields, &request));
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
