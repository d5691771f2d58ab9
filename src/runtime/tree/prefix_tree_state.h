// What the files that make up the prefix tree share: its nodes, and what every operation is made
// of. Not for anybody else, except tests that look inside.
//
//   prefix_tree.cc          a request's life: announce, admit, publish, freeze, finish
//   prefix_tree_nodes.cc    the radix tree: find, split, merge; pages coming and going; ghosts
//   prefix_tree_value.cc    what a point is worth, who goes, pins
//   prefix_tree_taps.cc     where states are wanted, who waits for whom
//   prefix_tree_explain.cc  what is known of a prompt and why no more of it is reused
//   prefix_tree_check.cc    everything recounted
//
// Invariants that hold between calls (prefix_tree_check.cc):
//   - a node's pages are all there or none; those of a node with pages are there up to the root
//   - a node has pages only if a point at or below it, or somebody who runs through it, needs them
//   - a point lies at the end of a node with pages
//   - a page that straddles the end of a node is held by both sides; the deeper node's one counts
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/tree/prefix_tree.h"
#include "runtime/tree/score_heap.h"

namespace lode::runtime {

using NodeId = uint32_t;

// What became of the state that was to be kept at the end of a node.
enum class Lost : uint8_t { kNothing, kEvicted, kCorrupt };

struct Node {
  bool used = false;
  RootId root = 0;
  NodeId parent = kNone;
  int64_t begin = 0, end = 0;
  std::vector<Token> tokens;     // of [begin, end)
  std::vector<NodeId> children;  // ascending by first token
  std::vector<PageId> pages;     // of page begin/128 to page (end-1)/128, if resident
  bool resident = false;
  bool computed = false;  // now or once; else only planned
  uint64_t touched = 0;   // the tick when it was last on a request's path

  // The snapshot at the end.
  bool has_point = false;
  bool hidden = false;
  SlotId slot = kNoFrame;
  PointRole role = PointRole::kEnd;
  PointClass point_class = PointClass::kOld;
  int64_t hits = 0;
  double base = 0.0;  // GreedyDual: the level when it was last of use
  uint64_t family = 0;
  uint64_t disk = 0;  // a lower tier's handle of this point; 0: none

  Lost lost = Lost::kNothing;  // role says of which kind it was
  double lost_at = 0.0;
  int64_t refused = 0;  // the deepest offset in (begin, end] where there was no room for a state

  // Of those whose path goes through the end.
  int64_t paths = 0;    // announced, running
  int64_t leases = 0;   // running
  int64_t waiting = 0;  // announced, not yet running
  int64_t pins = 0;     // snapshots pinned at or below the end
  int64_t pinned_here = 0;
  int64_t points_below = 0;  // snapshots at or below the end

  // In the list of ghosts that may be forgotten, oldest first.
  bool listed = false;
  NodeId older = kNone, newer = kNone;

  int64_t first_page() const { return begin / kTokensPerPage; }
  int64_t length() const { return end - begin; }
};

struct Live {
  bool used = false;
  bool running = false;
  bool use_cache = true;
  bool last_logits = true;
  RootId root = 0;
  NodeId leaf = kNone;
  int64_t prompt = 0;    // tokens of it
  int64_t total = 0;     // and of what was appended
  int64_t resume = 0;    // where it began
  int64_t position = 0;  // how far it is
  int64_t reuse_max = 0;  // AnnounceOptions
  bool repeated = false;  // all of its prompt was computed before
  uint64_t family = 0;
  std::vector<Probe> probes;
  int64_t rolling = 0;  // offset of its rolling point, 0: none
  std::vector<Token> uncached;  // its tokens, if they are in no tree
};

struct Tenant {
  TenantOptions options;
  uint64_t pinned = 0;
  ScoreHeap heap;  // points that may go
};

struct Root {
  bool used = false;
  TenantId tenant = 0;
  RootKey key{};
  OwnerId owner = 0;
  NodeId node = kNone;
  int64_t lives = 0;
  int64_t kept = 0;  // by those who may still come with it
};

struct PinRecord {
  bool used = false;
  NodeId node = kNone;
};

// How often points of a role were reused, in a family of prompts. Two families that fall on one
// place push each other out: that costs a little precision, and the table never grows.
struct FamilyRecord {
  uint64_t key = 0;
  struct Count {
    uint32_t taken = 0, reused = 0;
  };
  std::array<Count, kPointRoles> roles;
};

// A node that a prompt's path goes through, and up to which offset.
struct Step {
  NodeId node = kNone;
  int64_t end = 0;
};

class TreeState {
 public:
  TreeState(FramePool* pool, const TreeOptions& options);

