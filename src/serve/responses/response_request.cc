#include "serve/responses/response_request.h"

#include <utility>
#include <vector>

#include "base/text.h"
#include "serve/dialogue.h"
#include "serve/openai/tool_choice.h"
#include "serve/responses/response_items.h"

namespace lode::serve {
namespace {

constexpr size_t kMetadataMax = 16;

// Fields of services that this server does not have: refused where they ask for something.
Result<void> RefuseForeign(const Fields& fields) {
  LODE_ASSIGN(const auto background, fields.Bool("background"));
  if (background.value_or(false)) {
    return Error(Code::kUnsupported, "background: answers are not made in the background",
                 "stream the answer");
  }
  for (const char* name : {"context", "lode"}) {
    if (fields.Find(name) == nullptr) continue;
    return Error(Code::kUnsupported, std::string(name) + ": responses go on from responses",
                 "send previous_response_id, or name a context in Chat Completions or Messages");
  }
  for (const char* name : {"conversation", "prompt"}) {
    if (fields.Find(name) == nullptr) continue;
    return Error(Code::kUnsupported, std::string(name) + ": nothing of this kind is kept here",
                 "send the items, or previous_response_id");
  }
  return {};
}

Result<void> ReadInput(const Fields& fields, const Json& history, ResponseCall* call) {
  const Json* input = fields.Find("input");
  if (input == nullptr) return fields.Bad("input", "is missing");
  if (input->is_string()) {
    call->items.push_back({{"type", "message"},
                           {"role", "user"},
                           {"content", Json::array({{{"type", "input_text"}, {"text", *input}}})}});
  } else if (input->is_array()) {
    call->items = *input;
  } else {
    return fields.Bad("input", "must be a string or a list of items");
  }
  Json messages = Json::array();
  LODE_ASSIGN(const auto instructions, fields.String("instructions"));
  if (instructions && !instructions->empty()) {
    messages.push_back({{"role", "system"}, {"content", *instructions}});
  }
  if (history.empty() && call->items.empty()) return fields.Bad("input", "is empty");
  LODE_TRY(AddItems(history, call->items, &messages));
  MergeSystem(&messages);
  call->request.template_request["messages"] = std::move(messages);
  call->request.template_request["add_generation_prompt"] = true;
  return {};
}

// A tool whose input is one text is a function of one string here.
Result<Json> CustomTool(const Fields& tool) {
  LODE_ASSIGN(const auto name, tool.String("name"));
  LODE_ASSIGN(const auto description, tool.String("description"));
  LODE_ASSIGN(const Json* format, tool.Object("format"));
  if (format != nullptr && GetString(*format, "type", "text") != "text") {
    return Error(Code::kUnsupported,
                 tool.Path("format.type") + ": the input of such a tool is text, without a form");
  }
  Json function = {{"type", "function"}, {"name", name.value_or("")}};
  if (description) function["description"] = *description;
  function["parameters"] = {{"type", "object"},
                            {"properties", {{"input", {{"type", "string"}}}}},
                            {"required", {"input"}}};
  return function;
}

Result<Json> ReadTools(const Fields& fields, ResponseCall* call) {
  LODE_ASSIGN(const Json* given, fields.Array("tools"));
  Json tools = Json::array();
  for (size_t i = 0; given != nullptr && i < given->size(); ++i) {
    LODE_ASSIGN(const Fields tool, ObjectAt(*given, i, "tools"));
    LODE_ASSIGN(const auto type, tool.String("type"));
    if (type && *type == "custom") {
      LODE_ASSIGN(Json function, CustomTool(tool));
      call->custom_tools.insert(GetString(function, "name"));
      tools.push_back(std::move(function));
    } else {
      tools.push_back((*given)[i]);
    }
  }
  return NormalTools(tools);
}

Result<void> ReadText(const Fields& fields, ResponseCall* call) {
  Json& echo = call->echo["text"];
  echo = {{"format", {{"type", "text"}}}};
  LODE_ASSIGN(const Json* text, fields.Object("text"));
  if (text == nullptr) return {};
  const Fields inner(*text, "text");
  LODE_ASSIGN(const auto verbosity, inner.String("verbosity"));
  if (verbosity) echo["verbosity"] = *verbosity;
  LODE_ASSIGN(const Json* format, inner.Object("format"));
  if (format == nullptr) return {};
  echo["format"] = *format;
  const Fields form(*format, "text.format");
  LODE_ASSIGN(const auto type, form.String("type"));
  if (!type) return form.Bad("type", "is missing");
  if (*type == "text") return {};
  if (*type == "json_object") {
    call->request.response_format = *format;
    return {};
  }
  if (*type != "json_schema") return form.Bad("type", "may be text, json_object or json_schema");
  const Json* schema = form.Find("schema");
  if (schema == nullptr || !(schema->is_object() || schema->is_boolean())) {
    return form.Bad("schema", "is missing");
  }
  call->request.response_format = {
      {"type", "json_schema"},
      {"json_schema", {{"name", GetString(*format, "name", "answer")}, {"schema", *schema}}}};
  return {};
}

Result<void> ReadReasoning(const Fields& fields, ResponseCall* call) {
  Json& echo = call->echo["reasoning"];
  echo = {{"effort", nullptr}, {"summary", nullptr}};
  LODE_ASSIGN(const auto budget, fields.Integer("thinking_token_budget", 0, int64_t{1} << 31));
  call->request.thinking_tokens_max = budget.value_or(-1);
  LODE_ASSIGN(const Json* reasoning, fields.Object("reasoning"));
  if (reasoning == nullptr) return {};
  const Fields inner(*reasoning, "reasoning");
  LODE_ASSIGN(const auto effort, inner.String("effort"));
  if (effort) {
    LODE_TRY(CheckEffort(inner, "effort", *effort));
    call->request.effort = *effort;
    echo["effort"] = *effort;
  }
  for (const char* name : {"summary", "generate_summary"}) {
    LODE_ASSIGN(const auto summary, inner.String(name));
    if (!summary) continue;
    if (*summary != "auto" && *summary != "concise" && *summary != "detailed") {
      return inner.Bad(name, "may be auto, concise or detailed");
    }
    call->summary = true;
    echo["summary"] = *summary;
    break;
  }
  return {};
}

Result<void> ReadInclude(const Fields& fields, ResponseCall* call) {
  LODE_ASSIGN(const auto top, fields.Integer("top_logprobs", 0, 20));
  bool logprobs = top.value_or(0) > 0;
  LODE_ASSIGN(const Json* include, fields.Array("include"));
  for (size_t i = 0; include != nullptr && i < include->size(); ++i) {
    const Json& one = (*include)[i];
    if (!one.is_string()) return Error(Code::kBadInput, At("include", i) + ": must be a string");
    // Of tools that are not here there is nothing to include: that is no error.
    logprobs |= one == "message.output_text.logprobs";
    call->sealed |= one == "reasoning.encrypted_content";
  }
  if (logprobs) call->request.rules.logprobs = top.value_or(0);
  call->echo["top_logprobs"] = top.value_or(0);
  return {};
}

Result<void> ReadMetadata(const Fields& fields, ResponseCall* call) {
  LODE_ASSIGN(const Json* metadata, fields.Object("metadata"));
  call->echo["metadata"] = Json::object();
  if (metadata == nullptr) return {};
  if (metadata->size() > kMetadataMax) return fields.Bad("metadata", "may have 16 entries");
  for (const auto& [key, value] : metadata->items()) {
    if (!value.is_string()) return fields.Bad("metadata", "the values must be strings");
    if (key.size() > 64 || value.get_ref<const std::string&>().size() > 512) {
      return fields.Bad("metadata", "keys may have 64 bytes, and values 512");
    }
  }
  call->echo["metadata"] = *metadata;
  return {};
}

// What is taken and told again, and changes nothing.
Result<void> ReadLabels(const Fields& fields, ResponseCall* call) {
  for (const char* name : {"user", "safety_identifier", "prompt_cache_key",
                           "prompt_cache_retention", "service_tier", "previous_response_id"}) {
    LODE_ASSIGN(const auto text, fields.String(name));
    call->echo[name] = text ? Json(*text) : Json(nullptr);
  }
  call->echo["service_tier"] = "default";
  LODE_ASSIGN(const auto calls, fields.Integer("max_tool_calls", 1, int64_t{1} << 31));
  call->echo["max_tool_calls"] = calls ? Json(*calls) : Json(nullptr);
  return {};
}

Result<void> ReadSettings(const Fields& fields, ResponseCall* call) {
  LODE_ASSIGN(const StreamRules stream, ReadStreamRules(fields));
  LODE_ASSIGN(const auto store, fields.Bool("store"));
  call->stream = stream.stream;
  call->store = store.value_or(true);
  LODE_ASSIGN(const auto truncation, fields.String("truncation"));
  if (truncation && *truncation != "auto" && *truncation != "disabled") {
    return fields.Bad("truncation", "may be auto or disabled");
  }
  call->fit = truncation == "auto";
  LODE_ASSIGN(const auto tokens_max, fields.Integer("max_output_tokens", 1, int64_t{1} << 31));
  call->request.rules.tokens_max = tokens_max.value_or(-1);
  LODE_ASSIGN(const Json* extra, fields.Object("chat_template_kwargs"));
  if (extra != nullptr) {
    LODE_TRY(CheckTemplateVariables(fields, *extra));
    call->request.template_request["chat_template_kwargs"] = *extra;
  }
  Json& echo = call->echo;
  echo["background"] = false;
  echo["store"] = call->store;
  echo["truncation"] = truncation.value_or("disabled");
  echo["max_output_tokens"] = tokens_max ? Json(*tokens_max) : Json(nullptr);
  const chat::AnswerRules& rules = call->request.rules;
  echo["temperature"] = rules.temperature ? Json(*rules.temperature) : Json(nullptr);
  echo["top_p"] = rules.top_p ? Json(*rules.top_p) : Json(nullptr);
  const Json* instructions = fields.Find("instructions");
  echo["instructions"] = instructions == nullptr ? Json(nullptr) : *instructions;
  const Json* tools = fields.Find("tools");
  echo["tools"] = tools == nullptr ? Json::array() : *tools;
  const Json* choice = fields.Find("tool_choice");
  echo["tool_choice"] = choice == nullptr ? Json("auto") : *choice;
  echo["parallel_tool_calls"] = call->request.parallel_calls;
  return {};
}

}  // namespace

Result<ResponseCall> ReadResponseRequest(const Json& body, const FieldLimits& limits,
                                         chat::Origin origin, const Json& history) {
  const Fields fields(body);
  ResponseCall call;
  chat::ChatRequest& request = call.request;
  LODE_TRY(RefuseForeign(fields));
  LODE_TRY(ReadInput(fields, history, &call));
  LODE_ASSIGN(Json tools, ReadTools(fields, &call));
  LODE_TRY(ReadToolChoice(fields, tools, &request));
  LODE_ASSIGN(const auto parallel, fields.Bool("parallel_tool_calls"));
  request.parallel_calls = parallel.value_or(true);
  if (!tools.empty()) request.template_request["tools"] = std::move(tools);
  LODE_ASSIGN(request.rules, ReadRules(fields, limits));
  if (request.rules.choices != 1) return fields.Bad("n", "must be 1: there is one response");
  LODE_ASSIGN(request.origin, ReadOrigin(fields, std::move(origin)));
  LODE_TRY(ReadReasoning(fields, &call));
  LODE_TRY(ReadText(fields, &call));
  LODE_TRY(ReadInclude(fields, &call));
  LODE_TRY(ReadMetadata(fields, &call));
  LODE_TRY(ReadLabels(fields, &call));
  LODE_TRY(ReadSettings(fields, &call));
  return call;
}

}  // namespace lode::serve
