// Frames: pages (keys and values of 128 tokens) and slots (one recurrent state), counted by the
// byte. Both kinds share ONE budget of committed bytes; what one kind does not use the other may.
// Nothing is copied here and nobody is told what lies in a frame: the prefix tree decides what
// stays (runtime/tree/prefix_tree.h), a running sequence decides what is written.
//
// A frame is used in two ways, counted apart:
//   lease  somebody runs on it, reads or saves it: a live sequence, a writer to disk. Take gives
//   one.
//   hold   a node or a snapshot of the prefix tree refers to it. It is cached.
// It becomes free when both counts are zero. At any time, in bytes of frames:
//   free + leased + cached = committed <= budget     (leased: leases > 0; cached: only holds)
//
// With memory, each kind has a virtual arena as large as the budget (reserved, not committed); a
// free frame of one kind goes back to the system when the other kind needs its bytes, so a full
// budget of pages can turn into slots and back. Without memory (tests, the simulator) only the
// counting is done. No allocation after Make. Threads: one owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"

namespace lode::runtime {

inline constexpr int64_t kTokensPerPage = 128;
// Pages that so many tokens take.
constexpr int64_t PageCount(int64_t tokens) {
  return (tokens + kTokensPerPage - 1) / kTokensPerPage;
}

using PageId = uint32_t;
using SlotId = uint32_t;
inline constexpr uint32_t kNoFrame = 0xffffffff;

// Whose data a frame holds: a root of the prefix tree. Owners belong to groups (tenants), which the
// bytes are counted by. A frame is zeroed before it changes hands between owners.
using OwnerId = uint32_t;

struct FramePoolOptions {
  uint64_t page_bytes = 0;    // a page; the MTP head's part may lie behind it
  uint64_t slot_bytes = 0;    // a slot; the last hidden row may lie behind it; 0: none is kept
  uint64_t budget_bytes = 0;  // of committed frames, both kinds together
  uint32_t owners_max = 4096;
  uint32_t groups_max = 256;
  bool with_memory = true;
};

class FramePool;

// Frames of one kind. Every id passed in must be of a frame that is not free (CHECKed).
class FrameArena {
 public:
  // One frame with one lease. Its bytes are anything that `owner` once wrote, or zero; with
  // `zeroed` zero. kNoFrame when the budget has no room: evict, then try again.
  uint32_t Take(OwnerId owner, bool zeroed = false);

  void Lease(uint32_t id);
  void Unlease(uint32_t id);
  void Hold(uint32_t id);
  void Unhold(uint32_t id);

  uint32_t leases(uint32_t id) const { return frames_[id].leases; }
  uint32_t holds(uint32_t id) const { return frames_[id].holds; }
  bool in_use(uint32_t id) const { return frames_[id].leases + frames_[id].holds > 0; }

  // Where the frame lies; nullptr without memory. Fixed for the pool's life.
  std::byte* data(uint32_t id) const {
    return memory_ == nullptr ? nullptr : memory_ + id * stride_;
  }

  uint64_t frame_bytes() const { return bytes_; }  // as asked for
  uint64_t stride() const { return stride_; }      // what one frame counts: rounded up with memory
  int64_t frames_max() const { return static_cast<int64_t>(frames_.size()); }
  int64_t free_frames() const { return free_; }
  int64_t leased_frames() const { return leased_; }
  int64_t cached_frames() const { return cached_; }
  int64_t committed_frames() const { return free_ + leased_ + cached_; }

 private:
  friend class FramePool;
  struct Frame {
    uint32_t leases = 0;
    uint32_t holds = 0;
    OwnerId owner = 0;
    uint32_t serial = 0;  // of the owner that wrote it last; 0: zero bytes
    bool committed = false;
  };

  void Count(const Frame& frame, int64_t by);
  void Free(uint32_t id);
  bool DecommitOne();
  void Zero(uint32_t id);

  FramePool* pool_ = nullptr;
  uint64_t bytes_ = 0, stride_ = 0;
  std::byte* memory_ = nullptr;
  uint64_t memory_bytes_ = 0;
  int64_t free_ = 0, leased_ = 0, cached_ = 0;
  std::vector<Frame> frames_;
  std::vector<uint32_t> committed_free_, uncommitted_;  // stacks, sized at the start
};

class FramePool {
 public:
  // Errors: kNoSpace if the budget holds no page and slot, or the address space cannot be had.
  static Result<std::unique_ptr<FramePool>> Make(const FramePoolOptions& options);
  ~FramePool();
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  // What a frame of so many bytes counts: whole memory pages, whole 2 MiB units when that large.
  static uint64_t Stride(uint64_t bytes, bool with_memory);

  FrameArena& pages() { return pages_; }
  FrameArena& slots() { return slots_; }
  const FrameArena& pages() const { return pages_; }
  const FrameArena& slots() const { return slots_; }

  // Whether that many could be taken now, one after the other.
  bool CanTake(int64_t pages, int64_t slots) const { return BytesOf(pages, slots) <= available(); }
  uint64_t BytesOf(int64_t pages, int64_t slots) const {
    return static_cast<uint64_t>(pages) * pages_.stride() +
           static_cast<uint64_t>(slots) * slots_.stride();
  }

  uint64_t budget() const { return budget_; }
  uint64_t committed() const { return committed_; }
  uint64_t used() const { return used_; }                   // leased + cached
  uint64_t available() const { return budget_ - used_; }    // free, or never committed
  uint64_t leased() const {
    return BytesOf(pages_.leased_frames(), slots_.leased_frames());
  }
  uint64_t used_by_group(uint32_t group) const { return group_used_[group]; }

  // An owner in a group; kNoFrame when owners_max are there. An id comes back with a new identity
  // after RemoveOwner, which must come after all its frames are free.
  OwnerId AddOwner(uint32_t group);
  void RemoveOwner(OwnerId owner);
  uint32_t groups_max() const { return static_cast<uint32_t>(group_used_.size()); }
  int64_t frames_of(OwnerId owner) const { return owners_[owner].frames; }

  // Recounts everything and CHECKs the equation above.
  void Check() const;

 private:
  friend class FrameArena;
  struct Owner {
    uint32_t group = 0;
    uint32_t serial = 0;  // 0: not in use
    int64_t frames = 0;
  };
  FramePool() = default;
  bool Commit(FrameArena* arena);

  uint64_t budget_ = 0, committed_ = 0, used_ = 0;
  FrameArena pages_, slots_;
  std::vector<Owner> owners_;
  std::vector<OwnerId> free_owners_;
  std::vector<uint64_t> group_used_;
  uint32_t next_serial_ = 1;
};

}  // namespace lode::runtime
