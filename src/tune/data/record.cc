#include "tune/data/record.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "base/text.h"
#include "tune/data/convert.h"

namespace lode::tune {
namespace {

constexpr std::pair<RecordKind, const char*> kNames[] = {{RecordKind::kText, "text"},
                                                         {RecordKind::kChat, "chat"},
                                                         {RecordKind::kCompletion, "completion"},
                                                         {RecordKind::kPreference, "preference"},
                                                         {RecordKind::kUnpaired, "unpaired"},
                                                         {RecordKind::kTask, "task"},
                                                         {RecordKind::kTokens, "tokens"}};
static_assert(std::size(kNames) == kRecordKinds);

// Keys that only a task has beside its prompt.
constexpr const char* kTaskKeys[] = {"environment", "expected_answer", "metadata", "pass_rate"};

bool HasAny(const Json& json, std::initializer_list<const char*> keys) {
  return std::any_of(keys.begin(), keys.end(), [&](const char* key) { return json.contains(key); });
}

bool IsTask(const Json& json) {
  return std::any_of(std::begin(kTaskKeys), std::end(kTaskKeys),
                     [&](const char* key) { return json.contains(key); });
}

Error Wrong(const std::string& what, const std::string& hint = "") {
  return Error(Code::kBadInput, what, hint);
}

// --- One function for each shape that a line may have. --------------------------------------

Result<void> ReadText(const Json& json, DataRecord* record) {
  const Json& text = json["text"];
  if (!text.is_string()) return Wrong("\"text\" is not text");
  record->answer.is_text = true;
  record->answer.text = text;
  return {};
}

Result<void> ReadInto(const Json& json, const char* key, DataRecord* record, Words* words) {
  LODE_ASSIGN(*words, ReadWords(json[key], key, record->tools, &record->remarks));
  return {};
}

Result<void> ReadMessages(const Json& messages, const char* key, DataRecord* record, Words* words) {
  if (!messages.is_array()) return Wrong(Format("\"%s\" is not a list of messages", key));
  LODE_ASSIGN(*words, ReadWords(messages, key, record->tools, &record->remarks));
  return {};
}

Result<void> ReadChat(const Json& json, DataRecord* record) {
  LODE_TRY(ReadMessages(json["messages"], "messages", record, &record->answer));
  if (record->answer.empty()) return Wrong("\"messages\" is empty");
  return {};
}

// The prompt of a line whose answers are messages may be plain text: a user said it.
void AlignPrompt(const Words& answer, Words* prompt) {
  if (!prompt->is_text || answer.is_text) return;
  prompt->messages =
      Json::array({Json{{"role", "user"}, {"content", std::exchange(prompt->text, "")}}});
  prompt->weights = {1.0f};
  prompt->is_text = false;
}

Result<void> CheckAlike(const Words& prompt, const Words& answer) {
  if (prompt.is_text != answer.is_text) {
    return Wrong("the prompt is a list of messages and its answer is text",
                 "write both as messages or both as text");
  }
  return {};
}

Result<void> ReadCompletion(const Json& json, DataRecord* record) {
  LODE_TRY(ReadInto(json, "prompt", record, &record->prompt));
  LODE_TRY(ReadInto(json, "completion", record, &record->answer));
  AlignPrompt(record->answer, &record->prompt);
  if (record->answer.empty()) return Wrong("\"completion\" is empty");
  return CheckAlike(record->prompt, record->answer);
}

Result<void> ReadUnpaired(const Json& json, DataRecord* record) {
  const Json& label = json["label"];
  const bool number = label.is_number_integer() && (label == 0 || label == 1);
  if (!label.is_boolean() && !number) return Wrong("\"label\" is neither true nor false");
  record->label = label.is_boolean() ? label.get<bool>() : label == 1;
  return ReadCompletion(json, record);
}

// What two answers begin with alike becomes their prompt. Text parts at a blank, so that a
// word's first letters do not count as given.
void SplitCommonPrompt(DataRecord* record) {
  Words& chosen = record->answer;
  Words& rejected = record->rejected;
  if (chosen.is_text) {
    const auto parted = std::mismatch(chosen.text.begin(), chosen.text.end(), rejected.text.begin(),
                                      rejected.text.end());
    auto same = static_cast<size_t>(parted.first - chosen.text.begin());
    const size_t blank = chosen.text.find_last_of(" \n", same == 0 ? 0 : same - 1);
    same = blank == std::string::npos || same == 0 ? 0 : blank;
    record->prompt.is_text = true;
    record->prompt.text = chosen.text.substr(0, same);
    chosen.text.erase(0, same);
    rejected.text.erase(0, same);
    return;
  }
  const size_t most = std::min(chosen.messages.size(), rejected.messages.size());
  size_t same = 0;
  while (same < most && chosen.messages[same] == rejected.messages[same]) ++same;
  const auto count = static_cast<std::ptrdiff_t>(same);
  Words prompt;
  for (size_t i = 0; i < same; ++i) {
    prompt.messages.push_back(chosen.messages[i]);
    prompt.weights.push_back(chosen.weights[i]);
  }
  record->prompt = std::move(prompt);
  for (Words* words : {&chosen, &rejected}) {
    words->messages.erase(words->messages.begin(), words->messages.begin() + count);
    words->weights.erase(words->weights.begin(), words->weights.begin() + count);
  }
}

Result<void> CheckPreference(const DataRecord& record) {
  if (record.answer.is_text != record.rejected.is_text) {
    return Wrong("one answer is text and the other a list of messages");
  }
  if (record.answer.empty() || record.rejected.empty()) return Wrong("an answer is empty");
  const bool same = record.answer.is_text ? record.answer.text == record.rejected.text
                                          : record.answer.messages == record.rejected.messages;
  if (same) return Wrong("the chosen and the rejected answer are the same");
  return CheckAlike(record.prompt, record.answer);
}

Result<void> ReadPreference(const Json& json, DataRecord* record) {
  if (json.contains("preferred_output")) {
    const Json* input = FindKey(json, "input");
    const Json* messages = input == nullptr ? nullptr : FindKey(*input, "messages");
    if (messages == nullptr) return Wrong("\"input\" has no \"messages\"");
    LODE_ASSIGN(record->tools, ReadTools(*input));
    LODE_TRY(ReadMessages(*messages, "input.messages", record, &record->prompt));
    LODE_TRY(ReadInto(json, "preferred_output", record, &record->answer));
    LODE_TRY(ReadInto(json, "non_preferred_output", record, &record->rejected));
    return CheckPreference(*record);
  }
  LODE_TRY(ReadInto(json, "chosen", record, &record->answer));
  LODE_TRY(ReadInto(json, "rejected", record, &record->rejected));
  if (record->answer.is_text != record->rejected.is_text) return CheckPreference(*record);
  if (json.contains("prompt")) {
    LODE_TRY(ReadInto(json, "prompt", record, &record->prompt));
    AlignPrompt(record->answer, &record->prompt);
    // Some sets repeat the prompt in front of both answers.
    const Words& prompt = record->prompt;
    const auto repeats = [&](const Words& answer) {
      return !prompt.is_text && !prompt.empty() &&
             answer.messages.size() > prompt.messages.size() &&
             std::equal(prompt.messages.begin(), prompt.messages.end(), answer.messages.begin());
    };
    if (repeats(record->answer) && repeats(record->rejected)) SplitCommonPrompt(record);
  } else {
    SplitCommonPrompt(record);
    if (record->prompt.empty()) {
      return Wrong("\"chosen\" and \"rejected\" do not begin alike, and there is no \"prompt\"");
    }
  }
  return CheckPreference(*record);
}

Result<void> ReadTask(const Json& json, DataRecord* record) {
  const char* used = "prompt";
  if (const Json* params = FindKey(json, "responses_create_params")) {
    used = "responses_create_params";
    LODE_ASSIGN(record->tools, ReadTools(*params));
    LODE_ASSIGN(const Json messages, MessagesOfResponses(*params));
    LODE_TRY(ReadMessages(messages, "input", record, &record->prompt));
  } else if (json.contains("messages")) {
    used = "messages";
    LODE_TRY(ReadMessages(json["messages"], used, record, &record->prompt));
  } else {
    used = json.contains("prompt") ? "prompt" : "question";
    LODE_TRY(ReadInto(json, used, record, &record->prompt));
  }
  if (record->prompt.empty()) return Wrong("the task's prompt is empty");
  const Json* environment = FindKey(json, "environment");
  if (environment != nullptr && !environment->is_string()) {
    return Wrong("\"environment\" is not a name");
  }
  record->environment = GetString(json, "environment");
  if (const Json* rate = FindKey(json, "pass_rate"); rate != nullptr && !rate->is_null()) {
    record->pass_rate = rate->is_number() ? rate->get<double>() : -1.0;
    if (!(*record->pass_rate >= 0 && *record->pass_rate <= 1)) {
      return Wrong("\"pass_rate\" is not a number from 0 to 1");
    }
  }
  record->task = Json::object();
  for (const auto& [key, value] : json.items()) {
    if (key != used && key != "tools") record->task[key] = value;
  }
  return {};
}

// Weights of ids: of "loss_mask" (at the positions of labels), or where "labels" repeats the id.
Result<std::vector<float>> WeightsOf(const Json& json, const std::vector<int32_t>& ids) {
  const char* key = json.contains("loss_mask") ? "loss_mask" : "labels";
  std::vector<float> weights(ids.size(), 1.0f);
  const Json* values = FindKey(json, key);
  if (values == nullptr) return weights;
  if (!values->is_array() || values->size() != ids.size()) {
    return Wrong(Format("\"%s\" is not a list as long as \"input_ids\"", key));
  }
  const bool labels = key[0] == 'l' && key[1] == 'a';
  for (size_t t = 0; t < ids.size(); ++t) {
    const Json& value = (*values)[t];
    if (!labels) {
      weights[t] = value.is_number() ? value.get<float>() : value.is_boolean() ? value == true : -1;
    } else if (value.is_number_integer()) {
      weights[t] = value == -100 ? 0.0f : value == ids[t] ? 1.0f : -1.0f;
    } else {
      weights[t] = -1;
    }
    if (!(weights[t] >= 0 && std::isfinite(weights[t]))) {
      return labels ? Wrong(Format("labels[%zu] is neither -100 nor input_ids[%zu]", t, t),
                            "labels stand at their own token's place, not shifted")
                    : Wrong(Format("loss_mask[%zu] is not a weight", t));
    }
  }
  return weights;
}

Result<void> ReadTokens(const Json& json, DataRecord* record) {
  const Json& list = json["input_ids"];
  if (!list.is_array() || list.empty()) return Wrong("\"input_ids\" is not a list of ids");
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    const int64_t value = id.is_number_integer() ? id.get<int64_t>() : -1;
    if (value < 0 || value > INT32_MAX) {
      return Wrong(Format("input_ids[%zu] is not an id of a token", ids.size()));
    }
    ids.push_back(static_cast<int32_t>(value));
  }
  LODE_ASSIGN(const std::vector<float> weights, WeightsOf(json, ids));
  std::vector<size_t> starts = {0};
  if (const Json* found = FindKey(json, "seq_start_id"); found != nullptr && !found->is_null()) {
    if (!found->is_array()) return Wrong("\"seq_start_id\" is not a list");
    for (const Json& start : *found) {
      const int64_t at = start.is_number_integer() ? start.get<int64_t>() : -1;
      if (at == 0 && starts.size() == 1) continue;
      if (at <= static_cast<int64_t>(starts.back()) || at >= static_cast<int64_t>(ids.size())) {
        return Wrong("\"seq_start_id\" does not rise inside the list of ids");
      }
      starts.push_back(static_cast<size_t>(at));
    }
  }
  starts.push_back(ids.size());
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    Example example;
    for (size_t t = starts[i]; t < starts[i + 1]; ++t) {
      example.tokens.push_back(ids[t]);
      example.weights.push_back(t == starts[i] ? 0.0f : weights[t]);
    }
    record->examples.push_back(std::move(example));
  }
  return {};
}

