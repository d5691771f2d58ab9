// What the owner thread says of a context: Explain in words, and a digest of its state.
#include <algorithm>

#include "api/context_core.h"
#include "api/context_public.h"

namespace lode::api {
namespace {

v1::Stretch Public(const runtime::ExplainedNode& node) {
  v1::Stretch stretch;
  stretch.begin = node.begin;
  stretch.end = node.end;
  stretch.on_path = node.on_path;
  stretch.in_memory = node.resident;
  stretch.on_disk = node.on_disk;
  stretch.pinned = node.pinned;
  stretch.running = node.live;
  stretch.states = node.points;
  stretch.bytes = node.bytes;
  if (node.point_class) stretch.kind = Name(*node.point_class);
  return stretch;
}

std::string WordOf(const std::optional<TextTools>& text, runtime::Token token) {
  if (!text || token < 0) return "";
  const auto word = text->tokenizer->Decode({&token, 1});
  return word.ok() ? *word : "";
}

}  // namespace

Result<v1::Explanation> ExplainIn(ContextOwner* owner, const ContextState& state,
                                  std::span<const int32_t> prompt,
                                  const std::optional<TextTools>& text) {
  LODE_ASSIGN(const runtime::RootId root, owner->Root(state));
  owner->TakePublished(root, prompt);  // as asking for it would
  runtime::Explanation found = owner->scheduler->tree().Explain(root, prompt);
  // The tree counts in tokens unless somebody told it their cost.
  const double each = owner->prompt_tokens > 0
                          ? owner->prompt_seconds / static_cast<double>(owner->prompt_tokens)
                          : 0.0;
  found.seconds *= each;
  found.seconds_if_moved *= each;
  v1::Explanation out;
  out.reuse = api::Public(found.match);
  out.seconds = found.seconds;
  out.same_after = found.same_after;
  out.cost_if_moved = found.cost_if_moved;
  for (const runtime::ExplainedNode& node : found.nodes) out.tree.push_back(Public(node));
  out.text = ToText(found, WordOf(text, found.match.was), WordOf(text, found.match.now));
  return out;
}

Result<v1::Digest> DigestIn(ContextOwner* owner, const ContextState& state,
                            std::span<const int32_t> ids) {
  runtime::Engine& engine = *owner->running.engine;
  runtime::FramePool& frames = engine.frames();
  LODE_ASSIGN(const runtime::RootId root, owner->Root(state));
  const auto saved = owner->scheduler->tree().LeaseAt(root, ids);
  if (!saved) {
    return Error(Code::kNotFound, "its state is not in memory any more",
                 "open the engine with more cache_bytes");
  }
  // Of each piece, then of all.
  std::vector<std::byte> digests;
  const auto add = [&](std::span<const std::byte> bytes) {
    const runtime::ContextDigest digest = runtime::Sha256(bytes);
    digests.insert(digests.end(), digest.begin(), digest.end());
  };
  // Rows behind the last token say nothing, and lie between those that do: full pages only.
  const size_t full = ids.size() / static_cast<size_t>(runtime::kTokensPerPage);
  for (size_t i = 0; i < std::min(full, saved->pages.size()); ++i) {
    add({frames.pages().data(saved->pages[i]), engine.layout().page_bytes});
  }
  if (saved->slot != runtime::kNoFrame) {
    add({frames.slots().data(saved->slot), engine.layout().slot_bytes});
    frames.slots().Unlease(saved->slot);
  }
  for (const runtime::PageId page : saved->pages) frames.pages().Unlease(page);
  return api::Public(runtime::Sha256(digests));
}

}  // namespace lode::api
