// Many buffers in one piece of memory, each beginning at a line of the cache: one walk counts their
// bytes, and the same walk hands them out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "base/check.h"

namespace lode::model {

constexpr uint64_t kBufferAlignment = 64;

inline uint64_t Align(uint64_t bytes) {
  return (bytes + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
}

// Life: the pointers it gives are into the memory it was given. A copy goes on from the same place.
class Carver {
 public:
  // nullptr: only counts, and gives nullptr.
  explicit Carver(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* Take(int64_t count) {
    std::byte* at = memory_ == nullptr ? nullptr : memory_ + bytes_;
    bytes_ += Align(static_cast<uint64_t>(count) * sizeof(T));
    return reinterpret_cast<T*>(at);
  }
  uint64_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  uint64_t bytes_ = 0;
};

using AlignedMemory = std::unique_ptr<std::byte, void (*)(void*)>;

// `bytes` as a Carver counted them.
inline AlignedMemory AllocateAligned(uint64_t bytes) {
  AlignedMemory memory(static_cast<std::byte*>(std::aligned_alloc(kBufferAlignment, bytes)),
                       std::free);
  LODE_CHECK(memory != nullptr);
  return memory;
}

}  // namespace lode::model
