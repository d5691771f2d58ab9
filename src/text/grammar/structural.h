// Frames around what a schema says: free text until a sign, then a rule, then free text again; and
// with these the calls of tools in the forms that models write. One Grammar holds the whole answer,
// from thinking to the last call.
//
// Free text is any bytes. A sign ("trigger") is text; where a tokenizer has a token of its own for
// it, TokenTrie gives that token these bytes, and both ways of writing it are the same to the
// grammar.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/grammar/compile.h"
#include "text/grammar/grammar.h"

namespace lode::text::grammar {

// Any bytes up to the first of `stops`, that one included.
NodeId TextUntil(GrammarBuilder* builder, std::span<const std::string> stops);
// Any bytes, to the end, in which none of `forbidden` is.
NodeId TextWithout(GrammarBuilder* builder, std::span<const std::string> forbidden);

// How a model writes a call:  trigger before_name NAME after_name ARGUMENTS after
struct ToolCallForm {
  std::string trigger, before_name, after_name, after;
  // Arguments as elements: each  before_key KEY after_key VALUE after_value . A value that may be a
  // string is any text without `value_end`; others are JSON. Empty: arguments are one JSON object.
  std::string before_key, after_key, after_value, value_end;

  static ToolCallForm Xml();       // <tool_call> <function=NAME> <parameter=KEY> VALUE ...
  static ToolCallForm TaggedJson();  // <tool_call> {"name": NAME, "arguments": ARGUMENTS} ...
  static ToolCallForm PlainJson();   // {"name": NAME, "parameters": ARGUMENTS}
  static ToolCallForm Channels();    // ...commentary to=functions.NAME ... ARGUMENTS <|call|>
  bool elements() const { return !before_key.empty(); }
};

struct ToolForGrammar {
  std::string name;
  Json parameters;  // a JSON schema; null: none
};

struct ToolCallRules {
  enum class Choice {
    kAuto,      // text, and calls where the model wants them
    kRequired,  // at least one call, after white space only
    kNone       // no call
  };
  Choice choice = Choice::kAuto;
  bool parallel = true;       // more than one call
  std::string thinking_end;   // not empty: the answer begins with text up to this ("</think>")
  std::string separator = "\n";  // may stand between calls
  JsonStyle style = {.space = JsonStyle::Space::kSpaced};
};

// The answer of a model that may call `tools`. A named tool is kRequired with that tool alone.
// Errors: those of CompileJsonSchema, each with the tool's name.
Result<std::shared_ptr<const Grammar>> CompileToolCalls(std::span<const ToolForGrammar> tools,
                                                        const ToolCallForm& form,
                                                        const ToolCallRules& rules);

// An answer that is JSON of `schema`, after thinking if `thinking_end` says so; white space may
// stand between the two.
Result<std::shared_ptr<const Grammar>> CompileAnswer(const Json& schema,
                                                     const std::string& thinking_end,
                                                     const JsonStyle& style = {});

// Arguments as elements; see ToolCallForm.
Result<NodeId> ArgumentElements(GrammarBuilder* builder, const Json& schema,
                                const ToolCallForm& form, const JsonStyle& style);

}  // namespace lode::text::grammar
