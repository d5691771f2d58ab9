// Guesses by the model's own head for multi-token prediction (arXiv:2412.19437, section 2.2): from the
// hidden row of the newest token that has run and the token drawn after it, the head predicts the
// one behind that; its own hidden row and that guess give the next, and so on.
//
// The head attends over rows of its own, one for each token. They are filled from the model's true
// hidden rows, prompts too, in the pages that the model's keys and values lie in, and so they are
// cached, shared and forked with these; a row that is missing or stale costs guesses, never bits.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/stack_memory.h"
#include "runtime/engine.h"
#include "runtime/sampling/answer_mask.h"
#include "runtime/sampling/draft_length.h"
#include "runtime/sampling/sampler.h"

namespace lode::runtime {

// Life: engine and sampler outlive it. Threads: the engine's owner.
class MtpDrafts {
 public:
  // For at most `sequences_max` items that want guesses.
  MtpDrafts(Engine* engine, Sampler* sampler, int64_t sequences_max);
  static uint64_t Bytes(const model::ModelSpec& spec, int64_t sequences_max);

  // What the step before made a sequence's own.
  struct Item {
    Sequence* sequence;
    int64_t position;                      // of the first row
    const float* hidden;                   // [rows, D], in Engine::hidden()
    std::span<const int32_t> next_tokens;  // [rows]
    int64_t wanted;                        // guesses; 0: rows are only filled, `drafts` stays
    // All tokens so far, for penalties; used and left as they were.
    std::vector<int32_t>* tokens;
    int64_t answer;  // of these, the answer's
    const SamplingOptions* sampling;
    AnswerMask* mask;                      // null: every token may come
    std::vector<int32_t>* drafts;          // the guesses; fewer where there is no room
  };
  // Items in the order of their rows. Right after Engine::Step, before another one.
  void Run(std::span<const Item> items, const std::function<double()>& milliseconds);

  // Of one more guess for each of so many sequences, measured; 0 before the first.
  double Milliseconds(int64_t sequences) const { return cost_.Milliseconds(sequences); }

 private:
  bool Draw(const Item& item, const float* logits);

  Engine& engine_;
  Sampler& sampler_;
  std::vector<float> logits_;  // [sequences_max, V]
  StackMemory memory_;
  StepCost cost_;              // of a pass by its rows
};

}  // namespace lode::runtime
