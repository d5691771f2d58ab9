#include "serve/anthropic/message_request.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.h"
#include "serve/dialogue.h"

namespace lode::serve {
namespace {

constexpr std::array<const char*, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                 "high", "xhigh",   "max"};
constexpr size_t kStopsMax = 64, kStopBytesMax = 1024;

// The text of a string, or of text blocks; documents count with their text.
Result<std::string> BlockText(const Json* content, const std::string& path) {
  if (content == nullptr || !content->is_array()) return ContentText(content, path);
  Json parts = Json::array();
  for (size_t i = 0; i < content->size(); ++i) {
    const Json& block = (*content)[i];
    const Json* source = FindKey(block, "source");
    if (GetString(block, "type") == "document" && source != nullptr &&
        GetString(*source, "type") == "text") {
      parts.push_back({{"type", "text"}, {"text", GetString(*source, "data")}});
    } else {
      parts.push_back(block);
    }
  }
  return ContentText(&parts, path);
}

// What an assistant's turn holds: text, its thoughts, its calls.
Result<Json> AssistantMessage(const Json& content, const std::string& path) {
  Json message = {{"role", "assistant"}};
  Json texts = Json::array(), calls = Json::array();
  std::string thoughts;
  for (size_t i = 0; i < content.size(); ++i) {
    LODE_ASSIGN(const Fields block, ObjectAt(content, i, path));
    const std::string type = GetString(content[i], "type");
    if (type == "thinking") {
      thoughts += GetString(content[i], "thinking");
    } else if (type == "redacted_thinking") {
      continue;
    } else if (type == "tool_use") {
      LODE_ASSIGN(const auto name, block.String("name"));
      LODE_ASSIGN(const auto id, block.String("id"));
      LODE_ASSIGN(const Json* input, block.Object("input"));
      if (!name) return block.Bad("name", "is missing");
      calls.push_back(
          {{"id", id.value_or("")},
           {"type", "function"},
           {"function",
            {{"name", *name}, {"arguments", input == nullptr ? Json::object() : *input}}}});
    } else {
      texts.push_back(content[i]);
    }
  }
  LODE_ASSIGN(message["content"], BlockText(&texts, path));
  if (!thoughts.empty()) message["reasoning_content"] = thoughts;
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return message;
}

// Results of tools come right behind the calls, as models have learnt it; what the user says
// besides follows.
Result<void> AddUserMessages(const Json& content, const std::string& path, Json* messages) {
  Json texts = Json::array();
  for (size_t i = 0; i < content.size(); ++i) {
    LODE_ASSIGN(const Fields block, ObjectAt(content, i, path));
    if (GetString(content[i], "type") != "tool_result") {
      texts.push_back(content[i]);
      continue;
    }
    LODE_ASSIGN(const auto id, block.String("tool_use_id"));
    if (!id) return block.Bad("tool_use_id", "is missing");
    LODE_ASSIGN(std::string text, BlockText(block.Find("content"), block.Path("content")));
    messages->push_back({{"role", "tool"}, {"tool_call_id", *id}, {"content", std::move(text)}});
  }
  if (texts.empty()) return {};
  LODE_ASSIGN(std::string text, BlockText(&texts, path));
  messages->push_back({{"role", "user"}, {"content", std::move(text)}});
  return {};
}

Result<Json> ReadMessages(const Fields& fields) {
  Json messages = Json::array();
  LODE_ASSIGN(std::string system, BlockText(fields.Find("system"), "system"));
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", std::move(system)}});
  LODE_ASSIGN(const Json* given, fields.Array("messages"));
  if (given == nullptr || given->empty()) return fields.Bad("messages", "is missing or empty");
  for (size_t i = 0; i < given->size(); ++i) {
    LODE_ASSIGN(const Fields message, ObjectAt(*given, i, "messages"));
    LODE_ASSIGN(const auto role, message.String("role"));
    const Json* content = message.Find("content");
    if (!role || (*role != "user" && *role != "assistant" && *role != "system")) {
      return message.Bad("role", "must be user or assistant");
    }
    if (content == nullptr) return message.Bad("content", "is missing");
    const std::string path = message.Path("content");
    if (*role == "system" || !content->is_array()) {
      LODE_ASSIGN(std::string text, BlockText(content, path));
      messages.push_back({{"role", *role}, {"content", std::move(text)}});
    } else if (*role == "assistant") {
      LODE_ASSIGN(Json made, AssistantMessage(*content, path));
      messages.push_back(std::move(made));
    } else {
      LODE_TRY(AddUserMessages(*content, path, &messages));
    }
  }
  MergeSystem(&messages);
  return messages;
}

Result<void> ReadTools(const Fields& fields, chat::ChatRequest* request) {
  LODE_ASSIGN(const Json* given, fields.Array("tools"));
  Json tools = Json::array();
  for (size_t i = 0; given != nullptr && i < given->size(); ++i) {
    LODE_ASSIGN(const Fields tool, ObjectAt(*given, i, "tools"));
    LODE_ASSIGN(const auto type, tool.String("type"));
    if (type && *type != "custom") {
      return Error(Code::kUnsupported,
                   tool.Path("type") + ": " + Quote(*type, 40) + " is not offered");
    }
    Json function = {{"name", tool.Find("name") == nullptr ? Json("") : *tool.Find("name")}};
    if (const Json* text = tool.Find("description")) function["description"] = *text;
    if (const Json* schema = tool.Find("input_schema")) function["parameters"] = *schema;
    if (const Json* strict = tool.Find("strict")) function["strict"] = *strict;
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  LODE_ASSIGN(tools, NormalTools(tools));
  LODE_ASSIGN(const Json* choice, fields.Object("tool_choice"));
  if (choice != nullptr) {
    const std::string type = GetString(*choice, "type");
    request->parallel_calls = !GetBool(*choice, "disable_parallel_tool_use");
    request->tool_name = GetString(*choice, "name");
    request->tool_choice = type == "any"    ? chat::ToolChoice::kRequired
                           : type == "tool" ? chat::ToolChoice::kNamed
                           : type == "none" ? chat::ToolChoice::kNone
                                            : chat::ToolChoice::kAuto;
    if (type != "auto" && type != "any" && type != "tool" && type != "none") {
      return fields.Bad("tool_choice", "may have the type auto, any, tool or none");
    }
    if (type == "tool" && !HasTool(tools, request->tool_name)) {
      return fields.Bad("tool_choice", "names the tool " + Quote(request->tool_name, 40) +
                                           ", which is not in tools");
    }
    if (type == "any" && tools.empty()) {
      return fields.Bad("tool_choice", "asks for a tool call, and there are no tools");
    }
  }
  if (!tools.empty()) request->template_request["tools"] = std::move(tools);
  return {};
}

// A format that is not understood is refused: any answer would look as if it had that form.
Result<void> ReadFormat(const Fields& fields, const char* name, chat::ChatRequest* request) {
  LODE_ASSIGN(const Json* format, fields.Object(name));
  if (format == nullptr) return {};
  const Json* schema = FindKey(*format, "schema");
  if (GetString(*format, "type") != "json_schema" || schema == nullptr) {
    return fields.Bad(name, "may have the type json_schema, with a schema");
  }
  request->response_format = {{"type", "json_schema"},
                              {"json_schema", {{"name", "answer"}, {"schema", *schema}}}};
  return {};
}

Result<void> ReadThinking(const Fields& fields, chat::ChatRequest* request) {
  LODE_ASSIGN(const Json* thinking, fields.Object("thinking"));
  LODE_ASSIGN(const Json* output, fields.Object("output_config"));
  if (output != nullptr) {
    const Fields inner(*output, "output_config");
    LODE_ASSIGN(const auto effort, inner.String("effort"));
    request->effort = effort.value_or("");
    if (effort && std::find(kEfforts.begin(), kEfforts.end(), *effort) == kEfforts.end()) {
      return inner.Bad("effort", "may be low, medium, high, xhigh or max");
    }
    LODE_TRY(ReadFormat(inner, "format", request));
  }
  LODE_TRY(ReadFormat(fields, "output_format", request));  // its older place
  if (thinking == nullptr) return {};
  const std::string type = GetString(*thinking, "type");
  if (type == "disabled") {
    request->effort = "none";
  } else if (type == "enabled" || type == "adaptive") {
    if (request->effort.empty()) request->effort = "high";
    const Fields inner(*thinking, "thinking");
    LODE_ASSIGN(const auto budget, inner.Integer("budget_tokens", 1, int64_t{1} << 31));
    request->thinking_tokens_max = budget.value_or(-1);
  } else {
    return fields.Bad("thinking", "may have the type enabled, adaptive or disabled");
  }
  return {};
}

}  // namespace

Result<MessageCall> ReadMessageRequest(const Json& body, const FieldLimits& limits,
                                       chat::Origin origin, bool counting) {
  const Fields fields(body);
  MessageCall call;
  chat::ChatRequest& request = call.request;
  LODE_ASSIGN(request.template_request["messages"], ReadMessages(fields));
  request.template_request["add_generation_prompt"] = true;
  LODE_TRY(ReadTools(fields, &request));
  LODE_TRY(ReadThinking(fields, &request));
  LODE_ASSIGN(const auto tokens_max, fields.Integer("max_tokens", 1, int64_t{1} << 31));
  if (!tokens_max && !counting) return fields.Bad("max_tokens", "is missing");
  request.rules.tokens_max = tokens_max.value_or(-1);
  LODE_ASSIGN(request.rules.temperature, fields.Number("temperature", 0.0, 2.0));
  LODE_ASSIGN(request.rules.top_p, fields.Number("top_p", 0.0, 1.0));
  LODE_ASSIGN(request.rules.top_k, fields.Integer("top_k", 0, limits.vocabulary));
  LODE_ASSIGN(request.rules.stops, fields.Strings("stop_sequences", kStopsMax, kStopBytesMax));
  LODE_ASSIGN(const auto stream, fields.Bool("stream"));
  call.stream = stream.value_or(false);
  LODE_ASSIGN(const Json* extra, fields.Object("chat_template_kwargs"));
  if (extra != nullptr) request.template_request["chat_template_kwargs"] = *extra;
  LODE_ASSIGN(request.origin, ReadOrigin(fields, std::move(origin)));
  return call;
}

}  // namespace lode::serve
