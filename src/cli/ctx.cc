// lode ctx: saved contexts, which `lode ctx new`, `generate --save` and `chat --context` make.
#include "cli/ctx.h"

#include <ctime>
#include <functional>
#include <memory>

#include "base/text.h"
#include "cli/console.h"
#include "cli/in_context.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

std::string Date(int64_t seconds) {
  const std::time_t time = seconds;
  std::tm parts = {};
  char text[32] = "";
  if (localtime_r(&time, &parts) != nullptr) {
    std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &parts);
  }
  return text;
}

Result<void> RunList(const CtxFlags& flags) {
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto entries, store.List());
  LODE_ASSIGN(const uint64_t bytes, store.Bytes());
  Json list = Json::array();
  for (const runtime::ContextEntry& entry : entries) {
    const bool kept = api::IsKept(store, entry.name);
    if (flags.json) {
      list.push_back({{"name", entry.name},
                      {"tokens", entry.tokens},
                      {"bytes", entry.bytes},
                      {"created", entry.created},
                      {"used", api::LastUse(store, entry.name)},
                      {"pinned", kept},
                      {"delta", entry.delta},
                      {"delta_of", entry.parent},
                      {"sealed", entry.sealed},
                      {"compressed", entry.compressed},
                      {"trouble", entry.trouble}});
    } else if (!entry.trouble.empty()) {
      Print(Format("%-24s %s\n", entry.name.c_str(), entry.trouble.c_str()));
    } else {
      std::string notes;
      if (entry.delta) notes += "  from " + entry.parent;
      if (entry.sealed) notes += "  sealed";
      if (kept) notes += "  pinned";
      Print(Format("%-24s %10s tokens  %10s  %s%s\n", entry.name.c_str(),
                   WithThousands(static_cast<uint64_t>(entry.tokens)).c_str(),
                   HumanBytes(entry.bytes).c_str(), Date(entry.created).c_str(), notes.c_str()));
    }
  }
  if (flags.json) {
    Print(DumpJson(list, 2) + "\n");
  } else if (entries.empty()) {
    Print("no contexts in " + store.folder() +
          "; `lode ctx new MODEL NAME --file F` makes one, `lode chat MODEL --context NAME` keeps "
          "one\n");
  } else {
    Print(Format("%s on the disk, what several share counted once\n", HumanBytes(bytes).c_str()));
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
  json["shared_tokens"] = file.shared_tokens();
  json["chain"] = file.chain().empty() ? "" : runtime::DigestText(file.chain().back());
  json["meta"] = file.meta();
  Json damage = Json::array();
  for (const runtime::ContextDamage& each : file.damage()) {
    damage.push_back({{"file", each.file}, {"what", each.what}, {"reason", each.reason}});
  }
  json["damage"] = damage;
  return json;
}

void PrintFile(const runtime::ContextFile& file) {
  Print(Format("%s: %s tokens, %s, saved %s\n", file.name().c_str(),
               WithThousands(file.tokens().size()).c_str(), HumanBytes(file.file_bytes()).c_str(),
               Date(file.created()).c_str()));
  Print("  model      " + file.fingerprints().model.label + "\n");
  Print("  numerics   " + file.fingerprints().numerics.label + "\n");
  if (!file.chain().empty()) {
    Print("  chain      " + runtime::DigestText(file.chain().back(), 32) + "\n");
  }
  if (const Json* ttl = FindKey(file.meta(), "ttl_seconds"); ttl && ttl->is_number()) {
    Print(Format("  expires    when it was not used for %.0f seconds\n", ttl->get<double>()));
  }
  if (file.is_delta()) {
    Print(Format("  builds on  %s, the first %lld tokens\n", file.parent_name().c_str(),
                 static_cast<long long>(file.shared_tokens())));
  }
  for (const int64_t point : file.Points()) {
    Print(Format("  goes on from token %lld\n", static_cast<long long>(point)));
  }
  if (const Json* marks = FindKey(file.meta(), "marks"); marks && marks->is_object()) {
    for (const auto& [mark, at] : marks->items()) {
      Print("  mark       " + mark + " at " + DumpJson(at) + "\n");
    }
  }
  for (const runtime::ContextDamage& each : file.damage()) {
    Print("  damaged: " + each.what + " of " + each.file + ": " + each.reason + "\n");
  }
}

