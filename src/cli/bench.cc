// lode bench: how fast a model is here, and how fast it could be.
#include "api/bench.h"

#include <chrono>
#include <cstdio>
#include <memory>

#include "base/json.h"
#include "base/text.h"
#include "base/topology.h"
#include "cli/console.h"
#include "cli/model_flags.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct Flags {
  std::string model, activations = "auto", pin = "auto";
  std::string prompts = "512", generations = "128", depths = "0", threads, batches = "1";
  int repetitions = 5;
  int64_t rows = 0;
  bool machine = false, json = false;
};

constexpr int64_t kTokensMax = int64_t{1} << 24;
constexpr int64_t kBatchMax = 4096;
constexpr int kThreadsMax = 1024;

// "512,2048". Errors name the flag and the item.
template <typename T>
Result<std::vector<T>> ParseList(const char* flag, const std::string& text, int64_t min,
                                 int64_t max) {
  std::vector<T> values;
  for (const std::string& item : Split(text, ',')) {
    int64_t value = 0;
    if (!ParseInt64(item, &value) || value < min || value > max) {
      return Error(Code::kBadInput, std::string(flag) + " has " + Quote(item),
                   Format("write numbers from %lld to %lld as 1,2,4", static_cast<long long>(min),
                          static_cast<long long>(max)));
    }
    values.push_back(static_cast<T>(value));
  }
  return values;
}

// A line on standard error, redrawn in place: what is measured, how far, how long yet.
class StatusLine {
 public:
  StatusLine() : enabled_(IsTerminal(2)), start_(Clock::now()), drawn_at_(start_) {}
  ~StatusLine() { Clear(); }

  void Draw(const api::BenchProgress& progress) {
    const auto now = Clock::now();
    if (!enabled_ || (drawn_ && now - drawn_at_ < std::chrono::milliseconds(100))) return;
    drawn_at_ = now;
    drawn_ = true;
    const double elapsed = std::chrono::duration<double>(now - start_).count();
    const double left = progress.share > 0.01 ? elapsed * (1.0 / progress.share - 1.0) : -1.0;
    const auto seconds = static_cast<long long>(left);
    const std::string eta =
        left < 0.0 ? "" : Format("  %lld:%02lld left", seconds / 60, seconds % 60);
    const std::string line =
        Format("%3.0f%%  %s%s", 100.0 * progress.share, progress.what.c_str(), eta.c_str());
    std::fprintf(stderr, "\r%.*s\x1b[K", TerminalColumns() - 1, line.c_str());
    std::fflush(stderr);
  }
  void Clear() {
    if (drawn_) std::fprintf(stderr, "\r\x1b[K");
    drawn_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool enabled_;
  bool drawn_ = false;
  Clock::time_point start_, drawn_at_;
};

constexpr char kTableHead[] =
    "test       depth  of 1st  thr  batch      tok/s     +-  GB/s  of read  GFLOP/s  of peak  "
    " J/tok  others\n";

std::string TableLine(const api::BenchRow& row) {
  const auto maybe = [](const char* format, const std::optional<double>& value) {
    return value ? Format("%.2f", *value) : std::string(format);
  };
  return Format(
      "%-8s %7lld  %6s  %3d  %5lld  %9.2f %5.1f%% %5.1f  %6.0f%%  %7.1f  %6.0f%%  %6s  %6s%s\n",
      row.Name().c_str(), static_cast<long long>(row.depth),
      maybe("-", row.of_first_depth).c_str(), row.threads,
      static_cast<long long>(row.batch), row.median, 100.0 * row.deviation / row.median,
      row.bytes_per_second * 1e-9, 100.0 * row.bandwidth_share, row.flops_per_second * 1e-9,
      100.0 * row.compute_share, maybe("n/a", row.joules_per_token).c_str(),
      maybe("?", row.foreign_cpu).c_str(), row.spoiled() ? "  spoiled: other processes ran" : "");
}

Result<void> RunMachine(const Flags& flags, int threads, Pin pin) {
  ThreadPool pool(threads, pin);
  const Json json = api::MeasureMachine(&pool);
  if (flags.json) {
    Print(DumpJson(json, 2) + "\n");
    return {};
  }
  Print(Format("%s, %s, %d threads bound to: %s\n", GetString(json, "cpu").c_str(),
               GetString(json, "isa").c_str(), threads, GetString(json, "pinning").c_str()));
  Print("reads, GB/s\n");
  for (const Json& each : json["read_gb_per_second"]) {
    Print(Format("  memory    %3lld threads  %9.1f\n",
                 static_cast<long long>(GetInt(each, "threads")), GetDouble(each, "value")));
  }
  for (const Json& each : json["caches"]) {
    Print(Format("  L%lld cache  %3lld threads  %9.1f   (%s)\n",
                 static_cast<long long>(GetInt(each, "level")),
                 static_cast<long long>(GetInt(each, "threads")),
                 GetDouble(each, "read_gb_per_second"),
                 HumanBytesBinary(static_cast<uint64_t>(GetInt(each, "bytes"))).c_str()));
  }
  Print("products, GFLOP/s (int8: GOP/s)\n");
  for (const Json& each : json["peaks"]) {
    Print(Format("  %-10s  %-4s  %3lld threads  %9.1f\n", GetString(each, "isa").c_str(),
                 GetString(each, "kind").c_str(), static_cast<long long>(GetInt(each, "threads")),
                 GetDouble(each, "gflop_per_second")));
  }
  const double foreign = GetDouble(json, "foreign_cpu_share", -1.0);
  if (foreign >= 0.0) Print(Format("other processes took %.2f of a core meanwhile\n", foreign));
  return {};
}

Result<void> RunBench(Flags& flags) {
  api::BenchOptions options;
  LODE_ASSIGN(options.prompts, ParseList<int64_t>("-p", flags.prompts, 0, kTokensMax));
  LODE_ASSIGN(options.generations, ParseList<int64_t>("-n", flags.generations, 0, kTokensMax));
  LODE_ASSIGN(options.depths, ParseList<int64_t>("-d", flags.depths, 0, kTokensMax));
  LODE_ASSIGN(options.batches, ParseList<int64_t>("-b", flags.batches, 1, kBatchMax));
  if (!flags.threads.empty()) {
    LODE_ASSIGN(options.threads, ParseList<int>("-t", flags.threads, 1, kThreadsMax));
  }
  LODE_ASSIGN(options.pin, ParsePin(flags.pin));
  LODE_ASSIGN(options.activations, api::ParseActivations(flags.activations));
  options.repetitions = flags.repetitions;
  options.rows_max = flags.rows;
  if (flags.machine) {
    const int threads = options.threads.empty() ? UsableCores() : options.threads.back();
    return RunMachine(flags, threads, options.pin);
  }
  if (flags.model.empty()) {
    return Error(Code::kBadInput, "bench needs a MODEL", "or --machine for the machine alone");
  }
  LODE_ASSIGN(auto source, api::OpenSource(flags.model));
  LODE_ASSIGN(const auto bench, api::Bench::Open(std::move(source), options));
  const api::BenchFacts& facts = bench->facts();
  Json rows = Json::array();
  if (!flags.json) {
    Print(Format("%s: %s, %s of weights; %s, %s\n", facts.model.c_str(), facts.type.c_str(),
                 HumanBytes(static_cast<uint64_t>(facts.weight_bytes)).c_str(), facts.cpu.c_str(),
                 facts.isa.c_str()));
    Print(kTableHead);
    std::fflush(stdout);
  }
  StatusLine status;
  LODE_TRY(bench->Run(
      [&](const api::BenchRow& row) {
        status.Clear();
        if (flags.json) {
          rows.push_back(api::ToJson(row, facts));
        } else {
          Print(TableLine(row));
          std::fflush(stdout);
        }
      },
      [&](const api::BenchProgress& progress) {
        status.Draw(progress);
        return !Interrupted();
      }));
  status.Clear();
  if (flags.json) Print(DumpJson(rows, 2) + "\n");
  return {};
}

}  // namespace

