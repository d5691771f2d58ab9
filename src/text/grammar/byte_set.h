// A set of bytes: what one step of a grammar reads.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace lode::text::grammar {

struct ByteSet {
  std::array<uint64_t, 4> words{};

  static ByteSet All() {
    ByteSet all;
    all.words.fill(~uint64_t{0});
    return all;
  }
  static ByteSet One(uint8_t byte) { return Range(byte, byte); }
  static ByteSet Range(int first, int last) {
    ByteSet set;
    for (int byte = first; byte <= last; ++byte) set.Add(static_cast<uint8_t>(byte));
    return set;
  }
  void Add(uint8_t byte) { words[byte >> 6] |= uint64_t{1} << (byte & 63); }
  void Remove(uint8_t byte) { words[byte >> 6] &= ~(uint64_t{1} << (byte & 63)); }
  bool has(uint8_t byte) const { return words[byte >> 6] >> (byte & 63) & 1; }
  bool empty() const { return (words[0] | words[1] | words[2] | words[3]) == 0; }
  int count() const {
    int count = 0;
    for (const uint64_t word : words) count += std::popcount(word);
    return count;
  }
  // The smallest member; -1 for the empty set.
  int first() const {
    for (int i = 0; i < 4; ++i)
      if (words[i] != 0) return i * 64 + std::countr_zero(words[i]);
    return -1;
  }
  bool Within(const ByteSet& other) const {
    for (int i = 0; i < 4; ++i)
      if ((words[i] & ~other.words[i]) != 0) return false;
    return true;
  }
  ByteSet& operator|=(const ByteSet& other) {
    for (int i = 0; i < 4; ++i) words[i] |= other.words[i];
    return *this;
  }
  ByteSet& operator&=(const ByteSet& other) {
    for (int i = 0; i < 4; ++i) words[i] &= other.words[i];
    return *this;
  }
  ByteSet operator~() const {
    ByteSet result;
    for (int i = 0; i < 4; ++i) result.words[i] = ~words[i];
    return result;
  }
  bool operator==(const ByteSet&) const = default;
};

}  // namespace lode::text::grammar
