#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "base/check.h"
#include "runtime/tree/prefix_tree_state.h"

namespace lode::runtime {
namespace {

struct Recount {
  std::vector<int64_t> paths, leases, waiting, pins, pinned_here, points;
  std::vector<uint32_t> page_holds, slot_holds;
  std::vector<uint64_t> pinned;  // by tenant
  TreeCounts counts;

  explicit Recount(const TreeState& s)
      : paths(s.nodes.size()),
        leases(s.nodes.size()),
        waiting(s.nodes.size()),
        pins(s.nodes.size()),
        pinned_here(s.nodes.size()),
        points(s.nodes.size()),
        page_holds(static_cast<size_t>(s.pool->pages().frames_max())),
        slot_holds(static_cast<size_t>(s.pool->slots().frames_max())),
        pinned(s.tenants.size()) {}
};

void Through(const TreeState& s, NodeId leaf, std::vector<int64_t>* counts) {
  for (NodeId id = leaf; s.at(id).parent != kNone; id = s.at(id).parent) ++(*counts)[id];
}

void CountUsers(const TreeState& s, Recount* again) {
  std::vector<int64_t> lives(s.roots.size());
  for (const Live& live : s.lives) {
    if (!live.used) continue;
    ++lives[live.root];
    if (!live.use_cache) continue;
    LODE_CHECK(s.at(live.leaf).root == live.root);
    LODE_CHECK(s.at(live.leaf).end == live.total);
    Through(s, live.leaf, &again->paths);
    Through(s, live.leaf, live.running ? &again->leases : &again->waiting);
  }
  for (size_t i = 0; i < s.roots.size(); ++i) LODE_CHECK(s.roots[i].lives == lives[i]);
  for (const PinRecord& pin : s.pins) {
    if (!pin.used) continue;
    ++again->pinned_here[pin.node];
    Through(s, pin.node, &again->pins);
  }
}

void CheckEdge(const TreeState& s, NodeId id) {
  const Node& node = s.at(id);
  const Node& parent = s.at(node.parent);
  LODE_CHECK(parent.used);
  LODE_CHECK(parent.root == node.root);  // no path crosses a root
  LODE_CHECK(node.begin == parent.end);
  LODE_CHECK(node.end > node.begin);
  LODE_CHECK(static_cast<int64_t>(node.tokens.size()) == node.length());
  LODE_CHECK(s.Child(node.parent, node.tokens.front()) == id);
  LODE_CHECK(!node.resident || parent.resident);  // R2
  LODE_CHECK(!node.computed || parent.computed);
  LODE_CHECK(!node.resident || node.computed);
  LODE_CHECK(node.refused == 0 || (node.begin < node.refused && node.refused <= node.end));
}

void CheckPages(const TreeState& s, NodeId id, Recount* again) {
  const Node& node = s.at(id);
  const int64_t last = (node.end - 1) / kTokensPerPage;
  const size_t count = static_cast<size_t>(last - node.first_page() + 1);
  LODE_CHECK(node.pages.size() == (node.resident && s.paged ? count : 0));
  for (const PageId page : node.pages) ++again->page_holds[page];
  if (!node.resident) return;
  LODE_CHECK(node.points_below > 0 || node.leases > 0);  // R1
}

void CheckPoint(const TreeState& s, NodeId id, Recount* again) {
  const Node& node = s.at(id);
  const ScoreHeap& heap = s.tenants[s.roots[node.root].tenant].heap;
  LODE_CHECK(heap.contains(id) == (node.has_point && node.pinned_here == 0));
  if (node.disk != 0) {
    ++again->counts.points_on_disk;
    LODE_CHECK(s.by_disk.at(node.disk) == id);
  }
  LODE_CHECK(node.has_point || (node.slot == kNoFrame && node.pinned_here == 0));
  if (!node.has_point) return;
  LODE_CHECK(node.resident);
  LODE_CHECK(s.options.recurrent == (node.slot != kNoFrame));
  if (node.slot != kNoFrame) ++again->slot_holds[node.slot];
  Through(s, id, &again->points);
  ++again->counts.points;
  ++again->counts.points_by_class[static_cast<size_t>(node.point_class)];
  if (node.pinned_here > 0) return;
  LODE_CHECK(heap.at(id).spare == (node.point_class == PointClass::kSpare));
  // What the heap says is never more than the truth, so nobody escapes by an old score. (What is
  // learnt drifts both ways and is looked at when a point comes up.)
  if (!s.options.learned) LODE_CHECK(heap.at(id).score <= s.Score(id) * (1 + 1e-9) + 1e-12);
}

void CheckGhosts(const TreeState& s) {
  int64_t listed = 0;
  for (NodeId id = s.oldest_ghost; id != kNone; id = s.at(id).newer) {
    LODE_CHECK(s.at(id).listed);
    LODE_CHECK(s.at(id).newer == kNone ? s.newest_ghost == id : s.at(s.at(id).newer).older == id);
    ++listed;
  }
  for (NodeId id = 0; id < s.nodes.size(); ++id) {
    const Node& node = s.at(id);
    if (!node.used || node.parent == kNone) continue;
    const bool idle = node.children.empty() && node.paths == 0 && !node.resident && node.disk == 0;
    LODE_CHECK(node.listed == idle);  // so whatever nobody needs can be forgotten
    if (node.listed) --listed;
  }
  LODE_CHECK(listed == 0);
}

void CheckFrames(const TreeState& s, const Recount& again) {
  // A page may be held by several nodes only along one path: nobody writes into another's page.
  std::map<PageId, NodeId> deepest;
  for (NodeId id = 0; id < s.nodes.size(); ++id) {
    for (const PageId page : s.at(id).pages) {
      const auto [found, fresh] = deepest.try_emplace(page, id);
      if (fresh) continue;
      const int64_t common = s.CommonOffset(found->second, id);
      LODE_CHECK(common == s.at(id).end || common == s.at(found->second).end);
      if (s.at(id).end > s.at(found->second).end) found->second = id;
    }
  }
  for (PageId page = 0; page < again.page_holds.size(); ++page) {
    LODE_CHECK(s.pool->pages().holds(page) == again.page_holds[page]);
  }
  for (SlotId slot = 0; slot < again.slot_holds.size(); ++slot) {
    LODE_CHECK(s.pool->slots().holds(slot) == again.slot_holds[slot]);
    LODE_CHECK(again.slot_holds[slot] <= 1);
  }
  s.pool->Check();
}

}  // namespace

void PrefixTree::Check() const {
  const TreeState& s = *state_;
  Recount again(s);
  CountUsers(s, &again);
  for (NodeId id = 0; id < s.nodes.size(); ++id) {
    const Node& node = s.at(id);
    if (!node.used) continue;
    ++again.counts.nodes;
    LODE_CHECK(s.roots[node.root].used);
    if (node.parent == kNone) {
      LODE_CHECK(s.roots[node.root].node == id);
      continue;
    }
    CheckEdge(s, id);
    CheckPages(s, id, &again);
    CheckPoint(s, id, &again);
    again.counts.tokens += node.length();
    if (node.computed && !node.resident) again.counts.ghost_tokens += node.length() + 64;
    if (node.pins > 0) again.pinned[s.roots[node.root].tenant] += s.PinCost(node);
    if (node.pinned_here > 0 && node.slot != kNoFrame) {
      again.pinned[s.roots[node.root].tenant] += s.pool->BytesOf(0, 1);
    }
  }
  for (NodeId id = 0; id < s.nodes.size(); ++id) {
    const Node& node = s.at(id);
    LODE_CHECK(node.paths == again.paths[id]);
    LODE_CHECK(node.leases == again.leases[id]);
    LODE_CHECK(node.waiting == again.waiting[id]);
    LODE_CHECK(node.pins == again.pins[id]);
    LODE_CHECK(node.pinned_here == again.pinned_here[id]);
    LODE_CHECK(node.points_below == again.points[id]);
  }
  CheckGhosts(s);
  CheckFrames(s, again);
  LODE_CHECK(s.counts.nodes == again.counts.nodes);
  LODE_CHECK(s.counts.tokens == again.counts.tokens);
  LODE_CHECK(s.counts.ghost_tokens == again.counts.ghost_tokens);
  LODE_CHECK(s.counts.points == again.counts.points);
  LODE_CHECK(s.counts.points_on_disk == again.counts.points_on_disk);
  LODE_CHECK(s.counts.points_by_class == again.counts.points_by_class);
  for (TenantId id = 0; id < s.tenants.size(); ++id) {
    LODE_CHECK(s.tenants[id].pinned == again.pinned[id]);
  }
}

}  // namespace lode::runtime
