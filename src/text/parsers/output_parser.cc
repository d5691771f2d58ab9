#include "text/parsers/output_parser.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/parsers/harmony.h"
#include "text/parsers/json_calls.h"
#include "text/parsers/tool_calls.h"

namespace lode::text {
namespace {

ReasoningSplitter::CallOpens CallOpens(const OutputParserOptions& options) {
  if (!options.tool_calls) return nullptr;
  switch (options.format) {
    case OutputFormat::kXml:
      return MatchCallOpen;
    case OutputFormat::kHermes:
      return [](Lookahead* cursor) { return MatchJsonCallOpen(cursor, kCallOpen); };
    case OutputFormat::kToolList:
      return [](Lookahead* cursor) { return MatchJsonCallOpen(cursor, kCallListOpen); };
    case OutputFormat::kBareJson:
      return [](Lookahead* cursor) { return cursor->Literal(kPythonTag); };
    case OutputFormat::kHarmony:
      break;
  }
  return nullptr;
}

std::unique_ptr<CallParser> MakeCallParser(const OutputParserOptions& options,
                                           const ToolSchemas* tools) {
  switch (options.format) {
    case OutputFormat::kXml:
      return std::make_unique<ToolCallParser>(tools, options.id_seed);
    case OutputFormat::kHermes:
      return std::make_unique<JsonCallParser>(kTaggedJson, tools, options.id_seed);
    case OutputFormat::kToolList:
      return std::make_unique<JsonCallParser>(kListedJson, tools, options.id_seed);
    case OutputFormat::kBareJson:
      return std::make_unique<JsonCallParser>(kBareJson, tools, options.id_seed);
    case OutputFormat::kHarmony:
      break;
  }
  return std::make_unique<HarmonyParser>(options.tool_calls, tools, options.id_seed);
}

}  // namespace

OutputParser::OutputParser(OutputParserOptions options)
    : options_(std::move(options)),
      reasoning_(options_.thinking, CallOpens(options_)),
      channels_(options_.format == OutputFormat::kHarmony),
      calls_(MakeCallParser(options_, options_.tools != nullptr ? options_.tools.get()
                                                                : &no_tools_)) {}

std::vector<OutputEvent> OutputParser::Push(std::string_view bytes) {
  std::vector<OutputEvent> events;
  unfinished_.append(bytes);
  const size_t whole = unfinished_.size() - IncompleteUtf8Suffix(unfinished_);
  const std::string text = ReplaceInvalidUtf8(std::string_view(unfinished_).substr(0, whole));
  unfinished_.erase(0, whole);
  PushText(text, &events);
  Note(events);
  return events;
}

std::vector<OutputEvent> OutputParser::Finish(StopCause cause) {
  std::vector<OutputEvent> events;
  PushText(ReplaceInvalidUtf8(unfinished_), &events);
  unfinished_.clear();
  reasoning_.Finish(&reasoning_piece_, &rest_);
  PushRest(&events);
  if (options_.tool_calls || channels_) calls_->Finish(cause, &events);
  Note(events);
  if (options_.force_nonempty_content && !any_content_ && calls_->calls() == 0) {
    AppendText(OutputEvent::Kind::kContent, -1, reasoning_text_, &events);
  }
  if (cause == StopCause::kCancelled) {
    finish_reason_ = FinishReason::kCancelled;
  } else if (cause == StopCause::kLength) {
    finish_reason_ = FinishReason::kLength;
  } else if (calls_->calls() > 0 && !any_incomplete_call_) {
    finish_reason_ = FinishReason::kToolCalls;
  }
  return events;
}

void OutputParser::PushText(std::string_view text, std::vector<OutputEvent>* events) {
  if (channels_) {
    rest_ += text;
  } else {
    reasoning_.Push(text, &reasoning_piece_, &rest_);
  }
  PushRest(events);
}

void OutputParser::PushRest(std::vector<OutputEvent>* events) {
  AppendText(OutputEvent::Kind::kReasoning, -1, reasoning_piece_, events);
  reasoning_piece_.clear();
  if (options_.tool_calls || channels_) {
    calls_->set_swallow_think_close(reasoning_.ended_by_call());
    calls_->Push(rest_, events);
  } else {
    AppendText(OutputEvent::Kind::kContent, -1, rest_, events);
  }
  rest_.clear();
}

// What Finish must know of the events.
void OutputParser::Note(const std::vector<OutputEvent>& events) {
  for (const OutputEvent& event : events) {
    any_content_ |= event.kind == OutputEvent::Kind::kContent;
    any_incomplete_call_ |= event.kind == OutputEvent::Kind::kCallEnd && !event.complete;
    if (options_.force_nonempty_content && event.kind == OutputEvent::Kind::kReasoning) {
      reasoning_text_ += event.text;
    }
  }
}

size_t OutputParser::pending_bytes() const {
  return unfinished_.size() + reasoning_.pending_bytes() + calls_->pending_bytes();
}

ParsedOutput ParseOutput(std::string_view text, const OutputParserOptions& options, StopCause cause,
                         FinishReason* reason) {
  OutputParser parser(options);
  ParsedOutput output;
  output.Add(parser.Push(text));
  output.Add(parser.Finish(cause));
  if (reason != nullptr) *reason = parser.finish_reason();
  return output;
}

}  // namespace lode::text
