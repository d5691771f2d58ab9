#include <algorithm>
#include <array>

#include "base/check.h"
#include "runtime/tree/prefix_tree_state.h"

namespace lode::runtime {
namespace {

// Roles of points that belong to one place of one conversation: when it goes on, they are history.
bool Conversational(PointRole role) {
  return role == PointRole::kNextUser || role == PointRole::kNextTool ||
         role == PointRole::kRetry || role == PointRole::kEnd;
}

// Classes that say something about many conversations; the end of one of them does not lower them.
bool Structural(const Node& node) {
  return node.point_class == PointClass::kSystem || node.point_class == PointClass::kDiverge ||
         node.role == PointRole::kHint;
}

bool HasProbe(const Live& live, int64_t offset) {
  return std::any_of(live.probes.begin(), live.probes.end(),
                     [offset](const Probe& probe) { return probe.offset == offset; });
}

// The finish reason says where the next request will part: after a stop at the next user's turn,
// after a tool call behind what was generated.
PointClass ClassAfter(PointRole role, FinishReason reason, bool probed) {
  using enum PointClass;
  const bool goes_on = reason == FinishReason::kToolCall || reason == FinishReason::kPreempted;
  switch (role) {
    case PointRole::kNextUser:
      return goes_on ? kWarm : kHot;
    case PointRole::kNextTool:
      return goes_on ? kWarm : kCold;
    case PointRole::kEnd:
      // Without a template to ask, going on from the end is the best guess.
      switch (reason) {
        case FinishReason::kStop: return probed ? kCold : kHot;
        case FinishReason::kToolCall: return kHot;
        case FinishReason::kLength: return probed ? kWarm : kHot;
        case FinishReason::kCancelled: return kCold;
        case FinishReason::kPreempted: return kHot;
      }
      return kCold;
    default:
      return TreeState::ClassOf(role);
  }
}

}  // namespace

PointClass TreeState::ClassOf(PointRole role) {
  constexpr std::array<PointClass, kPointRoles> kClasses = {
      PointClass::kSystem, PointClass::kWarm,    PointClass::kWarm,  PointClass::kRetry,
      PointClass::kTurn,   PointClass::kHot,     PointClass::kCold,  PointClass::kDiverge,
      PointClass::kLadder, PointClass::kLadder,  PointClass::kSpare};
  return kClasses[static_cast<size_t>(role)];
}

void TreeState::Supersede(const Live& live) {
  for (NodeId id = live.leaf; nodes[id].parent != kNone; id = nodes[id].parent) {
    const Node& node = nodes[id];
    if (!node.has_point || !Conversational(node.role) || HasProbe(live, node.end)) continue;
    if (node.end == live.total || Structural(node)) continue;
    SetClass(id, PointClass::kOld);
  }
}

void TreeState::Reclassify(const Live& live, FinishReason reason) {
  for (NodeId id = live.leaf; nodes[id].parent != kNone; id = nodes[id].parent) {
    const Node& node = nodes[id];
    if (!node.has_point) continue;
    // Of several reasons for one place the best counts.
    std::optional<PointClass> best;
    const auto offer = [&](PointRole role) {
      const PointClass next = ClassAfter(role, reason, !live.probes.empty());
      if (!best || Prior(next) > Prior(*best)) best = next;
    };
    for (const Probe& probe : live.probes) {
      if (probe.offset == node.end) offer(probe.role);
    }
    if (node.role == PointRole::kEnd && node.end == live.position) offer(PointRole::kEnd);
    if (!best) continue;
    if (!Structural(node) || Prior(*best) > Prior(node.point_class)) SetClass(id, *best);
  }
}

bool TreeState::WantedAt(NodeId id, NodeId next) const {
  const Node& node = nodes[id];
  // Announced: a queued prompt shares the path up to here and no further.
  const int64_t going_on = next == kNone ? 0 : nodes[next].waiting;
  if (options.announced && node.waiting > going_on) return true;
  if (!options.observed || !node.computed || next == kNone) return false;
  // Observed: the second prompt that comes by here, and goes another way.
  if (!nodes[next].computed && Beside(id, next) != kNone) return true;
  // Or a place where many prompts parted lost its state.
  return node.lost == Lost::kEvicted &&
         (node.role == PointRole::kDiverge || node.role == PointRole::kSystem);
}

bool TreeState::EndsWaitingAt(NodeId id) const {
  int64_t going_on = 0;
  for (const NodeId child : nodes[id].children) going_on += nodes[child].waiting;
  return nodes[id].waiting > going_on;
}

namespace {

// Keeps the nearest offset behind a position, and of several there the most valuable role.
struct Nearest {
  int64_t position, limit, grid;
  const std::vector<int64_t>& existing;  // ascending offsets that have a point
  std::optional<Tap> best;

