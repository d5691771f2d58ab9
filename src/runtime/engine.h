// Runs sequences through a model. A step takes rows of any number of sequences; prompt and answer
// differ only in how many. Whatever the split into steps, the company and the threads, a sequence's
// logits and state are the same bits.
//
// A sequence's state is pages and one slot in frames (runtime/tree/frame_pool.h) that others may share: a
// step reads the slot at one place and writes it at another when somebody else holds it, and a page
// that is not full is copied before somebody else than its first writer goes on in it. So a fork and
// a snapshot copy no state.
// Threads: one owner calls everything.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "model/forward.h"
#include "runtime/tree/frame_pool.h"

namespace lode::runtime {

// Mistakes that a test plants, to see that the grid of bits turns red (tests/contexts_test.cc).
enum class Fault : uint8_t {
  kNone,
  kWriteSharedPage,   // the page of a fork's sibling is written without a copy
  kWriteSharedSlot,   // a frozen state is written where it lies
  kReadTargetSlot,    // the step starts from whatever its target holds
  kKeepSlotDirty,     // an empty sequence starts from a used state
  kForgetNewSlot,     // after the step the old state stays current
  kPositionTooSmall,  // a resumed sequence believes to be one token shorter
  kPositionTooLarge,
  kSwapPages,         // the first two pages of a resumed sequence change places
  kStaleTail,         // a copied tail lacks its newest row
  kTrialInPlace,      // a trial writes the state
  kSkipReplay,        // of the rows that stood in a trial one is not replayed
  kMixSlots,          // two sequences of a step get each other's state
};

struct EngineOptions {
  model::Numerics numerics;
  int threads = 1;
  Pin pin = Pin::kOff;  // whether the threads may be bound to cores (base/thread_pool.h)
  int64_t context_tokens = 4096;  // room for so many tokens, shared by all sequences
  int64_t sequences_max = 1;
  int64_t sequence_tokens_max = 0;  // of one sequence; 0: as long as there is room
  uint64_t cache_bytes = 0;         // of frames beyond these, for states and pages that are kept
  int64_t rows_max = 256;         // rows of one step
  int64_t trial_rows_max = 0;     // of one sequence in a trial; 0: there are no trials
  Fault fault = Fault::kNone;     // tests only
};

class Engine;

// One sequence's state. Life: must not outlive its engine; gives its frames back when it goes.
class Sequence {
 public:
  ~Sequence();
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(Sequence&& other) noexcept;

  int64_t tokens() const { return position_; }
  // Its pages, each leased by it; entries may be exchanged for pages of equal content.
  std::span<PageId> pages() { return pages_; }
  std::span<const PageId> pages() const { return pages_; }
  // Its state, leased by it; kNoFrame before the first step, or without such state. After
  // Engine::Settle it is that after tokens().
  SlotId slot() const { return slot_; }

 private:
  friend class Engine;
  Sequence() = default;
  void Release();

  Engine* engine_ = nullptr;
  OwnerId owner_ = 0;
  int64_t position_ = 0;
  int64_t mtp_position_ = 0;
  std::vector<PageId> pages_;
  // Pages from this index on were taken by this sequence: it alone appends to them, and whoever else
  // refers to them reads only rows that are there already.
  size_t own_from_ = 0;
  SlotId slot_ = kNoFrame;
  SlotId next_slot_ = kNoFrame;  // taken for the step to come, where slot_ is shared
  // The last trial: its rows' inputs to the recurrence, and which of them stand and are not in the
  // slot yet. A step replays these first.
  float* trial_ = nullptr;
  int64_t trial_rows_ = 0;
  int64_t replay_begin_ = 0, replay_count_ = 0;
};

// Rows of one sequence in a step.
struct StepItem {
  Sequence* sequence;
  std::span<const int32_t> tokens;
  enum class Want : uint8_t { kNone, kLast, kAll } want = Want::kLast;
  int64_t last = 1;  // with kLast: so many rows at the end
  // False: a trial. The sequence stays where it is until Keep says which of these rows are its own;
  // another step forgets the rest. At most trial_rows_max rows.
  bool commit = true;
};

// Rows of one sequence for the MTP head, which guesses what follows the token that follows.
struct DraftItem {
  Sequence* sequence;
  int64_t position;     // of the first row
  const float* hidden;  // [T, D] after the final norm; of hidden(), items in order of their rows
  std::span<const int32_t> next_tokens;  // T: that follow each row
  StepItem::Want want = StepItem::Want::kLast;
};

class Engine {
 public:
  // `model` must outlive the engine. Whether there are addresses for its frames is CheckRoom's to say,
  // before.
  Engine(const model::Model& model, const EngineOptions& options);
  // Errors: kNoSpace when the system refuses addresses for so much context.
  static Result<void> CheckRoom(const model::ModelSpec& spec, const EngineOptions& options);