Result<void> ReadConverted(const Json& messages, const char* key, const char* shape,
                           DataRecord* record) {
  record->remarks.push_back({RemarkKind::kConverted, shape});
  return ReadMessages(messages, key, record, &record->answer);
}

Result<void> ReadShareGpt(const Json& json, DataRecord* record) {
  LODE_ASSIGN(const Json messages, MessagesOfShareGpt(json));
  return ReadConverted(messages, "conversations",
                       "the ShareGPT shape: write {\"messages\": [...]} instead", record);
}

Result<void> ReadAlpaca(const Json& json, DataRecord* record) {
  LODE_ASSIGN(const Json messages, MessagesOfAlpaca(json));
  return ReadConverted(messages, "messages",
                       "the Alpaca shape: write {\"messages\": [...]} instead", record);
}

struct Shape {
  RecordKind kind;
  const char* name;
  bool (*fits)(const Json&);
  Result<void> (*read)(const Json&, DataRecord*);
};

constexpr Shape kShapes[] = {
    {RecordKind::kText, "text", [](const Json& j) { return j.contains("text"); }, ReadText},
    {RecordKind::kChat, "chat", [](const Json& j) { return j.contains("messages") && !IsTask(j); },
     ReadChat},
    {RecordKind::kChat, "chat in the ShareGPT shape",
     [](const Json& j) { return j.contains("conversations"); }, ReadShareGpt},
    {RecordKind::kChat, "chat in the Alpaca shape",
     [](const Json& j) { return j.contains("instruction") && j.contains("output"); }, ReadAlpaca},
    {RecordKind::kCompletion, "completion",
     [](const Json& j) { return j.contains("completion") && !j.contains("label"); },
     [](const Json& j, DataRecord* r) {
       return j.contains("prompt") ? ReadCompletion(j, r) : Wrong("there is no \"prompt\"");
     }},
    {RecordKind::kUnpaired, "unpaired",
     [](const Json& j) { return j.contains("completion") && j.contains("label"); },
     [](const Json& j, DataRecord* r) {
       return j.contains("prompt") ? ReadUnpaired(j, r) : Wrong("there is no \"prompt\"");
     }},
    {RecordKind::kPreference, "preference",
     [](const Json& j) {
       return (j.contains("chosen") && j.contains("rejected")) ||
              (j.contains("preferred_output") && j.contains("non_preferred_output"));
     },
     ReadPreference},
    {RecordKind::kTask, "task",
     [](const Json& j) {
       if (j.contains("responses_create_params")) return true;
       if (HasAny(j, {"completion", "chosen", "preferred_output"})) return false;
       return IsTask(j) ? HasAny(j, {"prompt", "messages", "question"}) : j.contains("prompt");
     },
     ReadTask},
    {RecordKind::kTokens, "tokens", [](const Json& j) { return j.contains("input_ids"); },
     ReadTokens},
};

