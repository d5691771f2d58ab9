// lode perplexity: how well a model predicts a text, alone or beside the model it was made from.
#include <memory>

#include "base/text.h"
#include "cli/console.h"
#include "cli/evaluate.h"
#include "cli/model_flags.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct Flags {
  ModelFlags model;
  std::string file, base;
  EvalOptions eval;
  bool json = false;
};

Result<void> RunPerplexity(Flags& flags) {
  EvalOptions& eval = flags.eval;
  if (flags.model.run.context_tokens > 0) eval.context = flags.model.run.context_tokens;
  if (eval.context < 2 || (eval.stride > 0 && eval.stride >= eval.context)) {
    return Error(Code::kBadInput, eval.context < 2 ? "a chunk needs at least 2 tokens"
                                                   : "--stride must be smaller than --context");
  }
  LODE_ASSIGN(auto source, api::OpenSource(flags.model.model));
  LODE_ASSIGN(const EvalText text, ReadEvalText(*source, flags.file));
  LODE_ASSIGN(api::Running model, flags.model.Open(std::move(source), eval.context));
  std::optional<api::Running> base;
  if (!flags.base.empty()) {
    LODE_ASSIGN(auto base_source, api::OpenSource(flags.base));
    LODE_ASSIGN(const EvalText base_text, ReadEvalText(*base_source, flags.file));
    if (base_text.tokens != text.tokens) {
      return Error(Code::kBadInput, "the two models cut the text into different tokens",
                   "--kl takes the model that this one was made from");
    }
    LODE_ASSIGN(api::Running running, flags.model.Open(std::move(base_source), eval.context));
    base.emplace(std::move(running));
  }
  std::optional<ProgressBar> bar;
  const auto progress = [&](int64_t done, int64_t all) {
    if (!bar) bar.emplace("perplexity", "tok", all);
    bar->Update(done);
    return !Interrupted();
  };
  Result<Evaluation> evaluation =
      Evaluate(model, base ? &*base : nullptr, text, eval, progress);
  if (bar) bar->Finish();
  if (!evaluation.ok()) {
    if (evaluation.error().code() == Code::kCancelled) return InterruptedError();
    return std::move(evaluation).error();
  }
  Print(flags.json ? DumpJson(EvaluationJson(*evaluation)) + "\n" : EvaluationText(*evaluation));
  return {};
}

}  // namespace

void AddPerplexity(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand(
      "perplexity", "How well a model predicts a text, and how near it is to another model");
  flags->model.AddTo(verb);
  verb->add_option("--file", flags->file, "the text")->required();
  verb->add_option("--kl", flags->base,
                   "a MODEL to compare with, token by token: the one this was made from");
  verb->add_option("--stride", flags->eval.stride,
                   "begin a chunk every so many tokens and count its last so many predictions "
                   "(default: chunks side by side, their second halves count)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->add_option("--chunks", flags->eval.chunks_max, "stop after so many chunks")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verb->add_flag("--json", flags->json, "report as JSON");
  verb->footer("Example: lode perplexity my-model-q4_0.gguf --file wiki.txt --kl ./My-Model");
  verb->callback([=] { *action = [=] { return RunPerplexity(*flags); }; });
}

}  // namespace lode::cli
