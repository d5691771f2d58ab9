// The gradients of a forward pass: backward through every layer of a trunk whose inputs a Tape
// kept. The forward pass is the runtime's own (model/forward.h), so what is trained is what will be
// run, to the bit. Of each product X W^T the backward pass takes dX = dY W and dW += dY^T X, with
// the same kernel. All sums have one order, whatever the number of threads (kernels/grad.h).
// Not here: the MTP head, and matrices that are quantized.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/grad.h"
#include "model/forward.h"

namespace lode::model {

// A matrix on the way back: what it gathers, and its transpose in panels, through which gradients
// flow on.
struct MatrixGrad {
  Weight turned;        // [cols, rows]
  float* dw = nullptr;  // [rows, cols]; nullptr: frozen
};

// What a layer's parameters gather, by the names of model/bind.h; vectors as the model has them
// (conv [K, C]; a, not its logarithm).
struct Mamba2Grad {
  MatrixGrad in, out;
  float *conv = nullptr, *conv_bias = nullptr, *a = nullptr, *d = nullptr, *dt_bias = nullptr;
  float* norm = nullptr;
};
struct AttentionGrad {
  MatrixGrad query, key, value, out;
};
struct MlpGrad {
  MatrixGrad up, down;
};
struct MoeGrad {
  MatrixGrad router;
  std::vector<MatrixGrad> up, down;
  MatrixGrad shared_up, shared_down, latent_down, latent_up;
};
struct LayerGrad {
  float* norm = nullptr;
  Mamba2Grad mamba2;
  AttentionGrad attention;
  MlpGrad mlp;
  MoeGrad moe;
};
struct ModelGrad {
  float* embedding = nullptr;  // [V, D]; with a tied head the head's dw is the same
  MatrixGrad head;
  float* final_norm = nullptr;
  std::vector<LayerGrad> layers;
};

// What the forward pass of one layer left, and the stream before it.
struct LayerTape : LayerBuffers {
  float* x = nullptr;  // [R, D]
};

// Keeps what Runner::Forward computes. With `recompute` only the stream before each layer is kept,
// and the backward pass runs each layer again.
// Life: the runner outlives it; while it lives, every forward pass of the runner is kept, one at a
// time. Threads: the runner's.
class Tape {
 public:
  Tape(Runner* runner, int64_t rows_max, bool recompute);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  // What the constructor takes, to the byte.
  static uint64_t Bytes(const ModelSpec& spec, int64_t rows_max, bool recompute);

  // To be called before each Forward.
  void Begin(int64_t rows) { rows_ = rows, next_ = 0; }
  // Of layer `index` after Forward; with `recompute` it is run again now.
  const LayerTape& Layer(int64_t index, std::span<const SequenceView> sequences);

 private:
  void Keep();
  LayerBuffers& used() { return runner_->workspace(); }  // by the layer that runs

  Runner* runner_;
  bool recompute_;
  int64_t rows_ = 0;
  size_t next_ = 0;
  AlignedMemory memory_;
  std::vector<LayerTape> layers_;
  LayerBuffers own_;  // the workspace's
};

struct BackwardOptions {
  double balance = 0.0;       // of the balancing loss of routers (kernels/grad.h)
  bool router_frozen = false;  // gradients still flow through the experts' weights to the stream
  // If wanted: rows that each expert of each layer got are added here.
  std::vector<std::vector<int64_t>>* loads = nullptr;
};

// Life: as the runner's. Threads: one pass at a time.
class Backward {
 public:
  // For batches of at most `rows_max` rows in at most `sequences_max` sequences.
  Backward(Runner* runner, int64_t rows_max, int64_t sequences_max);
  ~Backward();

  static uint64_t Bytes(const ModelSpec& spec, int64_t rows_max, int64_t sequences_max,
                        int threads);

  // What the loss feels of the head's logits: for rows that ascend, coefficients c and targets, the
  // loss is - sum c log p(target). Writes each row's log-probability, gathers in the head, and sets
  // dhidden [R, D] (zero in the other rows). The logits are the runner's own, in pieces, so that
  // never all of them are in memory.
  //   hidden [R, D] after the final norm: workspace().hidden
  void Loss(std::span<const int32_t> rows, const int32_t* targets, const float* coefficients,
            int64_t all_rows, ModelGrad* grad, float* log_probabilities, float* entropies);

  // Only the log-probabilities, without any gradient.
  void LogProbabilities(std::span<const int32_t> rows, const int32_t* targets,
                        float* log_probabilities);

  // From dhidden down to the embedding. Returns the balancing losses' sum.
  double Run(std::span<const int32_t> tokens, std::span<const SequenceView> sequences, Tape* tape,
             const BackwardOptions& options, ModelGrad* grad);

 private:
  struct Space;
  // Logits of these rows of workspace().hidden, whose copies stay beside them.
  void LogitsOf(std::span<const int32_t> rows);

  Runner* runner_;
  std::unique_ptr<Space> space_;
};

}  // namespace lode::model
