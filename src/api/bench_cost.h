// What a step of a model costs by arithmetic: bytes that must come from memory and operations that
// must be done, however well it is programmed. Benchmarks divide by these.
//
// A step takes R rows in all: of S sequences, T = R / S rows each, that begin at depth d. W is a
// matrix, |W| its stored bytes.
//   bytes  = sum of |W| over matrices that every row multiplies; the head only for logits
//          + R rows of the embedding
//          + expected experts * |one expert|, with experts = E (1 - (1 - k/E)^R): R rows choose k
//            of E each as if by chance
//          + S * ((d + T) + T) * bytes of keys and values a token: read once a step, new ones
//            written
//          + 2 S * bytes of recurrent state: read and written
//   flops  = 2 * rows * cols of W for each row (k experts' for the routed ones)
//          + 4 * heads * head_dim for each row and key it sees (scores, values)
//          + 5 * heads * head_dim * state for each row: h = fma(h, a, x*b); y = fma(h, c, y)
//          + 2 * taps * channels for each row: convolution
// Norms, activation functions, routing and sampling are left out: they are below a percent.
// Flops are kept apart by the unit that does them, since units differ in speed.
#pragma once

#include <cstdint>
#include <string>

#include "model/bind.h"
#include "model/state.h"

namespace lode::api {

struct Cost {
  double bytes = 0.0;
  double int8 = 0.0, bf16 = 0.0, f32 = 0.0;  // operations

  double flops() const { return int8 + bf16 + f32; }
  Cost& operator+=(const Cost& other);
};

class CostModel {
 public:
  CostModel(const model::Model& model, const model::Numerics& numerics);

  // `logit_rows`: rows whose logits are wanted.
  Cost Step(int64_t sequences, int64_t rows_each, int64_t depth, int64_t logit_rows) const;

  // The type that most of the multiplied weights have: "q4_0".
  const std::string& weight_type() const { return weight_type_; }
  // Bytes of all matrices.
  double weight_bytes() const { return weight_bytes_; }

 private:
  struct Experts {
    double count = 0.0, top_k = 0.0;
    Cost one;  // bytes of one expert; operations of one row through it
  };
  void AddMatrix(const kernels::Weight& weight, Cost* cost) const;
  void AddLayer(const model::Layer& layer);

  model::Numerics numerics_;
  Cost dense_;     // bytes once a step; operations a row
  Cost head_;      // the same, when logits are wanted
  Cost key_;       // bytes of keys and values a token; operations a row and key
  Cost sequence_;  // bytes a sequence and step
  double embedding_row_bytes_ = 0.0;
  std::vector<Experts> experts_;  // by MoE layer
  std::string weight_type_;
  double weight_bytes_ = 0.0;
};

// E (1 - (1 - k/E)^rows).
double ExpectedExperts(double experts, double top_k, double rows);

}  // namespace lode::api
