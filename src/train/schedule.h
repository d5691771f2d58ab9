// The learning rate by step: a warm-up from 0, a plateau, a decay. A schedule is a function of the
// absolute step, so a run that goes on with other data keeps it.
// Source: Hu et al. 2024 (warm-up, stable, decay). Threads: free for all. Errors: none.
#pragma once

#include <cstdint>

namespace lode::train {

enum class Decay : uint8_t { kNone, kLinear, kCosine, kMinusSqrt };

struct Schedule {
  double peak = 1e-3;
  double lowest = 0.0;  // at the end of the decay
  int64_t steps = 0;    // of the whole run
  int64_t warmup = 0;   // the first so many steps rise to the peak
  int64_t decay = 0;    // the last so many fall; what is between stays
  Decay form = Decay::kMinusSqrt;

  // Of step `step`, counted from 0. The first step of a warm-up of w has peak / w.
  double At(int64_t step) const;
};

}  // namespace lode::train
