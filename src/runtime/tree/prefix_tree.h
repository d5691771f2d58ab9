// The prefix tree: which prompts' tokens were computed, which of their pages and states are still
// in memory, and which go when room is needed. Plain logic over token ids, page ids and slot ids:
// it runs no kernel, copies no state and reads no clock, so all of it is tested and simulated
// without a model.
//
// A node is an edge of a radix tree, a run of tokens that ends where prompts part or where a state
// was kept. A *snapshot* is a state (slot) bound to the exact offset where its node ends. A *resume
// point* is an offset with a snapshot and all pages before it; a model without recurrent layers
// resumes anywhere. A node without pages is *planned* (of a queued prompt) or a *ghost* (computed
// once, its bytes gone). Ids are always compared, never hashes, and no operation crosses a *root*.
//
// The surprising policy: pages that no snapshot at or below their node can use are freed at once,
// for a hybrid cannot resume there; and the victim when room is needed is not the oldest snapshot
// but the cheapest to lose, by cost of recomputing per byte (rules R1-R10: docs/ARCHITECTURE.md,
// "Contexts").
//
// The life of a request, all in the owner's thread:
//     live = Announce(root, prompt)    queued: others see where it parts from them
//     Advise(live)                     what it would reuse; whether to park behind another
//     Admit(live)                      leases its pages and its slot; the report of reuse
//     NextTap(live, at), RoomForPoint, AddSnapshot     cut the chunk there, freeze the state
//     Append(live, sampled), AddSnapshot(.., kEnd)     tokens that were decoded
//     Finish(live, reason)             leases of the path gone; classes follow the reason
// Frames in a sequence's page table are leased by the sequence and stay its own business to
// unlease.
//
// Memory: frames come from the pool, sized at the start. The tree's own records (about 5 bytes a
// token) grow with what is resident, and beyond that by TreeOptions::ghost_tokens_max at most.
// Threads: one owner. Life: the pool outlives the tree.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/tree/frame_pool.h"

