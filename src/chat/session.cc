#include "chat/session.h"

#include <algorithm>
#include <utility>

#include "text/parsers/tool_schemas_json.h"

namespace lode::chat {

Session::Session(runtime::Engine* engine, const text::Tokenizer* tokenizer,
                 const text::ChatTemplate* chat_template, SessionOptions options)
    : tokenizer_(tokenizer),
      maker_(tokenizer, chat_template,
             {std::move(options.bos), std::move(options.eos), options.special_in_input}),
      format_(
          options.output_format.value_or(text::DetectOutputFormat(chat_template->source()))),
      conversation_(engine, options.scheduling) {}

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
  LODE_ASSIGN(const Prompt prompt, maker_.Make(request));
  runtime::GenerateOptions generate = options;
  probes_ = maker_.FindProbes(request, prompt);
  generate.probes.insert(generate.probes.end(), probes_.begin(), probes_.end());

  text::OutputParserOptions parsing;
  parsing.thinking = prompt.thinking;
  const Json* tools = FindKey(request, "tools");
  parsing.tool_calls = tools != nullptr && tools->is_array() && !tools->empty();
  parsing.format = format_;
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
  tokens_ = prompt.ids;
  LODE_ASSIGN(reply.report, conversation_.Generate(prompt.ids, generate, [&](int32_t token) {
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
