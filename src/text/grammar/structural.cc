#include "text/grammar/structural.h"

namespace lode::text::grammar {
namespace {

TermId AnyBytes(Terms* terms) { return terms->Star(terms->Bytes(ByteSet::All())); }

// Texts in which one of `words` is.
TermId Holding(Terms* terms, std::span<const std::string> words) {
  std::vector<TermId> choices;
  for (const std::string& word : words) choices.push_back(terms->Literal(word));
  const TermId any = AnyBytes(terms);
  return terms->Concat({any, terms->Alt(std::move(choices)), any});
}

NodeId Spaces(GrammarBuilder* builder, uint32_t max) {
  ByteSet blanks = ByteSet::One(' ');
  for (const char c : {'\t', '\n', '\r'}) blanks.Add(static_cast<uint8_t>(c));
  return builder->Regular(builder->terms().Repeat(builder->terms().Bytes(blanks), 0, max));
}

}  // namespace

NodeId TextWithout(GrammarBuilder* builder, std::span<const std::string> forbidden) {
  Terms& terms = builder->terms();
  return builder->Regular(
      terms.And({AnyBytes(&terms), terms.Not(Holding(&terms, forbidden))}));
}

NodeId TextUntil(GrammarBuilder* builder, std::span<const std::string> stops) {
  // All that ends in a stop, and holds none before its last byte.
  Terms& terms = builder->terms();
  std::vector<TermId> ends;
  for (const std::string& stop : stops) ends.push_back(terms.Literal(stop));
  const TermId any = AnyBytes(&terms);
  const TermId early = terms.Concat({Holding(&terms, stops), terms.Bytes(ByteSet::All())});
  return builder->Regular(terms.And(
      {terms.Concat(any, terms.Alt(std::move(ends))), terms.Not(early)}));
}

ToolCallForm ToolCallForm::Xml() {
  return {.trigger = "<tool_call>",
          .before_name = "\n<function=",
          .after_name = ">\n",
          .after = "</function>\n</tool_call>",
          .before_key = "<parameter=",
          .after_key = ">\n",
          .after_value = "\n</parameter>\n",
          .value_end = "</parameter>"};
}

ToolCallForm ToolCallForm::TaggedJson() {
  return {.trigger = "<tool_call>",
          .before_name = "\n{\"name\": \"",
          .after_name = "\", \"arguments\": ",
          .after = "}\n</tool_call>",
          .before_key = "",
          .after_key = "",
          .after_value = "",
          .value_end = ""};
}

ToolCallForm ToolCallForm::PlainJson() {
  return {.trigger = "{\"name\": \"",
          .before_name = "",
          .after_name = "\", \"parameters\": ",
          .after = "}",
          .before_key = "",
          .after_key = "",
          .after_value = "",
          .value_end = ""};
}

ToolCallForm ToolCallForm::Channels() {
  return {.trigger = "<|channel|>commentary to=functions.",
          .before_name = "",
          .after_name = " <|constrain|>json<|message|>",
          .after = "<|call|>",
          .before_key = "",
          .after_key = "",
          .after_value = "",
          .value_end = ""};
}

Result<std::shared_ptr<const Grammar>> CompileToolCalls(std::span<const ToolForGrammar> tools,
                                                        const ToolCallForm& form,
                                                        const ToolCallRules& rules) {
  GrammarBuilder builder;
  std::vector<NodeId> calls;  // behind the trigger
  for (const ToolForGrammar& tool : tools) {
    if (rules.choice == ToolCallRules::Choice::kNone) break;
    Json schema = tool.parameters;
    if (schema.is_null() || (schema.is_object() && schema.empty()))
      schema = Json{{"type", "object"}, {"additionalProperties", false}};
    auto arguments = form.elements() ? ArgumentElements(&builder, schema, form, rules.style)
                                     : JsonSchemaNode(&builder, schema, rules.style);
    if (!arguments.ok()) return arguments.error().AddContext("tool " + tool.name);
    const NodeId head = builder.Literal(form.before_name + tool.name + form.after_name);
    calls.push_back(builder.Sequence({head, *arguments, builder.Literal(form.after)}));
  }
  const std::vector<std::string> triggers{form.trigger};
  const NodeId text = TextWithout(&builder, triggers);
  const NodeId call = builder.Choice(std::move(calls));
  const NodeId again = builder.Sequence(
      {builder.Optional(builder.Literal(rules.separator)), builder.Literal(form.trigger), call});
  NodeId answer = text;
  switch (rules.choice) {
    case ToolCallRules::Choice::kNone:
      break;
    case ToolCallRules::Choice::kAuto: {
      const NodeId more =
          rules.parallel ? builder.Repeat(again, 0, kUnbounded) : builder.Empty();
      const NodeId calling = builder.Sequence(
          {TextUntil(&builder, triggers), call, more, Spaces(&builder, 8)});
      answer = builder.Choice({text, calling});
      break;
    }
    case ToolCallRules::Choice::kRequired: {
      const NodeId first = builder.Sequence({builder.Literal(form.trigger), call});
      const NodeId more =
          rules.parallel ? builder.Repeat(again, 0, kUnbounded) : builder.Empty();
      answer = builder.Sequence({Spaces(&builder, 8), first, more, Spaces(&builder, 8)});
      break;
    }
  }
  if (!rules.thinking_end.empty()) {
    const std::vector<std::string> ends{rules.thinking_end};
    answer = builder.Sequence({TextUntil(&builder, ends), answer});
  }
  auto grammar = builder.Finish(answer);
  if (!grammar.ok() && grammar.error().code() == Code::kBadInput)
    return Error(Code::kBadInput, "no call of these tools is possible",
                 "look for parameters that nothing fits");
  return grammar;
}

Result<std::shared_ptr<const Grammar>> CompileAnswer(const Json& schema,
                                                     const std::string& thinking_end,
                                                     const JsonStyle& style) {
  GrammarBuilder builder;
  LODE_ASSIGN(NodeId answer, JsonSchemaNode(&builder, schema, style));
  if (!thinking_end.empty()) {
    const std::vector<std::string> ends{thinking_end};
    answer = builder.Sequence({TextUntil(&builder, ends), Spaces(&builder, 8), answer});
  }
  auto grammar = builder.Finish(answer);
  if (!grammar.ok() && grammar.error().code() == Code::kBadInput)
    return Error(Code::kBadInput, "no value fits the schema");
  return grammar;
}

}  // namespace lode::text::grammar
