// lode train: runs a recipe from a file of settings, and shows it at work.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>

#include "base/cpu_usage.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/verbs.h"
#include "tune/run.h"

namespace lode::cli {
namespace {

struct Flags {
  std::string file, out, resume;
  std::vector<std::string> sets;
  bool check = false;
};

std::string Duration(double seconds) {
  const auto all = static_cast<long long>(std::llround(seconds));
  if (all >= 3600) return Format("%lld:%02lld:%02lld", all / 3600, all / 60 % 60, all % 60);
  return Format("%lld:%02lld", all / 60, all % 60);
}

std::string Count(int64_t number) { return WithThousands(static_cast<uint64_t>(number)); }

std::string PlanText(const tune::TrainingRun& run) {
  const tune::RunPlan& plan = run.plan();
  const tune::RunConfig& config = run.config();
  std::string text = "model      " + plan.layers + ", " + Count(plan.parameters) +
                     " parameters, vocabulary of " + Count(plan.vocabulary) + "\n";
  text += "data       " + plan.lesson + "\n";
  text +=
      "run        " + Count(config.steps) + " steps of " + Count(config.batch) + " x " +
      Count(config.sequence) +
      Format(" tokens, %.3g operations a token, %d threads\n", plan.flops_per_row, plan.threads);
  text += "memory     " + HumanBytesBinary(plan.bytes()) + "\n";
  for (const auto& [what, bytes] : plan.memory) {
    text += Format("%18s", WithThousands(bytes).c_str()) + "  " + what + "\n";
  }
  return text;
}

// The line that is drawn over and over, or lines of text where nobody watches.
class Display {
 public:
  Display() : terminal_(IsTerminal(2)) {}

