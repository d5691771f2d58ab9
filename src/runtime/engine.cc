#include "runtime/engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace lode::runtime {
namespace {

// Every sequence may end inside a page of its own.
int64_t PagesFor(const EngineOptions& options) {
  return (options.context_tokens + kernels::kPageTokens - 1) / kernels::kPageTokens +
         options.sequences_max - 1;
}

int64_t PageCount(int64_t tokens) {
  return (tokens + kernels::kPageTokens - 1) / kernels::kPageTokens;
}

}  // namespace

Sequence::~Sequence() { Release(); }

Sequence::Sequence(Sequence&& other) noexcept { *this = std::move(other); }

Sequence& Sequence::operator=(Sequence&& other) noexcept {
  if (this == &other) return *this;
  Release();
  engine_ = std::exchange(other.engine_, nullptr);
  position_ = std::exchange(other.position_, 0);
  mtp_position_ = std::exchange(other.mtp_position_, 0);
  pages_ = std::exchange(other.pages_, {});
  mtp_pages_ = std::exchange(other.mtp_pages_, {});
  slot_ = std::exchange(other.slot_, nullptr);
  return *this;
}

void Sequence::Release() {
  if (engine_ == nullptr) return;
  for (std::byte* page : pages_) engine_->states_.GivePage(page);
  for (std::byte* page : mtp_pages_) engine_->states_.GiveMtpPage(page);
  if (slot_ != nullptr) engine_->states_.GiveSlot(slot_);
  engine_ = nullptr;
}

Engine::Engine(const model::Model& model, const EngineOptions& options)
    : sequence_tokens_max_(options.sequence_tokens_max),
      pool_(options.threads, options.pin),
      runner_(model, options.numerics, &pool_, options.rows_max),
      states_(runner_.layout(), PagesFor(options), options.sequences_max) {}

uint64_t Engine::Bytes(const model::ModelSpec& spec, const EngineOptions& options) {
  return model::Workspace::Bytes(spec, options.numerics, options.rows_max, options.threads) +
         StatePool::Bytes(model::MakeStateLayout(spec, options.numerics), PagesFor(options),
                          options.sequences_max);
}

Result<Sequence> Engine::NewSequence() {
  Sequence sequence;
  sequence.slot_ = states_.TakeSlot();
  if (sequence.slot_ == nullptr) {
    return Error(Code::kNoSpace, "all sequences are in use", "raise the number of agents");
  }
  sequence.engine_ = this;
  return sequence;
}

Result<void> Engine::Grow(Sequence* sequence, int64_t tokens, bool mtp) {
  const auto full = [&] {
    return Error(
        Code::kNoSpace,
        Format("the context is full at %lld tokens, and %lld are needed",
               static_cast<long long>(sequence->position_), static_cast<long long>(tokens)),
        "start with a larger --context");
  };
  if (sequence_tokens_max_ > 0 && tokens > sequence_tokens_max_) return full();
  std::vector<std::byte*>& pages = mtp ? sequence->mtp_pages_ : sequence->pages_;
  if (mtp ? runner_.layout().mtp_page_bytes == 0 : runner_.layout().page_bytes == 0) return {};
  while (static_cast<int64_t>(pages.size()) < PageCount(tokens)) {
    std::byte* page = mtp ? states_.TakeMtpPage() : states_.TakePage();
    if (page == nullptr) return full();
    pages.push_back(page);
  }
  return {};
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
  std::vector<int32_t> tokens;
  std::vector<int32_t> logit_rows;
  std::vector<model::SequenceView> views;
  for (const StepItem& item : items) {
    LODE_CHECK(item.sequence->engine_ == this);
    LODE_TRY(CheckTokens(item.tokens));
    const auto begin = static_cast<int64_t>(tokens.size());
    const auto count = static_cast<int64_t>(item.tokens.size());
    LODE_TRY(Grow(item.sequence, item.sequence->position_ + count, false));
    tokens.insert(tokens.end(), item.tokens.begin(), item.tokens.end());
    model::SequenceView view;
    view.rows = {begin, count};
    view.position = item.sequence->position_;
    view.pages = item.sequence->pages_.data();
    view.slot_source = item.sequence->slot_;
    view.slot_target = item.sequence->slot_;
    views.push_back(view);
    if (logits == nullptr || count == 0 || item.want == StepItem::Want::kNone) continue;
    const int64_t first = item.want == StepItem::Want::kAll ? 0 : count - 1;
    for (int64_t i = first; i < count; ++i) logit_rows.push_back(static_cast<int32_t>(begin + i));
  }
  LODE_CHECK(static_cast<int64_t>(tokens.size()) <= rows_max());
  if (tokens.empty()) return {};
  runner_.Forward({tokens, views, logit_rows, logits});
  for (const StepItem& item : items) {
    item.sequence->position_ += static_cast<int64_t>(item.tokens.size());
  }
  return {};
}

