// The encoders with AVX2. Only the code between the pragmas is compiled for it: what the headers
// above define inline stays fit for every machine.
#include <bit>
#include <cstdint>

#include "quant/encode_lanes.h"
#include "tensor/scalar.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#define LODE_LANES 8
#include "quant/encode-inl.h"
#include "quant/encode_super-inl.h"
#include "quant/encode_blocks-inl.h"

namespace lode::quant {

void EncodeAvx2(const EncodeJob& job) { EncodeHere(job); }

}  // namespace lode::quant
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // x86-64