  void Step(const tune::StepProgress& p) {
    const auto now = Clock::now();
    const bool last = p.metrics.step == p.steps;
    const std::chrono::duration<double> since = now - drawn_;
    if (!p.metrics.skipped && !last && since.count() < (terminal_ ? 0.2 : 10.0)) return;
    drawn_ = now;
    const auto& more = p.metrics.more;
    const auto reward =
        std::find_if(more.begin(), more.end(), [](const auto& m) { return m.first == "reward"; });
    std::string line =
        Format("step %lld/%lld  %s %.4f  norm %.2f  lr %.2e  %.0f tok/s  %.1f GFLOP/s",
               static_cast<long long>(p.metrics.step), static_cast<long long>(p.steps),
               reward == more.end() ? "loss" : "reward",
               reward == more.end() ? p.smooth_loss : reward->second, p.metrics.norm,
               p.metrics.rate, p.metrics.tokens_per_second, p.flops_per_second / 1e9);
    if (p.peak_share > 0.0) line += Format(" (%.0f %% of peak)", 100.0 * p.peak_share);
    if (p.metrics.imbalance > 0.0) line += Format("  experts %+.0f %%", 100 * p.metrics.imbalance);
    line += "  " + HumanBytesBinary(PeakMemoryBytes()) + "  " + Duration(p.seconds_left) + " left";
    if (p.metrics.skipped) {
      return Line(Format("step %lld: the loss or gradient is no number; nothing was changed",
                         static_cast<long long>(p.metrics.step)));
    }
    if (!terminal_) return Line(line);
    const auto columns = static_cast<size_t>(TerminalColumns());
    std::fprintf(stderr, "\r\033[K%s", line.substr(0, columns > 1 ? columns - 1 : 0).c_str());
    drawing_ = true;
  }
  void Evaluation(const tune::EvaluationMetrics& m) {
    const std::string judged = m.rewarded() ? Format("held-out reward %.4f", m.reward)
                                            : Format("held-out loss %.4f nats a token, %.4f a byte",
                                                     m.loss, m.nats_per_byte);
    Line(Format("step %lld: ", static_cast<long long>(m.step)) + judged +
         (m.best ? ", the best so far" : ""));
  }
  void Sample(int64_t step, const std::string& text) {
    Line(Format("step %lld writes:", static_cast<long long>(step)) + "\n" + text + "\n");
  }
  void Line(const std::string& text) {
    std::fprintf(stderr, "%s%s\n", drawing_ ? "\r\033[K" : "", text.c_str());
    drawing_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  bool terminal_, drawing_ = false;
  Clock::time_point drawn_ = {};
};

Result<void> CheckRun(tune::TrainingRun& run) {
  constexpr int64_t kSteps = 3;
  LODE_ASSIGN(const double seconds, run.MeasureStep(kSteps));
  const tune::RunConfig& config = run.config();
  Print(PlanText(run) +
        Format("time       %.3g s a step, %.0f tok/s, ", seconds,
               static_cast<double>(config.batch * config.sequence) / seconds) +
        Duration(seconds * static_cast<double>(config.steps)) +
        " for all steps, without evaluations\nnothing was written\n");
  return {};
}

Result<void> RunTrain(const Flags& flags) {
  LODE_ASSIGN(const tune::Settings settings, tune::Settings::Read(flags.file, flags.sets));
  tune::RunConfig config;
  config.ChooseRecipe(settings);
  LODE_TRY(config.Keys().Fill(settings));
  std::string folder = !flags.resume.empty() ? flags.resume : flags.out;
  if (folder.empty() && !config.out.all.empty()) folder = config.out.all.front();
  if (folder.empty() && !flags.check) {
    return Error(Code::kBadInput, "it is not said where the run writes",
                 "give --out FOLDER, or output.folder in the settings");
  }
  LODE_ASSIGN(const auto run, tune::TrainingRun::Open(config));
  if (flags.check) return CheckRun(*run);
  std::fputs(PlanText(*run).c_str(), stderr);
  Display display;
  tune::Watcher watcher;
  watcher.step = [&](const tune::StepProgress& p) { display.Step(p); };
  watcher.evaluation = [&](const tune::EvaluationMetrics& m) { display.Evaluation(m); };
  watcher.sample = [&](int64_t step, const std::string& text) { display.Sample(step, text); };
  watcher.note = [&](const std::string& note) { display.Line(note); };
  watcher.stopped = [] { return Interrupted().load(); };
  LODE_ASSIGN(const tune::RunReport report, run->Run(folder, !flags.resume.empty(), watcher));
  if (report.stopped) {
    display.Line(Format("stopped after step %lld", static_cast<long long>(report.state.step)) +
                 "; go on with: lode train " + flags.file + " --resume " + folder);
    return InterruptedError();
  }
  if (report.stopped_early) {
    display.Line(Format("no better for %lld evaluations; the best was step %lld",
                        static_cast<long long>(report.state.since_best),
                        static_cast<long long>(report.state.best_step)));
  }
  const tune::EvaluationMetrics& last = report.last;
  Print(report.model + Format(": %lld steps in ", static_cast<long long>(report.state.step)) +
        Duration(report.state.seconds) +
        (last.rewarded()   ? Format(", held-out reward %.4f\n", last.reward)
         : last.tokens > 0 ? Format(", held-out loss %.4f\n", last.loss)
                           : "\n"));
  return {};
}

}  // namespace

void AddTrain(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("train", "Train a model, as a file of settings says");
  verb->add_option("FILE", flags->file, "the settings (TOML; docs/training.md lists the keys)")
      ->required();
  verb->add_option("--set", flags->sets, "KEY=VALUE goes before the file's, as train.steps=10");
  verb->add_option("--out", flags->out, "where the run writes: a new folder");
  verb->add_option("--resume", flags->resume, "go on with the run in this folder")
      ->excludes("--out");
  verb->add_flag("--check", flags->check,
                 "read and check everything, say what it takes, train nothing");
  verb->footer("Example: lode train shakespeare.toml --set train.steps=500 --out run1");
  verb->callback([=] { *action = [=] { return RunTrain(*flags); }; });
}

}  // namespace lode::cli
