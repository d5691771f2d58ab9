#include "serve/responses/response_writer.h"

#include <ctime>
#include <utility>

#include "serve/openai/chat_writer.h"
#include "serve/responses/response_items.h"

namespace lode::serve {
namespace {

using Kind = chat::AnswerEvent::Kind;
using OutputKind = text::OutputEvent::Kind;

Json UsageOf(const chat::Usage& usage) {
  return {{"input_tokens", usage.prompt},
          {"input_tokens_details", {{"cached_tokens", usage.cached}}},
          {"output_tokens", usage.completion},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning}}},
          {"total_tokens", usage.prompt + usage.completion}};
}

const char* StatusOf(text::FinishReason finish) {
  if (finish == text::FinishReason::kLength) return "incomplete";
  return finish == text::FinishReason::kCancelled ? "cancelled" : "completed";
}

}  // namespace

ResponseWriter::ResponseWriter(ResponseHead head, const text::Tokenizer* tokenizer,
                               std::function<void(const Json&)> keep)
    : head_(std::move(head)), tokenizer_(tokenizer), keep_(std::move(keep)) {}

// --- Events --------------------------------------------------------------------------------------

Json ResponseWriter::Event(const char* type, const char* index) const {
  Json event = {{"type", type}, {"sequence_number", 0}, {"item_id", item_id_}};
  event["output_index"] = output_.size();
  if (index != nullptr) event[index] = 0;
  return event;
}

void ResponseWriter::Send(Json event, std::string* out) {
  event["sequence_number"] = sequence_++;
  *out += "event: " + event["type"].get_ref<const std::string&>();
  *out += "\ndata: " + DumpJson(event) + "\n\n";
}

Json ResponseWriter::Response(const char* status) const {
  Json response = {{"id", head_.id},
                   {"object", "response"},
                   {"created_at", head_.created},
                   {"status", status},
                   {"error", nullptr},
                   {"incomplete_details", nullptr},
                   {"model", head_.model},
                   {"output", output_},
                   {"usage", nullptr}};
  for (const auto& [name, value] : head_.echo.items()) response[name] = value;
  return response;
}

void ResponseWriter::Start(std::string* out) {
  if (std::exchange(started_, true) || !head_.stream) return;
  for (const char* type : {"response.created", "response.in_progress"}) {
    Send({{"type", type}, {"sequence_number", 0}, {"response", Response("in_progress")}}, out);
  }
}

// --- Items ---------------------------------------------------------------------------------------

Json ResponseWriter::TextPart() const {
  return {{"type", "output_text"},
          {"text", text_},
          {"annotations", Json::array()},
          {"logprobs", logprobs_}};
}

// The open item, with what it holds so far.
Json ResponseWriter::Item(const char* status) const {
  Json item = {{"id", item_id_}};
  switch (part_) {
    case Part::kThoughts:
      item["type"] = "reasoning";
      item["summary"] = Json::array();
      item["content"] = Json::array();
      if (head_.sealed) item["encrypted_content"] = SealThoughts(text_);
      if (text_.empty()) break;
      if (head_.summary) item["summary"].push_back({{"type", "summary_text"}, {"text", text_}});
      item["content"].push_back({{"type", "reasoning_text"}, {"text", text_}});
      break;
    case Part::kCall:
      item["type"] = "function_call";
      item["call_id"] = call_id_;
      item["name"] = name_;
      item["arguments"] = text_;
      break;
    case Part::kCustomCall:
      item["type"] = "custom_tool_call";
      item["call_id"] = call_id_;
      item["name"] = name_;
      item["input"] = text_;
      break;
    case Part::kMessage:
    case Part::kNone:
      item["type"] = "message";
      item["role"] = "assistant";
      item["content"] = Json::array();
      if (!text_.empty()) item["content"].push_back(TextPart());
      break;
  }
  item["status"] = status;
  return item;
}

