#include "tune/data/record.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/text.h"
#include "tests/support/training_text.h"
#include "tune/data/files.h"

namespace lode::tune {
namespace {

using testing::RecordFrom;
using testing::WhyNot;

TEST(DataRecord, EachShapeIsRecognisedByItsKeys) {
  const std::pair<const char*, RecordKind> kLines[] = {
      {R"({"text": "Once", "source": "web"})", RecordKind::kText},
      {R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})",
       RecordKind::kChat},
      {R"({"prompt": "a", "completion": "b"})", RecordKind::kCompletion},
      {R"({"prompt": [{"role": "user", "content": "a"}],
           "completion": [{"role": "assistant", "content": "b"}]})",
       RecordKind::kCompletion},
      {R"({"prompt": "a", "completion": "b", "label": false})", RecordKind::kUnpaired},
      {R"({"prompt": "a", "chosen": "b", "rejected": "c"})", RecordKind::kPreference},
      {R"({"chosen": "Q: a A: b", "rejected": "Q: a A: c"})", RecordKind::kPreference},
      {R"({"input": {"messages": [{"role": "user", "content": "a"}]},
           "preferred_output": [{"role": "assistant", "content": "b"}],
           "non_preferred_output": [{"role": "assistant", "content": "c"}]})",
       RecordKind::kPreference},
      {R"({"prompt": "a"})", RecordKind::kTask},
      {R"({"messages": [{"role": "user", "content": "a"}], "expected_answer": "7",
           "pass_rate": 0.5})",
       RecordKind::kTask},
      {R"({"question": "a", "expected_answer": 7})", RecordKind::kTask},
      {R"({"responses_create_params": {"input": "a"}, "environment": "math"})", RecordKind::kTask},
      {R"({"input_ids": [1, 2, 3], "loss_mask": [0, 0, 1]})", RecordKind::kTokens},
      {R"({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]})",
       RecordKind::kChat},
      {R"({"instruction": "a", "input": "", "output": "b"})", RecordKind::kChat}};
  for (const auto& [line, kind] : kLines) EXPECT_EQ(RecordFrom(line).kind, kind) << line;
}

TEST(DataRecord, ALineThatMayBeTwoThingsIsRefusedUntilSomebodySaysWhich) {
  const std::string line =
      R"({"prompt": "a", "messages": [{"role": "assistant", "content": "b"}]})";
  EXPECT_NE(WhyNot(line).find("chat or task"), std::string::npos) << WhyNot(line);
  EXPECT_EQ(RecordFrom(line, {.as = RecordKind::kChat}).kind, RecordKind::kChat);
  const std::string text = R"({"text": "x", "input_ids": [1]})";
  EXPECT_NE(WhyNot(text).find("text or tokens"), std::string::npos);
  EXPECT_NE(WhyNot(R"({"txet": "x"})").find("'txet'"), std::string::npos);
  EXPECT_NE(WhyNot(R"({"text": "x"})", {.as = RecordKind::kChat}).find("is no chat"),
            std::string::npos);
}

TEST(DataRecord, WhatIsWrongIsNamedWithItsPlaceInTheLine) {
  const std::pair<const char*, const char*> kLines[] = {
      {R"({"text": 7})", "\"text\" is not text"},
      {R"([1])", "no JSON object"},
      {R"({"text": "x")", "not valid JSON at line 1"},
      {R"({"messages": {}})", "not a list of messages"},
      {R"({"messages": []})", "empty"},
      {R"({"messages": [{"content": "x"}]})", "messages[0]: has no \"role\""},
      {R"({"messages": [{"role": "user", "content": {"a": 1}}]})", "messages[0]: \"content\""},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})", "'image_url'"},
      {R"({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]})",
       "messages[0].tool_calls[0]: the function has no name"},
      {R"({"messages": [{"role": "assistant", "content": "a", "weight": 2}]})", "from 0 to 1"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": "[{]"})", "\"tools\""},
      {R"({"prompt": [{"role": "user", "content": "a"}], "completion": "b"})", "write both"},
      {R"({"completion": "b"})", "there is no \"prompt\""},
      {R"({"prompt": "a", "completion": "b", "label": "yes"})", "neither true nor false"},
      {R"({"prompt": "a", "chosen": "b", "rejected": "b"})", "are the same"},
      {R"({"chosen": "b", "rejected": "c"})", "do not begin alike"},
      {R"({"prompt": "a", "pass_rate": 3})", "from 0 to 1"},
      {R"({"input_ids": [1, -2]})", "input_ids[1]"},
      {R"({"input_ids": [1, 2], "loss_mask": [1]})", "as long as"},
      {R"({"input_ids": [1, 2], "labels": [2, -100]})", "not shifted"},
      {R"({"input_ids": [1, 2, 3], "seq_start_id": [0, 2, 2]})", "does not rise"},
      {R"({"conversations": [{"from": "alien", "value": "x"}]})", "'alien'"}};
  for (const auto& [line, why] : kLines) {
    EXPECT_NE(WhyNot(line).find(why), std::string::npos) << line << "\n" << WhyNot(line);
  }
}

