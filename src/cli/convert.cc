// lode convert: between Hugging Face folders and GGUF files, and to other weight types.
#include "quant/convert.h"

#include <memory>
#include <optional>
#include <thread>

#include "api/open.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct Flags {
  std::string in, out, type, shard_size;
  int threads = 0;
  bool force = false, json = false;
};

// "5GB", "500MB", "1000000": decimal units, as disks are counted.
Result<uint64_t> ParseBytes(const std::string& text) {
  size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  std::string unit = text.substr(digits);
  for (char& c : unit) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  const int64_t factor = unit.empty() || unit == "B"   ? 1
                         : unit == "KB" || unit == "K" ? 1'000
                         : unit == "MB" || unit == "M" ? 1'000'000
                         : unit == "GB" || unit == "G" ? 1'000'000'000
                                                       : 0;
  int64_t number = 0;
  if (factor == 0 || !ParseInt64(text.substr(0, digits), &number) || number <= 0 ||
      number > (int64_t{1} << 60) / factor) {
    return Error(Code::kBadInput, "--shard-size " + Quote(text) + " is no size",
                 "write it as 5GB or 500MB");
  }
  return static_cast<uint64_t>(number * factor);
}

std::string ReportText(const quant::ConvertReport& report, const std::string& out) {
  std::vector<std::string> types;
  for (const auto& [type, count] : report.types) {
    types.push_back(Format("%lld %s", static_cast<long long>(count), type.c_str()));
  }
  std::string text = out + Format(": %lld tensors, ", static_cast<long long>(report.tensors)) +
                     HumanBytes(report.bytes) + " (" + Join(types, ", ") + ")\n";
  if (report.exact) text += "nothing was rounded: it converts back bit for bit\n";
  for (const std::string& fallback : report.fallbacks) text += "note: " + fallback + "\n";
  for (const std::string& warning : report.warnings) text += "note: " + warning + "\n";
  return text;
}

std::string ReportJson(const quant::ConvertReport& report) {
  Json json = {{"tensors", report.tensors},  {"bytes", report.bytes},
               {"exact", report.exact},      {"types", report.types},
               {"paths", report.paths},      {"fallbacks", report.fallbacks},
               {"warnings", report.warnings}};
  return DumpJson(json) + "\n";
}

Result<void> RunConvert(const Flags& flags) {
  quant::ConvertOptions options;
  options.force = flags.force;
  options.threads = flags.threads > 0
                        ? flags.threads
                        : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (!flags.type.empty()) {
    LODE_ASSIGN(options.type, tensor::DTypeFromName(flags.type));
  }
  if (!flags.shard_size.empty()) {
    LODE_ASSIGN(options.shard_bytes_max, ParseBytes(flags.shard_size));
  }
  LODE_ASSIGN(const auto source, api::OpenSource(flags.in));
  std::optional<ProgressBar> bar;
  options.progress = [&](const quant::ConvertProgress& progress) {
    constexpr uint64_t kUnit = 1'000'000;
    if (!bar.has_value()) {
      bar.emplace("convert", "MB", static_cast<int64_t>(progress.bytes_all / kUnit));
    }
    bar->Update(static_cast<int64_t>(progress.bytes / kUnit));
    return !Interrupted();
  };
  Result<quant::ConvertReport> report = quant::Convert(*source, flags.out, options);
  if (bar.has_value()) bar->Finish();
  if (!report.ok()) {
    if (report.error().code() == Code::kCancelled) return InterruptedError();
    return std::move(report).error();
  }
  Print(flags.json ? ReportJson(*report) : ReportText(*report, flags.out));
  return {};
}

}  // namespace

void AddConvert(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand(
      "convert", "Convert between Hugging Face folders and GGUF files, or to another weight type");
  verb->add_option("IN", flags->in,
                   "the model: a .gguf file, a Hugging Face folder, demo, ORG/NAME")
      ->required();
  verb->add_option("OUT", flags->out, "what to write: NAME.gguf, or a folder for Hugging Face")
      ->required();
  verb->add_option("--type", flags->type,
                   "type of the matrices: " + Join(quant::TypeNames(), ", ") +
                       "; without it nothing is rounded");
  verb->add_option("--shard-size", flags->shard_size,
                   "largest weight file, as 5GB (default: 5GB for folders, one file for GGUF)");
  verb->add_option("--threads", flags->threads, "threads (default: all)")
      ->check(CLI::Range(1, 1024));
  verb->add_flag("--force", flags->force, "replace OUT when it is there");
  verb->add_flag("--json", flags->json, "report as JSON");
  verb->footer("Example: lode convert ./My-Model my-model-q8_0.gguf --type q8_0");
  verb->callback([=] { *action = [=] { return RunConvert(*flags); }; });
}

}  // namespace lode::cli
