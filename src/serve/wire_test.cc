// Scripted tool calls, cut at every byte, through the dialects' streams.
#include <gtest/gtest.h>

#include <random>

#include "chat/fake_answers.h"
#include "serve/anthropic/message_writer.h"
#include "serve/dialogue.h"
#include "serve/openai/chat_writer.h"
#include "serve/responses/response_writer.h"
#include "tests/support/wire_reader.h"
#include "text/parsers/tool_schemas_json.h"

namespace lode::serve {
namespace {

struct Call {
  std::string name;
  Json arguments;
};

struct Sample {
  std::string text;
  std::string content;
  std::vector<Call> calls;
};

// What clients have lost before: quotes, escapes, tags, other scripts, code, numbers.
const std::vector<std::string>& Values() {
  static const std::vector<std::string> values = {
      "Paris",
      "Köln ☂ 東京 🙂",
      "say \"hi\" and \\n, not a newline",
      "two\nlines\n  indented\ttab",
      "if a < b: return x</b>",
      "null",
      "42",
      "a </parameter inside, </func too",
      "{\"json\": [1, 2, {\"x\": \"y\"}]}",
      "",
      "ends with a backslash \\",
      "<tool_",
  };
  return values;
}

Sample MakeSample(std::mt19937* random) {
  const auto pick = [&](size_t count) { return (*random)() % count; };
  Sample sample;
  if (pick(2) == 0) sample.content = "Let me look.\n";
  sample.text = sample.content;
  const size_t calls = 1 + pick(2);
  for (size_t i = 0; i < calls; ++i) {
    Call call{pick(2) == 0 ? "read" : "search_files", Json::object()};
    sample.text += "<tool_call>\n<function=" + call.name + ">\n";
    const std::string value = Values()[pick(Values().size())];
    const auto count = static_cast<int>(pick(1000)) - 500;
    sample.text += "<parameter=path>\n" + value + "\n</parameter>\n";
    call.arguments["path"] = value;
    if (pick(2) == 0) {
      sample.text += "<parameter=count>\n" + std::to_string(count) + "\n</parameter>\n";
      call.arguments["count"] = count;
    }
    sample.text += "</function>\n</tool_call>\n";
    sample.calls.push_back(std::move(call));
  }
  return sample;
}

Json Tools() {
  const Json schema = {
      {"type", "object"},
      {"properties", {{"path", {{"type", "string"}}}, {"count", {{"type", "integer"}}}}}};
  Json tools = Json::array();
  for (const char* name : {"read", "search_files"}) {
    tools.push_back({{"type", "function"}, {"function", {{"name", name}, {"parameters", schema}}}});
  }
  return tools;
}

std::string Stream(const std::vector<int32_t>& tokens, const text::Tokenizer& tokenizer,
                   std::shared_ptr<const text::ToolSchemas> schemas, AnswerWriter* writer) {
  chat::FakeBackend backend;
  backend.tokens = tokens;
  chat::AnswerOptions options;
  options.parsing.thinking = false;
  options.parsing.tools = std::move(schemas);
  chat::Answer answer(&backend, &tokenizer, options, nullptr);
  answer.Submit(0, {});
  std::vector<chat::AnswerEvent> events;
  std::string out;
  while (answer.Poll(&events, 7)) {
  }
  EXPECT_TRUE(answer.done());
  for (const chat::AnswerEvent& event : events) writer->Add(event, answer.usage(), &out);
  writer->End(answer.usage(), &out);
  return out;
}

void ExpectCalls(const Sample& sample, const std::string& content, const std::vector<Call>& calls,
                 const std::string& where) {
  ASSERT_EQ(calls.size(), sample.calls.size()) << where;
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(calls[i].name, sample.calls[i].name) << where;
    EXPECT_EQ(calls[i].arguments, sample.calls[i].arguments) << where;
  }
  std::string seen = content, wanted = sample.content;
  while (!seen.empty() && seen.back() == '\n') seen.pop_back();
  while (!wanted.empty() && wanted.back() == '\n') wanted.pop_back();
  EXPECT_EQ(seen, wanted) << where;
}

void Check(const Sample& sample, const lode::testing::ReadAnswer& answer,
           const std::string& where) {
  EXPECT_EQ(answer.finish, "tool_calls") << where;
  std::vector<Call> calls;
  for (const lode::testing::ReadCall& call : answer.calls) {
    const auto arguments = ParseJson(call.arguments);
    ASSERT_TRUE(arguments.ok()) << where << " " << call.arguments;
    calls.push_back({call.name, *arguments});
  }
  ExpectCalls(sample, answer.content, calls, where);
}

// One of the dialects that have calls, streamed.
void CheckDialect(int dialect, const Sample& sample, const std::vector<int32_t>& tokens,
                  const text::Tokenizer& tokenizer,
                  const std::shared_ptr<const text::ToolSchemas>& schemas,
                  const std::string& where) {
  if (dialect == 0) {
    ChatChunks chunks({"id", "m", 0}, {}, true, false, &tokenizer);
    Check(sample, lode::testing::ReadChatStream(Stream(tokens, tokenizer, schemas, &chunks)),
          where + " chat");
  } else if (dialect == 1) {
    MessageEvents events({"id", "m"});
    Check(sample, lode::testing::ReadMessageStream(Stream(tokens, tokenizer, schemas, &events)),
          where + " messages");
  } else {
    ResponseWriter events({.id = "resp_1", .model = "m", .stream = true}, &tokenizer);
    Check(sample, lode::testing::ReadResponseStream(Stream(tokens, tokenizer, schemas, &events)),
          where + " responses");
  }
}

TEST(Wire, TenThousandScriptedToolCallsCutAtEveryByteAreNeitherLostNorMangled) {
  const auto tokenizer = chat::DemoTokenizer(LODE_SOURCE_DIR);
  const auto schemas =
      std::make_shared<const text::ToolSchemas>(text::ToolSchemasFromJson(Tools()));
  std::mt19937 random(11);
  int runs = 0;
  for (int number = 0; runs < 10'000; ++number) {
    const Sample sample = MakeSample(&random);
    for (size_t cut = 0; cut <= sample.text.size(); ++cut, ++runs) {
      const auto tokens = chat::EncodeCut(*tokenizer, sample.text, cut);
      const std::string where =
          "sample " + std::to_string(number) + " cut at " + std::to_string(cut);
      CheckDialect(runs % 3, sample, tokens, *tokenizer, schemas, where);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(Wire, ACallThatComesByteByByteIsTheSame) {
  const auto tokenizer = chat::DemoTokenizer(LODE_SOURCE_DIR);
  const auto schemas =
      std::make_shared<const text::ToolSchemas>(text::ToolSchemasFromJson(Tools()));
  std::mt19937 random(12);
  for (int number = 0; number < 40; ++number) {
    const Sample sample = MakeSample(&random);
    std::vector<int32_t> tokens;
    for (const char byte : sample.text) {
      for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
        if (tokenizer->TokenBytes(id) != std::string(1, byte)) continue;
        tokens.push_back(id);
        break;
      }
    }
    ASSERT_EQ(tokens.size(), sample.text.size());
    for (int dialect = 0; dialect < 3; ++dialect) {
      CheckDialect(dialect, sample, tokens, *tokenizer, schemas, std::to_string(number));
    }
  }
}

}  // namespace
}  // namespace lode::serve
