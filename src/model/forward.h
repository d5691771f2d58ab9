// The network, run: embed; for each layer x += block(norm(x), state); norm; head. Rows of many
// sequences go through together, and no row's bits depend on its company (kernels/ops.h).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "base/thread_pool.h"
#include "kernels/ops.h"
#include "model/bind.h"
#include "model/buffers.h"
#include "model/state.h"

namespace lode::model {

// What the blocks of one layer write.
struct LayerBuffers {
  float* u = nullptr;        // [R, D] normed input; [R, 2 D] for the MTP head's concatenation
  float* wide = nullptr;     // [R, widest projection]
  float* mixed = nullptr;    // [R, widest block output before its last projection]
  float* conv = nullptr;     // [R, C]
  float* dt = nullptr;       // [R, heads]
  float* latent = nullptr;   // [R, latent or D]
  float* router = nullptr;   // [R, E]
  float* slot_weights = nullptr;  // [R, top_k]
  int32_t* expert_ids = nullptr;  // [R, top_k]
  int32_t* slot_rows = nullptr;   // [R, top_k]
  float* gathered = nullptr;      // [R top_k, X]
  float* expert_mid = nullptr;    // [R top_k, F]
  float* expert_out = nullptr;    // [R top_k, X]
  // Of a Mamba layer before its gated norm, [R, inner], where somebody wants it (model/backward.h).
  float* scanned = nullptr;
};

// And what goes from layer to layer.
struct PassBuffers : LayerBuffers {
  float* x = nullptr;       // [R, D] residual stream
  float* hidden = nullptr;  // [R, D] after the final norm
};

// All the memory that a forward pass of up to `rows_max` rows needs, taken once.
// Life: belongs to one Runner. Threads: one pass at a time.
class Workspace : public PassBuffers {
 public:
  Workspace(const ModelSpec& spec, const Numerics& numerics, int64_t rows_max, int threads);
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // What the constructor takes, to the byte.
  static uint64_t Bytes(const ModelSpec& spec, const Numerics& numerics, int64_t rows_max,
                        int threads);
  // Scratch that each thread needs for this model, and what all share for inputs of products.
  static int64_t ScratchFloats(const ModelSpec& spec, const Numerics& numerics, int64_t rows_max);
  static int64_t ActivationBytes(const ModelSpec& spec, const Numerics& numerics, int64_t rows_max);

  int64_t rows_max = 0;

 private:
  AlignedMemory memory_;
};

// What one forward pass computes.
struct Batch {
  std::span<const int32_t> tokens;           // flat, rows of all sequences; ids < V (checked by the caller)
  std::span<const SequenceView> sequences;
  // Rows whose logits are wanted, ascending, and where: logits [n, V].
  std::span<const int32_t> logit_rows;
  float* logits = nullptr;
};

// Sees the inputs of every matrix product before it is computed: what calibration counts.
// Threads: called by the owner, between regions of work.
class InputObserver {
 public:
  virtual ~InputObserver() = default;
  // x [rows, weight.cols] with its stride, before any rounding. One expert at a time.
  virtual void Inputs(const Weight& weight, const float* x, int64_t x_stride, int64_t rows) = 0;
};

struct BlockRun;

// Where a Mamba layer's state lies: offsets in a slot, and in a trial of one row.
struct Mamba2Place {
  int64_t conv, state, trial;
};

// A model with the means to run it.
// Life: model and pool outlive it. Threads: one call at a time.
class Runner {
 public:
  Runner(const Model& model, const Numerics& numerics, ThreadPool* pool, int64_t rows_max);

  // Afterwards workspace().hidden has the rows after the final norm, which the MTP head takes.
  void Forward(const Batch& batch);

  // The head for rows [n, D] after the final norm, not of workspace(): logits [n, V], the bits that
  // Forward gives them.
  void Head(const float* hidden, int64_t rows, float* logits);

  // The rows that the sequences have to replay, and nothing else: their slots catch up.
  void Replay(std::span<const SequenceView> sequences);

  // The MTP head for rows with hidden states (after the final norm) [T, D] and the token that
  // follows each: fills its pages, leaves its own hidden in workspace().hidden, writes logits like
  // Forward. The position of a row is that of its hidden state.
  void MtpForward(const float* hidden, const Batch& batch);

  // nullptr: nobody looks. Use it with f32 activations, where inputs are what the model says.
  void Observe(InputObserver* observer) { observer_ = observer; }

  // One layer of the trunk on the rows in workspace().x, as Forward runs it.
  void ForwardLayer(int64_t index, int64_t rows, std::span<const SequenceView> sequences);

  // Called before every layer and before the head, when no kernel runs: a place to exchange weights
  // for others of the same value.
  void BetweenLayers(std::function<void()> hook) { between_layers_ = std::move(hook); }

  const Model& model() const { return model_; }
  const Numerics& numerics() const { return numerics_; }
  const StateLayout& layout() const { return layout_; }
  Workspace& workspace() { return workspace_; }
  int64_t rows_max() const { return workspace_.rows_max; }
  kernels::Context& kernels() { return context_; }
  StackMemory& memory() { return context_.memory(); }

 private:
  BlockRun RunOf(int64_t rows, std::span<const SequenceView> sequences);
  Mamba2Place PlaceOf(size_t layer) const;
  void RunLayer(const Layer& layer, int64_t index, bool mtp, int64_t rows,
                std::span<const SequenceView> sequences);
  void Logits(const Batch& batch);
  void HeadOfU(int64_t rows, float* logits);

  const Model& model_;
  Numerics numerics_;
  StateLayout layout_;
  Workspace workspace_;
  kernels::Context context_;
  InputObserver* observer_ = nullptr;
  std::function<void()> between_layers_;
};

// What the blocks see of a running pass.
struct BlockRun {
  kernels::Context& kernels;
  Workspace& work;
  const Numerics& numerics;
  int64_t rows;
  std::span<const SequenceView> sequences;
  float epsilon;
  InputObserver* observer;

  // All products of the model go through here. Native weights get native precision; with `exact`
  // the inputs are never rounded.
  void MatMul(std::span<const kernels::MatMulJob> jobs, bool exact = false);
  void MatMul(const kernels::MatMulJob& job, bool exact = false) { MatMul({&job, 1}, exact); }

  bool native() const { return numerics.activations == Activations::kNative; }
  bool bf16() const { return numerics.activations == Activations::kBF16; }
  void Round(float* data, int64_t count) {
    if (bf16()) kernels::RoundToBF16(kernels, data, count);
  }
};

// x[t] = the embedding's row of tokens[t].
void EmbedForward(kernels::Context& kernels, const Weight& embedding,
                  std::span<const int32_t> tokens, float* x, int64_t x_stride);

// Each reads its normed input in work.u [rows, D] and adds its output to work.x.
void Mamba2Forward(BlockRun& run, const Mamba2Spec& spec, const Mamba2Weights& weights,
                   const Mamba2Place& place, int64_t width);
// Its middle: convolution and scan, from work.wide (after the projection) to work.mixed.
void Mamba2Recurrence(BlockRun& run, const Mamba2Spec& spec, const Mamba2Weights& weights,
                      const Mamba2Place& place);
void AttentionForward(BlockRun& run, const AttentionSpec& spec, const AttentionWeights& weights,
                      int64_t page_offset, bool mtp, int64_t width);
void MlpForward(BlockRun& run, const MlpSpec& spec, const MlpWeights& weights, int64_t width);
void MoeForward(BlockRun& run, const MoeSpec& spec, const MoeWeights& weights, int64_t width);

}  // namespace lode::model
