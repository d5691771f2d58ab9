// What the parsers of all call formats share: their interface, and how calls are numbered, named
// and counted. One parser per answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/parsers/output_event.h"
#include "text/parsers/tool_schemas.h"

namespace lode::text {

class CallParser {
 public:
  virtual ~CallParser() = default;
  CallParser(const CallParser&) = delete;
  CallParser& operator=(const CallParser&) = delete;

  // Text as whole UTF-8 characters. Appends to `events`; they depend on the text alone, not on how
  // it is cut. Errors: none, every text has a reading. Threads: one. Time: linear in the text.
  virtual void Push(std::string_view text, std::vector<OutputEvent>* events) = 0;
  // No more text comes: closes what is open.
  virtual void Finish(StopCause cause, std::vector<OutputEvent>* events) = 0;
  // Withheld bytes.
  virtual size_t pending_bytes() const = 0;
  // A </think> in the content is no content (the trace was ended by a call before it came).
  virtual void set_swallow_think_close(bool) {}

  int calls() const { return call_index_ + 1; }
  // Blocks that opened as calls but could not be read, and calls of tools that were not given: for
  // metrics; the latter are reported as calls nevertheless.
  int dropped_blocks() const { return dropped_blocks_; }
  int unknown_calls() const { return unknown_calls_; }

 protected:
  // `schemas` must outlive the parser. `id_seed` makes the ids; two answers of one conversation
  // need different seeds.
  CallParser(const ToolSchemas* schemas, uint64_t id_seed) : schemas_(schemas), id_seed_(id_seed) {}

  // These report to `events_`, which is set only while text is read. Begin sets schema_.
  void Begin(std::string_view name);
  void Arguments(std::string_view json) {
    AppendText(OutputEvent::Kind::kArguments, call_index_, json, events_);
  }
  void End(bool complete);
  void Text(OutputEvent::Kind kind, std::string_view text) { AppendText(kind, -1, text, events_); }

  // Content, and white space around it, which is not content next to a call.
  void Content(std::string_view text);
  void Space(std::string_view text);
  void DropSpace();     // a call follows
  void FinishSpace();   // nothing follows
  size_t space_bytes() const { return space_.size(); }

  const ToolSchemas* const schemas_;
  std::vector<OutputEvent>* events_ = nullptr;
  const ToolSchema* schema_ = nullptr;  // of the open call; nullptr for a tool that was not given
  int dropped_blocks_ = 0;
  bool after_call_ = false;  // no content since the last call

 private:
  std::string space_;              // white space that is content only if no call follows
  bool space_is_content_ = false;  // ... which it is in a run that is too long to withhold
  const uint64_t id_seed_;
  int call_index_ = -1;
  int unknown_calls_ = 0;
};

}  // namespace lode::text
