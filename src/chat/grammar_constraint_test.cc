#include "chat/grammar_constraint.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "text/grammar/compile.h"

namespace lode::chat {
namespace {

TEST(GrammarConstraint, LetsThroughWhatFitsAndEndsOnlyWhereItMay) {
  const std::string folder = std::string(LODE_SOURCE_DIR) + "/models/demo/";
  const auto json = ReadFile(folder + "tokenizer.json");
  ASSERT_TRUE(json.ok());
  const auto tokenizer = text::Tokenizer::FromHuggingFace(*json);
  ASSERT_TRUE(tokenizer.ok());
  const int64_t rows = (*tokenizer)->vocab_size() + 7;  // a model pads its rows
  const auto trie = MakeTokenTrie(**tokenizer, rows);
  const auto schema = ParseJson(
      R"({"type":"object","properties":{"name":{"type":"string","maxLength":9},
          "age":{"type":"integer","minimum":0}},"required":["name","age"],
          "additionalProperties":false})");
  ASSERT_TRUE(schema.ok());
  const auto grammar = text::grammar::CompileJsonSchema(*schema);
  ASSERT_TRUE(grammar.ok());
  const int32_t stop = (*tokenizer)->stop_ids().at(0);
  GrammarConstraint constraint(*grammar, trie, {stop});
  runtime::TokenMask mask(rows);
  const std::string text = R"({"name":"Ada","age":36})";
  const auto ids = (*tokenizer)->Encode(text);
  ASSERT_TRUE(ids.ok());
  runtime::ConstraintState state = constraint.Start();
  for (const int32_t id : *ids) {
    constraint.Mask(state, &mask);
    EXPECT_TRUE(mask.allowed(id)) << (*tokenizer)->TokenText(id);
    EXPECT_FALSE(mask.allowed(stop));
    EXPECT_FALSE(constraint.Advance(state, stop).ok());
    const auto next = constraint.Advance(state, id);
    ASSERT_TRUE(next.ok());
    state = *next;
  }
  constraint.Mask(state, &mask);
  EXPECT_EQ(mask.only(), stop);
  const auto ended = constraint.Advance(state, stop);
  ASSERT_TRUE(ended.ok());
  constraint.Mask(*ended, &mask);
  EXPECT_EQ(mask.only(), stop);
  EXPECT_FALSE(constraint.Advance(*ended, ids->at(0)).ok());
  EXPECT_EQ(constraint.Forced(constraint.Start()), "{\"name\":\"");
}

}  // namespace
}  // namespace lode::chat
