// The tensors that a model of a given spec has, by the table of its family: for binding, converting,
// counting, and for saying what is missing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/arch/arch.h"
#include "model/spec.h"
#include "tensor/source.h"

namespace lode::model {

// One tensor of the model. Of a stacked role there is one slot for all experts.
struct TensorSlot {
  const TensorRow* row;
  bool mtp = false;
  int64_t layer = -1;   // in layers or mtp; -1: the model's own
  int64_t experts = 0;  // > 0: a stack of so many matrices
  tensor::Shape shape;       // Hugging Face's, of one expert
  tensor::Shape gguf_shape;  // GGUF's, outermost first, stacked
  std::string gguf;          // its name in GGUF
  // Its names in Hugging Face, the usual one first; of a stack with "{e}" for the expert.
  std::vector<std::string> hugging_face;
};

// In the order of the layers. Optional tensors that the spec rules out (no latent, no shared expert,
// tied head) are not listed.
std::vector<TensorSlot> ListTensors(const ModelSpec& spec);

// "...experts.{e}.up_proj.weight" with the expert's number; and the one name of a stacked tensor.
std::string ExpertName(const std::string& pattern, int64_t expert);
std::string StackedName(const std::string& pattern);

// Totals over a Hugging Face checkpoint with one tensor per expert.
struct TensorTotals {
  int64_t tensors = 0;
  int64_t parameters = 0;      // all
  int64_t mtp_parameters = 0;  // of these, the MTP head's
  int64_t active = 0;          // in the matrices that one token multiplies: no embedding, no MTP
};
TensorTotals CountTensors(const ModelSpec& spec);

}  // namespace lode::model
