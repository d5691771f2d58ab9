// Splits what a model writes into its reasoning and the rest, while it is being written.
// Not a tool-call parser: the rest goes on to text/parsers/tool_calls.h.
//
// With thinking on, the prompt has already opened <think>, so the text starts inside the trace. The
// trace ends at the first </think>, or where a tool call opens at the start of a line: models
// forget the tag there, and a client that waits for it never gets its call. Exactly one newline is
// cut on each side of </think>, which is what the chat templates write, so that rendering the parts
// again gives the same bytes.
#pragma once

#include <string>
#include <string_view>

#include "text/parsers/lookahead.h"

namespace lode::text {

class ReasoningSplitter {
 public:
  // `thinking`: the prompt has opened <think>. Without it everything is rest, unless the text
  // itself starts with <think>. `call_opens`: whether a call opens at the cursor, which ends the
  // trace; nullptr when calls do not.
  using CallOpens = Match (*)(Lookahead* cursor);
  ReasoningSplitter(bool thinking, CallOpens call_opens)
      : thinking_(thinking), call_opens_(call_opens) {}

  // Appends to `reasoning` and `rest`. Text is withheld only while it may still be a tag.
  // Errors: none. Threads: one.
  void Push(std::string_view text, std::string* reasoning, std::string* rest);
  // No more text comes: gives out what was withheld.
  void Finish(std::string* reasoning, std::string* rest);

  // The trace was ended by a tool call, so a late </think> may still follow.
  bool ended_by_call() const { return ended_by_call_; }
  size_t pending_bytes() const { return buffer_.size(); }

 private:
  enum class State { kStart, kInside, kAfterTag, kRest };

  void Run(bool end, std::string* reasoning, std::string* rest);
  bool Start(bool end);
  bool Inside(bool end, std::string* reasoning);
  void Emit(size_t bytes, std::string* out);

  const bool thinking_;
  const CallOpens call_opens_;
  State state_ = State::kStart;
  std::string buffer_;
  size_t at_ = 0;           // consumed bytes of buffer_ while running
  bool line_blank_ = true;  // only spaces since the last newline of the trace
  bool ended_by_call_ = false;
};

}  // namespace lode::text
