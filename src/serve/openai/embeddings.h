// Embeddings: the mean of a prompt's hidden states, of length 1. A model that was trained to talk
// gives no embeddings that were trained to be compared; the response says what they are.
#pragma once

#include <string>
#include <vector>

#include "chat/service.h"
#include "serve/answer_writer.h"
#include "serve/openai/rules.h"

namespace lode::serve {

struct EmbeddingCall {
  std::vector<chat::CompletionRequest> prompts;
  bool base64 = false;
};

// `origin`: by the key. Errors: kBadInput, kUnsupported with the field's path.
Result<EmbeddingCall> ReadEmbeddingRequest(const Json& body, chat::Origin origin,
                                           const text::Tokenizer& tokenizer);

// float32 values, the lowest byte first, as base64.
std::string Base64Floats(const std::vector<float>& values);

class EmbeddingWhole : public AnswerWriter {
 public:
  EmbeddingWhole(std::string model, size_t count, bool base64)
      : model_(std::move(model)), base64_(base64), vectors_(count) {}
  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override;
  void End(const chat::Usage& usage, std::string* out) override;

 private:
  std::string model_;
  bool base64_;
  std::vector<std::vector<float>> vectors_;
};

}  // namespace lode::serve
