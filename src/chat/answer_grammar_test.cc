// What answers may be: by hand, and by random walks through the masks, whose texts the parser must
// read back whole.
#include "chat/answer_grammar.h"

#include <gtest/gtest.h>

#include <random>

#include "base/check.h"
#include "base/file.h"
#include "chat/answer_constraint.h"
#include "text/grammar/matcher.h"
#include "text/parsers/output_parser.h"
#include "text/parsers/tool_schemas_json.h"

namespace lode::chat {
namespace {

using text::OutputFormat;
using Calls = AnswerForm::Calls;

const Json& Tools() {
  static const Json tools = *ParseJson(R"([
    {"type": "function", "function": {"name": "read", "strict": true, "parameters": {
      "type": "object", "properties": {"path": {"type": "string"}, "from": {"type": "integer"}},
      "required": ["path"], "additionalProperties": false}}},
    {"type": "function", "function": {"name": "set", "strict": true, "parameters": {
      "type": "object", "$defs": {"Level": {"enum": ["low", "high"]}},
      "properties": {"level": {"$ref": "#/$defs/Level"}, "on": {"type": "boolean"},
                     "code": {"type": "string", "pattern": "^[A-Z]{2}$"}},
      "required": ["level", "on"], "additionalProperties": false}}}])");
  return tools;
}

const text::Tokenizer& DemoTokenizer() {
  static const std::unique_ptr<text::Tokenizer> tokenizer = [] {
    const auto json = ReadFile(std::string(LODE_SOURCE_DIR) + "/models/demo/tokenizer.json");
    LODE_CHECK(json.ok());
    auto made = text::Tokenizer::FromHuggingFace(*json);
    LODE_CHECK(made.ok());
    return std::move(*made);
  }();
  return *tokenizer;
}

AnswerForm Form(OutputFormat format, Calls calls) {
  AnswerForm form;
  form.format = format;
  form.calls = calls;
  form.tools = Tools();
  return form;
}

// Whole, or (a beginning) with nothing yet that is wrong.
bool Accepts(const AnswerForm& form, std::string_view text, bool whole = true) {
  const auto grammar = CompileAnswer(form);
  if (!grammar.ok() || *grammar == nullptr) {
    ADD_FAILURE() << (grammar.ok() ? "nothing is held" : grammar.error().ToString());
    return false;
  }
  std::vector<std::string> bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
  const std::vector<std::string_view> views(bytes.begin(), bytes.end());
  const text::grammar::TokenTrie trie(views);
  text::grammar::Matcher matcher(*grammar, &trie);
  const auto state = matcher.StepAll(matcher.Start(), text);
  return state != text::grammar::kNoMatch && (!whole || matcher.CanEnd(state));
}

constexpr char kXmlRead[] =
    "<tool_call>\n<function=read>\n<parameter=path>\na <b> c\n</parameter>\n</function>\n"
    "</tool_call>";

TEST(AnswerGrammar, RequiredIsACallInTheModelsOwnForm) {
  const AnswerForm xml = Form(OutputFormat::kXml, Calls::kRequired);
  EXPECT_TRUE(Accepts(xml, kXmlRead));
  EXPECT_TRUE(Accepts(xml, std::string(kXmlRead) + "\n" + kXmlRead + "\n"));
  EXPECT_FALSE(Accepts(xml, std::string("Well. ") + kXmlRead, false));
  EXPECT_FALSE(Accepts(xml, "<tool_call>\n<function=fly>", false));
  EXPECT_FALSE(Accepts(xml, "<tool_call>\n<function=read>\n</function>", false));
  EXPECT_FALSE(Accepts(xml, "<tool_call>\n<function=read>\n<parameter=other>", false));
  EXPECT_TRUE(Accepts(xml, "<tool_call>\n<function=set>\n<parameter=level>\nhigh\n</parameter>\n"
                           "<parameter=on>\ntrue\n</parameter>\n<parameter=code>\nAB\n"
                           "</parameter>\n</function>\n</tool_call>"));
  EXPECT_FALSE(Accepts(xml, "<tool_call>\n<function=set>\n<parameter=level>\nmiddle", false));
  EXPECT_FALSE(Accepts(xml, "<tool_call>\n<function=set>\n<parameter=level>\nlow\n</parameter>\n"
                            "<parameter=on>\n\"", false));
  EXPECT_TRUE(Accepts(Form(OutputFormat::kHermes, Calls::kRequired),
                      "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\", "
                      "\"from\": 3}}\n</tool_call>"));
  EXPECT_FALSE(Accepts(Form(OutputFormat::kHermes, Calls::kRequired),
                       "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"from\"", false));
  EXPECT_TRUE(Accepts(Form(OutputFormat::kToolList, Calls::kRequired),
                      "<TOOLCALL>[{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}, "
                      "{\"name\": \"read\", \"arguments\": {\"path\": \"b\"}}]</TOOLCALL>"));
  EXPECT_TRUE(Accepts(Form(OutputFormat::kBareJson, Calls::kRequired),
                      "{\"name\": \"read\", \"parameters\": {\"path\": \"a\"}}"));
}

TEST(AnswerGrammar, NamedIsThatCallAndOneOnly) {
  AnswerForm form = Form(OutputFormat::kXml, Calls::kNamed);
  form.named = "read";
  EXPECT_TRUE(Accepts(form, kXmlRead));
  EXPECT_FALSE(Accepts(form, std::string(kXmlRead) + "\n<tool_call>", false));
  EXPECT_FALSE(Accepts(form, "<tool_call>\n<function=set>", false));
  form.named = "fly";
  const auto none = CompileAnswer(form);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().ToString().find("fly"), std::string::npos);
}

