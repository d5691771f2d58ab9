#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "runtime/tree/prefix_tree_state.h"

namespace lode::runtime {
namespace {

// A node's own record weighs as much as so many ids, when ghosts are counted.
constexpr int64_t kNodeTokens = 64;

int64_t GhostTokens(const Node& node) { return node.length() + kNodeTokens; }

bool IsGhost(const Node& node) { return node.computed && !node.resident; }

// Tokens that two runs have in common at their beginning.
int64_t Common(std::span<const Token> a, std::span<const Token> b) {
  const size_t most = std::min(a.size(), b.size());
  const auto end = a.begin() + static_cast<int64_t>(most);
  return std::mismatch(a.begin(), end, b.begin()).first - a.begin();
}

}  // namespace

NodeId TreeState::NewNode(RootId root, NodeId parent) {
  NodeId id;
  if (free_nodes.empty()) {
    id = static_cast<NodeId>(nodes.size());
    LODE_CHECK(id != kNone);
    nodes.emplace_back();
  } else {
    id = free_nodes.back();
    free_nodes.pop_back();
    nodes[id] = Node();
  }
  Node& node = nodes[id];
  node.used = true;
  node.root = root;
  node.parent = parent;
  node.touched = tick;
  if (parent != kNone) node.begin = node.end = nodes[parent].end;
  ++counts.nodes;
  return id;
}

NodeId TreeState::Child(NodeId parent, Token first) const {
  const std::vector<NodeId>& children = nodes[parent].children;
  const auto found = std::lower_bound(
      children.begin(), children.end(), first,
      [this](NodeId child, Token token) { return nodes[child].tokens.front() < token; });
  if (found == children.end() || nodes[*found].tokens.front() != first) return kNone;
  return *found;
}

void TreeState::Link(NodeId parent, NodeId child) {
  std::vector<NodeId>& children = nodes[parent].children;
  const Token first = nodes[child].tokens.front();
  const auto place = std::lower_bound(
      children.begin(), children.end(), first,
      [this](NodeId other, Token token) { return nodes[other].tokens.front() < token; });
  LODE_CHECK(place == children.end() || nodes[*place].tokens.front() != first);
  children.insert(place, child);
  nodes[child].parent = parent;
}

void TreeState::Unlink(NodeId parent, NodeId child) {
  std::vector<NodeId>& children = nodes[parent].children;
  const auto place = std::find(children.begin(), children.end(), child);
  LODE_CHECK(place != children.end());
  children.erase(place);
}

std::vector<Step> TreeState::Walk(RootId root, std::span<const Token> tokens) const {
  std::vector<Step> path;
  NodeId at = roots[root].node;
  size_t done = 0;
  while (done < tokens.size()) {
    const NodeId child = Child(at, tokens[done]);
    if (child == kNone) break;
    const Node& node = nodes[child];
    done += static_cast<size_t>(Common(tokens.subspan(done), node.tokens));
    path.push_back({child, static_cast<int64_t>(done)});
    if (static_cast<int64_t>(done) < node.end) break;
    at = child;
  }
  return path;
}

NodeId TreeState::Insert(NodeId from, std::span<const Token> tokens) {
  NodeId at = from;
  while (!tokens.empty()) {
    const NodeId child = Child(at, tokens.front());
    if (child == kNone) {
      const NodeId fresh = NewNode(nodes[at].root, at);
      Node& node = nodes[fresh];
      node.tokens.assign(tokens.begin(), tokens.end());
      node.end = node.begin + static_cast<int64_t>(tokens.size());
      counts.tokens += node.length();
      Link(at, fresh);
      return fresh;
    }
    const int64_t common = Common(tokens, nodes[child].tokens);
    at = common < nodes[child].length() ? Split(child, nodes[child].begin + common) : child;
    nodes[at].touched = tick;
    tokens = tokens.subspan(static_cast<size_t>(common));
  }
  return at;
}

NodeId TreeState::Split(NodeId id, int64_t offset) {
  const NodeId upper_id = NewNode(nodes[id].root, nodes[id].parent);
  Node& lower = nodes[id];
  Node& upper = nodes[upper_id];
  LODE_CHECK(lower.begin < offset);
  LODE_CHECK(offset < lower.end);
  if (IsGhost(lower)) counts.ghost_tokens += kNodeTokens;
  const int64_t length = offset - lower.begin;
  upper.begin = lower.begin;
  upper.end = offset;
  upper.tokens.assign(lower.tokens.begin(), lower.tokens.begin() + length);
  upper.resident = lower.resident;
  upper.computed = lower.computed;
  upper.touched = lower.touched;
  upper.paths = lower.paths;
  upper.leases = lower.leases;
  upper.waiting = lower.waiting;
  upper.pins = lower.pins;
  upper.points_below = lower.points_below;
  if (lower.refused <= offset) upper.refused = std::exchange(lower.refused, 0);
  if (lower.resident && paged) {
    const int64_t pages = PageCount(offset) - lower.first_page();
    upper.pages.assign(lower.pages.begin(), lower.pages.begin() + pages);
    const bool straddles = offset % kTokensPerPage != 0;
    if (straddles) pool->pages().Hold(upper.pages.back());
    lower.pages.erase(lower.pages.begin(), lower.pages.begin() + pages - (straddles ? 1 : 0));
  }
  const NodeId parent = lower.parent;
  Unlink(parent, id);
  lower.tokens.erase(lower.tokens.begin(), lower.tokens.begin() + length);
  lower.begin = offset;
  Link(parent, upper_id);
  Link(upper_id, id);
  return upper_id;
}

bool TreeState::TryMerge(NodeId id) {
  Node& upper = nodes[id];
  if (upper.parent == kNone || upper.children.size() != 1) return false;
  if (upper.has_point || upper.disk != 0 || upper.lost != Lost::kNothing) return false;
  const NodeId lower_id = upper.children.front();
  Node& lower = nodes[lower_id];
  // Equal counts: no path, lease or pin ends here.
  if (upper.paths != lower.paths || upper.leases != lower.leases) return false;
  if (upper.waiting != lower.waiting || upper.pins != lower.pins) return false;
  if (upper.resident != lower.resident || upper.computed != lower.computed) return false;
  const bool straddles = paged && lower.resident && lower.begin % kTokensPerPage != 0;
  if (straddles) {
    // Of two different frames for the border one would be lost that others may hold as well.
    if (upper.pages.back() != lower.pages.front()) return false;
    pool->pages().Unhold(upper.pages.back());
    upper.pages.pop_back();
  }
  if (IsGhost(lower)) counts.ghost_tokens -= kNodeTokens;
  upper.pages.insert(upper.pages.end(), lower.pages.begin(), lower.pages.end());
  upper.tokens.insert(upper.tokens.end(), lower.tokens.begin(), lower.tokens.end());
  const NodeId parent = upper.parent;
  Unlink(parent, id);
  lower.pages = std::move(upper.pages);
  lower.tokens = std::move(upper.tokens);
  lower.begin = upper.begin;
  lower.touched = std::max(lower.touched, upper.touched);
  lower.refused = std::max(lower.refused, upper.refused);
  Link(parent, lower_id);
  upper = Node();
  free_nodes.push_back(id);
  --counts.nodes;
  return true;
}

std::vector<NodeId> TreeState::PathTo(NodeId leaf) const {
  std::vector<NodeId> path;
  for (NodeId id = leaf; nodes[id].parent != kNone; id = nodes[id].parent) path.push_back(id);
  std::reverse(path.begin(), path.end());
  return path;
}

NodeId TreeState::EndAt(NodeId leaf, int64_t offset) {
  NodeId id = leaf;
  while (nodes[id].begin >= offset && nodes[id].parent != kNone) id = nodes[id].parent;
  LODE_CHECK(offset <= nodes[id].end);
  return nodes[id].end == offset ? id : Split(id, offset);
}

std::vector<PageId> TreeState::PagesOf(NodeId leaf, int64_t offset) const {
  if (!paged) return {};
  const int64_t count = PageCount(offset);
  std::vector<PageId> table(static_cast<size_t>(count), kNoFrame);
  for (NodeId id = leaf; nodes[id].parent != kNone; id = nodes[id].parent) {
    const Node& node = nodes[id];
    if (node.begin >= offset) continue;
    LODE_CHECK(node.resident);
    for (size_t i = 0; i < node.pages.size(); ++i) {
      const size_t index = static_cast<size_t>(node.first_page()) + i;
      if (index < table.size() && table[index] == kNoFrame) table[index] = node.pages[i];
    }
  }
  return table;
}

std::vector<Token> TreeState::TokensOf(NodeId leaf, int64_t end) const {
  std::vector<Token> tokens(static_cast<size_t>(end));
  for (NodeId id = leaf; nodes[id].parent != kNone; id = nodes[id].parent) {
    const Node& node = nodes[id];
    if (node.begin >= end) continue;
    const int64_t length = std::min(node.end, end) - node.begin;
    std::copy_n(node.tokens.begin(), length, tokens.begin() + node.begin);
  }
  return tokens;
}

int64_t TreeState::OwnPages(const Node& node) const {
  const int64_t count = static_cast<int64_t>(node.pages.size());
  if (count == 0 || node.begin % kTokensPerPage == 0) return count;
  // Short nodes above may end in the same page, each with its own frame for it or a shared one.
  for (NodeId up = node.parent; nodes[up].end > node.first_page() * kTokensPerPage;
       up = nodes[up].parent) {
    if (nodes[up].pages.back() == node.pages.front()) return count - 1;
  }
  return count;
}

void TreeState::SetPages(NodeId id, std::span<const PageId> table) {
  Node& node = nodes[id];
  LODE_CHECK(!node.resident);
  LODE_CHECK(nodes[node.parent].resident);
  const int64_t end = paged ? (node.end - 1) / kTokensPerPage + 1 : 0;
  for (int64_t i = node.first_page(); i < end; ++i) {
    const PageId page = table[static_cast<size_t>(i)];
    LODE_CHECK(page != kNoFrame);
    pool->pages().Hold(page);
    node.pages.push_back(page);
  }
  if (IsGhost(node)) counts.ghost_tokens -= GhostTokens(node);
  node.resident = node.computed = true;
  node.lost = Lost::kNothing;
  node.refused = 0;
  Unlist(id);
}

void TreeState::MarkComputed(const Live& live) {
  const int64_t end = std::min(live.position, live.total);
  if (end == 0) return;
  MarkComputed(EndAt(live.leaf, end));
}

void TreeState::MarkComputed(NodeId id) {
  for (; !nodes[id].computed; id = nodes[id].parent) {
    nodes[id].computed = true;
    counts.ghost_tokens += GhostTokens(nodes[id]);
  }
}

void TreeState::AddKnown(RootId root, const DemotionHook::Known& known) {
  const NodeId id = Insert(roots[root].node, known.tokens);
  MarkComputed(id);
  if (nodes[id].disk != 0) return options.demotion->Forget(known.handle);  // there twice
  Unlist(id);
  nodes[id].disk = known.handle;
  nodes[id].role = known.role;
  nodes[id].point_class = known.point_class;
  by_disk[known.handle] = id;
  ++counts.points_on_disk;
}

void TreeState::Deduplicate(NodeId id, std::span<PageId> table) {
  const Node& node = nodes[id];
  for (size_t i = 0; i < node.pages.size(); ++i) {
    const int64_t index = node.first_page() + static_cast<int64_t>(i);
    if ((index + 1) * kTokensPerPage > node.end) break;  // more rows will come: it stays its own
    PageId& ours = table[static_cast<size_t>(index)];
    const PageId theirs = node.pages[i];
    if (ours == theirs || ours == kNoFrame) continue;
    ++counts.deduplicated_pages;
    if (options.compare_published > 0 &&
        counts.deduplicated_pages % options.compare_published == 0 &&
        pool->pages().data(ours) != nullptr) {
      // The same tokens were computed twice, so the bytes must be the same: a proof for free.
      ++counts.compared_pages;
      const bool same = std::memcmp(pool->pages().data(ours), pool->pages().data(theirs),
                                    pool->pages().frame_bytes()) == 0;
      if (!same) ++counts.mismatched_pages;
    }
    pool->pages().Lease(theirs);
    pool->pages().Unlease(ours);
    ours = theirs;
  }
}

void TreeState::Publish(const Live& live, int64_t offset, std::span<PageId> table) {
  LODE_CHECK(offset <= live.total);
  LODE_CHECK(!paged || static_cast<int64_t>(table.size()) * kTokensPerPage >= offset);
  EndAt(live.leaf, offset);
  const std::vector<NodeId> path = PathTo(live.leaf);
  for (const NodeId id : path) {
    if (nodes[id].end > offset) break;
    if (nodes[id].resident) {
      Deduplicate(id, table);
    } else {
      SetPages(id, table);
    }
  }
  // Borders that only said how far the pages went are not needed any more.
  for (const NodeId id : path) TryMerge(id);
}

void TreeState::DropPages(NodeId id) {
  Node& node = nodes[id];
  LODE_CHECK(node.resident);
  LODE_CHECK(!node.has_point);
  for (const PageId page : node.pages) pool->pages().Unhold(page);
  counts.dropped_dead_pages += static_cast<int64_t>(node.pages.size());
  node.pages = {};
  node.resident = false;
  counts.ghost_tokens += GhostTokens(node);
}

void TreeState::DropDead(NodeId id) {
  for (; nodes[id].parent != kNone; id = nodes[id].parent) {
    const Node& node = nodes[id];
    if (node.points_below > 0 || node.leases > 0) return;
    if (node.resident) DropPages(id);
  }
}

void TreeState::Settle(NodeId id) {
  while (nodes[id].parent != kNone) {
    const Node& node = nodes[id];
    const bool needed = node.paths > 0 || node.resident || node.disk != 0;
    if (needed || !node.children.empty()) {
      Unlist(id);
      break;
    }
    if (node.computed) {
      List(id);
      break;
    }
    id = Remove(id);  // it was only planned
  }
  while (nodes[id].parent != kNone) {
    const NodeId parent = nodes[id].parent;
    TryMerge(id);
    id = parent;
  }
}

void TreeState::List(NodeId id) {
  Node& node = nodes[id];
  if (node.listed) return;
  node.listed = true;
  node.older = newest_ghost;
  node.newer = kNone;
  (newest_ghost == kNone ? oldest_ghost : nodes[newest_ghost].newer) = id;
  newest_ghost = id;
}

void TreeState::Unlist(NodeId id) {
  Node& node = nodes[id];
  if (!node.listed) return;
  (node.older == kNone ? oldest_ghost : nodes[node.older].newer) = node.newer;
  (node.newer == kNone ? newest_ghost : nodes[node.newer].older) = node.older;
  node.listed = false;
  node.older = node.newer = kNone;
}

NodeId TreeState::Remove(NodeId id) {
  Node& node = nodes[id];
  LODE_CHECK(node.children.empty());
  LODE_CHECK(!node.resident);
  LODE_CHECK(node.paths == 0);
  Unlist(id);
  if (IsGhost(node)) counts.ghost_tokens -= GhostTokens(node);
  counts.tokens -= node.length();
  --counts.nodes;
  const NodeId parent = node.parent;
  Unlink(parent, id);
  node = Node();
  free_nodes.push_back(id);
  return parent;
}

void TreeState::ForgetGhosts() {
  while (counts.ghost_tokens > options.ghost_tokens_max && oldest_ghost != kNone) {
    Settle(Remove(oldest_ghost));
  }
}

void TreeState::DropSubtree(NodeId id) {
  const std::vector<NodeId> children = nodes[id].children;
  for (const NodeId child : children) DropSubtree(child);
  const Node& node = nodes[id];
  if (node.parent == kNone || !node.children.empty() || node.paths > 0 || node.resident ||
      node.disk != 0) {
    return;
  }
  Remove(id);
}

void TreeState::LoseDisk(NodeId id, Lost lost) {
  Node& node = nodes[id];
  by_disk.erase(node.disk);
  node.disk = 0;
  --counts.points_on_disk;
  if (!node.has_point && lost != Lost::kNothing) {
    node.lost = lost;
    node.lost_at = now;
  }
}

void TreeState::AddThrough(NodeId leaf, int64_t Node::* counter, int64_t by) {
  for (NodeId id = leaf; nodes[id].parent != kNone; id = nodes[id].parent) {
    nodes[id].*counter += by;
    LODE_CHECK(nodes[id].*counter >= 0);
  }
}

}  // namespace lode::runtime
