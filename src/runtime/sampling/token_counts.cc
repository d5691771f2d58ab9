#include "runtime/sampling/token_counts.h"

#include <algorithm>

namespace lode::runtime {

TokenCounts::TokenCounts(int64_t vocabulary)
    : counts_(static_cast<size_t>(vocabulary)), place_(static_cast<size_t>(vocabulary)) {
  seen_.reserve(static_cast<size_t>(vocabulary));
}

uint64_t TokenCounts::Bytes(int64_t vocabulary) {
  return static_cast<uint64_t>(vocabulary) * (sizeof(Count) + 2 * sizeof(int32_t));
}

void TokenCounts::Assign(const History& history, int64_t window) {
  for (const int32_t token : seen_) counts_[static_cast<size_t>(token)] = {};
  seen_.clear();
  const size_t size = history.tokens.size();
  const size_t width = window > 0 ? std::min(size, static_cast<size_t>(window)) : size;
  for (size_t i = size - width; i < size; ++i) Add(history, i, true);
}

void TokenCounts::Push(const History& history, int64_t window) {
  const size_t last = history.tokens.size() - 1;
  Add(history, last, true);
  if (window > 0 && last >= static_cast<size_t>(window))
    Add(history, last - static_cast<size_t>(window), false);
}

void TokenCounts::Pop(const History& history, int64_t window) {
  const size_t last = history.tokens.size() - 1;
  Add(history, last, false);
  if (window > 0 && last >= static_cast<size_t>(window))
    Add(history, last - static_cast<size_t>(window), true);
}

void TokenCounts::Add(const History& history, size_t index, bool enters) {
  const int32_t token = history.tokens[index];
  if (token < 0 || static_cast<size_t>(token) >= counts_.size()) return;
  Count& count = counts_[static_cast<size_t>(token)];
  const uint32_t answer = index >= history.answer_begin;
  if (enters) {
    if (count.all == 0) {
      place_[static_cast<size_t>(token)] = static_cast<int32_t>(seen_.size());
      seen_.push_back(token);
    }
    ++count.all;
    count.answer += answer;
    return;
  }
  --count.all;
  count.answer -= answer;
  if (count.all > 0) return;
  const int32_t place = place_[static_cast<size_t>(token)];
  seen_[static_cast<size_t>(place)] = seen_.back();
  place_[static_cast<size_t>(seen_.back())] = place;
  seen_.pop_back();
}

}  // namespace lode::runtime
