// lode: the program. Exit codes: 0; 2 the input is bad; 1 our fault; 130 Ctrl-C.
#include <cstdio>

#include "base/text.h"
#include "cli/console.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "kernels/isa.h"

namespace lode::cli {
namespace {

constexpr char kEpilogue[] =
    "Start here:\n"
    "  lode chat demo                           talk to the model inside this program\n"
    "  lode pull nvidia/NAME                    download an open-weight model\n"
    "  lode chat nvidia/NAME                    and talk to it\n"
    "  lode inspect MODEL --plan                what it is, and what memory it takes\n"
    "Every verb explains itself: lode VERB --help";

// An unknown verb or flag deserves a guess.
std::string Suggest(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> verbs;
  for (const CLI::App* verb : app.get_subcommands({})) verbs.push_back(verb->get_name());
  if (argc < 2 || argv[1][0] == '-') return "";
  for (const std::string& verb : verbs) {
    if (verb == argv[1]) return "";
  }
  const std::string guess = ClosestName(argv[1], verbs);
  return guess.empty() ? "there is no verb " + Quote(argv[1]) + "; verbs: " + Join(verbs, ", ")
                       : "there is no verb " + Quote(argv[1]) + "; did you mean '" + guess + "'?";
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Run, serve and adapt open-weight hybrid models (Mamba-2, attention, experts) on your "
      "own machine.",
      "lode");
  app.set_version_flag("--version", VersionText());
  app.require_subcommand(1);
  app.footer(kEpilogue);
  app.fallthrough(false);
  app.set_help_all_flag("--help-all", "help of every verb");
  Action action;
  AddChat(app, &action);
  AddServe(app, &action);
  AddGenerate(app, &action);
  AddCtx(app, &action);
  AddLogits(app, &action);
  AddTokenize(app, &action);
  AddDetokenize(app, &action);
  AddRender(app, &action);
  AddInspect(app, &action);
  AddConvert(app, &action);
  AddQuantize(app, &action);
  AddTrain(app, &action);
  AddData(app, &action);
  AddPerplexity(app, &action);
  AddPack(app, &action);
  AddPull(app, &action);
  AddBench(app, &action);
  AddSelftest(app, &action);
  AddCompletion(app, &action);
  if (argc == 1) {
    Print(app.help());
    return 0;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    const std::string guess = Suggest(app, argc, argv);
    std::fprintf(stderr, "lode: %s\n", guess.empty() ? error.what() : guess.c_str());
    std::fprintf(stderr, "Run 'lode --help' or 'lode VERB --help'.\n");
    return 2;
  }
  InstallInterrupt();
  Result<void> result = kernels::CheckIsaVariable();
  if (result.ok() && action) result = action();
  Result<void> flushed = FlushOutput();
  if (result.ok()) result = std::move(flushed);
  if (!result.ok()) {
    std::fprintf(stderr, "lode: %s\n", result.error().ToString().c_str());
    return ExitCode(result.error());
  }
  return 0;
}

}  // namespace
}  // namespace lode::cli

int main(int argc, char** argv) {
  try {
    return lode::cli::Main(argc, argv);
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "lode: out of memory; lower --context, or close other programs\n");
    return 2;
  } catch (const std::exception& error) {  // nothing of ours throws: a library did
    std::fprintf(stderr, "lode: internal error: %s\n", error.what());
    return 1;
  }
}
