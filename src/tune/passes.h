// Examples of any lengths, dealt out to passes of the trainer that are as full as may be.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "train/trainer.h"
#include "tune/data/example.h"

namespace lode::tune {

class Passes {
 public:
  using Pass = std::function<void(train::PackedBatch&)>;
  Passes(int64_t rows_max, int64_t sequences_max, Pass pass)
      : rows_max_(rows_max), sequences_max_(sequences_max), pass_(std::move(pass)) {}

  // Adds an example with a coefficient for each label; first hands on what has no room beside it.
  void Add(const Example& example, std::span<const float> per_label) {
    const Rows rows = RowsOf(example, per_label);
    if (rows.tokens.empty()) return;
    const int64_t after = std::ssize(batch_.tokens) + std::ssize(rows.tokens);
    if (after > rows_max_ || std::ssize(batch_.lengths) >= sequences_max_) Finish();
    batch_.Add(rows.tokens, rows.targets, rows.coefficients);
  }
  // Hands on the rest.
  void Finish() {
    if (batch_.lengths.empty()) return;
    pass_(batch_);
    batch_.Clear();
  }

 private:
  int64_t rows_max_, sequences_max_;
  Pass pass_;
  train::PackedBatch batch_;
};

}  // namespace lode::tune