namespace lode::runtime {

using Token = int32_t;
using TenantId = uint32_t;
using RootId = uint32_t;
using LiveId = uint32_t;
using PinId = uint32_t;
inline constexpr uint32_t kNone = 0xffffffff;

// Who may share: (tenant, salt, model, numerics), hashed with a secret by whoever opens roots.
using RootKey = std::array<std::byte, 16>;

// Why a point was taken. Never changes; what is learnt about reuse is learnt by role.
enum class PointRole : uint8_t {
  kSystem,    // same system text and tools, another user
  kNextUser,  // where the next user turn will part from this prompt
  kNextTool,  // where the next tool result will
  kRetry,     // before the generation prompt
  kTurn,      // start of an earlier turn
  kHint,      // the client marked it
  kEnd,       // end of generation, or a sequence that was frozen
  kDiverge,   // prompts part here, announced or observed
  kLadder,    // 8192 * 2^i
  kRolling,   // of a running prefill, replaced as it goes on
  kSpare,     // taken only because room was free
};
inline constexpr int kPointRoles = 11;

// How much it is worth now (prior of R6); changes with what happens to its conversation.
enum class PointClass : uint8_t {
  kHot, kSystem, kDiverge, kWarm, kTurn, kRetry, kCold, kOld, kLadder, kSpare
};
inline constexpr int kPointClasses = 10;

const char* Name(PointRole role);
const char* Name(PointClass point_class);

// Why tokens were computed although they might not have been. A closed set; "unknown" is not in it.
// The tree itself answers with those up to kCacheDisabled; the rest is for its callers to put in.
enum class Reason : uint8_t {
  kComplete,               // all that was known was reused, and nothing differs
  kNewPrefix,              // nothing of it was ever computed in this root
  kDiverged,               // reused up to where the tokens differ from what is known
  kNoPointBeforeDivergence,  // known, but no state was kept between the resume point and here
  kEvictedState,           // a state was kept and its slot is gone; pages are still here
  kEvictedKv,              // a state was kept, and it and its pages are gone
  kBudgetTooSmall,         // a state was wanted there, but everything in memory was worth more
  kCacheDisabled,          // the request asked not to reuse
  kTemplateRerender, kToolsChanged, kRetokenized, kAdapterDiffers, kNumericsDiffer, kCorruptRecord,
};
inline constexpr int kReasons = 14;
const char* Name(Reason reason);

enum class FinishReason : uint8_t { kStop, kToolCall, kLength, kCancelled, kPreempted };

// Seconds (or any unit) of computing the first n tokens: a n + b n^2 / 2.
struct CostModel {
  double per_token = 1.0;
  double per_token_squared = 0.0;
  double Of(int64_t tokens) const {
    const double n = static_cast<double>(tokens);
    return per_token * n + 0.5 * per_token_squared * n * n;
  }
};

// An offset that the caller knows to be useful (found by rendering the template again).
struct Probe {
  int64_t offset = 0;
  PointRole role = PointRole::kHint;
};

// Where a prefill should freeze its state.
struct Tap {
  int64_t offset = 0;
  PointRole role = PointRole::kSpare;
};

// What the tree knows of a prompt. Offsets in tokens from 0.
struct Match {
  int64_t prompt = 0;
  int64_t known = 0;     // longest prefix that was once computed, ghosts included, and can be used:
                         // without the last token if its logits are needed
  int64_t resident = 0;  // longest prefix whose pages are in memory
  int64_t resume = 0;    // deepest resume point that serves; 0: from the start
  PointRole role = PointRole::kEnd;           // of the resume point, if resume > 0
  PointClass point_class = PointClass::kOld;  // same
  SlotId slot = kNoFrame;                     // same; kNoFrame also if the model has no slots
  bool hidden = false;                        // same: its slot carries the last hidden row
  int64_t disk_offset = 0;   // a deeper point that a lower tier has; 0: none
  uint64_t disk_handle = 0;  // as DemotionHook returned it
  // Read from a lower tier for this request, and how long that took: the scheduler's to say.
  uint64_t restored_bytes = 0;
  double restored_seconds = 0.0;
  int64_t divergence = -1;   // first token that differs from the nearest known text; -1: none does
  Token was = -1, now = -1;  // the two tokens there
  Reason lost_reason = Reason::kComplete;  // for [resume, known); kComplete if that is empty
  Reason reason = Reason::kComplete;       // the one to report: lost_reason, or why known ends