void AddBench(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("bench", "Measure a model, beside what the machine can do");
  verb->add_option("MODEL", flags->model,
                   "a .gguf file, a Hugging Face folder, 'demo', or a pulled ORG/NAME[:FILE]");
  verb->add_option("-p,--prompt", flags->prompts, "lengths of prompts; 0: none")
      ->capture_default_str();
  verb->add_option("-n,--tokens", flags->generations, "lengths of answers; 0: none")
      ->capture_default_str();
  verb->add_option("-d,--depth", flags->depths, "tokens that the context holds before")
      ->capture_default_str();
  verb->add_option("-t,--threads", flags->threads,
                   "threads to compute with (default: all cores we may use)");
  verb->add_option("-b,--batch", flags->batches, "sequences at once")->capture_default_str();
  verb->add_option("-r,--repetitions", flags->repetitions, "samples of each row, after a warm-up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--rows", flags->rows, "rows of a prompt step (default: as generate)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->add_option("--activations", flags->activations,
                   "rounding of activations and KV cache: auto, bf16 or f32 (reference)")
      ->type_name("TEXT:{auto,bf16,f32}");
  verb->add_option("--pin", flags->pin, "bind threads to cores where that cannot hurt: auto or off")
      ->type_name("TEXT:{auto,off}");
  verb->add_flag("--machine", flags->machine, "only the machine's limits; needs no MODEL");
  verb->add_flag("--json", flags->json, "a JSON list of rows (one object with --machine)");
  verb->footer(
      "Lists are written 1,2,4; every combination is a row.\n"
      "Example: lode bench model.gguf -p 512,2048 -n 128 -d 0,16384 -b 1,4,16");
  verb->callback([=] { *action = [=] { return RunBench(*flags); }; });
}

}  // namespace lode::cli
