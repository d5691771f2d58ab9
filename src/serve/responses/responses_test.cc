// The Responses API: its requests, what is kept of its answers, and how streams end.
#include <gtest/gtest.h>

#include "serve/responses/response_items.h"
#include "serve/responses/response_request.h"
#include "serve/responses/response_store.h"
#include "serve/responses/response_writer.h"
#include "serve/responses/text_field.h"
#include "tests/support/wire_reader.h"

namespace lode::serve {
namespace {

constexpr FieldLimits kLimits = {1000, 4096, 16};

Json Parse(const std::string& text) {
  auto json = ParseJson(text);
  EXPECT_TRUE(json.ok()) << text;
  return json.ok() ? *json : Json::object();
}

ResponseCall Read(const std::string& text, const Json& history = Json::array()) {
  auto call = ReadResponseRequest(Parse(text), kLimits, {}, history);
  EXPECT_TRUE(call.ok()) << (call.ok() ? "" : call.error().ToString());
  return call.ok() ? std::move(*call) : ResponseCall{};
}

std::string ErrorOf(const std::string& text) {
  const auto call = ReadResponseRequest(Parse(text), kLimits, {}, Json::array());
  return call.ok() ? "" : call.error().message();
}

TEST(ResponseRequest, ItemsOfOneTurnAreOneMessage) {
  const auto call = Read(R"({"instructions": "s", "input": [{"role": "user", "content": "q"},
      {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text",
          "text": "hm"}]},
      {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
      {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{\"x\": 1}"},
      {"type": "function_call", "call_id": "c2", "name": "f", "arguments": ""},
      {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text",
          "text": "1"}]},
      {"type": "function_call_output", "call_id": "c2", "output": "2"},
      {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}]})");
  EXPECT_EQ(call.request.template_request["messages"], Parse(R"([
      {"role": "system", "content": "s"}, {"role": "user", "content": "q"},
      {"role": "assistant", "content": "a", "reasoning_content": "hm", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
        {"id": "c2", "type": "function", "function": {"name": "f", "arguments": {}}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "1"},
      {"role": "tool", "tool_call_id": "c2", "content": "2"},
      {"role": "assistant", "content": "b"}, {"role": "assistant", "content": "c"}])"));
}

TEST(ResponseRequest, HistoryComesFirstAndATurnMayGoOnFromIt) {
  const Json history = Parse(R"([{"role": "user", "content": "q"},
      {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}])");
  const auto call = Read(
      R"({"input": [{"type": "function_call_output", "call_id": "c", "output": "r"}]})", history);
  ASSERT_EQ(call.request.template_request["messages"].size(), 3u);
  EXPECT_EQ(call.request.template_request["messages"][2]["content"], "r");
  EXPECT_EQ(call.items.size(), 1u);
}

TEST(ResponseRequest, SealedThoughtsAreReadAgainAndThoseOfOthersAreNot) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
  for (size_t length : {0, 1, 2, 3, 4, 255, 256}) {
    EXPECT_EQ(OpenThoughts(SealThoughts(bytes.substr(0, length))), bytes.substr(0, length));
  }
  EXPECT_EQ(OpenThoughts("gAAAAABo"), "");
  const Json item = {{"type", "reasoning"},
                     {"summary", Json::array()},
                     {"encrypted_content", SealThoughts("hm")}};
  Json messages = Json::array();
  ASSERT_TRUE(AddItems(Json::array(), Json::array({item}), &messages).ok());
  EXPECT_EQ(messages[0]["reasoning_content"], "hm");
}

