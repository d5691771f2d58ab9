// Random walks: everything is recounted after each step and compared with a memo that recomputes it
// naively. A failing walk prints its seed; LODE_WALK_SEED replays it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>
#include <set>

#include "runtime/tree/fake_sequences.h"
#include "runtime/tree/prefix_tree.h"
#include "runtime/tree/prefix_tree_state.h"

namespace lode::runtime {
namespace {

class Walk {
 public:
  explicit Walk(uint64_t seed) : random_(seed), world_(Budget(), Options(seed), seed % 7 != 5) {
    roots_.push_back(world_.root);
    RootKey key{};
    key[0] = std::byte{1};
    roots_.push_back(world_.tree->OpenRoot(world_.tenant, key).value());
    const TenantId other = world_.tree->AddTenant({.weight = 2.0, .pin_bytes_max = 60000}).value();
    roots_.push_back(world_.tree->OpenRoot(other, key).value());
  }

  void Step() {
    switch (Below(14)) {
      case 0: case 1: case 2: Announce(); break;
      case 3: case 4: Admit(); break;
      case 5: case 6: Run(); break;
      case 7: Decode(); break;
      case 8: case 9: Finish(); break;
      case 10: Fork(); break;
      case 11: Pin(); break;
      case 12: Publish(); break;
      case 13: Rare(); break;
    }
    if (::testing::Test::HasFatalFailure()) return;
    world_.tree->Check();
    CompareScores();
    CompareLookup();
  }

  void End() {
    while (!all_.empty()) Remove(all_.size() - 1, FinishReason::kCancelled, false);
    for (const PinId pin : pins_) world_.tree->Unpin(pin);
    world_.tree->Check();
    EXPECT_EQ(world_.pool->leased(), 0u);
    for (const RootId root : roots_) world_.tree->DropRoot(root);
    world_.tree->Check();
    EXPECT_EQ(world_.pool->used(), 0u) << "something was lost";
    EXPECT_EQ(world_.tree->counts().nodes, 3);
  }

