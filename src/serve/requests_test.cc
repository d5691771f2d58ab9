// Requests of the dialects -> the one request behind them.
#include <gtest/gtest.h>

#include <cmath>

#include "serve/anthropic/message_request.h"
#include "serve/dialogue.h"
#include "serve/faults.h"
#include "serve/keys.h"
#include "serve/request_rates.h"
#include "serve/openai/chat_request.h"

namespace lode::serve {
namespace {

constexpr FieldLimits kLimits = {1000, 4096, 16};

Json Parse(const char* text) {
  auto json = ParseJson(text);
  EXPECT_TRUE(json.ok()) << text;
  return json.ok() ? *json : Json::object();
}

chat::ChatRequest Chat(const char* text) {
  const Json body = Parse(text);
  auto call = ReadChatRequest(body, kLimits, {});
  EXPECT_TRUE(call.ok()) << (call.ok() ? "" : call.error().ToString());
  return call.ok() ? call->request : chat::ChatRequest{};
}

std::string ChatError(const char* text) {
  const Json body = Parse(text);
  const auto call = ReadChatRequest(body, kLimits, {});
  return call.ok() ? "" : call.error().message();
}

chat::ChatRequest Message(const char* text) {
  const Json body = Parse(text);
  auto call = ReadMessageRequest(body, kLimits, {}, false);
  EXPECT_TRUE(call.ok()) << (call.ok() ? "" : call.error().ToString());
  return call.ok() ? call->request : chat::ChatRequest{};
}

TEST(ChatRequest, SystemAndDeveloperMessagesInFrontAreOne) {
  const auto request = Chat(R"({"messages": [{"role": "system", "content": "a"},
      {"role": "developer", "content": [{"type": "text", "text": "b"}, {"type": "text",
          "text": "c"}]},
      {"role": "user", "content": "d"}]})");
  EXPECT_EQ(
      request.template_request["messages"],
      Parse(R"([{"role": "system", "content": "a\n\nb\nc"}, {"role": "user", "content": "d"}])"));
}

TEST(ChatRequest, HistoryKeepsCallsResultsAndThoughts) {
  const auto request = Chat(R"({"messages": [{"role": "user", "content": "x"},
      {"role": "assistant", "content": null, "reasoning": "hm", "unknown": 1,
       "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f",
          "arguments": "{\"a\": 1}"}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "ok"}]})");
  const Json& messages = request.template_request["messages"];
  EXPECT_EQ(messages[1]["reasoning_content"], "hm");
  EXPECT_EQ(messages[1]["content"], "");
  EXPECT_EQ(messages[1]["tool_calls"][0]["function"]["arguments"], "{\"a\": 1}");
  EXPECT_EQ(messages[2], Parse(R"({"role": "tool", "content": "ok", "tool_call_id": "c1"})"));
}

TEST(ChatRequest, BothNamesOfTheLimitAreRead) {
  EXPECT_EQ(Chat(R"({"messages": [{"role": "user"}], "max_tokens": 5})").rules.tokens_max, 5);
  EXPECT_EQ(Chat(R"({"messages": [{"role": "user"}], "max_tokens": 5, "max_completion_tokens": 7})")
                .rules.tokens_max,
            7);
  EXPECT_EQ(Chat(R"({"messages": [{"role": "user"}]})").rules.tokens_max, -1);
}

TEST(ChatRequest, ABiasOfMinusHundredForbids) {
  const auto rules =
      Chat(R"({"messages": [{"role": "user"}], "logit_bias": {"7": -100, "9": 2.5}})").rules;
  ASSERT_EQ(rules.logit_bias.size(), 2u);
  EXPECT_TRUE(std::isinf(rules.logit_bias[0].bias));
  EXPECT_EQ(rules.logit_bias[1].bias, 2.5f);
}

TEST(ChatRequest, ErrorsBeginWithThePath) {
  EXPECT_EQ(ChatError(R"({})"), "messages: is missing");
  EXPECT_EQ(ChatError(R"({"messages": [{"role": "user"}, 5]})"), "messages[1]: must be an object");
  EXPECT_EQ(
      ChatError(R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})"),
      "messages[0].content[0].type: 'image_url' is not understood: this model reads text only");
  EXPECT_EQ(ChatError(R"({"messages": [{"role": "user"}], "seed": 1.5})"),
            "seed: must be a whole number");
  const Json body =
      Parse(R"({"messages": [{"role": "user"}], "tools": [{"type": "function", "function": {}}]})");
  const auto call = ReadChatRequest(body, kLimits, {});
  ASSERT_FALSE(call.ok());
  const Problem problem = ProblemOf(call.error());
  EXPECT_EQ(problem.param, "tools[0].function.name");
  EXPECT_EQ(ErrorResponse(Dialect::kOpenAi, problem, "id").status, 400);
}

TEST(ChatRequest, ToolChoices) {
  const std::string head = R"({"messages": [{"role": "user"}], "tools": [{"type": "function",
      "function": {"name": "f"}}, {"type": "function", "name": "g", "strict": true}],
          "tool_choice": )";
  EXPECT_EQ(Chat((head + "\"none\"}").c_str()).tool_choice, chat::ToolChoice::kNone);
  EXPECT_EQ(Chat((head + "\"required\"}").c_str()).tool_choice, chat::ToolChoice::kRequired);
  EXPECT_EQ(Chat((head + "null}").c_str()).tool_choice, chat::ToolChoice::kAuto);
  const auto named = Chat((head + R"({"type": "function", "function": {"name": "g"}}})").c_str());
  EXPECT_EQ(named.tool_choice, chat::ToolChoice::kNamed);
  EXPECT_EQ(named.tool_name, "g");
  // What is held to its schema says so itself (chat/answer_grammar.h).
  const Json& tools = named.template_request["tools"];
  EXPECT_FALSE(GetBool(tools[0]["function"], "strict"));
  EXPECT_TRUE(GetBool(tools[1]["function"], "strict"));
}