  // What the constructor and its sequences take at most, to the byte.
  static uint64_t Bytes(const model::ModelSpec& spec, const EngineOptions& options);
  // What a state takes of the frames, with the hidden row behind it; 0: the model has none.
  static uint64_t SlotBytes(const model::ModelSpec& spec, const model::Numerics& numerics);

  // Errors: kNoSpace when sequences_max of them are there.
  Result<Sequence> NewSequence();

  // A sequence whose frames are of `owner`, without a limit on how many.
  Sequence NewSequence(OwnerId owner);
  // The same, going on after `tokens` tokens whose pages and slot the caller has leased: the leases
  // are the sequence's from now on.
  Sequence NewSequence(OwnerId owner, int64_t tokens, std::vector<PageId> pages, SlotId slot);

  // One step. Logits of the wanted rows, in order of items and rows, go to `logits` [n, V].
  // Errors, before anything is computed: kBadInput for a token id outside the vocabulary; kNoSpace
  // when the context is full; frames taken until then stay with their sequences. The number of rows
  // must not exceed rows_max.
  Result<void> Step(std::span<const StepItem> items, float* logits);

  // The next `rows` rows of the last step, which was a trial of this sequence, are its own.
  void Keep(Sequence* sequence, int64_t rows);

  // Brings the slot up to tokens(), where rows of a trial stand: before it is frozen or looked at.
  void Settle(Sequence* sequence);

  // A whole prompt in steps of `chunk` rows (0: rows_max). With `all`, `logits` gets every row [T,
  // V], else the last one [V] (or none, when null). `progress` is called after each step with the
  // rows done; returning false stops with kCancelled.
  Result<void> Append(Sequence& sequence, std::span<const int32_t> tokens, float* logits,
                      bool all = false, int64_t chunk = 0,
                      const std::function<bool(int64_t)>& progress = nullptr);

  // Rows of the MTP head for each item: keys and values into its pages, logits of the wanted rows in
  // order to `logits` [n, V]; afterwards hidden() has the head's own rows after its final norm, in
  // order. What the head leaves in pages is worth guesses and shows in no row of the model.
  // Errors: kUnsupported without an MTP head; kBadInput for a token; kNoSpace.
  Result<void> Draft(std::span<const DraftItem> items, float* logits);

  // The same over the hidden states of a sequence's first T tokens, after those it has run already:
  // hidden [T, D], draft logits [T, V]. For checks.
  Result<void> Draft(Sequence& sequence, std::span<const float> hidden,
                     std::span<const int32_t> next_tokens, float* logits);

  // Called often, when no kernel runs (model::Runner::BetweenLayers).
  void BetweenLayers(std::function<void()> hook) { runner_.BetweenLayers(std::move(hook)); }

