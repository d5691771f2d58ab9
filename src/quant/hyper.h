// A spec's numbers as the family's table names them: the inverse of how it was read.
#pragma once

#include "model/arch/arch.h"
#include "model/spec.h"

namespace lode::quant {

struct Kinds {
  bool mamba2 = false, attention = false, mlp = false, moe = false;
};

Kinds KindsOf(const model::ModelSpec& spec);
model::Hyper HyperOf(const model::ModelSpec& spec);
// A field that says nothing in a model without experts.
bool OfExperts(const model::Field& field);

}  // namespace lode::quant
