#include "serve/contexts/context_json.h"

#include <string>

#include "base/utf8.h"

namespace lode::serve {
namespace {

constexpr size_t kWordBytesMax = 40;

std::string WordOf(const text::Tokenizer& tokenizer, runtime::Token token) {
  if (token < 0) return "";
  const auto word = tokenizer.Decode({&token, 1});
  return word.ok() ? ReplaceInvalidUtf8(word->substr(0, kWordBytesMax)) : "";
}

Json OrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

}  // namespace

Json ReuseJson(const runtime::Match& match, const text::Tokenizer& tokenizer) {
  Json reuse = {{"prompt", match.prompt},
                {"cached", match.resume},
                {"computed", match.computed()},
                {"resumed_at", match.resume},
                {"point", match.resume > 0 ? Json(Name(match.role)) : Json(nullptr)},
                {"matched_known", match.known},
                {"lost", match.lost()},
                {"reason", Name(match.reason)}};
  if (match.lost() > 0) reuse["lost_reason"] = Name(match.lost_reason);
  reuse["divergence"] = nullptr;
  if (match.divergence >= 0) {
    reuse["divergence"] = {{"token", match.divergence},
                           {"was", WordOf(tokenizer, match.was)},
                           {"now", WordOf(tokenizer, match.now)}};
  }
  if (match.restored_bytes > 0) {
    reuse["restored_bytes"] = match.restored_bytes;
    reuse["restore_ms"] = match.restored_seconds * 1e3;
  }
  return reuse;
}

Json ContextJson(const chat::ContextInfo& info, const text::Tokenizer& tokenizer) {
  Json made = {{"id", info.id},
               {"object", "context"},
               {"created", info.created},
               {"name", OrNull(info.name)},
               {"parent", OrNull(info.parent)},
               {"tokens", info.tokens},
               {"messages", info.messages < 0 ? Json(nullptr) : Json(info.messages)},
               {"pin", info.pin == chat::ContextPin::kMemory ? "memory" : "none"},
               {"published", info.published},
               {"running", info.running},
               {"marks", info.marks},
               {"ttl_s", info.ttl_seconds},
               {"idle_s", info.idle_seconds},
               {"saved_as", OrNull(info.saved_as)}};
  made["reuse"] = info.reuse == nullptr ? Json(nullptr) : ReuseJson(*info.reuse, tokenizer);
  return made;
}

Json ExplanationJson(const runtime::Explanation& explanation, const text::Tokenizer& tokenizer) {
  const runtime::Match& match = explanation.match;
  Json tree = Json::array();
  for (const runtime::ExplainedNode& node : explanation.nodes) {
    Json one = {{"begin", node.begin},       {"end", node.end},
                {"on_path", node.on_path},   {"in_memory", node.resident},
                {"on_disk", node.on_disk},   {"pinned", node.pinned},
                {"running", node.live},      {"points", node.points},
                {"bytes", node.bytes}};
    one["class"] = node.point_class ? Json(Name(*node.point_class)) : Json(nullptr);
    if (node.evicted_seconds_ago >= 0.0) one["evicted_s_ago"] = node.evicted_seconds_ago;
    tree.push_back(std::move(one));
  }
  return {{"object", "context.explanation"},
          {"reuse", ReuseJson(match, tokenizer)},
          {"seconds", explanation.seconds},
          {"same_after", explanation.same_after},
          {"cost_if_moved", explanation.cost_if_moved},
          {"tree", std::move(tree)},
          {"text", ToText(explanation, WordOf(tokenizer, match.was),
                          WordOf(tokenizer, match.now))}};
}

Json SavedJson(const chat::ContextReport& report) {
  const runtime::ContextSaveReport& saved = *report.saved;
  return {{"object", "context.saved"},
          {"context", report.context.id},
          {"name", report.context.saved_as},
          {"tokens", report.context.tokens},
          {"state", report.state},
          {"file_bytes", saved.file_bytes},
          {"written_bytes", saved.written_bytes},
          {"delta", saved.delta},
          {"seconds", report.seconds}};
}

Json RestoredJson(const chat::ContextReport& report, const text::Tokenizer& tokenizer) {
  Json made = ContextJson(report.context, tokenizer);
  made["restored"] = {{"state", report.state},
                      {"exact", report.exact},
                      {"damage", report.damage},
                      {"seconds", report.seconds}};
  return made;
}

}  // namespace lode::serve