TEST(DataRecord, ArgumentsAsTextAndAsObjectsAreTheSame) {
  const char* line =
      R"({"messages": [{"role": "user", "content": "a"},
          {"role": "assistant", "content": null, "tool_calls": [
            {"type": "function", "function": {"name": "add", "arguments": %s}}]}],
          "tools": [{"type": "function", "function": {"name": "add"}}]})";
  const DataRecord text = RecordFrom(Format(line, R"("{\"a\": 1}")"));
  const DataRecord object = RecordFrom(Format(line, R"({"a": 1})"));
  EXPECT_EQ(text.answer.messages, object.answer.messages);
  EXPECT_TRUE(text.remarks.empty());
  const DataRecord broken = RecordFrom(Format(line, R"("a = 1")"));
  ASSERT_EQ(broken.remarks.size(), 1u);
  EXPECT_EQ(broken.remarks[0].kind, RemarkKind::kBadArguments);
}

TEST(DataRecord, OddMessagesAreRemarkedUpon) {
  const DataRecord record = RecordFrom(
      R"({"messages": [{"role": "human", "content": "a"}, {"role": "assistant", "content": ""},
          {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]})");
  ASSERT_EQ(record.remarks.size(), 3u);
  EXPECT_EQ(record.remarks[0].kind, RemarkKind::kUnknownRole);
  EXPECT_EQ(record.remarks[1].kind, RemarkKind::kEmptyAssistant);
  EXPECT_EQ(record.remarks[2].kind, RemarkKind::kUndeclaredTool);
  EXPECT_NE(record.remarks[2].text.find("messages[2].tool_calls[0]"), std::string::npos);
}

TEST(DataRecord, WeightsLeaveTheMessagesTheyBelongTo) {
  const DataRecord record = RecordFrom(
      R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]},
          {"role": "assistant", "content": "b", "weight": 0}]})");
  EXPECT_EQ(record.answer.weights, (std::vector<float>{1, 0}));
  EXPECT_FALSE(record.answer.messages[1].contains("weight"));
  EXPECT_EQ(record.answer.messages[0]["content"], "ab");
}

TEST(DataRecord, ThePromptOfAPairIsWhatBothBeginWith) {
  const DataRecord text =
      RecordFrom(R"({"chosen": "Q: one? A: yes", "rejected": "Q: one? A: yesterday"})");
  EXPECT_EQ(text.prompt.text, "Q: one? A:");
  EXPECT_EQ(text.answer.text, " yes");
  EXPECT_EQ(text.rejected.text, " yesterday");
  const DataRecord chat = RecordFrom(
      R"({"prompt": "a",
          "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
          "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]})");
  EXPECT_EQ(chat.prompt.messages.size(), 1u);
  EXPECT_EQ(chat.answer.messages.size(), 1u);
  EXPECT_EQ(chat.rejected.messages[0]["content"], "c");
}

TEST(DataRecord, TasksKeepWhatTheirJudgeNeeds) {
  const DataRecord record = RecordFrom(
      R"({"responses_create_params": {"instructions": "Be brief.",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "2+2?"}]},
                      {"type": "function_call", "name": "add", "arguments": "{\"a\": 2}",
                       "call_id": "c"},
                      {"type": "function_call_output", "call_id": "c", "output": "4"}],
            "tools": [{"type": "function", "name": "add", "parameters": {}}]},
          "environment": "math", "expected_answer": "4", "pass_rate": 0.25})");
  EXPECT_EQ(record.environment, "math");
  EXPECT_EQ(record.pass_rate, 0.25);
  EXPECT_EQ(record.task["expected_answer"], "4");
  ASSERT_EQ(record.prompt.messages.size(), 4u);
  EXPECT_EQ(record.prompt.messages[1]["content"], "2+2?");
  EXPECT_EQ(record.prompt.messages[2]["tool_calls"][0]["function"]["arguments"]["a"], 2);
  EXPECT_EQ(record.prompt.messages[3]["role"], "tool");
  EXPECT_EQ(record.tools[0]["function"]["name"], "add");
  EXPECT_TRUE(record.remarks.empty());
}

