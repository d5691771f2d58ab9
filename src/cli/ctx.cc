// lode ctx: the contexts that `lode chat --context NAME` keeps.
#include <ctime>
#include <memory>

#include "api/contexts.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct Flags {
  std::string name;
  bool json = false;
};

std::string Date(int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts = {};
  char text[32] = "";
  if (localtime_r(&time, &parts) != nullptr) {
    std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &parts);
  }
  return text;
}

Result<void> RunList(const Flags& flags) {
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto entries, store.List());
  Json list = Json::array();
  for (const runtime::ContextEntry& entry : entries) {
    if (flags.json) {
      list.push_back({{"name", entry.name},
                      {"tokens", entry.tokens},
                      {"bytes", entry.bytes},
                      {"created", entry.created},
                      {"delta", entry.delta},
                      {"trouble", entry.trouble}});
    } else if (!entry.trouble.empty()) {
      Print(Format("%-24s %s\n", entry.name.c_str(), entry.trouble.c_str()));
    } else {
      Print(Format("%-24s %10lld tokens  %10s  %s\n", entry.name.c_str(),
                   static_cast<long long>(entry.tokens), HumanBytes(entry.bytes).c_str(),
                   Date(entry.created).c_str()));
    }
  }
  if (flags.json) Print(DumpJson(list, 2) + "\n");
  if (!flags.json && entries.empty()) {
    Print("no contexts in " + store.folder() + "; `lode chat MODEL --context NAME` keeps one\n");
  }
  return {};
}

Json Describe(const runtime::ContextFile& file) {
  Json json;
  json["name"] = file.name();
  json["tokens"] = file.tokens().size();
  json["points"] = file.Points();
  json["bytes"] = file.file_bytes();
  json["model"] = file.fingerprints().model.label;
  json["numerics"] = file.fingerprints().numerics.label;
  json["created"] = file.created();
  json["delta_of"] = file.parent_name();
  json["meta"] = file.meta();
  Json damage = Json::array();
  for (const runtime::ContextDamage& each : file.damage()) {
    damage.push_back({{"file", each.file}, {"what", each.what}, {"reason", each.reason}});
  }
  json["damage"] = damage;
  return json;
}

void PrintFile(const runtime::ContextFile& file) {
  Print(Format("%s: %lld tokens, %s, saved %s\n", file.name().c_str(),
               static_cast<long long>(file.tokens().size()),
               HumanBytes(file.file_bytes()).c_str(), Date(file.created()).c_str()));
  Print("  model      " + file.fingerprints().model.label + "\n");
  Print("  numerics   " + file.fingerprints().numerics.label + "\n");
  if (file.is_delta()) Print("  builds on  " + file.parent_name() + "\n");
  for (const int64_t point : file.Points()) {
    Print(Format("  goes on from token %lld\n", static_cast<long long>(point)));
  }
  for (const runtime::ContextDamage& each : file.damage()) {
    Print("  damaged: " + each.what + " of " + each.file + ": " + each.reason + "\n");
  }
}

Result<void> RunShow(const Flags& flags, bool verify) {
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  runtime::ContextOpenOptions options;
  options.name_foreign = true;
  LODE_ASSIGN(const auto file, store.OpenContext(flags.name, options));
  if (verify) LODE_TRY(file->VerifyAll());
  if (flags.json) {
    Print(DumpJson(Describe(*file), 2) + "\n");
  } else {
    PrintFile(*file);
  }
  if (verify && !file->damage().empty()) {
    return Error(Code::kBadInput, flags.name + " has damaged records",
                 "a chat goes on from the deepest sound point");
  }
  if (verify && !flags.json) Print("  every byte is what was written\n");
  return {};
}

Result<void> RunRemove(const Flags& flags) {
  LODE_ASSIGN(runtime::ContextStore store, api::OpenContexts());
  return store.Remove(flags.name);
}

}  // namespace

void AddCtx(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("ctx", "The contexts that chat --context NAME keeps");
  verb->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, bool named, auto run) {
    CLI::App* sub = verb->add_subcommand(name, help);
    if (named) sub->add_option("NAME", flags->name, "which one")->required();
    sub->add_flag("--json", flags->json, "as JSON");
    sub->callback([=] { *action = [=] { return run(*flags); }; });
  };
  add("ls", "all of them", false, RunList);
  add("show", "what is in one", true, [](const Flags& f) { return RunShow(f, false); });
  add("verify", "read and check every byte of one", true,
      [](const Flags& f) { return RunShow(f, true); });
  add("rm", "remove one", true, RunRemove);
}

}  // namespace lode::cli