Result<const Shape*> FindShape(const Json& json, const RecordOptions& options) {
  std::vector<const Shape*> fits;
  for (const Shape& shape : kShapes) {
    if (shape.fits(json) && (!options.as || *options.as == shape.kind)) fits.push_back(&shape);
  }
  if (fits.size() == 1) return fits[0];
  std::vector<std::string> names, kinds, keys;
  for (const Shape* shape : fits) {
    names.push_back(shape->name);
    kinds.push_back(Name(shape->kind));
  }
  for (const auto& [key, value] : json.items()) {
    if (keys.size() < 8) keys.push_back(Quote(key, 40));
  }
  if (!fits.empty()) {
    return Wrong("this may be " + Join(names, " or ") + " (keys: " + Join(keys, ", ") + ")",
                 "say what it is with --as KIND: " + Join(kinds, ", "));
  }
  const std::string kind =
      options.as ? std::string("is no ") + Name(*options.as) : "is nothing known";
  return Wrong("a line with the keys " + (keys.empty() ? "(none)" : Join(keys, ", ")) + " " + kind,
               "docs/training-data.md lists what lines may be");
}

}  // namespace

const char* Name(RecordKind kind) {
  for (const auto& [known, name] : kNames) {
    if (known == kind) return name;
  }
  return "";
}