 private:
  static uint64_t Budget() { return 24 * FakeWorld::kSlot; }
  static TreeOptions Options(uint64_t seed) {
    TreeOptions options = FakeWorld::Quiet();
    options.learned = false;  // so that scores can be compared to the last bit
    options.cost = {1.0, seed % 2 == 0 ? 0.0 : 1e-3};
    if (seed % 3 == 0) options.spare_tokens = 128;
    if (seed % 3 == 1) options.rolling_tokens = 100, options.ladder_first = 64;
    options.ghost_tokens_max = seed % 4 == 0 ? 2000 : 1 << 30;
    options.divergence_tokens_min = 20;
    options.recurrent = seed % 5 != 4 || seed % 7 == 5;
    return options;
  }

  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit));
  }

  template <typename T>
  size_t Index(const std::vector<T>& of) {
    return static_cast<size_t>(Below(static_cast<int64_t>(of.size())));
  }

  // Often the beginning of something that was there before, then few different tokens.
  std::vector<Token> Prompt() {
    std::vector<Token> prompt;
    if (!seen_.empty() && Below(8) > 0) {
      prompt = seen_[Index(seen_)];
      if (Below(3) > 0) prompt.resize(Index(prompt) + 1);
    }
    const Token run = static_cast<Token>(Below(3));  // long equal stretches: splits inside pages
    for (int64_t i = Below(300) + 1; i > 0; --i) prompt.push_back(Below(40) == 0 ? 9 : run);
    if (prompt.size() > 900) prompt.resize(900);
    return prompt;
  }

  void Announce() {
    if (all_.size() > 8) return;
    std::vector<Token> prompt = Prompt();
    std::vector<Probe> probes;
    for (int64_t i = Below(4); i > 0; --i) {
      probes.push_back({Below(static_cast<int64_t>(prompt.size()) + 5),
                        static_cast<PointRole>(Below(6))});
    }
    AnnounceOptions options;
    options.probes = probes;
    options.use_cache = Below(12) > 0;
    seen_.push_back(prompt);
    const RootId root = roots_[Index(roots_)];
    all_.push_back({world_.engine->Announce(root, std::move(prompt), options), false});
  }

  struct Item {
    FakeSequence sequence;
    bool running;
  };

  std::optional<size_t> Pick(bool running) {
    std::vector<size_t> matching;
    for (size_t i = 0; i < all_.size(); ++i) {
      if (all_[i].running == running) matching.push_back(i);
    }
    if (matching.empty()) return std::nullopt;
    return matching[static_cast<size_t>(Below(static_cast<int64_t>(matching.size())))];
  }

  void Drop(size_t at) { all_.erase(all_.begin() + static_cast<int64_t>(at)); }

  void Admit() {
    const auto at = Pick(false);
    if (!at) return;
    Item& item = all_[*at];
    world_.tree->Advise(item.sequence.live);
    item.running = true;
    if (!world_.engine->Admit(&item.sequence)) Drop(*at);
  }

  void Run() {
    const auto at = Pick(true);
    if (!at) return;
    FakeSequence& s = all_[*at].sequence;
    const int64_t left = static_cast<int64_t>(s.tokens.size()) - s.done;
    if (!world_.engine->RunTo(&s, s.done + (Below(2) == 0 ? left : Below(left + 1)))) Drop(*at);
  }

  void Decode() {
    const auto at = Pick(true);
    if (!at) return;
    FakeSequence& s = all_[*at].sequence;
    if (s.done < static_cast<int64_t>(s.tokens.size()) || s.tokens.size() > 1200) return;
    std::vector<Token> tokens;
    for (int64_t i = Below(60) + 1; i > 0; --i) tokens.push_back(static_cast<Token>(Below(2)));
    if (!world_.engine->Decode(&s, tokens)) return Drop(*at);
    seen_.push_back(s.tokens);
  }

  void Remove(size_t at, FinishReason reason, bool keep) {
    Item& item = all_[at];
    world_.engine->Finish(&item.sequence, reason, keep && item.running);
    Drop(at);
  }

  void Finish() {
    if (all_.empty()) return;
    Remove(static_cast<size_t>(Below(static_cast<int64_t>(all_.size()))),
           static_cast<FinishReason>(Below(5)), Below(2) == 0);
  }

  void Fork() {
    const auto at = Pick(true);
    if (!at || all_.size() > 10) return;
    FakeSequence child;
    if (world_.engine->Fork(all_[*at].sequence, &child)) all_.push_back({child, true});
  }

  void Pin() {
    if (!pins_.empty() && Below(2) == 0) {
      std::swap(pins_[Index(pins_)], pins_.back());
      world_.tree->Unpin(pins_.back());
      pins_.pop_back();
      return;
    }
    if (seen_.empty() || pins_.size() > 3) return;
    const auto& tokens = seen_[Index(seen_)];
    const RootId root = roots_[Index(roots_)];
    auto pinned = world_.tree->Pin(root, tokens, Below(1000));
    if (pinned.ok()) pins_.push_back(pinned->pin);
  }

  void Publish() {
    const auto at = Pick(true);
    if (!at) return;
    FakeSequence& s = all_[*at].sequence;
    if (Below(4) == 0) return world_.tree->GiveUpPages(s.live);
    world_.tree->Publish(s.live, Below(s.done + 1), s.table);
  }

  void Rare() {
    const RootId root = roots_[Index(roots_)];
    if (Below(20) == 0) return world_.tree->DropRoot(root);
    if (seen_.empty() || Below(2) == 0) {
      const bool recurrent = world_.tree->state().options.recurrent;
      (void)world_.tree->MakeRoom(root, Below(40), recurrent ? Below(6) : 0);
      return;
    }
    const auto& tokens = seen_[Index(seen_)];
    if (const auto saved = world_.tree->LeaseAt(root, tokens)) {
      for (const PageId page : saved->pages) world_.pool->pages().Unlease(page);
      if (saved->slot != kNoFrame) world_.pool->slots().Unlease(saved->slot);
    }
  }

  // --- The memo ---

  // Frames that a path to `leaf` needs.
  std::set<PageId> Frames(NodeId leaf) {
    std::set<PageId> frames;
    const TreeState& s = world_.tree->state();
    for (const NodeId id : s.PathTo(leaf)) {
      frames.insert(s.at(id).pages.begin(), s.at(id).pages.end());
    }
    return frames;
  }

  void CompareScores() {
    TreeState& s = world_.tree->state();
    std::map<PageId, int> users;
    std::vector<NodeId> points;
    for (NodeId id = 0; id < s.nodes.size(); ++id) {
      if (s.at(id).has_point) points.push_back(id);
    }
    for (const NodeId id : points) {
      for (const PageId page : Frames(id)) ++users[page];
    }
    for (const Live& live : s.lives) {
      if (!live.used || !live.running || !live.use_cache) continue;
      for (const PageId page : Frames(live.leaf)) ++users[page];
    }
    NodeId least = kNone;
    std::tuple<bool, double, NodeId> least_score;
    std::set<TenantId> over;
    for (const TenantId tenant : {0u, 1u}) {
      if (world_.tree->used_bytes(tenant) > world_.tree->share_bytes(tenant)) over.insert(tenant);
    }
    for (const NodeId id : points) {
      const Node& node = s.at(id);
      int64_t alone = 0;
      for (const PageId page : Frames(id)) alone += users[page] == 1;
      ASSERT_EQ(s.ExclusiveBytes(id), static_cast<uint64_t>(alone) * FakeWorld::kPage);
      int64_t above = 0;
      for (const NodeId up : s.PathTo(id)) {
        if (up != id && s.at(up).has_point) above = s.at(up).end;
      }
      const double bytes = static_cast<double>(alone) * FakeWorld::kPage +
                           static_cast<double>(s.pool->slots().stride());
      const double factor = TreeState::Prior(node.point_class) + static_cast<double>(node.hits);
      const double loss = s.options.cost.Of(node.end) - s.options.cost.Of(above);
      ASSERT_DOUBLE_EQ(s.Score(id), node.base + factor * loss / std::max(bytes, 1.0));
      const bool free = node.slot == kNoFrame ? alone > 0 : s.pool->slots().leases(node.slot) == 0;
      if (node.pinned_here > 0 || !free || !over.contains(s.roots[node.root].tenant)) continue;
      const std::tuple score{node.point_class != PointClass::kSpare, s.Score(id), id};
      if (least == kNone || score < least_score) least = id, least_score = score;
    }
    if (least != kNone) {
      ASSERT_EQ(s.Victim(0, 0), least);
    }
  }

  void CompareLookup() {
    if (seen_.empty()) return;
    TreeState& s = world_.tree->state();
    const std::vector<Token> prompt = Prompt();
    const int64_t length = static_cast<int64_t>(prompt.size());
    for (const RootId root : roots_) {
      int64_t resume = 0, known = 0, resident = 0;
      for (NodeId id = 0; id < s.nodes.size(); ++id) {
        const Node& node = s.at(id);
        if (!node.used || node.root != root || node.parent == kNone) continue;
        const std::vector<Token> path = s.TokensOf(id, node.end);
        const auto parted =
            std::mismatch(path.begin(), path.end(), prompt.begin(), prompt.end()).first;
        const int64_t same = parted - path.begin();
        if (node.computed) known = std::max(known, same);
        if (node.resident) resident = std::max(resident, same);
        if (node.has_point && same == node.end && same < length) resume = std::max(resume, same);
      }
      const Match match = world_.tree->Lookup(root, prompt);
      if (!s.options.recurrent) resume = std::min(resident, length - 1);
      ASSERT_EQ(match.resume, resume);
      ASSERT_EQ(match.resident, resident);
      ASSERT_EQ(match.known, known == length ? std::max(resume, length - 1) : known);
      ASSERT_EQ(match.lost() > 0, match.lost_reason != Reason::kComplete);
      ASSERT_EQ(match.reason == Reason::kNewPrefix, known == 0);
    }
  }

  std::mt19937_64 random_;
  FakeWorld world_;
  std::vector<RootId> roots_;
  std::vector<Item> all_;
  std::vector<PinId> pins_;
  std::vector<std::vector<Token>> seen_;
};

