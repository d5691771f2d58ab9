#include "serve/openai/tool_choice.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/text.h"
#include "serve/dialogue.h"

namespace lode::serve {
namespace {

constexpr std::array<const char*, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                 "high", "xhigh",   "max"};

// Names of the tools that may be called, of those that the prompt tells. Both spellings: the list
// in the choice itself, and one level deeper.
Result<void> ReadAllowedTools(const Json& choice, const Json& tools, chat::ChatRequest* request) {
  const Json* nested = FindKey(choice, "allowed_tools");
  const bool deep = nested != nullptr && nested->is_object();
  const Fields allowed(deep ? *nested : choice,
                       deep ? "tool_choice.allowed_tools" : "tool_choice");
  LODE_ASSIGN(const auto given, allowed.String("mode"));
  const std::string mode = given.value_or("auto");
  if (mode != "auto" && mode != "required") {
    return allowed.Bad("mode", "may be auto or required");
  }
  LODE_ASSIGN(const Json* list, allowed.Array("tools"));
  if (list == nullptr || list->empty()) return allowed.Bad("tools", "is missing or empty");
  for (const Json& one : *list) {
    const Json* function = FindKey(one, "function");
    const std::string name = GetString(function == nullptr ? one : *function, "name");
    if (!HasTool(tools, name)) {
      return allowed.Bad("tools", "names the tool " + Quote(name, 40) + ", which is not in tools");
    }
    request->allowed_tools.push_back(name);
  }
  request->tool_choice =
      mode == "required" ? chat::ToolChoice::kRequired : chat::ToolChoice::kAuto;
  return {};
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
  if (type == "allowed_tools") return ReadAllowedTools(choice, tools, request);
  if (type != "function" && type != "custom") {
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

}  // namespace

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

Result<void> CheckEffort(const Fields& fields, const char* name, const std::string& effort) {
  if (std::find(kEfforts.begin(), kEfforts.end(), effort) != kEfforts.end()) return {};
  return fields.Bad(name, "may be none, minimal, low, medium, high, xhigh or max");
}

Result<void> CheckTemplateVariables(const Fields& fields, const Json& variables) {
  for (const char* own : {"messages", "tools"}) {
    if (variables.contains(own)) {
      return fields.Bad("chat_template_kwargs", std::string("may not set ") + own);
    }
  }
  return {};
}

}  // namespace lode::serve
