// The golden cases of the parsers through every dialect, whole and streamed, cut at every byte: the
// same answer everywhere.
#include <gtest/gtest.h>

#include "base/utf8.h"
#include "chat/fake_answers.h"
#include "serve/anthropic/message_writer.h"
#include "serve/openai/chat_writer.h"
#include "serve/openai/completion_writer.h"
#include "serve/responses/response_writer.h"
#include "tests/support/parser_cases.h"
#include "tests/support/wire_reader.h"

namespace lode::serve {
namespace {

using lode::testing::ParserCase;
using lode::testing::ReadAnswer;

struct Played {
  std::vector<chat::AnswerEvent> events;
  chat::Usage usage;
};

Played Play(const std::vector<int32_t>& tokens, const text::Tokenizer& tokenizer,
            const ParserCase& one, bool parse) {
  chat::FakeBackend backend;
  backend.tokens = tokens;
  backend.stop = one.cause == text::StopCause::kLength      ? runtime::StopReason::kLength
                 : one.cause == text::StopCause::kCancelled ? runtime::StopReason::kCancelled
                                                            : runtime::StopReason::kStopToken;
  chat::AnswerOptions options;
  options.parse = parse;
  options.parsing = one.parsing;
  chat::Answer answer(&backend, &tokenizer, options, nullptr);
  answer.Submit(0, {});
  Played played;
  while (answer.Poll(&played.events, 7)) {
  }
  EXPECT_TRUE(answer.done());
  played.usage = answer.usage();
  return played;
}

std::string Write(const Played& played, AnswerWriter* writer) {
  std::string out;
  for (const chat::AnswerEvent& event : played.events) {
    if (event.kind != chat::AnswerEvent::Kind::kQueued) writer->Add(event, played.usage, &out);
  }
  writer->End(played.usage, &out);
  return out;
}

constexpr int kWays = 6;  // Chat Completions, Messages and Responses, streamed and whole

ReadAnswer Say(int way, const Played& played, const text::Tokenizer& tokenizer) {
  ResponseHead head = {.id = "resp_1", .model = "m"};
  if (way == 0) {
    ChatChunks writer({"id", "m", 0}, {}, true, false, &tokenizer);
    return lode::testing::ReadChatStream(Write(played, &writer));
  }
  if (way == 1) {
    MessageEvents writer({"id", "m"});
    return lode::testing::ReadMessageStream(Write(played, &writer));
  }
  if (way == 2) {
    head.stream = true;
    ResponseWriter writer(head, &tokenizer);
    return lode::testing::ReadResponseStream(Write(played, &writer));
  }
  if (way == 3) {
    ChatWhole writer({"id", "m", 0}, 1, true, false, &tokenizer);
    return lode::testing::ReadChatWhole(Write(played, &writer));
  }
  if (way == 4) {
    MessageWhole writer({"id", "m"});
    return lode::testing::ReadMessageWhole(Write(played, &writer));
  }
  ResponseWriter writer(head, &tokenizer);
  return lode::testing::ReadResponseWhole(Write(played, &writer));
}

// What `way` says, as one text. Messages has no word for what was cancelled.
std::string Outcome(int way, const ParserCase& one, const Played& played,
                    const text::Tokenizer& tokenizer) {
  ReadAnswer answer = Say(way, played, tokenizer);
  if (one.cause == text::StopCause::kCancelled) answer.finish = "cancelled";
  return answer.Text();
}

std::string PlainText(const Played& played, const text::Tokenizer& tokenizer,
                      const std::string& where) {
  CompletionShape shape;
  shape.head = {"id", "m", 0};
  CompletionChunks chunks(shape, {}, &tokenizer);
  const std::string text = lode::testing::ReadCompletionStream(Write(played, &chunks));
  CompletionWhole whole(shape, &tokenizer);
  const auto json = ParseJson(Write(played, &whole));
  EXPECT_TRUE(json.ok());
  if (json.ok()) {
    EXPECT_EQ((*json)["choices"][0]["text"], text) << where;
  }
  return text;
}

// `expected` names only what it cares about.
void ExpectGolden(const ParserCase& one, const std::string& outcome) {
  const auto json = ParseJson(outcome);
  ASSERT_TRUE(json.ok());
  for (const char* key : {"reasoning", "content"}) {
    EXPECT_EQ(GetString(*json, key), GetString(one.expected, key)) << one.place;
  }
  EXPECT_EQ(GetString(*json, "finish"), GetString(one.expected, "finish", "stop")) << one.place;
  const Json* calls = FindKey(one.expected, "calls");
  const size_t count = calls == nullptr ? 0 : calls->size();
  ASSERT_EQ((*json)["calls"].size(), count) << one.place << outcome;
  for (size_t i = 0; i < count; ++i) {
    EXPECT_EQ((*json)["calls"][i]["name"], (*calls)[i]["name"]) << one.place;
    if (!(*calls)[i].contains("arguments")) continue;
    EXPECT_EQ((*json)["calls"][i]["arguments"], (*calls)[i]["arguments"]) << one.place;
  }
}

TEST(Dialects, SayTheSameOfEveryGoldenCaseCutAtEveryByte) {
  const auto tokenizer = chat::DemoTokenizer(LODE_SOURCE_DIR);
  int cases = 0, cuts = 0;
  for (const ParserCase& one : lode::testing::ReadParserCases()) {
    ++cases;
    std::string whole;
    for (size_t cut = 0; cut <= one.input.size(); ++cut, ++cuts) {
      const auto tokens = chat::EncodeCut(*tokenizer, one.input, cut);
      const Played played = Play(tokens, *tokenizer, one, true);
      if (cut == 0) {
        whole = Outcome(0, one, played, *tokenizer);
        ExpectGolden(one, whole);
      }
      // Whole and short texts in every way, the cuts of others in turn.
      const bool all = cut == 0 || one.input.size() <= 60;
      for (int way = 0; way < kWays; ++way) {
        if (!all && way != static_cast<int>(cut + static_cast<size_t>(cases)) % kWays) continue;
        EXPECT_EQ(Outcome(way, one, played, *tokenizer), whole)
            << one.place << " cut at " << cut << ", way " << way;
      }
      if (::testing::Test::HasFailure()) return;
    }
    const auto tokens = chat::EncodeCut(*tokenizer, one.input, one.input.size() / 2);
    EXPECT_EQ(PlainText(Play(tokens, *tokenizer, one, false), *tokenizer, one.place),
              ReplaceInvalidUtf8(one.input))
        << one.place;
  }
  EXPECT_GE(cases, 110);
  EXPECT_GT(cuts, 10'000);
}

TEST(Dialects, AValueOf200KilobytesArrivesWhole) {
  const auto tokenizer = chat::DemoTokenizer(LODE_SOURCE_DIR);
  std::string value;
  while (value.size() < 200'000) value += "line with \"quotes\", <tags> & \\ signs\n";
  value += "end";
  ParserCase one;
  one.place = "200 KB";
  one.parsing.thinking = false;
  one.parsing.tools = std::make_shared<text::ToolSchemas>(text::ToolSchemasFromJson(Json::array(
      {{{"type", "function"},
        {"function",
         {{"name", "write"},
          {"parameters",
           {{"type", "object"}, {"properties", {{"text", {{"type", "string"}}}}}}}}}}})));
  one.input = "<tool_call>\n<function=write>\n<parameter=text>\n" + value +
              "\n</parameter>\n</function>\n</tool_call>";
  const auto tokens = tokenizer->Encode(one.input);
  ASSERT_TRUE(tokens.ok());
  const Played played = Play(*tokens, *tokenizer, one, true);
  for (int way = 0; way < kWays; ++way) {
    const auto json = ParseJson(Outcome(way, one, played, *tokenizer));
    ASSERT_TRUE(json.ok());
    ASSERT_EQ((*json)["calls"].size(), 1u);
    EXPECT_TRUE((*json)["calls"][0]["arguments"]["text"] == value) << way;
  }
}

}  // namespace
}  // namespace lode::serve
