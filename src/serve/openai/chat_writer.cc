#include "serve/openai/chat_writer.h"

#include <utility>

#include "base/utf8.h"

namespace lode::serve {
namespace {

using Kind = chat::AnswerEvent::Kind;
using OutputKind = text::OutputEvent::Kind;

const char* FinishName(text::FinishReason reason) {
  return reason == text::FinishReason::kCancelled ? "abort" : text::FinishReasonName(reason);
}

std::string Quoted(const std::string& text) { return DumpJson(Json(text)); }

Json TokenJson(int32_t token, double logprob, const text::Tokenizer& tokenizer) {
  const std::string_view bytes = tokenizer.TokenBytes(token);
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return {{"token", ReplaceInvalidUtf8(bytes)}, {"logprob", logprob}, {"bytes", std::move(list)}};
}

}  // namespace

Json UsageJson(const chat::Usage& usage) {
  return {{"prompt_tokens", usage.prompt},
          {"completion_tokens", usage.completion},
          {"total_tokens", usage.prompt + usage.completion},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning}}}};
}

Json LogprobsJson(const std::vector<chat::TokenReport>& reports, const text::Tokenizer& tokenizer) {
  Json content = Json::array();
  for (const chat::TokenReport& report : reports) {
    Json token = TokenJson(report.token, report.logprob, tokenizer);
    Json top = Json::array();
    for (const runtime::TokenLogprob& other : report.likeliest) {
      top.push_back(TokenJson(other.token, other.logprob, tokenizer));
    }
    token["top_logprobs"] = std::move(top);
    content.push_back(std::move(token));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

// --- Chunks --------------------------------------------------------------------------------------

ChatChunks::ChatChunks(CompletionHead head, StreamRules rules, bool reasoning, bool logprobs,
                       const text::Tokenizer* tokenizer)
    : rules_(rules), reasoning_(reasoning), logprobs_(logprobs), tokenizer_(tokenizer) {
  const Json fixed = {{"id", head.id},
                      {"object", "chat.completion.chunk"},
                      {"created", head.created},
                      {"model", head.model}};
  prefix_ = "data: " + DumpJson(fixed);
  prefix_.back() = ',';
}

void ChatChunks::AppendChunk(int choice, const std::string& delta, const char* finish,
                             const Json& logprobs, const chat::Usage& usage, std::string* out) {
  *out += prefix_;
  *out += "\"choices\":[{\"index\":" + std::to_string(choice) + ",\"delta\":" + delta;
  *out += ",\"logprobs\":" + (logprobs.is_null() ? "null" : DumpJson(logprobs));
  *out += ",\"finish_reason\":";
  *out += finish == nullptr ? "null" : "\"" + std::string(finish) + "\"";
  *out += "}]";
  if (rules_.continuous_usage) {
    *out += ",\"usage\":" + DumpJson(UsageJson(usage));
  } else if (rules_.include_usage) {
    *out += ",\"usage\":null";
  }
  *out += "}\n\n";
}

void ChatChunks::AppendRole(int choice, const chat::Usage& usage, std::string* out) {
  const auto index = static_cast<size_t>(choice);
  if (greeted_.size() <= index) greeted_.resize(index + 1);
  if (greeted_[index]) return;
  greeted_[index] = true;
  AppendChunk(choice, R"({"role":"assistant","content":""})", nullptr, nullptr, usage, out);
}

void ChatChunks::AppendOutput(const chat::AnswerEvent& event, const chat::Usage& usage,
                              std::string* out) {
  const text::OutputEvent& output = event.output;
  std::string delta;
  const std::string call = R"({"tool_calls":[{"index":)" + std::to_string(output.index);
  switch (output.kind) {
    case OutputKind::kReasoning:
      if (!reasoning_) return;
      delta = R"({"reasoning_content":)" + Quoted(output.text) + "}";
      break;
    case OutputKind::kContent:
      delta = R"({"content":)" + Quoted(output.text) + "}";
      break;
    case OutputKind::kCallBegin:
      delta = call + ",\"id\":" + Quoted(output.id) + R"(,"type":"function","function":{"name":)" +
              Quoted(output.name) + R"(,"arguments":""}}]})";
      break;
    case OutputKind::kArguments:
      delta = call + R"(,"function":{"arguments":)" + Quoted(output.text) + "}}]}";
      break;
    case OutputKind::kCallEnd:
      if (!logprobs_ || event.reports.empty()) return;
      delta = "{}";
      break;
  }
  const bool report = logprobs_ && !event.reports.empty();
  AppendChunk(event.choice, delta, nullptr,
              report ? LogprobsJson(event.reports, *tokenizer_) : Json(nullptr), usage, out);
}

void ChatChunks::Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) {
  switch (event.kind) {
    case Kind::kQueued:
    case Kind::kPrompt:
    case Kind::kPooled:
    case Kind::kFailed:
      break;
    case Kind::kStarted:
      AppendRole(0, usage, out);
      break;
    case Kind::kProgress:
      if (!rules_.progress) break;
      *out += prefix_ + "\"choices\":[],\"prompt_progress\":" +
              DumpJson(
                  {{"total", usage.prompt}, {"cache", usage.cached}, {"processed", event.tokens}}) +
              "}\n\n";
      break;
    case Kind::kOutput:
      AppendRole(event.choice, usage, out);
      AppendOutput(event, usage, out);
      break;
    case Kind::kFinished: {
      AppendRole(event.choice, usage, out);
      const bool report = logprobs_ && !event.reports.empty();
      AppendChunk(event.choice, "{}", FinishName(event.finish),
                  report ? LogprobsJson(event.reports, *tokenizer_) : Json(nullptr), usage, out);
      break;
    }
  }
}

void ChatChunks::End(const chat::Usage& usage, std::string* out) {
  if (rules_.include_usage) {
    *out += prefix_ + "\"choices\":[],\"usage\":" + DumpJson(UsageJson(usage)) + "}\n\n";
  }
  *out += "data: [DONE]\n\n";
}

// --- Whole ---------------------------------------------------------------------------------------

ChatWhole::ChatWhole(CompletionHead head, int choices, bool reasoning, bool logprobs,
                     const text::Tokenizer* tokenizer)
    : head_(std::move(head)),
      reasoning_(reasoning),
      logprobs_(logprobs),
      tokenizer_(tokenizer),
      choices_(static_cast<size_t>(choices)) {}

void ChatWhole::Add(const chat::AnswerEvent& event, const chat::Usage&, std::string*) {
  if (event.kind != Kind::kOutput && event.kind != Kind::kFinished) return;
  Choice& choice = choices_[static_cast<size_t>(event.choice)];
  if (logprobs_) {
    choice.reports.insert(choice.reports.end(), event.reports.begin(), event.reports.end());
  }
  if (event.kind == Kind::kOutput) {
    choice.output.Add({event.output});
  } else {
    choice.finish = event.finish;
    choice.stop_string = event.stop_string;
  }
}

void ChatWhole::End(const chat::Usage& usage, std::string* out) {
  Json choices = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    const bool only_calls = choice.output.content.empty() && !choice.output.calls.empty();
    Json message = {{"role", "assistant"}};
    message["content"] = only_calls ? Json(nullptr) : Json(choice.output.content);
    message["refusal"] = nullptr;
    if (reasoning_ && !choice.output.reasoning.empty()) {
      message["reasoning_content"] = choice.output.reasoning;
      message["reasoning"] = choice.output.reasoning;
    }
    Json calls = Json::array();
    for (const text::ParsedCall& call : choice.output.calls) {
      calls.push_back({{"id", call.id},
                       {"type", "function"},
                       {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    }
    if (!calls.empty()) message["tool_calls"] = std::move(calls);
    Json one = {{"index", i}, {"message", std::move(message)}};
    one["logprobs"] = logprobs_ ? LogprobsJson(choice.reports, *tokenizer_) : Json(nullptr);
    one["finish_reason"] = FinishName(choice.finish);
    if (!choice.stop_string.empty()) one["stop_reason"] = choice.stop_string;
    choices.push_back(std::move(one));
  }
  const Json whole = {{"id", head_.id},           {"object", "chat.completion"},
                      {"created", head_.created}, {"model", head_.model},
                      {"choices", choices},       {"usage", UsageJson(usage)}};
  *out += DumpJson(whole);
}

}  // namespace lode::serve
