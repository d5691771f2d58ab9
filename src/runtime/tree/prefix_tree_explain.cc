#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>

#include "base/check.h"
#include "runtime/tree/prefix_tree_state.h"

namespace lode::runtime {

const char* Name(PointRole role) {
  constexpr std::array<const char*, kPointRoles> kNames = {
      "system", "next-user", "next-tool", "retry",   "turn", "hint",
      "end",    "diverge",   "ladder",    "rolling", "spare"};
  return kNames[static_cast<size_t>(role)];
}

const char* Name(PointClass point_class) {
  constexpr std::array<const char*, kPointClasses> kNames = {
      "hot", "system", "diverge", "warm", "turn", "retry", "cold", "old", "ladder", "spare"};
  return kNames[static_cast<size_t>(point_class)];
}

const char* Name(Reason reason) {
  constexpr std::array<const char*, kReasons> kNames = {
      "complete",          "new_prefix",    "diverged",   "no_point_before_divergence",
      "evicted_state",     "evicted_kv",    "budget_too_small", "cache_disabled",
      "template_rerender", "tools_changed", "retokenized", "adapter_differs",
      "numerics_differ",   "corrupt_record"};
  return kNames[static_cast<size_t>(reason)];
}

NodeId TreeState::Beside(NodeId id, NodeId child) const {
  NodeId latest = kNone;
  for (const NodeId other : nodes[id].children) {
    if (other == child || !nodes[other].computed) continue;
    if (latest == kNone || nodes[other].touched > nodes[latest].touched) latest = other;
  }
  return latest;
}

Reason TreeState::WhyLost(std::span<const Step> path, int64_t resume, int64_t known) const {
  Reason reason = Reason::kNoPointBeforeDivergence;
  for (const Step& step : path) {  // the deepest that can be said counts
    const Node& node = nodes[step.node];
    if (node.begin >= known) break;
    if (node.refused > resume && node.refused <= known) reason = Reason::kBudgetTooSmall;
    if (node.end <= resume || node.end > known || step.end < node.end) continue;
    if (node.lost == Lost::kCorrupt) reason = Reason::kCorruptRecord;
    if (node.lost == Lost::kEvicted) {
      reason = node.resident ? Reason::kEvictedState : Reason::kEvictedKv;
    }
  }
  if (reason == Reason::kNoPointBeforeDivergence && !options.recurrent) {
    return Reason::kEvictedKv;  // without recurrent layers pages are all it takes
  }
  return reason;
}

Match TreeState::MatchPath(RootId root, std::span<const Step> path, Token next,
                           const Wanted& wanted) const {
  Match match;
  const int64_t prompt = match.prompt = wanted.prompt;
  NodeId last = roots[root].node;  // the last known node
  int64_t in_last = 0;
  for (const Step& step : path) {
    const Node& node = nodes[step.node];
    if (!node.computed) break;
    last = step.node;
    in_last = match.known = step.end;
    if (node.resident) match.resident = step.end;
    const bool whole = step.end == node.end;
    const bool to_end = !wanted.last_logits || (whole && node.has_point && node.hidden);
    const int64_t limit = std::min(wanted.reuse_max, to_end ? prompt : prompt - 1);
    if (!options.recurrent && node.resident) {
      match.resume = std::min(step.end, limit);
      match.role = node.role;
      match.point_class = node.point_class;
    }
    if (!whole || node.end > limit) continue;
    if (options.recurrent && node.has_point) {
      match.resume = node.end;
      match.role = node.role;
      match.point_class = node.point_class;
      match.slot = node.slot;
      match.hidden = node.hidden;
    }
    if (node.disk != 0) {
      match.disk_offset = node.end;
      match.disk_handle = node.disk;
    }
  }
  if (match.disk_offset <= match.resume) match.disk_offset = 0, match.disk_handle = 0;
  // What was known there instead.
  if (match.known < prompt) {
    if (in_last < nodes[last].end) {
      match.was = nodes[last].tokens[static_cast<size_t>(in_last - nodes[last].begin)];
    } else if (const NodeId other = Beside(last, Child(last, next)); other != kNone) {
      match.was = nodes[other].tokens.front();
    }
    if (match.was != -1) {
      match.divergence = match.known;
      match.now = next;
    }
  }
  // A last token that has to be computed in any case is not lost.
  const bool to_the_end = match.known == prompt && match.resume < prompt;
  if (wanted.last_logits && to_the_end) match.known = prompt - 1;
  // Nor is what somebody wants to see computed.
  const bool seen = match.known > wanted.reuse_max;
  if (seen) match.known = std::max(match.resume, wanted.reuse_max);
  match.lost_reason = match.lost() > 0 ? WhyLost(path, match.resume, match.known)
                                       : Reason::kComplete;
  if (match.lost() > 0) {
    match.reason = match.lost_reason;
  } else if (seen) {
    match.reason = Reason::kCacheDisabled;
  } else if (match.divergence >= 0 && match.known > 0) {
    match.reason = Reason::kDiverged;
  } else if (match.known == 0 && !to_the_end) {
    match.reason = Reason::kNewPrefix;
  }
  return match;
}

Match TreeState::MatchLive(const Live& live) const {
  std::vector<Step> path;
  if (!live.use_cache) {
    path = Walk(live.root, live.uncached);
    const int64_t known = path.empty() ? 0 : path.back().end;
    const Token next = known < live.prompt ? live.uncached[static_cast<size_t>(known)] : -1;
    Match match = MatchPath(live.root, path, next, {live.prompt, live.last_logits});
    match.resume = match.disk_offset = 0;
    if (live.last_logits) match.known = std::min(match.known, live.prompt - 1);
    match.slot = kNoFrame;
    match.hidden = false;
    match.reason = match.lost_reason = Reason::kCacheDisabled;
    return match;
  }
  Token next = -1;
  for (const NodeId id : PathTo(live.leaf)) {
    if (next == -1 && !nodes[id].computed) next = nodes[id].tokens.front();
    path.push_back({id, nodes[id].end});
  }
  return MatchPath(live.root, path, next, {live.prompt, live.last_logits, live.reuse_max});
}

Match PrefixTree::Lookup(RootId root, std::span<const Token> prompt, bool last_logits) const {
  const TreeState& s = *state_;
  const std::vector<Step> path = s.Walk(root, prompt);
  // Planned nodes at the end of the path are not known: the first token of them is the next one.
  size_t known = 0;
  for (const Step& step : path) {
    if (!s.at(step.node).computed) break;
    known = static_cast<size_t>(step.end);
  }
  const Token next = known < prompt.size() ? prompt[known] : -1;
  return s.MatchPath(root, path, next, {static_cast<int64_t>(prompt.size()), last_logits});
}

// --- Explain ---

namespace {

ExplainedNode Describe(const TreeState& s, NodeId id, int64_t end, bool on_path) {
  const Node& node = s.at(id);
  ExplainedNode out;
  out.begin = node.begin;
  out.end = end;
  out.on_path = on_path;
  out.resident = node.resident;
  out.planned = !node.computed;
  out.on_disk = node.disk != 0;
  out.pinned = node.pins > 0;
  out.live = node.leases > 0;
  out.points = node.points_below;
  out.bytes = s.pool->BytesOf(s.OwnPages(node), node.slot == kNoFrame ? 0 : 1);
  if (node.has_point) out.point_class = node.point_class;
  if (node.lost == Lost::kEvicted) out.evicted_seconds_ago = s.now - node.lost_at;
  return out;
}

// What was known behind a divergence: the rest of the node, then the latest way on.
std::vector<Token> OldText(const TreeState& s, NodeId last, int64_t from, int64_t tokens_max) {
  std::vector<Token> text;
  NodeId id = last;
  while (id != kNone && static_cast<int64_t>(text.size()) < tokens_max) {
    const Node& node = s.at(id);
    const int64_t skip = std::max<int64_t>(0, from - node.begin);
    text.insert(text.end(), node.tokens.begin() + std::min(skip, node.length()), node.tokens.end());
    id = s.Beside(id, kNone);
  }
  return text;
}

// How many tokens were exchanged at the beginning, and how many after them are the same again.
// Looks for the nearest place where a run of ids agrees.
struct Realigned {
  int64_t skipped = 0;  // of the new text
  int64_t same = 0;
};

Realigned Realign(std::span<const Token> was, std::span<const Token> now) {
  constexpr size_t kSkipMax = 64;
  constexpr size_t kRun = 16;
  for (size_t sum = 1; sum <= 2 * kSkipMax; ++sum) {
    for (size_t i = 0; i <= sum; ++i) {
      const size_t j = sum - i;
      if (i > kSkipMax || j > kSkipMax || i + kRun > was.size() || j + kRun > now.size()) continue;
      const auto a = was.subspan(i);
      const auto b = now.subspan(j);
      if (!std::equal(a.begin(), a.begin() + kRun, b.begin())) continue;
      const size_t most = std::min(a.size(), b.size());
      const auto end = std::mismatch(a.begin(), a.begin() + static_cast<int64_t>(most), b.begin());
      return {static_cast<int64_t>(j), end.first - a.begin()};
    }
  }
  return {};
}

void Append(std::string* text, const char* format, ...) __attribute__((format(printf, 2, 3)));
void Append(std::string* text, const char* format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  text->append(line, static_cast<size_t>(std::clamp(length, 0, static_cast<int>(sizeof line) - 1)));
}

// 37412 -> "37,412".
std::string Grouped(int64_t number) {
  std::string digits = std::to_string(number);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string Duration(double seconds) {
  char text[32];
  if (seconds < 10) {
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  } else if (seconds < 120) {
    std::snprintf(text, sizeof text, "%.0f s", seconds);
  } else {
    std::snprintf(text, sizeof text, "%.0f min", seconds / 60);
  }
  return text;
}

void AppendNode(std::string* text, const ExplainedNode& node) {
  Append(text, "  %s %s-%s ", node.on_path ? "|" : "`-- instead:", Grouped(node.begin).c_str(),
         Grouped(node.end).c_str());
  if (node.point_class) Append(text, " %s", Name(*node.point_class));
  if (node.resident) {
    Append(text, " %lld point%s, %.1f MiB, ram", static_cast<long long>(node.points),
           node.points == 1 ? "" : "s", static_cast<double>(node.bytes) / (1 << 20));
  } else if (node.planned) {
    *text += " not computed yet";
  } else {
    *text += " not in memory";
  }
  if (node.on_disk) *text += ", disk";
  if (node.pinned) *text += ", pinned";
  if (node.live) *text += ", running";
  if (node.evicted_seconds_ago >= 0) {
    *text += ", evicted " + Duration(node.evicted_seconds_ago) + " ago (budget)";
  }
  *text += "\n";
}

}  // namespace

Explanation PrefixTree::Explain(RootId root, std::span<const Token> prompt) const {
  const TreeState& s = *state_;
  Explanation out;
  out.match = Lookup(root, prompt);
  const Match& match = out.match;
  out.seconds = SecondsToCompute(match.resume, match.prompt);
  const std::vector<Step> path = s.Walk(root, prompt);
  NodeId last = s.roots[root].node;
  for (const Step& step : path) {
    out.nodes.push_back(Describe(s, step.node, step.end, true));
    if (s.at(step.node).computed) last = step.node;
  }
  if (match.divergence < 0) return out;
  const int64_t rest = match.prompt - match.divergence;
  NodeId other = last;
  if (match.divergence == s.at(last).end) {
    other = s.Beside(last, s.Child(last, match.now));
  }
  ExplainedNode beside = Describe(s, other, s.at(other).end, false);
  beside.begin = match.divergence;
  out.nodes.push_back(beside);
  const std::vector<Token> old = OldText(s, other, match.divergence, rest + 128);
  const Realigned again = Realign(old, prompt.subspan(static_cast<size_t>(match.divergence)));
  if (again.same == 0) return out;
  out.same_after = again.same;
  out.differing = again.skipped;
  // Moved behind what is the same, only they and the real end would be new.
  out.cost_if_moved = rest - again.same;
  out.seconds_if_moved = SecondsToCompute(match.prompt - out.cost_if_moved, match.prompt);
  return out;
}

std::string ToText(const Explanation& explanation, const std::string& was, const std::string& now) {
  const Match& match = explanation.match;
  std::string text;
  Append(&text, "prompt %s   cached %s   computed %s   lost %s   reason: %s\n",
         Grouped(match.prompt).c_str(), Grouped(match.resume).c_str(),
         Grouped(match.computed()).c_str(), Grouped(match.lost()).c_str(), Name(match.reason));
  if (match.divergence >= 0) {
    text += "first difference: token " + Grouped(match.divergence) + ", ";
    if (was.empty() && now.empty()) {
      Append(&text, "was id %d  now id %d\n", match.was, match.now);
    } else {
      text += "was \"" + was + "\"  now \"" + now + "\"\n";
    }
  }
  if (explanation.same_after > 0) {
    text += Grouped(explanation.same_after) + " tokens after it are the same as last time.";
    if (explanation.cost_if_moved < match.computed()) {
      text += " Moved to the end of the prompt, what differs would have cost " +
              Grouped(explanation.cost_if_moved) + " tokens instead of " +
              Grouped(match.computed()) + " (" + Duration(explanation.seconds_if_moved) +
              " instead of " + Duration(explanation.seconds) + " here).";
    }
    text += "\n";
  }
  text += "tree\n";
  for (const ExplainedNode& node : explanation.nodes) AppendNode(&text, node);
  return text;
}

}  // namespace lode::runtime