TEST(PrefixTreeWalk, RandomOperationsAgreeWithAMemo) {
  uint64_t first = 0, last = 60;
  if (const char* one = std::getenv("LODE_WALK_SEED")) {
    first = std::strtoull(one, nullptr, 10);
    last = first + 1;
  }
  for (uint64_t seed = first; seed < last; ++seed) {
    SCOPED_TRACE("LODE_WALK_SEED=" + std::to_string(seed));
    Walk walk(seed);
    for (int step = 0; step < 400; ++step) {
      walk.Step();
      if (HasFatalFailure()) return;
    }
    walk.End();
  }
}

// A prompt that often goes on from, or parts from, one that was there.
std::vector<Token> NextPrompt(const std::vector<std::vector<Token>>& seen,
                              std::mt19937_64* random) {
  std::vector<Token> prompt;
  if (!seen.empty() && (*random)() % 5 > 0) {
    prompt = seen[(*random)() % seen.size()];
    if ((*random)() % 2 == 0) prompt.resize((*random)() % prompt.size() + 1);
  }
  if (prompt.size() > 1500) prompt.resize(1500);
  for (uint64_t more = (*random)() % 200; more > 0; --more) {
    prompt.push_back(static_cast<Token>((*random)() % 50));
  }
  if (prompt.empty()) prompt.push_back(1);
  return prompt;
}

