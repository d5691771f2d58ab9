#include "runtime/engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace lode::runtime {
namespace {

static_assert(kTokensPerPage == kernels::kPageTokens);

// Every sequence may end inside a page of its own.
int64_t PagesFor(const EngineOptions& options) {
  return PageCount(options.context_tokens) + options.sequences_max - 1;
}

}  // namespace

Sequence::~Sequence() { Release(); }

Sequence::Sequence(Sequence&& other) noexcept { *this = std::move(other); }

Sequence& Sequence::operator=(Sequence&& other) noexcept {
  if (this == &other) return *this;
  Release();
  engine_ = std::exchange(other.engine_, nullptr);
  owner_ = other.owner_;
  position_ = std::exchange(other.position_, 0);
  mtp_position_ = std::exchange(other.mtp_position_, 0);
  pages_ = std::exchange(other.pages_, {});
  own_from_ = other.own_from_;
  slot_ = std::exchange(other.slot_, kNoFrame);
  next_slot_ = std::exchange(other.next_slot_, kNoFrame);
  trial_ = std::exchange(other.trial_, nullptr);
  trial_rows_ = other.trial_rows_;
  replay_begin_ = other.replay_begin_;
  replay_count_ = std::exchange(other.replay_count_, 0);
  return *this;
}

void Sequence::Release() {
  if (engine_ == nullptr) return;
  FramePool& frames = *engine_->frames_;
  for (const PageId page : pages_) frames.pages().Unlease(page);
  for (const SlotId slot : {slot_, next_slot_}) {
    if (slot != kNoFrame) frames.slots().Unlease(slot);
  }
  if (trial_ != nullptr) engine_->free_trials_.push_back(std::exchange(trial_, nullptr));
  if (owner_ == engine_->owner_) --engine_->sequences_;
  engine_ = nullptr;
}

FramePoolOptions Engine::FrameOptions(const model::ModelSpec& spec, const EngineOptions& options) {
  const model::StateLayout layout = model::MakeStateLayout(spec, options.numerics);
  FramePoolOptions frames;
  frames.page_bytes = layout.page_bytes + layout.mtp_page_bytes;
  frames.slot_bytes = SlotBytes(spec, options.numerics);
  frames.budget_bytes =
      static_cast<uint64_t>(PagesFor(options)) * FramePool::Stride(frames.page_bytes, true) +
      static_cast<uint64_t>(options.sequences_max) * FramePool::Stride(frames.slot_bytes, true) +
      options.cache_bytes;
  return frames;
}

uint64_t Engine::SlotBytes(const model::ModelSpec& spec, const model::Numerics& numerics) {
  const uint64_t state = model::MakeStateLayout(spec, numerics).slot_bytes;
  return state == 0 ? 0 : state + static_cast<uint64_t>(spec.width) * sizeof(float);
}

Engine::Engine(const model::Model& model, const EngineOptions& options)
    : sequence_tokens_max_(options.sequence_tokens_max),
      sequences_max_(options.sequences_max),
      fault_(options.fault),
      pool_(options.threads, options.pin),
      runner_(model, options.numerics, &pool_, options.rows_max),
      page_bytes_(runner_.layout().page_bytes + runner_.layout().mtp_page_bytes),
      slot_bytes_(runner_.layout().slot_bytes),
      trial_rows_max_(options.trial_rows_max) {
  auto frames = FramePool::Make(FrameOptions(model.spec, options));
  LODE_CHECK(frames.ok());
  frames_ = std::move(*frames);
  owner_ = frames_->AddOwner(frames_->groups_max() - 1);
  const int64_t floats = trial_rows_max_ * runner_.layout().trial_row_floats;
  if (trial_rows_max_ == 0) return;
  trial_memory_.reset(new float[static_cast<size_t>(options.sequences_max * floats)]);
  for (int64_t i = 0; i < options.sequences_max; ++i) {
    free_trials_.push_back(trial_memory_.get() + i * floats);
  }
}

Result<void> Engine::CheckRoom(const model::ModelSpec& spec, const EngineOptions& options) {
  const auto frames = FramePool::Make(FrameOptions(spec, options));
  if (!frames.ok()) return frames.error();
  return {};
}

uint64_t Engine::Bytes(const model::ModelSpec& spec, const EngineOptions& options) {
  const int64_t trials = options.sequences_max * options.trial_rows_max *
                         model::MakeStateLayout(spec, options.numerics).trial_row_floats;
  return model::Workspace::Bytes(spec, options.numerics, options.rows_max, options.threads) +
         static_cast<uint64_t>(trials) * sizeof(float) + FrameOptions(spec, options).budget_bytes;
}

