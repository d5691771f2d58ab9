#include "train/schedule.h"

#include <gtest/gtest.h>

namespace lode::train {
namespace {

TEST(Schedule, RisesStaysAndFalls) {
  Schedule s;
  s.peak = 1.0;
  s.lowest = 0.1;
  s.steps = 100;
  s.warmup = 10;
  s.decay = 20;
  for (const Decay form : {Decay::kLinear, Decay::kCosine, Decay::kMinusSqrt}) {
    s.form = form;
    EXPECT_DOUBLE_EQ(s.At(0), 0.1);
    EXPECT_DOUBLE_EQ(s.At(9), 1.0);
    EXPECT_DOUBLE_EQ(s.At(50), 1.0);
    EXPECT_DOUBLE_EQ(s.At(79), 1.0);
    EXPECT_LT(s.At(80), 1.0);
    for (int64_t step = 80; step < 100; ++step) EXPECT_GT(s.At(step - 1), s.At(step));
    EXPECT_NEAR(s.At(99), 0.1, 1e-12);
    EXPECT_NEAR(s.At(1000), 0.1, 1e-12);
  }
}

TEST(Schedule, FallsInTheNamedForm) {
  Schedule s;
  s.peak = 1.0;
  s.steps = 16;
  s.decay = 16;
  s.form = Decay::kMinusSqrt;
  EXPECT_NEAR(s.At(3), 0.5, 1e-12);  // u = 1/4
  s.form = Decay::kLinear;
  EXPECT_NEAR(s.At(3), 0.75, 1e-12);
  s.form = Decay::kCosine;
  EXPECT_NEAR(s.At(7), 0.5, 1e-12);
  s.form = Decay::kNone;
  EXPECT_NEAR(s.At(15), 1.0, 1e-12);
}

}  // namespace
}  // namespace lode::train
