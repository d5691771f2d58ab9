#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "runtime/tree/prefix_tree_state.h"

namespace lode::runtime {

double TreeState::Prior(PointClass point_class) {
  // Set by hand with synthetic traces in view; what is learnt multiplies
  // them.
  constexpr std::array<double, kPointClasses> kPriors = {4,   4,   3,    2,    0.5,
                                                         0.5, 0.2, 0.15, 0.05, 0.02};
  return kPriors[static_cast<size_t>(point_class)];
}

uint64_t TreeState::ExclusiveBytes(NodeId id) const {
  int64_t pages = 0;
  for (; nodes[id].parent != kNone; id = nodes[id].parent) {
    if (nodes[id].points_below != 1 || nodes[id].leases > 0) break;
    pages += OwnPages(nodes[id]);
  }
  return pool->BytesOf(pages, 0);
}

int64_t TreeState::PointAbove(NodeId id) const {
  if (nodes[id].parent == kNone) return 0;
  for (id = nodes[id].parent; nodes[id].parent != kNone; id = nodes[id].parent) {
    if (nodes[id].has_point) return nodes[id].end;
  }
  return 0;
}

FamilyRecord* TreeState::Family(uint64_t key) {
  FamilyRecord& record = families[key % families.size()];
  if (record.key != key) record = {key, {}};
  return &record;
}

double TreeState::Learnt(uint64_t family, PointRole role) const {
  if (!options.learned) return 1.0;
  const FamilyRecord& record = families[family % families.size()];
  if (record.key != family) return 1.0;
  const FamilyRecord::Count& count = record.roles[static_cast<size_t>(role)];
  return (count.reused + 2.0) / (count.taken / 2.0 + 2.0);
}

double TreeState::Worth(double factor, int64_t above, int64_t offset, uint64_t bytes) const {
  const double loss = options.cost.Of(offset) - options.cost.Of(above);
  return factor * loss / static_cast<double>(std::max<uint64_t>(bytes, 1));
}

double TreeState::Score(NodeId id) const {
  const Node& node = nodes[id];
  const double factor = Prior(node.point_class) * Learnt(node.family, node.role) +
                        static_cast<double>(node.hits);
  const uint64_t bytes = pool->slots().stride() + ExclusiveBytes(id);
  return node.base + Worth(factor, PointAbove(id), node.end, bytes);
}

void TreeState::Rescore(NodeId id) {
  const Node& node = nodes[id];
  ScoreHeap& heap = tenants[roots[node.root].tenant].heap;
  if (!heap.contains(id)) return;  // pinned
  heap.Set({node.point_class == PointClass::kSpare, Score(id), id});
}

void TreeState::RescoreBelow(NodeId id) {
  for (const NodeId child : nodes[id].children) {
    if (nodes[child].points_below == 0) continue;
    if (nodes[child].has_point) {
      Rescore(child);
    } else {
      RescoreBelow(child);
    }
  }
}

void TreeState::RescoreKeeper(NodeId id) {
  while (nodes[id].parent != kNone && nodes[id].points_below == 0) id = nodes[id].parent;
  if (nodes[id].points_below != 1 || nodes[id].parent == kNone) return;
  while (!nodes[id].has_point) {
    const std::vector<NodeId>& children = nodes[id].children;
    const auto keeper = std::find_if(children.begin(), children.end(), [this](NodeId child) {
      return nodes[child].points_below > 0;
    });
    LODE_CHECK(keeper != children.end());
    id = *keeper;
  }
  Rescore(id);
}

void TreeState::AddPoint(NodeId id, SlotId slot, bool hidden, PointRole role, uint64_t family) {
  Node& node = nodes[id];
  LODE_CHECK(node.resident);
  LODE_CHECK(!node.has_point);
  if (slot != kNoFrame) pool->slots().Hold(slot);
  node.has_point = true;
  node.slot = slot;
  node.hidden = hidden;
  node.role = role;
  node.point_class = ClassOf(role);
  node.hits = 0;
  node.base = level;
  node.family = family;
  node.lost = Lost::kNothing;
  AddThrough(id, &Node::points_below, 1);
  FamilyRecord::Count& count = Family(family)->roles[static_cast<size_t>(role)];
  if (++count.taken > 64) {  // the recent past weighs more
    count.taken /= 2;
    count.reused /= 2;
  }
  ++counts.taken;
  ++counts.points;
  ++counts.points_by_class[static_cast<size_t>(node.point_class)];
  tenants[roots[node.root].tenant].heap.Set(
      {node.point_class == PointClass::kSpare, Score(id), id});
  RescoreBelow(id);
}

void TreeState::DropPoint(NodeId id) {
  Node& node = nodes[id];
  LODE_CHECK(node.has_point);
  LODE_CHECK(node.pinned_here == 0);
  if (node.slot != kNoFrame) pool->slots().Unhold(node.slot);
  node.has_point = false;
  node.hidden = false;
  node.slot = kNoFrame;
  --counts.points;
  --counts.points_by_class[static_cast<size_t>(node.point_class)];
  tenants[roots[node.root].tenant].heap.Remove(id);
  AddThrough(id, &Node::points_below, -1);
  DropDead(id);
  RescoreKeeper(id);
  Settle(id);
}

void TreeState::DropRolling(Live& live) {
  const int64_t offset = std::exchange(live.rolling, 0);
  if (offset == 0) return;
  for (NodeId id = live.leaf; nodes[id].parent != kNone; id = nodes[id].parent) {
    const Node& node = nodes[id];
    if (node.end != offset || !node.has_point || node.role != PointRole::kRolling) continue;
    if (node.pinned_here == 0) DropPoint(id);
    return;
  }
}

void TreeState::DropPointsAbove(NodeId id) {
  std::vector<NodeId> above;
  for (id = nodes[id].parent; nodes[id].parent != kNone; id = nodes[id].parent) {
    if (nodes[id].has_point && nodes[id].pinned_here == 0) above.push_back(id);
  }
  for (const NodeId point : above) DropPoint(point);
}

void TreeState::KeepPages(const Live& live) {
  NodeId id = live.leaf;
  while (!nodes[id].resident) id = nodes[id].parent;
  if (nodes[id].parent == kNone || nodes[id].points_below > 0) return;
  AddPoint(id, kNoFrame, false, PointRole::kEnd, live.family);
  DropPointsAbove(id);
}

void TreeState::Hit(NodeId leaf, int64_t offset) {
  NodeId id = leaf;
  while (nodes[id].begin >= offset) id = nodes[id].parent;
  while (!nodes[id].has_point) {  // pages alone were reused: of one of the points that keep them
    const std::vector<NodeId>& children = nodes[id].children;
    const auto keeper = std::find_if(children.begin(), children.end(), [this](NodeId child) {
      return nodes[child].points_below > 0;
    });
    if (keeper == children.end()) return;  // a running sequence keeps them
    id = *keeper;
  }
  Node& node = nodes[id];
  node.base = level;
  if (++node.hits == 1) ++Family(node.family)->roles[static_cast<size_t>(node.role)].reused;
  // It has shown that it is more than a way to use free room.
  if (node.point_class == PointClass::kSpare) SetClass(id, PointClass::kLadder);
  Rescore(id);
}

bool TreeState::Demote(NodeId id) {
  Node& node = nodes[id];
  if (node.disk != 0) return true;  // it was read from there
  if (options.demotion == nullptr || node.point_class > PointClass::kWarm) return false;
  const double saved = options.cost.Of(node.end) - options.cost.Of(PointAbove(id));
  const double bytes = static_cast<double>(pool->slots().stride() + ExclusiveBytes(id));
  if (bytes / options.disk_bytes_per_second > saved * seconds_per_cost / 4) return false;
  const std::vector<Token> tokens = TokensOf(id, node.end);
  const std::vector<PageId> pages = PagesOf(id, node.end);
  node.disk = options.demotion->Demote({node.root, roots[node.root].tenant, node.end, node.role,
                                        node.point_class, node.slot, node.hidden, tokens, pages,
                                        saved * seconds_per_cost, roots[node.root].key});
  if (node.disk == 0) return false;
  by_disk[node.disk] = id;
  ++counts.points_on_disk;
  ++counts.demoted;
  return true;
}

void TreeState::Evict(NodeId id) {
  Node& node = nodes[id];
  if (node.point_class != PointClass::kSpare) level = std::max(level, Score(id));
  ++counts.evicted;
  if (!Demote(id)) {
    node.lost = Lost::kEvicted;
    node.lost_at = now;
  }
  DropPoint(id);
}

bool TreeState::Evictable(NodeId id) const {
  const Node& node = nodes[id];
  if (node.slot != kNoFrame) return pool->slots().leases(node.slot) == 0;
  return ExclusiveBytes(id) > 0;
}

NodeId TreeState::LowestOf(Tenant* tenant) {
  ScoreHeap& heap = tenant->heap;
  std::vector<ScoreHeap::Entry> aside;  // in use: a handful
  NodeId lowest = kNone;
  while (!heap.empty()) {
    const ScoreHeap::Entry entry = heap.top();
    if (!Evictable(entry.id)) {
      aside.push_back(entry);
      heap.Remove(entry.id);
      continue;
    }
    const double score = Score(entry.id);
    if (score == entry.score) {
      lowest = entry.id;
      break;
    }
    heap.Set({entry.spare, score, entry.id});  // scores rise unseen until they are looked at here
  }
  for (const ScoreHeap::Entry& entry : aside) heap.Set(entry);
  return lowest;
}

uint64_t TreeState::Share(TenantId tenant) const {
  double weights = 0.0;
  for (const Tenant& each : tenants) weights += each.options.weight;
  const double part = tenants[tenant].options.weight / weights;
  return static_cast<uint64_t>(part * static_cast<double>(pool->budget()));
}

NodeId TreeState::Victim(TenantId tenant, uint64_t wanted) {
  NodeId victim = kNone;
  for (TenantId id = 0; id < tenants.size(); ++id) {
    const uint64_t used = pool->used_by_group(id) + (id == tenant ? wanted : 0);
    if (tenants.size() > 1 && used <= Share(id)) continue;
    const NodeId lowest = LowestOf(&tenants[id]);
    if (lowest == kNone) continue;
    if (victim != kNone) {
      const ScoreHeap& held = tenants[roots[nodes[victim].root].tenant].heap;
      if (!(tenants[id].heap.at(lowest) < held.at(victim))) continue;
    }
    victim = lowest;
  }
  // All that are above their share only run: then whoever wants more gives up of its own.
  return victim != kNone ? victim : LowestOf(&tenants[tenant]);
}

bool TreeState::Room(TenantId tenant, int64_t pages, int64_t slots, double limit) {
  while (!pool->CanTake(pages, slots)) {
    const NodeId victim = Victim(tenant, pool->BytesOf(pages, slots));
    if (victim == kNone) return false;
    if (nodes[victim].point_class != PointClass::kSpare && Score(victim) >= limit) return false;
    Evict(victim);
  }
  return true;
}

void TreeState::SetClass(NodeId id, PointClass point_class) {
  Node& node = nodes[id];
  if (node.point_class == point_class) return;
  --counts.points_by_class[static_cast<size_t>(node.point_class)];
  ++counts.points_by_class[static_cast<size_t>(point_class)];
  node.point_class = point_class;
  Rescore(id);
}

uint64_t TreeState::PinCost(const Node& node) const { return pool->BytesOf(OwnPages(node), 0); }

void TreeState::Pin(NodeId id, int64_t by) {
  Tenant& tenant = tenants[roots[nodes[id].root].tenant];
  Node& target = nodes[id];
  if (by > 0 && target.pinned_here == 0) {
    tenant.heap.Remove(id);
    tenant.pinned += pool->BytesOf(0, target.slot == kNoFrame ? 0 : 1);
  }
  target.pinned_here += by;
  for (NodeId up = id; nodes[up].parent != kNone; up = nodes[up].parent) {
    const int64_t before = nodes[up].pins;
    nodes[up].pins += by;
    if (before == 0) tenant.pinned += PinCost(nodes[up]);
    if (nodes[up].pins == 0) tenant.pinned -= PinCost(nodes[up]);
  }
  if (target.pinned_here == 0) {
    tenant.pinned -= pool->BytesOf(0, target.slot == kNoFrame ? 0 : 1);
    tenant.heap.Set({target.point_class == PointClass::kSpare, Score(id), id});
    Settle(id);
  }
}

}  // namespace lode::runtime