Sequence Engine::NewSequence(OwnerId owner) {
  Sequence sequence;
  sequence.engine_ = this;
  sequence.owner_ = owner;
  if (owner == owner_) ++sequences_;
  return sequence;
}

Sequence Engine::NewSequence(OwnerId owner, int64_t tokens, std::vector<PageId> pages,
                             SlotId slot) {
  Sequence sequence = NewSequence(owner);
  sequence.position_ = tokens;
  sequence.pages_ = std::move(pages);
  sequence.own_from_ = sequence.pages_.size();
  sequence.slot_ = slot;
  if (tokens == 0) return sequence;
  if (fault_ == Fault::kPositionTooSmall) --sequence.position_;
  if (fault_ == Fault::kPositionTooLarge && tokens % kernels::kPageTokens != 0) {
    ++sequence.position_;
  }
  if (fault_ == Fault::kSwapPages && sequence.pages_.size() > 1) {
    std::swap(sequence.pages_[0], sequence.pages_[1]);
  }
  return sequence;
}

Result<Sequence> Engine::NewSequence() {
  if (sequences_ >= sequences_max_) {
    return Error(Code::kNoSpace, "all sequences are in use", "raise the number of agents");
  }
  return NewSequence(owner_);
}

bool Engine::Shared(const FrameArena& arena, uint32_t frame) const {
  if (fault_ == Fault::kWriteSharedSlot && &arena == &frames_->slots()) return false;
  return arena.leases(frame) > 1 || arena.holds(frame) > 0;
}

// A page that has rows already and gets more must be the sequence's own.
bool Engine::OwnTail(Sequence* sequence, int64_t position) {
  FrameArena& pages = frames_->pages();
  const auto at = static_cast<size_t>(position / kernels::kPageTokens);
  if (position % kernels::kPageTokens == 0 || at >= sequence->own_from_) return true;
  if (fault_ == Fault::kWriteSharedPage) return true;
  // Mostly one; the MTP head may be pages behind.
  for (; sequence->own_from_ > at; --sequence->own_from_) {
    PageId& old = sequence->pages_[sequence->own_from_ - 1];
    if (!Shared(pages, old)) continue;  // nobody else refers to it (any more)
    const PageId copy = pages.Take(sequence->owner_);
    if (copy == kNoFrame) return false;
    std::memcpy(Page(copy), Page(old), page_bytes_);
    if (fault_ == Fault::kStaleTail) std::memset(Page(copy), 0, page_bytes_ / 2);
    pages.Unlease(std::exchange(old, copy));
  }
  return true;
}

Result<void> Engine::Grow(Sequence* sequence, int64_t tokens) {
  const auto full = [&] {
    return Error(
        Code::kNoSpace,
        Format("the context is full at %lld tokens, and %lld are needed",
               static_cast<long long>(sequence->position_), static_cast<long long>(tokens)),
        "start with a larger --context");
  };
  if (sequence_tokens_max_ > 0 && tokens > sequence_tokens_max_) return full();
  if (!has_pages()) return {};
  if (!OwnTail(sequence, sequence->position_) || !OwnTail(sequence, sequence->mtp_position_)) {
    return full();
  }
  while (static_cast<int64_t>(sequence->pages_.size()) < PageCount(tokens)) {
    const PageId page = frames_->pages().Take(sequence->owner_);
    if (page == kNoFrame) return full();
    sequence->pages_.push_back(page);
  }
  return {};
}

bool Engine::TakeNextSlot(Sequence* sequence) {
  if (!has_slots() || sequence->next_slot_ != kNoFrame) return true;
  sequence->next_slot_ = frames_->slots().Take(sequence->owner_);
  return sequence->next_slot_ != kNoFrame;
}

// Pages that OwnTail would copy.
int64_t Engine::TailsToCopy(const Sequence& sequence) const {
  if (fault_ == Fault::kWriteSharedPage) return 0;
  auto first = static_cast<int64_t>(sequence.own_from_);
  for (const int64_t position : {sequence.position_, sequence.mtp_position_}) {
    if (position % kernels::kPageTokens == 0) continue;
    first = std::min(first, position / kernels::kPageTokens);
  }
  int64_t count = 0;
  for (auto i = static_cast<size_t>(first); i < sequence.own_from_; ++i) {
    count += Shared(frames_->pages(), sequence.pages_[i]) ? 1 : 0;
  }
  return count;
}

