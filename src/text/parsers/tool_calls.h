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

#include "text/parsers/lookahead.h"
#include "text/parsers/output_event.h"
#include "text/parsers/tool_schemas.h"

namespace lode::text {

// A typed value longer than this is given out as a string instead of being withheld further.
constexpr size_t kTypedValueBytesMax = size_t{8} << 20;

class ToolCallParser {
 public:
  // `schemas` must outlive the parser. `id_seed` makes the ids; two answers of one conversation
  // need different seeds.
  ToolCallParser(const ToolSchemas* schemas, uint64_t id_seed)
      : schemas_(schemas), id_seed_(id_seed) {}

  // Text outside of the reasoning, as whole UTF-8 characters. Appends to `events`.
  // Errors: none, every text has a reading. Threads: one. Time: linear in the text.
  void Push(std::string_view text, std::vector<OutputEvent>* events);
  // No more text comes: closes what is open.
  void Finish(std::vector<OutputEvent>* events);

  int calls() const { return call_index_ + 1; }
  bool last_call_complete() const { return last_call_complete_; }
  // Blocks that opened as calls but could not be read, and calls of tools that were not given: for
  // metrics; the latter are reported as calls nevertheless.
  int dropped_blocks() const { return dropped_blocks_; }
  int unknown_calls() const { return unknown_calls_; }
  // A </think> in the content is no content (the trace was ended by a call before it came).
  void set_swallow_think_close(bool swallow) { swallow_think_close_ = swallow; }
  // Withheld bytes, typed values included.
  size_t pending_bytes() const { return buffer_.size() + space_.size() + value_.size(); }

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

  void Content(std::string_view text);
  void BeginCall(std::string_view name);
  void EndCall(bool complete);
  void OpenParameter(std::string_view name);
  void ValueText(std::string_view text);
  void CloseValue(bool cut_off);
  void Arguments(std::string_view json);
  std::string_view Rest() const { return std::string_view(buffer_).substr(at_); }

  const ToolSchemas* const schemas_;
  const uint64_t id_seed_;

  State state_ = State::kOutside;
  std::string buffer_;
  size_t at_ = 0;                               // consumed bytes of buffer_ while running
  std::vector<OutputEvent>* events_ = nullptr;  // only while running

  std::string space_;              // white space that is content only if no call follows
  bool space_is_content_ = false;  // ... which it is in a run that is too long to withhold
  bool after_call_ = false;        // no content since the last call
  bool swallow_think_close_ = false;

  int call_index_ = -1;
  bool wrapped_ = false;  // the open call has its <tool_call>
  bool last_call_complete_ = false;
  int dropped_blocks_ = 0;
  int unknown_calls_ = 0;
  const ToolSchema* schema_ = nullptr;
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
