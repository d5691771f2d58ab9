// A line of a data file, understood. What a line is follows from its keys; a line that could be two
// things is an error, because a run that trains on the wrong half of its data looks like a run.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "tune/data/example.h"
#include "tune/data/messages.h"
#include "tune/data/remark.h"

namespace lode::tune {

enum class RecordKind {
  kText,        // {"text"}
  kChat,        // {"messages", "tools"?}
  kCompletion,  // {"prompt", "completion"}
  kPreference,  // {"prompt"?, "chosen", "rejected"}, or {"input", "preferred_output", ...}
  kUnpaired,    // {"prompt", "completion", "label"}
  kTask,        // {"prompt" | "messages" | "question" | "responses_create_params", ...}
  kTokens,      // {"input_ids", "loss_mask" | "labels"?, "seq_start_id"?}
};
constexpr int kRecordKinds = 7;
const char* Name(RecordKind kind);
// Its answers are to be imitated as they stand; others are compared, judged, or avoided.
bool IsImitated(RecordKind kind);
// Errors: kBadInput that lists the names.
Result<RecordKind> ParseRecordKind(const std::string& name);

struct DataRecord {
  RecordKind kind = RecordKind::kText;
  Words prompt;             // what is given; empty for text and chats
  Words answer;             // what is taught: the text, the whole chat, the completion, the chosen
  Words rejected;           // of a preference
  Json tools;               // null, or the list
  Json variables;           // of the template: "chat_template_kwargs" and the like; an object
  bool label = false;       // kUnpaired: whether the completion is wanted
  std::string environment;  // kTask: who judges the answer; empty: what the run says
  Json task;                // kTask: the line without its prompt, for the judge
  std::optional<double> pass_rate;  // kTask: how often it was solved before
  std::vector<Example> examples;    // kTokens
  Remarks remarks;
};

struct RecordOptions {
  std::optional<RecordKind> as;  // what every line is meant to be, where its keys leave a doubt
};

// Longer lines are refused before they are parsed.
constexpr size_t kLineBytesMax = 64u << 20;

// `line`: JSON of one record. Errors: kBadInput with the reason; the caller knows file and line.
Result<DataRecord> ParseRecord(std::string_view line, const RecordOptions& options = {});
Result<DataRecord> RecordOf(const Json& json, const RecordOptions& options = {});

}  // namespace lode::tune
