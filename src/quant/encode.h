// Floats into stored weights with the least error: for every block a search for the scale (and
// minimum) by weighted least squares. What the numbers mean is tensor/blocks.h, which also rounds
// simply; this is what `lode quantize` writes.
//
// The error of a row is sum over columns of importance (x - decoded)^2. The importance of a column
// is the mean square of what it is multiplied with, as calibration measures it: then this is the
// expected square error of the product, as far as columns are independent. Without one all columns
// count alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace lode::quant {

struct EncodeOptions {
  // NVFP4: the largest element of a block may also be mapped to 4 (and what lies between); false:
  // to 6 always, as the plain recipe has it.
  bool four_over_six = true;
};

// Whether EncodeRows can write the type: every type of weights.
bool CanQuantize(tensor::DType dtype);

// Encodes `rows` rows of `cols` numbers.
//   importance: [cols], as Importance() made it, or nullptr; tensor_scale: what all numbers are
//   divided by first (it is stored beside the tensor; 1 for types without one); out: whole blocks.
// The same bytes on every machine and for any split into rows. Zero, NaN and infinity give valid
// blocks. Errors: none; cols must be whole blocks (checked). Threads: any; no state.
void EncodeRows(tensor::DType dtype, const float* x, int64_t rows, int64_t cols,
                const float* importance, float tensor_scale, const EncodeOptions& options,
                std::byte* out);

// The scale of a whole tensor for NVFP4 and FP8, from its largest magnitude; 1 for other types.
float TensorScale(tensor::DType dtype, float largest);

// Raw mean squares made fit to weigh errors: mean 1, and no column below a small floor, for a
// column that calibration never saw moving may move yet. Empty when all are zero or one is no
// number.
std::vector<float> Importance(std::span<const float> mean_squares);

}  // namespace lode::quant
