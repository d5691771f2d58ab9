// What a client makes of an answer in each dialect: streams are joined, promises of the protocol
// are checked on the way, and the outcome has one shape for all dialects.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/text.h"

namespace lode::testing {

struct ReadCall {
  std::string id, name;
  std::string arguments;  // JSON text
};

struct ReadAnswer {
  std::string reasoning, content;
  std::vector<ReadCall> calls;
  std::string finish;  // stop, length, tool_calls, cancelled

  // One text for comparing. What arguments mean, not how they are spelt.
  std::string Text() const {
    Json all = {{"reasoning", reasoning}, {"content", content}, {"finish", finish}};
    all["calls"] = Json::array();
    for (const ReadCall& call : calls) {
      const auto json = ParseJson(call.arguments);
      EXPECT_TRUE(json.ok()) << call.arguments;
      all["calls"].push_back(
          {{"id", call.id}, {"name", call.name}, {"arguments", json.ok() ? *json : Json()}});
    }
    return DumpJson(all);
  }
};

// The data of a stream's events, each whole and JSON; where an event has a name, it is its type.
inline std::vector<Json> Events(const std::string& stream) {
  std::vector<Json> events;
  std::string name;
  for (const std::string& line : Split(stream, '\n')) {
    if (line.starts_with("event: ")) name = line.substr(7);
    if (!line.starts_with("data: ") || line == "data: [DONE]") continue;
    auto json = ParseJson(std::string_view(line).substr(6));
    EXPECT_TRUE(json.ok()) << line;
    if (!json.ok()) continue;
    if (!name.empty()) {
      EXPECT_EQ(GetString(*json, "type"), name);
    }
    events.push_back(std::move(*json));
    name.clear();
  }
  return events;
}

// --- Chat Completions ----------------------------------------------------------------------------

inline ReadAnswer ReadChatStream(const std::string& stream) {
  ReadAnswer answer;
  std::set<std::string> ids;
  EXPECT_TRUE(stream.ends_with("data: [DONE]\n\n"));
  for (const Json& event : Events(stream)) {
    EXPECT_TRUE(answer.finish.empty());
    const Json& choice = event["choices"][0];
    const Json& delta = choice["delta"];
    answer.content += GetString(delta, "content");
    answer.reasoning += GetString(delta, "reasoning_content");
    if (choice["finish_reason"].is_string()) answer.finish = choice["finish_reason"];
    const Json* list = FindKey(delta, "tool_calls");
    if (list == nullptr) continue;
    for (const Json& call : *list) {
      const auto index = call["index"].get<size_t>();
      const bool first = index == answer.calls.size();
      EXPECT_LE(index, answer.calls.size());
      EXPECT_EQ(call.contains("id"), first);
      EXPECT_EQ(call["function"].contains("name"), first);
      if (first) {
        answer.calls.push_back({call["id"], call["function"]["name"], ""});
        EXPECT_TRUE(ids.insert(answer.calls.back().id).second);
      }
      answer.calls[index].arguments += GetString(call["function"], "arguments");
    }
  }
  if (answer.finish == "abort") answer.finish = "cancelled";
  return answer;
}

inline ReadAnswer ReadChatWhole(const std::string& body) {
  ReadAnswer answer;
  const auto json = ParseJson(body);
  EXPECT_TRUE(json.ok());
  if (!json.ok()) return answer;
  const Json& choice = (*json)["choices"][0];
  const Json& message = choice["message"];
  answer.content = GetString(message, "content");
  answer.reasoning = GetString(message, "reasoning_content");
  answer.finish = choice["finish_reason"];
  if (answer.finish == "abort") answer.finish = "cancelled";
  if (const Json* calls = FindKey(message, "tool_calls"); calls != nullptr) {
    for (const Json& call : *calls) {
      answer.calls.push_back(
          {call["id"], call["function"]["name"], call["function"]["arguments"]});
    }
  }
  return answer;
}

// --- Messages ------------------------------------------------------------------------------------

inline std::string FinishOfMessage(const std::string& stop) {
  if (stop == "tool_use") return "tool_calls";
  return stop == "max_tokens" ? "length" : "stop";
}

inline ReadAnswer ReadMessageStream(const std::string& stream) {
  ReadAnswer answer;
  std::string open;
  int index = -1;
  bool ended = false;
  for (const Json& event : Events(stream)) {
    EXPECT_FALSE(ended);
    const std::string type = event["type"];
    if (type == "content_block_start") {
      EXPECT_TRUE(open.empty());
      EXPECT_EQ(event["index"], ++index);
      const Json& block = event["content_block"];
      open = block["type"];
      if (open == "tool_use") answer.calls.push_back({block["id"], block["name"], ""});
    } else if (type == "content_block_delta") {
      EXPECT_EQ(event["index"], index);
      answer.content += GetString(event["delta"], "text");
      answer.reasoning += GetString(event["delta"], "thinking");
      if (open == "tool_use") {
        answer.calls.back().arguments += GetString(event["delta"], "partial_json");
      }
    } else if (type == "content_block_stop") {
      open.clear();
    } else if (type == "message_delta") {
      EXPECT_TRUE(open.empty());
      answer.finish = FinishOfMessage(event["delta"]["stop_reason"]);
    }
    ended = type == "message_stop";
  }
  EXPECT_TRUE(ended);
  return answer;
}

inline ReadAnswer ReadMessageWhole(const std::string& body) {
  ReadAnswer answer;
  const auto json = ParseJson(body);
  EXPECT_TRUE(json.ok());
  if (!json.ok()) return answer;
  for (const Json& block : (*json)["content"]) {
    answer.reasoning += GetString(block, "thinking");
    answer.content += GetString(block, "text");
    if (block["type"] != "tool_use") continue;
    answer.calls.push_back({block["id"], block["name"], DumpJson(block["input"])});
  }
  answer.finish = FinishOfMessage((*json)["stop_reason"]);
  return answer;
}

// --- Responses -----------------------------------------------------------------------------------

inline ReadAnswer ReadResponse(const Json& response) {
  ReadAnswer answer;
  bool whole = true;
  for (const Json& item : response["output"]) {
    const std::string type = item["type"];
    if (type == "function_call") {
      answer.calls.push_back({item["call_id"], item["name"], item["arguments"]});
      whole &= item["status"] == "completed";
    } else {
      for (const Json& part : item["content"]) {
        (type == "reasoning" ? answer.reasoning : answer.content) += GetString(part, "text");
      }
    }
  }
  const std::string status = response["status"];
  answer.finish = status == "incomplete"                   ? "length"
                  : status == "cancelled"                  ? "cancelled"
                  : status != "completed"                  ? "failed"
                  : !answer.calls.empty() && whole         ? "tool_calls"
                                                           : "stop";
  return answer;
}

inline ReadAnswer ReadResponseWhole(const std::string& body) {
  const auto json = ParseJson(body);
  EXPECT_TRUE(json.ok());
  return json.ok() ? ReadResponse(*json) : ReadAnswer();
}

// Joins the deltas of the open item, and compares them with what is said when it is done.
class ResponseItemReader {
 public:
  void Add(const Json& event) {
    const std::string type = event["type"];
    if (type == "response.output_item.added") {
      EXPECT_TRUE(open_.is_null());
      EXPECT_EQ(event["output_index"], done_.size());
      open_ = event["item"];
      EXPECT_EQ(open_["status"], "in_progress");
      text_.clear();
      return;
    }
    if (type == "response.output_item.done") return End(event);
    EXPECT_EQ(event["item_id"], open_["id"]) << type;
    EXPECT_EQ(event["output_index"], done_.size()) << type;
    if (type.ends_with(".delta")) text_ += event["delta"].get_ref<const std::string&>();
    if (type == "response.output_text.done" || type == "response.reasoning_text.done") {
      EXPECT_EQ(event["text"], text_);
    }
    if (type == "response.function_call_arguments.done") {
      EXPECT_EQ(event["arguments"], text_);
      EXPECT_EQ(event["name"], open_["name"]);
    }
  }
  const Json& done() const { return done_; }
  bool open() const { return !open_.is_null(); }

