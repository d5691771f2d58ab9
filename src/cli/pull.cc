// lode pull: the only verb that opens a connection to elsewhere.
#include "hub/pull.h"

#include <unistd.h>

#include <cstdio>
#include <memory>

#include "base/json.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct Flags {
  hub::PullOptions options = hub::PullOptionsFromEnvironment();
  bool json = false;
};

Result<void> RunPull(Flags& flags) {
  flags.options.cancel = &Interrupted();
  const bool terminal = IsTerminal(STDERR_FILENO);
  bool drawn = false;
  if (terminal) {
    flags.options.progress = [&](const hub::PullProgress& progress) {
      std::fprintf(stderr, "\r%s\x1b[K",
                   hub::ProgressLine(progress, TerminalColumns() - 1).c_str());
      std::fflush(stderr);
      drawn = true;
    };
  }
  const Result<hub::PullResult> result = hub::Pull(flags.options);
  if (drawn) std::fprintf(stderr, "\r\x1b[K");
  if (!result.ok()) return result.error();
  if (flags.json) {
    Json json = {{"path", result->path},
                 {"revision", result->sha},
                 {"files", result->files},
                 {"bytes", result->bytes},
                 {"bytes_downloaded", result->bytes_downloaded}};
    Print(DumpJson(json) + "\n");
  } else {
    Print(Format("%s: %d files, %s (%s downloaded)\n%s\n", flags.options.model.c_str(),
                 result->files, HumanBytes(result->bytes).c_str(),
                 HumanBytes(result->bytes_downloaded).c_str(), result->path.c_str()));
  }
  return {};
}

}  // namespace

void AddPull(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb =
      app.add_subcommand("pull", "Download a model from a hub; goes on where it stopped");
  verb->add_option("MODEL", flags->options.model, "ORG/NAME, or ORG/NAME:FILE for one file")
      ->required();
  verb->add_option("--revision", flags->options.revision, "a branch, tag or commit")
      ->capture_default_str();
  verb->add_option("--include", flags->options.include, "only files like this glob; repeatable");
  verb->add_option("--endpoint", flags->options.endpoint, "the hub (or HF_ENDPOINT)")
      ->capture_default_str();
  verb->add_option("--parallel", flags->options.parallel, "connections at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "the result as JSON");
  verb->footer(
      "HF_TOKEN is sent for gated models. Models lie under LODE_HOME, else under the user's "
      "data folder.");
  verb->callback([=] { *action = [=] { return RunPull(*flags); }; });
}

}  // namespace lode::cli
