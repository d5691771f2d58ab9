// lode ctx new, explain, verify --recompute: what needs a model, or at least its tokenizer.
#include <lode/context.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "base/file.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/ctx.h"
#include "cli/in_context.h"
#include "runtime/saved/saved_context.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::cli {
namespace {

Result<std::string> PromptOf(const CtxFlags& flags) {
  if (flags.prompt.empty() == flags.file.empty()) {
    return Error(Code::kBadInput, "give the text with -p TEXT or with --file");
  }
  if (flags.file.empty()) return flags.prompt;
  return ReadFile(flags.file);
}

// A tree of what a file holds, with frames that are only counted.
struct FileTree {
  std::unique_ptr<runtime::FramePool> frames;
  std::unique_ptr<runtime::PrefixTree> tree;
  runtime::RootId root = 0;
};

Result<FileTree> TreeOf(const runtime::ContextFile& file) {
  const runtime::ContextGeometry& geometry = file.geometry();
  const auto points = file.Points();
  const int64_t pages = geometry.page_bytes > 0 ? file.pages() : 0;
  runtime::FramePoolOptions sizes;
  sizes.page_bytes = geometry.page_bytes + geometry.mtp_page_bytes;
  sizes.slot_bytes = geometry.slot_bytes;
  sizes.with_memory = false;
  sizes.budget_bytes = static_cast<uint64_t>(pages + 2) * sizes.page_bytes +
                       (points.size() + 2) * (sizes.slot_bytes + 1);
  FileTree made;
  LODE_ASSIGN(made.frames, runtime::FramePool::Make(sizes));
  runtime::TreeOptions options;
  options.recurrent = geometry.slot_bytes > 0;
  if (const Json* rate = FindKey(file.meta(), "prompt_tokens_per_second");
      rate != nullptr && rate->is_number() && rate->get<double>() > 0) {
    options.cost.per_token = 1.0 / rate->get<double>();
  }
  made.tree = std::make_unique<runtime::PrefixTree>(made.frames.get(), options);
  LODE_ASSIGN(const auto tenant, made.tree->AddTenant({}));
  LODE_ASSIGN(made.root, made.tree->OpenRoot(tenant, {}));
  if (points.empty()) return made;
  const auto tokens = file.tokens().first(static_cast<size_t>(points.back()));
  const runtime::LiveId live = made.tree->Announce(made.root, tokens, {});
  const runtime::OwnerId owner = made.tree->owner(made.root);
  std::vector<runtime::PageId> table;
  for (int64_t i = 0; pages > 0 && i < runtime::PageCount(points.back()); ++i) {
    table.push_back(made.frames->pages().Take(owner));
  }
  for (const int64_t point : points) {
    const runtime::SlotId slot =
        options.recurrent ? made.frames->slots().Take(owner) : runtime::kNoFrame;
    made.tree->AddSnapshot(live, point, slot, runtime::PointRole::kEnd, table);
    if (slot != runtime::kNoFrame) made.frames->slots().Unlease(slot);
  }
  for (const runtime::PageId page : table) made.frames->pages().Unlease(page);
  made.tree->Finish(live, runtime::FinishReason::kStop);
  return made;
}

Json Describe(const runtime::Explanation& found) {
  const runtime::Match& match = found.match;
  Json json = {{"prompt", match.prompt},     {"cached", match.resume},
               {"computed", match.computed()}, {"lost", match.lost()},
               {"reason", Name(match.reason)}, {"divergence", match.divergence},
               {"was", match.was},             {"now", match.now},
               {"same_after", found.same_after}, {"cost_if_moved", found.cost_if_moved},
               {"seconds", found.seconds},     {"tree", Json::array()}};
  for (const runtime::ExplainedNode& node : found.nodes) {
    json["tree"].push_back({{"begin", node.begin},
                            {"end", node.end},
                            {"on_path", node.on_path},
                            {"states", node.points},
                            {"bytes", node.bytes}});
  }
  return json;
}

}  // namespace

Result<void> RunCtxNew(CtxFlags& flags) {
  LODE_ASSIGN(const std::string prompt, PromptOf(flags));
  LODE_TRY(runtime::ContextStore::CheckName(flags.name));
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  if (!flags.force && FileExists(store.folder() + "/" + flags.name + ".lctx")) {
    return Error(Code::kBadInput, "there is a saved context " + Quote(flags.name) + " already",
                 "--force replaces it");
  }
  LODE_ASSIGN(const auto key, ReadKey(flags.key_file));
  LODE_ASSIGN(const double ttl, ParseSeconds(flags.ttl));
  LODE_ASSIGN(const std::vector<int32_t> tokens,
              TokensFor(flags.model.model, prompt, /*bos=*/true, flags.no_special));
  const int64_t states = flags.every > 0 ? std::ssize(tokens) / flags.every + 4 : 4;
  LODE_ASSIGN(v1::Engine engine, OpenEngine(&flags.model, std::ssize(tokens) + 1, states));
  LODE_ASSIGN(v1::Context context, Internal(engine.NewContext({.name = flags.name,
                                                                .ttl_seconds = ttl})));
  LODE_ASSIGN(const v1::Appended read, AppendWithBar(&context, tokens, flags.every));
  LODE_ASSIGN(const v1::Saved saved,
              Internal(context.Save(flags.name, {.delta = false,
                                                 .zstd_level = flags.zstd,
                                                 .key = key})));
  const double rate = read.seconds > 0 ? static_cast<double>(read.reuse.computed) / read.seconds
                                       : 0.0;
  if (flags.json) {
    Print(DumpJson({{"name", flags.name},
                    {"tokens", saved.tokens},
                    {"file_bytes", saved.file_bytes},
                    {"prompt_seconds", read.seconds},
                    {"save_seconds", saved.seconds}},
                   2) +
          "\n");
    return {};
  }
  Print(Format("%s: %s tokens (%.1f tok/s), %s on disk\n"
               "`lode generate %s --context %s -p TEXT` goes on from it\n",
               flags.name.c_str(), WithThousands(static_cast<uint64_t>(saved.tokens)).c_str(), rate,
               HumanBytes(saved.file_bytes).c_str(), flags.model.model.c_str(),
               flags.name.c_str()));
  return {};
}

