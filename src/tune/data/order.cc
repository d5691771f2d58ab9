#include "tune/data/order.h"

#include "base/check.h"

namespace lode::tune {
namespace {

constexpr int kRounds = 6;

}  // namespace

Permutation::Permutation(uint64_t count, uint64_t key) : count_(count), key_(key) {
  LODE_CHECK(count >= 1);
  while (half_bits_ < 32 && (uint64_t{1} << (2 * half_bits_)) < count) ++half_bits_;
}

uint64_t Permutation::At(uint64_t index) const {
  LODE_DCHECK(index < count_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = index >> half_bits_, right = index & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t next = left ^ (Mix(key_, round, right) & mask);
      left = right;
      right = next;
    }
    index = (left << half_bits_) | right;
  } while (index >= count_);
  return index;
}

}  // namespace lode::tune
