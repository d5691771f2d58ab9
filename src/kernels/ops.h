// The contract of every operation, once. `ref/` computes it plainly, `cpu/` fast; the tables in
// `cases/` hold the two together. Letters: docs/SHAPES.md.
//
// Two rules hold for all of them:
//   * The order of every sum is written here and does not depend on how many rows are computed
//     together, on threads, or on the instruction set (as long as it has a fused multiply-add). So
//     a token's bits are the same in any batch, in any chunk, on any number of threads.
//   * Threads split outputs only. Nobody adds into a place that another thread writes.
// Errors: none at run time; shapes are the caller's business and CHECKed where that is cheap.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/stack_memory.h"
#include "base/thread_pool.h"
#include "kernels/weight.h"

namespace lode::kernels {

// What the operations may use: threads, and a scratch area for each.
// Life: longer than any call. Threads: one call at a time.
class Context {
 public:
  // `scratch_floats`: the most that any operation to come asks for (the ...ScratchFloats below);
  // `activation_bytes`: the same of ...ActivationBytes, shared by all threads.
  Context(ThreadPool* pool, int64_t scratch_floats, int64_t activation_bytes = 0);
  ThreadPool& pool() { return *pool_; }
  // Inputs of products in the form that weights want; 64-byte aligned.
  std::byte* activations() { return reinterpret_cast<std::byte*>(activations_.get()); }
  int64_t activation_bytes() const { return activation_bytes_; }
  // For lists that live no longer than a call; the owner's.
  StackMemory& memory() { return memory_; }
  // 64-byte aligned, one for each thread of the pool.
  float* scratch(int thread) { return scratch_[static_cast<size_t>(thread)].get(); }
  static uint64_t ScratchBytes(int threads, int64_t scratch_floats, int64_t activation_bytes = 0);

