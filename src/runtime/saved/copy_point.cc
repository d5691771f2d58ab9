#include "runtime/saved/copy_point.h"

#include <cstring>
#include <vector>

namespace lode::runtime {

Result<bool> CopyPoint(Scheduler* scheduler, RootId from, RootId to,
                       std::span<const Token> tokens) {
  PrefixTree& tree = scheduler->tree();
  FramePool& frames = scheduler->engine().frames();
  const auto source = tree.LeaseAt(from, tokens);
  if (!source) return false;
  AnnounceOptions announce;
  announce.last_logits = false;
  const LiveId live = tree.Announce(to, tokens, announce);
  // Whole pages that are there already stay; one that is not full is copied.
  const int64_t resident = tree.Lookup(to, tokens, false).resident;
  std::vector<PageId> pages = tree.LeasePages(live);
  while (std::ssize(pages) > resident / kTokensPerPage) {
    frames.pages().Unlease(pages.back());
    pages.pop_back();
  }
  SlotId slot = kNoFrame;
  const bool recurrent = source->slot != kNoFrame;
  const Result<void> room =
      tree.MakeRoom(to, std::ssize(source->pages) - std::ssize(pages), recurrent ? 1 : 0);
  if (room.ok()) {
    for (size_t i = pages.size(); i < source->pages.size(); ++i) {
      const PageId page = frames.pages().Take(tree.owner(to));
      std::memcpy(frames.pages().data(page), frames.pages().data(source->pages[i]),
                  frames.pages().frame_bytes());
      pages.push_back(page);
    }
    if (recurrent) {
      slot = frames.slots().Take(tree.owner(to));
      std::memcpy(frames.slots().data(slot), frames.slots().data(source->slot),
                  frames.slots().frame_bytes());
    }
    tree.AddSnapshot(live, std::ssize(tokens), slot, PointRole::kSystem, pages, source->hidden);
  }
  for (const PageId page : pages) frames.pages().Unlease(page);
  for (const PageId page : source->pages) frames.pages().Unlease(page);
  if (recurrent) frames.slots().Unlease(source->slot);
  if (slot != kNoFrame) frames.slots().Unlease(slot);
  tree.Finish(live, FinishReason::kStop);
  if (!room.ok()) return room.error();
  return true;
}

}  // namespace lode::runtime
