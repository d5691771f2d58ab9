// Answers in the shape of the Responses API: events of items, or one response at the end. Both are
// made of the same items by the same code.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "serve/answer_writer.h"
#include "serve/responses/text_field.h"

namespace lode::serve {

struct ResponseHead {
  std::string id;  // "resp_..."
  std::string model;
  int64_t created = 0;  // seconds since 1970
  Json echo = Json::object();  // settings of the request
  std::set<std::string> custom_tools = {};  // whose input is one text
  bool stream = false;
  bool summary = false, sealed = false, logprobs = false;
};

// One choice. Every item is added once and done once, under one id; what the deltas say joins to
// what is done.
class ResponseWriter : public AnswerWriter {
 public:
  // `keep` gets the finished response; null: nobody keeps it. The tokenizer may be null without
  // logprobs.
  ResponseWriter(ResponseHead head, const text::Tokenizer* tokenizer,
                 std::function<void(const Json&)> keep = nullptr);

  void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) override;
  void End(const chat::Usage& usage, std::string* out) override;
  void KeepAlive(std::string* out) override;
  void Fail(const Problem& problem, const std::string& request_id, std::string* out) override;

 private:
  static constexpr const char* kInput = "input";
  enum class Part : uint8_t { kNone, kThoughts, kMessage, kCall, kCustomCall };

  // Where a delta belongs: item, output_index, and the index within the item, if `index` names one.
  Json Event(const char* type, const char* index = nullptr) const;
  void Send(Json event, std::string* out);
  Json Response(const char* status) const;
  void Start(std::string* out);
  void Open(Part part, std::string* out);
  void AddOutput(const chat::AnswerEvent& event, std::string* out);
  void AddThoughts(const std::string& text, std::string* out);
  void AddText(const chat::AnswerEvent& event, std::string* out);
  void BeginCall(const text::OutputEvent& output, std::string* out);
  void AddArguments(const std::string& text, std::string* out);
  void AddInput(std::string text, std::string* out);
  Json Item(const char* status) const;
  Json TextPart() const;
  void Close(bool complete, std::string* out);
  void CloseThoughts(std::string* out);
  void CloseText(std::string* out);
  void CloseCall(std::string* out);

  ResponseHead head_;
  const text::Tokenizer* tokenizer_;
  std::function<void(const Json&)> keep_;
  Json output_ = Json::array();  // items that are done
  int64_t sequence_ = 0;
  bool started_ = false;
  text::FinishReason finish_ = text::FinishReason::kStop;
  // The open item.
  Part part_ = Part::kNone;
  std::string item_id_, text_, name_, call_id_;
  // Of a custom tool: behind it is a function of one string, "input", which is the item's text.
  std::string arguments_;
  TextField input_{kInput};
  Json logprobs_ = Json::array();
};

}  // namespace lode::serve