  // --- prefix_tree_nodes.cc ---
  Node& at(NodeId id) { return nodes[id]; }
  const Node& at(NodeId id) const { return nodes[id]; }
  NodeId NewNode(RootId root, NodeId parent);
  NodeId Child(NodeId parent, Token first) const;  // kNone: there is none
  void Link(NodeId parent, NodeId child);
  void Unlink(NodeId parent, NodeId child);
  // The path of `tokens` as far as it exists; the last step may end inside its node.
  std::vector<Step> Walk(RootId root, std::span<const Token> tokens) const;
  // The node that ends where `tokens` do, below `from`; made if need be.
  NodeId Insert(NodeId from, std::span<const Token> tokens);
  // Node becomes two; `id` keeps the lower part (and so what is bound to its end). Returns the
  // upper.
  NodeId Split(NodeId id, int64_t offset);
  // Makes one of two, if nothing ends between them. `id` is the upper, which disappears.
  bool TryMerge(NodeId id);
  // From the root's child down to `leaf`.
  std::vector<NodeId> PathTo(NodeId leaf) const;
  // The node of `leaf`'s path that ends at `offset`, split off if need be.
  NodeId EndAt(NodeId leaf, int64_t offset);
  // Pages that hold [0, offset) of the path to `leaf`: of two at one place the deeper node's.
  std::vector<PageId> PagesOf(NodeId leaf, int64_t offset) const;
  std::vector<Token> TokensOf(NodeId leaf, int64_t end) const;
  // Pages of the node that its parent does not hold.
  int64_t OwnPages(const Node& node) const;
  void SetPages(NodeId id, std::span<const PageId> table);  // resident from now on
  // Where the node has a full page that a sequence has too, the sequence takes the node's.
  void Deduplicate(NodeId id, std::span<PageId> table);
  // What a sequence computed is known, whether its pages were published or not.
  void MarkComputed(const Live& live);
  void MarkComputed(NodeId id);
  void Publish(const Live& live, int64_t offset, std::span<PageId> table);
  void DropPages(NodeId id);
  // From `id` upward: pages that nothing needs go.
  void DropDead(NodeId id);
  // From `id` upward: nodes that nothing needs go; ghosts are listed; what needs no border is
  // merged.
  void Settle(NodeId id);
  void List(NodeId id);
  void Unlist(NodeId id);
  void ForgetGhosts();
  NodeId Remove(NodeId id);  // a leaf; returns its parent
  void DropSubtree(NodeId id);  // what of it nobody uses
  void LoseDisk(NodeId id, Lost lost);
  void AddKnown(RootId root, const DemotionHook::Known& known);  // on disk since an earlier run
  void AddThrough(NodeId leaf, int64_t Node::* counter, int64_t by);

