#include "tune/data/encode.h"

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace lode::tune {
namespace {

constexpr std::pair<Supervise, const char*> kSupervise[] = {
    {Supervise::kAuto, "auto"},
    {Supervise::kAll, "all"},
    {Supervise::kCompletion, "completion"},
    {Supervise::kAssistant, "assistant"},
    {Supervise::kLastAssistant, "last-assistant"}};

void AppendIds(const std::vector<int32_t>& ids, float weight, Example* example) {
  for (const int32_t id : ids) {
    example->tokens.push_back(id);
    example->weights.push_back(example->tokens.size() == 1 ? 0.0f : weight);
  }
}

void Join(const Words& more, Words* words) {
  for (const Json& message : more.messages) words->messages.push_back(message);
  words->weights.insert(words->weights.end(), more.weights.begin(), more.weights.end());
}

// Where an answer's trace lies in its text: up to the tag that closes it, or where the
// words of the message's reasoning stand.
text::ByteSpan ThinkingIn(const std::string& taught, const Json& message) {
  const size_t closed = taught.find("</think>");
  if (closed != std::string::npos) {
    const size_t opened = taught.find("<think>");
    return {opened < closed ? opened + std::string_view("<think>").size() : 0, closed};
  }
  for (const char* key : {"reasoning_content", "reasoning", "thinking"}) {
    const std::string trace = GetString(message, key);
    const size_t first = trace.find_first_not_of(" \t\r\n");
    if (first == std::string::npos) continue;
    const size_t last = trace.find_last_not_of(" \t\r\n");
    const size_t at = taught.find(trace.substr(first, last + 1 - first));
    if (at != std::string::npos) return {at, at + last + 1 - first};
  }
  return {};
}

}  // namespace

Result<Supervise> ParseSupervise(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [value, known] : kSupervise) {
    if (name == known) return value;
    names.push_back(known);
  }
  return Error(Code::kBadInput, "nothing is supervised as " + Quote(name),
               "choices: " + lode::Join(names, ", "));
}

Result<Encoder> Encoder::Make(const TextSide& side, const EncoderOptions& options) {
  Encoder encoder;
  encoder.side_ = side;
  encoder.options_ = options;
  const text::Tokenizer& tokenizer = *side.tokenizer;
  if (!tokenizer.eos_id()) {
    return Error(Code::kUnsupported, "the tokenizer names no EOS, so texts would have no end",
                 "set \"eos_token\" in tokenizer_config.json");
  }
  LODE_ASSIGN(const std::vector<int32_t> around, tokenizer.Encode("", {.add_special = true}));
  if (!around.empty() && tokenizer.bos_id() == around[0]) encoder.before_text_ = {around[0]};
  encoder.stop_ids_ = side.stop_ids;
  const auto& own = tokenizer.stop_ids();
  encoder.stop_ids_.insert(encoder.stop_ids_.end(), own.begin(), own.end());
  ScriptWriter& writer = encoder.writer_;
  writer.chat_template = side.chat_template;
  writer.bos = side.bos;
  writer.eos = side.eos;
  writer.now = options.now;
  writer.variables = options.variables;
  for (const int32_t id : encoder.stop_ids_) {
    if (tokenizer.Has(id)) writer.stop_texts.emplace_back(tokenizer.TokenText(id));
  }
  encoder.controls_.resize(256);
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.IsSpecial(id) || tokenizer.TokenText(id).empty()) continue;
    const std::string text(tokenizer.TokenText(id));
    encoder.controls_[static_cast<unsigned char>(text[0])].push_back(text);
  }
  return encoder;
}

Result<Example> Encoder::CheckTokens(Example example) const {
  for (const int32_t id : example.tokens) {
    if (!side_.tokenizer->Has(id)) {
      return Error(Code::kBadInput, Format("the model has no token %d", id),
                   "these ids are another tokenizer's");
    }
  }
  return example;
}

bool Encoder::SpellsControlToken(const std::string& text, std::string* which) const {
  for (size_t at = 0; at < text.size(); ++at) {
    for (const std::string& control : controls_[static_cast<unsigned char>(text[at])]) {
      if (text.compare(at, control.size(), control) != 0) continue;
      *which = control;
      return true;
    }
  }
  return false;
}

// --- Text without a template. -------------------------------------------------------------------

