// One answer: a prompt goes in, tokens come out until a stop id, a limit or the caller ends it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"

namespace lode::runtime {

enum class StopReason : uint8_t { kStopToken, kLength, kContextFull, kCancelled };

struct GenerateOptions {
  SamplingOptions sampling;
  std::vector<int32_t> stop_ids;
  int64_t tokens_max = -1;                       // below 0: until the context is full
  int64_t chunk = 0;                             // rows of a prompt step, 0: all the engine takes
  const std::atomic<bool>* cancel = nullptr;     // looked at between steps
  std::function<void(int64_t)> prompt_progress;  // tokens of the prompt done in this call
};

struct GenerateReport {
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  // of these, not computed again
  int64_t new_tokens = 0;     // without the stop token
  double prompt_seconds = 0.0;
  double generate_seconds = 0.0;
  StopReason reason = StopReason::kStopToken;
};

// A sequence that remembers its tokens, so that a prompt that merely continues them costs only the rest.
// (A recurrent state cannot go back: any other prompt starts anew.)
// Life: not longer than the engine. Threads: the engine's owner.
class Conversation {
 public:
  explicit Conversation(Engine* engine) : engine_(engine) {}

  // Calls on_token for each token as it is chosen; false ends the answer.
  // Errors: those of the engine; a prompt that is empty or does not fit.
  Result<GenerateReport> Generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                                  const std::function<bool(int32_t)>& on_token);

 private:
  Engine* engine_;
  std::optional<Sequence> sequence_;
  std::vector<int32_t> tokens_;  // that the sequence has consumed
};

}  // namespace lode::runtime