 private:
  struct Free {
    void operator()(float* data) const;
  };
  ThreadPool* pool_;
  std::vector<std::unique_ptr<float, Free>> scratch_;
  std::unique_ptr<float, Free> activations_;
  int64_t activation_bytes_;
  StackMemory memory_;
};

// --- Matrix products ----------------------------------------------------------------------------

enum class Epilogue : uint8_t {
  kStore,        // y = sum
  kReluSquared,  // y = max(sum, 0)^2
  kAdd,          // y = y + sum
};

// How a product is computed.
enum class Precision : uint8_t {
  kF32,         // weights decoded to f32, inputs as they are: the reference
  kNative,      // in the form of the weight's type, below
  kNativeWide,  // the same with inputs of twice the precision, at twice the arithmetic: where memory
                // limits anyway and errors meet the answer directly (the output head)
};

// y[t, r] = epilogue(scale * sum)
//   x [T, cols] f32 with stride x_stride, y [T, rows] f32 with stride y_stride
// kF32, and types without a packed form (kernels/panel.h): sum over k ascending, from 0, in one f32
//   accumulator, each step one fused multiply-add of (f32(w[r, k]), x[t, k]).
// kNative, quantized types: x is rounded, for every 32 columns, to s * q with s = max|x| / 127 and
//   whole q; a block's products of codes and q are summed exactly, and
//     sum = fma(f32(block sum), s_w * s, sum), then, of types with a minimum, fma(m_w, s * sum(q),
//     sum)
//   in ascending blocks (of 16 columns where the type scales 16). kNativeWide: q has 16 bits.
// kNative, BF16 and FP8: x is rounded to bfloat16 (kNativeWide: and what is left, to a second one);
//   for each pair of columns ascending, fma(odd, odd, sum), then fma(even, even, sum); with the
//   second bfloat16 of the pair after the first. Subnormal inputs and results may count as zero.
// Source: docs/ARCHITECTURE.md, "orders of summation"; oracle ref/matmul.cc, bit for bit.
struct MatMulJob {
  const Weight* weight;
  const float* x;
  int64_t x_stride;
  float* y;
  int64_t y_stride;
  int64_t rows;  // T
  Epilogue epilogue = Epilogue::kStore;
  Precision precision = Precision::kF32;
};

// Scratch of a thread for products of up to `rows` rows.
int64_t MatMulScratchFloats(int64_t rows);
// Of one input that products share; inputs of one call add up.
int64_t MatMulActivationBytes(int64_t rows, int64_t cols, Precision precision);

// All jobs in one parallel region; they must not write to one another's inputs or outputs.
void MatMul(Context& context, std::span<const MatMulJob> jobs);

// Rounds to bfloat16 (to nearest, ties to even) and back: x [count] f32, in place.
void RoundToBF16(Context& context, float* x, int64_t count);

// --- Norms and pointwise ------------------------------------------------------------------------

// y[t, d] = (x[t, d] * r) * w[d], r = 1 / sqrt(sum_d x^2 / D + eps)
// The sum of squares has 16 lanes (lane j takes d = j mod 16, ascending, fused), added as a tree of
// halves. Source: Zhang & Sennrich 2019.
void RmsNorm(Context& context, const float* x, int64_t x_stride, const float* w, float eps,
             int64_t rows, int64_t width, float* y, int64_t y_stride);

// Mamba-2's gated norm: v = y * silu(z); per group of width/groups channels v * r; times w. In
// place in y [T, width]; z with its own stride. Source: Dao & Gu 2024, norm after gate.
void GatedRmsNorm(Context& context, float* y, int64_t y_stride, const float* z, int64_t z_stride,
                  const float* w, float eps, int64_t rows, int64_t width, int64_t groups);

// y[t, d] += x[t, d]
void AddRows(Context& context, const float* x, int64_t x_stride, float* y, int64_t y_stride,
             int64_t rows, int64_t width);

// --- Mamba-2 ------------------------------------------------------------------------------------

// Some rows of one sequence inside a flat batch.
struct RowRange {
  int64_t begin;  // first row in the batch
  int64_t count;
};

// Depthwise causal convolution and SiLU over C channels:
//   out[t, c] = silu(fma over j = 0..K-1 ascending, from bias[c], of (w[j, c], x[t-(K-1)+j, c]))
// Rows before the first come from `source` [K-1, C]; afterwards `target` [K-1, C] holds the last
// K-1 raw rows. source and target may be the same or different (a fork reads one and writes another).
// With a replay, its raw rows come between `source` and the first row; they have no output. Without
// `keep` the rows leave no trace: target is where the replay left it, untouched if there was none.
//   x [T, C] with stride; w [K, C]; out [T, C] with stride
struct ConvSequence {
  RowRange rows;
  const float* source;
  float* target;
  const float* replay = nullptr;  // [replay_rows, C]
  int64_t replay_rows = 0;
  bool keep = true;
};
void CausalConvSilu(Context& context, std::span<const ConvSequence> sequences, const float* x,
                    int64_t x_stride, const float* w, const float* bias, int64_t taps,
                    int64_t channels, float* out, int64_t out_stride);

// dt[t, h] = softplus(x[t, h] + bias[h]) = max(v, 0) + log1p(exp(-|v|)); no clamp.
void Softplus(Context& context, const float* x, int64_t x_stride, const float* bias, int64_t rows,
              int64_t width, float* y, int64_t y_stride);

// The recurrence of one head, for t ascending:
//   dA = exp(dt * A);  h[n, p] = fma(h[n, p], dA, (dt * x[p]) * B[n]);
//   y[p] = fma(D, x[p], sum over n ascending, from 0, fused, of h[n, p] * C[n])
// State h: [H, N, Pp] f32 with Pp = P rounded up to 16 (the rest is zero). source may equal target.
//   x [T, H*P], B and C [T, G*N] (strided views of the convolved rows), dt [T, H], y [T, H*P]
// A replay's rows change the state before the first row does and have no output. Without `keep` the
// rows have outputs and leave no trace: target gets the state after the replay, and is untouched if
// there is none. So rows that may turn out wrong cost no second state (speculation: the rows that
// stand are replayed at the front of the next call).
// Source: Dao & Gu 2024; oracle ref/mamba2.cc.
struct ScanShape {
  int64_t heads, head_dim, groups, state;
};
inline int64_t PaddedHeadDim(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
struct ScanSequence {
  RowRange rows;
  const float* source;
  float* target;
  // Convolved rows x | B | C with the stride of x, B and C, and their dt with its stride.
  const float* replay = nullptr;
  const float* replay_dt = nullptr;
  int64_t replay_rows = 0;
  bool keep = true;
};
// Scratch of a thread, where some sequence has no `keep`.
int64_t ScanScratchFloats(const ScanShape& shape);
void SelectiveScan(Context& context, const ScanShape& shape,
                   std::span<const ScanSequence> sequences, const float* x, const float* b,
                   const float* c, int64_t xbc_stride, const float* dt, int64_t dt_stride,
                   const float* a, const float* d, float* y, int64_t y_stride);

// --- Attention ----------------------------------------------------------------------------------

constexpr int64_t kPageTokens = 128;        // tokens in a page of keys and values, and in a tile
constexpr int64_t kSpanTokens = 2048;       // tiles are merged inside spans, then spans
constexpr int64_t kKeyPanel = 32;           // keys that lie side by side in a page
constexpr int64_t kAttentionHeadDimMax = 4096;

// kF32 is the reference. kBF16 rounds queries, keys, values and probabilities to bfloat16. kInt8
// takes half of BF16's memory: each key and value has one scale, max / 127, and queries and
// probabilities are 8-bit integers, too.
enum class KvType : uint8_t { kF32, kBF16, kInt8 };
// Of one number; int8 has scales besides.
inline int64_t KvBytes(KvType type) {
  return type == KvType::kF32 ? 4 : type == KvType::kBF16 ? 2 : 1;
}

// A page holds, for one layer, with P the head_dim rounded up to what the type needs:
//   kF32   K as [kv head][4 panels][P][32 keys], then V as [kv head][128 keys][P]; P to 16
//   kBF16  [kv head] of K [4 panels][P / 2][32 keys][2], V [P / 32][64 key pairs][32][2]
//   kInt8  [kv head] of K + 128 [4 panels][P / 4][32 keys][4], V [P / 32][32 fours of keys][32][4],
//          f32 scales of K [128] and of V [128]
// P of K is rounded up to 2 or 4, of V to 32. A page need not be cleared: what lies behind the
// last row that was appended is never part of a result.
struct AttentionShape {
  int64_t heads, kv_heads, head_dim;
  KvType kv_type;
};
int64_t KvPageBytes(const AttentionShape& shape);

int64_t AttentionScratchFloats(const AttentionShape& shape);

struct AttentionSequence {
  RowRange rows;
  int64_t position;                   // of the first row, absolute in the sequence
  std::byte* const* pages;            // page i holds tokens [128 i, 128 i + 128)
  int64_t page_offset;                // where this layer's part of a page begins
};

// Appends the rows' keys and values to the pages, then
//   out[t, h] = softmax(q[t, h] . K / sqrt(head_dim)) V   over keys 0..position of t
// in tiles of 128 keys ascending: scores s; m = max; p = exp(s - m); l = 16-lane sum of p;
// O = sum over keys of p * v; then per tile
//   m' = max(m, m_t), a = exp(m - m'), b = exp(m_t - m')
//   O = fma(O, a, O_t * b), l = fma(l, a, l_t * b)
// first inside each span of 2048 keys, then span by span. out = O / l. By type:
//   kF32   sums over d and over keys ascending, fused, from 0
//   kBF16  the same in pairs, of each the odd number first: sum = fma(a1, b1, sum), then (a0, b0),
//          the order of the processors' dot product. s is multiplied by log2(e) / sqrt(P), and exp
//          is 2^(s - m), 0 below 2^-126. Subnormals: rounded to 0 on the way in; where a sum itself
//          is subnormal (below 1e-38), dot products flush it and fused multiply-adds do not.
//   kInt8  sums are exact integers; s is their product with (scale of q * log2(e) / sqrt(P)) *
//          scale of the key. p times the value's scale is rounded to 0..255 of the lane's largest
//          in the tile.
//          Error at a context of 2048, normal q, k and v, scores of deviation 2: 2.1 % of the
//          output's norm, BF16's 0.54 % (cases/attention_test.cc holds both to 3 and 0.6 %).
// Keys and values must be finite; those of later rows in the same call, too.
//   q [T, H*P], k and v [T, K*P], out [T, H*P]
// Threads: lanes (rows x heads) and spans of any sequence go to any thread.
// Source: Dao et al. 2022 (online softmax); oracle ref/attention.cc.
void Attention(Context& context, const AttentionShape& shape,
               std::span<const AttentionSequence> sequences, const float* q, int64_t q_stride,
               const float* k, const float* v, int64_t kv_stride, float* out, int64_t out_stride);

// --- Mixture of experts -------------------------------------------------------------------------

// s = sigmoid(logits[t, e]); the top_k experts by s + bias (ties: the lower id); their weights are
// s, divided by (their sum, in order of rank, + 1e-20) if `normalize`, times `scale`.
// Experts come out in ascending id, for this is the order in which they are summed.
//   logits [T, E] in; experts [T, top_k] int32, weights [T, top_k] f32 out; bias [E] or nullptr
// Source: Wang et al. 2024 (bias for selection only).
void RouteTopK(Context& context, const float* logits, const float* bias, int64_t rows,
               int64_t experts, int64_t top_k, bool normalize, float scale, int32_t* expert_ids,
               float* weights);

// The routed experts of a layer, in the native precision of their weights (MatMul above):
//   h = max(up_e x, 0)^2; y[t] = sum over the token's experts ascending, fused, from 0, of
//   weights[t, slot] * (down_e h); with `residual`, residual[t] += y[t] at the end
// One order for every batch size. x [T, X] with stride, y and residual [T, X'] with y_stride.
//   gathered: room for T top_k X bfloat16, mid: for T top_k F; context.activations(): X of T rows
// Source: Lepikhin et al. 2021 (grouped experts); bits compared with MatMul.
struct ExpertsJob {
  std::span<const Weight> up, down;  // by expert; all of one type each, with a packed form
  const float* x;
  int64_t x_stride;
  int64_t rows;  // T
  const int32_t* expert_ids;  // [T, top_k]
  const float* weights;       // [T, top_k]
  int64_t top_k;
  float* y;
  int64_t y_stride;
  float* residual;  // nullptr: none
  uint8_t* gathered;
  uint8_t* mid;
};
bool CanRunExperts(std::span<const Weight> up, std::span<const Weight> down);
void RoutedExperts(Context& context, const ExpertsJob& job);

// y[t, d] = sum over the token's slots ascending, fused, from 0, of
//   weights[t, slot] * x[row_of[t, slot], d]
void CombineExperts(Context& context, const float* x, int64_t x_stride, const int32_t* row_of,
                    const float* weights, int64_t rows, int64_t top_k, int64_t width, float* y,
                    int64_t y_stride);

}  // namespace lode::kernels
