// Answers in the shape of Anthropic's Messages: events of blocks, or one message at the end.
#pragma once

#include <string>
#include <vector>

#include "serve/answer_writer.h"

namespace lode::serve {

struct MessageHead {
  std::string id;  // "msg_..."
  std::string model;
};

// One choice. Every block is begun once and ended once; thinking is signed with an opaque word.
class MessageEvents : public AnswerWriter {
 public:
  explicit MessageEvents(MessageHead head) : head_(std::move(head)) {}
  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override;
  void End(const chat::Usage& usage, std::string* out) override;
  void KeepAlive(std::string* out) override;
  void Fail(const Problem& problem, const std::string& request_id, std::string* out) override;

 private:
  enum class Block : uint8_t { kNone, kThinking, kText, kTool };
  void Start(const chat::Usage& usage, std::string* out);
  void Open(Block block, const Json& content, std::string* out);
  void Close(std::string* out);
  void Delta(const char* type, const char* field, const std::string& text, std::string* out);
  void AddOutput(const text::OutputEvent& output, std::string* out);

  MessageHead head_;
  bool started_ = false;
  Block block_ = Block::kNone;
  int index_ = -1;  // of the newest block
};

class MessageWhole : public AnswerWriter {
 public:
  explicit MessageWhole(MessageHead head) : head_(std::move(head)) {}
  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override;
  void End(const chat::Usage& usage, std::string* out) override;

 private:
  MessageHead head_;
  text::ParsedOutput output_;
  text::FinishReason finish_ = text::FinishReason::kStop;
  std::string stop_string_;
};

}  // namespace lode::serve
