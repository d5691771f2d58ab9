// Saved contexts of this user: where they lie, and what they must agree with.
#pragma once

#include <string>

#include "api/open.h"
#include "base/result.h"
#include "runtime/context_store.h"

namespace lode::api {

// HOME/contexts beside the models (hub/store.h). Errors: those of a folder that cannot be made.
Result<runtime::ContextStore> OpenContexts();

// What a run of this model is known by. The model: names, types and shapes of all tensors, and 12 KiB
// of each one's bytes (beginning, middle, end); numerics: the set of kernels, the instruction set,
// how inputs and the KV cache are rounded. Reads a few pages of every tensor.
runtime::ContextFingerprints FingerprintsOf(const Running& running, const TextTools& tools);

}  // namespace lode::api
