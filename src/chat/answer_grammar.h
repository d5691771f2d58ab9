// What a whole answer may look like, as one grammar over its text: thinking, then calls of tools in
// the form that the model knows, or the answer itself. Thinking is never held to a schema.
//
// The grammar allows what text/parsers reads back: inside a value there is nothing that would end
// it. Strings of the XML form are plain text; everything else is JSON by its schema.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "text/grammar/grammar.h"
#include "text/parsers/output_format.h"

namespace lode::chat {

struct AnswerForm {
  enum class Calls : uint8_t { kNone, kAuto, kRequired, kNamed };

  text::OutputFormat format = text::OutputFormat::kXml;
  bool thinking = false;  // the prompt ends inside an opened trace (harmony says it by itself)
  // Tools as {"type": "function", "function": {"name", "parameters", "strict"}}; null: none.
  Json tools = nullptr;
  Calls calls = Calls::kAuto;
  std::string named;     // of kNamed
  bool parallel = true;  // several calls
  bool limited = false;  // the prompt tells of more tools than may be called
  bool strict = false;   // all tools are held to their schemas; else those that say so
  bool plain = false;    // no turn of a dialogue: the response_format alone
  // null, or {"type": "text" | "json_object" | "json_schema" | "regex" | "choice" | "grammar" |
  // "structural_tag", ...}: "json_schema": {"schema"}, "schema" of a json_object, "pattern",
  // "choices", "grammar" (GBNF), "format" (structural_tag.h). "path": the field that said so.
  Json response_format = nullptr;
};

// nullptr: the answer may be anything.
// Errors: kBadInput for what no answer fits (no tools, an unknown tool or type), kUnsupported for
// schemas with keywords that cannot be enforced, kNoSpace for what is too large.
Result<std::shared_ptr<const text::grammar::Grammar>> CompileAnswer(const AnswerForm& form);

// What opens a call: banned when none is wanted. Empty where a call opens like any text.
std::string_view CallTrigger(text::OutputFormat format);

}  // namespace lode::chat
