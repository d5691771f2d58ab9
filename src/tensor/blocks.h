// Weights of every type that Lode reads, decoded to float and, for the simple types, encoded: the
// definition of what a stored number means. Scalar and exact; kernels have faster forms and are
// tested against these. The float32 arithmetic is, operation by operation, that of PyPI's `gguf`
// package (gguf.quants.dequantize), so the results are the same bits (fixtures: tests/golden/dequant).
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace lode::tensor {

// Decodes `elements` numbers, whole blocks, from `source` to `target`.
//   source: elements / block_elements * block_bytes bytes, at any alignment; target: float[elements].
// NVFP4 is GGUF's layout; its per-tensor scale lives elsewhere and is not applied. An FP8 tensor's
// scale is not applied either. In the GGUF types FP4's minus zero decodes to plus zero.
// Errors: none; the dtype must be one of weights (Info().weights) and the blocks whole (checked:
// callers' bugs). Threads: any; no state.
void DecodeBlocks(DType dtype, const std::byte* source, int64_t elements, float* target);

// ModelOpt's NVFP4, as in safetensors: element 2j is the low nibble of packed[j], element 2j+1 the
// high one, and every 16 elements share an E4M3 scale. The tensor's second scale is not applied.
// FP4's minus zero stays minus zero.
//   packed: elements / 2 bytes; scales: elements / 16 bytes; elements: a multiple of 16.
void DecodeNvfp4ModelOpt(const uint8_t* packed, const uint8_t* scales, int64_t elements,
                         float* target);

// GGUF's NVFP4 block scale (unsigned E4M3, codes 0x00 and 0x7F are 0, the sign bit is ignored).
float Ue4m3ToFloat(uint8_t code);

// Whether EncodeBlocks can write the type.
bool CanEncode(DType dtype);

// Encodes whole blocks by rounding to nearest: the same bytes as gguf.quants.quantize for finite
// input whose scales are normal numbers (IQ4_NL, which that package does not write, takes the scale
// of least squares after one assignment). NaN and infinity give some valid block.
// Errors: none; CanEncode(dtype) must hold and the blocks be whole (checked). Threads: any.
void EncodeBlocks(DType dtype, const float* source, int64_t elements, std::byte* target);

}  // namespace lode::tensor
