// AdamW over all parameters, with a bound on the gradients' norm. Every sum has one order, so a
// step has the same bits on any number of threads; a step whose gradients are no numbers changes
// nothing.
// Source: Loshchilov & Hutter 2019.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "train/parameters.h"

namespace lode::train {

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // of parameters that decay
  double norm_max = 1.0;      // gradients beyond are scaled down to it; 0: no bound
  // False: matrices between layers count in the norm, but somebody else moves them (muon.h).
  bool moves_matrices = true;
};

struct UpdateReport {
  double norm = 0.0;     // of all gradients together, before the bound
  double scale = 1.0;    // what the bound made of them
  bool skipped = false;  // some gradient was no number: nothing changed
};

// Life: the parameters outlive it. Threads: one owner.
class AdamW {
 public:
  AdamW(Parameters* parameters, ThreadPool* pool, const AdamOptions& options);

  // One step at rate `rate`; gradients stay as they are. Parameters are not published.
  UpdateReport Update(double rate);

  // What a checkpoint needs besides the parameters: first and second moments in the parameters'
  // order, and how many steps they are the mean of.
  std::span<float> first() { return first_; }
  std::span<float> second() { return second_; }
  int64_t steps() const { return steps_; }
  void SetSteps(int64_t steps) { steps_ = steps; }

  static uint64_t Bytes(int64_t parameters) {
    return 2 * static_cast<uint64_t>(parameters) * sizeof(float);
  }

 private:
  double Norm();

  Parameters* parameters_;
  ThreadPool* pool_;
  AdamOptions options_;
  std::vector<float> first_, second_;
  int64_t steps_ = 0;
  // A part of a parameter that one thread updates.
  struct Piece {
    size_t parameter;
    size_t begin, count;
    size_t at;  // in the moments
    bool moves;
  };
  std::vector<Piece> pieces_;
  std::vector<double> squares_;  // of each piece
};

}  // namespace lode::train