TEST(AnswerGrammar, AutoIsTextAndThenCallsOneWhereSeveralAreNotWanted) {
  AnswerForm form = Form(OutputFormat::kXml, Calls::kAuto);
  EXPECT_TRUE(Accepts(form, "Just text, a < b, <tool_"));
  EXPECT_TRUE(Accepts(form, std::string("I will look.\n") + kXmlRead + "\n" + kXmlRead));
  EXPECT_FALSE(Accepts(form, "Text <tool_call> in prose", false));
  form.parallel = false;
  EXPECT_TRUE(Accepts(form, std::string("I will look.\n") + kXmlRead));
  EXPECT_FALSE(Accepts(form, std::string(kXmlRead) + "\n<tool_call>", false));
  AnswerForm loose = Form(OutputFormat::kXml, Calls::kAuto);
  loose.tools[0]["function"].erase("strict");
  loose.tools[1]["function"].erase("strict");
  EXPECT_EQ(*CompileAnswer(loose), nullptr);
}

TEST(AnswerGrammar, AFormatHoldsForTheAnswerAndNotForTheThinking) {
  AnswerForm form;
  form.thinking = true;
  form.response_format = *ParseJson(R"({"type": "json_schema", "json_schema": {"schema":
    {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
     "additionalProperties": false}}})");
  EXPECT_TRUE(Accepts(form, "Let me {think} \"freely\".\n</think>\n{\"n\": 4}"));
  EXPECT_FALSE(Accepts(form, "Let me think.\n</think>\n\n", false));  // it would be content
  EXPECT_FALSE(Accepts(form, "Let me think.\n</think>\nFour", false));
  EXPECT_FALSE(Accepts(form, "Let me think.</think>{\"n\": \"4\"", false));
  EXPECT_FALSE(Accepts(form, "No end of thinking"));
  form.thinking = false;
  EXPECT_TRUE(Accepts(form, "{\"n\":4}"));
  EXPECT_FALSE(Accepts(form, "\n", false));
  form.tools = Tools();
  EXPECT_TRUE(Accepts(form, kXmlRead));
  form.response_format = {{"type", "choice"}, {"choices", {"yes", "no"}}};
  EXPECT_TRUE(Accepts(form, "no"));
  EXPECT_FALSE(Accepts(form, "nope", false));
  form.response_format = {{"type", "yaml"}};
  EXPECT_FALSE(CompileAnswer(form).ok());
}

TEST(AnswerGrammar, ToolsThatMayNotBeCalledAreNot) {
  AnswerForm form = Form(OutputFormat::kXml, Calls::kAuto);
  form.tools = Json::array({Tools()[1]});
  form.tools[0]["function"].erase("strict");
  EXPECT_EQ(*CompileAnswer(form), nullptr);
  form.limited = true;
  EXPECT_FALSE(Accepts(form, kXmlRead, false));
  EXPECT_TRUE(Accepts(form, "Well.\n<tool_call>\n<function=set>\n</function>\n</tool_call>"));
  AnswerForm none = Form(OutputFormat::kHarmony, Calls::kNone);
  EXPECT_FALSE(Accepts(none, "<|channel|>commentary to=functions.read", false));
  EXPECT_FALSE(Accepts(none, " to=functions.read", false));
  EXPECT_TRUE(Accepts(none, "<|channel|>final<|message|>Hello"));
}

