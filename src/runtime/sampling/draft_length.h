// How many tokens to guess in a step: as many as are expected to give the most tokens a second, by
// what was measured: how often drafts are accepted, and what a step of so many rows takes. No
// choice can change the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lode::runtime {

// Milliseconds of a step by its rows: one for a machine and model. Newer measurements count more.
// Threads: one owner.
class StepCost {
 public:
  explicit StepCost(int64_t rows_max) : costs_(static_cast<size_t>(rows_max) + 1) {}

  void Observe(int64_t rows, double milliseconds);
  // Measured, or between neighbours that were, or as the nearest that was; 0 when nothing was.
  double Milliseconds(int64_t rows) const;
  int64_t rows_max() const { return static_cast<int64_t>(costs_.size()) - 1; }
  // The most rows that were measured so far.
  int64_t rows_measured() const { return rows_measured_; }

 private:
  struct Cost {
    double milliseconds = 0.0;
    int64_t count = 0;
  };
  std::vector<Cost> costs_;  // by rows
  int64_t rows_measured_ = 0;
};

// What else runs in the step for which a length is chosen.
struct StepCompany {
  int64_t rows = 0;     // of others
  double tokens = 0.0;  // that they are expected to yield
  double draft_milliseconds = 0.0;  // what one draft costs to make
};

// Life: one for each sequence. Threads: one owner.
class DraftLength {
 public:
  explicit DraftLength(int64_t length_max);

  // What became of a step's drafts. It may also be told of drafts that were made, not run, and
  // compared with what came.
  void Observe(int64_t proposed, int64_t accepted);

  // The length for the next step, 0 where drafts do not pay. Never more than doubles the rows that
  // were measured. What is not tried is not measured: while drafts pay it asks for a plain step now
  // and then, and while they do not for one draft (rarely, if that goes on not to pay).
  int64_t Choose(const StepCost& cost, const StepCompany& company = {});

  // Chance that draft i (from 0) is accepted once those before it are.
  double Acceptance(int64_t i) const;
  // Tokens that a step with so many drafts yields.
  double ExpectedTokens(int64_t drafts) const;

 private:
  struct Chance {
    double accepted = 0.0, tried = 0.0;
  };
  std::vector<Chance> chances_;
  int64_t idle_ = 0;        // steps since one had drafts
  int64_t drafting_ = 0;    // steps for which drafts paid
  int64_t patience_ = 0;    // steps to the next trial
};

}  // namespace lode::runtime