Result<void> Engine::Append(Sequence& sequence, std::span<const int32_t> tokens, float* logits,
                            bool all, int64_t chunk, const std::function<bool(int64_t)>& progress) {
  LODE_TRY(CheckTokens(tokens));
  LODE_TRY(Grow(&sequence, sequence.position_ + static_cast<int64_t>(tokens.size()), false));
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

Result<void> Engine::Draft(Sequence& sequence, std::span<const float> hidden,
                           std::span<const int32_t> next_tokens, float* logits) {
  if (model().mtp.layers.empty()) {
    return Error(Code::kUnsupported, "this model has no MTP head");
  }
  LODE_TRY(CheckTokens(next_tokens));
  const auto rows = static_cast<int64_t>(next_tokens.size());
  const int64_t width = model().spec.width;
  LODE_CHECK(static_cast<int64_t>(hidden.size()) == rows * width);
  LODE_TRY(Grow(&sequence, sequence.mtp_position_ + rows, true));
  for (int64_t at = 0; at < rows; at += rows_max()) {
    const int64_t count = std::min(rows_max(), rows - at);
    model::SequenceView view;
    view.rows = {0, count};
    view.position = sequence.mtp_position_;
    view.mtp_pages = sequence.mtp_pages_.data();
    std::vector<int32_t> logit_rows;
    for (int64_t i = 0; i < count; ++i) logit_rows.push_back(static_cast<int32_t>(i));
    runner_.MtpForward(hidden.data() + at * width,
                       {next_tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(count)),
                        {&view, 1},
                        logit_rows,
                        logits + at * vocabulary()});
    sequence.mtp_position_ += count;
  }
  return {};
}

std::vector<std::byte> Engine::StateBytes(const Sequence& sequence) const {
  std::vector<std::byte> bytes(sequence.slot_, sequence.slot_ + runner_.layout().slot_bytes);
  // Whole pages hold only rows that are final; the last one may hold leftovers behind its rows, and
  // keys lie across it in panels, so only pages that are full are comparable byte for byte.
  const int64_t full = sequence.position_ / kernels::kPageTokens;
  for (int64_t i = 0; i < full && i < static_cast<int64_t>(sequence.pages_.size()); ++i) {
    const std::byte* page = sequence.pages_[static_cast<size_t>(i)];
    bytes.insert(bytes.end(), page, page + runner_.layout().page_bytes);
  }
  return bytes;
}

Result<Sequence> Engine::Fork(const Sequence& sequence) {
  LODE_ASSIGN(Sequence copy, NewSequence());
  LODE_TRY(Grow(&copy, sequence.position_, false));
  LODE_TRY(Grow(&copy, sequence.mtp_position_, true));
  std::memcpy(copy.slot_, sequence.slot_, runner_.layout().slot_bytes);
  for (size_t i = 0; i < copy.pages_.size(); ++i) {
    std::memcpy(copy.pages_[i], sequence.pages_[i], runner_.layout().page_bytes);
  }
  for (size_t i = 0; i < copy.mtp_pages_.size(); ++i) {
    std::memcpy(copy.mtp_pages_[i], sequence.mtp_pages_[i], runner_.layout().mtp_page_bytes);
  }
  copy.position_ = sequence.position_;
  copy.mtp_position_ = sequence.mtp_position_;
  return copy;
}

}  // namespace lode::runtime
