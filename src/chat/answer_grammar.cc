#include "chat/answer_grammar.h"

#include <utility>
#include <vector>

#include "base/json_text.h"
#include "chat/structural_tag.h"
#include "text/grammar/characters.h"
#include "text/grammar/compile.h"
#include "text/grammar/elements.h"
#include "text/grammar/gbnf.h"
#include "text/grammar/regex.h"
#include "text/parsers/lookahead.h"

namespace lode::chat {
namespace {

using text::OutputFormat;
using text::grammar::Grammar;
using text::grammar::GrammarBuilder;
using text::grammar::JsonStyle;
using text::grammar::kUnbounded;
using text::grammar::NodeId;
using text::grammar::RegexTerm;
using text::grammar::Spelling;
using text::grammar::TermId;
using text::grammar::Terms;
using text::grammar::ElementTags;

constexpr JsonStyle kStyle = {.space = JsonStyle::Space::kSpaced};
constexpr uint32_t kMessagesMax = 16;  // of thinking, in the form with channels
constexpr uint32_t kCallsMax = 128;

struct Tool {
  std::string name;
  Json parameters;  // null: none given
  bool strict = false;
};

class AnswerMaker {
 public:
  explicit AnswerMaker(const AnswerForm& form) : form_(form), terms_(builder_.terms()) {}

  Result<std::shared_ptr<const Grammar>> Make() {
    LODE_TRY(ReadTools());
    LODE_ASSIGN(const NodeId root, form_.plain                               ? AnswerText()
                                   : form_.format == OutputFormat::kHarmony ? Channels()
                                                                            : Tagged());
    return builder_.Finish(root);
  }

 private:
  bool wants_calls() const {
    return form_.calls != AnswerForm::Calls::kNone && !tools_.empty();
  }
  bool must_call() const {
    return form_.calls == AnswerForm::Calls::kRequired || form_.calls == AnswerForm::Calls::kNamed;
  }
  bool has_format() const {
    return form_.response_format.is_object() &&
           GetString(form_.response_format, "type", "text") != "text";
  }

  Result<void> ReadTools();
  Result<NodeId> Tagged();
  Result<NodeId> Channels();
  Result<NodeId> Calls();
  Result<NodeId> OneCall(const Tool& tool);
  Result<NodeId> JsonArguments(const Tool& tool);
  Result<NodeId> XmlArguments(const Tool& tool);
  Result<NodeId> AnswerText();
  Result<NodeId> FormatNode(const Json& format);
  Result<NodeId> Content();

  NodeId Literal(std::string_view text) { return builder_.Literal(text); }
  // Any text with none of these inside.
  TermId Without(const std::vector<std::string>& words) { return TextWithout(&terms_, words); }
  // Up to two line breaks, as models put between the parts of an answer.
  NodeId Gap() { return builder_.Choice({builder_.Empty(), Literal("\n"), Literal("\n\n")}); }

