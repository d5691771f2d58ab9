// Runs sequences through a model. A step takes rows of any number of sequences; prompt and answer
// differ only in how many. Whatever the split into steps, the company and the threads, a sequence's
// logits and state are the same bits.
// Threads: one owner calls everything.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "model/forward.h"
#include "runtime/state_pool.h"

namespace lode::runtime {

struct EngineOptions {
  model::Numerics numerics;
  int threads = 1;
  Pin pin = Pin::kOff;  // whether the threads may be bound to cores (base/thread_pool.h)
  int64_t context_tokens = 4096;  // room for so many tokens, shared by all sequences
  int64_t sequences_max = 1;
  int64_t sequence_tokens_max = 0;  // of one sequence; 0: as long as there is room
  int64_t rows_max = 256;         // rows of one step
};

class Engine;

// One sequence's state. Life: must not outlive its engine; gives its memory back when it goes.
class Sequence {
 public:
  ~Sequence();
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(Sequence&& other) noexcept;

  int64_t tokens() const { return position_; }

 private:
  friend class Engine;
  Sequence() = default;
  void Release();

  Engine* engine_ = nullptr;
  int64_t position_ = 0;
  int64_t mtp_position_ = 0;
  std::vector<std::byte*> pages_;
  std::vector<std::byte*> mtp_pages_;
  std::byte* slot_ = nullptr;
};

// Rows of one sequence in a step.
struct StepItem {
  Sequence* sequence;
  std::span<const int32_t> tokens;
  enum class Want : uint8_t { kNone, kLast, kAll } want = Want::kLast;
};

class Engine {
 public:
  // `model` must outlive the engine.
  Engine(const model::Model& model, const EngineOptions& options);

  // What the constructor and its sequences take at most, to the byte.
  static uint64_t Bytes(const model::ModelSpec& spec, const EngineOptions& options);

  // Errors: kNoSpace when all sequences are in use.
  Result<Sequence> NewSequence();

  // One step. Logits of the wanted rows, in order of items and rows, go to `logits` [n, V].
  // Errors, before anything is computed: kBadInput for a token id outside the vocabulary; kNoSpace
  // when the context is full. The number of rows must not exceed rows_max.
  Result<void> Step(std::span<const StepItem> items, float* logits);

  // A whole prompt in steps of `chunk` rows (0: rows_max). With `all`, `logits` gets every row [T,
  // V], else the last one [V] (or none, when null). `progress` is called after each step with the
  // rows done; returning false stops with kCancelled.
  Result<void> Append(Sequence& sequence, std::span<const int32_t> tokens, float* logits,
                      bool all = false, int64_t chunk = 0,
                      const std::function<bool(int64_t)>& progress = nullptr);

  // The MTP head over hidden states (after the final norm) [T, D] of the sequence's first T tokens
  // and the token that follows each: draft logits [T, V]. For checks; speculation comes on top.
  Result<void> Draft(Sequence& sequence, std::span<const float> hidden,
                     std::span<const int32_t> next_tokens, float* logits);

  // Called often, when no kernel runs (model::Runner::BetweenLayers).
  void BetweenLayers(std::function<void()> hook) { runner_.BetweenLayers(std::move(hook)); }

  // Rows after the final norm of the last step, [rows, D].
  const float* hidden() { return runner_.workspace().hidden; }

  // Who sees the inputs of matrix products from now on (model::Runner::Observe); nullptr: nobody.
  void Observe(model::InputObserver* observer) { runner_.Observe(observer); }

  const model::Model& model() const { return runner_.model(); }
  int64_t vocabulary() const { return model().spec.vocabulary; }
  int64_t rows_max() const { return runner_.rows_max(); }
  int threads() const { return pool_.threads(); }
  // To measure the machine with the same threads, or to compute with fewer of them, between steps.
  ThreadPool& pool() { return pool_; }
  // Copies of a sequence's state: position, slot, and the pages' used rows. For tests and digests.
  std::vector<std::byte> StateBytes(const Sequence& sequence) const;
  // A second sequence with the same state; costs a copy.
  Result<Sequence> Fork(const Sequence& sequence);

 private:
  friend class Sequence;
  Result<void> Grow(Sequence* sequence, int64_t tokens, bool mtp);
  Result<void> CheckTokens(std::span<const int32_t> tokens) const;

  int64_t sequence_tokens_max_;
  ThreadPool pool_;
  model::Runner runner_;
  StatePool states_;
};

}  // namespace lode::runtime