TEST(AnswerGrammar, PlainTextIsHeldToAGrammarOrAPatternAlone) {
  AnswerForm form;
  form.plain = true;
  EXPECT_EQ(*CompileAnswer(form), nullptr);
  form.response_format = {{"type", "grammar"}, {"grammar", "root ::= \"a\" [0-9]+ | \"b\""}};
  EXPECT_TRUE(Accepts(form, "a12"));
  EXPECT_TRUE(Accepts(form, "b"));
  EXPECT_FALSE(Accepts(form, "\n", false));
  EXPECT_FALSE(Accepts(form, "b1", false));
  form.response_format = {{"type", "grammar"}, {"grammar", "root ::= other"}};
  EXPECT_EQ(CompileAnswer(form).error().code(), Code::kBadInput);
  for (const char* bad : {"root ::= other", "root ::= (", "x ::= [a]"}) {
    for (const std::string path : {"grammar", "guided_grammar", "structured_outputs.grammar"}) {
      form.response_format = {{"type", "grammar"}, {"grammar", bad}, {"path", path}};
      const std::string message = CompileAnswer(form).error().message();
      EXPECT_TRUE(message.starts_with(path + ": ")) << message;
    }
  }
  form.response_format = {{"type", "regex"}, {"pattern", "[a-c]{2}"}};
  EXPECT_TRUE(Accepts(form, "ab"));
  EXPECT_FALSE(Accepts(form, "abc", false));
}

TEST(AnswerGrammar, StructuralTagsStandBetweenFreeTexts) {
  AnswerForm form;
  const auto hold = [&](const char* format) {
    form.response_format = {{"type", "structural_tag"}, {"format", *ParseJson(format)}};
  };
  hold(R"({"type": "triggered_tags", "triggers": ["<f"], "tags": [
    {"begin": "<fa>", "content": {"type": "json_schema", "json_schema": {"type": "integer"}},
     "end": "</f>"},
    {"begin": "<fb>", "content": {"type": "any_text"}, "end": "</f>"}]})");
  EXPECT_TRUE(Accepts(form, "no tags, <g"));
  EXPECT_TRUE(Accepts(form, "first <fa>12</f> then <fb>x <y</f>."));
  EXPECT_FALSE(Accepts(form, "<fc", false));
  EXPECT_FALSE(Accepts(form, "<fa>x", false));
  EXPECT_FALSE(Accepts(form, "<fb>never closed"));
  hold(R"({"type": "sequence", "elements": [{"type": "const_string", "value": "a"},
    {"type": "or", "elements": [{"type": "regex", "pattern": "[0-9]"},
                                {"type": "grammar", "grammar": "root ::= \"x\""}]}]})");
  EXPECT_TRUE(Accepts(form, "a7"));
  EXPECT_TRUE(Accepts(form, "ax"));
  EXPECT_FALSE(Accepts(form, "ab", false));
  hold(R"({"type": "tags_with_separator", "separator": ",", "at_least_one": true, "tags": [
    {"type": "tag", "begin": "[", "content": {"type": "any_text"}, "end": "]"}]})");
  EXPECT_TRUE(Accepts(form, "[a],[b]"));
  EXPECT_FALSE(Accepts(form, ""));
  form.response_format = *ParseJson(R"({"type": "structural_tag", "triggers": ["<f="],
    "structures": [{"begin": "<f=a>", "schema": {"type": "boolean"}, "end": "</f>"}]})");
  EXPECT_TRUE(Accepts(form, "so <f=a>true</f>"));
  EXPECT_FALSE(Accepts(form, "so <f=a>1", false));
  for (const char* bad : {R"({"type": "tag", "begin": "a"})", R"({"type": "other"})",
                          R"({"type": "or", "elements": []})",
                          R"({"type": "triggered_tags", "triggers": ["x"], "tags": [
                            {"begin": "y", "content": {"type": "any_text"}, "end": ""}]})"}) {
    hold(bad);
    const auto grammar = CompileAnswer(form);
    ASSERT_FALSE(grammar.ok()) << bad;
    EXPECT_NE(grammar.error().message().find("response_format.format"), std::string::npos);
  }
}

