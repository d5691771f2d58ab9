// lode data bpe: a tokenizer learnt from text.
#include <algorithm>
#include <memory>

#include "base/file.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/data.h"
#include "tune/data/bpe_trainer.h"

namespace lode::cli {
namespace {

struct Flags {
  std::vector<std::string> files;
  std::string out, as;
  bool json = false, force = false;
  tune::BpeOptions bpe;
};

Result<void> Read(const Flags& flags, tune::BpeTrainer* trainer) {
  tune::RecordOptions options;
  if (!flags.as.empty()) {
    LODE_ASSIGN(options.as, tune::ParseRecordKind(flags.as));
  }
  LODE_ASSIGN(const std::vector<std::string> files, tune::FindDataFiles(flags.files));
  LODE_ASSIGN(FileProgress progress, FileProgress::Make("read", flags.files));
  tune::Report report;
  const auto add = [&](const tune::Place& place,
                       const Result<tune::DataRecord>& record) -> Result<void> {
    LODE_TRY(progress.Update(place));
    if (!record.ok()) {
      report.AddError(place, record.error());
      return {};
    }
    report.AddRecord(record->kind);
    return trainer->AddRecord(*record);
  };
  for (const std::string& file : files) LODE_TRY(tune::VisitRecords(file, options, add));
  return report.Verdict(false);
}

Result<void> RunBpe(Flags& flags) {
  const std::string tokenizer_path = flags.out + "/tokenizer.json";
  if (FileExists(tokenizer_path) && !flags.force) {
    return Error(Code::kBadInput, tokenizer_path + " exists already",
                 "--force replaces it; models made for it would no longer fit");
  }
  auto& special = flags.bpe.special;
  if (flags.bpe.eos.empty()) flags.bpe.eos = special.empty() ? "<|endoftext|>" : special[0];
  if (std::find(special.begin(), special.end(), flags.bpe.eos) == special.end()) {
    special.insert(special.begin(), flags.bpe.eos);
  }
  LODE_ASSIGN(tune::BpeTrainer trainer, tune::BpeTrainer::Make(flags.bpe));
  LODE_TRY(Read(flags, &trainer));
  ProgressBar bar("learn", "tok", flags.bpe.vocabulary);
  LODE_ASSIGN(const tune::BpeVocabulary vocabulary, trainer.Train([&](int64_t tokens) {
    bar.Update(tokens);
    return !Interrupted();
  }));
  bar.Finish();
  LODE_TRY(MakeFolders(flags.out));
  LODE_TRY(WriteFileAtomic(flags.out + "/tokenizer_config.json",
                           DumpJson(trainer.ConfigJson(vocabulary), 2) + "\n"));
  LODE_TRY(WriteFileAtomic(tokenizer_path, DumpJson(trainer.TokenizerJson(vocabulary), 1) + "\n"));
  const auto tokens = static_cast<int64_t>(vocabulary.tokens.size());
  if (flags.json) {
    Print(DumpJson(Json{{"tokens", tokens},
                        {"merges", vocabulary.merges.size()},
                        {"pieces", trainer.pieces()},
                        {"different_pieces", trainer.different_pieces()}},
                   2) +
          "\n");
    return {};
  }
  Print(tokenizer_path + ": " + WithThousands(static_cast<uint64_t>(tokens)) + " tokens, " +
        WithThousands(vocabulary.merges.size()) + " merges, from " +
        WithThousands(static_cast<uint64_t>(trainer.pieces())) + " pieces of text, " +
        WithThousands(static_cast<uint64_t>(trainer.different_pieces())) + " different\n");
  if (tokens < flags.bpe.vocabulary) {
    Print("fewer tokens than asked for: no other pair occurs often enough (--min-count)\n");
  }
  return {};
}

}  // namespace

void AddDataBpe(CLI::App* data, Action* action) {
  auto flags = std::make_shared<Flags>();
  const char* const name = "bpe";
  CLI::App* verb = data->add_subcommand(name, "Learn a byte-level BPE tokenizer from text");
  verb->add_option("FILE", flags->files, "files of data, or folders of them")->required();
  verb->add_option("--vocab", flags->bpe.vocabulary,
                   "tokens, special ones and the 256 bytes included")
      ->required()
      ->check(CLI::Range(int64_t{257}, int64_t{1} << 22));
  verb->add_option("--out", flags->out, "the folder to write tokenizer.json to")->required();
  verb->add_option("--special", flags->bpe.special, "a special token; may be given again")
      ->allow_extra_args(false);
  verb->add_option("--eos", flags->bpe.eos, "the one that ends a text (default: the first)");
  verb->add_option("--regex", flags->bpe.regex,
                   "cuts text into pieces that no token crosses (default: words, each digit alone, "
                   "runs of signs and of blanks)");
  verb->add_option("--min-count", flags->bpe.count_min, "how often a pair must occur")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verb->add_option("--as", flags->as, "what the lines are where their keys leave a doubt");
  verb->add_flag("--force", flags->force, "replace a tokenizer that is there");
  verb->add_flag("--json", flags->json, "JSON");
  verb->footer(
      "Of conversations everything that somebody says is read. The same data gives the same\n"
      "tokenizer, in any order. Lode and Hugging Face's tokenizers load it.\n"
      "Example: lode data bpe texts/ --vocab 8192 --out tokenizer/ --special '<|im_end|>'");
  verb->callback([=] { *action = [=] { return RunBpe(*flags); }; });
}

}  // namespace lode::cli