Result<void> RunShow(CtxFlags& flags, bool verify) {
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto sealer, ReadSealer(flags.key_file));
  LODE_ASSIGN(const auto file, OpenCtx(store, flags.name, sealer.get()));
  if (verify) LODE_TRY(file->VerifyAll(&Interrupted()));
  Json json = Describe(*file);
  if (!flags.json) PrintFile(*file);
  const bool damaged = verify && !file->damage().empty();
  if (verify && !damaged && !flags.json) Print("  every byte is what was written\n");
  Result<void> computed;
  if (verify && !flags.recompute.empty()) computed = RecomputeCtx(flags, *file, &json);
  if (flags.json) Print(DumpJson(json, 2) + "\n");
  if (damaged) {
    return Error(Code::kBadInput, flags.name + " has damaged records",
                 Format("it goes on from token %lld, and computes the rest anew",
                        static_cast<long long>(file->DeepestSound())));
  }
  return computed;
}

Result<void> RunRemove(const CtxFlags& flags) {
  LODE_ASSIGN(runtime::ContextStore store, api::OpenContexts());
  for (const std::string& name : flags.names) {
    LODE_TRY(store.Remove(name));
    LODE_TRY(api::KeepSaved(store, name, false));
  }
  return {};
}

// Adds one verb; `set` declares its own flags.
class Verbs {
 public:
  Verbs(CLI::App* verb, std::shared_ptr<CtxFlags> flags, Action* action)
      : verb_(*verb), flags_(std::move(flags)), action_(action) {}

  CLI::App* Add(const char* name, const char* help, const char* footer,
                std::function<Result<void>(CtxFlags&)> run) {
    CLI::App* sub = verb_.add_subcommand(name, help);
    sub->footer(footer);
    sub->add_flag("--json", flags_->json, "as JSON");
    sub->callback([flags = flags_, action = action_, run] {
      *action = [flags, run] { return run(*flags); };
    });
    return sub;
  }
  CLI::App* AddNamed(const char* name, const char* help, const char* footer,
                     std::function<Result<void>(CtxFlags&)> run) {
    CLI::App* sub = Add(name, help, footer, std::move(run));
    sub->add_option("NAME", flags_->name, "which one")->required();
    return sub;
  }
  void AddKey(CLI::App* sub) {
    sub->add_option("--key-file", flags_->key_file,
                    "the key of a sealed context: a file of 32 bytes, or 64 hex digits");
  }
  void AddText(CLI::App* sub) {
    sub->add_option("-p,--prompt", flags_->prompt, "the text");
    sub->add_option("--file", flags_->file, "read the text from a file");
    sub->add_flag("--no-special", flags_->no_special,
                  "special tokens written in the text stay ordinary text");
  }
  void AddZstd(CLI::App* sub) {
    sub->add_option("--zstd", flags_->zstd,
                    "compress with this level: smaller by little, slower to restore")
        ->check(CLI::Range(0, 19));
  }

 private:
  CLI::App& verb_;
  std::shared_ptr<CtxFlags> flags_;
  Action* action_;
};

void AddMaking(Verbs* verbs, CtxFlags* flags) {
  CLI::App* make = verbs->Add(
      "new", "read a text once and keep its state",
      "Example: lode ctx new demo play --file play.txt\n"
      "Then:    lode generate demo --context play -p 'ROMEO:'   reads only what is new",
      [](CtxFlags& f) { return RunCtxNew(f); });
  flags->model.AddTo(make);
  make->add_option("NAME", flags->name, "what to call it")->required();
  verbs->AddText(make);
  verbs->AddZstd(make);
  verbs->AddKey(make);
  make->add_option("--every", flags->every,
                   "also keep the state after each so many tokens, for forks that begin there")
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 40));
  make->add_option("--ttl", flags->ttl,
                   "it expires when it was not used for so long (90, 15m, 12h, 7d): `lode ctx gc` "
                   "then removes it, unless it is pinned");
  make->add_flag("--force", flags->force, "replace one of that name");

  CLI::App* fork = verbs->AddNamed(
      "fork", "a second context from the same beginning; shares what is on disk",
      "The new file holds ids and, as it goes on, what is its own. Without --at, all tokens.",
      [](CtxFlags& f) { return RunCtxFork(f); });
  fork->add_option("NEW", flags->other, "what to call the new one")->required();
  fork->add_option("--at", flags->at, "keep so many of its tokens")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verbs->AddKey(fork);

  CLI::App* cut = verbs->AddNamed(
      "truncate", "drop all behind the first TOKENS tokens",
      "Going on from there begins at the deepest state that is left; `lode ctx show` lists them.",
      [](CtxFlags& f) { return RunCtxTruncate(f); });
  cut->add_option("TOKENS", flags->tokens, "so many stay")->required();
  verbs->AddKey(cut);
}

