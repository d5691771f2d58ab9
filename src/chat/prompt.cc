#include "chat/prompt.h"

#include <algorithm>
#include <utility>

namespace lode::chat {
namespace {

// Stands for an answer in a rendering, to find where it ends.
constexpr std::string_view kAnswerMark = "lode-4f1d7a-answer";

bool EndsThinking(const std::string& prompt) {
  const size_t opened = prompt.rfind("<think>");
  return opened != std::string::npos && prompt.find("</think>", opened) == std::string::npos;
}

// What may come after an answer that calls the first of the tools.
Json WithToolResult(const Json& request, const Json& tool) {
  const Json* function = FindKey(tool, "function");
  const Json call = {{"type", "function"},
                     {"id", "call_0"},
                     {"function",
                      {{"name", function == nullptr ? "" : GetString(*function, "name")},
                       {"arguments", Json::object()}}}};
  Json next = request;
  next["messages"].push_back(
      {{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array({call})}});
  next["messages"].push_back({{"role", "tool"}, {"tool_call_id", "call_0"}, {"content", "!"}});
  return next;
}

}  // namespace

PromptMaker::PromptMaker(const text::Tokenizer* tokenizer, const text::ChatTemplate* chat_template,
                         PromptOptions options)
    : tokenizer_(tokenizer), template_(chat_template), options_(std::move(options)) {}

Result<std::vector<int32_t>> PromptMaker::Encode(const text::RenderedPrompt& prompt) const {
  if (options_.special_in_input) return tokenizer_->Encode(prompt.text);
  // Control tokens count where the template wrote them; the same letters from a user stay letters.
  std::vector<int32_t> ids;
  const auto add = [&](size_t begin, size_t end, bool recognise) -> Result<void> {
    if (begin == end) return {};
    LODE_ASSIGN(const auto piece,
                tokenizer_->Encode(std::string_view(prompt.text).substr(begin, end - begin),
                                   {.recognise_special = recognise}));
    ids.insert(ids.end(), piece.begin(), piece.end());
    return {};
  };
  size_t at = 0;
  for (const text::ByteSpan& span : prompt.input_spans) {
    LODE_TRY(add(at, span.begin, true));
    LODE_TRY(add(span.begin, span.end, false));
    at = span.end;
  }
  LODE_TRY(add(at, prompt.text.size(), true));
  return ids;
}

Result<text::RenderedPrompt> PromptMaker::Render(const Json& request) const {
  LODE_ASSIGN(
      const Json variables,
      text::MakeTemplateVariables(request, {.bos_token = options_.bos, .eos_token = options_.eos}));
  return template_->RenderWithOrigin(variables);
}

Result<Prompt> PromptMaker::Make(const Json& request) const {
  LODE_ASSIGN(text::RenderedPrompt rendered, Render(request));
  Prompt prompt;
  LODE_ASSIGN(prompt.ids, Encode(rendered));
  prompt.thinking = EndsThinking(rendered.text);
  prompt.text = std::move(rendered.text);
  return prompt;
}

Result<Prompt> PromptMaker::Continue(const Json& request, int64_t known, bool open,
                                     const std::vector<int32_t>& tokens) const {
  Json told = request;
  size_t at = 0;
  if (open) {
    told["messages"][static_cast<size_t>(known - 1)] = {{"role", "assistant"},
                                                        {"content", kAnswerMark}};
  }
  LODE_ASSIGN(text::RenderedPrompt whole, Render(told));
  if (open) {
    at = whole.text.rfind(kAnswerMark);
    if (at != std::string::npos) at += kAnswerMark.size();
  } else {
    Json& messages = told["messages"];
    messages.erase(messages.begin() + known, messages.end());
    told["add_generation_prompt"] = false;
    LODE_ASSIGN(const text::RenderedPrompt first, Render(told));
    at = whole.text.starts_with(first.text) ? first.text.size() : std::string::npos;
  }
  if (at == std::string::npos) {
    return Error(Code::kUnsupported,
                 "this model's template writes earlier messages anew when others follow",
                 "with \"continue\": \"rerender\" they may");
  }
  text::RenderedPrompt rest;
  rest.text = whole.text.substr(at);
  for (const text::ByteSpan& span : whole.input_spans) {
    if (span.end <= at) continue;
    rest.input_spans.push_back({std::max(span.begin, at) - at, span.end - at});
  }
  Prompt prompt;
  prompt.ids = tokens;
  LODE_ASSIGN(const std::vector<int32_t> ids, Encode(rest));
  prompt.ids.insert(prompt.ids.end(), ids.begin(), ids.end());
  prompt.thinking = EndsThinking(whole.text);
  prompt.text = std::move(whole.text);
  return prompt;
}

// How many tokens both begin with. A control token cuts the text: what stands before it becomes the
// same tokens whatever follows. So only what is behind the last one in common is encoded.
Result<int64_t> PromptMaker::CommonTokens(const Prompt& prompt,
                                          const text::RenderedPrompt& other) const {
  const auto parted =
      std::mismatch(prompt.text.begin(), prompt.text.end(), other.text.begin(), other.text.end());
  const auto same = static_cast<size_t>(parted.first - prompt.text.begin());
  size_t bytes = 0, cut_bytes = 0, cut = 0;
  for (size_t i = 0; i < prompt.ids.size(); ++i) {
    bytes += tokenizer_->TokenBytes(prompt.ids[i]).size();
    if (bytes > same) break;
    if (tokenizer_->IsSpecial(prompt.ids[i])) {
      cut = i + 1;
      cut_bytes = bytes;
    }
  }
  text::RenderedPrompt rest;
  // Where ids and bytes do not go together (a control token that swallows blanks) all is encoded.
  const bool exact =
      options_.special_in_input && cut > 0 &&
      EndsWithToken(std::string_view(prompt.text).substr(0, cut_bytes), prompt.ids[cut - 1]);
  if (!exact) cut = cut_bytes = 0;
  rest.text = other.text.substr(cut_bytes);
  if (cut == 0) rest.input_spans = other.input_spans;
  LODE_ASSIGN(const std::vector<int32_t> ids, Encode(rest));
  const auto first = prompt.ids.begin() + static_cast<std::ptrdiff_t>(cut);
  return std::mismatch(first, prompt.ids.end(), ids.begin(), ids.end()).first - prompt.ids.begin();
}

bool PromptMaker::EndsWithToken(std::string_view text, int32_t token) const {
  const std::string_view bytes = tokenizer_->TokenBytes(token);
  return !bytes.empty() && text.ends_with(bytes);
}

std::vector<runtime::Probe> PromptMaker::FindProbes(const Json& request,
                                                    const Prompt& prompt) const {
  std::vector<runtime::Probe> probes;
  const Json* messages = FindKey(request, "messages");
  if (messages == nullptr || !messages->is_array()) return probes;
  const auto ask = [&](const Json& other, runtime::PointRole role) {
    const auto rendered = Render(other);
    if (!rendered.ok()) return;
    const auto offset = CommonTokens(prompt, *rendered);
    if (offset.ok() && *offset > 0) probes.push_back({*offset, role});
  };
  const Json user = {{"role", "user"}, {"content", "?"}};
  Json next = request;
  next["messages"].push_back({{"role", "assistant"}, {"content", "!"}});
  next["messages"].push_back(user);
  ask(next, runtime::PointRole::kNextUser);

  const Json* tools = FindKey(request, "tools");
  if (tools != nullptr && tools->is_array() && !tools->empty()) {
    ask(WithToolResult(request, tools->front()), runtime::PointRole::kNextTool);
  }

  next = request;
  next["messages"] = Json::array();
  for (const Json& message : *messages) {
    if (GetString(message, "role") != "system") break;
    next["messages"].push_back(message);
  }
  next["messages"].push_back(user);
  ask(next, runtime::PointRole::kSystem);

  next = request;
  next["add_generation_prompt"] = false;
  ask(next, runtime::PointRole::kRetry);
  return probes;
}

}  // namespace lode::chat
