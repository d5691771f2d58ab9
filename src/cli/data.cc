// lode data: what training reads, looked at and prepared.
#include "cli/data.h"

#include <utility>

#include "base/file.h"
#include "base/text.h"

namespace lode::cli {

void DataFlags::AddTo(CLI::App* verb) {
  verb->add_option("FILE", files, "files of data, or folders of them")->required();
  verb->add_option("--model", model, "whose tokenizer and chat template")->required();
  verb->add_option("--as", as,
                   "what the lines are where their keys leave a doubt: text, chat, completion, "
                   "preference, unpaired, task, tokens");
  verb->add_option("--supervise", supervise,
                   "what is taught: auto, all, completion, assistant, last-assistant");
  verb->add_flag("--mask-thinking", mask_thinking, "traces are read, not taught");
  verb->add_option("--variables", variables, "JSON: variables of the template");
  verb->add_flag("--special-in-text", special_in_text,
                 "control tokens spelled in plain text count as such");
  verb->add_flag("--plain-input", plain_input, "control tokens spelled in messages stay letters");
  verb->add_option("--length", sequence_max, "tokens of a sequence; longer ones are remarked upon")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 30));
  verb->add_flag("--strict", strict, "remarks are errors");
  verb->add_flag("--json", json, "JSON");
}

Result<tune::ReadOptions> DataFlags::Read() const {
  tune::ReadOptions options;
  options.sequence_max = sequence_max;
  if (!as.empty()) {
    LODE_ASSIGN(options.record.as, tune::ParseRecordKind(as));
  }
  return options;
}

Result<DataTools> OpenDataTools(const DataFlags& flags) {
  tune::EncoderOptions options;
  LODE_ASSIGN(options.supervise, tune::ParseSupervise(flags.supervise));
  options.mask_thinking = flags.mask_thinking;
  options.special_in_text = flags.special_in_text;
  options.special_in_input = !flags.plain_input;
  if (!flags.variables.empty()) {
    LODE_ASSIGN(options.variables, ParseJson(flags.variables));
    if (!options.variables.is_object()) {
      return Error(Code::kBadInput, "--variables is no JSON object",
                   "as in --variables '{\"enable_thinking\": false}'");
    }
  }
  LODE_ASSIGN(const auto source, api::OpenSource(flags.model));
  LODE_ASSIGN(api::TextTools opened, api::OpenText(*source));
  DataTools tools;
  tools.text = std::make_unique<api::TextTools>(std::move(opened));
  LODE_ASSIGN(tune::Encoder encoder,
              tune::Encoder::Make({.tokenizer = tools.text->tokenizer.get(),
                                   .chat_template = tools.text->chat_template.get(),
                                   .bos = tools.text->bos,
                                   .eos = tools.text->eos,
                                   .stop_ids = tools.text->stop_ids},
                                  options));
  tools.encoder = std::make_unique<tune::Encoder>(std::move(encoder));
  return tools;
}

Result<FileProgress> FileProgress::Make(const std::string& label,
                                        const std::vector<std::string>& paths) {
  LODE_ASSIGN(const std::vector<std::string> files, tune::FindDataFiles(paths));
  uint64_t bytes = 0;
  for (const std::string& file : files) {
    LODE_ASSIGN(const uint64_t size, FileSize(file));
    bytes += size;
  }
  FileProgress progress;
  progress.bar_ = std::make_unique<ProgressBar>(label, "B", static_cast<int64_t>(bytes));
  return progress;
}

Result<void> FileProgress::Update(const tune::Place& place) {
  if (Interrupted()) return InterruptedError();
  if (place.file != file_) {
    before_ += size_;
    file_ = place.file;
  }
  size_ = place.bytes;
  bar_->Update(before_ + size_);
  return {};
}

void AddData(CLI::App& app, Action* action) {
  CLI::App* verb = app.add_subcommand(
      "data", "Data for training: look at it, prepare it, make a tokenizer for it");
  verb->require_subcommand(1);
  verb->footer(
      "A record is a line of JSON: {\"text\"}, {\"messages\", \"tools\"}, {\"prompt\", "
      "\"completion\"},\n"
      "{\"prompt\", \"chosen\", \"rejected\"}, a task for reinforcement, or {\"input_ids\"}; .txt "
      "and .md\n"
      "files are texts. What a line is follows from its keys.\n"
      "  lode data inspect chats.jsonl --model demo         which tokens are taught, and what is "
      "odd\n"
      "  lode data pack chats.jsonl --model demo --length 4096      how full sequences would be\n"
      "  lode data tokenize texts/ --model demo --out texts.tokens  once, for every later run\n"
      "  lode data bpe texts/ --vocab 8192 --out tokenizer/         a tokenizer of your own");
  AddDataInspect(verb, action);
  AddDataTokenize(verb, action);
  AddDataPack(verb, action);
  AddDataBpe(verb, action);
}

}  // namespace lode::cli
