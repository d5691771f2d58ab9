#include "runtime/state_pool.h"

#include <sys/mman.h>

#include <cstring>

#include "base/check.h"

namespace lode::runtime {

uint64_t StatePool::Bytes(const model::StateLayout& layout, int64_t pages, int64_t slots) {
  const uint64_t bytes =
      static_cast<uint64_t>(pages) * (layout.page_bytes + layout.mtp_page_bytes) +
      static_cast<uint64_t>(slots) * layout.slot_bytes;
  return (bytes + 4095) / 4096 * 4096;
}

StatePool::StatePool(const model::StateLayout& layout, int64_t pages, int64_t slots)
    : slot_bytes_(layout.slot_bytes), bytes_(Bytes(layout, pages, slots)) {
  if (bytes_ == 0) return;
  // Anonymous memory: untouched pages cost nothing until a sequence grows into them.
  void* map = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  LODE_CHECK(map != MAP_FAILED);
  memory_ = static_cast<std::byte*>(map);
  std::byte* at = memory_;
  const auto cut = [&](int64_t count, uint64_t bytes, std::vector<std::byte*>* free) {
    for (int64_t i = 0; i < count; ++i) {
      free->push_back(at);
      at += bytes;
    }
    // Handed out from the back: the lowest address first.
    std::vector<std::byte*> reversed(free->rbegin(), free->rend());
    *free = std::move(reversed);
  };
  cut(slots, layout.slot_bytes, &free_slots_);
  cut(pages, layout.page_bytes, &free_pages_);
  if (layout.mtp_page_bytes > 0) cut(pages, layout.mtp_page_bytes, &free_mtp_pages_);
}

StatePool::~StatePool() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

namespace {

std::byte* Take(std::vector<std::byte*>* free) {
  if (free->empty()) return nullptr;
  std::byte* taken = free->back();
  free->pop_back();
  return taken;
}

}  // namespace

std::byte* StatePool::TakePage() { return Take(&free_pages_); }
std::byte* StatePool::TakeMtpPage() { return Take(&free_mtp_pages_); }

std::byte* StatePool::TakeSlot() {
  std::byte* slot = Take(&free_slots_);
  if (slot != nullptr) std::memset(slot, 0, slot_bytes_);
  return slot;
}

}  // namespace lode::runtime
