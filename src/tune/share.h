// What lessons over lists of records have in common: which of them are held out, in which order
// they come, and a number of all they say. Threads: free for all.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "tune/data/example.h"
#include "tune/data/order.h"

namespace lode::tune {

// Moves about this share of the items to a list of their own; which ones, `key` and their places
// decide.
template <class Item>
std::vector<Item> TakeShare(uint64_t key, double share, std::vector<Item>* items) {
  constexpr uint64_t kWhole = 1'000'000'000;
  const auto limit = static_cast<uint64_t>(share * static_cast<double>(kWhole));
  std::vector<Item> taken, kept;
  for (size_t i = 0; i < items->size(); ++i) {
    (Mix(key, i) % kWhole < limit ? taken : kept).push_back(std::move((*items)[i]));
  }
  *items = std::move(kept);
  return taken;
}

// The index of draw `at` from `count` items that come in epochs, each in an order of its own.
inline size_t AtOfEpochs(uint64_t at, size_t count, uint64_t seed) {
  const Permutation order(count, Mix(seed, at / count));
  return static_cast<size_t>(order.At(at % count));
}

inline uint64_t DigestOf(const std::vector<Example>& examples, uint64_t digest) {
  for (const Example& example : examples) {
    digest = Mix(digest, example.tokens.size());
    for (size_t t = 0; t < example.tokens.size(); ++t) {
      digest = Mix(digest, static_cast<uint64_t>(example.tokens[t]),
                   std::bit_cast<uint32_t>(example.weights[t]));
    }
  }
  return digest;
}

inline uint64_t ExampleBytes(const Example& example) {
  return example.tokens.size() * (sizeof(int32_t) + sizeof(float));
}

}  // namespace lode::tune
