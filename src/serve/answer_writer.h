// A dialect's shape of an answer. A dialect is a reader of requests and two of these: one for
// streams, one for whole responses.
#pragma once

#include <string>

#include "chat/answer.h"
#include "serve/faults.h"

namespace lode::serve {

// Threads: one.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  // Appends what `event` is on the wire (or keeps it: a whole response). `usage`: so far. Not
  // called for kQueued and kFailed.
  virtual void Add(const chat::AnswerEvent& event, const chat::Usage& usage, std::string* out) = 0;
  // After the last event: what ends the stream, or the body.
  virtual void End(const chat::Usage& usage, std::string* out) = 0;
  // What says that all is well, while there is nothing to say; SSE's comment unless a dialect has
  // its own event.
  virtual void KeepAlive(std::string* out) { *out += ": all is well\n\n"; }
  // What ends a stream when the answer fails after it has begun.
  virtual void Fail(const Problem& problem, const std::string& request_id, std::string* out) {
    *out += "data: " + DumpJson(ErrorBody(Dialect::kOpenAi, problem, request_id)) + "\n\n";
  }
};

}  // namespace lode::serve
