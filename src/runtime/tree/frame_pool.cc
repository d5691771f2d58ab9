#include "runtime/tree/frame_pool.h"

#include <sys/mman.h>

#include <cstring>
#include <string>

#include "base/check.h"

namespace lode::runtime {
namespace {

constexpr uint64_t kSmallUnit = 4096;          // what the system gives back
constexpr uint64_t kLargeUnit = uint64_t{2} << 20;  // a huge page

uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

// Reserved address space whose beginning lies on a large unit; nullptr if the system refuses.
std::byte* Reserve(uint64_t bytes) {
  const uint64_t total = bytes + kLargeUnit;
  void* map = ::mmap(nullptr, total, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  const uint64_t at = reinterpret_cast<uintptr_t>(map);
  const uint64_t begin = RoundUp(at, kLargeUnit);
  const uint64_t end = begin + RoundUp(bytes, kSmallUnit);
  if (begin > at) ::munmap(map, begin - at);
  if (end < at + total) ::munmap(reinterpret_cast<void*>(end), at + total - end);
  return reinterpret_cast<std::byte*>(begin);
}

}  // namespace

uint64_t FramePool::Stride(uint64_t bytes, bool with_memory) {
  if (!with_memory || bytes == 0) return bytes;
  // A slot of 46.9 MiB becomes one of 48: 2 % for frames that can be given back whole. Below 32 MiB
  // that would cost more, so those are rounded to what the system calls a page.
  return RoundUp(bytes, bytes >= 16 * kLargeUnit ? kLargeUnit : kSmallUnit);
}

Result<std::unique_ptr<FramePool>> FramePool::Make(const FramePoolOptions& options) {
  std::unique_ptr<FramePool> pool(new FramePool());
  pool->budget_ = options.budget_bytes;
  const auto prepare = [&](FrameArena* arena, uint64_t bytes) {
    arena->pool_ = pool.get();
    arena->bytes_ = bytes;
    arena->stride_ = Stride(bytes, options.with_memory);
    const uint64_t frames = arena->stride_ == 0 ? 0 : options.budget_bytes / arena->stride_;
    LODE_CHECK(frames < kNoFrame);
    arena->frames_.resize(frames);
    arena->committed_free_.reserve(frames);
    arena->uncommitted_.reserve(frames);
    for (uint64_t i = frames; i > 0; --i) {  // handed out from the back: lowest address first
      arena->uncommitted_.push_back(static_cast<uint32_t>(i - 1));
    }
    if (!options.with_memory || frames == 0) return true;
    arena->memory_bytes_ = frames * arena->stride_;
    arena->memory_ = Reserve(arena->memory_bytes_);
    return arena->memory_ != nullptr;
  };
  const uint64_t least = Stride(options.page_bytes, options.with_memory) +
                         Stride(options.slot_bytes, options.with_memory);
  if (least > options.budget_bytes) {
    return Error(Code::kNoSpace,
                 "room for " + std::to_string(options.budget_bytes) +
                     " bytes of context does not hold one page and one state, which take " +
                     std::to_string(least),
                 "give it more");
  }
  if (!prepare(&pool->pages_, options.page_bytes) || !prepare(&pool->slots_, options.slot_bytes)) {
    return Error(Code::kNoSpace,
                 "the system refuses to reserve addresses for " +
                     std::to_string(options.budget_bytes) + " bytes of context",
                 "check the limit on address space (ulimit -v), or ask for less");
  }
  if (pool->slots_.memory_ != nullptr && pool->slots_.stride_ % kLargeUnit == 0) {
    // A wish: without huge pages it works the same.
    ::madvise(pool->slots_.memory_, pool->slots_.memory_bytes_, MADV_HUGEPAGE);
  }
  pool->owners_.resize(options.owners_max);
  pool->free_owners_.reserve(options.owners_max);
  for (uint32_t i = options.owners_max; i > 0; --i) pool->free_owners_.push_back(i - 1);
  pool->group_used_.resize(options.groups_max);
  return pool;
}

FramePool::~FramePool() {
  for (FrameArena* arena : {&pages_, &slots_}) {
    if (arena->memory_ != nullptr) ::munmap(arena->memory_, arena->memory_bytes_);
  }
}

OwnerId FramePool::AddOwner(uint32_t group) {
  LODE_CHECK(group < group_used_.size());
  if (free_owners_.empty()) return kNoFrame;
  const OwnerId id = free_owners_.back();
  free_owners_.pop_back();
  owners_[id] = {group, next_serial_, 0};
  if (++next_serial_ == 0) next_serial_ = 1;  // 0 means zero bytes
  return id;
}

void FramePool::RemoveOwner(OwnerId owner) {
  LODE_CHECK(owners_[owner].serial != 0);
  LODE_CHECK(owners_[owner].frames == 0);
  owners_[owner] = {};
  free_owners_.push_back(owner);
}

// Makes one more frame of `arena` free, by committing it; free frames of the other kind make room.
bool FramePool::Commit(FrameArena* arena) {
  FrameArena& other = arena == &pages_ ? slots_ : pages_;
  if (arena->stride_ > available() || arena->uncommitted_.empty()) return false;
  while (committed_ + arena->stride_ > budget_) {
    if (!other.DecommitOne()) return false;
  }
  const uint32_t id = arena->uncommitted_.back();
  arena->uncommitted_.pop_back();
  arena->frames_[id].committed = true;
  arena->committed_free_.push_back(id);
  ++arena->free_;
  committed_ += arena->stride_;
  return true;
}

uint32_t FrameArena::Take(OwnerId owner, bool zeroed) {
  LODE_CHECK(pool_->owners_[owner].serial != 0);
  if (committed_free_.empty() && !pool_->Commit(this)) return kNoFrame;
  const uint32_t id = committed_free_.back();
  committed_free_.pop_back();
  Frame& frame = frames_[id];
  LODE_CHECK(frame.committed);
  LODE_CHECK(frame.leases + frame.holds == 0);
  FramePool::Owner& whose = pool_->owners_[owner];
  if (frame.serial != 0 && (zeroed || frame.serial != whose.serial)) Zero(id);
  frame.serial = whose.serial;  // it will be written
  frame.owner = owner;
  frame.leases = 1;
  --free_;
  ++leased_;
  ++whose.frames;
  pool_->used_ += stride_;
  pool_->group_used_[whose.group] += stride_;
  return id;
}

// Takes the frame into or out of the count that its leases and holds put it in.
void FrameArena::Count(const Frame& frame, int64_t by) {
  if (frame.leases > 0) {
    leased_ += by;
  } else if (frame.holds > 0) {
    cached_ += by;
  }
}

void FrameArena::Lease(uint32_t id) {
  Frame& frame = frames_[id];
  LODE_CHECK(frame.leases + frame.holds > 0);
  Count(frame, -1);
  ++frame.leases;
  Count(frame, +1);
}

void FrameArena::Unlease(uint32_t id) {
  Frame& frame = frames_[id];
  LODE_CHECK(frame.leases > 0);
  Count(frame, -1);
  --frame.leases;
  Count(frame, +1);
  if (frame.leases + frame.holds == 0) Free(id);
}

void FrameArena::Hold(uint32_t id) {
  Frame& frame = frames_[id];
  LODE_CHECK(frame.leases + frame.holds > 0);
  ++frame.holds;  // leased or held before: its count does not change
}

void FrameArena::Unhold(uint32_t id) {
  Frame& frame = frames_[id];
  LODE_CHECK(frame.holds > 0);
  Count(frame, -1);
  --frame.holds;
  Count(frame, +1);
  if (frame.leases + frame.holds == 0) Free(id);
}

void FrameArena::Free(uint32_t id) {
  const Frame& frame = frames_[id];
  FramePool::Owner& whose = pool_->owners_[frame.owner];
  --whose.frames;
  pool_->used_ -= stride_;
  pool_->group_used_[whose.group] -= stride_;
  ++free_;
  committed_free_.push_back(id);
#ifndef NDEBUG
  if (memory_ != nullptr) std::memset(data(id), 0xa5, bytes_);  // who still reads it shall notice
#endif
}

bool FrameArena::DecommitOne() {
  if (committed_free_.empty()) return false;
  const uint32_t id = committed_free_.back();
  committed_free_.pop_back();
  Zero(id);
  frames_[id].committed = false;
  uncommitted_.push_back(id);
  --free_;
  pool_->committed_ -= stride_;
  return true;
}

void FrameArena::Zero(uint32_t id) {
  frames_[id].serial = 0;
  if (memory_ == nullptr) return;
  // Strides are whole units of the system, which hands out zeros when the frame is touched again.
  LODE_CHECK(::madvise(data(id), stride_, MADV_DONTNEED) == 0);
}

void FramePool::Check() const {
  uint64_t used = 0, committed = 0;
  std::vector<uint64_t> by_group(group_used_.size());
  std::vector<int64_t> by_owner(owners_.size());
  for (const FrameArena* arena : {&pages_, &slots_}) {
    int64_t free = 0, leased = 0, cached = 0;
    for (const FrameArena::Frame& frame : arena->frames_) {
      const bool in_use = frame.leases + frame.holds > 0;
      LODE_CHECK(frame.committed || !in_use);
      if (in_use) {
        ++(frame.leases > 0 ? leased : cached);
        LODE_CHECK(owners_[frame.owner].serial == frame.serial);
        by_group[owners_[frame.owner].group] += arena->stride_;
        ++by_owner[frame.owner];
      } else if (frame.committed) {
        ++free;
      }
    }
    LODE_CHECK(free == arena->free_);
    LODE_CHECK(leased == arena->leased_);
    LODE_CHECK(cached == arena->cached_);
    LODE_CHECK(static_cast<int64_t>(arena->committed_free_.size()) == free);
    LODE_CHECK(arena->uncommitted_.size() + static_cast<size_t>(arena->committed_frames()) ==
               arena->frames_.size());
    used += static_cast<uint64_t>(leased + cached) * arena->stride_;
    committed += static_cast<uint64_t>(free + leased + cached) * arena->stride_;
  }
  LODE_CHECK(used == used_);
  LODE_CHECK(committed == committed_);
  LODE_CHECK(committed_ <= budget_);
  LODE_CHECK(by_group == group_used_);
  for (size_t i = 0; i < owners_.size(); ++i) LODE_CHECK(owners_[i].frames == by_owner[i]);
}

}  // namespace lode::runtime
