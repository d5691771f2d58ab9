// Sequences without a model, for tests of the prefix tree: instead of keys, values and states,
// frames hold a hash of the tokens that led there. So whatever the tree hands out is compared with
// what a cold run would have written, row by row.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "runtime/tree/frame_pool.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::runtime {

struct FakeSequence {
  RootId root = 0;
  LiveId live = kNone;
  std::vector<Token> tokens;
  int64_t done = 0;     // tokens computed
  int64_t resume = 0;
  SlotId slot = kNoFrame;
  std::vector<PageId> table;
  Match match;
};

class FakeEngine {
 public:
  FakeEngine(FramePool* pool, PrefixTree* tree) : pool_(pool), tree_(tree) {}

  // Hash of a prefix; `salt` tells roots apart, so a frame of a foreign root is a wrong one.
  static uint64_t Next(uint64_t hash, Token token) {
    return (hash ^ static_cast<uint32_t>(token)) * 0x9e3779b97f4a7c15 + 1;
  }

  FakeSequence Announce(RootId root, std::vector<Token> prompt,
                        const AnnounceOptions& options = {}) {
    FakeSequence sequence;
    sequence.root = root;
    sequence.tokens = std::move(prompt);
    sequence.live = tree_->Announce(root, sequence.tokens, options);
    return sequence;
  }

  // False when there is no room for its slot; it stays queued no longer then, but is gone.
  bool Admit(FakeSequence* s) {
    Admission admission = tree_->Admit(s->live);
    s->match = admission.match;
    s->resume = s->done = admission.match.resume;
    s->table = std::move(admission.pages);
    Hash(s);
    for (int64_t row = 0; paged() && row < s->done; ++row) {
      LODE_CHECK(Row(s->table[Index(row)], row) == hashes_[static_cast<size_t>(row)]);
    }
    if (admission.match.slot != kNoFrame) {
      LODE_CHECK(slots_[admission.match.slot] == hashes_[static_cast<size_t>(s->done - 1)]);
    }
    const bool room = tree_->MakeRoom(s->root, 0, recurrent() ? 1 : 0).ok() && OwnTail(s);
    if (admission.match.slot != kNoFrame) pool_->slots().Unlease(admission.match.slot);
    if (!room) {
      Finish(s, FinishReason::kPreempted);
      return false;
    }
    if (recurrent()) s->slot = pool_->slots().Take(tree_->owner(s->root));
    if (recurrent() && s->done > 0) slots_[s->slot] = hashes_[static_cast<size_t>(s->done - 1)];
    return true;
  }

  // Computes up to `end`; false if there is no room (it is preempted then).
  bool RunTo(FakeSequence* s, int64_t end) {
    Hash(s);
    while (s->done < end) {
      const std::optional<Tap> tap = tree_->NextTap(s->live, s->done);
      const int64_t stop = tap ? std::min(tap->offset, end) : end;
      const int64_t pages = paged() ? PageCount(stop) -
                                          static_cast<int64_t>(s->table.size())
                                    : 0;
      if (pages > 0) {
        if (!tree_->MakeRoom(s->root, pages, 0).ok()) {
          Finish(s, FinishReason::kPreempted);
          return false;
        }
        for (int64_t i = 0; i < pages; ++i) {
          s->table.push_back(pool_->pages().Take(tree_->owner(s->root)));
          LODE_CHECK(s->table.back() != kNoFrame);
        }
      }
      for (; s->done < stop; ++s->done) {
        if (!paged()) continue;
        Row(s->table[Index(s->done)], s->done) = hashes_[static_cast<size_t>(s->done)];
      }
      if (recurrent()) slots_[s->slot] = hashes_[static_cast<size_t>(s->done - 1)];
      tree_->Progress(s->live, s->done);
      if (tap && tap->offset == s->done && tree_->RoomForPoint(s->live, s->done, tap->role)) {
        Freeze(s, tap->role);
      }
    }
    return true;
  }

  // The state becomes a snapshot; the sequence goes on in another slot.
  void Freeze(FakeSequence* s, PointRole role, bool hidden = false) {
    SlotId next = kNoFrame;
    if (recurrent()) {
      next = pool_->slots().Take(tree_->owner(s->root));
      LODE_CHECK(next != kNoFrame);
      slots_[next] = slots_[s->slot];
    }
    tree_->AddSnapshot(s->live, s->done, s->slot, role, s->table, hidden);
    if (recurrent()) pool_->slots().Unlease(s->slot);
    s->slot = next;
  }

  bool Decode(FakeSequence* s, std::span<const Token> tokens) {
    s->tokens.insert(s->tokens.end(), tokens.begin(), tokens.end());
    tree_->Append(s->live, tokens);
    return RunTo(s, static_cast<int64_t>(s->tokens.size()));
  }

  // With `keep` the last state stays as a snapshot.
  void Finish(FakeSequence* s, FinishReason reason, bool keep = false) {
    if (keep && s->done > 0) {
      tree_->AddSnapshot(s->live, s->done, s->slot, PointRole::kEnd, s->table);
    }
    tree_->Finish(s->live, reason);
    for (const PageId page : s->table) pool_->pages().Unlease(page);
    if (s->slot != kNoFrame) pool_->slots().Unlease(s->slot);
    s->table.clear();
    s->slot = kNoFrame;
    s->live = kNone;
  }

