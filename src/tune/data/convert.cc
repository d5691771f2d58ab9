#include "tune/data/convert.h"

#include <string>
#include <utility>

#include "base/text.h"

namespace lode::tune {
namespace {

Json Message(const char* role, const Json& content) {
  return {{"role", role}, {"content", content}};
}

Json CallMessage(const std::string& name, const Json& arguments, const std::string& id) {
  Json call = {{"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}};
  if (!id.empty()) call["id"] = id;
  Json message = Message("assistant", "");
  message["tool_calls"] = Json::array({std::move(call)});
  return message;
}

const char* RoleOf(const std::string& from) {
  static constexpr std::pair<const char*, const char*> kRoles[] = {
      {"human", "user"},       {"user", "user"},
      {"gpt", "assistant"},    {"assistant", "assistant"},
      {"model", "assistant"},  {"chatgpt", "assistant"},
      {"system", "system"},    {"tool", "tool"},
      {"observation", "tool"}, {"function_response", "tool"}};
  for (const auto& [name, role] : kRoles) {
    if (from == name) return role;
  }
  return nullptr;
}

void AddSystem(const Json& record, const char* key, Json* messages) {
  const std::string system = GetString(record, key);
  if (!system.empty()) messages->push_back(Message("system", system));
}

// A value of {"from": "function_call"}: JSON with name and arguments.
Result<Json> CallOfText(const std::string& where, const std::string& text) {
  auto call = ParseJson(text, {.depth_max = 64});
  if (!call.ok() || GetString(*call, "name").empty()) {
    return Error(Code::kBadInput, where + ": a function_call is not JSON with a name");
  }
  const Json* arguments = FindKey(*call, "arguments");
  return CallMessage(GetString(*call, "name"), arguments == nullptr ? Json::object() : *arguments,
                     "");
}

}  // namespace

Result<Json> MessagesOfShareGpt(const Json& record) {
  const Json* turns = FindKey(record, "conversations");
  if (turns == nullptr || !turns->is_array()) {
    return Error(Code::kBadInput, "\"conversations\" is not a list");
  }
  Json messages = Json::array();
  AddSystem(record, "system", &messages);
  size_t index = 0;
  for (const Json& turn : *turns) {
    const std::string where = Format("conversations[%zu]", index++);
    if (turn.is_object() && turn.contains("role")) {
      messages.push_back(turn);
      continue;
    }
    const std::string from = GetString(turn, "from");
    const Json* value = FindKey(turn, "value");
    if (from.empty() || value == nullptr || !value->is_string()) {
      return Error(Code::kBadInput, where + ": has no \"from\" and \"value\"");
    }
    if (from == "function_call") {
      LODE_ASSIGN(Json call, CallOfText(where, *value));
      messages.push_back(std::move(call));
      continue;
    }
    const char* role = RoleOf(from);
    if (role == nullptr) {
      return Error(Code::kBadInput, where + ": nobody knows who " + Quote(from) + " is");
    }
    Json message = Message(role, *value);
    if (turn.contains("weight")) message["weight"] = turn["weight"];
    messages.push_back(std::move(message));
  }
  return messages;
}

Result<Json> MessagesOfAlpaca(const Json& record) {
  for (const char* key : {"instruction", "output"}) {
    const Json* value = FindKey(record, key);
    if (value == nullptr || !value->is_string()) {
      return Error(Code::kBadInput, Format("\"%s\" is not text", key));
    }
  }
  Json messages = Json::array();
  AddSystem(record, "system", &messages);
  if (const Json* history = FindKey(record, "history"); history && history->is_array()) {
    for (const Json& pair : *history) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
        return Error(Code::kBadInput, "\"history\" is not a list of pairs of texts");
      }
      messages.push_back(Message("user", pair[0]));
      messages.push_back(Message("assistant", pair[1]));
    }
  }
  const std::string input = GetString(record, "input");
  const std::string instruction = GetString(record, "instruction");
  messages.push_back(Message("user", input.empty() ? instruction : instruction + "\n\n" + input));
  messages.push_back(Message("assistant", record["output"]));
  return messages;
}

Result<Json> MessagesOfResponses(const Json& params) {
  Json messages = Json::array();
  AddSystem(params, "instructions", &messages);
  const Json* input = FindKey(params, "input");
  if (input != nullptr && input->is_string()) {
    messages.push_back(Message("user", *input));
    return messages;
  }
  if (input == nullptr || !input->is_array()) {
    return Error(Code::kBadInput, "\"input\" is neither text nor a list of items");
  }
  size_t index = 0;
  for (const Json& item : *input) {
    const std::string where = Format("input[%zu]", index++);
    const std::string type = GetString(item, "type", "message");
    if (type == "message" && item.is_object() && item.contains("role")) {
      Json message = Message("", nullptr);
      message["role"] = item["role"];
      if (item.contains("content")) message["content"] = item["content"];
      messages.push_back(std::move(message));
    } else if (type == "function_call" && !GetString(item, "name").empty()) {
      const Json* arguments = FindKey(item, "arguments");
      messages.push_back(CallMessage(GetString(item, "name"),
                                     arguments == nullptr ? Json::object() : *arguments,
                                     GetString(item, "call_id")));
    } else if (type == "function_call_output") {
      Json message = Message("tool", GetString(item, "output"));
      message["tool_call_id"] = GetString(item, "call_id");
      messages.push_back(std::move(message));
    } else {
      return Error(Code::kBadInput, where + ": an item of type " + Quote(type) +
                                        " is no message, call or output of a call");
    }
  }
  return messages;
}

}  // namespace lode::tune
