// What the parsers report while a model writes, and the same collected into one whole. Plain data:
// the wire formats (chat chunks, message blocks, ...) are made from it elsewhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lode::text {

struct OutputEvent {
  enum class Kind {
    kReasoning,  // text: a piece of the trace
    kContent,    // text: a piece of the answer
    kCallBegin,  // index, id, name; exactly once per call, before any of its arguments
    kArguments,  // index, text: a piece of the arguments, which joined are one JSON object
    kCallEnd,    // index, complete
  };
  Kind kind = Kind::kContent;
  std::string text;
  int index = -1;  // of the call, contiguous from 0
  std::string id;
  std::string name;
  bool complete = false;  // the model closed the call itself; else it was cut off and closed for it
};

// Why the writing ended, as the caller knows it.
enum class StopCause { kStop, kLength, kCancelled };

// What the client is told.
enum class FinishReason { kStop, kLength, kToolCalls, kCancelled };
const char* FinishReasonName(FinishReason reason);

struct ParsedCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON text of an object
  bool complete = false;
};

// The events of one answer, joined.
struct ParsedOutput {
  std::string reasoning;
  std::string content;
  std::vector<ParsedCall> calls;

  // Applies events in order. Events must come from one parser, whole.
  void Add(const std::vector<OutputEvent>& events);
};

// Appends a piece of text, joining it to the previous event when that is of the same kind and call.
void AppendText(OutputEvent::Kind kind, int index, std::string_view text,
                std::vector<OutputEvent>* events);

}  // namespace lode::text
