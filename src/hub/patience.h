// How long to try again: counts the failures since the last progress and waits between the tries.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/text.h"
#include "hub/pull.h"

namespace lode::hub {

// Threads: one.
class Patience {
 public:
  Patience(const RetryPolicy& policy, std::function<bool()> stop,
           std::function<void(const std::string&)> note)
      : policy_(policy), stop_(std::move(stop)), note_(std::move(note)) {}

  void Progressed() { failures_ = 0; }

  // Waits before the next try, or returns the error when all tries are used up or the pull stops.
  // `retry_after_s`: what the hub asked for, 0 if nothing.
  Result<void> AfterFailure(Error error, int64_t retry_after_s) {
    if (error.code() != Code::kNetwork) return error;
    if (++failures_ >= policy_.tries) {
      if (error.hint().empty())
        error.SetHint("what has arrived is kept; pull again later to go on");
      return error;
    }
    // Spread over half the pause, so that many clients do not come back at once.
    double pause_s =
        std::min(policy_.longest_pause_s,
                 policy_.first_pause_s * static_cast<double>(1 << std::min(failures_ - 1, 20)));
    pause_s *= std::uniform_real_distribution<double>(0.5, 1.0)(random_);
    if (retry_after_s > 0) {
      if (static_cast<double>(retry_after_s) > policy_.retry_after_max_s) {
        return error.SetHint(Format("it asks to wait %lld s; pull again then",
                                    static_cast<long long>(retry_after_s)));
      }
      pause_s = static_cast<double>(retry_after_s);
    }
    note_(Format("waiting %.0f s: ", pause_s) + error.message());
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(pause_s);
    while (std::chrono::steady_clock::now() < until) {
      if (stop_()) return Error(Code::kCancelled, "stopped");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    note_("");
    return {};
  }

 private:
  const RetryPolicy& policy_;
  std::function<bool()> stop_;
  std::function<void(const std::string&)> note_;
  std::minstd_rand random_{std::random_device{}()};
  int failures_ = 0;
};

}  // namespace lode::hub
