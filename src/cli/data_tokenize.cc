// lode data tokenize: records as a shard of tokens, once, for every later run.
#include <memory>
#include <utility>

#include "base/text.h"
#include "cli/console.h"
#include "cli/data.h"
#include "tune/data/shard.h"

namespace lode::cli {
namespace {

struct Flags {
  DataFlags data;
  std::string out;
};

Result<void> RunTokenize(const Flags& flags) {
  LODE_ASSIGN(const tune::ReadOptions options, flags.data.Read());
  LODE_ASSIGN(const DataTools tools, OpenDataTools(flags.data));
  const text::Tokenizer& tokenizer = *tools.text->tokenizer;
  tune::ShardWriter writer(tokenizer.vocab_size(), tune::HashOf(tokenizer));
  tune::Report report;
  LODE_ASSIGN(FileProgress progress, FileProgress::Make("tokenize", flags.data.files));
  const auto add = [&](const tune::Place& place, const tune::Encoded& encoded) -> Result<void> {
    LODE_TRY(progress.Update(place));
    if (!IsImitated(encoded.kind)) {
      report.AddError(place,
                      Error(Code::kBadInput, std::string("a record of kind ") + Name(encoded.kind) +
                                                 " is no document of a shard"));
    }
    for (const tune::Example& example : encoded.examples) {
      const auto added = writer.Add(example);
      if (!added.ok()) report.AddError(place, added.error());
    }
    return {};
  };
  LODE_TRY(tune::ReadData(flags.data.files, *tools.encoder, options, &report, add));
  LODE_TRY(report.Verdict(flags.data.strict));
  LODE_TRY(writer.Write(flags.out));
  if (flags.data.json) {
    Json json = report.ToJson();
    json["documents"] = writer.documents();
    Print(DumpJson(json, 2) + "\n");
  } else {
    Print(report.Text());
    Print(flags.out + ": " + WithThousands(static_cast<uint64_t>(writer.tokens())) + " tokens in " +
          WithThousands(static_cast<uint64_t>(writer.documents())) + " documents\n");
  }
  return {};
}

}  // namespace

void AddDataTokenize(CLI::App* data, Action* action) {
  auto flags = std::make_shared<Flags>();
  const char* const name = "tokenize";
  CLI::App* verb = data->add_subcommand(name, "Write records as a shard of tokens");
  flags->data.AddTo(verb);
  verb->add_option("--out", flags->out, "the shard to write")->required();
  verb->footer(
      "A shard holds every record as a document of token ids, with a bit for each that is taught\n"
      "where not all are. It is written whole or not at all, and only if no record is bad.\n"
      "Example: lode data tokenize texts/ --model demo --out texts.tokens");
  verb->callback([=] { *action = [=] { return RunTokenize(*flags); }; });
}

}  // namespace lode::cli
