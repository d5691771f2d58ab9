#include "tune/data/messages.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/text.h"

namespace lode::tune {
namespace {

constexpr std::string_view kRoles[] = {"system",    "developer", "user",
                                       "assistant", "tool",      "function"};
constexpr const char* kThinking[] = {"reasoning_content", "reasoning", "thinking"};

// Each answer is rendered with all before it, so the work grows with the square of this.
constexpr size_t kMessagesMax = 2048;

Error Wrong(const std::string& where, const std::string& what) {
  return Error(Code::kBadInput, where + ": " + what);
}

// Lists of text parts become one string; templates of models that read only text expect one.
Result<void> JoinParts(const std::string& where, Json* content) {
  if (content->is_null() || content->is_string()) return {};
  if (!content->is_array()) return Wrong(where, "\"content\" is neither text nor a list of parts");
  std::string text;
  for (const Json& part : *content) {
    const std::string type = GetString(part, "type", "text");
    const Json* words = FindKey(part, "text");
    if (part.is_string()) {
      text += part.get_ref<const std::string&>();
    } else if (words != nullptr && words->is_string() && EndsWith(type, "text")) {
      text += words->get_ref<const std::string&>();
    } else {
      return Error(Code::kUnsupported, where + ": a part of type " + Quote(type) + " is no text",
                   "only text is trained on");
    }
  }
  *content = std::move(text);
  return {};
}

bool Declared(const Json& tools, const std::string& name) {
  if (!tools.is_array()) return false;
  return std::any_of(tools.begin(), tools.end(), [&](const Json& tool) {
    const Json* function = FindKey(tool, "function");
    return function != nullptr && GetString(*function, "name") == name;
  });
}

Result<void> ReadArguments(const std::string& where, Json* function, Remarks* remarks) {
  const auto arguments = function->find("arguments");
  if (arguments == function->end()) return {};
  if (arguments->is_string()) {
    auto parsed = ParseJson(arguments->get_ref<const std::string&>(), {.depth_max = 64});
    if (parsed.ok() && parsed->is_object()) *arguments = std::move(*parsed);
  }
  if (!arguments->is_object()) {
    remarks->push_back({RemarkKind::kBadArguments, where + ": the arguments are no JSON object"});
  }
  return {};
}

Result<void> ReadCalls(const std::string& where, const Json& tools, Json* calls, Remarks* remarks) {
  if (calls->is_null()) return {};
  if (!calls->is_array()) return Wrong(where, "\"tool_calls\" is not a list");
  size_t index = 0;
  for (Json& call : calls->get_ref<Json::array_t&>()) {
    const std::string place = where + Format(".tool_calls[%zu]", index++);
    if (!call.is_object()) return Wrong(place, "not an object");
    Json* function = call.contains("function") ? &call["function"] : &call;
    const std::string name = GetString(*function, "name");
    if (!function->is_object() || name.empty()) return Wrong(place, "the function has no name");
    if (!Declared(tools, name)) {
      remarks->push_back({RemarkKind::kUndeclaredTool,
                          place + ": the tool " + Quote(name) + " is not among \"tools\""});
    }
    LODE_TRY(ReadArguments(place, function, remarks));
  }
  return {};
}

bool SaysNothing(const Json& message) {
  for (const char* key : kThinking) {
    if (!GetString(message, key).empty()) return false;
  }
  const Json* calls = FindKey(message, "tool_calls");
  return GetString(message, "content").empty() && (calls == nullptr || calls->empty()) &&
         !message.contains("function_call");
}

Result<float> TakeWeight(const std::string& where, Json* message) {
  const auto found = message->find("weight");
  if (found == message->end()) return 1.0f;
  const double weight = found->is_number() ? found->get<double>() : -1.0;
  if (!(weight >= 0 && weight <= 1)) return Wrong(where, "\"weight\" is not a number from 0 to 1");
  message->erase("weight");
  return static_cast<float>(weight);
}

Result<float> ReadMessage(const std::string& where, const Json& tools, Json* message,
                          Remarks* remarks) {
  if (!message->is_object()) return Wrong(where, "not an object");
  const Json* role_value = FindKey(*message, "role");
  if (role_value == nullptr || !role_value->is_string()) return Wrong(where, "has no \"role\"");
  const std::string role = *role_value;
  if (std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles)) {
    remarks->push_back({RemarkKind::kUnknownRole, where + ": the role " + Quote(role)});
  }
  if (message->contains("content")) LODE_TRY(JoinParts(where, &(*message)["content"]));
  for (const char* key : kThinking) {
    const Json* thinking = FindKey(*message, key);
    if (thinking != nullptr && !thinking->is_null() && !thinking->is_string()) {
      return Wrong(where, Format("\"%s\" is not text", key));
    }
  }
  if (message->contains("tool_calls")) {
    LODE_TRY(ReadCalls(where, tools, &(*message)["tool_calls"], remarks));
  }
  if (role == "assistant" && SaysNothing(*message)) {
    remarks->push_back({RemarkKind::kEmptyAssistant, where + ": the assistant says nothing"});
  }
  return TakeWeight(where, message);
}

}  // namespace

Result<Words> ReadWords(const Json& value, const std::string& key, const Json& tools,
                        Remarks* remarks) {
  Words words;
  if (value.is_string()) {
    words.is_text = true;
    words.text = value;
    return words;
  }
  if (!value.is_array()) {
    return Error(Code::kBadInput, "\"" + key + "\" is neither text nor a list of messages");
  }
  if (value.size() > kMessagesMax) {
    return Error(Code::kNoSpace,
                 Format("\"%s\" has %zu messages, at most %zu are read", key.c_str(), value.size(),
                        kMessagesMax),
                 "cut the conversation");
  }
  words.messages = value;
  size_t index = 0;
  for (Json& message : words.messages.get_ref<Json::array_t&>()) {
    const std::string where = key + Format("[%zu]", index++);
    LODE_ASSIGN(const float weight, ReadMessage(where, tools, &message, remarks));
    words.weights.push_back(weight);
  }
  return words;
}

Result<Json> ReadTools(const Json& record) {
  const Json* found = FindKey(record, "tools");
  if (found == nullptr || found->is_null()) return Json();
  Json tools = *found;
  if (tools.is_string()) {
    if (tools.get_ref<const std::string&>().empty()) return Json();
    auto parsed = ParseJson(tools.get_ref<const std::string&>(), {.depth_max = 64});
    if (!parsed.ok()) return parsed.error().AddContext("\"tools\"");
    tools = std::move(*parsed);
  }
  if (!tools.is_array()) return Error(Code::kBadInput, "\"tools\" is not a list");
  if (tools.empty()) return Json();
  size_t index = 0;
  for (Json& tool : tools.get_ref<Json::array_t&>()) {
    const std::string where = Format("tools[%zu]", index++);
    if (!tool.is_object()) return Wrong(where, "not an object");
    if (!tool.contains("function")) {
      Json function = tool;
      function.erase("type");
      tool = {{"type", "function"}, {"function", std::move(function)}};
    }
    if (GetString(tool["function"], "name").empty()) return Wrong(where, "has no name");
  }
  return tools;
}

}  // namespace lode::tune
