// The parser of everything that a model writes in one turn: whole UTF-8 first, then reasoning, then
// tool calls. One of these per answer; the chat layer pushes text as it is generated and passes the
// events on.
//
// The contract: the events depend on the text alone, never on how it was cut into pieces, except
// that one run of text may come as one delta or as several. Nothing is repeated, nothing is taken
// back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/call_parser.h"
#include "text/parsers/output_event.h"
#include "text/parsers/output_format.h"
#include "text/parsers/reasoning.h"

namespace lode::text {

struct OutputParserOptions {
  OutputFormat format = OutputFormat::kXml;
  // The prompt ended with an opened <think>. Off: everything outside of calls is content. Harmony
  // says by itself what is reasoning.
  bool thinking = true;
  // If there is neither content nor a call at the end, the reasoning is given out as content too.
  bool force_nonempty_content = false;
  // Off (no tools, or tool_choice "none"): calls are plain text.
  bool tool_calls = true;
  // Shared because the choices of one request and its later turns use the same; may be null.
  std::shared_ptr<const ToolSchemas> tools;
  uint64_t id_seed = 0;  // differs between the answers of one conversation
};

class OutputParser {
 public:
  explicit OutputParser(OutputParserOptions options);
  OutputParser(const OutputParser&) = delete;
  OutputParser& operator=(const OutputParser&) = delete;

  // Any bytes; a character may be split between two pushes, invalid UTF-8 becomes U+FFFD.
  // Errors: none. Threads: one.
  std::vector<OutputEvent> Push(std::string_view bytes);

  // Closes what is open, once, after the last Push. The reason: tool_calls when there are calls and
  // all are complete; a call that was cut off leaves "length" or "stop".
  std::vector<OutputEvent> Finish(StopCause cause);
  FinishReason finish_reason() const { return finish_reason_; }

  // For metrics and for tests of promptness.
  int dropped_blocks() const { return calls_->dropped_blocks(); }
  int unknown_calls() const { return calls_->unknown_calls(); }
  size_t pending_bytes() const;

 private:
  void PushText(std::string_view text, std::vector<OutputEvent>* events);
  void PushRest(std::vector<OutputEvent>* events);
  void Note(const std::vector<OutputEvent>& events);

  const OutputParserOptions options_;
  const ToolSchemas no_tools_;
  std::string unfinished_;  // the beginning of a character
  ReasoningSplitter reasoning_;
  const bool channels_;  // the call parser reads the reasoning, too
  std::unique_ptr<CallParser> calls_;
  std::string reasoning_piece_;
  std::string rest_;
  std::string reasoning_text_;  // all of it, kept only for force_nonempty_content
  bool any_content_ = false;
  bool any_incomplete_call_ = false;
  FinishReason finish_reason_ = FinishReason::kStop;
};

// The whole text at once: the same machine, for tests and for stored text.
ParsedOutput ParseOutput(std::string_view text, const OutputParserOptions& options, StopCause cause,
                         FinishReason* reason = nullptr);

}  // namespace lode::text