int64_t Engine::PagesToReserve(const Sequence& sequence, int64_t tokens) const {
  if (!has_pages()) return 0;
  const int64_t more =
      PageCount(sequence.position_ + tokens) - static_cast<int64_t>(sequence.pages_.size());
  return std::max<int64_t>(0, more) + TailsToCopy(sequence);
}

int64_t Engine::SlotsToReserve(const Sequence& sequence) const {
  if (!has_slots()) return 0;
  if (sequence.slot_ == kNoFrame) return 1;
  return Shared(frames_->slots(), sequence.slot_) && sequence.next_slot_ == kNoFrame ? 1 : 0;
}

// Room for the rows of a trial; false when there is none.
bool Engine::TakeTrial(Sequence* sequence) {
  if (sequence->trial_ != nullptr) return true;
  if (free_trials_.empty()) return false;
  sequence->trial_ = free_trials_.back();
  free_trials_.pop_back();
  return true;
}

Result<void> Engine::Reserve(Sequence* sequence, int64_t tokens, bool trial) {
  if (tokens == 0) return {};
  LODE_TRY(Grow(sequence, sequence->position_ + tokens));
  if (!has_slots()) return {};
  if (trial && !TakeTrial(sequence)) {
    return Error(Code::kNoSpace, "there is no room for trials of so many sequences",
                 "raise the number of agents");
  }
  if (sequence->slot_ == kNoFrame) {
    const bool zeroed = fault_ != Fault::kKeepSlotDirty;
    sequence->slot_ = frames_->slots().Take(sequence->owner_, zeroed);
  }
  // A trial writes only what is replayed first. The place is taken now, for Settle must not fail.
  const bool apart = sequence->slot_ != kNoFrame && Shared(frames_->slots(), sequence->slot_);
  if (sequence->slot_ == kNoFrame || (apart && !TakeNextSlot(sequence))) {
    return Error(Code::kNoSpace, "there is no room for another state",
                 "raise the number of agents");
  }
  return {};
}

// Where the pages lie, from `offset` bytes of each on.
std::byte** Engine::Pointers(const Sequence& sequence, uint64_t offset) {
  const size_t begin = pointers_.size();
  LODE_CHECK(begin + sequence.pages_.size() <= pointers_.capacity());
  for (const PageId page : sequence.pages_) pointers_.push_back(Page(page) + offset);
  return pointers_.data() + begin;
}

Result<void> Engine::CheckTokens(std::span<const int32_t> tokens) const {
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocabulary()) {
      return Error(Code::kBadInput, Format("token id %d is outside the vocabulary of %lld", token,
                                           static_cast<long long>(vocabulary())));
    }
  }
  return {};
}

Result<void> Engine::Step(std::span<const StepItem> items, float* logits) {
  StackMemory* memory = &runner_.memory();
  const StackMemory::Scope scope(memory);
  std::pmr::vector<int32_t> tokens(memory);
  std::pmr::vector<int32_t> logit_rows(memory);
  std::pmr::vector<model::SequenceView> views(memory);
  size_t pages = 0;
  for (const StepItem& item : items) {
    LODE_CHECK(item.sequence->engine_ == this);
    LODE_TRY(CheckTokens(item.tokens));
    LODE_TRY(Reserve(item.sequence, static_cast<int64_t>(item.tokens.size()), !item.commit));
    pages += item.sequence->pages_.size();
  }
  pointers_.clear();
  pointers_.reserve(pages);
  for (const StepItem& item : items) {
    const auto begin = static_cast<int64_t>(tokens.size());
    const auto count = static_cast<int64_t>(item.tokens.size());
    if (count == 0) continue;
    tokens.insert(tokens.end(), item.tokens.begin(), item.tokens.end());
    model::SequenceView view;
    view.rows = {begin, count};
    view.position = item.sequence->position_;
    view.pages = Pointers(*item.sequence, 0);
    if (has_slots()) ViewState(item, &view);
    if (fault_ == Fault::kMixSlots && !views.empty()) {
      std::swap(view.slot_source, views.back().slot_source);
    }
    views.push_back(view);
    if (logits == nullptr || item.want == StepItem::Want::kNone) continue;
    const int64_t first =
        item.want == StepItem::Want::kAll ? 0 : std::max<int64_t>(0, count - item.last);
    for (int64_t i = first; i < count; ++i) logit_rows.push_back(static_cast<int32_t>(begin + i));
  }
  LODE_CHECK(static_cast<int64_t>(tokens.size()) <= rows_max());
  if (tokens.empty()) return {};
  runner_.Forward({tokens, views, logit_rows, logits});
  for (const StepItem& item : items) Ran(item);
  return {};
}

