// The encoders for any machine, four lanes at a time (what SSE2 and NEON have).
#include <bit>
#include <cstdint>

#include "quant/encode_lanes.h"
#include "tensor/scalar.h"

#define LODE_LANES 4
#include "quant/encode-inl.h"
#include "quant/encode_super-inl.h"
#include "quant/encode_blocks-inl.h"

namespace lode::quant {

void EncodePortable(const EncodeJob& job) { EncodeHere(job); }

}  // namespace lode::quant
