// lode ctx fork, truncate, save, restore, pin, gc, diff: saved contexts without their model.
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

#include "api/saved_contexts.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/ctx.h"
#include "cli/in_context.h"

namespace lode::cli {
namespace {

void PrintReport(const CtxFlags& flags, const std::string& what,
                 const runtime::ContextSaveReport& report) {
  if (flags.json) {
    Print(DumpJson({{"file_bytes", report.file_bytes},
                    {"written_bytes", report.written_bytes},
                    {"delta", report.delta},
                    {"pages_written", report.pages_written},
                    {"pages_shared", report.pages_inherited},
                    {"states_written", report.states_written},
                    {"states_shared", report.states_inherited},
                    {"seconds", report.seconds}},
                   2) +
          "\n");
    return;
  }
  std::string line = what + Format(", %s written in %.2f s",
                                   HumanBytes(report.written_bytes).c_str(), report.seconds);
  if (report.delta) {
    line += Format("; shared: %lld pages, %lld state%s",
                   static_cast<long long>(report.pages_inherited),
                   static_cast<long long>(report.states_inherited),
                   report.states_inherited == 1 ? "" : "s");
  }
  Print(line + "\n");
}

std::string DaysAgo(int64_t seconds) {
  const int64_t age = std::max<int64_t>(0, static_cast<int64_t>(std::time(nullptr)) - seconds);
  if (age < 7200) return Format("%lld minutes ago", static_cast<long long>(age / 60));
  if (age < 172800) return Format("%lld hours ago", static_cast<long long>(age / 3600));
  return Format("%lld days ago", static_cast<long long>(age / 86400));
}

}  // namespace

Result<std::unique_ptr<runtime::ContextFile>> OpenCtx(const runtime::ContextStore& store,
                                                      const std::string& name,
                                                      const runtime::Sealer* sealer) {
  runtime::ContextOpenOptions open;
  open.name_foreign = true;
  open.sealer = sealer;
  const bool path = name.find('/') != std::string::npos ||
                    (EndsWith(name, ".lctx") && FileExists(name));
  if (!path) return store.OpenContext(name, open);
  open.map = false;  // somebody else's file may shrink while we look
  return runtime::ContextFile::OpenPath(name, open);
}

Result<uint64_t> ParseByteCount(const std::string& text) {
  size_t digits = 0;
  while (digits < text.size() && (std::isdigit(static_cast<unsigned char>(text[digits])) != 0 ||
                                  text[digits] == '.')) {
    ++digits;
  }
  double number = 0.0;
  const std::string unit = text.substr(digits);
  const std::pair<const char*, double> units[] = {
      {"", 1.0},        {"B", 1.0},         {"K", 1e3},          {"KB", 1e3},
      {"M", 1e6},       {"MB", 1e6},        {"G", 1e9},          {"GB", 1e9},
      {"T", 1e12},      {"TB", 1e12},       {"KiB", 1024.0},     {"MiB", 1048576.0},
      {"GiB", 1024.0 * 1048576.0}, {"TiB", 1048576.0 * 1048576.0}};
  for (const auto& [name, factor] : units) {
    if (unit == name && ParseDouble(text.substr(0, digits), &number) && number * factor < 1e18) {
      return static_cast<uint64_t>(number * factor);
    }
  }
  return Error(Code::kBadInput, Quote(text) + " is no number of bytes", "write 8GiB or 500MB");
}

Result<double> ParseSeconds(const std::string& text) {
  if (text.empty()) return 0.0;
  const std::pair<char, double> units[] = {{'s', 1.0}, {'m', 60.0}, {'h', 3600.0}, {'d', 86400.0}};
  std::string number = text;
  double unit = 1.0, count = 0.0;
  for (const auto& [letter, seconds] : units) {
    if (text.back() != letter) continue;
    unit = seconds;
    number.pop_back();
  }
  if (ParseDouble(number, &count) && count > 0.0 && count < 1e9) return count * unit;
  return Error(Code::kBadInput, Quote(text) + " is no length of time",
               "write 90 (seconds), 15m, 12h or 7d");
}

Result<void> RunCtxFork(const CtxFlags& flags) {
  LODE_ASSIGN(runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto sealer, ReadSealer(flags.key_file));
  const auto at = flags.at < 0 ? std::optional<int64_t>() : std::optional(flags.at);
  LODE_ASSIGN(const auto report, api::ForkSaved(&store, flags.name, flags.other, at, sealer.get()));
  PrintReport(flags, flags.other + " goes its own way from " + flags.name +
                         (at ? Format(" at token %lld", static_cast<long long>(*at)) : ""),
              report);
  return {};
}

Result<void> RunCtxTruncate(const CtxFlags& flags) {
  LODE_ASSIGN(runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto sealer, ReadSealer(flags.key_file));
  LODE_ASSIGN(const auto report,
              api::TruncateSaved(&store, flags.name, flags.tokens, sealer.get()));
  PrintReport(flags, Format("%s ends after %lld tokens", flags.name.c_str(),
                            static_cast<long long>(flags.tokens)),
              report);
  return {};
}

Result<void> RunCtxSave(const CtxFlags& flags) {
  LODE_ASSIGN(runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto sealer, ReadSealer(flags.key_file));
  if (flags.seal && sealer == nullptr) {
    return Error(Code::kBadInput, "--seal needs a key", "name it with --key-file");
  }
  if (FileExists(flags.other) && !flags.force) {
    return Error(Code::kBadInput, flags.other + " exists already", "--force replaces it");
  }
  runtime::ContextOpenOptions open;
  open.name_foreign = true;
  open.sealer = sealer.get();
  runtime::ContextSaveOptions save;
  save.zstd_level = flags.zstd;
  save.sealer = flags.seal ? sealer.get() : nullptr;
  auto bar = std::make_shared<ProgressBar>("writing", "MB", 0);
  save.progress = [bar](uint64_t done, uint64_t) {
    bar->Update(static_cast<int64_t>(done / 1000000));
    return !Interrupted();
  };
  auto report = api::ExportSaved(&store, flags.name, flags.other, save, open);
  bar->Finish();
  if (!report.ok()) return report.error();
  PrintReport(flags, flags.other + " stands alone", *report);
  return {};
}

Result<void> RunCtxRestore(const CtxFlags& flags) {
  LODE_ASSIGN(runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto sealer, ReadSealer(flags.key_file));
  std::string name = flags.other;
  if (name.empty()) {
    name = flags.name.substr(flags.name.find_last_of('/') + 1);
    if (EndsWith(name, ".lctx")) name.resize(name.size() - 5);
  }
  runtime::ContextOpenOptions open;
  open.name_foreign = true;
  open.sealer = sealer.get();
  open.map = false;
  LODE_TRY(api::ImportSaved(&store, flags.name, name, flags.force, open));
  if (flags.json) {
    Print(DumpJson({{"name", name}}) + "\n");
  } else {
    Print(name + " is there again; `lode generate MODEL --context " + name + "` goes on from it\n");
  }
  return {};
}

Result<void> RunCtxPin(const CtxFlags& flags) {
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  LODE_TRY(api::KeepSaved(store, flags.name, !flags.off));
  if (flags.json) {
    Print(DumpJson({{"name", flags.name}, {"pinned", !flags.off}}) + "\n");
  } else {
    Print(flags.name + (flags.off ? " may go\n" : " stays, whatever `lode ctx gc` removes\n"));
  }
  return {};
}

Result<void> RunCtxGc(const CtxFlags& flags) {
  LODE_ASSIGN(runtime::ContextStore store, api::OpenContexts());
  uint64_t bytes_max = ~uint64_t{0};
  if (!flags.keep.empty()) {
    LODE_ASSIGN(bytes_max, ParseByteCount(flags.keep));
  }
  runtime::ContextSweepReport swept;
  if (!flags.dry_run) {
    LODE_ASSIGN(swept, store.Sweep(3600));
  }
  LODE_ASSIGN(const api::Garbage garbage, api::CollectSaved(&store, bytes_max, flags.dry_run));
  if (flags.json) {
    Json json = {{"bytes_before", garbage.bytes_before},
                 {"bytes_after", garbage.bytes_after},
                 {"unfinished_saves", swept.parts},
                 {"dry_run", flags.dry_run},
                 {"removed", Json::array()},
                 {"pinned", Json::array()}};
    for (const api::SavedUse& use : garbage.removed) {
      json["removed"].push_back(
          {{"name", use.name},
           {"used", use.used},
           {"freed_bytes", use.freed_bytes},
           {"expired", use.expired}});
    }
    for (const api::SavedUse& use : garbage.kept) json["pinned"].push_back(use.name);
    Print(DumpJson(json, 2) + "\n");
    return {};
  }
  for (const api::SavedUse& use : garbage.removed) {
    Print(Format("%s %-24s %10s  last used %s%s\n", flags.dry_run ? "would remove" : "removed",
                 use.name.c_str(), HumanBytes(use.freed_bytes).c_str(), DaysAgo(use.used).c_str(),
                 use.expired ? ", expired" : ""));
  }
  for (const api::SavedUse& use : garbage.kept) Print("pinned       " + use.name + "\n");
  if (swept.parts > 0) {
    Print(Format("removed      %lld unfinished saves\n", static_cast<long long>(swept.parts)));
  }
  Print(Format("contexts take %s%s\n", HumanBytes(garbage.bytes_after).c_str(),
               garbage.removed.empty()
                   ? ""
                   : (", " + HumanBytes(garbage.bytes_before) + " before").c_str()));
  if (flags.keep.empty()) Print("--keep 10GB would remove the longest unused beyond that\n");
  if (garbage.bytes_after > bytes_max) {
    return Error(Code::kNoSpace, "what is pinned takes more than " + flags.keep,
                 "`lode ctx pin NAME --off` lets one go");
  }
  return {};
}

Result<void> RunCtxDiff(const CtxFlags& flags) {
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto sealer, ReadSealer(flags.key_file));
  LODE_ASSIGN(const auto a, OpenCtx(store, flags.name, sealer.get()));
  LODE_ASSIGN(const auto b, OpenCtx(store, flags.other, sealer.get()));
  const auto x = a->tokens(), y = b->tokens();
  size_t same = 0;
  while (same < std::min(x.size(), y.size()) && x[same] == y[same]) ++same;
  const bool equal = same == x.size() && same == y.size();
  Json json = {{"equal", equal}, {"same", same}, {"a_tokens", x.size()}, {"b_tokens", y.size()}};
  const runtime::ContextMatch match = a->Match(b->geometry(), b->fingerprints());
  json["differing"] = match.differing;
  std::string words[2];
  if (!equal && !flags.text_model.empty()) {
    LODE_ASSIGN(const auto source, api::OpenSource(flags.text_model));
    LODE_ASSIGN(const auto tokenizer, api::OpenTokenizer(*source));
    const std::span<const int32_t> texts[] = {x, y};
    for (int i = 0; i < 2; ++i) {
      // A few tokens from the difference on.
      const auto rest = texts[i].subspan(same);
      const auto decoded = tokenizer->Decode(rest.first(std::min<size_t>(rest.size(), 24)));
      words[i] = decoded.ok() ? *decoded : "";
    }
    json["a_text"] = words[0];
    json["b_text"] = words[1];
  }
  if (flags.json) {
    Print(DumpJson(json, 2) + "\n");
    return {};
  }
  if (!match.differing.empty()) Print("they differ in " + Join(match.differing, ", ") + "\n");
  if (equal) {
    Print(Format("the same %s tokens\n", WithThousands(same).c_str()));
    return {};
  }
  Print(Format("the first %s tokens are the same\n", WithThousands(same).c_str()));
  const std::span<const int32_t> texts[] = {x, y};
  for (int i = 0; i < 2; ++i) {
    const auto rest = texts[i].size() - same;
    std::string line = Format("  %-16s %s more", i == 0 ? flags.name.c_str() : flags.other.c_str(),
                              WithThousands(rest).c_str());
    if (rest > 0) line += Format(", from id %d", texts[i][same]);
    if (!words[i].empty()) line += ": " + Quote(words[i]);
    Print(line + "\n");
  }
  return {};
}

}  // namespace lode::cli