TEST(ResponseRequest, SettingsAreReadAndToldAgain) {
  const auto call = Read(R"({"input": "x", "max_output_tokens": 7, "temperature": 0.5,
      "reasoning": {"effort": "low", "summary": "auto"}, "store": false, "truncation": "auto",
      "include": ["reasoning.encrypted_content", "something.else"], "top_logprobs": 3,
      "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
      "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": true},
                {"type": "custom", "name": "g"}],
      "tool_choice": {"type": "allowed_tools", "mode": "required",
                      "tools": [{"type": "function", "name": "f"}]}})");
  EXPECT_EQ(call.request.rules.tokens_max, 7);
  EXPECT_EQ(call.request.rules.logprobs, 3);
  EXPECT_EQ(call.request.effort, "low");
  EXPECT_TRUE(call.summary && call.sealed && call.fit && !call.store && !call.stream);
  EXPECT_EQ(call.request.response_format["json_schema"]["schema"]["type"], "object");
  EXPECT_EQ(call.request.tool_choice, chat::ToolChoice::kRequired);
  EXPECT_EQ(call.request.allowed_tools, std::vector<std::string>{"f"});
  EXPECT_EQ(call.request.template_request["tools"].size(), 2u);
  EXPECT_TRUE(call.custom_tools.contains("g"));
  EXPECT_EQ(call.echo["tools"][1]["type"], "custom");
  EXPECT_EQ(call.echo["reasoning"]["summary"], "auto");
  EXPECT_EQ(call.echo["max_output_tokens"], 7);
  EXPECT_EQ(Read(R"({"input": "x"})").store, true);
}

TEST(ResponseRequest, ErrorsBeginWithThePath) {
  EXPECT_EQ(ErrorOf("{}"), "input: is missing");
  EXPECT_EQ(ErrorOf(R"({"input": []})"), "input: is empty");
  EXPECT_EQ(ErrorOf(R"({"input": [{"type": "function_call", "name": "f"}]})"),
            "input[0].call_id: is missing");
  EXPECT_EQ(ErrorOf(R"({"input": "x", "n": 2})"), "n: must be 1: there is one response");
  for (const char* refused :
       {R"({"input": "x", "background": true})", R"({"input": "x", "conversation": "c"})",
        R"({"input": "x", "prompt": {"id": "p"}})",
        R"({"input": "x", "tools": [{"type": "web_search"}]})",
        R"({"input": [{"type": "computer_call"}]})",
        R"({"input": [{"role": "user", "content": [{"type": "input_image"}]}]})"}) {
    const auto call = ReadResponseRequest(Parse(refused), kLimits, {}, Json::array());
    ASSERT_FALSE(call.ok()) << refused;
    EXPECT_EQ(call.error().code(), Code::kUnsupported) << call.error().message();
  }
  EXPECT_EQ(ErrorOf(R"({"input": "x", "metadata": {"a": 1}})"),
            "metadata: the values must be strings");
  EXPECT_EQ(ErrorOf(R"({"input": "x", "tools": [{"type": "function", "name": "f"}],
      "tool_choice": {"type": "allowed_tools", "tools": [{"name": "g"}]}})"),
            "tool_choice.tools: names the tool 'g', which is not in tools");
}

KeptResponse Turn(const std::string& previous, const std::string& said, const std::string& id) {
  const Json items = Json::array({{{"role", "user"}, {"content", said}}});
  const Json output = Json::array({{{"type", "message"}, {"id", "msg_" + id}}});
  return {previous, DumpJson(items), DumpJson({{"id", id}, {"output", output}}), {"msg_" + id}};
}

