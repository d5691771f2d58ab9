// One answer: a prompt goes in, tokens come out until a stop id, a limit or the caller ends it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "runtime/engine.h"
#include "runtime/sampling/sampler.h"
#include "runtime/scheduler.h"

namespace lode::runtime {

struct GenerateOptions {
  SamplingOptions sampling;
  std::vector<int32_t> stop_ids;
  int64_t tokens_max = -1;                       // below 0: until the context is full
  std::vector<Probe> probes = {};                // where later prompts will go on (scheduler.h)
  const std::atomic<bool>* cancel = nullptr;     // looked at between steps
  std::function<void(int64_t)> prompt_progress;  // tokens of the prompt done in this call
};

struct GenerateReport {
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  // of these, not computed again
  Match match;                // what was known of the prompt, and why no more was reused
  int64_t new_tokens = 0;     // without the stop token
  int64_t drafted_tokens = 0, accepted_tokens = 0;  // guesses, and those that stood
  double prompt_seconds = 0.0;
  double generate_seconds = 0.0;
  StopReason reason = StopReason::kStopToken;
};

// One request after another, with all that the engine has room for kept of those before: a prompt goes
// on from the deepest state that fits it.
// Life: not longer than the engine. Threads: the engine's owner.
class Conversation {
 public:
  explicit Conversation(Engine* engine, const SchedulerOptions& options = {})
      : scheduler_(engine, options) {}

  // Calls on_token for each token as it is chosen; false ends the answer.
  // Errors: those of Scheduler::Submit; a prompt that does not fit beside what runs.
  Result<GenerateReport> Generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                                  const std::function<bool(int32_t)>& on_token);

  Scheduler& scheduler() { return scheduler_; }

 private:
  Scheduler scheduler_;
};

}  // namespace lode::runtime
