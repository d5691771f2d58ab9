// The numbers of one part: as Hugging Face codes them, as floats, as GGUF stores them, and back.
// Exact where a type can be; nothing here knows a name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/arch/arch.h"
#include "quant/plan.h"
#include "tensor/dtype.h"

namespace lode::quant {

// The bytes of a part. On the way back `weight` is null, and so is every factor that is not known.
struct PartData {
  Coding coding = Coding::kPlain;
  tensor::DType dtype = tensor::DType::kF32;  // of kPlain
  int64_t rows = 0, cols = 0;
  const std::byte* weight = nullptr;
  const uint8_t* block_scales = nullptr;  // NVFP4
  const std::byte* row_scales = nullptr;  // FP8 with a scale per row: float[rows], unaligned
  float scale = 1.0f;                     // one factor for the whole part

  int64_t row_bytes() const;  // in Hugging Face
};

// Rows [row, row + count) as floats: out[count * cols]. With `inside` the part's scale is applied.
void DecodeRows(const PartData& part, int64_t row, int64_t count, bool inside, float* out);

// The same rows as GGUF stores them in `dtype`, exactly (see plan.h: the plan's type can hold them).
//   out: count rows of the type; scratch: count * cols floats.
void StoreRows(const PartData& part, int64_t row, int64_t count, tensor::DType dtype, bool inside,
               float* scratch, std::byte* out);

// The inverse of StoreRows: codes of Hugging Face from what GGUF stores.
//   stored: these rows only; out: count * row_bytes(). False: a number that no code gives.
bool RecoverRows(const PartData& part, int64_t row, int64_t count, tensor::DType dtype, bool inside,
                 const std::byte* stored, std::byte* out);

// Whether RecoverRows is sure to find every code again: no two codes of a block give one number.
bool Recoverable(const PartData& part, bool inside);

// NVFP4's block scales are all numbers without a sign, as GGUF's UE4M3.
bool FitsUe4m3(std::span<const std::byte> scales);

// NVFP4, GGUF's super-blocks of 64: the scales of one row, on the way back.
void Nvfp4Scales(const std::byte* stored, int64_t cols, uint8_t* scales);

// A vector's transform, to GGUF and back (numbers in double between, one rounding to float).
void TransformToGguf(model::Transform transform, std::span<float> values);
void TransformToHuggingFace(model::Transform transform, std::span<float> values);

}  // namespace lode::quant
