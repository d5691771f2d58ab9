#include "serve/responses/response_items.h"

#include <array>
#include <cstdint>
#include <utility>

#include "base/text.h"
#include "serve/dialogue.h"
#include "serve/fields.h"

namespace lode::serve {
namespace {

constexpr std::string_view kSeal = "lode1.";
constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// The texts of a list of {"text"}, joined.
std::string JoinTexts(const Json* list) {
  std::string text;
  if (list == nullptr || !list->is_array()) return text;
  for (const Json& part : *list) text += GetString(part, "text");
  return text;
}

// One side's turn is collected until the other side speaks.
class TurnMaker {
 public:
  explicit TurnMaker(Json* messages) : messages_(messages) {}

  Result<void> Add(const Fields& item, const Json& json) {
    LODE_ASSIGN(const auto given, item.String("type"));
    const std::string type = given.value_or("message");
    if (type == "message") return AddMessage(item);
    if (type == "function_call" || type == "custom_tool_call") return AddCall(item, type);
    if (type == "function_call_output" || type == "custom_tool_call_output") {
      return AddOutput(item);
    }
    if (type == "reasoning") return AddThoughts(json);
    if (type == "item_reference") {
      return Error(Code::kBadInput, item.Path("id") + ": names an item that is not kept here",
                   "send the item itself");
    }
    return Error(Code::kUnsupported, item.Path("type") + ": " + Quote(type, 40) +
                                         " is not understood; messages, function calls, their "
                                         "outputs and reasoning are");
  }

  void EndTurn() {
    if (!open_) return;
    messages_->push_back(std::exchange(turn_, Json()));
    open_ = false;
  }

 private:
  Json& Turn() {
    if (!std::exchange(open_, true)) turn_ = {{"role", "assistant"}, {"content", ""}};
    return turn_;
  }

  Result<void> AddMessage(const Fields& item) {
    LODE_ASSIGN(const auto role, item.String("role"));
    if (!role) return item.Bad("role", "is missing");
    if (*role != "user" && *role != "assistant" && *role != "system" && *role != "developer") {
      return item.Bad("role",
                      "is " + Quote(*role, 40) + ", and may be user, assistant, system, developer");
    }
    LODE_ASSIGN(std::string text, ContentText(item.Find("content"), item.Path("content")));
    if (*role != "assistant") {
      EndTurn();
      messages_->push_back(
          {{"role", *role == "developer" ? "system" : *role}, {"content", std::move(text)}});
      return {};
    }
    // Behind text or calls another text is another message.
    if (open_ && (turn_.contains("tool_calls") || turn_["content"] != "")) EndTurn();
    Turn()["content"] = std::move(text);
    return {};
  }

  Result<void> AddCall(const Fields& item, const std::string& type) {
    LODE_ASSIGN(const auto name, item.String("name"));
    LODE_ASSIGN(const auto id, item.String("call_id"));
    if (!name) return item.Bad("name", "is missing");
    if (!id) return item.Bad("call_id", "is missing");
    Json arguments;
    if (type == "function_call") {
      LODE_ASSIGN(const auto text, item.String("arguments"));
      arguments = text.value_or("").empty() ? Json::object() : Json(*text);
    } else {
      LODE_ASSIGN(const auto input, item.String("input"));
      arguments = {{"input", input.value_or("")}};
    }
    Turn()["tool_calls"].push_back(
        {{"id", *id},
         {"type", "function"},
         {"function", {{"name", *name}, {"arguments", std::move(arguments)}}}});
    return {};
  }

  Result<void> AddOutput(const Fields& item) {
    LODE_ASSIGN(const auto id, item.String("call_id"));
    if (!id) return item.Bad("call_id", "is missing");
    LODE_ASSIGN(std::string text, ContentText(item.Find("output"), item.Path("output")));
    EndTurn();
    messages_->push_back({{"role", "tool"}, {"tool_call_id", *id}, {"content", std::move(text)}});
    return {};
  }

  // Thoughts come before what they led to. Those of other servers, sealed, say nothing here.
  Result<void> AddThoughts(const Json& item) {
    std::string text = JoinTexts(FindKey(item, "content"));
    if (text.empty()) text = OpenThoughts(GetString(item, "encrypted_content"));
    if (text.empty()) text = JoinTexts(FindKey(item, "summary"));
    if (text.empty()) return {};
    if (open_ && (turn_.contains("tool_calls") || turn_["content"] != "")) EndTurn();
    Json& turn = Turn();
    turn["reasoning_content"] = GetString(turn, "reasoning_content") + text;
    return {};
  }

  Json* messages_;
  Json turn_;
  bool open_ = false;
};

}  // namespace

Result<void> AddItems(const Json& history, const Json& items, Json* messages) {
  TurnMaker maker(messages);
  const auto add = [&](const Json& list, const std::string& path) -> Result<void> {
    for (size_t i = 0; i < list.size(); ++i) {
      LODE_ASSIGN(const Fields item, ObjectAt(list, i, path));
      LODE_TRY(maker.Add(item, list[i]));
    }
    return {};
  };
  LODE_TRY(add(history, "previous_response_id"));
  LODE_TRY(add(items, "input"));
  maker.EndTurn();
  return {};
}

std::string SealThoughts(std::string_view text) {
  std::string sealed(kSeal);
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    bits = bits << 8 | static_cast<uint8_t>(c);
    for (count += 8; count >= 6; count -= 6) sealed += kBase64[bits >> (count - 6) & 63];
  }
  if (count > 0) sealed += kBase64[bits << (6 - count) & 63];
  return sealed;
}

std::string OpenThoughts(std::string_view sealed) {
  if (!sealed.starts_with(kSeal)) return "";
  std::string text;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : sealed.substr(kSeal.size())) {
    const size_t digit = kBase64.find(c);
    if (digit == std::string_view::npos) return "";
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    text += static_cast<char>(bits >> count & 255);
  }
  return text;
}

}  // namespace lode::serve
