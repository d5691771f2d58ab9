// What the instruction sets' copies of the encoder offer to encode.cc.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace lode::quant {

// Whole blocks, one behind the other; all pointers as in encode.h.
struct EncodeJob {
  tensor::DType dtype = tensor::DType::kF32;
  const float* x = nullptr;
  int64_t elements = 0;
  const float* importance = nullptr;  // [cols], or null
  int64_t column = 0;                 // of the first element
  int64_t cols = 0;
  bool four_over_six = true;          // NVFP4: otherwise the maximum is always mapped to 6
  uint8_t* out = nullptr;
};

void EncodePortable(const EncodeJob& job);
void EncodeAvx2(const EncodeJob& job);
void EncodeAvx512(const EncodeJob& job);

}  // namespace lode::quant
