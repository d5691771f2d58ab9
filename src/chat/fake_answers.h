// For tests: a backend that says what it is told at once, and the demo model's tokenizer.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/file.h"
#include "chat/answer.h"

namespace lode::chat {

// `tokens` is the answer to every request.
class FakeBackend : public Backend {
 public:
  int64_t vocabulary() const override { return 1024; }
  int64_t sequence_tokens_max() const override { return 1 << 20; }
  Result<Ticket> Submit(TokenRequest, std::shared_ptr<TokenSink> sink) override {
    const auto push = [&](TokenEvent::Kind kind, int32_t token) {
      TokenEvent event;
      event.kind = kind;
      event.token = token;
      event.stop = stop;
      sink->Push(std::move(event));
    };
    push(TokenEvent::Kind::kQueued, 0);
    push(TokenEvent::Kind::kStarted, 0);
    for (const int32_t token : tokens) push(TokenEvent::Kind::kToken, token);
    push(TokenEvent::Kind::kFinished, 0);
    return ++submitted;
  }
  void Cancel(Ticket) override { ++cancelled; }
  BackendLoad load() const override { return {}; }
  void Stop() override {}

  std::vector<int32_t> tokens;
  runtime::StopReason stop = {};  // why every answer ends
  Ticket submitted = 0;
  int cancelled = 0;
};

inline std::unique_ptr<text::Tokenizer> DemoTokenizer(const std::string& source_folder) {
  auto json = ReadFile(source_folder + "/models/demo/tokenizer.json");
  LODE_CHECK(json.ok());
  auto tokenizer = text::Tokenizer::FromHuggingFace(*json);
  LODE_CHECK(tokenizer.ok());
  return std::move(*tokenizer);
}

// Tokens of `text` such that one ends at byte `cut`, even inside a character.
inline std::vector<int32_t> EncodeCut(const text::Tokenizer& tokenizer, const std::string& text,
                                      size_t cut) {
  size_t begin = cut, end = cut;
  const auto inside = [&](size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
  };
  while (inside(begin)) --begin;
  while (inside(end)) ++end;
  std::vector<int32_t> ids;
  const auto add = [&](const std::string& piece) {
    const auto encoded = tokenizer.Encode(piece);
    LODE_CHECK(encoded.ok());
    ids.insert(ids.end(), encoded->begin(), encoded->end());
  };
  add(text.substr(0, begin));
  for (size_t i = begin; i < end; ++i) {
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (tokenizer.TokenBytes(id) != text.substr(i, 1)) continue;
      ids.push_back(id);
      break;
    }
  }
  add(text.substr(end));
  return ids;
}

}  // namespace lode::chat