  void Offer(int64_t offset, PointRole role) {
    offset -= offset % grid;
    if (offset <= position || offset > limit) return;
    if (std::binary_search(existing.begin(), existing.end(), offset)) return;
    const bool nearer = !best || offset < best->offset;
    const bool better = best && offset == best->offset &&
                        TreeState::Prior(TreeState::ClassOf(role)) >
                            TreeState::Prior(TreeState::ClassOf(best->role));
    if (nearer || better) best = {offset, role};
  }
  // The next multiple of `step`.
  void OfferEvery(int64_t step, int64_t limit_here, PointRole role) {
    int64_t offset = position / step * step;
    do {
      offset += step;
    } while (std::binary_search(existing.begin(), existing.end(), offset));
    if (offset < limit_here) Offer(offset, role);
  }
};

}  // namespace

std::optional<Tap> TreeState::NextTap(const Live& live, int64_t position) const {
  if (!live.use_cache || !options.recurrent || position >= live.prompt) return std::nullopt;
  std::vector<int64_t> existing;
  std::vector<int64_t> partings;
  const std::vector<NodeId> path = PathTo(live.leaf);
  int64_t last = live.resume;
  for (size_t i = 0; i < path.size(); ++i) {
    const Node& node = nodes[path[i]];
    if (node.end > live.prompt) break;
    if (node.has_point) existing.push_back(node.end);
    if (node.end <= live.resume) continue;
    if (node.has_point) {
      // One that goes first when room is needed does not stand for others.
      if (node.point_class != PointClass::kSpare && node.role != PointRole::kRolling) {
        last = node.end;
      }
    } else if (node.end - last > options.divergence_tokens_min &&
               WantedAt(path[i], i + 1 < path.size() ? path[i + 1] : kNone)) {
      // Who ends right here, and cannot start without a row to compute, needs the state one before.
      const bool before = !options.hidden_rows && EndsWaitingAt(path[i]);
      partings.push_back(before ? node.end - 1 : node.end);
      last = node.end;
    }
  }
  Nearest nearest{position, live.prompt, options.tap_grid, existing, std::nullopt};
  for (const int64_t offset : partings) nearest.Offer(offset, PointRole::kDiverge);
  for (const Probe& probe : live.probes) nearest.Offer(probe.offset, probe.role);
  for (int64_t rung = options.ladder_first; rung > 0 && rung < live.prompt; rung *= 2) {
    nearest.Offer(rung, PointRole::kLadder);
  }
  if (options.rolling_tokens > 0 && live.prompt - live.resume > 2 * options.rolling_tokens) {
    nearest.OfferEvery(options.rolling_tokens, live.prompt, PointRole::kRolling);
  }
  if (options.spare_tokens > 0) {
    const int64_t pages = (live.prompt - position) / kTokensPerPage + 2;
    if (pool->CanTake(pages, 2)) {
      nearest.OfferEvery(options.spare_tokens, live.prompt + 1, PointRole::kSpare);
      if (options.hidden_rows) nearest.Offer(live.prompt, PointRole::kSpare);
    }
  }
  // It came again, and may once more.
  if (options.hidden_rows && live.repeated) nearest.Offer(live.prompt, PointRole::kRetry);
  return nearest.best;
}

int64_t TreeState::CommonOffset(NodeId a, NodeId b) const {
  while (a != b) {
    // The deeper one goes up; of two that end together neither can hold the other.
    const int64_t a_end = nodes[a].end;
    const int64_t b_end = nodes[b].end;
    if (a_end >= b_end) a = nodes[a].parent;
    if (b_end >= a_end) b = nodes[b].parent;
  }
  return nodes[a].end;
}

Advice TreeState::Advise(LiveId id) const {
  const Live& asking = live(id);
  Advice advice;
  advice.match = MatchLive(asking);
  if (!asking.use_cache || !options.announced) return advice;
  for (LiveId other = 0; other < lives.size(); ++other) {
    const Live& leader = lives[other];
    if (!leader.used || !leader.running || !leader.use_cache || other == id) continue;
    if (leader.root != asking.root) continue;
    int64_t shared = std::min(CommonOffset(asking.leaf, leader.leaf), leader.prompt);
    if (asking.last_logits && !options.hidden_rows) shared = std::min(shared, asking.prompt - 1);
    shared = std::min(shared, asking.reuse_max);
    shared -= shared % options.tap_grid;
    if (leader.position >= shared) continue;  // it will not pass there any more
    if (shared - advice.match.resume <= options.divergence_tokens_min) continue;
    if (shared > advice.wait_for) {
      advice.leader = other;
      advice.wait_for = shared;
    }
  }
  return advice;
}

}  // namespace lode::runtime
