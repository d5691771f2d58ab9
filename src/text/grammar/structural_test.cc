// Answers of models that may call tools: thinking, free text, calls, in each form.
#include "text/grammar/structural.h"

#include <gtest/gtest.h>

#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

class Structural : public testing::Test {
 protected:
  Structural() {
    for (int byte = 0; byte < 256; ++byte)
      bytes_.push_back(std::string(1, static_cast<char>(byte)));
    views_.assign(bytes_.begin(), bytes_.end());
    trie_ = std::make_unique<TokenTrie>(views_);
    auto weather = ParseJson(
        R"({"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"},
            "unit":{"enum":["C","F"]},"tag":{"type":"string","pattern":"^[a-z]{2}$"},
            "opt":{"type":["object","null"]}},"required":["city","days"]})");
    tools_.push_back({"weather", *weather});
    tools_.push_back({"now", nullptr});
  }

  bool Accepts(const Result<std::shared_ptr<const Grammar>>& grammar, std::string_view text) {
    if (!grammar.ok()) {
      ADD_FAILURE() << grammar.error().ToString();
      return false;
    }
    Matcher matcher(*grammar, trie_.get());
    const MatchState state = matcher.StepAll(matcher.Start(), text);
    return state != kNoMatch && matcher.CanEnd(state);
  }
  bool AcceptsCall(const ToolCallForm& form, const ToolCallRules& rules, std::string_view text) {
    return Accepts(CompileToolCalls(tools_, form, rules), text);
  }

  std::vector<std::string> bytes_;
  std::vector<std::string_view> views_;
  std::unique_ptr<TokenTrie> trie_;
  std::vector<ToolForGrammar> tools_;
};

constexpr const char* kCall =
    "<tool_call>\n<function=weather>\n<parameter=city>\nParis </parameter or </function> \n\n"
    "</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>";

TEST_F(Structural, CallsInXmlAreOfTheSchemaAndTextIsFree) {
  const ToolCallForm xml = ToolCallForm::Xml();
  EXPECT_TRUE(AcceptsCall(xml, {}, "no call at all, a < b, <tool_"));
  EXPECT_TRUE(AcceptsCall(xml, {}, kCall));
  EXPECT_TRUE(AcceptsCall(xml, {}, std::string("Let me see.\n") + kCall));
  EXPECT_TRUE(AcceptsCall(xml, {}, std::string(kCall) + "\n" + kCall + "\n"));
  EXPECT_TRUE(AcceptsCall(
      xml, {}, "<tool_call>\n<function=now>\n</function>\n</tool_call>"));
  EXPECT_FALSE(AcceptsCall(xml, {}, "<tool_call>\n<function=unknown>\n</function>\n</tool_call>"));
  EXPECT_FALSE(AcceptsCall(xml, {}, "<tool_call>\n<function=weather>\n</function>\n</tool_call>"));
  const auto with = [](const std::string& more) {
    return "<tool_call>\n<function=weather>\n<parameter=city>\nx\n</parameter>\n<parameter=days>\n"
           "1\n</parameter>\n" + more + "</function>\n</tool_call>";
  };
  EXPECT_TRUE(AcceptsCall(xml, {}, with("<parameter=unit>\nC\n</parameter>\n")));
  EXPECT_FALSE(AcceptsCall(xml, {}, with("<parameter=unit>\nK\n</parameter>\n")));
  EXPECT_TRUE(AcceptsCall(xml, {}, with("<parameter=tag>\nab\n</parameter>\n")));
  EXPECT_FALSE(AcceptsCall(xml, {}, with("<parameter=tag>\nabc\n</parameter>\n")));
  EXPECT_TRUE(AcceptsCall(xml, {}, with("<parameter=opt>\n{\"a\": 1}\n</parameter>\n")));
  EXPECT_FALSE(AcceptsCall(xml, {}, with("<parameter=opt>\nyes\n</parameter>\n")));
  EXPECT_FALSE(AcceptsCall(xml, {}, with("<parameter=more>\nx\n</parameter>\n")));
}

TEST_F(Structural, ChoicesOfToolsAreKept) {
  const ToolCallForm xml = ToolCallForm::Xml();
  const ToolCallRules required{.choice = ToolCallRules::Choice::kRequired, .thinking_end = ""};
  EXPECT_TRUE(AcceptsCall(xml, required, kCall));
  EXPECT_FALSE(AcceptsCall(xml, required, "text"));
  EXPECT_FALSE(AcceptsCall(xml, required, std::string("text") + kCall));
  const ToolCallRules once{.parallel = false, .thinking_end = ""};
  EXPECT_TRUE(AcceptsCall(xml, once, kCall));
  EXPECT_FALSE(AcceptsCall(xml, once, std::string(kCall) + "\n" + kCall));
  const ToolCallRules none{.choice = ToolCallRules::Choice::kNone, .thinking_end = ""};
  EXPECT_TRUE(AcceptsCall(xml, none, "only text"));
  EXPECT_FALSE(AcceptsCall(xml, none, kCall));
  const ToolCallRules thinking{.choice = ToolCallRules::Choice::kRequired,
                               .thinking_end = "</think>"};
  EXPECT_TRUE(AcceptsCall(xml, thinking, std::string("hm <tool_call> hm</think>\n") + kCall));
  EXPECT_FALSE(AcceptsCall(xml, thinking, kCall));
}

TEST_F(Structural, CallsInJsonAreOfTheSchemaInEachForm) {
  const std::string arguments = R"({"city": "x", "days": 1})";
  EXPECT_TRUE(AcceptsCall(ToolCallForm::TaggedJson(), {},
                          "Yes.<tool_call>\n{\"name\": \"weather\", \"arguments\": " + arguments +
                              "}\n</tool_call>"));
  EXPECT_FALSE(AcceptsCall(ToolCallForm::TaggedJson(), {},
                           "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n"
                           "</tool_call>"));
  EXPECT_TRUE(AcceptsCall(ToolCallForm::PlainJson(), {},
                          "{\"name\": \"weather\", \"parameters\": " + arguments + "}"));
  EXPECT_TRUE(AcceptsCall(
      ToolCallForm::Channels(), {},
      "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>" + arguments +
          "<|call|>"));
}

TEST_F(Structural, AnAnswerOfASchemaComesAfterThinking) {
  const auto schema = ParseJson(R"({"type":"array","items":{"type":"integer"}})");
  const auto grammar = CompileAnswer(*schema, "</think>");
  EXPECT_TRUE(Accepts(grammar, "any [\"text\"] \xFF </think>\n\n[1,2]"));
  EXPECT_FALSE(Accepts(grammar, "[1,2]"));
  EXPECT_FALSE(Accepts(grammar, "</think>no"));
}

TEST_F(Structural, AToolWhoseSchemaCannotBeEnforcedIsNamed) {
  tools_[0].parameters = *ParseJson(
      R"({"type":"object","properties":{"a":{"type":"array","uniqueItems":true}}})");
  const auto grammar = CompileToolCalls(tools_, ToolCallForm::Xml(), {});
  ASSERT_FALSE(grammar.ok());
  EXPECT_NE(grammar.error().message().find("weather"), std::string::npos);
  EXPECT_NE(grammar.error().message().find("#/properties/a/uniqueItems"), std::string::npos);
}

}  // namespace
}  // namespace lode::text::grammar
