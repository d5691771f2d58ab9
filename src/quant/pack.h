// Native packed files: a GGUF whose matrices lie as the kernels want them (kernels/panel.h), so that a
// run maps them and starts at once, with no second copy in memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"
#include "formats/gguf.h"

namespace lode::quant {

struct PackReport {
  int64_t packed = 0, kept = 0;  // tensors
  uint64_t bytes = 0;            // of the file
};

// Packs what has a packed form; the embedding, small tensors and types without one stay as they are.
// Nothing is rounded. `progress` gets bytes done and all; false cancels.
// Errors: kBadInput for a source that is packed already or an `out` that exists (unless `force`); what
// the model or the disk says. `out` appears only when whole.
Result<PackReport> Pack(const formats::GgufFile& source, const std::string& out, bool force,
                        int threads,
                        const std::function<bool(uint64_t done, uint64_t all)>& progress);

// An error that says so when some tensor of the source is packed: then its numbers lie in no row.
Result<void> CheckNotPacked(const tensor::TensorSource& source);

}  // namespace lode::quant
