// Records become examples: text through the checkpoint's own template and tokenizer, with weights
// that say what is taught. Everything is deterministic: templates see a fixed date.
// Threads: const calls are free for all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/template/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "tune/data/example.h"
#include "tune/data/record.h"
#include "tune/data/script.h"

namespace lode::tune {

enum class Supervise {
  kAuto,           // text: all; completions: the completion; chats: the assistant
  kAll,            // every token
  kCompletion,     // what is not the prompt; of a chat what the assistant says
  kAssistant,      // what the assistant says, of completions in messages, too
  kLastAssistant,  // its last turn alone
};
// Errors: kBadInput that lists the names.
Result<Supervise> ParseSupervise(const std::string& name);

struct EncoderOptions {
  Supervise supervise = Supervise::kAuto;
  bool mask_thinking = false;       // traces are read, not taught; the tag that closes them is
  bool special_in_text = false;     // control tokens spelled in plain text are control tokens
  bool special_in_input = true;     // the same for messages, as when answering
  Json variables = Json::object();  // of the template, for every conversation
  text::CivilTime now = {2025, 6, 28, 12, 0, 0, 0};  // that templates see
};

// What a checkpoint says about its text. Life: tokenizer and template outlive the encoder.
struct TextSide {
  const text::Tokenizer* tokenizer = nullptr;
  const text::ChatTemplate* chat_template = nullptr;  // null: none; messages are refused
  std::string bos, eos;                               // as the template wants them
  std::vector<int32_t> stop_ids;                      // beside the tokenizer's own
};

// Two answers to a prompt. Each is as many sequences as the template needs (script.h); an answer's
// log-probability is the sum over them.
struct Preference {
  std::vector<Example> chosen, rejected;
};

// A prompt to answer, and what its judge is told.
struct Task {
  std::vector<int32_t> prompt;
  std::string prompt_text;
  std::string environment;
  Json task;
  Json messages;  // empty when the prompt is plain text
  Json tools;
};

class Encoder {
 public:
  // Errors: a tokenizer without the tokens that texts need.
  static Result<Encoder> Make(const TextSide& side, const EncoderOptions& options);

  // Text, chats, completions (unpaired ones, too) and tokens; other kinds are an error. Remarks are
  // added to `remarks`.
  Result<std::vector<Example>> Encode(const DataRecord& record, Remarks* remarks) const;
  Result<Preference> EncodePreference(const DataRecord& record, Remarks* remarks) const;
  Result<Task> EncodeTask(const DataRecord& record, Remarks* remarks) const;

  const text::Tokenizer& tokenizer() const { return *side_.tokenizer; }

 private:
  Encoder() = default;
  Result<std::vector<Example>> EncodeText(const std::string& text) const;
  Result<std::vector<Example>> EncodeCompletion(const std::string& prompt,
                                                const std::string& completion) const;
  Result<std::vector<Example>> EncodeWords(const DataRecord& record, const Words& prompt,
                                           const Words& answer, Remarks* remarks) const;
  Result<std::vector<Example>> EncodeMessages(const Words& words, const DataRecord& record,
                                              size_t first_taught, Remarks* remarks) const;
  Result<Example> EncodeScript(const Script& script, const Words& words, Remarks* remarks) const;
  Result<void> Append(const Script& script, size_t begin, size_t end, float weight,
                      Example* example) const;
  Result<void> MaskThinking(const std::string& taught, const Json& message, size_t first,
                            Example* example) const;
  Result<Example> CheckTokens(Example example) const;
  bool SpellsControlToken(const std::string& text, std::string* which) const;

  TextSide side_;
  EncoderOptions options_;
  ScriptWriter writer_;
  std::vector<int32_t> stop_ids_;
  std::vector<int32_t> before_text_;                // BOS, if the tokenizer adds one
  std::vector<std::vector<std::string>> controls_;  // texts of control tokens by first byte
};

}  // namespace lode::tune
