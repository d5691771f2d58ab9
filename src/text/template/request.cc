#include "text/template/request.h"

#include <algorithm>

namespace lode::text {
namespace {

constexpr const char* kReasoningNames[] = {"reasoning_content", "thinking", "reasoning"};

// In place: {"arguments": "{\"a\": 1}"} becomes {"arguments": {"a": 1}}. Only an object counts: a
// bare number or string was meant as text.
void ParseArguments(Json* call) {
  if (!call->is_object()) return;
  const auto arguments = call->find("arguments");
  if (arguments == call->end() || !arguments->is_string()) return;
  Result<Json> parsed = ParseJson(arguments->get_ref<const std::string&>());
  if (parsed.ok() && (parsed->is_object() || parsed->is_array())) *arguments = std::move(*parsed);
}

void ParseToolCalls(Json* message) {
  const auto calls = message->find("tool_calls");
  if (calls != message->end() && calls->is_array()) {
    for (auto& call : *calls) {
      if (!call.is_object()) continue;
      const auto function = call.find("function");
      if (function != call.end()) ParseArguments(&*function);
      ParseArguments(&call);
    }
  }
  const auto function = message->find("function_call");  // the older form
  if (function != message->end()) ParseArguments(&*function);
}

void AliasReasoning(Json* message) {
  for (const char* name : kReasoningNames) {
    const auto found = message->find(name);
    if (found == message->end() || found->is_null()) continue;
    const Json reasoning = *found;
    (*message)["reasoning_content"] = reasoning;
    if (!message->contains("thinking")) (*message)["thinking"] = reasoning;
    return;
  }
}

}  // namespace

Result<Json> MakeTemplateVariables(const Json& request, const RequestOptions& options) {
  if (!request.is_object()) {
    return Error(Code::kBadInput, "the request is not a JSON object",
                 "write {\"messages\": [...]}");
  }
  Json variables = Json::object();
  for (const auto& [name, value] : request.items()) {
    if (name != "chat_template_kwargs") variables[name] = value;
  }
  if (const Json* extra = FindKey(request, "chat_template_kwargs"); extra && !extra->is_null()) {
    if (!extra->is_object()) {
      return Error(Code::kBadInput, "the request's 'chat_template_kwargs' is not an object");
    }
    for (const auto& [name, value] : extra->items()) variables[name] = value;
  }
  const auto messages = variables.find("messages");
  if (messages == variables.end() || !messages->is_array()) {
    return Error(Code::kBadInput, "the request has no array 'messages'");
  }
  size_t index = 0;
  for (auto& message : *messages) {
    if (!message.is_object()) {
      return Error(Code::kBadInput, "message " + std::to_string(index) + " is not an object");
    }
    ParseToolCalls(&message);
    if (options.alias_reasoning) AliasReasoning(&message);
    ++index;
  }
  const auto tools = variables.find("tools");
  if (tools != variables.end() && !tools->is_array() && !tools->is_null()) {
    return Error(Code::kBadInput, "the request's 'tools' is not an array");
  }
  for (const char* name : {"tools", "documents"}) {
    if (!variables.contains(name)) variables[name] = nullptr;
  }
  if (!variables.contains("add_generation_prompt")) variables["add_generation_prompt"] = false;
  if (!options.bos_token.empty()) variables["bos_token"] = options.bos_token;
  if (!options.eos_token.empty()) variables["eos_token"] = options.eos_token;
  return variables;
}

std::vector<std::string> UnusedVariables(const ChatTemplate& chat_template,
                                         const Json& variables) {
  // Always handed over, read or not.
  static constexpr const char* kStandard[] = {"messages", "tools", "documents",
                                              "add_generation_prompt", "bos_token", "eos_token"};
  const auto& read = chat_template.ReferencedVariables();
  std::vector<std::string> unused;
  if (!variables.is_object()) return unused;
  for (const auto& [name, value] : variables.items()) {
    const bool standard = std::find(std::begin(kStandard), std::end(kStandard), name) !=
                          std::end(kStandard);
    if (!standard && !std::binary_search(read.begin(), read.end(), name)) unused.push_back(name);
  }
  return unused;
}

}  // namespace lode::text