void ResponseWriter::Open(Part part, std::string* out) {
  if (part_ != Part::kNone) Close(true, out);
  part_ = part;
  text_.clear();
  arguments_.clear();
  input_ = TextField(kInput);
  logprobs_ = Json::array();
  const char* prefix = part == Part::kThoughts     ? "rs_"
                       : part == Part::kCall       ? "fc_"
                       : part == Part::kCustomCall ? "ctc_"
                                                   : "msg_";
  item_id_ = prefix + head_.id.substr(head_.id.find('_') + 1) + "_" +
             std::to_string(output_.size());
  if (!head_.stream) return;
  Send({{"type", "response.output_item.added"},
        {"sequence_number", 0},
        {"output_index", output_.size()},
        {"item", Item("in_progress")}},
       out);
  if (part == Part::kMessage) {
    Json event = Event("response.content_part.added", "content_index");
    event["part"] = TextPart();
    Send(std::move(event), out);
  }
  if (part == Part::kThoughts && head_.summary) {
    Json event = Event("response.reasoning_summary_part.added", "summary_index");
    event["part"] = {{"type", "summary_text"}, {"text", ""}};
    Send(std::move(event), out);
  }
}

void ResponseWriter::Close(bool complete, std::string* out) {
  if (part_ == Part::kNone) return;
  if (part_ == Part::kThoughts) CloseThoughts(out);
  if (part_ == Part::kMessage) CloseText(out);
  if (part_ == Part::kCall || part_ == Part::kCustomCall) CloseCall(out);
  Json item = Item(complete ? "completed" : "incomplete");
  if (head_.stream) {
    Send({{"type", "response.output_item.done"},
          {"sequence_number", 0},
          {"output_index", output_.size()},
          {"item", item}},
         out);
  }
  output_.push_back(std::move(item));
  part_ = Part::kNone;
}

void ResponseWriter::CloseThoughts(std::string* out) {
  if (!head_.stream) return;
  Json event = Event("response.reasoning_text.done", "content_index");
  event["text"] = text_;
  Send(std::move(event), out);
  if (!head_.summary) return;
  Json summary = Event("response.reasoning_summary_text.done", "summary_index");
  summary["text"] = text_;
  Send(std::move(summary), out);
  Json part = Event("response.reasoning_summary_part.done", "summary_index");
  part["part"] = {{"type", "summary_text"}, {"text", text_}};
  Send(std::move(part), out);
}

void ResponseWriter::CloseText(std::string* out) {
  if (!head_.stream) return;
  Json event = Event("response.output_text.done", "content_index");
  event["text"] = text_;
  event["logprobs"] = logprobs_;
  Send(std::move(event), out);
  Json part = Event("response.content_part.done", "content_index");
  part["part"] = TextPart();
  Send(std::move(part), out);
}

void ResponseWriter::CloseCall(std::string* out) {
  if (part_ == Part::kCustomCall) {
    if (!input_.begun()) {  // not as it was asked for: what there is
      const auto arguments = ParseJson(arguments_);
      const Json* input = arguments.ok() ? FindKey(*arguments, kInput) : nullptr;
      AddInput(input == nullptr ? arguments_ : DumpJson(*input), out);
    }
    if (!head_.stream) return;
    Json done = Event("response.custom_tool_call_input.done");
    done["input"] = text_;
    return Send(std::move(done), out);
  }
  if (!head_.stream) return;
  Json event = Event("response.function_call_arguments.done");
  event["name"] = name_;
  event["arguments"] = text_;
  Send(std::move(event), out);
}

// --- What comes ----------------------------------------------------------------------------------

void ResponseWriter::AddThoughts(const std::string& text, std::string* out) {
  if (part_ != Part::kThoughts) Open(Part::kThoughts, out);
  text_ += text;
  if (!head_.stream) return;
  Json event = Event("response.reasoning_text.delta", "content_index");
  event["delta"] = text;
  Send(std::move(event), out);
  if (!head_.summary) return;
  Json summary = Event("response.reasoning_summary_text.delta", "summary_index");
  summary["delta"] = text;
  Send(std::move(summary), out);
}

