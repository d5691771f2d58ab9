// A scheduler over a small model on a virtual clock: a step takes what its rows are said to take,
// so a minute of load is over in a second and runs the same way again.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "formats/open.h"
#include "model/bind.h"
#include "runtime/scheduler.h"

namespace lode::runtime {

inline std::unique_ptr<model::Model> LoadGolden(const std::string& name) {
  const std::string path = std::string(LODE_SOURCE_DIR) + "/tests/golden/" + name;
  auto source = formats::OpenSource(path);
  EXPECT_TRUE(source.ok()) << path;
  if (!source.ok()) return nullptr;
  auto model = model::Bind(std::shared_ptr<const tensor::TensorSource>(std::move(*source)));
  EXPECT_TRUE(model.ok()) << path;
  return model.ok() ? std::move(*model) : nullptr;
}

// Milliseconds of a step of so many rows: weights are read once, and each row computes.
constexpr double kStepMilliseconds = 20.0, kRowMilliseconds = 5.0;

class Serving {
 public:
  Serving(const model::Model& model, EngineOptions engine_options, SchedulerOptions options) {
    engine = std::make_unique<Engine>(model, engine_options);
    options.milliseconds = [this] {
      if (scheduler != nullptr && scheduler->rows() > seen_) {
        clock += kStepMilliseconds +
                 kRowMilliseconds * static_cast<double>(scheduler->rows() - seen_);
        seen_ = scheduler->rows();
      }
      return clock;
    };
    scheduler = std::make_unique<Scheduler>(engine.get(), options);
  }

  bool Step(const std::function<void(const Event&)>& on_event) {
    const bool stepped = scheduler->Step(on_event);
    scheduler->tree().Check();
    engine->frames().Check();
    return stepped;
  }
  // Nobody runs or waits: what is left in memory is the tree's, to the byte.
  void ExpectNothingLeft() {
    EXPECT_EQ(scheduler->running(), 0);
    EXPECT_EQ(scheduler->waiting(), 0);
    EXPECT_EQ(engine->frames().leased(), 0u);
    EXPECT_EQ(engine->frames().pages().leased_frames(), 0);
    EXPECT_EQ(engine->frames().slots().leased_frames(), 0);
  }

  double clock = 0.0;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Scheduler> scheduler;

 private:
  int64_t seen_ = 0;
};

inline size_t CommonPrefix(const std::vector<Token>& a, const std::vector<Token>& b) {
  const auto most = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + most, b.begin()).first -
                             a.begin());
}

// Seeds to walk with: `count` from 1 on, or the one that LODE_SEED names.
inline std::vector<uint32_t> Seeds(int count) {
  if (const char* only = std::getenv("LODE_SEED")) {
    return {static_cast<uint32_t>(std::strtoul(only, nullptr, 10))};
  }
  std::vector<uint32_t> seeds;
  for (int i = 1; i <= count; ++i) seeds.push_back(static_cast<uint32_t>(i));
  return seeds;
}

// While it lives, a failure says how to replay it, and a broken invariant does too.
class Replayable {
 public:
  explicit Replayable(uint32_t seed)
      : trace_(__FILE__, __LINE__, "replay with LODE_SEED=" + std::to_string(seed)) {
    current_ = seed;
    std::signal(SIGABRT, [](int) {
      std::fprintf(stderr, "replay with LODE_SEED=%u\n", current_);
      std::signal(SIGABRT, SIG_DFL);
      std::raise(SIGABRT);
    });
  }

 private:
  static inline volatile uint32_t current_ = 0;
  ::testing::ScopedTrace trace_;
};

}  // namespace lode::runtime