  // False when there is no room for the child.
  bool Fork(const FakeSequence& s, FakeSequence* child) {
    *child = s;
    child->live = tree_->Fork(s.live, s.table, kNoFrame);
    child->slot = kNoFrame;
    if (!tree_->MakeRoom(s.root, 1, recurrent() ? 1 : 0).ok() || !OwnTail(child)) {
      Finish(child, FinishReason::kCancelled);
      return false;
    }
    if (recurrent()) {
      child->slot = pool_->slots().Take(tree_->owner(s.root));
      slots_[child->slot] = slots_[s.slot];
    }
    return true;
  }

  // A fresh page for the rows of the last one, if it is not full.
  bool OwnTail(FakeSequence* s) {
    if (s->done % kTokensPerPage == 0 || !paged()) return true;
    if (!tree_->MakeRoom(s->root, 1, recurrent() ? 1 : 0).ok()) return false;
    const PageId fresh = pool_->pages().Take(tree_->owner(s->root));
    pages_[fresh] = pages_[s->table.back()];
    pool_->pages().Unlease(s->table.back());
    s->table.back() = fresh;
    return true;
  }

 private:
  bool paged() const { return pool_->pages().stride() > 0; }
  bool recurrent() const { return pool_->slots().stride() > 0; }
  static size_t Index(int64_t row) { return static_cast<size_t>(row / kTokensPerPage); }

  uint64_t& Row(PageId page, int64_t row) {
    std::vector<uint64_t>& rows = pages_[page];
    rows.resize(kTokensPerPage);
    return rows[static_cast<size_t>(row % kTokensPerPage)];
  }

  void Hash(FakeSequence* s) {
    hashes_.clear();
    uint64_t hash = 0x1234567 + s->root * 0x51ed270b;
    for (const Token token : s->tokens) hashes_.push_back(hash = Next(hash, token));
  }

  FramePool* pool_;
  PrefixTree* tree_;
  std::map<PageId, std::vector<uint64_t>> pages_;
  std::map<SlotId, uint64_t> slots_;
  std::vector<uint64_t> hashes_;  // of every prefix of the sequence at work
};

// A pool, a tree with one tenant and root, and an engine. A page counts 1024 bytes, a slot 8192.
struct FakeWorld {
  static constexpr uint64_t kPage = 1024;
  static constexpr uint64_t kSlot = 8192;

  // Nothing is frozen but what a test asks for.
  static TreeOptions Quiet() {
    TreeOptions options;
    options.ladder_first = options.rolling_tokens = options.spare_tokens = 0;
    return options;
  }

  explicit FakeWorld(uint64_t budget = 1 << 20, TreeOptions options = Quiet(), bool paged = true) {
    FramePoolOptions frames;
    frames.page_bytes = paged ? kPage : 0;
    frames.slot_bytes = options.recurrent ? kSlot : 0;
    frames.budget_bytes = budget;
    frames.with_memory = false;
    pool = FramePool::Make(frames).value();
    tree = std::make_unique<PrefixTree>(pool.get(), options);
    engine = std::make_unique<FakeEngine>(pool.get(), tree.get());
    tenant = tree->AddTenant({}).value();
    root = tree->OpenRoot(tenant, RootKey{}).value();
  }

  // A whole request: prompt, answer, and the state at its end kept if `keep`. Its match.
  Match Run(std::vector<Token> prompt, std::vector<Probe> probes = {},
            std::vector<Token> answer = {}, FinishReason reason = FinishReason::kStop,
            bool keep = false) {
    return RunAt(root, std::move(prompt), std::move(probes), std::move(answer), reason, keep);
  }
  Match RunAt(RootId at, std::vector<Token> prompt, std::vector<Probe> probes = {},
              std::vector<Token> answer = {}, FinishReason reason = FinishReason::kStop,
              bool keep = false) {
    AnnounceOptions options;
    options.probes = probes;
    FakeSequence s = engine->Announce(at, std::move(prompt), options);
    const int64_t end = static_cast<int64_t>(s.tokens.size());
    LODE_CHECK(engine->Admit(&s));
    const Match match = s.match;
    LODE_CHECK(engine->RunTo(&s, end));
    if (!answer.empty()) LODE_CHECK(engine->Decode(&s, answer));
    engine->Finish(&s, reason, keep);
    tree->Check();
    return match;
  }

  // `count` tokens from `first` on; other `text`, other tokens.
  static std::vector<Token> Text(int text, int64_t count) {
    std::vector<Token> tokens;
    for (int64_t i = 0; i < count; ++i) tokens.push_back(text * 1000000 + static_cast<Token>(i));
    return tokens;
  }

  std::unique_ptr<FramePool> pool;
  std::unique_ptr<PrefixTree> tree;
  std::unique_ptr<FakeEngine> engine;
  TenantId tenant = 0;
  RootId root = 0;
};

inline std::vector<Token> operator+(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace lode::runtime