bool IsImitated(RecordKind kind) {
  return kind != RecordKind::kPreference && kind != RecordKind::kUnpaired &&
         kind != RecordKind::kTask;
}

Result<RecordKind> ParseRecordKind(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [kind, known] : kNames) {
    if (name == known) return kind;
    names.push_back(known);
  }
  return Wrong("there are no records of kind " + Quote(name), "kinds: " + Join(names, ", "));
}

Result<DataRecord> RecordOf(const Json& json, const RecordOptions& options) {
  if (!json.is_object()) return Wrong("the line is no JSON object");
  LODE_ASSIGN(const Shape* shape, FindShape(json, options));
  DataRecord record;
  record.kind = shape->kind;
  LODE_ASSIGN(record.tools, ReadTools(json));
  record.variables = Json::object();
  for (const char* key : {"chat_template_kwargs", "parallel_tool_calls", "documents"}) {
    if (json.contains(key)) record.variables[key] = json[key];
  }
  LODE_TRY(shape->read(json, &record));
  return record;
}

Result<DataRecord> ParseRecord(std::string_view line, const RecordOptions& options) {
  if (line.size() > kLineBytesMax) {
    return Wrong("a line of " + HumanBytes(line.size()) + "; at most " + HumanBytes(kLineBytesMax));
  }
  LODE_ASSIGN(const Json json, ParseJson(line, {.depth_max = 64, .python_numbers = true}));
  return RecordOf(json, options);
}

}  // namespace lode::tune
