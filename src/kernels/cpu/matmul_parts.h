// The parts of a matrix product that matmul.cc and experts.cc put together.
#pragma once

#include <cstdint>

#include "kernels/cpu/panels.h"
#include "kernels/ops.h"

namespace lode::kernels {

// --- matmul_decode.cc: f32 products with the weight as it lies ----------------------------------

int64_t DecodedScratchFloats(int64_t rows);
// Panel `panel` of job.weight for all tokens, epilogue included.
void RunDecodedPanel(const MatMulJob& job, int64_t panel, float* scratch);
// Only the epilogue: sums [T][32] of the panel's rows -> job.y.
void FinishPanel(const MatMulJob& job, int64_t panel, const float* sums);

// --- activations.cc: inputs in the form that panels want ----------------------------------------

// Token j of a tile of m (panels.h): all blocks of 32 columns of x [cols], the last one padded with
// zeros. NaN or infinity in a block make its scale NaN.
void QuantizeToken(const float* x, int64_t cols, bool wide, int64_t m, int64_t j, uint8_t* tile);
// x [cols] -> bfloat16 [count], zeros behind cols; with `low` also what rounding left over.
void ToBF16Row(const float* x, int64_t cols, int64_t count, uint16_t* high, uint16_t* low);
// max(c * scale, 0)^2 of 32 sums in place: the epilogue of an expert's first product.
void ReluSquaredScaled(float* sums, const float* row_scales, float scale);
// y[i] = fma(weight, c[i] * scale, y[i]) for i < count
void AddWeighted(const float* c, const float* row_scales, float scale, float weight, int64_t count,
                 float* y);

// --- panel_run.cc: one panel times all tiles ----------------------------------------------------

// Inputs of one product, ready: tiles of integers, or rows of bfloat16.
struct PanelInput {
  const uint8_t* tiles = nullptr;  // tile t begins at TileBegin(...) * bytes of a token
  const uint16_t* rows = nullptr;
  int64_t stride = 0;      // bf16: between tokens, in numbers
  int64_t low_offset = 0;  // bf16, wide
  bool wide = false;
  int64_t tokens = 0;
};

// Scratch for a panel of a weight that is not packed, in floats.
constexpr int64_t kPanelScratchFloats = 10240;

// sums [tokens][32] = panel `panel` of the weight times the input, without the weight's scale.
//   scratch: kPanelScratchFloats. Any PanelFormat but kNone.
void RunPanelProduct(const PanelKernels& kernels, const Weight& weight, PanelFormat format,
                     int64_t panel, const PanelInput& input, float* scratch, float* sums);

// The same of a packed weight whose format TakesFloats: x [tokens, cols] with stride.
void RunFloatPanel(const PanelKernels& kernels, const Weight& weight, PanelFormat format,
                   int64_t panel, const float* x, int64_t x_stride, int64_t tokens, float* sums);

}  // namespace lode::kernels