  int64_t lost() const { return known - resume; }
  int64_t computed() const { return prompt - resume; }
};

// May a queued request run now, or does another one compute what it needs?
struct Advice {
  Match match;
  LiveId leader = kNone;   // park until it has passed, finished or failed `wait_for`; kNone: run
  int64_t wait_for = 0;    // the offset where the leader will freeze a state for us
};

// A request that runs. `pages` cover [0, resume): each is leased for the caller, the slot too. If
// resume is inside a page, copy the last one's rows to a fresh page before writing (and unlease
// it).
struct Admission {
  Match match;
  std::vector<PageId> pages;
};

struct AnnounceOptions {
  std::span<const Probe> probes;  // any order; offsets beyond the prompt are ignored
  // Whose reuse it learns from: a session's or cache key's hash; 0: the prompt's first page
  // decides.
  uint64_t family = 0;
  bool use_cache = true;          // false: reuse nothing, keep nothing
  // Needs logits of the prompt's last token: without a hidden row at its end at least that token is
  // computed.
  bool last_logits = true;
  // Tokens from here on are computed even where they are known: somebody wants to see their rows.
  int64_t reuse_max = std::numeric_limits<int64_t>::max();
};

// One point that is about to lose its place in memory, for a lower tier.
struct Demotion {
  RootId root = 0;
  TenantId tenant = 0;
  int64_t offset = 0;
  PointRole role = PointRole::kEnd;
  PointClass point_class = PointClass::kOld;
  SlotId slot = kNoFrame;
  bool hidden = false;
  std::span<const Token> tokens;  // [0, offset)
  std::span<const PageId> pages;  // covering them
  double seconds_saved = 0.0;     // of computing, if it is read back
  RootKey key{};                  // of the root
};

// A lower tier (R8). Called inside the eviction; it copies, or leases the frames until it has
// written them (their bytes then count until it lets go). Returns a handle that names the record,
// 0: refused.
class DemotionHook {
 public:
  virtual ~DemotionHook() = default;
  virtual uint64_t Demote(const Demotion& demotion) = 0;
  // The tree forgets the record (its node is gone); the tier may delete it.
  virtual void Forget(uint64_t handle) = 0;
  // A root comes into being: records of an earlier run that are its own.
  struct Known {
    uint64_t handle = 0;
    std::vector<Token> tokens;
    PointRole role = PointRole::kEnd;
    PointClass point_class = PointClass::kOld;
  };
  virtual std::vector<Known> KnownOf(TenantId, const RootKey&) { return {}; }
};

struct TreeOptions {
  CostModel cost;
  // false: pages alone make a resume point (no recurrent layer); the pool's slot_bytes is then 0,
  // and what a sequence published stays as if a snapshot lay at its end. With page_bytes 0 (no
  // attention layer) tables are empty.
  bool recurrent = true;
  int64_t tap_grid = 1;              // taps lie on multiples of it (1 on CPUs)
  // Snapshots carry the last hidden row, so a prompt can be reused to its end; ends of prompts get
  // one, then, where room is free or one came again.
  bool hidden_rows = false;
  int64_t divergence_tokens_min = 64;  // nearer to the resume point it is not worth a state
  // Probes nearer to each other than this share one state, at the first of them: a state is worth
  // thousands of tokens of pages, and two that are near make each other look worthless.
  int64_t probe_gap = 16;
  bool announced = true;             // use what queued prompts say
  bool observed = true;              // use what earlier prompts say
  bool learned = true;               // weigh by how often such points were reused (R5)
  int64_t ladder_first = 8192;       // 0: no ladder
  int64_t rolling_tokens = 4096;     // 0: none
  int64_t spare_tokens = 512;        // 0: none
  int64_t ghost_tokens_max = int64_t{16} << 20;
  int64_t points_max = 1 << 20;
  double disk_bytes_per_second = 0.5e9;  // what a lower tier reads with; for R8
  int64_t compare_published = 0;     // every n-th page that is already there is compared; 0: none
  DemotionHook* demotion = nullptr;
};

struct TenantOptions {
  double weight = 1.0;              // its share of the budget among all tenants
  uint64_t pin_bytes_max = ~uint64_t{0};
};

// One stretch of the path of a prompt, or of what parts from it, for a drawing.
struct ExplainedNode {
  int64_t begin = 0, end = 0;
  bool on_path = true;   // of the prompt; else what was known beside it
  bool resident = false, planned = false;
  bool on_disk = false, pinned = false, live = false;
  int64_t points = 0;    // in memory, at or below its end
  uint64_t bytes = 0;    // of its pages and, at its end, its slot
  std::optional<PointClass> point_class;  // of the snapshot at its end
  double evicted_seconds_ago = -1.0;      // below 0: was not evicted
};

struct Explanation {
  Match match;
  int64_t same_after = 0;           // tokens after the first differing ones that are as they were
  int64_t differing = 0;            // tokens of the prompt that differ before those
  double seconds = 0.0;             // of computing what is not cached
  int64_t cost_if_moved = 0;        // tokens, were those that differ at the end; 0: no advice
  double seconds_if_moved = 0.0;
  std::vector<ExplainedNode> nodes;
};

// As `lode ctx explain` prints it: numbers, the first difference, the tree. Words for the differing
// tokens are the caller's (`was`, `now`; empty: ids are shown).
std::string ToText(const Explanation& explanation, const std::string& was = "",
                   const std::string& now = "");

struct TreeCounts {
  int64_t nodes = 0, points = 0, points_on_disk = 0;
  int64_t tokens = 0, ghost_tokens = 0;  // ids kept; of these without pages
  std::array<int64_t, kPointClasses> points_by_class{};
  // Since the start.
  int64_t taken = 0, refused = 0, evicted = 0, demoted = 0, dropped_dead_pages = 0;
  int64_t deduplicated_pages = 0, compared_pages = 0, mismatched_pages = 0;  // the last: an alarm
  int64_t cached_tokens = 0, computed_tokens = 0;          // of prompts admitted
  std::array<int64_t, kReasons> tokens_by_reason{};        // computed, by the reason reported
};

class TreeState;  // prefix_tree_state.h: what the files of the implementation share

class PrefixTree {
 public:
  PrefixTree(FramePool* pool, const TreeOptions& options);
  ~PrefixTree();