TEST(PrefixTreeWalk, NoRequestIsWithoutAReasonInTenThousand) {
  TreeOptions options;
  options.spare_tokens = 0;
  options.ghost_tokens_max = 200000;
  FakeWorld world(60 * FakeWorld::kSlot, options);
  std::mt19937_64 random(5);
  std::vector<std::vector<Token>> seen;
  int64_t computed = 0;
  std::array<int64_t, kReasons> by_reason{};
  for (int i = 0; i < 10000; ++i) {
    const std::vector<Token> prompt = NextPrompt(seen, &random);
    AnnounceOptions announce;
    const Probe probe{static_cast<int64_t>(prompt.size()) - 4, PointRole::kNextUser};
    announce.probes = {&probe, 1};
    announce.use_cache = random() % 50 > 0;
    FakeSequence s = world.engine->Announce(world.root, prompt, announce);
    ASSERT_TRUE(world.engine->Admit(&s));
    const Match& match = s.match;
    computed += match.computed();
    by_reason[static_cast<size_t>(match.reason)] += match.computed();
    // Everything that was known and not reused has a cause; everything else is new.
    if (match.lost() > 0) {
      ASSERT_NE(match.reason, Reason::kComplete);
      ASSERT_NE(match.reason, Reason::kNewPrefix);
      ASSERT_NE(match.reason, Reason::kDiverged);
    }
    ASSERT_TRUE(world.engine->RunTo(&s, static_cast<int64_t>(prompt.size())));
    world.engine->Finish(&s, FinishReason::kStop, random() % 2 == 0);
    if (i % 200 == 0) world.tree->Check();
    if (seen.size() < 300) {
      seen.push_back(prompt);
    } else {
      seen[random() % seen.size()] = prompt;
    }
  }
  const TreeCounts counts = world.tree->counts();
  EXPECT_EQ(counts.computed_tokens, computed);
  EXPECT_EQ(counts.tokens_by_reason, by_reason);
  int64_t sum = 0;
  int kinds = 0;
  for (const int64_t tokens : by_reason) sum += tokens, kinds += tokens > 0;
  EXPECT_EQ(sum, computed) << "each computed token has exactly one reason";
  EXPECT_GE(kinds, 6) << "the test must see more than the easy ones";
}

}  // namespace
}  // namespace lode::runtime
