#include "chat/session.h"

#include <algorithm>
#include <utility>

#include "text/parsers/tool_schemas_json.h"

namespace lode::chat {

Session::Session(runtime::Engine* engine, const text::Tokenizer* tokenizer,
                 const text::ChatTemplate* chat_template, SessionOptions options)
    : tokenizer_(tokenizer),
      template_(chat_template),
      options_(std::move(options)),
      conversation_(engine, options_.scheduling) {}

Result<std::vector<int32_t>> Session::Encode(const text::RenderedPrompt& prompt) const {
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

Result<std::vector<int32_t>> Session::Render(const Json& request, std::string* text) const {
  LODE_ASSIGN(
      const Json variables,
      text::MakeTemplateVariables(request, {.bos_token = options_.bos, .eos_token = options_.eos}));
  LODE_ASSIGN(const text::RenderedPrompt rendered, template_->RenderWithOrigin(variables));
  *text = rendered.text;
  return Encode(rendered);
}

std::vector<runtime::Probe> Session::FindProbes(const Json& request,
                                                const std::vector<int32_t>& ids) const {
  std::vector<runtime::Probe> probes;
  const Json* messages = FindKey(request, "messages");
  if (messages == nullptr || !messages->is_array()) return probes;
  const auto ask = [&](const Json& other, runtime::PointRole role) {
    std::string text;
    const auto rendered = Render(other, &text);
    if (!rendered.ok()) return;
    const auto parted = std::mismatch(ids.begin(), ids.end(), rendered->begin(), rendered->end());
    const int64_t offset = parted.first - ids.begin();
    if (offset > 0) probes.push_back({offset, role});
  };
  const Json user = {{"role", "user"}, {"content", "?"}};
  Json next = request;
  next["messages"].push_back({{"role", "assistant"}, {"content", "!"}});
  next["messages"].push_back(user);
  ask(next, runtime::PointRole::kNextUser);

  const Json* tools = FindKey(request, "tools");
  if (tools != nullptr && tools->is_array() && !tools->empty()) {
    const Json* function = FindKey(tools->front(), "function");
    const Json call = {{"type", "function"},
                       {"id", "call_0"},
                       {"function",
                        {{"name", function == nullptr ? "" : GetString(*function, "name")},
                         {"arguments", Json::object()}}}};
    next = request;
    next["messages"].push_back(
        {{"role", "assistant"}, {"content", ""}, {"tool_calls", Json::array({call})}});
    next["messages"].push_back({{"role", "tool"}, {"tool_call_id", "call_0"}, {"content", "!"}});
    ask(next, runtime::PointRole::kNextTool);
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

// Ids that differ although the messages are those of the last request and more: the template writes
// them anew (it drops old reasoning, moves a marker).
void Session::ExplainReuse(const Json& request, runtime::Match* match) {
  const Json* messages = FindKey(request, "messages");
  const bool goes_on = messages != nullptr && messages->is_array() && messages_.is_array() &&
                       !messages_.empty() && messages->size() >= messages_.size() &&
                       std::equal(messages_.begin(), messages_.end(), messages->begin());
  if (goes_on && match->reason == runtime::Reason::kDiverged) {
    match->reason = runtime::Reason::kTemplateRerender;
  }
  messages_ = messages == nullptr ? Json() : *messages;
}

Result<Reply> Session::Ask(const Json& request, const runtime::GenerateOptions& options,
                           const std::function<void(const text::OutputEvent&)>& on_event) {
  std::string prompt;
  LODE_ASSIGN(const std::vector<int32_t> ids, Render(request, &prompt));
  runtime::GenerateOptions generate = options;
  probes_ = FindProbes(request, ids);
  generate.probes.insert(generate.probes.end(), probes_.begin(), probes_.end());

  text::OutputParserOptions parsing;
  // The prompt itself says whether the answer begins inside a trace.
  const size_t opened = prompt.rfind("<think>");
  parsing.thinking =
      opened != std::string::npos && prompt.find("</think>", opened) == std::string::npos;
  const Json* tools = FindKey(request, "tools");
  parsing.tool_calls = tools != nullptr && tools->is_array() && !tools->empty();
  parsing.format =
      options_.output_format.value_or(text::DetectOutputFormat(template_->source()));
  if (parsing.tool_calls) {
    parsing.tools = std::make_shared<text::ToolSchemas>(text::ToolSchemasFromJson(*tools));
  }
  parsing.id_seed = ++answers_;
  text::OutputParser parser(parsing);
  text::StreamDecoder decoder(*tokenizer_);
  Reply reply;
  const auto pass_on = [&](const std::vector<text::OutputEvent>& events) {
    for (const text::OutputEvent& event : events) on_event(event);
    reply.output.Add(events);
  };
  tokens_ = ids;
  LODE_ASSIGN(reply.report, conversation_.Generate(ids, generate, [&](int32_t token) {
    tokens_.push_back(token);
    pass_on(parser.Push(decoder.Push(token)));
    return true;
  }));
  pass_on(parser.Push(decoder.Flush()));
  ExplainReuse(request, &reply.report.match);
  text::StopCause cause = text::StopCause::kStop;
  if (reply.report.reason == runtime::StopReason::kCancelled) cause = text::StopCause::kCancelled;
  if (reply.report.reason == runtime::StopReason::kLength ||
      reply.report.reason == runtime::StopReason::kContextFull) {
    cause = text::StopCause::kLength;
  }
  pass_on(parser.Finish(cause));
  reply.finish = parser.finish_reason();
  return reply;
}

}  // namespace lode::chat
