// Scripted tool calls, cut at every byte, through the dialects' streams.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "base/text.h"
#include "chat/fake_answers.h"
#include "serve/anthropic/message_writer.h"
#include "serve/dialogue.h"
#include "serve/openai/chat_writer.h"
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

// The data of a stream's events. Every event must be whole and JSON.
std::vector<Json> Events(const std::string& stream) {
  std::vector<Json> events;
  for (const std::string& block : Split(stream, '\n')) {
    if (!StartsWith(block, "data: ") || block == "data: [DONE]") continue;
    auto json = ParseJson(std::string_view(block).substr(6));
    EXPECT_TRUE(json.ok()) << block;
    if (json.ok()) events.push_back(std::move(*json));
  }
  return events;
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

void CheckChunks(const Sample& sample, const std::string& stream, const std::string& where) {
  std::string content, finish;
  std::map<int, std::pair<std::string, std::string>> calls;  // by index: name, arguments
  std::set<std::string> ids;
  for (const Json& event : Events(stream)) {
    const Json& choice = event["choices"][0];
    const Json& delta = choice["delta"];
    content += GetString(delta, "content");
    if (choice["finish_reason"].is_string()) finish = choice["finish_reason"];
    const Json* list = FindKey(delta, "tool_calls");
    if (list == nullptr) continue;
    for (const Json& call : *list) {
      const int index = call["index"];
      const bool first = calls.find(index) == calls.end();
      EXPECT_EQ(call.contains("id"), first) << where;
      EXPECT_EQ(call["function"].contains("name"), first) << where;
      if (first) ids.insert(call["id"].get<std::string>());
      if (first) calls[index].first = call["function"]["name"];
      calls[index].second += GetString(call["function"], "arguments");
    }
  }
  EXPECT_EQ(finish, "tool_calls") << where;
  EXPECT_EQ(ids.size(), calls.size()) << where;
  std::vector<Call> parsed;
  for (const auto& [index, call] : calls) {
    ASSERT_EQ(index, static_cast<int>(parsed.size())) << where;
    const auto arguments = ParseJson(call.second);
    ASSERT_TRUE(arguments.ok()) << where << " " << call.second;
    parsed.push_back({call.first, *arguments});
  }
  ExpectCalls(sample, content, parsed, where);
}

void CheckMessage(const Sample& sample, const std::string& stream, const std::string& where) {
  std::string content, open, arguments, stop;
  std::vector<Call> parsed;
  int index = -1;
  bool ended = false;
  for (const Json& event : Events(stream)) {
    EXPECT_FALSE(ended) << where;
    const std::string type = event["type"];
    if (type == "content_block_start") {
      EXPECT_TRUE(open.empty()) << where;
      EXPECT_EQ(event["index"], ++index) << where;
      open = event["content_block"]["type"];
      arguments.clear();
      if (open == "tool_use") parsed.push_back({event["content_block"]["name"], {}});
    } else if (type == "content_block_delta") {
      content += GetString(event["delta"], "text");
      arguments += GetString(event["delta"], "partial_json");
    } else if (type == "content_block_stop") {
      if (open == "tool_use") {
        const auto json = ParseJson(arguments);
        ASSERT_TRUE(json.ok()) << where << " " << arguments;
        parsed.back().arguments = *json;
      }
      open.clear();
    } else if (type == "message_delta") {
      stop = event["delta"]["stop_reason"];
    }
    ended = type == "message_stop";
  }
  EXPECT_TRUE(ended) << where;
  EXPECT_EQ(stop, "tool_use") << where;
  ExpectCalls(sample, content, parsed, where);
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
      if (runs % 2 == 0) {
        ChatChunks chunks({"id", "m", 0}, {}, true, false, tokenizer.get());
        CheckChunks(sample, Stream(tokens, *tokenizer, schemas, &chunks), where);
      } else {
        MessageEvents events({"id", "m"});
        CheckMessage(sample, Stream(tokens, *tokenizer, schemas, &events), where);
      }
      if (testing::Test::HasFailure()) return;
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
    ChatChunks chunks({"id", "m", 0}, {}, true, false, tokenizer.get());
    CheckChunks(sample, Stream(tokens, *tokenizer, schemas, &chunks), std::to_string(number));
    MessageEvents events({"id", "m"});
    CheckMessage(sample, Stream(tokens, *tokenizer, schemas, &events), std::to_string(number));
  }
}

}  // namespace
}  // namespace lode::serve
