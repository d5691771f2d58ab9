// The model's tokens: text -> id and id -> text. It does not know added tokens, merges or bytes.
// Built once, then read-only and free for all threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lode::text {

// Mixes the bytes of short strings well enough for power-of-two tables.
inline uint64_t HashBytes(std::string_view bytes) {
  constexpr uint64_t kSeed = 0x9E3779B97F4A7C15;
  constexpr uint64_t kFactor = 0xD6E8FEB86659FD93;
  const auto mix = [](uint64_t a, uint64_t b) {
    const auto product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  uint64_t hash = kSeed ^ bytes.size();
  const char* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    hash = mix(hash ^ word, kFactor);
  }
  uint64_t word = 0;  // the last 0 to 7 bytes, without a call of memcpy of unknown size
  if ((left & 4) != 0) {
    uint32_t part;
    std::memcpy(&part, at, 4);
    word = part;
    at += 4;
  }
  if ((left & 2) != 0) {
    uint16_t part;
    std::memcpy(&part, at, 2);
    word = word << 16 | part;
    at += 2;
  }
  if ((left & 1) != 0) word = word << 8 | static_cast<unsigned char>(*at);
  return mix(hash ^ word, kFactor) ^ hash;
}

class Vocabulary {
 public:
  // Entries in any order; ids may leave holes.
  void Add(std::string_view token, int64_t id);
  // Ends the building. Errors: an id below 0, far beyond the number of tokens (a giant table), or
  // given to two tokens; a token given twice.
  Result<void> Finish();

  // The id of `token`, or -1.
  int32_t Find(std::string_view token) const;
  bool Has(int64_t id) const {
    return id >= 0 && static_cast<size_t>(id) < by_id_.size() && by_id_[id] != kNone;
  }
  // Empty for a hole.
  std::string_view Token(int32_t id) const;
  // One more than the largest id; holes included.
  int32_t id_end() const { return static_cast<int32_t>(by_id_.size()); }
  size_t size() const { return entries_.size(); }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Entry {
    size_t offset;
    uint32_t bytes;
    uint32_t hash;
    int64_t id;
  };
  std::string_view TextOf(const Entry& entry) const {
    return std::string_view(text_).substr(entry.offset, entry.bytes);
  }

  std::string text_;
  std::vector<Entry> entries_;
  std::vector<uint32_t> by_id_;    // index of the entry, or kNone
  std::vector<uint32_t> by_text_;  // open addressing: index of the entry, or kNone
};

}  // namespace lode::text
