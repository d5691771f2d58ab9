// A weight matrix as it lies in its file: no copy, any element type. Kernels decode it on the way.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace lode::kernels {

// Row-major [rows, cols]; y = W x has `rows` outputs. The bytes belong to somebody else (the mapped
// file) and may be unaligned.
struct Weight {
  tensor::DType dtype = tensor::DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  int64_t row_bytes = 0;
  // ModelOpt's NVFP4 keeps its block scales (E4M3, one per 16 columns) in a tensor of their own;
  // then `data` holds two codes a byte, the even column in the low half. nullptr: the type's own
  // blocks.
  const uint8_t* block_scales = nullptr;
  // Multiplied onto each finished sum: the tensor's second-level scale (NVFP4, FP8), else 1.
  float scale = 1.0f;
  // Instead of `scale`, one factor per row, when not null (FP8 with a scale per channel).
  const float* row_scales = nullptr;
  // The same numbers as panels (kernels/panel.h), 64-byte aligned; nullptr: not packed (yet).
  // Kernels give the same bits either way. When it is set, `data` need not be readable.
  const std::byte* packed = nullptr;

  bool empty() const { return rows == 0; }
};

// Decodes columns [begin, begin + count) of one row to f32, without scale and row_scales. `begin`
// and `count` must be multiples of the type's block (16 for ModelOpt's NVFP4), or reach the row's
// end. Scalar and exact; the oracle of the fast decoders.
void DecodeColumns(const Weight& weight, int64_t row, int64_t begin, int64_t count, float* out);

}  // namespace lode::kernels
