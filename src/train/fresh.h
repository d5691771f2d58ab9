// A model that has learnt nothing: weights drawn for training from scratch.
// Matrices are normal; those whose product joins the residual stream are smaller by sqrt(2 layers),
// so that the stream starts at one size in any depth. Mamba's decays and step sizes start spread
// over the ranges in which such models are trained (Gu & Dao 2023; Dao & Gu 2024).
#pragma once

#include <cstdint>
#include <memory>

#include "base/json.h"
#include "base/result.h"
#include "model/bind.h"

namespace lode::train {

struct FreshOptions {
  uint64_t seed = 1;
  double deviation = 0.02;  // of matrices
};

// `config` is a Hugging Face config.json. The same config, seed and deviation give the same numbers.
// Errors: those of the config.
Result<std::unique_ptr<model::Model>> FreshModel(Json config, const FreshOptions& options);

}  // namespace lode::train
