// Tool calls that are JSON objects, {"name": ..., "arguments": {...}} (text/parsers/call_object.h):
//
//   tagged    <tool_call>{...}</tool_call>, several in a row or several objects in one block, and
//             <TOOLCALL>[{...}, {...}]</TOOLCALL>
//   bare      the object is the answer, or stands at the start of a line when its tool was given;
//             several follow each other, behind ';' or in a list. <|python_tag|> may stand before
//             it, or before code, or before NAME.call(KEY="...")
//
// Arguments are given out as they come, as strict JSON (text/parsers/json_stream.h), also of a call
// that was cut off or that breaks in the middle, which is then marked as not complete.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/call_object.h"
#include "text/parsers/call_parser.h"
#include "text/parsers/lookahead.h"

namespace lode::text {

struct JsonCallStyle {
  std::string_view open;
  std::string_view close;  // empty: nothing closes a block
  bool bare = false;
};
constexpr JsonCallStyle kTaggedJson = {kCallOpen, kCallClose};
constexpr JsonCallStyle kListedJson = {kCallListOpen, kCallListClose};
constexpr JsonCallStyle kBareJson = {kPythonTag, "", true};

class JsonCallParser : public CallParser {
 public:
  JsonCallParser(const JsonCallStyle& style, const ToolSchemas* schemas, uint64_t id_seed)
      : CallParser(schemas, id_seed), style_(style) {}

  void Push(std::string_view text, std::vector<OutputEvent>* events) override;
  void Finish(StopCause cause, std::vector<OutputEvent>* events) override;
  void set_swallow_think_close(bool swallow) override { swallow_think_close_ = swallow; }
  size_t pending_bytes() const override {
    const size_t object = state_ == State::kObject ? object_.pending_bytes() : 0;
    return buffer_.size() + space_bytes() + raw_.size() + object;
  }

 private:
  enum class State {
    kOutside,  // content, and the gaps between calls
    kObject,   // inside a call
    kBetween,  // inside a block, between its calls
    kSkip,     // behind what was broken, to where the next thing may begin
    kTag,      // behind <|python_tag|>
    kCode,     // it is code
  };

  void Run(bool end);
  bool Step(bool end);
  bool Outside(bool end);
  bool Bracket(bool end);
  bool Joint(bool end, bool* joined);
  bool Tag(bool end);
  bool Object();
  bool Between(bool end);
  bool Skip(bool end);
  bool PythonTag(bool end);
  bool Code(bool end);

  void Plain(std::string_view text);
  void StartObject(bool tagged);
  void Ready();
  void PassArguments();
  void EndCall();
  void Reject();
  void BeginCode();
  void CloseObject();
  std::string_view Rest() const { return std::string_view(buffer_).substr(at_); }

  const JsonCallStyle style_;
  State state_ = State::kOutside;
  std::string buffer_;
  size_t at_ = 0;           // consumed bytes of buffer_ while running
  bool line_blank_ = true;  // only white space since the last newline, call or beginning
  bool any_content_ = false;
  bool swallow_think_close_ = false;
  bool in_list_ = false;

  CallObject object_;
  bool tagged_ = false;     // the open object has its tag
  bool committed_ = false;  // ... and was reported as a call
  bool any_arguments_ = false;
  std::string raw_;  // of what may still turn out to be no call

  bool code_begun_ = false;
};

}  // namespace lode::text
