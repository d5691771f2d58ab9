#include "runtime/tier/promotion.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace lode::runtime {
namespace {

// What was read and evicted again before the request could start is not read for ever.
constexpr int kTimesMax = 2;

}  // namespace

Promotions::Promotions(FramePool* frames, PrefixTree* tree, DiskTier* tier)
    : frames_(*frames), tree_(*tree), tier_(tier) {}

Promotions::~Promotions() {
  if (tier_ == nullptr) return;
  while (any()) {
    for (Reading& reading : reading_) reading.live = kNone;
    Wait();
    Poll();
  }
}

bool Promotions::Waiting(LiveId live) const {
  if (reading_.empty()) return false;
  const uint64_t handle = tree_.Advise(live).match.disk_handle;
  return handle != 0 && std::any_of(reading_.begin(), reading_.end(), [&](const Reading& reading) {
           return reading.handle == handle;
         });
}

bool Promotions::Begin(LiveId live, RootId root) {
  if (tier_ == nullptr) return false;
  const Match match = tree_.Advise(live).match;
  if (match.disk_handle == 0) return false;
  if (Waiting(live)) return true;
  Asked& asked = asked_[live];
  const auto info = tier_->Find(match.disk_handle);
  if (!info || asked.times >= kTimesMax) return false;
  Reading reading;
  reading.handle = match.disk_handle;
  reading.live = live;
  reading.offset = match.disk_offset;
  reading.role = info->role;
  reading.hidden = info->hidden;
  // A page that ends before the point's last token in memory is read anew.
  const int64_t whole = match.resident / kTokensPerPage;
  const int64_t kept = match.resident >= match.disk_offset ? info->pages
                                                           : std::min(whole, info->pages);
  if (!Pays(match, info->pages - kept) || !Take(&reading, root, info->pages, kept)) return false;
  // Making room may have cost the record its place.
  if (!tier_->Find(reading.handle)) {
    Release(&reading);
    return false;
  }
  std::vector<std::byte*> targets;
  for (int64_t i = kept; i < std::ssize(reading.pages); ++i) {
    PageId& page = reading.pages[static_cast<size_t>(i)];
    page = frames_.pages().Take(tree_.owner(root));
    targets.push_back(frames_.pages().data(page));
  }
  std::byte* const slot =
      reading.slot == kNoFrame ? nullptr : frames_.slots().data(reading.slot);
  ++asked.times;
  reading.ticket = tier_->Read(reading.handle, kept, targets, slot);
  reading_.push_back(std::move(reading));
  return true;
}

// Frames for a record: of the pages the first `kept`, that are in memory, room for the others
// (kNoFrame yet), and a slot.
bool Promotions::Take(Reading* reading, RootId root, int64_t pages, int64_t kept) {
  reading->pages = tree_.LeasePages(reading->live);
  LODE_CHECK(std::ssize(reading->pages) >= kept);
  while (std::ssize(reading->pages) > kept) {
    frames_.pages().Unlease(reading->pages.back());
    reading->pages.pop_back();
  }
  const bool recurrent = frames_.slots().stride() > 0;
  if (!tree_.MakeRoom(root, pages - kept, recurrent ? 1 : 0).ok()) {
    Release(reading);
    return false;
  }
  if (recurrent) reading->slot = frames_.slots().Take(tree_.owner(root));
  reading->pages.resize(static_cast<size_t>(pages), kNoFrame);
  return true;
}

void Promotions::Release(Reading* reading) {
  for (const PageId page : reading->pages) {
    if (page != kNoFrame) frames_.pages().Unlease(page);
  }
  if (reading->slot != kNoFrame) frames_.slots().Unlease(reading->slot);
  reading->pages.clear();
  reading->slot = kNoFrame;
}

// Whether reading it takes less than computing it would.
bool Promotions::Pays(const Match& match, int64_t missing) const {
  const uint64_t bytes = frames_.BytesOf(missing, frames_.slots().stride() > 0 ? 1 : 0);
  return tree_.SecondsToRead(bytes) < tree_.SecondsToCompute(match.resume, match.disk_offset);
}

void Promotions::Leave(LiveId live) {
  asked_.erase(live);
  for (Reading& reading : reading_) {
    if (reading.live == live) reading.live = kNone;
  }
}

bool Promotions::Poll() {
  if (tier_ == nullptr) return false;
  bool any = false;
  for (const DiskTier::Finished& finished : tier_->TakeFinished()) {
    const auto found = std::find_if(reading_.begin(), reading_.end(), [&](const Reading& reading) {
      return reading.ticket == finished.ticket;
    });
    LODE_CHECK(found != reading_.end());
    Reading reading = std::move(*found);
    reading_.erase(found);
    any = true;
    if (finished.ok && reading.live != kNone) {
      tree_.AddSnapshot(reading.live, reading.offset, reading.slot, reading.role, reading.pages,
                        reading.hidden);
      Restored& restored = asked_[reading.live].restored;
      restored.bytes += finished.bytes;
      restored.seconds += finished.seconds;
    }
    Release(&reading);
  }
  for (const DiskTier::Gone& gone : tier_->TakeGone()) {
    tree_.ForgetDisk(gone.handle, gone.corrupt);
  }
  return any;
}

Promotions::Restored Promotions::RestoredFor(LiveId live) const {
  const auto found = asked_.find(live);
  return found == asked_.end() ? Restored{} : found->second.restored;
}

}  // namespace lode::runtime
