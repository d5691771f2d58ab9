#include "serve/anthropic/message_writer.h"

#include <utility>

namespace lode::serve {
namespace {

using Kind = chat::AnswerEvent::Kind;
using OutputKind = text::OutputEvent::Kind;

// Clients send it back with the thinking, and nobody looks at it.
constexpr char kSignature[] = "bG9kZQ==";

const char* StopReason(text::FinishReason finish, const std::string& stop_string) {
  if (!stop_string.empty()) return "stop_sequence";
  switch (finish) {
    case text::FinishReason::kLength:
      return "max_tokens";
    case text::FinishReason::kToolCalls:
      return "tool_use";
    case text::FinishReason::kStop:
    case text::FinishReason::kCancelled:
      return "end_turn";
  }
  return "end_turn";
}

// Here the tokens of a prompt that were not computed do not count among the others.
Json UsageOf(const chat::Usage& usage) {
  return {{"input_tokens", usage.prompt - usage.cached},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached},
          {"output_tokens", usage.completion}};
}

void Event(const char* name, const Json& data, std::string* out) {
  *out += "event: ";
  *out += name;
  *out += "\ndata: " + DumpJson(data) + "\n\n";
}

Json StopString(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

}  // namespace

void MessageEvents::Start(const chat::Usage& usage, std::string* out) {
  if (std::exchange(started_, true)) return;
  Event("message_start",
        {{"type", "message_start"},
         {"message",
          {{"id", head_.id},
           {"type", "message"},
           {"role", "assistant"},
           {"model", head_.model},
           {"content", Json::array()},
           {"stop_reason", nullptr},
           {"stop_sequence", nullptr},
           {"usage", UsageOf(usage)}}}},
        out);
}

void MessageEvents::Open(Block block, const Json& content, std::string* out) {
  Close(out);
  block_ = block;
  ++index_;
  Event("content_block_start",
        {{"type", "content_block_start"}, {"index", index_}, {"content_block", content}}, out);
}

void MessageEvents::Close(std::string* out) {
  if (block_ == Block::kNone) return;
  if (block_ == Block::kThinking) Delta("signature_delta", "signature", kSignature, out);
  block_ = Block::kNone;
  Event("content_block_stop", {{"type", "content_block_stop"}, {"index", index_}}, out);
}

void MessageEvents::Delta(const char* type, const char* field, const std::string& text,
                          std::string* out) {
  Event("content_block_delta",
        {{"type", "content_block_delta"},
         {"index", index_},
         {"delta", {{"type", type}, {field, text}}}},
        out);
}

void MessageEvents::AddOutput(const text::OutputEvent& output, std::string* out) {
  switch (output.kind) {
    case OutputKind::kReasoning:
      if (block_ != Block::kThinking) {
        Open(Block::kThinking, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}}, out);
      }
      Delta("thinking_delta", "thinking", output.text, out);
      break;
    case OutputKind::kContent:
      if (block_ != Block::kText) Open(Block::kText, {{"type", "text"}, {"text", ""}}, out);
      Delta("text_delta", "text", output.text, out);
      break;
    case OutputKind::kCallBegin:
      Open(Block::kTool,
           {{"type", "tool_use"},
            {"id", output.id},
            {"name", output.name},
            {"input", Json::object()}},
           out);
      break;
    case OutputKind::kArguments:
      Delta("input_json_delta", "partial_json", output.text, out);
      break;
    case OutputKind::kCallEnd:
      Close(out);
      break;
  }
}

void MessageEvents::Add(const chat::AnswerEvent& event, const chat::Usage& usage,
                        std::string* out) {
  if (event.kind == Kind::kProgress) return;
  Start(usage, out);
  if (event.kind == Kind::kOutput) AddOutput(event.output, out);
  if (event.kind != Kind::kFinished) return;
  Close(out);
  Event("message_delta",
        {{"type", "message_delta"},
         {"delta",
          {{"stop_reason", StopReason(event.finish, event.stop_string)},
           {"stop_sequence", StopString(event.stop_string)}}},
         {"usage", UsageOf(usage)}},
        out);
}

void MessageEvents::End(const chat::Usage&, std::string* out) {
  Event("message_stop", {{"type", "message_stop"}}, out);
}

void MessageEvents::KeepAlive(std::string* out) { Event("ping", {{"type", "ping"}}, out); }

void MessageEvents::Fail(const Problem& problem, const std::string& request_id, std::string* out) {
  Event("error", ErrorBody(Dialect::kAnthropic, problem, request_id), out);
}

void MessageWhole::Add(const chat::AnswerEvent& event, const chat::Usage&, std::string*) {
  if (event.kind == Kind::kOutput) output_.Add({event.output});
  if (event.kind != Kind::kFinished) return;
  finish_ = event.finish;
  stop_string_ = event.stop_string;
}

void MessageWhole::End(const chat::Usage& usage, std::string* out) {
  Json content = Json::array();
  if (!output_.reasoning.empty()) {
    content.push_back({{"type", "thinking"},
                       {"thinking", output_.reasoning},
                       {"signature", kSignature}});
  }
  if (!output_.content.empty()) {
    content.push_back({{"type", "text"}, {"text", output_.content}});
  }
  for (const text::ParsedCall& call : output_.calls) {
    auto input = ParseJson(call.arguments);
    content.push_back({{"type", "tool_use"},
                       {"id", call.id},
                       {"name", call.name},
                       {"input", input.ok() ? std::move(*input) : Json::object()}});
  }
  const Json message = {{"id", head_.id},
                        {"type", "message"},
                        {"role", "assistant"},
                        {"model", head_.model},
                        {"content", content},
                        {"stop_reason", StopReason(finish_, stop_string_)},
                        {"stop_sequence", StopString(stop_string_)},
                        {"usage", UsageOf(usage)}};
  *out += DumpJson(message);
}

}  // namespace lode::serve