  const AnswerForm& form_;
  GrammarBuilder builder_;
  Terms& terms_;
  std::vector<Tool> tools_;
};

Result<void> AnswerMaker::ReadTools() {
  if (form_.tools.is_array()) {
    for (const Json& entry : form_.tools) {
      const Json* function = FindKey(entry, "function");
      const Json& tool = function != nullptr ? *function : entry;
      const Json* parameters = FindKey(tool, "parameters");
      Tool one{GetString(tool, "name"), parameters != nullptr ? *parameters : Json(),
               form_.strict || GetBool(tool, "strict")};
      if (form_.calls == AnswerForm::Calls::kNamed && one.name != form_.named) continue;
      tools_.push_back(std::move(one));
    }
  }
  if (!must_call() || !tools_.empty()) return {};
  if (form_.calls == AnswerForm::Calls::kNamed) {
    return Error(Code::kBadInput, "tool_choice names a tool that was not given: " + form_.named);
  }
  return Error(Code::kBadInput, "tool_choice asks for a call, but no tools were given");
}

// [thinking </think>] [gap] answer. What is held to a format begins at once: the parser takes one
// line break behind the trace, and all else would be text of the answer.
Result<NodeId> AnswerMaker::Tagged() {
  LODE_ASSIGN(const NodeId content, Content());
  const NodeId before = !has_format() || must_call() ? Gap()
                        : form_.thinking             ? builder_.Optional(Literal("\n"))
                                                     : builder_.Empty();
  const NodeId answer = builder_.Sequence({before, content});
  if (!form_.thinking) return answer;
  std::vector<std::string> ends = {std::string(text::kThinkClose)};
  // A call would end the trace without its tag.
  if (const std::string_view trigger = CallTrigger(form_.format); !trigger.empty()) {
    ends.emplace_back(trigger);
  }
  return builder_.Sequence({builder_.Regular(Without(ends)), Literal(text::kThinkClose), answer});
}

// Messages of thinking, then the last one: an answer or a call.
Result<NodeId> AnswerMaker::Channels() {
  const std::vector<std::string> tags = {"<|start|>",   "<|end|>",  "<|message|>", "<|channel|>",
                                         "<|constrain|>", "<|call|>", "<|return|>"};
  const NodeId thought = builder_.Sequence(
      {Literal("<|channel|>analysis<|message|>"), builder_.Regular(Without(tags)),
       Literal("<|end|><|start|>assistant")});
  std::vector<NodeId> last;
  if (wants_calls()) {
    for (const Tool& tool : tools_) {
      LODE_ASSIGN(const NodeId arguments, JsonArguments(tool));
      const std::string to = "to=functions." + tool.name;
      const NodeId header = builder_.Choice(
          {Literal("<|channel|>commentary " + to + " <|constrain|>json<|message|>"),
           Literal(" " + to + "<|channel|>commentary <|constrain|>json<|message|>"),
           Literal(" " + to + "<|channel|>commentary json<|message|>")});
      last.push_back(builder_.Sequence({header, arguments}));
    }
  }
  if (!must_call()) {
    NodeId content = builder_.Regular(Without(tags));
    if (has_format()) {
      LODE_ASSIGN(content, AnswerText());
    }
    last.push_back(builder_.Sequence({Literal("<|channel|>final<|message|>"), content}));
  }
  return builder_.Sequence(
      {builder_.Repeat(thought, 0, kMessagesMax), builder_.Choice(std::move(last))});
}

// Everything behind the thinking.
Result<NodeId> AnswerMaker::Content() {
  std::vector<NodeId> choices;
  NodeId calls = builder_.Empty();
  if (wants_calls()) {
    LODE_ASSIGN(calls, Calls());
    if (must_call() || has_format()) choices.push_back(calls);
  }
  if (must_call()) return builder_.Choice(std::move(choices));
  if (has_format()) {
    LODE_ASSIGN(const NodeId text, AnswerText());
    choices.push_back(text);
    return builder_.Choice(std::move(choices));
  }
  std::vector<std::string> never = {std::string(text::kThinkOpen)};
  if (const std::string_view trigger = CallTrigger(form_.format); !trigger.empty()) {
    never.emplace_back(trigger);
  }
  if (form_.format == OutputFormat::kXml) never.emplace_back(text::kFunctionOpen);
  TermId free = Without(never);
  if (form_.format == OutputFormat::kBareJson && wants_calls()) {
    // A bare call is an object where a line begins.
    LODE_ASSIGN(const TermId object, RegexTerm(&terms_, "(?:^|\\n)[ \\t\\r\\n]*[{\\[]",
                                               {.spelling = Spelling::kRaw}));
    free = terms_.And({free, terms_.Not(object)});
  }
  if (form_.format == OutputFormat::kBareJson) {
    const NodeId later = builder_.Sequence({Literal("\n"), calls});
    return builder_.Choice(
        {calls, builder_.Sequence({builder_.Regular(free), builder_.Optional(later)})});
  }
  return builder_.Sequence({builder_.Regular(free), builder_.Optional(calls)});
}

// One call, or several where that is allowed.
Result<NodeId> AnswerMaker::Calls() {
  std::vector<NodeId> tools;
  for (const Tool& tool : tools_) {
    const Result<NodeId> call = OneCall(tool);
    if (!call.ok()) {
      return Error(call.error().code(), "tool " + tool.name + ": " + call.error().message());
    }
    tools.push_back(*call);
  }
  const NodeId one = builder_.Choice(std::move(tools));
  const bool several = form_.parallel && form_.calls != AnswerForm::Calls::kNamed;
  const auto more = [&](std::string_view between) {
    if (!several) return builder_.Empty();
    const NodeId next = builder_.Sequence({Literal(between), one});
    return builder_.Repeat(next, 0, kCallsMax - 1);
  };
  const NodeId newline = builder_.Optional(Literal("\n"));
  switch (form_.format) {
    case OutputFormat::kXml:
    case OutputFormat::kHermes:
      return builder_.Sequence({one, more("\n"), newline});
    case OutputFormat::kToolList:
      return builder_.Sequence(
          {Literal(text::kCallListOpen), Literal("["), one, more(", "), Literal("]"),
           Literal(text::kCallListClose), newline});
    case OutputFormat::kBareJson:
      return builder_.Sequence({one, more("; ")});
    case OutputFormat::kHarmony:
      break;
  }
  return one;
}

Result<NodeId> AnswerMaker::OneCall(const Tool& tool) {
  if (form_.format == OutputFormat::kXml) {
    LODE_ASSIGN(const NodeId arguments, XmlArguments(tool));
    return builder_.Sequence({Literal("<tool_call>\n<function=" + tool.name + ">\n"), arguments,
                              Literal("</function>\n</tool_call>")});
  }
  LODE_ASSIGN(const NodeId arguments, JsonArguments(tool));
  const std::string name = QuoteJson(tool.name);
  const bool hermes = form_.format == OutputFormat::kHermes;
  const bool bare = form_.format == OutputFormat::kBareJson;
  const std::string head =
      "{\"name\": " + name + (bare ? ", \"parameters\": " : ", \"arguments\": ");
  return builder_.Sequence({Literal((hermes ? "<tool_call>\n" : "") + head), arguments,
                            Literal(hermes ? "}\n</tool_call>" : "}")});
}

Result<NodeId> AnswerMaker::JsonArguments(const Tool& tool) {
  Json schema = {{"type", "object"}};
  if (tool.strict && tool.parameters.is_object()) schema = tool.parameters;
  return text::grammar::JsonSchemaNode(&builder_, schema, kStyle);
}

// Strict: as the schema says, and nothing that it does not declare. Else any parameters, any text.
Result<NodeId> AnswerMaker::XmlArguments(const Tool& tool) {
  if (tool.strict) {
    Json schema = tool.parameters;
    if (!schema.is_object()) schema = {{"type", "object"}};
    if (FindKey(schema, "additionalProperties") == nullptr &&
        FindKey(schema, "unevaluatedProperties") == nullptr) {
      schema["additionalProperties"] = false;
    }
    return text::grammar::ArgumentElements(&builder_, schema, ElementTags::Xml(), kStyle);
  }
  LODE_ASSIGN(const NodeId name,
              text::grammar::RegexNode(&builder_, "[A-Za-z0-9_.$-]{1,64}"));
  const TermId value =
      Without({std::string(text::kParameterClose), std::string(text::kParameterOpen),
               std::string(text::kFunctionOpen), std::string(text::kFunctionClose)});
  const NodeId parameter =
      builder_.Sequence({Literal("<parameter="), name, Literal(">\n"),
                         builder_.Regular(value), Literal("\n</parameter>\n")});
  return builder_.Repeat(parameter, 0, kUnbounded);
}

// The answer itself, by response_format. Errors begin with the field that asked for it.
Result<NodeId> AnswerMaker::AnswerText() {
  Result<NodeId> node = FormatNode(form_.response_format);
  if (node.ok()) return node;
  const std::string path = GetString(form_.response_format, "path", "response_format");
  const std::string& message = node.error().message();
  // "response_format.format" names its place itself; "grammar, line 1" is no field.
  if (message.starts_with(path + ":") || message.starts_with(path + ".")) return node;
  return Error(node.error().code(), path + ": " + message, node.error().hint());
}

Result<NodeId> AnswerMaker::FormatNode(const Json& format) {
  const std::string type = GetString(format, "type");
  if (type == "json_object") {
    const Json* schema = FindKey(format, "schema");
    return text::grammar::JsonSchemaNode(
        &builder_, schema != nullptr ? *schema : Json{{"type", "object"}}, kStyle);
  }
  if (type == "json_schema") {
    const Json* inner = FindKey(format, "json_schema");
    const Json* schema = FindKey(inner != nullptr ? *inner : format, "schema");
    if (schema == nullptr) {
      return Error(Code::kBadInput, "response_format.json_schema has no schema");
    }
    return text::grammar::JsonSchemaNode(&builder_, *schema, kStyle);
  }
  if (type == "regex") {
    return text::grammar::RegexNode(&builder_, GetString(format, "pattern"));
  }
  if (type == "choice") {
    std::vector<NodeId> choices;
    const Json* list = FindKey(format, "choices");
    if (list != nullptr && list->is_array()) {
      for (const Json& one : *list) {
        if (one.is_string()) choices.push_back(Literal(one.get_ref<const std::string&>()));
      }
    }
    if (choices.empty()) return Error(Code::kBadInput, "response_format.choices has no texts");
    return builder_.Choice(std::move(choices));
  }
  if (type == "grammar") {
    return text::grammar::GbnfNode(&builder_, GetString(format, "grammar"));
  }
  if (type == "structural_tag") {
    const Json* tag = FindKey(format, "structures") != nullptr ? &format
                                                                : FindKey(format, "format");
    if (tag == nullptr) return Error(Code::kBadInput, "response_format.format: is missing");
    return StructuralTagNode(&builder_, *tag, kStyle);
  }
  return Error(Code::kBadInput, "unknown type of response_format: " + type,
               "text, json_object, json_schema, regex, choice, grammar or structural_tag");
}

bool AnyStrict(const AnswerForm& form) {
  if (form.strict) return true;
  if (!form.tools.is_array()) return false;
  for (const Json& entry : form.tools) {
    const Json* function = FindKey(entry, "function");
    if (GetBool(function != nullptr ? *function : entry, "strict")) return true;
  }
  return false;
}

}  // namespace

std::string_view CallTrigger(OutputFormat format) {
  switch (format) {
    case OutputFormat::kXml:
    case OutputFormat::kHermes:
      return text::kCallOpen;
    case OutputFormat::kToolList:
      return text::kCallListOpen;
    case OutputFormat::kBareJson:
      return text::kPythonTag;
    case OutputFormat::kHarmony:
      break;
  }
  return "";
}

Result<std::shared_ptr<const Grammar>> CompileAnswer(const AnswerForm& form) {
  const bool formatted = form.response_format.is_object() &&
                         GetString(form.response_format, "type", "text") != "text";
  const bool tools = form.tools.is_array() && !form.tools.empty();
  // Channels have no one token that opens a call: where none is wanted, the grammar says so.
  const bool none = form.calls == AnswerForm::Calls::kNone &&
                    !(tools && form.format == OutputFormat::kHarmony);
  const bool loose = none || form.plain ||
                     (form.calls == AnswerForm::Calls::kAuto &&
                      (!tools || (form.parallel && !form.limited && !AnyStrict(form))));
  if (loose && !formatted) return std::shared_ptr<const Grammar>();
  return AnswerMaker(form).Make();
}

}  // namespace lode::chat
