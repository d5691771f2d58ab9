// The encoders with AVX-512; see encode_avx2.cc.
#include <bit>
#include <cstdint>

#include "quant/encode_lanes.h"
#include "tensor/scalar.h"

#if defined(__x86_64__)
#if defined(__clang__)
#define LODE_AVX512 "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,f16c"
#pragma clang attribute push(__attribute__((target(LODE_AVX512))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,f16c")
#endif
#define LODE_LANES 16
#include "quant/encode-inl.h"
#include "quant/encode_super-inl.h"
#include "quant/encode_blocks-inl.h"

namespace lode::quant {

void EncodeAvx512(const EncodeJob& job) { EncodeHere(job); }

}  // namespace lode::quant
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // x86-64
