// Memory for what lives no longer than a call: a stack of bytes that a Scope goes back down at its
// end. For the lists that every step of a run makes anew: once it is as large as the largest step
// needs, steps allocate nothing.
//     StackMemory::Scope scope(&memory);
//     std::pmr::vector<int> list(&memory);
// Threads: one owner. Scopes end in the reverse order of their beginning; what was allocated inside
// must be gone by then.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <memory_resource>

namespace lode {

class StackMemory : public std::pmr::memory_resource {
 public:
  explicit StackMemory(size_t bytes = 0) { Grow(bytes); }
  StackMemory(const StackMemory&) = delete;
  StackMemory& operator=(const StackMemory&) = delete;

  class Scope {
   public:
    explicit Scope(StackMemory* memory) : memory_(*memory), mark_(memory->used_) {}
    ~Scope() {
      memory_.used_ = mark_;
      // Nothing lies in it any more: the next time all of it fits.
      if (mark_ == 0 && memory_.wanted_ > memory_.bytes_) memory_.Grow(2 * memory_.wanted_);
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    StackMemory& memory_;
    size_t mark_;
  };

  size_t bytes() const { return bytes_; }

 private:
  void Grow(size_t bytes) {
    bytes_ = bytes;
    stack_ = bytes == 0 ? nullptr : std::make_unique<std::byte[]>(bytes);
  }
  // What does not fit comes from the heap, this time.
  void* do_allocate(size_t bytes, size_t alignment) override {
    const size_t begin = (used_ + alignment - 1) / alignment * alignment;
    const size_t end = begin + bytes;
    wanted_ = std::max(wanted_, end);
    used_ = end;
    if (end <= bytes_ && alignment <= alignof(std::max_align_t)) return stack_.get() + begin;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, size_t bytes, size_t alignment) override {
    auto* at = static_cast<std::byte*>(p);
    if (stack_ != nullptr && at >= stack_.get() && at < stack_.get() + bytes_) return;
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }

  std::unique_ptr<std::byte[]> stack_;
  size_t bytes_ = 0;
  size_t used_ = 0;    // beyond bytes_ where the heap helped out
  size_t wanted_ = 0;  // the most that was used
};

}  // namespace lode
