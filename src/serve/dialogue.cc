#include "serve/dialogue.h"

#include <utility>

#include "base/text.h"
#include "serve/fields.h"

namespace lode::serve {
namespace {

constexpr size_t kToolsMax = 1024;
constexpr size_t kNameBytesMax = 256;

Result<Json> NormalCalls(const Json& calls, const std::string& path) {
  Json normal = Json::array();
  for (size_t i = 0; i < calls.size(); ++i) {
    LODE_ASSIGN(const Fields call, ObjectAt(calls, i, path));
    LODE_ASSIGN(const Json* function, call.Object("function"));
    if (function == nullptr) return call.Bad("function", "is missing");
    const Fields inner(*function, call.Path("function"));
    LODE_ASSIGN(const auto name, inner.String("name"));
    if (!name) return inner.Bad("name", "is missing");
    const Json* arguments = inner.Find("arguments");
    Json value = arguments == nullptr ? Json::object() : *arguments;
    if (value.is_string() && value.get_ref<const std::string&>().empty()) value = Json::object();
    LODE_ASSIGN(const auto id, call.String("id"));
    normal.push_back({{"id", id.value_or("")},
                      {"type", "function"},
                      {"function", {{"name", *name}, {"arguments", std::move(value)}}}});
  }
  return normal;
}

Result<void> AddAssistant(const Fields& fields, Json* normal) {
  LODE_ASSIGN(const Json* calls, fields.Array("tool_calls"));
  if (calls != nullptr && !calls->empty()) {
    LODE_ASSIGN((*normal)["tool_calls"], NormalCalls(*calls, fields.Path("tool_calls")));
  }
  for (const char* name : {"reasoning_content", "reasoning"}) {
    const Json* trace = fields.Find(name);
    if (trace == nullptr || !trace->is_string()) continue;
    (*normal)["reasoning_content"] = *trace;
    break;
  }
  if (const Json* refusal = fields.Find("refusal");
      refusal != nullptr && refusal->is_string() && GetString(*normal, "content").empty()) {
    (*normal)["content"] = *refusal;
  }
  return {};
}

Result<Json> NormalMessage(const Fields& fields) {
  LODE_ASSIGN(const auto role, fields.String("role"));
  if (!role) return fields.Bad("role", "is missing");
  std::string name = role.value_or("");
  if (name == "developer") name = "system";
  if (name == "function") name = "tool";
  if (name != "system" && name != "user" && name != "assistant" && name != "tool") {
    return fields.Bad("role", "is " + Quote(*role, 40) +
                                  ", and may be system, developer, user, assistant or tool");
  }
  Json normal = {{"role", name}};
  LODE_ASSIGN(normal["content"], ContentText(fields.Find("content"), fields.Path("content")));
  if (name == "assistant") LODE_TRY(AddAssistant(fields, &normal));
  if (name == "tool") {
    LODE_ASSIGN(const auto id, fields.String("tool_call_id"));
    if (id) normal["tool_call_id"] = *id;
  }
  LODE_ASSIGN(const auto own_name, fields.String("name"));
  if (own_name) normal["name"] = *own_name;
  return normal;
}

}  // namespace

Result<std::string> ContentText(const Json* content, const std::string& path) {
  if (content == nullptr) return std::string();
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) {
    return Error(Code::kBadInput, path + ": must be a string or a list of parts");
  }
  std::string text;
  bool first = true;
  for (size_t i = 0; i < content->size(); ++i) {
    const Json& part = (*content)[i];
    const std::string here = At(path, i);
    if (!part.is_object()) return Error(Code::kBadInput, here + ": must be an object");
    const std::string type = GetString(part, "type");
    const bool refusal = type == "refusal";
    if (type != "text" && type != "input_text" && type != "output_text" && !refusal) {
      return Error(Code::kUnsupported, here + ".type: " + Quote(type, 40) +
                                           " is not understood: this model reads text only");
    }
    const Json* own = FindKey(part, refusal ? "refusal" : "text");
    if (own == nullptr || !own->is_string()) {
      return Error(Code::kBadInput, here + ".text: must be a string");
    }
    if (!first) text += "\n";
    first = false;
    text += own->get_ref<const std::string&>();
  }
  return text;
}

void MergeSystem(Json* messages) {
  size_t count = 0;
  std::string text;
  for (const Json& message : *messages) {
    if (GetString(message, "role") != "system") break;
    if (count++ > 0) text += "\n\n";
    text += GetString(message, "content");
  }
  if (count < 2) return;
  Json merged = Json::array();
  merged.push_back({{"role", "system"}, {"content", text}});
  for (size_t i = count; i < messages->size(); ++i) merged.push_back(std::move((*messages)[i]));
  *messages = std::move(merged);
}

Result<Json> NormalMessages(const Json& messages) {
  if (!messages.is_array()) return Error(Code::kBadInput, "messages: must be a list");
  if (messages.empty()) return Error(Code::kBadInput, "messages: is empty");
  Json normal = Json::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    LODE_ASSIGN(const Fields fields, ObjectAt(messages, i, "messages"));
    LODE_ASSIGN(Json message, NormalMessage(fields));
    normal.push_back(std::move(message));
  }
  MergeSystem(&normal);
  return normal;
}

Result<Json> NormalTools(const Json& tools) {
  if (!tools.is_array()) return Error(Code::kBadInput, "tools: must be a list");
  if (tools.size() > kToolsMax) {
    return Error(Code::kBadInput, "tools: has " + std::to_string(tools.size()) +
                                      " entries, and may have " + std::to_string(kToolsMax));
  }
  Json normal = Json::array();
  for (size_t i = 0; i < tools.size(); ++i) {
    LODE_ASSIGN(const Fields tool, ObjectAt(tools, i, "tools"));
    LODE_ASSIGN(const auto type, tool.String("type"));
    if (type && *type != "function") {
      return Error(Code::kUnsupported,
                   tool.Path("type") + ": " + Quote(*type, 40) + " is not offered, functions are");
    }
    LODE_ASSIGN(const Json* nested, tool.Object("function"));
    const Fields function(nested == nullptr ? tools[i] : *nested,
                          nested == nullptr ? At("tools", i) : tool.Path("function"));
    LODE_ASSIGN(const auto name, function.String("name"));
    if (!name || name->empty()) return function.Bad("name", "is missing");
    if (name->size() > kNameBytesMax) return function.Bad("name", "is too long");
    LODE_ASSIGN(const auto description, function.String("description"));
    LODE_ASSIGN(const Json* parameters, function.Object("parameters"));
    LODE_ASSIGN(const auto strict, function.Bool("strict"));
    Json own = {{"name", *name}};
    if (description) own["description"] = *description;
    own["parameters"] = parameters == nullptr
                            ? Json({{"type", "object"}, {"properties", Json::object()}})
                            : *parameters;
    if (strict) own["strict"] = *strict;
    normal.push_back({{"type", "function"}, {"function", std::move(own)}});
  }
  return normal;
}

bool HasTool(const Json& tools, const std::string& name) {
  for (const Json& tool : tools) {
    const Json* function = FindKey(tool, "function");
    if (function != nullptr && GetString(*function, "name") == name) return true;
  }
  return false;
}

}  // namespace lode::serve
