// lode pack: a model in the form that starts at once.
#include "quant/pack.h"

#include <cstdio>
#include <memory>
#include <optional>

#include "api/open.h"
#include "base/json.h"
#include "base/text.h"
#include "base/topology.h"
#include "cli/console.h"
#include "cli/verbs.h"
#include "quant/convert.h"

namespace lode::cli {
namespace {

struct Flags {
  std::string in, out;
  int threads = 0;
  bool force = false, json = false;
};

// A file that goes when this does.
struct Temporary {
  std::string path;
  ~Temporary() {
    if (!path.empty()) std::remove(path.c_str());
  }
};

Result<void> RunPack(const Flags& flags) {
  const int threads = flags.threads > 0 ? flags.threads : UsableCores();
  LODE_ASSIGN(std::shared_ptr<const tensor::TensorSource> source, api::OpenSource(flags.in));
  Temporary converted;
  if (dynamic_cast<const formats::GgufFile*>(source.get()) == nullptr) {
    // A Hugging Face folder becomes a GGUF first: its names and layouts are what the packed file has.
    quant::ConvertOptions options;
    options.threads = threads;
    options.force = true;
    const std::string path = flags.out + ".converted.gguf";
    options.progress = [](const quant::ConvertProgress&) { return !Interrupted(); };
    converted.path = path;
    auto report = quant::Convert(*source, path, options);
    if (!report.ok()) {
      if (report.error().code() == Code::kCancelled) return InterruptedError();
      return std::move(report).error();
    }
    LODE_ASSIGN(source, api::OpenSource(path));
  }
  const auto* gguf = dynamic_cast<const formats::GgufFile*>(source.get());
  std::optional<ProgressBar> bar;
  auto report =
      quant::Pack(*gguf, flags.out, flags.force, threads, [&](uint64_t done, uint64_t all) {
        constexpr uint64_t kUnit = 1'000'000;
        if (!bar.has_value()) bar.emplace("pack", "MB", static_cast<int64_t>(all / kUnit));
        bar->Update(static_cast<int64_t>(done / kUnit));
        return !Interrupted();
      });
  if (bar.has_value()) bar->Finish();
  if (!report.ok()) {
    if (report.error().code() == Code::kCancelled) return InterruptedError();
    return std::move(report).error();
  }
  if (flags.json) {
    Print(DumpJson(Json{{"packed", report->packed},
                        {"kept", report->kept},
                        {"bytes", report->bytes},
                        {"path", flags.out}}) +
          "\n");
  } else {
    Print(flags.out +
          Format(": %lld tensors packed, %lld as they were, ",
                 static_cast<long long>(report->packed), static_cast<long long>(report->kept)) +
          HumanBytes(report->bytes) + "\n");
  }
  return {};
}

}  // namespace

void AddPack(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb =
      app.add_subcommand("pack", "Write a model in the form that starts at once, on any machine");
  verb->add_option("IN", flags->in,
                   "the model: a .gguf file, a Hugging Face folder, demo, ORG/NAME")
      ->required();
  verb->add_option("OUT", flags->out, "what to write: NAME.gguf, a MODEL for every verb that runs")
      ->required();
  verb->add_option("--threads", flags->threads, "threads (default: all)")
      ->check(CLI::Range(1, 1024));
  verb->add_flag("--force", flags->force, "replace OUT when it is there");
  verb->add_flag("--json", flags->json, "report as JSON");
  verb->footer(
      "The packed file computes the same bits. Without it, a model is packed in memory while it "
      "runs.\nExample: lode pack my-model-q4_0.gguf my-model-q4_0-packed.gguf");
  verb->callback([=] { *action = [=] { return RunPack(*flags); }; });
}

}  // namespace lode::cli
