#include "runtime/tree/prefix_tree.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "base/check.h"
#include "runtime/tree/prefix_tree_state.h"

namespace lode::runtime {
namespace {

// FNV-1a over ids: names a family for statistics only, where a collision costs a little precision.
uint64_t FamilyOf(TenantId tenant, std::span<const Token> tokens) {
  uint64_t hash = 0xcbf29ce484222325 ^ tenant;
  for (const Token token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3;
  }
  return hash;
}

// Ascending; probes within `gap` tokens of the first of their group lie there too.
std::vector<Probe> JoinProbes(std::span<const Probe> probes, int64_t gap) {
  std::vector<Probe> joined(probes.begin(), probes.end());
  std::stable_sort(joined.begin(), joined.end(),
                   [](const Probe& a, const Probe& b) { return a.offset < b.offset; });
  for (size_t i = 1; i < joined.size(); ++i) {
    if (joined[i].offset - joined[i - 1].offset < gap) joined[i].offset = joined[i - 1].offset;
  }
  return joined;
}

constexpr double kAnyScore = std::numeric_limits<double>::infinity();

std::string Mebibytes(uint64_t bytes) {
  return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

}  // namespace

TreeState::TreeState(FramePool* frame_pool, const TreeOptions& tree_options)
    : pool(frame_pool),
      options(tree_options),
      paged(pool->pages().stride() > 0),
      families(1024) {
  LODE_CHECK(options.tap_grid >= 1);
  LODE_CHECK(options.recurrent == (pool->slots().stride() > 0));
}

Live& TreeState::live(LiveId id) {
  LODE_CHECK(id < lives.size());
  LODE_CHECK(lives[id].used);
  return lives[id];
}

const Live& TreeState::live(LiveId id) const { return const_cast<TreeState*>(this)->live(id); }

PrefixTree::PrefixTree(FramePool* pool, const TreeOptions& options)
    : state_(std::make_unique<TreeState>(pool, options)) {}

// Frames go back to the pool, which may go on to serve others.
PrefixTree::~PrefixTree() {
  for (const Node& node : state_->nodes) {
    for (const PageId page : node.pages) state_->pool->pages().Unhold(page);
    if (node.slot != kNoFrame) state_->pool->slots().Unhold(node.slot);
  }
}

// --- Tenants and roots ---

Result<TenantId> PrefixTree::AddTenant(const TenantOptions& options) {
  TreeState& s = *state_;
  const TenantId id = static_cast<TenantId>(s.tenants.size());
  if (id >= s.pool->groups_max()) {
    return Error(Code::kNoSpace,
                 "no more than " + std::to_string(id) + " tenants can be told apart");
  }
  LODE_CHECK(options.weight > 0.0);
  s.tenants.emplace_back();
  s.tenants.back().options = options;
  return id;
}

Result<RootId> PrefixTree::OpenRoot(TenantId tenant, const RootKey& key) {
  TreeState& s = *state_;
  LODE_CHECK(tenant < s.tenants.size());
  if (const auto found = s.roots_by_key.find({tenant, key}); found != s.roots_by_key.end()) {
    return found->second;
  }
  OwnerId owner = s.pool->AddOwner(tenant);
  if (owner == kNoFrame) {
    for (RootId id = 0; id < s.roots.size(); ++id) CloseIfEmpty(id);
    owner = s.pool->AddOwner(tenant);
  }
  if (owner == kNoFrame) {
    return Error(Code::kNoSpace, "too many separate caches are in use",
                 "use fewer different salts, or wait until some are idle");
  }
  RootId id = static_cast<RootId>(s.roots.size());
  if (s.free_roots.empty()) {
    s.roots.emplace_back();
  } else {
    id = s.free_roots.back();
    s.free_roots.pop_back();
  }
  s.roots[id] = {true, tenant, key, owner, s.NewNode(id, kNone), 0, 0};
  s.at(s.roots[id].node).resident = s.at(s.roots[id].node).computed = true;
  s.roots_by_key[{tenant, key}] = id;
  if (s.options.demotion != nullptr) {
    for (const auto& known : s.options.demotion->KnownOf(tenant, key)) s.AddKnown(id, known);
  }
  return id;
}

// A root without anybody and anything in memory gives its place to another.
void PrefixTree::CloseIfEmpty(RootId id) {
  TreeState& s = *state_;
  Root& root = s.roots[id];
  if (!root.used || root.lives > 0 || root.kept > 0) return;
  if (s.pool->frames_of(root.owner) > 0) return;
  s.DropSubtree(root.node);
  if (!s.at(root.node).children.empty()) return;  // something is on disk
  s.at(root.node) = Node();
  s.free_nodes.push_back(root.node);
  --s.counts.nodes;
  s.pool->RemoveOwner(root.owner);
  s.roots_by_key.erase({root.tenant, root.key});
  root = Root();
  s.free_roots.push_back(id);
}

OwnerId PrefixTree::owner(RootId root) const { return state_->roots[root].owner; }
void PrefixTree::KeepRoot(RootId root, int64_t by) { state_->roots[root].kept += by; }

void PrefixTree::DropRoot(RootId root) {
  TreeState& s = *state_;
  LODE_CHECK(s.roots[root].used);
  std::vector<NodeId> points;
  for (NodeId id = 0; id < s.nodes.size(); ++id) {
    const Node& node = s.at(id);
    if (!node.used || node.root != root) continue;
    if (node.disk != 0) {
      if (s.options.demotion != nullptr) s.options.demotion->Forget(node.disk);
      s.LoseDisk(id, Lost::kNothing);
    }
    if (node.has_point && node.pinned_here == 0) points.push_back(id);
  }
  for (const NodeId id : points) s.DropPoint(id);
  s.DropSubtree(s.roots[root].node);
}

// --- A request's life ---

LiveId PrefixTree::Announce(RootId root, std::span<const Token> prompt,
                            const AnnounceOptions& options) {
  TreeState& s = *state_;
  LODE_CHECK(s.roots[root].used);
  LODE_CHECK(!prompt.empty());
  LiveId id = static_cast<LiveId>(s.lives.size());
  if (s.free_lives.empty()) {
    s.lives.emplace_back();
  } else {
    id = s.free_lives.back();
    s.free_lives.pop_back();
  }
  ++s.tick;
  ++s.roots[root].lives;
  Live& live = s.lives[id];
  live = Live();
  live.used = true;
  live.use_cache = options.use_cache;
  live.last_logits = options.last_logits;
  live.reuse_max = options.reuse_max;
  live.root = root;
  live.prompt = live.total = static_cast<int64_t>(prompt.size());
  const size_t first_page = std::min<size_t>(prompt.size(), kTokensPerPage);
  live.family = options.family != 0 ? options.family
                                    : FamilyOf(s.roots[root].tenant, prompt.first(first_page));
  live.probes = JoinProbes(options.probes, s.options.probe_gap);
  if (!options.use_cache) {
    live.leaf = s.roots[root].node;
    live.uncached.assign(prompt.begin(), prompt.end());
    return id;
  }
  live.leaf = s.Insert(s.roots[root].node, prompt);
  s.AddThrough(live.leaf, &Node::paths, 1);
  s.AddThrough(live.leaf, &Node::waiting, 1);
  for (const NodeId node : s.PathTo(live.leaf)) s.Unlist(node);
  return id;
}

Advice PrefixTree::Advise(LiveId live) const { return state_->Advise(live); }

Admission PrefixTree::Admit(LiveId id) {
  TreeState& s = *state_;
  Live& live = s.live(id);
  LODE_CHECK(!live.running);
  Admission admission;
  admission.match = s.MatchLive(live);
  const Match& match = admission.match;
  live.running = true;
  live.resume = live.position = match.resume;
  live.repeated = live.use_cache && s.at(live.leaf).computed;
  ++s.tick;
  s.counts.cached_tokens += match.resume;
  s.counts.computed_tokens += match.computed();
  s.counts.tokens_by_reason[static_cast<size_t>(match.reason)] += match.computed();
  if (!live.use_cache) return admission;
  s.AddThrough(live.leaf, &Node::waiting, -1);
  s.AddThrough(live.leaf, &Node::leases, 1);
  if (match.resume > 0) {
    admission.pages = s.PagesOf(live.leaf, match.resume);
    for (const PageId page : admission.pages) s.pool->pages().Lease(page);
    if (match.slot != kNoFrame) s.pool->slots().Lease(match.slot);
    s.Hit(live.leaf, match.resume);
  }
  s.Supersede(live);
  return admission;
}

std::optional<Tap> PrefixTree::NextTap(LiveId live, int64_t position) const {
  return state_->NextTap(state_->live(live), position);
}

std::vector<Tap> PrefixTree::Plan(LiveId live, int64_t position) const {
  std::vector<Tap> taps;
  while (const std::optional<Tap> tap = NextTap(live, position)) {
    taps.push_back(*tap);
    position = tap->offset;
  }
  return taps;
}

bool PrefixTree::RoomForPoint(LiveId id, int64_t offset, PointRole role) {
  TreeState& s = *state_;
  Live& live = s.live(id);
  if (!live.use_cache) return false;
  if (s.counts.points >= s.options.points_max) return false;
  const int64_t left = std::max<int64_t>(0, live.prompt - offset);
  const bool spare = role == PointRole::kSpare;
  if (s.pool->CanTake(spare ? left / kTokensPerPage + 2 : 0, 1)) return true;
  if (spare) return false;
  if (role == PointRole::kRolling) {  // it goes when the prefill ends: nothing else has to make way
    s.DropRolling(live);
    return s.pool->CanTake(0, 1);
  }
  // What it would score: its pages are those since the point above.
  int64_t above = 0;
  NodeId node = live.leaf;
  for (; s.at(node).parent != kNone; node = s.at(node).parent) {
    if (s.at(node).has_point && s.at(node).end < offset) {
      above = s.at(node).end;
      break;
    }
  }
  const uint64_t bytes = s.pool->BytesOf((offset - above) / kTokensPerPage + 1, 1);
  const double factor = TreeState::Prior(TreeState::ClassOf(role)) * s.Learnt(live.family, role);
  const double score = s.level + s.Worth(factor, above, offset, bytes);
  if (s.Room(s.roots[live.root].tenant, 0, 1, score)) return true;
  ++s.counts.refused;
  for (node = live.leaf; s.at(node).begin >= offset;) node = s.at(node).parent;
  s.at(node).refused = std::max(s.at(node).refused, std::min(offset, s.at(node).end));
  return false;
}

SlotId PrefixTree::AddSnapshot(LiveId id, int64_t offset, SlotId slot, PointRole role,
                               std::span<PageId> table, bool hidden) {
  TreeState& s = *state_;
  Live& live = s.live(id);
  if (!live.use_cache) return slot;
  LODE_CHECK(offset > 0);
  LODE_CHECK(s.options.recurrent == (slot != kNoFrame));
  s.Publish(live, offset, table);
  if (live.running) live.position = std::max(live.position, offset);
  const NodeId node = s.EndAt(live.leaf, offset);
  if (s.at(node).has_point) {
    const bool better = TreeState::Prior(TreeState::ClassOf(role)) >
                        TreeState::Prior(s.at(node).point_class);
    if (better) {
      s.at(node).role = role;
      s.SetClass(node, TreeState::ClassOf(role));
    }
    return s.at(node).slot;
  }
  s.AddPoint(node, slot, hidden, role, live.family);
  if (role == PointRole::kRolling) {
    s.DropRolling(live);
    live.rolling = offset;
  }
  // Where pages suffice, a point above on the same path serves nothing that this one does not.
  if (!s.options.recurrent) s.DropPointsAbove(node);
  return slot;
}

bool PrefixTree::GiveUpPoint(LiveId id, int64_t offset) {
  TreeState& s = *state_;
  for (NodeId node = s.live(id).leaf; s.at(node).parent != kNone; node = s.at(node).parent) {
    if (s.at(node).end != offset || !s.at(node).has_point) continue;
    if (s.at(node).pinned_here > 0) return false;
    s.DropPoint(node);
    return true;
  }
  return false;
}

void PrefixTree::GiveUpPages(LiveId id) {
  TreeState& s = *state_;
  const Live& live = s.live(id);
  if (!live.use_cache || !live.running || !s.options.recurrent) return;
  for (NodeId node = live.leaf; s.at(node).parent != kNone; node = s.at(node).parent) {
    if (s.at(node).points_below > 0 || s.at(node).leases > 1) break;
    if (s.at(node).resident) s.DropPages(node);
  }
  s.Settle(live.leaf);
}

void PrefixTree::Publish(LiveId id, int64_t offset, std::span<PageId> table) {
  Live& live = state_->live(id);
  LODE_CHECK(live.running);
  if (live.use_cache && offset > 0) state_->Publish(live, offset, table);
  live.position = std::max(live.position, offset);
}

void PrefixTree::Append(LiveId id, std::span<const Token> tokens) {
  TreeState& s = *state_;
  Live& live = s.live(id);
  if (tokens.empty()) return;
  live.total += static_cast<int64_t>(tokens.size());
  if (!live.use_cache) {
    live.uncached.insert(live.uncached.end(), tokens.begin(), tokens.end());
    return;
  }
  LODE_CHECK(live.running);
  Node& leaf = s.at(live.leaf);
  if (leaf.children.empty() && !leaf.computed && leaf.paths == 1) {
    leaf.tokens.insert(leaf.tokens.end(), tokens.begin(), tokens.end());
    leaf.end += static_cast<int64_t>(tokens.size());
    s.counts.tokens += static_cast<int64_t>(tokens.size());
    return;
  }
  const NodeId before = live.leaf;
  live.leaf = s.Insert(before, tokens);
  for (NodeId node = live.leaf; node != before; node = s.at(node).parent) {
    ++s.at(node).paths;
    ++s.at(node).leases;
    s.Unlist(node);
  }
}

void PrefixTree::Progress(LiveId id, int64_t position) { state_->live(id).position = position; }

LiveId PrefixTree::Fork(LiveId id, std::span<const PageId> table, SlotId slot) {
  TreeState& s = *state_;
  LODE_CHECK(s.live(id).running);
  LiveId child = static_cast<LiveId>(s.lives.size());
  if (s.free_lives.empty()) {
    s.lives.emplace_back();
  } else {
    child = s.free_lives.back();
    s.free_lives.pop_back();
  }
  s.lives[child] = s.live(id);
  const Live& live = s.lives[child];
  s.lives[child].rolling = 0;
  ++s.roots[live.root].lives;
  if (live.use_cache) {
    s.AddThrough(live.leaf, &Node::paths, 1);
    s.AddThrough(live.leaf, &Node::leases, 1);
  }
  for (const PageId page : table) {
    if (page != kNoFrame) s.pool->pages().Lease(page);
  }
  if (slot != kNoFrame) s.pool->slots().Lease(slot);
  return child;
}

void PrefixTree::Finish(LiveId id, FinishReason reason) {
  TreeState& s = *state_;
  Live& live = s.live(id);
  if (live.use_cache) {
    if (live.running) {
      if (!s.options.recurrent) s.KeepPages(live);
      s.MarkComputed(live);
      s.Reclassify(live, reason);
    }
    // A prefill that was cut short has nothing deeper than its rolling point.
    if (live.position >= live.prompt) s.DropRolling(live);
    s.AddThrough(live.leaf, live.running ? &Node::leases : &Node::waiting, -1);
    s.AddThrough(live.leaf, &Node::paths, -1);
    s.DropDead(live.leaf);
    s.RescoreKeeper(live.leaf);
    s.Settle(live.leaf);
    s.ForgetGhosts();
  }
  --s.roots[live.root].lives;
  live = Live();
  s.free_lives.push_back(id);
}

int64_t PrefixTree::tokens(LiveId live) const { return state_->live(live).total; }

std::vector<Token> PrefixTree::Tokens(LiveId id) const {
  const Live& live = state_->live(id);
  return live.use_cache ? state_->TokensOf(live.leaf, live.total) : live.uncached;
}

// --- Keeping ---

Result<PrefixTree::Pinned> PrefixTree::Pin(RootId root, std::span<const Token> prompt,
                                           int64_t offset) {
  TreeState& s = *state_;
  NodeId node = kNone;
  for (const Step& step : s.Walk(root, prompt)) {
    const Node& there = s.at(step.node);
    if (step.end == there.end && there.end <= offset && there.has_point) node = step.node;
  }
  if (node == kNone) {
    return Error(Code::kNotFound, "nothing of these tokens is kept that could be pinned",
                 "run the prompt first");
  }
  Pinned pinned{kNone, s.at(node).end, 0};
  const bool again = s.at(node).pinned_here > 0;
  pinned.bytes = s.pool->BytesOf(0, again || s.at(node).slot == kNoFrame ? 0 : 1);
  for (NodeId up = node; s.at(up).parent != kNone; up = s.at(up).parent) {
    if (s.at(up).pins == 0) pinned.bytes += s.PinCost(s.at(up));
  }
  const Tenant& tenant = s.tenants[s.roots[root].tenant];
  if (tenant.pinned + pinned.bytes > tenant.options.pin_bytes_max) {
    return Error(Code::kNoSpace,
                 "pinning takes " + Mebibytes(pinned.bytes) + " more than the " +
                     Mebibytes(tenant.pinned) + " that are pinned, and " +
                     Mebibytes(tenant.options.pin_bytes_max) + " are allowed",
                 "unpin something");
  }
  if (s.free_pins.empty()) {
    pinned.pin = static_cast<PinId>(s.pins.size());
    s.pins.emplace_back();
  } else {
    pinned.pin = s.free_pins.back();
    s.free_pins.pop_back();
  }
  s.pins[pinned.pin] = {true, node};
  s.Pin(node, +1);
  return pinned;
}

void PrefixTree::Unpin(PinId pin) {
  TreeState& s = *state_;
  LODE_CHECK(pin < s.pins.size());
  LODE_CHECK(s.pins[pin].used);
  s.Pin(s.pins[pin].node, -1);
  s.pins[pin] = {};
  s.free_pins.push_back(pin);
}

uint64_t PrefixTree::pinned_bytes(TenantId tenant) const { return state_->tenants[tenant].pinned; }

std::optional<PrefixTree::Saved> PrefixTree::LeaseAt(RootId root, std::span<const Token> tokens) {
  TreeState& s = *state_;
  const std::vector<Step> path = s.Walk(root, tokens);
  if (path.empty() || path.back().end != static_cast<int64_t>(tokens.size())) return std::nullopt;
  const Node& node = s.at(path.back().node);
  if (node.end != path.back().end || !node.has_point) return std::nullopt;
  Saved saved{node.slot, node.hidden, s.PagesOf(path.back().node, node.end)};
  for (const PageId page : saved.pages) s.pool->pages().Lease(page);
  if (saved.slot != kNoFrame) s.pool->slots().Lease(saved.slot);
  return saved;
}

std::vector<PageId> PrefixTree::LeasePages(LiveId id) {
  TreeState& s = *state_;
  const Live& live = s.live(id);
  if (!live.use_cache) return {};
  NodeId node = live.leaf;
  while (!s.at(node).resident) node = s.at(node).parent;
  std::vector<PageId> pages = s.PagesOf(node, s.at(node).end);
  for (const PageId page : pages) s.pool->pages().Lease(page);
  return pages;
}

// --- Room ---

Result<void> PrefixTree::MakeRoom(RootId root, int64_t pages, int64_t slots, bool from_anybody) {
  TreeState& s = *state_;
  bool room = s.Room(s.roots[root].tenant, pages, slots, kAnyScore);
  for (TenantId id = 0; from_anybody && !room && id < s.tenants.size(); ++id) {
    room = s.Room(id, pages, slots, kAnyScore);  // as if it were the one to want it
  }
  s.ForgetGhosts();
  if (room) return {};
  uint64_t pinned = 0;
  for (const Tenant& tenant : s.tenants) pinned += tenant.pinned;
  return Error(Code::kNoSpace, Mebibytes(s.pool->BytesOf(pages, slots)) + " are needed and " +
                                   Mebibytes(s.pool->available()) + " of " +
                                   Mebibytes(s.pool->budget()) + " are free: " +
                                   Mebibytes(s.pool->leased()) + " are being used, " +
                                   Mebibytes(pinned) + " are pinned");
}

uint64_t PrefixTree::used_bytes(TenantId tenant) const {
  return state_->pool->used_by_group(tenant);
}
uint64_t PrefixTree::share_bytes(TenantId tenant) const { return state_->Share(tenant); }

void PrefixTree::ForgetDisk(uint64_t handle, bool corrupt) {
  TreeState& s = *state_;
  const auto found = s.by_disk.find(handle);
  if (found == s.by_disk.end()) return;
  const NodeId id = found->second;
  s.LoseDisk(id, corrupt ? Lost::kCorrupt : Lost::kEvicted);
  s.Settle(id);
}

void PrefixTree::SetNow(double seconds) { state_->now = seconds; }
void PrefixTree::SetSpeed(double seconds_per_cost) { state_->seconds_per_cost = seconds_per_cost; }
double PrefixTree::SecondsToCompute(int64_t from, int64_t to) const {
  const CostModel& cost = state_->options.cost;
  return (cost.Of(to) - cost.Of(from)) * state_->seconds_per_cost;
}
double PrefixTree::SecondsToRead(uint64_t bytes) const {
  return static_cast<double>(bytes) / state_->options.disk_bytes_per_second;
}
TreeCounts PrefixTree::counts() const { return state_->counts; }

}  // namespace lode::runtime
