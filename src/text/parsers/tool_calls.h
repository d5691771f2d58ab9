// Tool calls in the XML form that Nemotron 3 writes, read byte by byte and given out as synthetic
// JSON:
//
//   <tool_call>                     CallBegin {index, id, name}
//   <function=NAME>
//   <parameter=KEY>                 Arguments {"KEY":"
//   value                           Arguments ...the value, escaped, as it comes
//   </parameter>                    Arguments "
//   </function>                     Arguments }    CallEnd
//   </tool_call>
//
// Strings are streamed; a value of another type is withheld until it is closed, then converted
// (text/parsers/argument_value.h). Joined, the arguments of a call are always one JSON object, even
// of a call that was cut off; a key that the model wrote twice stands there twice, the last one
// wins.
//
// The surprising policy: a value may contain anything, tags and whole calls included (models write
// code about tool calls). So a closing tag counts only when the next structural tag, or the end,
// follows it, and a call that opens inside a value is text up to its own closing tag. What is
// withheld to decide this is bounded by lookahead.h, whatever the value's length. A value that
// opens a call it never closes is the one undecidable case: the call's end is then found only at
// the end of the text. The other tolerances (no outer tags, no </parameter>, a header without '>')
// are listed with their tests in tests/text/parsers/.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/call_parser.h"
#include "text/parsers/lookahead.h"

namespace lode::text {

// A typed value longer than this is given out as a string instead of being withheld further.
constexpr size_t kTypedValueBytesMax = size_t{8} << 20;

class ToolCallParser : public CallParser {
 public:
  ToolCallParser(const ToolSchemas* schemas, uint64_t id_seed) : CallParser(schemas, id_seed) {}

  void Push(std::string_view text, std::vector<OutputEvent>* events) override;
  void Finish(StopCause cause, std::vector<OutputEvent>* events) override;
  void set_swallow_think_close(bool swallow) override { swallow_think_close_ = swallow; }
  // Typed values included.
  size_t pending_bytes() const override { return buffer_.size() + space_bytes() + value_.size(); }

 private:
  enum class State {
    kOutside,        // content, and the gaps between calls
    kHeader,         // after "<function="
    kSkip,           // inside a block whose header is broken
    kInFunction,     // between parameters
    kValueStart,     // after ">" of a parameter: one newline is not part of the value
    kValue,          // inside a value
    kAfterFunction,  // between </function> and </tool_call>
  };
  enum class Verdict {
    kWait,
    kText,
    kClose,
    // Text, too, but it changes what the next closing tag belongs to.
    kOpenCall,
    kCloseCall,
    kOpenFunction,
    kCloseFunction,
  };
  // How the value of the open parameter travels.
  enum class ValueMode { kStream, kProbeNull, kTyped };

  void Run(bool end);
  bool Step(bool end);
  bool Outside(bool end);
  bool OutsideTag(bool end);
  bool Header(bool end);
  bool Skip(bool end);
  bool InFunction(bool end);
  bool Value(bool end);
  bool AfterFunction(bool end);

  Verdict JudgeValueTag(std::string_view text, bool line_start, bool end, size_t* bytes) const;
  Match ParameterCloses(Lookahead* cursor, bool end) const;
  Match NestedCloses(Lookahead* cursor, bool end) const;
  Match ImplicitClose(std::string_view text, bool end) const;

  void BeginCall(std::string_view name);
  void EndCall(bool complete);
  void OpenParameter(std::string_view name);
  void ValueText(std::string_view text);
  void CloseValue(bool cut_off);
  std::string_view Rest() const { return std::string_view(buffer_).substr(at_); }

  State state_ = State::kOutside;
  std::string buffer_;
  size_t at_ = 0;  // consumed bytes of buffer_ while running

  bool swallow_think_close_ = false;

  bool wrapped_ = false;  // the open call has its <tool_call>
  std::set<std::string, std::less<>> seen_;  // parameters of the open call
  bool any_parameter_ = false;               // has been given out

  std::string key_;
  ParameterType type_;
  ValueMode mode_ = ValueMode::kStream;
  std::string value_;        // withheld: a typed value, or what may become "null"
  bool line_start_ = false;  // nothing of the value's first line was read yet
  // What the value itself has opened and not closed: calls, and functions without the outer tags.
  int nested_calls_ = 0;
  int nested_functions_ = 0;
};

}  // namespace lode::text
