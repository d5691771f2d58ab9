// Orders that a seed decides: pure functions of numbers, so that nothing has to be stored to go on.
#pragma once

#include <cstdint>

#include "base/random.h"

namespace lode::tune {

// A number as good as random for each of its input (base/random.h).
constexpr uint64_t Mix(uint64_t value) { return MixBits(value); }
// The same of several numbers; their order matters.
template <typename... More>
uint64_t Mix(uint64_t first, uint64_t second, More... more) {
  return Mix(Mix(first) ^ second, more...);
}

// The numbers 0 .. count - 1 in an order that `key` decides: a Feistel network over the next power
// of four, walked until it lands inside (Black and Rogaway 2002). At costs O(1), nothing is kept.
class Permutation {
 public:
  // count >= 1.
  Permutation(uint64_t count, uint64_t key);
  // index < count.
  uint64_t At(uint64_t index) const;

 private:
  uint64_t count_, key_;
  int half_bits_ = 1;
};

}  // namespace lode::tune
