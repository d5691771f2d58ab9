// A thread's scratch, given out piece by piece: how gradients lay out their tiles.
#pragma once

#include <cstdint>

namespace lode::kernels {

inline int64_t RoundUp(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// `memory` may be null, to count what would be taken.
class ScratchPieces {
 public:
  explicit ScratchPieces(float* memory) : memory_(memory) {}
  float* Take(int64_t floats) {
    float* at = memory_ == nullptr ? nullptr : memory_ + taken_;
    taken_ += floats;
    return at;
  }
  int64_t taken() const { return taken_; }

 private:
  float* memory_;
  int64_t taken_ = 0;
};

}  // namespace lode::kernels
