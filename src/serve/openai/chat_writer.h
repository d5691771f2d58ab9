// Answers in the shape of Chat Completions: chunks as they come, or one object at the end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chat/answer.h"
#include "serve/answer_writer.h"
#include "serve/openai/rules.h"

namespace lode::serve {

struct CompletionHead {
  std::string id;  // "chatcmpl-..."
  std::string model;
  int64_t created = 0;  // seconds since 1970
};

Json UsageJson(const chat::Usage& usage);
Json LogprobsJson(const std::vector<chat::TokenReport>& reports, const text::Tokenizer& tokenizer);

// Events of an answer -> "data: {...}" of its chunks.
class ChatChunks : public AnswerWriter {
 public:
  ChatChunks(CompletionHead head, StreamRules rules, bool reasoning, bool logprobs,
             const text::Tokenizer* tokenizer);

  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override;
  void End(const chat::Usage& usage, std::string* out) override;

 private:
  void AppendOutput(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out);
  void AppendChunk(int choice, const std::string& delta, const char* finish, const Json& logprobs,
                   const chat::Usage& usage, std::string* out);
  void AppendRole(int choice, const chat::Usage& usage, std::string* out);

  StreamRules rules_;
  bool reasoning_, logprobs_;
  const text::Tokenizer* tokenizer_;
  std::string prefix_;         // of every chunk, up to its choices
  std::vector<bool> greeted_;  // choices whose role was told
};

// Events -> the response object.
class ChatWhole : public AnswerWriter {
 public:
  ChatWhole(CompletionHead head, int choices, bool reasoning, bool logprobs,
            const text::Tokenizer* tokenizer);
  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override;
  void End(const chat::Usage& usage, std::string* out) override;

 private:
  struct Choice {
    text::ParsedOutput output;
    std::vector<chat::TokenReport> reports;
    text::FinishReason finish = text::FinishReason::kStop;
    std::string stop_string;
  };
  CompletionHead head_;
  bool reasoning_, logprobs_;
  const text::Tokenizer* tokenizer_;
  std::vector<Choice> choices_;
};

}  // namespace lode::serve