TEST(AnswerGrammar, WithChannelsTheThoughtsComeFirst) {
  const AnswerForm form = Form(OutputFormat::kHarmony, Calls::kRequired);
  const std::string thought =
      "<|channel|>analysis<|message|>Which {file}?<|end|><|start|>assistant";
  EXPECT_TRUE(Accepts(form, thought + "<|channel|>commentary to=functions.read <|constrain|>json"
                                      "<|message|>{\"path\": \"a\"}"));
  EXPECT_FALSE(Accepts(form, thought + "<|channel|>final", false));
  AnswerForm json;
  json.format = OutputFormat::kHarmony;
  json.response_format = {{"type", "json_object"}};
  EXPECT_TRUE(Accepts(json, thought + "<|channel|>final<|message|>{\"a\": [1]}"));
  EXPECT_FALSE(Accepts(json, "<|channel|>final<|message|>x", false));
}

// A random text that the masks allow; false when it was given up before its end.
bool Walk(runtime::Constraint* constraint, int32_t stop, std::mt19937* random, std::string* text) {
  const text::Tokenizer& tokenizer = DemoTokenizer();
  runtime::TokenMask mask(1024);
  runtime::ConstraintState state = constraint->Start();
  std::vector<int32_t> ids;
  bool ended = false;
  for (int step = 0; step < 300 && !ended; ++step) {
    constraint->Mask(state, &mask);
    std::vector<int32_t> allowed, closing;
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (!mask.allowed(id) || id == stop) continue;
      allowed.push_back(id);
      const std::string_view bytes = tokenizer.TokenBytes(id);
      if (bytes.find_first_of("\"}]<\n/>") != std::string_view::npos) closing.push_back(id);
    }
    int32_t token = stop;
    if (!mask.allowed(stop) || (*random)() % 3 != 0) {
      const auto& list = !closing.empty() && (*random)() % 2 == 0 ? closing : allowed;
      if (!list.empty()) token = list[(*random)() % list.size()];
    }
    EXPECT_TRUE(mask.allowed(token));
    const auto next = constraint->Advance(state, token);
    if (!next.ok()) {
      ADD_FAILURE() << next.error().ToString();
      return false;
    }
    state = *next;
    ended = token == stop;
    if (!ended) ids.push_back(token);
  }
  *text = *tokenizer.Decode(ids);
  return ended;
}

TEST(AnswerConstraint, WhateverItAllowsTheParserReadsBack) {
  const int32_t stop = DemoTokenizer().stop_ids().front();
  AnswerForms forms(&DemoTokenizer(), 1024, {stop});
  std::mt19937 random(3);
  int whole = 0;
  for (const OutputFormat format :
       {OutputFormat::kXml, OutputFormat::kHermes, OutputFormat::kToolList, OutputFormat::kBareJson,
        OutputFormat::kHarmony}) {
    for (int round = 0; round < 40; ++round) {
      AnswerForm form = Form(format, round % 2 == 0 ? Calls::kRequired : Calls::kAuto);
      form.thinking = format == OutputFormat::kXml && round % 3 == 0;
      form.parallel = round % 5 != 0;
      const auto constraint = forms.Make(form);
      ASSERT_TRUE(constraint.ok()) << constraint.error().ToString();
      std::string text;
      const bool ended = Walk(constraint->get(), stop, &random, &text);
      text::OutputParserOptions options;
      options.format = format;
      options.thinking = form.thinking;
      options.tools = std::make_shared<text::ToolSchemas>(text::ToolSchemasFromJson(Tools()));
      text::FinishReason reason;
      const text::ParsedOutput output = text::ParseOutput(
          text, options, ended ? text::StopCause::kStop : text::StopCause::kLength, &reason);
      for (const text::ParsedCall& call : output.calls) {
        const auto arguments = ParseJson(call.arguments);
        ASSERT_TRUE(arguments.ok() && arguments->is_object()) << text;
        ASSERT_TRUE(call.name == "read" || call.name == "set") << text;
        EXPECT_TRUE(call.complete || !ended) << text;
        if (!call.complete) continue;
        EXPECT_TRUE(call.name != "read" || FindKey(*arguments, "path")->is_string()) << text;
        EXPECT_TRUE(call.name != "set" || FindKey(*arguments, "on")->is_boolean()) << text;
      }
      if (!ended) continue;
      ++whole;
      if (form.calls == Calls::kRequired) {
        EXPECT_FALSE(output.calls.empty()) << text;
        EXPECT_TRUE(output.content.find_first_not_of('\n') == std::string::npos) << text;
        EXPECT_EQ(reason, text::FinishReason::kToolCalls) << text;
      }
      if (!form.parallel) {
        EXPECT_LE(output.calls.size(), 1u) << text;
      }
    }
  }
  EXPECT_GE(whole, 60);
}