Result<void> RunCtxExplain(CtxFlags& flags) {
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto sealer, ReadSealer(flags.key_file));
  LODE_ASSIGN(const auto file, OpenCtx(store, flags.name, sealer.get()));
  LODE_ASSIGN(const auto source, api::OpenSource(flags.model.model));
  LODE_ASSIGN(const auto tokenizer, api::OpenTokenizer(*source));
  std::vector<int32_t> tokens(file->tokens().begin(), file->tokens().end());
  if (!flags.prompt.empty() || !flags.file.empty()) {
    LODE_ASSIGN(const std::string prompt, PromptOf(flags));
    LODE_ASSIGN(tokens, tokenizer->Encode(prompt, {.recognise_special = !flags.no_special,
                                                   .add_special = true}));
  }
  if (tokens.empty()) return Error(Code::kBadInput, "there are no tokens to explain");
  LODE_ASSIGN(const FileTree known, TreeOf(*file));
  const runtime::Explanation found = known.tree->Explain(known.root, tokens);
  const auto word = [&](int32_t token) -> std::string {
    if (token < 0) return "";
    const auto text = tokenizer->Decode({&token, 1});
    return text.ok() ? *text : "";
  };
  const std::string was = word(found.match.was), now = word(found.match.now);
  if (flags.json) {
    Json json = Describe(found);
    json["was_text"] = was;
    json["now_text"] = now;
    Print(DumpJson(json, 2) + "\n");
  } else {
    std::string report = ToText(found, was, now);
    for (size_t at; (at = report.find(", ram")) != std::string::npos;) report.erase(at, 5);
    Print(report);
  }
  return {};
}

Result<void> RecomputeCtx(CtxFlags& flags, const runtime::ContextFile& file, Json* json) {
  const int64_t point = file.DeepestSound();
  if (point == 0) {
    return Error(Code::kBadInput, file.name() + " has no sound state to compare",
                 "going on from it computes all of its ids anew");
  }
  flags.model.model = flags.recompute;
  LODE_ASSIGN(auto source, api::OpenSource(flags.recompute));
  auto text = api::OpenText(*source);
  flags.model.run.kept_states = 4;
  LODE_ASSIGN(api::Running running, flags.model.Open(std::move(source), 2 * point + 1024));
  LODE_ASSIGN(const auto prints, FingerprintsWithBar(running, text.ok() ? &*text : nullptr));
  runtime::Engine& engine = *running.engine;
  runtime::Scheduler scheduler(&engine, {});
  LODE_ASSIGN(const int64_t restored, runtime::RestoreContext(&scheduler, file, prints));
  const auto tokens = file.tokens().first(static_cast<size_t>(restored));
  const runtime::RootId root = scheduler.default_root();
  auto saved = scheduler.tree().LeaseAt(root, tokens);
  if (!saved) return Error(Code::kInternal, "the restored state is not where it was put");
  const runtime::Sequence warm = engine.NewSequence(scheduler.tree().owner(root), restored,
                                                    std::move(saved->pages), saved->slot);
  LODE_ASSIGN(runtime::Sequence cold, engine.NewSequence());
  ProgressBar bar("computing it anew", "tok", restored);
  const auto computed = engine.Append(cold, tokens, nullptr, false, 0, [&](int64_t done) {
    bar.Update(done);
    return !Interrupted();
  });
  bar.Finish();
  if (!computed.ok()) return Interrupted() ? InterruptedError() : computed.error();
  const std::vector<std::byte> a = engine.StateBytes(warm), b = engine.StateBytes(cold);
  const bool same = a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
  (*json)["recomputed_tokens"] = restored;
  (*json)["compared_bytes"] = a.size();
  (*json)["same_bits"] = same;
  if (!same) {
    return Error(Code::kBadInput,
                 Format("the state after %lld tokens is not what this model computes now",
                        static_cast<long long>(restored)),
                 "the file says so although its checksums hold: please report it");
  }
  if (!flags.json) {
    Print(Format("  computed anew: the state after %s tokens has the same bits (%s compared)\n",
                 WithThousands(static_cast<uint64_t>(restored)).c_str(),
                 HumanBytes(a.size()).c_str()));
  }
  return {};
}

}  // namespace lode::cli
