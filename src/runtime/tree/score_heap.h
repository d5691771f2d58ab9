// A binary heap of node ids by score, lowest first, that knows where each id stands, so that a
// score can be changed in place. No allocation but when it grows.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "base/check.h"

namespace lode::runtime {

class ScoreHeap {
 public:
  // Spare points go before all others, whatever their score.
  struct Entry {
    bool spare = false;
    double score = 0.0;
    uint32_t id = 0;
    bool operator<(const Entry& other) const {
      if (spare != other.spare) return spare;
      if (score != other.score) return score < other.score;
      return id < other.id;  // a total order: the same trace gives the same victims
    }
  };

  bool empty() const { return entries_.empty(); }
  size_t size() const { return entries_.size(); }
  const Entry& top() const { return entries_.front(); }
  const std::vector<Entry>& entries() const { return entries_; }
  bool contains(uint32_t id) const { return id < places_.size() && places_[id] != kAbsent; }
  const Entry& at(uint32_t id) const { return entries_[places_[id]]; }

  // Inserts, or changes what is there.
  void Set(const Entry& entry) {
    if (entry.id >= places_.size()) places_.resize(entry.id + 1, kAbsent);
    if (places_[entry.id] == kAbsent) {
      places_[entry.id] = static_cast<uint32_t>(entries_.size());
      entries_.push_back(entry);
    } else {
      entries_[places_[entry.id]] = entry;
    }
    Down(Up(places_[entry.id]));
  }

  void Remove(uint32_t id) {
    LODE_CHECK(contains(id));
    const uint32_t at = places_[id];
    const uint32_t last = static_cast<uint32_t>(entries_.size()) - 1;
    if (at != last) Swap(at, last);
    entries_.pop_back();
    places_[id] = kAbsent;
    if (at != last) Down(Up(at));
  }

 private:
  static constexpr uint32_t kAbsent = 0xffffffff;

  void Swap(uint32_t a, uint32_t b) {
    std::swap(entries_[a], entries_[b]);
    places_[entries_[a].id] = a;
    places_[entries_[b].id] = b;
  }
  uint32_t Up(uint32_t at) {
    while (at > 0 && entries_[at] < entries_[(at - 1) / 2]) {
      Swap(at, (at - 1) / 2);
      at = (at - 1) / 2;
    }
    return at;
  }
  void Down(uint32_t at) {
    for (;;) {
      uint32_t least = at;
      for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < entries_.size(); ++child) {
        if (entries_[child] < entries_[least]) least = child;
      }
      if (least == at) return;
      Swap(at, least);
      at = least;
    }
  }

  std::vector<Entry> entries_;
  std::vector<uint32_t> places_;  // by id
};

}  // namespace lode::runtime
