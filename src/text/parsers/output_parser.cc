#include "text/parsers/output_parser.h"

#include <algorithm>

#include "base/utf8.h"

namespace lode::text {

OutputParser::OutputParser(OutputParserOptions options)
    : options_(std::move(options)),
      reasoning_(options_.thinking, options_.tool_calls),
      calls_(options_.tools != nullptr ? options_.tools.get() : &no_tools_, options_.id_seed) {}

std::vector<OutputEvent> OutputParser::Push(std::string_view bytes) {
  std::vector<OutputEvent> events;
  unfinished_.append(bytes);
  const size_t whole = unfinished_.size() - IncompleteUtf8Suffix(unfinished_);
  const std::string text = ReplaceInvalidUtf8(std::string_view(unfinished_).substr(0, whole));
  unfinished_.erase(0, whole);
  PushText(text, &events);
  return events;
}

std::vector<OutputEvent> OutputParser::Finish(StopCause cause) {
  std::vector<OutputEvent> events;
  PushText(ReplaceInvalidUtf8(unfinished_), &events);
  unfinished_.clear();
  reasoning_.Finish(&reasoning_piece_, &rest_);
  PushRest(&events);
  const size_t before = events.size();
  if (options_.tool_calls) calls_.Finish(&events);
  for (size_t i = before; i < events.size(); ++i) {
    any_content_ |= events[i].kind == OutputEvent::Kind::kContent;
  }
  if (options_.force_nonempty_content && !any_content_ && calls_.calls() == 0) {
    AppendText(OutputEvent::Kind::kContent, -1, reasoning_text_, &events);
  }
  for (const OutputEvent& event : events) {
    any_incomplete_call_ |= event.kind == OutputEvent::Kind::kCallEnd && !event.complete;
  }
  if (cause == StopCause::kCancelled) {
    finish_reason_ = FinishReason::kCancelled;
  } else if (cause == StopCause::kLength) {
    finish_reason_ = FinishReason::kLength;
  } else if (calls_.calls() > 0 && !any_incomplete_call_) {
    finish_reason_ = FinishReason::kToolCalls;
  }
  return events;
}

void OutputParser::PushText(std::string_view text, std::vector<OutputEvent>* events) {
  reasoning_.Push(text, &reasoning_piece_, &rest_);
  PushRest(events);
}

void OutputParser::PushRest(std::vector<OutputEvent>* events) {
  AppendText(OutputEvent::Kind::kReasoning, -1, reasoning_piece_, events);
  if (options_.force_nonempty_content) reasoning_text_ += reasoning_piece_;
  reasoning_piece_.clear();
  const size_t before = events->size();
  if (options_.tool_calls) {
    calls_.set_swallow_think_close(reasoning_.ended_by_call());
    calls_.Push(rest_, events);
  } else {
    AppendText(OutputEvent::Kind::kContent, -1, rest_, events);
  }
  rest_.clear();
  for (size_t i = before; i < events->size(); ++i) {
    const OutputEvent& event = (*events)[i];
    any_content_ |= event.kind == OutputEvent::Kind::kContent;
    any_incomplete_call_ |= event.kind == OutputEvent::Kind::kCallEnd && !event.complete;
  }
}

size_t OutputParser::pending_bytes() const {
  return unfinished_.size() + reasoning_.pending_bytes() + calls_.pending_bytes();
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
