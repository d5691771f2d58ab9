// The digest of a model's weights, remembered: files that did not change are read once.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "runtime/saved/context_chain.h"
#include "tensor/source.h"

namespace lode::api {

// runtime::DigestWeights of it. HOME/digests.json remembers digests by each file's path, size,
// inode and times of modification and change; whoever edits a file in place changes the latter, so
// what is remembered is of these bytes. Files that changed in the last seconds are not remembered,
// and what cannot be written is computed again next time. `progress` is only called while weights
// are read.
using DigestProgress = std::function<bool(uint64_t done, uint64_t total)>;
Result<runtime::ContextDigest> ModelDigest(const tensor::TensorSource& source,
                                           const DigestProgress& progress = nullptr);

}  // namespace lode::api
