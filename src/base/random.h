// Random numbers that are functions of a key: of a seed, a step, a row. Nothing is drawn in turn,
// so what a number is depends on no thread and no history, and no state has to be saved.
// Source: the finalizer of SplitMix64 (Steele et al. 2014). Threads: free for all.
#pragma once

#include <cstdint>

namespace lode {

constexpr uint64_t MixBits(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// A key from one more part: RandomKey(RandomKey(seed, step), row).
constexpr uint64_t RandomKey(uint64_t key, uint64_t part) {
  return MixBits(key ^ MixBits(part + 1));
}

// Below `count` (at least 1), each as likely.
constexpr uint64_t RandomBelow(uint64_t key, uint64_t count) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(MixBits(key)) * count) >> 64);
}

// In (0, 1), never either end.
constexpr double RandomUnit(uint64_t key) {
  return (static_cast<double>(MixBits(key) >> 11) + 0.5) * 0x1p-53;
}

}  // namespace lode