// Where a step finds and leaves a sequence's recurrent state.
void Engine::ViewState(const StepItem& item, model::SequenceView* view) {
  const Sequence& sequence = *item.sequence;
  const SlotId next = sequence.next_slot_;
  view->slot_source = Slot(sequence.slot_);
  view->slot_target = Slot(next == kNoFrame ? sequence.slot_ : next);
  if (fault_ == Fault::kReadTargetSlot) view->slot_source = view->slot_target;
  view->trial = {sequence.trial_, trial_rows_max_, sequence.replay_begin_, sequence.replay_count_};
  if (fault_ == Fault::kSkipReplay && view->trial.replay_count > 0) --view->trial.replay_count;
  view->keep = item.commit || fault_ == Fault::kTrialInPlace;
  if (view->keep && !item.commit) {  // finite, for rows that are not filled
    std::fill_n(sequence.trial_, trial_rows_max_ * runner_.layout().trial_row_floats, 0.0f);
  }
  LODE_CHECK(item.commit || static_cast<int64_t>(item.tokens.size()) <= trial_rows_max_);
}

// A step has run these rows: the slot has what was to be replayed, and committed rows.
void Engine::Ran(const StepItem& item) {
  Sequence& sequence = *item.sequence;
  const auto rows = static_cast<int64_t>(item.tokens.size());
  if (rows == 0) return;
  const bool moved = item.commit || sequence.replay_count_ > 0;
  sequence.replay_begin_ = sequence.replay_count_ = 0;
  sequence.trial_rows_ = item.commit ? 0 : rows;
  if (moved && sequence.next_slot_ != kNoFrame) {
    if (fault_ == Fault::kForgetNewSlot) std::swap(sequence.slot_, sequence.next_slot_);
    frames_->slots().Unlease(sequence.slot_);
    sequence.slot_ = std::exchange(sequence.next_slot_, kNoFrame);
  }
  if (!item.commit) return;
  sequence.position_ += rows;
  if (sequence.trial_ != nullptr) {
    free_trials_.push_back(std::exchange(sequence.trial_, nullptr));
  }
}

void Engine::Keep(Sequence* sequence, int64_t rows) {
  sequence->position_ += rows;
  LODE_CHECK(sequence->replay_begin_ + sequence->replay_count_ + rows <= sequence->trial_rows_);
  sequence->replay_count_ += rows;
}

void Engine::Settle(Sequence* sequence) {
  const int64_t rows = std::exchange(sequence->replay_count_, 0);
  const int64_t begin = std::exchange(sequence->replay_begin_, sequence->replay_begin_ + rows);
  if (rows == 0 || !has_slots()) return;
  const bool apart = Shared(frames_->slots(), sequence->slot_);
  LODE_CHECK(!apart || sequence->next_slot_ != kNoFrame);
  model::SequenceView view;
  view.rows = {0, 0};
  view.slot_source = Slot(sequence->slot_);
  view.slot_target = Slot(apart ? sequence->next_slot_ : sequence->slot_);
  view.trial = {sequence->trial_, trial_rows_max_, begin, rows};
  runner_.Replay({&view, 1});
  if (!apart) return;
  frames_->slots().Unlease(sequence->slot_);
  sequence->slot_ = std::exchange(sequence->next_slot_, kNoFrame);
}

Result<void> Engine::Append(Sequence& sequence, std::span<const int32_t> tokens, float* logits,
                            bool all, int64_t chunk, const std::function<bool(int64_t)>& progress) {
  LODE_TRY(CheckTokens(tokens));
  LODE_TRY(Grow(&sequence, sequence.position_ + static_cast<int64_t>(tokens.size())));
  const auto step = static_cast<size_t>(chunk > 0 ? std::min(chunk, rows_max()) : rows_max());
  for (size_t at = 0; at < tokens.size(); at += step) {
    const size_t count = std::min(step, tokens.size() - at);
    const bool last = at + count == tokens.size();
    StepItem item = {&sequence, tokens.subspan(at, count)};
    item.want = all ? StepItem::Want::kAll : last ? StepItem::Want::kLast : StepItem::Want::kNone;
    float* target = logits == nullptr ? nullptr
                    : all             ? logits + at * static_cast<size_t>(vocabulary())
                                      : logits;
    LODE_TRY(Step({&item, 1}, target));
    if (progress && !progress(static_cast<int64_t>(at + count))) {
      return Error(Code::kCancelled, "stopped");
    }
  }
  return {};
}