TEST(ResponseStore, ATurnBringsAllThatWereBeforeItAndNobodySeesAnothersTurns) {
  ResponseStore store;
  EXPECT_TRUE(store.Keep("alice", "a", Turn("", "one", "a")));
  EXPECT_TRUE(store.Keep("alice", "b", Turn("a", "two", "b")));
  const auto items = store.Items("alice", "b", true);
  ASSERT_TRUE(items.has_value());
  ASSERT_EQ(items->size(), 4u);
  EXPECT_EQ((*items)[0]["content"], "one");
  EXPECT_EQ((*items)[1]["id"], "msg_a");
  EXPECT_EQ(store.Items("alice", "b", false)->size(), 3u);
  EXPECT_EQ((*store.Item("alice", "msg_a"))["id"], "msg_a");
  EXPECT_FALSE(store.Items("bob", "b", true).has_value());
  EXPECT_EQ(store.Find("bob", "b"), nullptr);
  EXPECT_FALSE(store.Item("bob", "msg_a").has_value());
  EXPECT_FALSE(store.Forget("bob", "a"));
  EXPECT_TRUE(store.Forget("alice", "a"));
  EXPECT_FALSE(store.Items("alice", "b", true).has_value());  // what was before it is gone
  EXPECT_TRUE(store.Forget("alice", "b"));
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(ResponseStore, IsBoundedInBytesAndWhoHoldsMostLosesFirst) {
  ResponseStore store({.bytes_max = 20'000});
  EXPECT_FALSE(store.Keep("a", "large", Turn("", std::string(30'000, 'x'), "large")));
  EXPECT_TRUE(store.Keep("b", "other", Turn("", "x", "other")));
  for (int i = 0; i < 100; ++i) {
    const std::string id = std::to_string(i);
    EXPECT_TRUE(store.Keep("a", id, Turn("", std::string(1000, 'x'), id)));
    EXPECT_LE(store.bytes(), 20'000u);
  }
  EXPECT_NE(store.Find("b", "other"), nullptr);
  EXPECT_NE(store.Find("a", "99"), nullptr);
  EXPECT_EQ(store.Find("a", "0"), nullptr);
}

TEST(ResponseStore, ForgetsWhatIsNotUsedForLong) {
  ResponseStore store({.idle_max = std::chrono::seconds(10)});
  const auto start = ResponseStore::Clock::now();
  const auto at = [&](int seconds) { return start + std::chrono::seconds(seconds); };
  EXPECT_TRUE(store.Keep("", "a", Turn("", "x", "a"), at(0)));
  EXPECT_TRUE(store.Keep("", "b", Turn("", "x", "b"), at(0)));
  EXPECT_NE(store.Find("", "a", at(8)), nullptr);
  store.Expire(at(15));
  EXPECT_EQ(store.Find("", "b", at(15)), nullptr);
  EXPECT_NE(store.Find("", "a", at(15)), nullptr);
}

chat::AnswerEvent Text(const char* text) {
  chat::AnswerEvent event;
  event.output.text = text;
  return event;
}

TEST(ResponseWriter, AStreamThatFailsEndsWithOneEventThatHasWhatThereWas) {
  std::string out;
  ResponseWriter writer({.id = "resp_1", .model = "m", .stream = true}, nullptr);
  writer.KeepAlive(&out);  // before anything has come: the response is there
  EXPECT_NE(out.find("response.created"), std::string::npos);
  writer.KeepAlive(&out);
  writer.Add(Text("So far"), {}, &out);
  writer.Fail({Fault::kInternal, "a wheel is lost"}, "id", &out);
  const auto events = lode::testing::Events(out);
  const Json& last = events.back();
  EXPECT_EQ(last["type"], "response.failed");
  EXPECT_EQ(last["response"]["error"]["code"], "server_error");
  EXPECT_EQ(last["response"]["output"][0]["content"][0]["text"], "So far");
  EXPECT_EQ(last["response"]["output"][0]["status"], "incomplete");
  EXPECT_EQ(lode::testing::ReadResponseStream(out).content, "So far");
}

TEST(ResponseWriter, WhatIsKeptIsWhatWasSent) {
  for (const bool stream : {false, true}) {
    std::string out;
    Json kept;
    ResponseWriter writer({.id = "resp_1", .model = "m", .stream = stream}, nullptr,
                          [&](const Json& response) { kept = response; });
    writer.Add(Text("Hello"), {}, &out);
    chat::AnswerEvent end;
    end.kind = chat::AnswerEvent::Kind::kFinished;
    writer.Add(end, {}, &out);
    writer.End({.prompt = 5, .cached = 2, .completion = 3, .reasoning = 1}, &out);
    EXPECT_EQ(kept["usage"], Parse(R"({"input_tokens": 5, "input_tokens_details":
        {"cached_tokens": 2}, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8})"));
    if (stream) {
      EXPECT_EQ(lode::testing::Events(out).back()["response"], kept);
    } else {
      EXPECT_EQ(out, DumpJson(kept));
    }
  }
}

TEST(ResponseWriter, ASummaryIsTheTraceAndCustomToolsGetText) {
  std::string out;
  ResponseHead head = {.id = "resp_1", .model = "m"};
  head.stream = head.summary = true;
  head.custom_tools = {"shell"};
  ResponseWriter writer(head, nullptr);
  using Kind = text::OutputEvent::Kind;
  const auto add = [&](Kind kind, const char* text, bool complete = false) {
    chat::AnswerEvent event;
    event.output.kind = kind;
    (kind == Kind::kCallBegin ? event.output.name : event.output.text) = text;
    event.output.id = "call_1";
    event.output.complete = complete;
    writer.Add(event, {}, &out);
  };
  add(Kind::kReasoning, "hm");
  add(Kind::kCallBegin, "shell");
  add(Kind::kArguments, "{\"input\": \"ls");
  add(Kind::kArguments, " -l\"}");
  add(Kind::kCallEnd, "", true);
  std::vector<std::string> types;
  for (const Json& event : lode::testing::Events(out)) types.push_back(event["type"]);
  const std::vector<std::string> wanted = {
      "response.created", "response.in_progress", "response.output_item.added",
      "response.reasoning_summary_part.added", "response.reasoning_text.delta",
      "response.reasoning_summary_text.delta", "response.reasoning_text.done",
      "response.reasoning_summary_text.done", "response.reasoning_summary_part.done",
      "response.output_item.done", "response.output_item.added",
      "response.custom_tool_call_input.delta", "response.custom_tool_call_input.delta",
      "response.custom_tool_call_input.done", "response.output_item.done"};
  EXPECT_EQ(types, wanted);
  std::string joined;
  for (const Json& event : lode::testing::Events(out)) {
    if (event["type"] == wanted[11]) joined += event["delta"];
  }
  EXPECT_EQ(joined, "ls -l");
  const Json last = lode::testing::Events(out).back();
  EXPECT_EQ(last["item"]["input"], "ls -l");
  EXPECT_EQ(last["item"]["call_id"], "call_1");
}

TEST(ResponseWriter, InputThatIsNoTextIsToldAsItIs) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {"{\"input\": [1, 2]}", "[1,2]"}, {"{\"other\":1}", "{\"other\":1}"}, {"{}", "{}"},
      {"{\"input\":\"\"}", ""},       {"{\"input\": \"cut", "cut"}};
  for (const auto& [arguments, wanted] : cases) {
    std::string out;
    ResponseHead head = {.id = "resp_1", .model = "m"};
    head.stream = true;
    head.custom_tools = {"shell"};
    ResponseWriter writer(head, nullptr);
    using Kind = text::OutputEvent::Kind;
    for (const Kind kind : {Kind::kCallBegin, Kind::kArguments, Kind::kCallEnd}) {
      chat::AnswerEvent event;
      event.output.kind = kind;
      event.output.name = "shell";
      event.output.text = arguments;
      writer.Add(event, {}, &out);
    }
    std::string joined;
    for (const Json& event : lode::testing::Events(out)) {
      if (event["type"] == "response.custom_tool_call_input.delta") joined += event["delta"];
      if (event["type"] == "response.custom_tool_call_input.done") {
        EXPECT_EQ(event["input"], wanted);
      }
    }
    EXPECT_EQ(joined, wanted);
    EXPECT_EQ(lode::testing::Events(out).back()["item"]["input"], wanted);
  }
}

TEST(TextField, GivesWholeCharactersWhereverItIsCut) {
  const std::string wanted =
      "a \"quoted\" \\ line\nand \u00e9 \U0001F600, {raw} \u00fc \uFFFD. \uFFFD!";
  const std::string json =
      "{ \"other\": {\"input\": \"no\", \"x\": [\"\\\"input\"]}, \"n\": 1, \"s\": \"input\","
      " \"input\" : \"a \\\"quoted\\\" \\\\ line\\nand \\u00e9 \\ud83d\\ude00, {raw} \u00fc"
      " \\udc00. \\ud83d!\", \"input\": \"again\"}";
  for (size_t cut = 0; cut <= json.size(); ++cut) {
    TextField field("input");
    std::string text = field.Push(std::string_view(json).substr(0, cut));
    EXPECT_TRUE(wanted.starts_with(text)) << cut;
    text += field.Push(std::string_view(json).substr(cut));
    EXPECT_EQ(text, wanted) << cut;
    EXPECT_TRUE(field.begun());
  }
  TextField none("input");
  EXPECT_EQ(none.Push("{\"s\": \"input\", \"input\": 12, \"t\": \"x\"}"), "");
  EXPECT_FALSE(none.begun());
}

}  // namespace
}  // namespace lode::serve