void AddMoving(Verbs* verbs, CtxFlags* flags) {
  CLI::App* save = verbs->AddNamed(
      "save", "write one to a file that stands alone",
      "A fork's file leans on others in the store; this one needs none. `lode ctx restore FILE` "
      "takes it in again,\nhere or elsewhere, for the same model and the same kind of CPU.",
      [](CtxFlags& f) { return RunCtxSave(f); });
  save->add_option("FILE", flags->other, "where to")->required();
  verbs->AddZstd(save);
  save->add_flag("--seal", flags->seal, "encrypt and sign it with --key-file");
  verbs->AddKey(save);
  save->add_flag("--force", flags->force, "replace a file that is there");

  CLI::App* restore = verbs->Add(
      "restore", "take in a file that `lode ctx save` wrote",
      "Every byte is checked first. Without NAME it is called as the file is.",
      [](CtxFlags& f) { return RunCtxRestore(f); });
  restore->add_option("FILE", flags->name, "from where")->required();
  restore->add_option("NAME", flags->other, "what to call it");
  verbs->AddKey(restore);
  restore->add_flag("--force", flags->force, "replace one of that name");

  CLI::App* pin = verbs->AddNamed("pin", "never let `lode ctx gc` remove it",
                                  "`lode ctx pin NAME --off` lets it go again.",
                                  [](CtxFlags& f) { return RunCtxPin(f); });
  pin->add_flag("--off", flags->off, "it may go");

  CLI::App* gc = verbs->Add(
      "gc", "remove unfinished saves, expired contexts, and with --keep the longest unused ones",
      "Example: lode ctx gc --keep 20GB --dry-run\n"
      "Contexts go in order of their last use until the rest fits; pinned ones stay. What another "
      "context needs\nof a removed one stays on the disk.",
      [](CtxFlags& f) { return RunCtxGc(f); });
  gc->add_option("--keep", flags->keep, "bytes that may stay: 20GB, 500MiB");
  gc->add_flag("--dry-run", flags->dry_run, "only say what would go");
}

void AddLooking(Verbs* verbs, CtxFlags* flags) {
  verbs->Add("ls", "all of them", "", [](CtxFlags& f) { return RunList(f); });
  verbs->AddKey(verbs->AddNamed("show", "what is in one", "NAME may be a path to a .lctx file.",
                                [](CtxFlags& f) { return RunShow(f, false); }));

  CLI::App* verify = verbs->AddNamed(
      "verify", "read and check every byte of one",
      "With --recompute MODEL its ids are computed anew, cold, and the state is compared bit for "
      "bit.",
      [](CtxFlags& f) { return RunShow(f, true); });
  verbs->AddKey(verify);
  verify->add_option("--recompute", flags->recompute, "the model it was made with");

  CLI::App* explain = verbs->Add(
      "explain", "what a text would reuse of one, and why not more",
      "Example: lode ctx explain demo play --file edited.txt\n"
      "Nothing is computed; only the tokenizer of MODEL is read. Without a text, its own.",
      [](CtxFlags& f) { return RunCtxExplain(f); });
  explain->add_option("MODEL", flags->model.model, "whose tokenizer to use")->required();
  explain->add_option("NAME", flags->name, "which one")->required();
  verbs->AddText(explain);
  verbs->AddKey(explain);

  CLI::App* diff = verbs->Add("diff", "where two contexts part",
                              "Example: lode ctx diff play edited --model demo",
                              [](CtxFlags& f) { return RunCtxDiff(f); });
  diff->add_option("A", flags->name, "one")->required();
  diff->add_option("B", flags->other, "the other")->required();
  diff->add_option("--model", flags->text_model, "show what stands there as text");
  verbs->AddKey(diff);

  CLI::App* rm = verbs->Add("rm", "remove them", "What other contexts need of them stays.",
                            [](CtxFlags& f) { return RunRemove(f); });
  rm->add_option("NAME", flags->names, "which")->required();
}

}  // namespace

void AddCtx(CLI::App& app, Action* action) {
  auto flags = std::make_shared<CtxFlags>();
  CLI::App* verb = app.add_subcommand(
      "ctx", "Contexts that are kept: read a text once, go on from it often, also in other ways");
  verb->require_subcommand(1);
  verb->footer(
      "A context is the exact tokens of a text and the model's state after them. Going on from it\n"
      "gives the same words as reading all of it again.\n"
      "  lode ctx new demo play --file play.txt          read it once\n"
      "  lode generate demo --context play -p 'ROMEO:'   go on, as often as you like\n"
      "  lode ctx fork play other --at 1000              another way from token 1,000\n"
      "  lode chat demo --context talk                   a dialogue that is there tomorrow");
  Verbs verbs(verb, flags, action);
  AddMaking(&verbs, flags.get());
  AddLooking(&verbs, flags.get());
  AddMoving(&verbs, flags.get());
}

}  // namespace lode::cli
