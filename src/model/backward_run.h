// What the blocks see of a running backward pass. Only for model/backward.cc and the blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/backward.h"

namespace lode::model {

// One product of the forward pass, y = x W^T, on the way back.
struct LinearGrad {
  const float* x;
  int64_t x_stride;
  const float* dy;
  int64_t dy_stride;
  int64_t rows;
  int64_t inputs, outputs;
  const MatrixGrad* grad;
  float* dx = nullptr;  // nullptr: nobody wants it
  int64_t dx_stride = 0;
  bool add = false;  // to dx
};

// Gradients that blocks pass among themselves, sized for the widest layer.
struct BackwardBuffers {
  float* dx = nullptr;      // [R, D] of the stream: what comes in and what goes out
  float* du = nullptr;      // [R, D] of the block's normed input
  float* dwide = nullptr;   // as Workspace::wide
  float* dmixed = nullptr;  // as Workspace::mixed
  float* dconv = nullptr;   // [R, C]
  float* ddt = nullptr;     // [R, heads]
  float* da = nullptr;      // [heads]
  float* latent = nullptr;  // [R, X]
  float* router = nullptr;  // [R, E]
  float* slots = nullptr;   // [R, top_k]
  float* gathered = nullptr, *mid = nullptr, *out = nullptr;  // of experts, by slot
  float* inverse = nullptr;  // [R, groups]
  float* shared = nullptr;   // of the scan
  float* turned = nullptr;   // transposes of dy
  std::byte* packed = nullptr;  // inputs in panels
  float* logits = nullptr;      // [rows of a piece, V] of the loss
  float* hidden = nullptr;      // [rows of a piece, D]
  int64_t turned_floats = 0;
  uint64_t packed_bytes = 0;
};

struct BackwardRun {
  kernels::Context& kernels;
  BackwardBuffers& work;
  const LayerTape& tape;
  const BackwardOptions& options;
  int64_t rows;
  int64_t width;
  std::span<const kernels::RowRange> sequences;
  float epsilon;
  kernels::KvType kv;
  std::vector<int64_t>* loads = nullptr;  // of the layer's experts
  double balance_loss = 0.0;

  // dx (=, or += with `add`) dy W and dw += dy^T x of every product, in one region of work; none
  // may write what another reads or writes.
  void Linear(std::span<const LinearGrad> products);
  void Linear(const LinearGrad& product) { Linear({&product, 1}); }
};

// Each takes dx [R, D], what the loss feels of the block's output, and sets du, what it feels of
// the block's normed input.
void Mamba2Backward(BackwardRun& run, const Mamba2Spec& spec, const Mamba2Weights& weights,
                    const Mamba2Grad& grad);
void AttentionBackward(BackwardRun& run, const AttentionSpec& spec, const AttentionGrad& grad);
void MlpBackward(BackwardRun& run, const MlpSpec& spec, const MlpGrad& grad);
void MoeBackward(BackwardRun& run, const MoeSpec& spec, const MoeGrad& grad);

}  // namespace lode::model