Result<void> Engine::Draft(std::span<const DraftItem> items, float* logits) {
  if (model().mtp.layers.empty()) {
    return Error(Code::kUnsupported, "this model has no MTP head");
  }
  const int64_t width = model().spec.width;
  size_t pages = 0;
  for (const DraftItem& item : items) {
    LODE_TRY(CheckTokens(item.next_tokens));
    item.sequence->mtp_position_ = item.position;
    LODE_TRY(Grow(item.sequence, item.position + std::ssize(item.next_tokens)));
    pages += item.sequence->pages_.size();
  }
  pointers_.clear();
  pointers_.reserve(pages);
  StackMemory* memory = &runner_.memory();
  const StackMemory::Scope scope(memory);
  std::pmr::vector<int32_t> tokens(memory);
  std::pmr::vector<int32_t> logit_rows(memory);
  std::pmr::vector<model::SequenceView> views(memory);
  float* const hidden = runner_.workspace().hidden;
  for (const DraftItem& item : items) {
    const auto begin = static_cast<int64_t>(tokens.size());
    const auto count = std::ssize(item.next_tokens);
    LODE_CHECK(begin + count <= rows_max());
    std::memmove(hidden + begin * width, item.hidden,
                 static_cast<size_t>(count * width) * sizeof(float));
    tokens.insert(tokens.end(), item.next_tokens.begin(), item.next_tokens.end());
    model::SequenceView view;
    view.rows = {begin, count};
    view.position = item.position;
    view.mtp_pages = Pointers(*item.sequence, runner_.layout().page_bytes);
    views.push_back(view);
    item.sequence->mtp_position_ = item.position + count;
    const int64_t first = item.want == StepItem::Want::kNone  ? count
                          : item.want == StepItem::Want::kAll ? 0
                                                              : count - 1;
    for (int64_t i = first; i < count; ++i) logit_rows.push_back(static_cast<int32_t>(begin + i));
  }
  if (!tokens.empty()) runner_.MtpForward(hidden, {tokens, views, logit_rows, logits});
  return {};
}

Result<void> Engine::Draft(Sequence& sequence, std::span<const float> hidden,
                           std::span<const int32_t> next_tokens, float* logits) {
  const auto rows = std::ssize(next_tokens);
  const int64_t width = model().spec.width;
  LODE_CHECK(std::ssize(hidden) == rows * width);
  for (int64_t at = 0; at < rows; at += rows_max()) {
    const auto count = static_cast<size_t>(std::min(rows_max(), rows - at));
    const DraftItem item = {&sequence, sequence.mtp_position_, hidden.data() + at * width,
                            next_tokens.subspan(static_cast<size_t>(at), count),
                            StepItem::Want::kAll};
    LODE_TRY(Draft({&item, 1}, logits + at * vocabulary()));
  }
  return {};
}

std::vector<std::byte> Engine::StateBytes(const Sequence& sequence) const {
  LODE_CHECK(sequence.replay_count_ == 0);
  std::vector<std::byte> bytes;
  if (sequence.slot_ != kNoFrame) {
    const std::byte* slot = frames_->slots().data(sequence.slot_);
    bytes.assign(slot, slot + slot_bytes_);
  }
  // Whole pages hold only rows that are final; the last one may hold leftovers behind its rows, and
  // keys lie across it in panels, so only pages that are full are comparable byte for byte.
  const int64_t full = sequence.position_ / kernels::kPageTokens;
  for (int64_t i = 0; i < full && i < static_cast<int64_t>(sequence.pages_.size()); ++i) {
    const std::byte* page = frames_->pages().data(sequence.pages_[static_cast<size_t>(i)]);
    bytes.insert(bytes.end(), page, page + runner_.layout().page_bytes);
  }
  return bytes;
}

Result<Sequence> Engine::Fork(const Sequence& sequence) {
  LODE_CHECK(sequence.replay_count_ == 0);
  LODE_ASSIGN(Sequence copy, NewSequence());
  for (const PageId page : sequence.pages_) frames_->pages().Lease(page);
  if (sequence.slot_ != kNoFrame) frames_->slots().Lease(sequence.slot_);
  copy.pages_ = sequence.pages_;
  copy.own_from_ = copy.pages_.size();
  copy.slot_ = sequence.slot_;
  copy.position_ = sequence.position_;
  copy.mtp_position_ = sequence.mtp_position_;
  return copy;
}

}  // namespace lode::runtime