  // --- prefix_tree_value.cc ---
  static double Prior(PointClass point_class);
  static PointClass ClassOf(PointRole role);  // when it is taken
  uint64_t ExclusiveBytes(NodeId id) const;  // pages that only this point keeps
  int64_t PointAbove(NodeId id) const;       // offset of the nearest point above, 0: none
  double Learnt(uint64_t family, PointRole role) const;  // what f of R5 multiplies the prior by
  double Worth(double factor, int64_t above, int64_t offset, uint64_t bytes) const;
  double Score(NodeId id) const;
  void Rescore(NodeId id);        // after something that may have lowered it
  void RescoreBelow(NodeId id);   // points next below: one came above them
  void RescoreKeeper(NodeId id);  // the one point that alone keeps the pages of a node up from `id`
  void AddPoint(NodeId id, SlotId slot, bool hidden, PointRole role, uint64_t family);
  // The state leaves memory; pages that only it kept leave too.
  void DropPoint(NodeId id);
  void DropRolling(Live& live);
  void DropPointsAbove(NodeId id);
  // Where pages are all it takes, what was published stays when its sequence goes.
  void KeepPages(const Live& live);
  void Hit(NodeId leaf, int64_t offset);  // a request resumes there
  void Evict(NodeId id);
  bool Demote(NodeId id);
  bool Evictable(NodeId id) const;
  NodeId LowestOf(Tenant* tenant);
  // The point to go when `wanted` bytes are needed by `tenant`; kNone: there is none.
  NodeId Victim(TenantId tenant, uint64_t wanted);
  // Evicts points that score below `limit`; whether there is room then.
  bool Room(TenantId tenant, int64_t pages, int64_t slots, double limit);
  void SetClass(NodeId id, PointClass point_class);
  FamilyRecord* Family(uint64_t key);
  void Pin(NodeId id, int64_t by);
  uint64_t PinCost(const Node& node) const;  // pages that it adds to what is pinned
  uint64_t Share(TenantId tenant) const;

  // --- prefix_tree_explain.cc ---
  // `next`: the prompt's first token that is not known.
  struct Wanted {
    int64_t prompt = 0;  // tokens of it
    bool last_logits = true;
    int64_t reuse_max = std::numeric_limits<int64_t>::max();
  };
  Match MatchPath(RootId root, std::span<const Step> path, Token next, const Wanted& wanted) const;
  Match MatchLive(const Live& live) const;
  // The computed child where a text that leaves at the end of `id` most recently went on; kNone.
  NodeId Beside(NodeId id, NodeId child) const;
  Reason WhyLost(std::span<const Step> path, int64_t resume, int64_t known) const;

  // --- prefix_tree_taps.cc ---
  // Whether a state at the end of `id` would serve others, on a path that goes on with `next`.
  bool WantedAt(NodeId id, NodeId next) const;
  bool EndsWaitingAt(NodeId id) const;  // a queued prompt ends there
  std::optional<Tap> NextTap(const Live& live, int64_t position) const;
  // How many tokens the paths to two nodes have in common.
  int64_t CommonOffset(NodeId a, NodeId b) const;
  Advice Advise(LiveId id) const;
  void Supersede(const Live& live);
  void Reclassify(const Live& live, FinishReason reason);

  Live& live(LiveId id);
  const Live& live(LiveId id) const;

  FramePool* pool;
  TreeOptions options;
  bool paged;  // false: no layer keeps anything per token; nodes are resident without pages
  std::deque<Node> nodes;  // a reference stays good while others come
  std::vector<NodeId> free_nodes;
  std::deque<Live> lives;
  std::vector<LiveId> free_lives;
  std::deque<Tenant> tenants;
  std::vector<Root> roots;
  std::vector<RootId> free_roots;
  std::map<std::pair<TenantId, RootKey>, RootId> roots_by_key;
  std::vector<PinRecord> pins;
  std::vector<PinId> free_pins;
  std::unordered_map<uint64_t, NodeId> by_disk;
  std::vector<FamilyRecord> families;
  NodeId oldest_ghost = kNone, newest_ghost = kNone;
  double seconds_per_cost = 1.0;
  double level = 0.0;  // GreedyDual: the highest score evicted so far
  double now = 0.0;
  uint64_t tick = 0;
  TreeCounts counts;
};

}  // namespace lode::runtime
