// Numbers for lists of numbers, equal lists the same one, and a plain hash table: the memory of a
// Matcher. Nothing is ever taken out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace lode::text::grammar {

inline uint64_t HashMix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0xD6E8FEB86659FD93;
  return hash ^ hash >> 32;
}

class Interner {
 public:
  Interner() : table_(256) {}

  uint32_t Intern(std::span<const uint32_t> list) {
    if (spans_.size() * 2 >= table_.size()) Grow();
    const uint64_t hash = Hash(list);
    size_t at = hash & (table_.size() - 1);
    for (; table_[at] != 0; at = (at + 1) & (table_.size() - 1)) {
      const auto known = data(table_[at] - 1);
      if (std::equal(known.begin(), known.end(), list.begin(), list.end())) return table_[at] - 1;
    }
    spans_.push_back({pool_.size(), static_cast<uint32_t>(list.size())});
    pool_.insert(pool_.end(), list.begin(), list.end());
    table_[at] = static_cast<uint32_t>(spans_.size());
    return table_[at] - 1;
  }
  // Valid until the next Intern.
  std::span<const uint32_t> data(uint32_t id) const {
    return {pool_.data() + spans_[id].offset, spans_[id].count};
  }
  size_t size() const { return spans_.size(); }
  size_t bytes() const { return pool_.size() * 4 + spans_.size() * 16 + table_.size() * 4; }

 private:
  struct Span {
    size_t offset;
    uint32_t count;
  };
  static uint64_t Hash(std::span<const uint32_t> list) {
    uint64_t hash = list.size() + 0x9E3779B97F4A7C15;
    for (const uint32_t value : list) hash = HashMix(hash, value);
    return hash;
  }
  void Grow() {
    std::vector<uint32_t> larger(table_.size() * 2);
    for (uint32_t id = 0; id < spans_.size(); ++id) {
      size_t at = Hash(data(id)) & (larger.size() - 1);
      while (larger[at] != 0) at = (at + 1) & (larger.size() - 1);
      larger[at] = id + 1;
    }
    table_.swap(larger);
  }

  std::vector<uint32_t> pool_;
  std::vector<Span> spans_;
  std::vector<uint32_t> table_;  // id + 1
};

// uint64 -> uint32, for keys other than 2^64 - 1.
class FlatMap {
 public:
  FlatMap() : keys_(256, kNone), values_(256) {}

  uint32_t* Find(uint64_t key) {
    for (size_t at = HashMix(0x9E37, key) & (keys_.size() - 1); keys_[at] != kNone;
         at = (at + 1) & (keys_.size() - 1))
      if (keys_[at] == key) return &values_[at];
    return nullptr;
  }
  void Add(uint64_t key, uint32_t value) {  // one that is not there
    if (++size_ * 2 >= keys_.size()) Grow();
    Place(key, value);
  }
  size_t bytes() const { return keys_.size() * 12; }

 private:
  static constexpr uint64_t kNone = UINT64_MAX;
  void Place(uint64_t key, uint32_t value) {
    size_t at = HashMix(0x9E37, key) & (keys_.size() - 1);
    while (keys_[at] != kNone) at = (at + 1) & (keys_.size() - 1);
    keys_[at] = key;
    values_[at] = value;
  }
  void Grow() {
    std::vector<uint64_t> keys(keys_.size() * 2, kNone);
    std::vector<uint32_t> values(keys.size());
    keys.swap(keys_);
    values.swap(values_);
    for (size_t i = 0; i < keys.size(); ++i)
      if (keys[i] != kNone) Place(keys[i], values[i]);
  }

  size_t size_ = 0;
  std::vector<uint64_t> keys_;
  std::vector<uint32_t> values_;
};

}  // namespace lode::text::grammar
