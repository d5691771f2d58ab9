// The gradients of the operations of ops.h: for each, what the loss feels of its inputs, from what
// it feels of its output. Letters: docs/SHAPES.md; a name with d in front is the gradient of the
// loss by that name.
//
// What flows back to activations is written (=), what gathers in parameters is added (+=), unless a
// line says otherwise. Sums have one order that depends on neither threads nor instruction set, as
// in ops.h: over rows ascending, or in the fixed tiles named below, so a training step has the same
// bits on any number of threads. Rounding of inputs in the forward pass counts as identity.
// Products need nothing of their own: PackTransposed makes the matrices of which ops.h's MatMul
// computes dX = dY W and dW = dY^T X.
// Oracles: ref/grad.h, which finite differences in double hold.
// Errors: none at run time. Threads: one call at a time; they split outputs only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/ops.h"
#include "kernels/panel.h"

namespace lode::kernels {

// --- Products -----------------------------------------------------------------------------------

// m [rows, cols] with stride, packed as the weight m^T (cols outputs of rows inputs each) into
// `out`, 64-byte aligned, of PackedMatrixBytes(cols, rows). kF32 or kBF16 (rounded).
// For dX = dY W give it W; for dW = dY^T X give it X and multiply dY^T.
Weight PackTransposed(Context& context, const float* m, int64_t stride, int64_t rows, int64_t cols,
                      tensor::DType type, std::byte* out);
// The same without the transposition: the weight m (rows outputs of cols inputs).
Weight PackRows(Context& context, const float* m, int64_t stride, int64_t rows, int64_t cols,
                tensor::DType type, std::byte* out);
uint64_t PackedMatrixBytes(int64_t outputs, int64_t inputs, tensor::DType type);

// y [cols, rows] = x [rows, cols]^T
void Transpose(Context& context, const float* x, int64_t x_stride, int64_t rows, int64_t cols,
               float* y, int64_t y_stride);

// dh = dy * 2 sqrt(a), of a = max(h, 0)^2; in place in dy [count].
void ReluSquaredBackward(Context& context, const float* a, int64_t count, float* dy);

// --- Norms and pointwise ------------------------------------------------------------------------

// Of ops.h's RmsNorm: with r = 1 / rms(x) and g = dy w, dx += r g - r^3 x (g . x) / D;
// dw[d] += sum_t dy x r. `inverse` is room for rows.
void RmsNormBackward(Context& context, const float* x, int64_t x_stride, const float* w, float eps,
                     const float* dy, int64_t dy_stride, int64_t rows, int64_t width, float* dx,
                     int64_t dx_stride, float* dw, float* inverse);

// Of ops.h's GatedRmsNorm with y from before it; dout [T, width] is replaced by dy, dz has its own
// stride. `inverse` is room for rows * groups; scratch of a thread: a group.
void GatedRmsNormBackward(Context& context, const float* y, int64_t y_stride, const float* z,
                          int64_t z_stride, const float* w, float eps, int64_t rows, int64_t width,
                          int64_t groups, float* dout, int64_t dout_stride, float* dz,
                          int64_t dz_stride, float* dw, float* inverse);

// dx = dy sigmoid(x + bias); dbias += sum_t dx.
void SoftplusBackward(Context& context, const float* x, int64_t x_stride, const float* bias,
                      const float* dy, int64_t dy_stride, int64_t rows, int64_t width, float* dx,
                      int64_t dx_stride, float* dbias);

// --- Mamba-2 ------------------------------------------------------------------------------------

// Of ops.h's CausalConvSilu for sequences that begin with nothing before them. dw [K, C].
void CausalConvSiluBackward(Context& context, std::span<const RowRange> sequences, const float* x,
                            int64_t x_stride, const float* w, const float* bias, int64_t taps,
                            int64_t channels, const float* dout, int64_t dout_stride, float* dx,
                            int64_t dx_stride, float* dw, float* dbias);

// Of ops.h's SelectiveScan for sequences that begin with a zero state. Chunks of kScanChunk tokens
// are products of small matrices; the states at their borders are computed again. dx | db | dc are
// views of one matrix with dxbc_stride, ddt [T, H], da and dd [H].
// Threads: a (sequence, group) each; da and dd in the order of the sequences.
// Source: Dao & Gu 2024, section 6, differentiated; the sums that da needs have only decays below
// one in them.
constexpr int64_t kScanChunk = 32;
struct ScanGradients {
  float *dx, *db, *dc;
  int64_t dxbc_stride;
  float* ddt;  // [T, H]
  float *da, *dd;
};
// Scratch of a thread; room that all share, for `sequences` of at most so many rows.
int64_t ScanBackwardScratchFloats(const ScanShape& shape, int64_t rows_max);
int64_t ScanBackwardSharedFloats(const ScanShape& shape, int64_t sequences);
void SelectiveScanBackward(Context& context, const ScanShape& shape,
                           std::span<const RowRange> sequences, const float* x, const float* b,
                           const float* c, int64_t xbc_stride, const float* dt, int64_t dt_stride,
                           const float* a, const float* d, const float* dy, int64_t dy_stride,
                           float* shared, const ScanGradients& out);

// --- Attention ----------------------------------------------------------------------------------

// Of ops.h's Attention for sequences that begin at position 0; all in f32 whatever the cache rounds
// to. `out` is what the forward pass made. dq, dk, dv with strides.
// Threads: a (sequence, kv head) each, its query heads in order, tiles ascending.
// Source: Dao et al. 2022, algorithm 4.
struct AttentionGradients {
  float* dq;
  float *dk, *dv;
  int64_t dq_stride, dkv_stride;
};
int64_t AttentionBackwardScratchFloats(const AttentionShape& shape, int64_t rows_max);
void AttentionBackward(Context& context, const AttentionShape& shape,
                       std::span<const RowRange> sequences, const float* q, int64_t q_stride,
                       const float* k, const float* v, int64_t kv_stride, const float* out,
                       int64_t out_stride, const float* dout, int64_t dout_stride,
                       const AttentionGradients& gradients);

// --- Mixture of experts -------------------------------------------------------------------------

struct RouterShape {
  int64_t experts, top_k;
  bool normalize;
  double scale;
};
// Of RouteTopK, the choice being constant: dlogits [T, E], zero where nothing was chosen. With
// alpha > 0 the gradient of the balancing loss of each sequence besides (Wang et al. 2024):
//   alpha E / (top_k T^2) sum_e count_e sum_t s_te / sum_e' s_te'
// whose value it returns.
double RouteBackward(Context& context, const RouterShape& shape,
                     std::span<const RowRange> sequences, const float* logits,
                     const int32_t* expert_ids, const float* dweights, double alpha,
                     float* dlogits);

// Of CombineExperts: dx[row_of[t, s]] = weights[t, s] dy[t]; each row belongs to one slot.
void CombineExpertsBackward(Context& context, const int32_t* row_of, const float* weights,
                            const float* dy, int64_t dy_stride, int64_t rows, int64_t top_k,
                            int64_t width, float* dx, int64_t dx_stride);
// dweights[t, s] = x[row_of[t, s]] . dy[t], in 16 lanes as the norms.
void SlotDots(Context& context, const float* x, int64_t x_stride, const float* dy,
              int64_t dy_stride, const int32_t* row_of, int64_t rows, int64_t top_k, int64_t width,
              float* dweights);
// y[t] = sum over the slots ascending of x[row_of[t, s]]; added with `add`.
void GatherSum(Context& context, const float* x, int64_t x_stride, const int32_t* row_of,
               int64_t rows, int64_t top_k, int64_t width, bool add, float* y, int64_t y_stride);

// --- Embedding and loss -------------------------------------------------------------------------

// dtable[token_t] += dx_t, rows ascending.
void EmbedBackward(Context& context, std::span<const int32_t> tokens, const float* dx,
                   int64_t dx_stride, int64_t width, float* dtable);

// Of rows of logits [T, V], in place: log_probabilities[t] = log softmax(logits_t)[target_t], then
// logits_t becomes coefficient_t (softmax(logits_t) - onehot(target_t)), the gradient of
// - sum_t coefficient_t log p_t. entropies, if wanted, are of the softmax. NaN stays NaN.
// 16 lanes, as the norms; sums in f32 over exp of differences.
void CrossEntropy(Context& context, float* logits, int64_t rows, int64_t vocabulary,
                  const int32_t* targets, const float* coefficients, float* log_probabilities,
                  float* entropies);

}  // namespace lode::kernels
