#include "text/grammar/elements.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

constexpr JsonStyle kStyle = {.space = JsonStyle::Space::kSpaced};

class Elements : public testing::Test {
 protected:
  Elements() {
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.push_back(std::string(1, static_cast<char>(byte)));
    const std::vector<std::string_view> views(bytes.begin(), bytes.end());
    trie_ = std::make_unique<TokenTrie>(views);
  }

  bool Accepts(std::string_view text) {
    const auto schema = ParseJson(
        R"({"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"},
            "unit":{"enum":["C","F"]},"tag":{"type":"string","pattern":"^[a-z]{2}$"},
            "opt":{"type":["object","null"]}},"required":["city","days"]})");
    GrammarBuilder builder;
    const auto arguments = ArgumentElements(&builder, *schema, ElementTags::Xml(), kStyle);
    EXPECT_TRUE(arguments.ok());
    const auto grammar = builder.Finish(*arguments);
    EXPECT_TRUE(grammar.ok());
    Matcher matcher(*grammar, trie_.get());
    const MatchState state = matcher.StepAll(matcher.Start(), text);
    return state != kNoMatch && matcher.CanEnd(state);
  }

  std::unique_ptr<TokenTrie> trie_;
};

constexpr const char* kNeeded =
    "<parameter=city>\nParis </parameter or </function> \n\n</parameter>\n"
    "<parameter=days>\n3\n</parameter>\n";

TEST_F(Elements, AreOfTheSchemaAndStringsAreFree) {
  const std::string needed = kNeeded;
  EXPECT_TRUE(Accepts(needed));
  EXPECT_FALSE(Accepts(""));
  EXPECT_FALSE(Accepts("<parameter=days>\n3\n</parameter>\n"));
  EXPECT_TRUE(Accepts(needed + "<parameter=unit>\nC\n</parameter>\n"));
  EXPECT_FALSE(Accepts(needed + "<parameter=unit>\nK\n</parameter>\n"));
  EXPECT_TRUE(Accepts(needed + "<parameter=tag>\nab\n</parameter>\n"));
  EXPECT_FALSE(Accepts(needed + "<parameter=tag>\nabc\n</parameter>\n"));
  EXPECT_TRUE(Accepts(needed + "<parameter=opt>\n{\"a\": 1}\n</parameter>\n"));
  EXPECT_FALSE(Accepts(needed + "<parameter=opt>\nyes\n</parameter>\n"));
  EXPECT_FALSE(Accepts(needed + "<parameter=more>\nx\n</parameter>\n"));
}

TEST_F(Elements, WhatCannotBeEnforcedIsNamedWithItsPath) {
  const auto schema = ParseJson(
      R"({"type":"object","properties":{"a":{"type":"array","uniqueItems":true}}})");
  GrammarBuilder builder;
  const auto arguments = ArgumentElements(&builder, *schema, ElementTags::Xml(), kStyle);
  ASSERT_FALSE(arguments.ok());
  EXPECT_NE(arguments.error().message().find("#/properties/a/uniqueItems"), std::string::npos);
}

}  // namespace
}  // namespace lode::text::grammar
