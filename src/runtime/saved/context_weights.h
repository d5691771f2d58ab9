// A digest of a model's weights: what a saved context must agree with first.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "runtime/saved/context_chain.h"
#include "tensor/source.h"

namespace lode::runtime {

// SHA-256 over config, names, types and shapes of all tensors in their order, and the XXH3-128 of
// each one's bytes, all of them. It is there to find accidents: XXH3 runs at the speed of memory,
// and who can exchange weights on purpose needs no collision. `progress`, unless null, hears the
// bytes done so far; false stops with kCancelled. Cost: reading the file.
Result<ContextDigest> DigestWeights(const tensor::TensorSource& source,
                                    const std::function<bool(uint64_t done)>& progress = nullptr);

}  // namespace lode::runtime