Result<std::vector<Example>> Encoder::EncodeText(const std::string& text) const {
  Example example;
  LODE_ASSIGN(const std::vector<int32_t> ids,
              side_.tokenizer->Encode(text, {.recognise_special = options_.special_in_text}));
  AppendIds(before_text_, 0.0f, &example);
  AppendIds(ids, 1.0f, &example);
  AppendIds({*side_.tokenizer->eos_id()}, 1.0f, &example);
  return std::vector<Example>{std::move(example)};
}

Result<std::vector<Example>> Encoder::EncodeCompletion(const std::string& prompt,
                                                       const std::string& completion) const {
  Example example;
  LODE_ASSIGN(const std::vector<int32_t> given, side_.tokenizer->Encode(prompt));
  LODE_ASSIGN(const std::vector<int32_t> taught, side_.tokenizer->Encode(completion));
  AppendIds(before_text_, 0.0f, &example);
  AppendIds(given, options_.supervise == Supervise::kAll ? 1.0f : 0.0f, &example);
  AppendIds(taught, 1.0f, &example);
  // Prompts in a dialect of their own may end the turn themselves.
  const bool ended = !taught.empty() && std::find(stop_ids_.begin(), stop_ids_.end(),
                                                  taught.back()) != stop_ids_.end();
  if (!ended) AppendIds({*side_.tokenizer->eos_id()}, 1.0f, &example);
  return std::vector<Example>{std::move(example)};
}

// --- Messages. ----------------------------------------------------------------------------------

// Bytes [begin, end) of a script. Control tokens count where the template wrote them, and in what
// came from the record only if that is wanted.
Result<void> Encoder::Append(const Script& script, size_t begin, size_t end, float weight,
                             Example* example) const {
  const auto add = [&](size_t from, size_t to, bool special) -> Result<void> {
    if (from >= to) return {};
    LODE_ASSIGN(const std::vector<int32_t> ids,
                side_.tokenizer->Encode(std::string_view(script.text).substr(from, to - from),
                                        {.recognise_special = special}));
    AppendIds(ids, weight, example);
    return {};
  };
  if (options_.special_in_input) return add(begin, end, true);
  size_t at = begin;
  for (const text::ByteSpan& span : script.input_spans) {
    if (span.end <= at || span.begin >= end) continue;
    const size_t from = std::max(span.begin, at), to = std::min(span.end, end);
    LODE_TRY(add(at, from, true));
    LODE_TRY(add(from, to, false));
    at = to;
  }
  return add(at, end, true);
}

// Labels from `first` on are the tokens of `taught`: those that lie in the trace count nothing.
Result<void> Encoder::MaskThinking(const std::string& taught, const Json& message, size_t first,
                                   Example* example) const {
  const text::ByteSpan trace = ThinkingIn(taught, message);
  if (trace.begin >= trace.end) return {};
  size_t at = 0;
  for (size_t t = first; t < example->tokens.size(); ++t) {
    const size_t bytes = side_.tokenizer->TokenBytes(example->tokens[t]).size();
    if (at < trace.end && at + bytes > trace.begin) example->weights[t] = 0;
    at += bytes;
  }
  if (at != taught.size()) {
    return Error(Code::kUnsupported,
                 "this tokenizer changes text, so thinking cannot be masked to the token");
  }
  return {};
}

Result<Example> Encoder::EncodeScript(const Script& script, const Words& words,
                                      Remarks* remarks) const {
  Example example;
  size_t at = 0;
  for (const TaughtSpan& span : script.taught) {
    LODE_TRY(Append(script, at, span.begin, 0.0f, &example));
    const size_t first = example.tokens.size();
    LODE_TRY(Append(script, span.begin, span.end, span.weight, &example));
    if (!span.ended) {
      remarks->push_back(
          {RemarkKind::kNoEndOfTurn,
           Format("messages[%zu]: the template writes no token that ends the turn", span.message)});
    }
    if (options_.mask_thinking) {
      LODE_TRY(MaskThinking(script.text.substr(span.begin, span.end - span.begin),
                            words.messages[span.message], first, &example));
    }
    at = span.end;
  }
  // What stands behind the last answer is nobody's prompt.
  if (script.taught.empty()) LODE_TRY(Append(script, 0, script.text.size(), 1.0f, &example));
  return example;
}

