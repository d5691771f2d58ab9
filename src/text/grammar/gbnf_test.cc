#include "text/grammar/gbnf.h"

#include <gtest/gtest.h>

#include "text/grammar/compile.h"
#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

bool Accepts(const std::string& text, std::string_view input) {
  static const TokenTrie trie{std::span<const std::string_view>()};
  auto grammar = CompileGbnf(text);
  if (!grammar.ok()) {
    ADD_FAILURE() << grammar.error().ToString();
    return false;
  }
  Matcher matcher(*grammar, &trie);
  const MatchState state = matcher.StepAll(matcher.Start(), input);
  return state != kNoMatch && matcher.CanEnd(state);
}

std::string ErrorOf(const std::string& text) {
  auto grammar = CompileGbnf(text);
  return grammar.ok() ? "" : grammar.error().message();
}

TEST(Gbnf, RulesMayRecur) {
  const std::string json = R"(
# any JSON
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
)";
  EXPECT_TRUE(Accepts(json, "{\"a\": [1, 2.5, {\"b\":null}],\n \"c\":\"\\u00e4\xC3\xA4\"}"));
  EXPECT_FALSE(Accepts(json, "{\"a\": [1, 2.5}"));
  EXPECT_FALSE(Accepts(json, "[]"));
}

TEST(Gbnf, CountsOfWhatMayBeEmptyEnd) {
  EXPECT_TRUE(Accepts("root ::= (a* b?)* \"x\"\na ::= \"a\" root?\nb ::= \"b\"", "aaxbax"));
  EXPECT_TRUE(Accepts("root ::= (\"\")* \"x\"", "x"));
  EXPECT_TRUE(Accepts("root ::= (r?){3} \"x\"\nr ::= \"(\" root \")\"", "(x)(x)x"));
  EXPECT_FALSE(Accepts("root ::= (r?){3} \"x\"\nr ::= \"(\" root \")\"", "(x)(x)(x)(x)x"));
}

TEST(Gbnf, AmbiguityCostsItsAmbiguityOnce) {
  const std::string twice =
      "root ::= s\ns ::= \"a\" s \"b\" | \"a\" t \"b\" | \"x\"\nt ::= s | \"x\"";
  const std::string deep = std::string(400, 'a') + "x" + std::string(400, 'b');
  EXPECT_TRUE(Accepts(twice, deep));
  EXPECT_FALSE(Accepts(twice, deep + "b"));
}

TEST(Gbnf, MistakesAreNamedWithTheirLine) {
  EXPECT_NE(ErrorOf("root ::= a").find("a is not defined"), std::string::npos);
  EXPECT_NE(ErrorOf("x ::= \"a\"").find("root"), std::string::npos);
  EXPECT_NE(ErrorOf("root ::= \"a\n").find("line"), std::string::npos);
  EXPECT_NE(ErrorOf("root ::= (\"a\"").find(")"), std::string::npos);
  EXPECT_NE(ErrorOf("root ::= root \"a\" | \"b\"").find("left recursion"), std::string::npos);
  EXPECT_NE(ErrorOf("root ::= a? root \"b\" | \"c\"\na ::= \"a\"").find("left recursion"),
            std::string::npos);
  EXPECT_NE(ErrorOf("root ::= <think>").find("tokens"), std::string::npos);
  EXPECT_NE(ErrorOf("root ::= \"a\" root").find("no text"), std::string::npos);
}

}  // namespace
}  // namespace lode::text::grammar
