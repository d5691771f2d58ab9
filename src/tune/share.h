// What lessons over lists of records have in common: which of them are held out, in which order
// they come, and a number of all they say. Threads: free for all.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tune/data/encode.h"
#include "tune/data/example.h"
#include "tune/data/order.h"

namespace lode::tune {

// Which records a lesson reads, and how many go into a step and through the model at once.
struct RecordsOptions {
  std::vector<std::string> training, held_out;  // files of data, or folders of them
  double held_out_share = 0.1;                  // of the records, where no others are held out
  EncoderOptions encoder;
  bool strict = false;                            // remarks on the data are errors
  int64_t batch = 16;                             // sequences, pairs or tasks of a step
  int64_t sequence = 256;                         // tokens of one
  int64_t each_rows = 4096, each_sequences = 64;  // of a pass
  uint64_t seed = 1;
};

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