  // --- Who: tenants and roots ---
  // Errors: kNoSpace when the pool's groups are used up.
  Result<TenantId> AddTenant(const TenantOptions& options);
  // The root of that key, made if need be. One tenant's key never finds another's root.
  // Errors: kNoSpace when the pool's owners are used up by roots that hold something.
  Result<RootId> OpenRoot(TenantId tenant, const RootKey& key);
  OwnerId owner(RootId root) const;  // to take frames with
  // How many may still come with this root (+1, -1): it stays, though nothing of it is in memory.
  void KeepRoot(RootId root, int64_t by);
  // Drops all of a root that nobody runs on or pins (its exactness is in doubt, or its owner left).
  void DropRoot(RootId root);

  // --- One request ---
  // Without changing anything: what `prompt` would reuse.
  Match Lookup(RootId root, std::span<const Token> prompt, bool last_logits = true) const;

  // The prompt's ids enter the tree as planned nodes. Never fails; an empty prompt is our bug.
  LiveId Announce(RootId root, std::span<const Token> prompt, const AnnounceOptions& options);
  // For a queued one, whenever somebody asks; changes nothing. Ask again after each Admit and
  // Finish, and when the leader has passed the place: only who runs already can lead.
  Advice Advise(LiveId live) const;
  // It runs from now on. Counts the hit, leases path, pages and slot. The slot's lease is the
  // caller's to give back when the first step has read it.
  Admission Admit(LiveId live);

  // The next offset in (position, prompt's end] where a state is wanted, also for others that have
  // come since. Between two calls the answer may change; it costs the path's nodes, not its tokens.
  std::optional<Tap> NextTap(LiveId live, int64_t position) const;
  // All that NextTap would give from `position` on, if nothing else happened.
  std::vector<Tap> Plan(LiveId live, int64_t position) const;

  // Whether a slot can be had for going on after a snapshot at `offset`, evicting what is worth
  // less than it. On true the caller takes the slot at once. False: go on without the snapshot.
  bool RoomForPoint(LiveId live, int64_t offset, PointRole role);

  // The state after `offset` tokens of this sequence, frozen: `slot` (leased by the caller, who
  // must not write it any more) gets a hold of the tree. `table` is the sequence's page table, at
  // least up to offset; see Publish. `hidden`: the slot also carries the last hidden row. If there
  // already is a snapshot there, it stays and `slot` gets none. Returns the slot that is bound
  // there.
  SlotId AddSnapshot(LiveId live, int64_t offset, SlotId slot, PointRole role,
                     std::span<PageId> table, bool hidden = false);
  // The snapshot at `offset` of this sequence is no longer kept, so that whoever leases its slot may
  // write it: the last resort of one who has no room for another. False: there is none, or it is pinned.
  bool GiveUpPoint(LiveId live, int64_t offset);
  // Pages that no point needs, and nobody else runs through, are no longer kept for this sequence:
  // it has its own, and of one that ends inside a page two may be held.
  void GiveUpPages(LiveId live);