// Tokens of `text`, as single bytes where it has no other.
std::vector<int32_t> Encode(const std::string& text) { return *DemoTokenizer().Encode(text); }

TEST(AnswerConstraint, TheBudgetClosesTheTraceAndNothingElse) {
  const int32_t stop = DemoTokenizer().stop_ids().front();
  AnswerForms forms(&DemoTokenizer(), 1024, {stop});
  AnswerForm form;
  form.thinking = true;
  form.response_format = {{"type", "json_object"}};
  const auto constraint = forms.Make(form, {.thinking_tokens_max = 3, .thinking_end = "Enough."});
  ASSERT_TRUE(constraint.ok());
  runtime::ConstraintState state = (*constraint)->Start();
  runtime::TokenMask mask(1024);
  const auto feed = [&](int32_t token) {
    (*constraint)->Mask(state, &mask);
    EXPECT_TRUE(mask.allowed(token)) << DemoTokenizer().TokenBytes(token);
    const auto next = (*constraint)->Advance(state, token);
    ASSERT_TRUE(next.ok()) << next.error().ToString();
    state = *next;
  };
  const std::vector<int32_t> thought = Encode("a b c d e");
  for (int i = 0; i < 3; ++i) feed(thought[static_cast<size_t>(i)]);
  for (const int32_t token : Encode("Enough.\n</think>")) {
    (*constraint)->Mask(state, &mask);
    EXPECT_EQ(mask.only(), token);
    EXPECT_FALSE((*constraint)->Advance(state, token + 1).ok());
    feed(token);
  }
  for (const int32_t token : Encode("{}")) feed(token);
  feed(stop);
  (*constraint)->Mask(state, &mask);
  EXPECT_EQ(mask.only(), stop);
}

TEST(AnswerConstraint, ABudgetWaitsForTheEndOfACharacterAndCountsNoAnswer) {
  const int32_t stop = DemoTokenizer().stop_ids().front();
  AnswerForms forms(&DemoTokenizer(), 1024, {stop});
  AnswerForm form;
  form.thinking = true;
  const auto constraint = forms.Make(form, {.thinking_tokens_max = 2, .thinking_end = ""});
  ASSERT_TRUE(constraint.ok());
  const auto byte = [&](char c) {
    for (int32_t id = 0; id < 1024; ++id) {
      if (DemoTokenizer().TokenBytes(id) == std::string_view(&c, 1)) return id;
    }
    return -1;
  };
  runtime::TokenMask mask(1024);
  runtime::ConstraintState state = (*constraint)->Start();
  for (const char c : std::string("x\xF0\x9F\x98\x80")) {
    (*constraint)->Mask(state, &mask);
    ASSERT_TRUE(mask.allowed(byte(c)));
    state = *(*constraint)->Advance(state, byte(c));
  }
  for (const int32_t token : Encode("\n</think>")) {
    (*constraint)->Mask(state, &mask);
    ASSERT_EQ(mask.only(), token);
    state = *(*constraint)->Advance(state, token);
  }
  for (int i = 0; i < 20; ++i) {
    (*constraint)->Mask(state, &mask);
    ASSERT_TRUE(mask.allowed(byte('y')));
    state = *(*constraint)->Advance(state, byte('y'));
  }
}

// A tokenizer of letters and of the words that channels are made of.
std::unique_ptr<text::Tokenizer> ChannelTokenizer(const std::vector<std::string>& words) {
  Json vocabulary = Json::object(), added = Json::array();
  for (char c = 'a'; c <= 'z'; ++c) vocabulary[std::string(1, c)] = c - 'a';
  for (const std::string& word : words) {
    added.push_back({{"id", 26 + added.size()}, {"content", word}, {"special", true},
                     {"single_word", false}, {"lstrip", false}, {"rstrip", false},
                     {"normalized", false}});
  }
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false},
                      {"trim_offsets", false}, {"use_regex", false}};
  auto made = text::Tokenizer::FromHuggingFace(DumpJson(
      {{"added_tokens", added}, {"pre_tokenizer", bytes}, {"decoder", {{"type", "ByteLevel"}}},
       {"model", {{"type", "BPE"}, {"merges", Json::array()}, {"vocab", vocabulary}}}}));
  LODE_CHECK(made.ok());
  return std::move(*made);
}

