// What a run is trained on and judged by: sequences of one length, each a function of its number.
// So a run that goes on needs nothing but the step it has reached.
#pragma once

#include <cstdint>

#include "train/trainer.h"

namespace lode::tune {

// Threads: const, so any. Life: the run's.
class Sequences {
 public:
  virtual ~Sequences() = default;

  // Appends sequence `row` of step `step` to a batch; each of its tokens counts `coefficient`.
  virtual void AddTraining(int64_t step, int64_t row, float coefficient,
                           train::PackedBatch* batch) const = 0;

  // The sequences that are held out, 0 to held_out() - 1.
  virtual int64_t held_out() const = 0;
  virtual void AddHeldOut(int64_t index, float coefficient, train::PackedBatch* batch) const = 0;

  // Bytes of text that a token stands for.
  virtual int64_t BytesOf(int32_t token) const = 0;
  // What is trained on, once over.
  virtual int64_t training_tokens() const = 0;
  // A number of all tokens and their order: a run goes on only with the same.
  virtual uint64_t digest() const = 0;
};

}  // namespace lode::tune
