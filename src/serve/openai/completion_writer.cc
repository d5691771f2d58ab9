#include "serve/openai/completion_writer.h"

#include <utility>

#include "base/utf8.h"

namespace lode::serve {
namespace {

using Kind = chat::AnswerEvent::Kind;

const char* FinishName(text::FinishReason reason) {
  return reason == text::FinishReason::kCancelled ? "abort" : text::FinishReasonName(reason);
}

int64_t Characters(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

std::string TextOf(int32_t token, const text::Tokenizer& tokenizer) {
  return ReplaceInvalidUtf8(tokenizer.TokenBytes(token));
}

Json Head(const CompletionHead& head) {
  return {{"id", head.id},
          {"object", "text_completion"},
          {"created", head.created},
          {"model", head.model}};
}

}  // namespace

bool CompletionShape::TakePrompt(const chat::AnswerEvent& event) {
  if (event.kind != Kind::kPrompt) return false;
  const auto prompt = static_cast<size_t>(event.choice / per_prompt);
  const auto at = static_cast<size_t>(event.tokens);
  if (prompt < echoed.size() && at < echoed[prompt].tokens.size() && !event.reports.empty()) {
    echoed[prompt].tokens[at] = event.reports.front();
  }
  return true;
}

void CompletionLogprobs::Add(const std::vector<chat::TokenReport>& reports,
                             const text::Tokenizer& tokenizer, bool first_is_unknown) {
  bool unknown = first_is_unknown;
  for (const chat::TokenReport& report : reports) {
    const std::string text = TextOf(report.token, tokenizer);
    tokens_.push_back(text);
    offsets_.push_back(offset_);
    offset_ += Characters(text);
    if (std::exchange(unknown, false)) {
      logprobs_.push_back(nullptr);
      top_.push_back(nullptr);
      continue;
    }
    logprobs_.push_back(report.logprob);
    Json top = Json::object();
    for (const runtime::TokenLogprob& other : report.likeliest) {
      const std::string name = TextOf(other.token, tokenizer);
      if (!top.contains(name)) top[name] = other.logprob;  // the likeliest of equal spelling
    }
    top_.push_back(std::move(top));
  }
}

Json CompletionLogprobs::Take() {
  Json taken = {{"tokens", std::move(tokens_)},
                {"token_logprobs", std::move(logprobs_)},
                {"top_logprobs", std::move(top_)},
                {"text_offset", std::move(offsets_)}};
  tokens_ = logprobs_ = top_ = offsets_ = Json::array();
  return taken;
}

// --- Chunks --------------------------------------------------------------------------------------

CompletionChunks::CompletionChunks(CompletionShape shape, StreamRules rules,
                                   const text::Tokenizer* tokenizer)
    : shape_(std::move(shape)),
      rules_(rules),
      tokenizer_(tokenizer),
      logprobs_(static_cast<size_t>(shape_.choices)),
      echoed_(static_cast<size_t>(shape_.choices)) {
  prefix_ = "data: " + DumpJson(Head(shape_.head));
  prefix_.back() = ',';
}

void CompletionChunks::AppendChunk(int choice, const std::string& text, const char* finish,
                                   const chat::Usage& usage, std::string* out) {
  *out += prefix_ + "\"choices\":[{\"index\":" + std::to_string(choice);
  *out += ",\"text\":" + DumpJson(Json(text)) + ",\"logprobs\":";
  *out += shape_.logprobs ? DumpJson(logprobs_[static_cast<size_t>(choice)].Take()) : "null";
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

void CompletionChunks::Echo(int choice, const chat::Usage& usage, std::string* out) {
  const auto index = static_cast<size_t>(choice);
  if (shape_.echoed.empty() || echoed_[index]) return;
  echoed_[index] = true;
  const EchoedPrompt& prompt = shape_.echoed[static_cast<size_t>(choice / shape_.per_prompt)];
  logprobs_[index].Add(prompt.tokens, *tokenizer_, true);
  AppendChunk(choice, prompt.text, nullptr, usage, out);
}

void CompletionChunks::Add(const chat::AnswerEvent& event, const chat::Usage& usage,
                           std::string* out) {
  if (shape_.TakePrompt(event)) return;
  if (event.kind != Kind::kOutput && event.kind != Kind::kFinished) return;
  Echo(event.choice, usage, out);
  logprobs_[static_cast<size_t>(event.choice)].Add(event.reports, *tokenizer_);
  const bool finished = event.kind == Kind::kFinished;
  AppendChunk(event.choice, finished ? "" : event.output.text,
              finished ? FinishName(event.finish) : nullptr, usage, out);
}

void CompletionChunks::End(const chat::Usage& usage, std::string* out) {
  if (rules_.include_usage) {
    *out += prefix_ + "\"choices\":[],\"usage\":" + DumpJson(UsageJson(usage)) + "}\n\n";
  }
  *out += "data: [DONE]\n\n";
}

// --- Whole ---------------------------------------------------------------------------------------

CompletionWhole::CompletionWhole(CompletionShape shape, const text::Tokenizer* tokenizer)
    : shape_(std::move(shape)),
      tokenizer_(tokenizer),
      choices_(static_cast<size_t>(shape_.choices)) {}

void CompletionWhole::Add(const chat::AnswerEvent& event, const chat::Usage&, std::string*) {
  if (shape_.TakePrompt(event)) return;
  if (event.kind != Kind::kOutput && event.kind != Kind::kFinished) return;
  Choice& choice = choices_[static_cast<size_t>(event.choice)];
  if (!choice.begun && !shape_.echoed.empty()) {
    const auto prompt = static_cast<size_t>(event.choice / shape_.per_prompt);
    choice.text = shape_.echoed[prompt].text;
    choice.logprobs.Add(shape_.echoed[prompt].tokens, *tokenizer_, true);
  }
  choice.begun = true;
  choice.logprobs.Add(event.reports, *tokenizer_);
  choice.text += event.output.text;
  if (event.kind == Kind::kFinished) {
    choice.finish = event.finish;
    choice.stop_string = event.stop_string;
  }
}

void CompletionWhole::End(const chat::Usage& usage, std::string* out) {
  Json choices = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    Json one = {{"index", i}, {"text", choice.text}};
    one["logprobs"] = shape_.logprobs ? choice.logprobs.Take() : Json(nullptr);
    one["finish_reason"] = FinishName(choice.finish);
    if (!choice.stop_string.empty()) one["stop_reason"] = choice.stop_string;
    choices.push_back(std::move(one));
  }
  Json whole = Head(shape_.head);
  whole["choices"] = std::move(choices);
  whole["usage"] = UsageJson(usage);
  *out += DumpJson(whole);
}

}  // namespace lode::serve