void ResponseWriter::AddText(const chat::AnswerEvent& event, std::string* out) {
  if (part_ != Part::kMessage) Open(Part::kMessage, out);
  text_ += event.output.text;
  Json reports = Json::array();
  if (head_.logprobs && !event.reports.empty()) {
    reports = LogprobsJson(event.reports, *tokenizer_)["content"];
    for (const Json& report : reports) logprobs_.push_back(report);
  }
  if (!head_.stream) return;
  Json delta = Event("response.output_text.delta", "content_index");
  delta["delta"] = event.output.text;
  delta["logprobs"] = std::move(reports);
  Send(std::move(delta), out);
}

void ResponseWriter::BeginCall(const text::OutputEvent& output, std::string* out) {
  Close(true, out);
  name_ = output.name;
  call_id_ = output.id;
  Open(head_.custom_tools.contains(name_) ? Part::kCustomCall : Part::kCall, out);
}

void ResponseWriter::AddArguments(const std::string& text, std::string* out) {
  if (part_ == Part::kCustomCall) {
    arguments_ += text;
    return AddInput(input_.Push(text), out);
  }
  text_ += text;
  if (!head_.stream || part_ != Part::kCall) return;
  Json event = Event("response.function_call_arguments.delta");
  event["delta"] = text;
  Send(std::move(event), out);
}

void ResponseWriter::AddInput(std::string text, std::string* out) {
  text_ += text;
  if (!head_.stream || text.empty()) return;
  Json event = Event("response.custom_tool_call_input.delta");
  event["delta"] = std::move(text);
  Send(std::move(event), out);
}

void ResponseWriter::AddOutput(const chat::AnswerEvent& event, std::string* out) {
  const text::OutputEvent& output = event.output;
  switch (output.kind) {
    case OutputKind::kReasoning:
      return AddThoughts(output.text, out);
    case OutputKind::kContent:
      return AddText(event, out);
    case OutputKind::kCallBegin:
      return BeginCall(output, out);
    case OutputKind::kArguments:
      return AddArguments(output.text, out);
    case OutputKind::kCallEnd:
      return Close(output.complete, out);
  }
}

void ResponseWriter::Add(const chat::AnswerEvent& event, const chat::Usage&, std::string* out) {
  if (event.kind == Kind::kStarted) Start(out);
  if (event.kind != Kind::kOutput && event.kind != Kind::kFinished) return;
  Start(out);
  if (event.kind == Kind::kOutput) return AddOutput(event, out);
  if (head_.logprobs && part_ == Part::kMessage && !event.reports.empty()) {
    const Json rest = LogprobsJson(event.reports, *tokenizer_);
    for (const Json& report : rest["content"]) logprobs_.push_back(report);
  }
  finish_ = event.finish;
  Close(finish_ == text::FinishReason::kStop || finish_ == text::FinishReason::kToolCalls, out);
}

void ResponseWriter::End(const chat::Usage& usage, std::string* out) {
  Json response = Response(StatusOf(finish_));
  response["usage"] = UsageOf(usage);
  const bool completed = std::string_view(StatusOf(finish_)) == "completed";
  if (completed) response["completed_at"] = static_cast<int64_t>(std::time(nullptr));
  if (finish_ == text::FinishReason::kLength) {
    response["incomplete_details"] = {{"reason", "max_output_tokens"}};
  }
  if (keep_) keep_(response);
  if (!head_.stream) {
    *out += DumpJson(response);
    return;
  }
  Send({{"type", completed ? "response.completed" : "response.incomplete"},
        {"sequence_number", 0},
        {"response", std::move(response)}},
       out);
}

// The first one is news: the response is made, and in progress.
void ResponseWriter::KeepAlive(std::string* out) {
  if (started_) return AnswerWriter::KeepAlive(out);
  Start(out);
}

void ResponseWriter::Fail(const Problem& problem, const std::string& request_id,
                          std::string* out) {
  Start(out);
  Close(false, out);
  const Json body = ErrorBody(Dialect::kOpenAi, problem, request_id);
  const std::string code = body["error"]["code"];
  Json response = Response("failed");
  response["error"] = {{"code", code == "internal_error" ? "server_error" : code},
                       {"message", problem.message}};
  Send({{"type", "response.failed"}, {"sequence_number", 0}, {"response", std::move(response)}},
       out);
}

}  // namespace lode::serve