  // Rows after the final norm of the last step, [rows, D].
  const float* hidden() { return runner_.workspace().hidden; }
  // Logits [n, V] of such rows [n, D], n <= rows_max: the bits that the step has for them.
  void Logits(const float* hidden, int64_t rows, float* logits) {
    runner_.Head(hidden, rows, logits);
  }
  // Place for the row after the state's last token [D], beside a state. A step leaves it alone.
  float* HiddenOf(SlotId slot) { return reinterpret_cast<float*>(Slot(slot) + slot_bytes_); }

  // Who sees the inputs of matrix products from now on (model::Runner::Observe); nullptr: nobody.
  void Observe(model::InputObserver* observer) { runner_.Observe(observer); }

  const model::Model& model() const { return runner_.model(); }
  // Errors: kBadInput for an id outside the vocabulary.
  Result<void> CheckTokens(std::span<const int32_t> tokens) const;
  int64_t vocabulary() const { return model().spec.vocabulary; }
  int64_t rows_max() const { return runner_.rows_max(); }
  int threads() const { return pool_.threads(); }
  // To measure the machine with the same threads, or to compute with fewer of them, between steps.
  ThreadPool& pool() { return pool_; }
  // Copies of a settled sequence's state: slot, and the pages' used rows. For tests and digests.
  std::vector<std::byte> StateBytes(const Sequence& sequence) const;
  // A second sequence with the same state as a settled one: shares all frames, copies nothing.
  // Errors: kNoSpace when sequences_max of them are there.
  Result<Sequence> Fork(const Sequence& sequence);

  // Takes the frames that the next `tokens` rows of this sequence will write. Errors: kNoSpace.
  // With `trial` also room for rows that are tried.
  Result<void> Reserve(Sequence* sequence, int64_t tokens, bool trial = false);
  // Whether a sequence of so many tokens is more than one may have.
  bool TooLong(int64_t tokens) const {
    return sequence_tokens_max_ > 0 && tokens > sequence_tokens_max_;
  }
  int64_t sequence_tokens_max() const { return sequence_tokens_max_; }
  // How many that would be.
  int64_t PagesToReserve(const Sequence& sequence, int64_t tokens) const;
  int64_t SlotsToReserve(const Sequence& sequence) const;
  // A slot for the step to come, as Reserve would take it later; false when there is no room.
  bool TakeNextSlot(Sequence* sequence);

  FramePool& frames() { return *frames_; }
  const model::StateLayout& layout() const { return runner_.layout(); }
  bool has_pages() const { return page_bytes_ > 0; }
  bool has_slots() const { return slot_bytes_ > 0; }
  int64_t trial_rows_max() const { return trial_rows_max_; }

 private:
  friend class Sequence;
  static FramePoolOptions FrameOptions(const model::ModelSpec& spec, const EngineOptions& options);
  Result<void> Grow(Sequence* sequence, int64_t tokens);
  bool OwnTail(Sequence* sequence, int64_t position);
  int64_t TailsToCopy(const Sequence& sequence) const;
  bool Shared(const FrameArena& arena, uint32_t frame) const;
  bool TakeTrial(Sequence* sequence);
  void ViewState(const StepItem& item, model::SequenceView* view);
  void Ran(const StepItem& item);
  std::byte* Page(PageId page) { return frames_->pages().data(page); }
  std::byte* Slot(SlotId slot) { return frames_->slots().data(slot); }
  std::byte** Pointers(const Sequence& sequence, uint64_t offset);

  int64_t sequence_tokens_max_, sequences_max_;
  Fault fault_;
  int64_t sequences_ = 0;  // that are there and count
  ThreadPool pool_;
  model::Runner runner_;
  uint64_t page_bytes_, slot_bytes_;
  std::unique_ptr<FramePool> frames_;
  OwnerId owner_ = 0;  // of sequences that nobody else owns
  std::vector<std::byte*> pointers_;  // of the pages of a step's sequences
  int64_t trial_rows_max_;
  std::unique_ptr<float[]> trial_memory_;
  std::vector<float*> free_trials_;
};

}  // namespace lode::runtime
