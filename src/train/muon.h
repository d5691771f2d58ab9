// Muon: the matrices between layers move along their momentum made orthogonal, so that every
// direction of a matrix learns at one pace. Embedding, head, routers and vectors are AdamW's
// (optimizer.h), and both share one schedule: an update here has the size of one there.
//   m = mu m + (1 - mu) g;  u = mu m + (1 - mu) g;  X0 = u / |u|
//   5 times: A = X X^T; X = a X + (b A + c A^2) X;  w = w (1 - rate decay) - rate 0.2 sqrt(n) X
// with n the longer side. Each expert of a stack is a matrix of its own.
// Source: Jordan et al. 2024 (method, a, b, c); Liu et al. 2025 (the factor 0.2 sqrt(n)).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/ops.h"
#include "train/parameters.h"

namespace lode::train {

struct MuonOptions {
  double momentum = 0.95;
  double weight_decay = 0.1;
};

// Life: parameters, pool and momentum outlive it. Threads: one owner; the same bits on any number.
class Muon {
 public:
  // Whether a parameter is one of its matrices.
  static bool Moves(const Parameter& parameter) { return parameter.between_layers; }

  // `momentum`: m of all parameters in their order; only those of its matrices are used.
  Muon(std::span<Parameter> parameters, ThreadPool* pool, std::span<float> momentum,
       const MuonOptions& options);

  // One step at `rate`, with gradients times `scale`. Parameters are not published.
  void Update(double rate, double scale);

  // What it takes beside the momentum, to the byte.
  static uint64_t Bytes(const model::ModelSpec& spec, int threads);

 private:
  // Wide side across: [rows, cols] with rows <= cols.
  struct Matrix {
    const Parameter* parameter;
    std::span<float> momentum;
    int64_t rows, cols;
    bool turned;  // the parameter is [cols, rows]
  };
  // Matrices of one shape that go through their products side by side.
  using Group = std::vector<Matrix>;

  using Shape = std::pair<int64_t, int64_t>;  // the shorter side first
  struct Sizes {
    size_t floats = 0, squares = 0, panels = 0;
    int64_t rows = 1;
  };
  static Sizes SizesOf(const std::map<Shape, size_t>& counts);

  void Iterate(const Group& group);
  void Begin(const Matrix& matrix, float scale, float* x) const;
  void Move(const Matrix& matrix, double rate, const float* x) const;

  ThreadPool* pool_;
  MuonOptions options_;
  std::vector<Group> groups_;
  std::unique_ptr<kernels::Context> kernels_;
  std::vector<float> x_, y_, a_, b_;  // of a group, matrix after matrix
  std::vector<float> panels_;         // with room to begin at a multiple of 64 bytes
};

}  // namespace lode::train