TEST(AnswerConstraint, ABudgetIsForAllMessagesOfThoughts) {
  const auto tokenizer = ChannelTokenizer({"<|start|>", "<|end|>", "<|message|>", "<|channel|>",
                                           "assistant", "analysis", "commentary", "final",
                                           "<|return|>"});
  const auto id = [&](std::string_view word) { return *tokenizer->TokenToId(word); };
  AnswerForms forms(tokenizer.get(), 35, {id("<|return|>")});
  AnswerForm form;
  form.format = OutputFormat::kHarmony;
  const auto constraint = forms.Make(form, {.thinking_tokens_max = 5, .thinking_end = ""});
  ASSERT_TRUE(constraint.ok()) << constraint.error().ToString();
  runtime::TokenMask mask(35);
  runtime::ConstraintState state = (*constraint)->Start();
  const auto feed = [&](std::initializer_list<const char*> words) {
    for (const char* word : words) {
      (*constraint)->Mask(state, &mask);
      EXPECT_TRUE(mask.allowed(id(word))) << word;
      const auto next = (*constraint)->Advance(state, id(word));
      ASSERT_TRUE(next.ok()) << word;
      state = *next;
    }
  };
  feed({"<|channel|>", "analysis", "<|message|>", "a", "b", "<|end|>"});
  feed({"<|start|>", "assistant", "<|channel|>", "analysis", "<|message|>", "c", "d"});
  (*constraint)->Mask(state, &mask);
  EXPECT_EQ(mask.only(), id("<|end|>"));
  feed({"<|end|>", "<|start|>", "assistant", "<|channel|>"});
  (*constraint)->Mask(state, &mask);
  EXPECT_FALSE(mask.allowed(id("analysis")));
  EXPECT_FALSE((*constraint)->Advance(state, id("analysis")).ok());
  feed({"final", "<|message|>", "a", "b", "c", "d", "e", "f", "g", "<|return|>"});
}

TEST(AnswerConstraint, TheNextAnswerOfTheSameFormKnowsWhatTheLastOneLearnt) {
  IdleMatchers idle;
  AnswerForm form;
  form.response_format = {{"type", "json_object"}};
  const auto grammar = *CompileAnswer(form);
  const std::vector<std::string_view> tokens = {"{", "}", "\"", "a", ":", "1"};
  const text::grammar::TokenTrie trie(tokens);
  auto first = std::make_unique<text::grammar::Matcher>(grammar, &trie);
  const text::grammar::Matcher* address = first.get();
  const auto open = first->Step(first->Start(), '{');
  const size_t known = first->bytes();
  idle.GiveBack(std::move(first));
  EXPECT_EQ(idle.Take(CompileAnswer(form)->get()), nullptr);  // equal, but another one
  auto again = idle.Take(grammar.get());
  ASSERT_EQ(again.get(), address);
  EXPECT_EQ(idle.Take(grammar.get()), nullptr);  // one answer at a time
  EXPECT_EQ(again->Step(again->Start(), '{'), open);
  EXPECT_EQ(again->bytes(), known);
}

TEST(AnswerConstraint, NothingWantedIsNothingHeldAndCallsThatAreNotAreBanned) {
  AnswerForms forms(&DemoTokenizer(), 1024, DemoTokenizer().stop_ids());
  AnswerForm form;
  EXPECT_EQ(*forms.Make(form), nullptr);
  const auto call = DemoTokenizer().TokenToId("<tool_call>");
  if (!call.has_value()) GTEST_SKIP() << "the demo model has no token that opens a call";
  form.calls = Calls::kNone;
  const auto constraint = forms.Make(form);
  ASSERT_TRUE(constraint.ok() && *constraint != nullptr);
  runtime::TokenMask mask(1024);
  (*constraint)->Mask((*constraint)->Start(), &mask);
  EXPECT_FALSE(mask.allowed(*call));
  EXPECT_EQ(mask.count(), 1023);
}

}  // namespace
}  // namespace lode::chat
