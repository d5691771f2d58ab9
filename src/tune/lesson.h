// What a run teaches: the gradients of a step, and how the model is judged in between. A recipe is
// a lesson in the loop that all runs share (run.h). Threads: one owner.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "model/spec.h"
#include "text/tokenizer/tokenizer.h"
#include "train/trainer.h"
#include "tune/metrics.h"
#include "tune/plain_vocabulary.h"

namespace lode::tune {

class Lesson {
 public:
  virtual ~Lesson() = default;

  virtual const text::Tokenizer& tokenizer() const = 0;
  // What belongs beside the weights of a checkpoint.
  virtual const TextFiles& files() const = 0;
  // For people: what is taught, and how much is held out.
  virtual std::string Summary() const = 0;
  // A number of all that is learnt from and its order: a run goes on only with the same.
  virtual uint64_t digest() const = 0;
  // Where it stands, where that does not follow from the step alone.
  virtual Json Cursor() const { return nullptr; }
  virtual Result<void> Seek(const Json&) { return {}; }
  // What it takes beside the trainer.
  virtual uint64_t Bytes(const model::ModelSpec& spec, int threads) const = 0;

  // Called once, before all below. Life: model and trainer outlive the lesson.
  virtual Result<void> Begin(const model::Model& model, train::Trainer* trainer, int threads) = 0;

  // Update number metrics->step, counted from 1, at metrics->rate: a function of that number, of
  // the settings and the data. Fills in what it knows of the metrics.
  virtual Result<void> Step(StepMetrics* metrics) = 0;
  // On at most `most` of what is held out (0: all). False: nothing is held out.
  virtual Result<bool> Evaluate(int64_t most, EvaluationMetrics* metrics) = 0;
};

// Moves the model by what has gathered, unless the loss is no number; fills in the gradient's norm
// and how uneven the experts' loads were.
void Move(train::Trainer* trainer, StepMetrics* metrics);
}  // namespace lode::tune