  // The pages of [0, offset) are computed. Where the tree already has the same tokens, its pages
  // take the place of full pages in `table` (leases move along). Entries that the tree has may be
  // kNoFrame. Pages without a snapshot behind them live as long as the sequence, if the model is
  // recurrent.
  void Publish(LiveId live, int64_t offset, std::span<PageId> table);
  // The sequence goes on with decoded tokens.
  void Append(LiveId live, std::span<const Token> tokens);
  // How far the sequence has come: others know whether to wait for it, and when it ends, what of it
  // was computed.
  void Progress(LiveId live, int64_t position);

  // A second sequence at the same place, running; pages and slot are leased as by Admit, from the
  // live one's table and slot: the child writes neither. O(depth + pages).
  LiveId Fork(LiveId live, std::span<const PageId> table, SlotId slot);

  // The request ends, in whatever state. Pages that no snapshot needs are freed.
  void Finish(LiveId live, FinishReason reason);

  int64_t tokens(LiveId live) const;  // prompt and appended
  std::vector<Token> Tokens(LiveId live) const;

  // --- Keeping ---
  // The deepest snapshot at or before `offset` of this prompt, and its pages, stay until Unpin.
  // Errors: kNotFound if there is none; kNoSpace over the tenant's quota, with the sum.
  struct Pinned {
    PinId pin = kNone;
    int64_t offset = 0;
    uint64_t bytes = 0;  // that the pin adds to the quota's use; what others pinned counts once
  };
  Result<Pinned> Pin(RootId root, std::span<const Token> prompt, int64_t offset);
  void Unpin(PinId pin);
  uint64_t pinned_bytes(TenantId tenant) const;

  // The deepest snapshot of `tokens` exactly at their end: for saving. Leased for the caller.
  struct Saved {
    SlotId slot = kNoFrame;
    bool hidden = false;
    std::vector<PageId> pages;
  };
  std::optional<Saved> LeaseAt(RootId root, std::span<const Token> tokens);

  // --- Room ---
  // Evicts until the pool can give so many frames to `root`'s tenant: first tenants above their
  // share, lowest value per byte first; nobody else falls below the share. Errors: kNoSpace, with
  // the bytes wanted and those that are leased or pinned; what was evicted on the way stays
  // evicted.
  // With `from_anybody` the caches of others go below their share, too, before a request fails.
  Result<void> MakeRoom(RootId root, int64_t pages, int64_t slots, bool from_anybody = false);
  uint64_t used_bytes(TenantId tenant) const;
  uint64_t share_bytes(TenantId tenant) const;

  // For a queued request whose deeper state is being read from a lower tier: pages that are in
  // memory already, [0, match.resident) of it, leased for the caller. With those it reads they make
  // the table for AddSnapshot, which may be called before Admit; then the leases go back. (Where
  // resident ends inside a page, that page must be read too, into a frame of the caller's.)
  std::vector<PageId> LeasePages(LiveId live);
  // A lower tier lost a record, or found it bad.
  void ForgetDisk(uint64_t handle, bool corrupt);

  // --- Knowing ---
  void SetNow(double seconds);  // any clock; only Explain looks at it
  // What one unit of TreeOptions::cost takes here, as measured; 1 until then. Values are compared
  // with one another, so this only matters against the clock and the disk.
  void SetSpeed(double seconds_per_cost);
  double SecondsToCompute(int64_t from, int64_t to) const;
  double SecondsToRead(uint64_t bytes) const;  // from a lower tier
  Explanation Explain(RootId root, std::span<const Token> prompt) const;
  TreeCounts counts() const;

  // Recounts everything and CHECKs it: references, bytes, points and pages, leases, quotas.
  void Check() const;

  TreeState& state() { return *state_; }  // for tests

 private:
  void CloseIfEmpty(RootId root);

  std::unique_ptr<TreeState> state_;
};

}  // namespace lode::runtime
