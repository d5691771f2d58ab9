// lode render: a chat request through a template, nothing else.
#include <cstdio>
#include <memory>

#include "api/open.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/verbs.h"
#include "text/template/request.h"

namespace lode::cli {
namespace {

struct Flags {
  std::string model, template_file, request, now;
  std::string bos, eos;
  bool has_bos = false, has_eos = false;
};

Result<void> RunRender(const Flags& flags) {
  if (flags.model.empty() == flags.template_file.empty()) {
    return Error(Code::kBadInput, "give a MODEL or --template FILE");
  }
  api::TemplateSource found;
  if (!flags.template_file.empty()) {
    LODE_ASSIGN(found.source, ReadFile(flags.template_file));
  } else {
    LODE_ASSIGN(const auto source, api::OpenSource(flags.model));
    LODE_ASSIGN(found, api::OpenTemplate(*source));
    if (found.source.empty()) {
      return Error(Code::kUnsupported, flags.model + ": has no chat template",
                   "give one with --template FILE");
    }
  }
  LODE_ASSIGN(const auto chat_template, text::ChatTemplate::Parse(found.source));
  LODE_ASSIGN(const Json request, ReadJsonFile(flags.request));
  LODE_ASSIGN(const Json variables,
              text::MakeTemplateVariables(
                  request, {.bos_token = flags.has_bos ? flags.bos : found.bos,
                            .eos_token = flags.has_eos ? flags.eos : found.eos}));
  text::RenderOptions options;
  if (!flags.now.empty()) {
    LODE_ASSIGN(options.now, text::ParseCivilTime(flags.now));
  }
  for (const std::string& name : text::UnusedVariables(*chat_template, variables)) {
    std::fprintf(stderr, "lode: warning: the template never reads %s\n", Quote(name).c_str());
  }
  LODE_ASSIGN(const std::string text, chat_template->Render(variables, options));
  Print(text);
  return {};
}

}  // namespace

void AddRender(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("render", "Render a chat request with a chat template");
  verb->add_option("MODEL", flags->model, "whose template");
  verb->add_option("--template", flags->template_file, "a Jinja file instead of a MODEL");
  verb->add_option("--request", flags->request,
                   "JSON: {\"messages\": ..., \"tools\": ..., any variable of the template}")
      ->required();
  CLI::Option* bos = verb->add_option("--bos", flags->bos, "the text of BOS");
  CLI::Option* eos = verb->add_option("--eos", flags->eos, "the text of EOS");
  verb->add_option("--now", flags->now, "the time that the template sees, as 2025-06-28T12:00:00");
  verb->callback([=] {
    flags->has_bos = bos->count() > 0;
    flags->has_eos = eos->count() > 0;
    *action = [=] { return RunRender(*flags); };
  });
}

}  // namespace lode::cli
