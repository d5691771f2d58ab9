// lode data pack: how sequences of different lengths would share the rows of training.
#include <algorithm>
#include <memory>
#include <utility>

#include "base/text.h"
#include "cli/console.h"
#include "cli/data.h"
#include "tune/data/source.h"

namespace lode::cli {
namespace {

struct Flags {
  DataFlags data;
  std::string order = "decreasing", too_long = "truncate";
  tune::PackOptions pack;
};

Result<void> RunPack(Flags& flags) {
  if (flags.data.sequence_max == 0) flags.data.sequence_max = 4096;
  LODE_ASSIGN(tune::ReadOptions options, flags.data.Read());
  LODE_ASSIGN(options.too_long, tune::ParseTooLong(flags.too_long));
  LODE_ASSIGN(flags.pack.order, tune::ParsePackOrder(flags.order));
  flags.pack.rows = flags.data.sequence_max - 1;
  LODE_ASSIGN(const DataTools tools, OpenDataTools(flags.data));
  tune::Report report;
  LODE_ASSIGN(
      std::vector<tune::Example> examples,
      tune::LoadExamples(flags.data.files, *tools.encoder, options, flags.data.strict, &report));
  int64_t rows = 0;
  for (const tune::Example& example : examples) rows += CountRows(example);
  const auto sequences = static_cast<int64_t>(examples.size());
  LODE_ASSIGN(const auto source, tune::MakePacked(std::move(examples), flags.pack));
  const int64_t bins = source->bins_per_epoch();
  const double fill = static_cast<double>(rows) / static_cast<double>(bins * flags.pack.rows);
  if (flags.data.json) {
    Json json = report.ToJson();
    json["packing"] = {{"sequences", sequences},
                       {"bins", bins},
                       {"rows", flags.pack.rows},
                       {"rows_used", rows},
                       {"efficiency", fill}};
    Print(DumpJson(json, 2) + "\n");
    return {};
  }
  Print(report.Text());
  Print("packed     " + source->Summary() +
        Format("; %.1f sequences to a bin\n",
               static_cast<double>(sequences) / static_cast<double>(bins)));
  Print(
      Format("unpacked   a sequence to each bin would be %.1f %% full\n",
             100.0 * static_cast<double>(rows) / static_cast<double>(sequences * flags.pack.rows)));
  return {};
}

}  // namespace

void AddDataPack(CLI::App* data, Action* action) {
  auto flags = std::make_shared<Flags>();
  const char* const name = "pack";
  CLI::App* verb = data->add_subcommand(name, "How full the sequences of a training run would be");
  flags->data.AddTo(verb);
  verb->add_option("--order", flags->order,
                   "decreasing: first-fit-decreasing; shuffled: first-fit in shuffled order");
  verb->add_option("--window", flags->pack.window, "sequences that are packed together")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_option("--too-long", flags->too_long,
                   "what becomes of longer ones: truncate (texts are split), drop");
  verb->add_option("--seed", flags->pack.seed, "of the order");
  verb->footer(
      "Sequences that share a bin see nothing of each other. --length is the tokens of a bin "
      "(4096).\n"
      "Example: lode data pack chats.jsonl --model demo --length 8192");
  verb->callback([=] { *action = [=] { return RunPack(*flags); }; });
}

}  // namespace lode::cli
