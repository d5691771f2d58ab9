// Brings states back from the disk tier for requests that wait: frames are taken, the tier's thread
// fills them, and when they are sound they enter the tree, where the request finds them. Others run
// meanwhile. A record that turns out to be damaged is forgotten, and the request computes.
// Threads: one owner, the scheduler's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "runtime/tier/disk_tier.h"
#include "runtime/tree/frame_pool.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::runtime {

class Promotions {
 public:
  // All outlive it. `tier` may be null: then nothing ever waits.
  Promotions(FramePool* frames, PrefixTree* tree, DiskTier* tier);
  ~Promotions();  // waits for what is being read
  Promotions(const Promotions&) = delete;
  Promotions& operator=(const Promotions&) = delete;

  // A queued request that could run now: whether a deeper state is worth reading first. True: it
  // has to wait, until Waiting says no.
  bool Begin(LiveId live, RootId root);
  // Whether what this request would go on from is being read, for it or for another.
  bool Waiting(LiveId live) const;
  // The request runs or ends: it is not waited for any more. Before PrefixTree::Finish.
  void Leave(LiveId live);

  // What was read enters the tree; what the tier dropped leaves it. Whether something was read.
  bool Poll();
  // Until something was read. Only while any().
  void Wait() { tier_->Wait(); }
  bool any() const { return !reading_.empty(); }

  // What a request got from below since it was announced, for its report.
  struct Restored {
    uint64_t bytes = 0;
    double seconds = 0.0;
  };
  Restored RestoredFor(LiveId live) const;

 private:
  struct Reading {
    uint64_t ticket = 0, handle = 0;
    LiveId live = kNone;  // kNone: nobody wants it any more
    int64_t offset = 0;
    PointRole role = PointRole::kEnd;
    bool hidden = false;
    std::vector<PageId> pages;  // leased, all of [0, offset)
    SlotId slot = kNoFrame;     // leased
  };
  struct Asked {
    int times = 0;
    Restored restored;
  };
  bool Take(Reading* reading, RootId root, int64_t pages, int64_t kept);
  void Release(Reading* reading);
  bool Pays(const Match& match, int64_t missing) const;

  FramePool& frames_;
  PrefixTree& tree_;
  DiskTier* const tier_;
  std::vector<Reading> reading_;
  std::map<LiveId, Asked> asked_;
};

}  // namespace lode::runtime