TEST(MessageRequest, ResultsOfToolsComeBeforeWhatTheUserSays) {
  const auto request =
      Message(R"({"max_tokens": 9, "system": [{"type": "text", "text": "s"}], "messages": [
      {"role": "user", "content": "q"},
      {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "x"},
        {"type": "text", "text": "a"}, {"type": "tool_use", "id": "u", "name": "f",
          "input": {"k": [1]}}]},
      {"role": "user", "content": [{"type": "text", "text": "and?"},
        {"type": "tool_result", "tool_use_id": "u", "content": [{"type": "text",
          "text": "r"}]}]}]})");
  const Json& messages = request.template_request["messages"];
  ASSERT_EQ(messages.size(), 5u);
  EXPECT_EQ(messages[0], Parse(R"({"role": "system", "content": "s"})"));
  EXPECT_EQ(messages[2]["reasoning_content"], "t");
  EXPECT_EQ(messages[2]["tool_calls"][0]["function"]["arguments"], Parse(R"({"k": [1]})"));
  EXPECT_EQ(messages[3]["role"], "tool");
  EXPECT_EQ(messages[3]["content"], "r");
  EXPECT_EQ(messages[4], Parse(R"({"role": "user", "content": "and?"})"));
}

TEST(MessageRequest, ThinkingIsEffortAndBudget) {
  const std::string head = R"({"max_tokens": 9, "messages": [{"role": "user", "content": "q"}], )";
  EXPECT_EQ(Message((head + R"("thinking": {"type": "disabled"}})").c_str()).effort, "none");
  const auto on =
      Message((head + R"("thinking": {"type": "enabled", "budget_tokens": 50}})").c_str());
  EXPECT_EQ(on.effort, "high");
  EXPECT_EQ(on.thinking_tokens_max, 50);
  EXPECT_EQ(Message((head + R"("output_config": {"effort": "low"}})").c_str()).effort, "low");
}

TEST(Faults, EveryFaultHasAStatusInBothDialects) {
  for (int i = 0; i <= static_cast<int>(Fault::kDeadline); ++i) {
    const auto fault = static_cast<Fault>(i);
    for (const Dialect dialect : {Dialect::kOpenAi, Dialect::kAnthropic}) {
      const HttpResponse response = ErrorResponse(dialect, {fault, "why"}, "id");
      EXPECT_GE(response.status, 400);
      const auto body = ParseJson(response.body);
      ASSERT_TRUE(body.ok());
      EXPECT_EQ((*body)["error"]["message"], "why");
      EXPECT_FALSE(GetString((*body)["error"], "type").empty());
    }
  }
  EXPECT_EQ(StatusOf(Dialect::kAnthropic, Fault::kUnavailable), 529);
}

TEST(Faults, RetryAfterIsNeverLongerThanClientsWait) {
  const auto response = ErrorResponse(Dialect::kOpenAi, {Fault::kQueueFull, "full", "", 1e6}, "id");
  EXPECT_EQ(response.headers[0], (std::pair<std::string, std::string>("Retry-After", "60")));
}

TEST(Rates, AMinutesWorthMayComeAtOnceAndThenEvenly) {
  RequestRates rates;
  for (int i = 0; i < 6; ++i) EXPECT_EQ(rates.Take("alice", 6, 100.0), 0.0) << i;
  EXPECT_DOUBLE_EQ(rates.Take("alice", 6, 100.0), 10.0);
  EXPECT_EQ(rates.Take("bob", 6, 100.0), 0.0);  // each has its own
  EXPECT_DOUBLE_EQ(rates.Take("alice", 6, 104.0), 6.0);  // a refusal costs nothing
  EXPECT_EQ(rates.Take("alice", 6, 110.0), 0.0);
  EXPECT_GT(rates.Take("alice", 6, 110.0), 9.0);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(rates.Take("alice", 6, 9999.0), 0.0) << i;
  EXPECT_GT(rates.Take("alice", 6, 9999.0), 0.0);  // nothing is saved up
}

TEST(Keys, AreFoundByTheirHashOnly) {
  const auto keys = Keys::Parse(
      "# a comment\n\n"
      "alice 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n"  // "test"
      "bob\t60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752 weight=0.5 "
      "running=2 rpm=30\n");
  ASSERT_TRUE(keys.ok());
  EXPECT_EQ(keys->Find("test"), "alice");
  EXPECT_EQ(keys->Find("test2"), "bob");
  EXPECT_EQ(keys->Find("tes"), "");
  EXPECT_EQ(keys->Find(""), "");
  EXPECT_EQ(keys->tenants().at("bob").limits.weight, 0.5);
  EXPECT_EQ(keys->tenants().at("bob").limits.running_max, 2);
  EXPECT_EQ(keys->tenants().at("bob").per_minute, 30);
  EXPECT_EQ(keys->tenants().at("alice").per_minute, 0);  // as many as come
}

TEST(Keys, ABadLineIsNamed) {
  for (const char* bad :
       {"alice", "alice xyz",
        "a 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 x=1"}) {
    const auto keys = Keys::Parse(std::string("\n") + bad + "\n");
    ASSERT_FALSE(keys.ok());
    EXPECT_NE(keys.error().message().find("line 2"), std::string::npos);
  }
}

}  // namespace
}  // namespace lode::serve