TEST(DataRecord, ShareGptCallsBecomeToolCalls) {
  const DataRecord record = RecordFrom(
      R"({"conversations": [{"from": "human", "value": "2+2?"},
          {"from": "function_call", "value": "{\"name\": \"add\", \"arguments\": {\"a\": 2}}"},
          {"from": "observation", "value": "4"}, {"from": "gpt", "value": "Four."}],
          "system": "Be brief.", "tools": "[{\"name\": \"add\"}]"})");
  ASSERT_EQ(record.answer.messages.size(), 5u);
  EXPECT_EQ(record.answer.messages[0]["role"], "system");
  EXPECT_EQ(record.answer.messages[2]["tool_calls"][0]["function"]["name"], "add");
  EXPECT_EQ(record.answer.messages[3]["role"], "tool");
  ASSERT_EQ(record.remarks.size(), 1u);
  EXPECT_EQ(record.remarks[0].kind, RemarkKind::kConverted);
}

TEST(DataRecord, PackedTokensBecomeSequencesThatBeginUnsupervised) {
  const DataRecord record = RecordFrom(
      R"({"input_ids": [5, 6, 7, 8, 9], "loss_mask": [1, 1, 0, 1, 1], "seq_start_id": [0, 3]})");
  ASSERT_EQ(record.examples.size(), 2u);
  EXPECT_EQ(record.examples[0].tokens, (std::vector<int32_t>{5, 6, 7}));
  EXPECT_EQ(record.examples[0].weights, (std::vector<float>{0, 1, 0}));
  EXPECT_EQ(record.examples[1].weights, (std::vector<float>{0, 1}));
  const DataRecord labels = RecordFrom(R"({"input_ids": [5, 6, 7], "labels": [-100, 6, -100]})");
  EXPECT_EQ(labels.examples[0].weights, (std::vector<float>{0, 1, 0}));
}

TEST(DataRecord, DeepLinesAreRefused) {
  const std::string deep = std::string(100, '[') + std::string(100, ']');
  EXPECT_NE(WhyNot(R"({"text": )" + deep + "}").find("nested"), std::string::npos)
      << WhyNot(R"({"text": )" + deep + "}");
}

std::vector<std::string> Walk(const std::string& bytes, const std::string& name) {
  std::vector<std::string> seen;
  const auto visit = [&](const Place& place, const Result<DataRecord>& record) -> Result<void> {
    seen.push_back(ToString(place) + (record.ok() ? " " + record->answer.text : " bad"));
    return {};
  };
  EXPECT_TRUE(VisitRecordsOf(bytes, name, {}, visit).ok());
  return seen;
}

TEST(Files, LinesKeepTheirNumbersAndBadOnesDoNotStopTheRest) {
  using List = std::vector<std::string>;
  EXPECT_EQ(Walk("\xEF\xBB\xBF{\"text\": \"a\"}\r\n\n  \n{\"text\"\n{\"text\": \"b\"}", "f.jsonl"),
            (List{"f.jsonl:1 a", "f.jsonl:4 bad", "f.jsonl:5 b"}));
  EXPECT_EQ(Walk(" [{\"text\": \"a\"}, 7]", "f.json"),
            (List{"f.json, record 1 a", "f.json, record 2 bad"}));
  EXPECT_EQ(Walk("one\n\ntwo", "f.md"), (List{"f.md one\n\ntwo"}));
}

TEST(Files, AFolderStandsForItsFilesAndParquetForItsImporter) {
  const std::string folder = ::testing::TempDir() + "lode_data_files";
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(MakeFolders(folder + "/b").ok());
  for (const char* name : {"/c.jsonl", "/b/a.txt", "/.hidden.txt", "/x.bin", "/p.parquet"}) {
    ASSERT_TRUE(WriteFileAtomic(folder + name, "x").ok());
  }
  const auto files = FindDataFiles({folder});
  ASSERT_TRUE(files.ok());
  EXPECT_EQ(*files, (std::vector<std::string>{folder + "/b/a.txt", folder + "/c.jsonl"}));
  EXPECT_NE(FindDataFiles({folder + "/p.parquet"}).error().ToString().find("parquet_to_jsonl"),
            std::string::npos);
  EXPECT_FALSE(FindDataFiles({folder + "/nothing"}).ok());
}

}  // namespace
}  // namespace lode::tune