 private:
  void End(const Json& event) {
    const Json& item = event["item"];
    EXPECT_EQ(event["output_index"], done_.size());
    EXPECT_EQ(item["id"], open_["id"]);
    EXPECT_EQ(item["type"], open_["type"]);
    const std::string kind = item["type"];
    if (kind == "function_call") {
      EXPECT_EQ(item["arguments"], text_);
      EXPECT_EQ(item["call_id"], open_["call_id"]);
    } else {
      EXPECT_EQ(item["content"][0]["text"], text_);
    }
    done_.push_back(item);
    open_ = nullptr;
  }

  Json open_, done_ = Json::array();
  std::string text_;
};

inline ReadAnswer ReadResponseStream(const std::string& stream) {
  ReadAnswer answer;
  ResponseItemReader items;
  int64_t sequence = 0;
  std::string id;
  for (const Json& event : Events(stream)) {
    EXPECT_TRUE(answer.finish.empty());  // nothing comes behind the end
    EXPECT_EQ(event["sequence_number"], sequence);
    const std::string type = event["type"];
    if (const Json* response = FindKey(event, "response"); response != nullptr) {
      if (sequence == 0) id = (*response)["id"];
      EXPECT_EQ((*response)["id"], id);
      if (sequence < 2) {
        EXPECT_EQ(type, sequence == 0 ? "response.created" : "response.in_progress");
      } else {
        EXPECT_FALSE(items.open());
        EXPECT_EQ((*response)["output"], items.done());
        answer = ReadResponse(*response);
        EXPECT_EQ(type, answer.finish == "failed" ? "response.failed"
                        : answer.finish == "length" || answer.finish == "cancelled"
                            ? "response.incomplete"
                            : "response.completed");
      }
    } else {
      EXPECT_GE(sequence, 2);
      items.Add(event);
    }
    ++sequence;
  }
  EXPECT_FALSE(answer.finish.empty());
  return answer;
}

// --- Completions ---------------------------------------------------------------------------------

inline std::string ReadCompletionStream(const std::string& stream) {
  std::string text;
  for (const Json& event : Events(stream)) text += GetString(event["choices"][0], "text");
  return text;
}

}  // namespace lode::testing
