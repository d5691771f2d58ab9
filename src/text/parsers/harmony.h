// Messages with channels and recipients, as gpt-oss writes them: a turn is several messages,
//
//   <|channel|>analysis<|message|>...<|end|>                          reasoning
//   <|start|>assistant<|channel|>commentary<|message|>...<|end|>      content, before calls
//   <|start|>assistant<|channel|>commentary to=functions.NAME
//       <|constrain|>json<|message|>{...}<|call|>                     a call (one line)
//   <|start|>assistant<|channel|>final<|message|>...<|return|>        content
//
// The prompt ends with <|start|>assistant, so a header comes first; a recipient may stand in the
// part of the role, too. The last tag is a stop token and need not be there. Missing tags are
// forgiven: a new header ends a message, and a text without any header is content. The tags are
// looked for in the text, so whoever decodes must not leave control tokens out.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/call_parser.h"
#include "text/parsers/json_stream.h"
#include "text/parsers/lookahead.h"

namespace lode::text {

class HarmonyParser : public CallParser {
 public:
  // `calls` off: a message to a tool is content.
  HarmonyParser(bool calls, const ToolSchemas* schemas, uint64_t id_seed)
      : CallParser(schemas, id_seed), calls_wanted_(calls) {}

  void Push(std::string_view text, std::vector<OutputEvent>* events) override;
  void Finish(StopCause cause, std::vector<OutputEvent>* events) override;
  size_t pending_bytes() const override {
    return buffer_.size() + header_.size() + json_.pending_bytes();
  }

 private:
  enum class State { kStart, kHeader, kBody, kBetween };
  enum class Target { kReasoning, kContent, kCall };
  enum class Tag { kNone, kMore, kStart, kChannel, kConstrain, kMessage, kEnd };
  enum class Body { kUnknown, kJson, kText, kIgnored };  // of a call

  void Run(bool end);
  bool Step(bool end);
  bool Start(bool end);
  bool HeaderStep(Tag tag, size_t bytes);
  void OpenMessage();
  void CloseMessage(bool complete);
  void BodyText(std::string_view text);
  void CallText(std::string_view text);
  static Tag FindTag(std::string_view text, size_t* bytes);

  const bool calls_wanted_;
  State state_ = State::kStart;
  std::string buffer_;
  size_t at_ = 0;  // consumed bytes of buffer_ while running
  std::string header_;

  Target target_ = Target::kContent;
  bool any_text_ = false;  // in the open message
  bool any_reasoning_ = false, any_content_ = false;
  Body body_ = Body::kUnknown;
  bool call_complete_ = false;
  JsonStream json_;
};

}  // namespace lode::text