Result<std::vector<Example>> Encoder::EncodeMessages(const Words& words, const DataRecord& record,
                                                     size_t first_taught, Remarks* remarks) const {
  if (side_.chat_template == nullptr) {
    return Error(Code::kUnsupported, "the model has no chat template that works",
                 "train on prompt and completion as text, or add chat_template.jinja");
  }
  size_t index = 0;
  for (const Json& message : words.messages) {
    std::string which;
    const std::string role = GetString(message, "role");
    if (role != "assistant" && SpellsControlToken(GetString(message, "content"), &which)) {
      remarks->push_back({RemarkKind::kControlToken,
                          Format("messages[%zu]: the %s spells ", index, role.c_str()) + which});
    }
    ++index;
  }
  std::vector<Script> scripts;
  if (options_.supervise == Supervise::kAll) {
    Json variables = options_.variables;
    variables.update(record.variables);
    LODE_ASSIGN(Script script, writer_.WriteWhole(words.messages, record.tools, variables, false));
    scripts.push_back(std::move(script));
  } else {
    LODE_ASSIGN(scripts, writer_.Write(words, record.tools, record.variables, first_taught,
                                       options_.supervise == Supervise::kLastAssistant));
  }
  std::vector<Example> examples;
  for (const Script& script : scripts) {
    LODE_ASSIGN(Example example, EncodeScript(script, words, remarks));
    examples.push_back(std::move(example));
  }
  return examples;
}

Result<std::vector<Example>> Encoder::EncodeWords(const DataRecord& record, const Words& prompt,
                                                  const Words& answer, Remarks* remarks) const {
  if (answer.is_text) return EncodeCompletion(prompt.text, answer.text);
  Words words = prompt;
  Join(answer, &words);
  return EncodeMessages(words, record, prompt.messages.size(), remarks);
}

Result<std::vector<Example>> Encoder::Encode(const DataRecord& record, Remarks* remarks) const {
  std::vector<Example> examples;
  switch (record.kind) {
    case RecordKind::kText: {
      LODE_ASSIGN(examples, EncodeText(record.answer.text));
      break;
    }
    case RecordKind::kChat:
    case RecordKind::kCompletion:
    case RecordKind::kUnpaired: {
      LODE_ASSIGN(examples, EncodeWords(record, record.prompt, record.answer, remarks));
      break;
    }
    case RecordKind::kTokens:
      for (const Example& example : record.examples) {
        LODE_ASSIGN(Example checked, CheckTokens(example));
        examples.push_back(std::move(checked));
      }
      break;
    default:
      return Error(Code::kBadInput,
                   std::string("a record of kind ") + Name(record.kind) + " has no text to imitate",
                   "preferences are for dpo, tasks for grpo");
  }
  const bool taught = std::any_of(examples.begin(), examples.end(), [](const Example& example) {
    return CountSupervised(example) > 0;
  });
  if (!taught) remarks->push_back({RemarkKind::kNothingSupervised, "no token is supervised"});
  return examples;
}

Result<Preference> Encoder::EncodePreference(const DataRecord& record, Remarks* remarks) const {
  if (record.kind != RecordKind::kPreference) {
    return Error(Code::kBadInput, std::string("a record of kind ") + Name(record.kind) +
                                      " is no pair of a chosen and a rejected answer");
  }
  Preference pair;
  LODE_ASSIGN(pair.chosen, EncodeWords(record, record.prompt, record.answer, remarks));
  LODE_ASSIGN(pair.rejected, EncodeWords(record, record.prompt, record.rejected, remarks));
  return pair;
}

Result<Task> Encoder::EncodeTask(const DataRecord& record, Remarks* remarks) const {
  if (record.kind != RecordKind::kTask) {
    return Error(Code::kBadInput,
                 std::string("a record of kind ") + Name(record.kind) + " is no task");
  }
  Task task;
  task.environment = record.environment;
  task.task = record.task;
  task.tools = record.tools;
  Example example;
  Script script;
  if (record.prompt.is_text) {
    script.text = record.prompt.text;
    AppendIds(before_text_, 0.0f, &example);
  } else {
    if (side_.chat_template == nullptr) {
      return Error(Code::kUnsupported, "the model has no chat template that works",
                   "write the prompt as text, or add chat_template.jinja");
    }
    Json variables = options_.variables;
    variables.update(record.variables);
    task.messages = record.prompt.messages;
    LODE_ASSIGN(script, writer_.WriteWhole(task.messages, record.tools, variables, true));
  }
  LODE_TRY(Append(script, 0, script.text.size(), 0.0f, &example));
  if (example.tokens.empty()) {
    remarks->push_back({RemarkKind::kNothingSupervised, "the prompt has no tokens"});
  }
  task.prompt = std::move(example.tokens);
  task.prompt_text = std::move(script.text);
  return task;
}

}  // namespace lode::tune
