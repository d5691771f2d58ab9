// Answers in the shape of Completions: text as it comes, or one object at the end.
#pragma once

#include <string>
#include <vector>

#include "serve/openai/chat_writer.h"

namespace lode::serve {

// What is given out in front of an answer when the prompt is echoed.
struct EchoedPrompt {
  std::string text;
  std::vector<chat::TokenReport> tokens;  // with logprobs; of the first one it means nothing
};

struct CompletionShape {
  // Keeps what `event` says of an echoed prompt. True: it was about one.
  bool TakePrompt(const chat::AnswerEvent& event);

  CompletionHead head;
  int choices = 1;  // of all prompts
  int per_prompt = 1;
  bool logprobs = false;
  std::vector<EchoedPrompt> echoed;  // by prompt; empty: nothing is
};

// tokens, token_logprobs, top_logprobs, text_offset.
class CompletionLogprobs {
 public:
  // `first_is_unknown`: nothing precedes the first token, so it has no logprob.
  void Add(const std::vector<chat::TokenReport>& reports, const text::Tokenizer& tokenizer,
           bool first_is_unknown = false);
  // What came since the last call.
  Json Take();

 private:
  int64_t offset_ = 0;  // in characters
  Json tokens_ = Json::array(), logprobs_ = Json::array(), top_ = Json::array(),
       offsets_ = Json::array();
};

class CompletionChunks : public AnswerWriter {
 public:
  CompletionChunks(CompletionShape shape, StreamRules rules, const text::Tokenizer* tokenizer);
  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override;
  void End(const chat::Usage& usage, std::string* out) override;

 private:
  void AppendChunk(int choice, const std::string& text, const char* finish,
                   const chat::Usage& usage, std::string* out);
  void Echo(int choice, const chat::Usage& usage, std::string* out);

  CompletionShape shape_;
  StreamRules rules_;
  const text::Tokenizer* tokenizer_;
  std::string prefix_;
  std::vector<CompletionLogprobs> logprobs_;  // by choice
  std::vector<bool> echoed_;
};

class CompletionWhole : public AnswerWriter {
 public:
  CompletionWhole(CompletionShape shape, const text::Tokenizer* tokenizer);
  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override;
  void End(const chat::Usage& usage, std::string* out) override;

 private:
  struct Choice {
    std::string text, stop_string;
    CompletionLogprobs logprobs;
    text::FinishReason finish = text::FinishReason::kStop;
    bool begun = false;
  };
  CompletionShape shape_;
  const text::Tokenizer* tokenizer_;
  std::vector<Choice> choices_;
};

}  // namespace lode::serve
