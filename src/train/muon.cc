#include "train/muon.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "kernels/grad.h"
#include "model/tensors.h"

namespace lode::train {
namespace {

using kernels::MatMulJob;
using kernels::Weight;

constexpr int kIterations = 5;
constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;
// Numbers of a group's matrices: enough work for a region, little memory.
constexpr int64_t kGroupFloats = 1 << 22;
constexpr size_t kPiece = 1 << 14;
constexpr tensor::DType kType = tensor::DType::kF32;

size_t PanelFloats(int64_t outputs, int64_t inputs) {
  return (kernels::PackedMatrixBytes(outputs, inputs, kType) + 63) / 64 * 16;
}
// Of X or of X^T, whichever is more.
size_t PanelFloatsOf(int64_t rows, int64_t cols) {
  return std::max(PanelFloats(rows, cols), PanelFloats(cols, rows));
}

size_t GroupSize(const std::pair<int64_t, int64_t>& shape) {
  return static_cast<size_t>(std::max<int64_t>(1, kGroupFloats / (shape.first * shape.second)));
}

// y = factor x
void Scale(ThreadPool* pool, float factor, std::span<const float> x, float* y) {
  const size_t pieces = (x.size() + kPiece - 1) / kPiece;
  pool->Run(static_cast<int64_t>(pieces), [&](int64_t piece, int) {
    const size_t begin = static_cast<size_t>(piece) * kPiece;
    const size_t end = std::min(x.size(), begin + kPiece);
    for (size_t i = begin; i < end; ++i) y[i] = factor * x[i];
  });
}

}  // namespace

Muon::Sizes Muon::SizesOf(const std::map<Shape, size_t>& counts) {
  Sizes sizes;
  for (const auto& [shape, count] : counts) {
    const auto [rows, cols] = shape;
    const size_t most = std::min(count, GroupSize(shape));
    sizes.floats = std::max(sizes.floats, most * static_cast<size_t>(rows * cols));
    sizes.squares = std::max(sizes.squares, most * static_cast<size_t>(rows * rows));
    sizes.panels = std::max(sizes.panels, most * PanelFloatsOf(rows, cols) + 16);
    sizes.rows = std::max(sizes.rows, rows);
  }
  return sizes;
}

Muon::Muon(std::span<Parameter> parameters, ThreadPool* pool, std::span<float> momentum,
           const MuonOptions& options)
    : pool_(pool), options_(options) {
  std::map<Shape, Group> shapes;
  std::map<Shape, size_t> counts;
  size_t at = 0;
  for (const Parameter& p : parameters) {
    const std::span<float> own = momentum.subspan(at, p.value.size());
    at += p.value.size();
    if (!Moves(p)) continue;
    const int64_t rows = p.shape.front(), cols = p.shape.back();
    const Shape shape = std::minmax(rows, cols);
    shapes[shape].push_back({&p, own, shape.first, shape.second, rows > cols});
    ++counts[shape];
  }
  for (const auto& [shape, all] : shapes) {
    const size_t size = GroupSize(shape);
    for (size_t first = 0; first < all.size(); first += size) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
      const size_t count = std::min(size, all.size() - first);
      groups_.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(count));
    }
  }
  const Sizes sizes = SizesOf(counts);
  x_.resize(sizes.floats);
  y_.resize(sizes.floats);
  a_.resize(sizes.squares);
  b_.resize(sizes.squares);
  panels_.resize(sizes.panels);
  kernels_ = std::make_unique<kernels::Context>(pool, kernels::MatMulScratchFloats(sizes.rows));
}

uint64_t Muon::Bytes(const model::ModelSpec& spec, int threads) {
  std::map<Shape, size_t> counts;
  for (const model::TensorSlot& slot : model::ListTensors(spec)) {
    if (!IsBetweenLayers(slot)) continue;
    counts[std::minmax(slot.shape.front(), slot.shape.back())] +=
        static_cast<size_t>(std::max<int64_t>(1, slot.experts));
  }
  const Sizes sizes = SizesOf(counts);
  return (2 * sizes.floats + 2 * sizes.squares + sizes.panels) * sizeof(float) +
         kernels::Context::ScratchBytes(threads, kernels::MatMulScratchFloats(sizes.rows));
}

void Muon::Update(double rate, double scale) {
  for (const Group& group : groups_) {
    const auto size = static_cast<size_t>(group.front().rows * group.front().cols);
    pool_->Run(std::ssize(group), [&](int64_t i, int) {
      const auto at = static_cast<size_t>(i);
      Begin(group[at], static_cast<float>(scale), x_.data() + at * size);
    });
    for (int i = 0; i < kIterations; ++i) Iterate(group);
    pool_->Run(std::ssize(group), [&](int64_t i, int) {
      const auto at = static_cast<size_t>(i);
      Move(group[at], rate, x_.data() + at * size);
    });
  }
}

// X0: the momentum with this step's gradient, of norm 1.
void Muon::Begin(const Matrix& matrix, float scale, float* x) const {
  const auto mu = static_cast<float>(options_.momentum);
  const std::span<const float> gradient = matrix.parameter->gradient;
  double square = 0.0;
  for (size_t i = 0; i < gradient.size(); ++i) {
    const float part = (1.0f - mu) * scale * gradient[i];
    matrix.momentum[i] = mu * matrix.momentum[i] + part;
    const float u = mu * matrix.momentum[i] + part;
    square += static_cast<double>(u) * u;
  }
  const auto inverse = static_cast<float>(1.0 / (std::sqrt(square) + 1e-12));
  const auto rows = static_cast<size_t>(matrix.rows), cols = static_cast<size_t>(matrix.cols);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) {
      const size_t i = matrix.turned ? c * rows + r : r * cols + c;
      const float u = mu * matrix.momentum[i] + (1.0f - mu) * scale * gradient[i];
      x[r * cols + c] = inverse * u;
    }
  }
}

// X = a X + (b A + c A^2) X with A = X X^T, for all matrices of the group.
void Muon::Iterate(const Group& group) {
  const int64_t rows = group.front().rows, cols = group.front().cols;
  const size_t count = group.size();
  const auto size = static_cast<size_t>(rows * cols), square = static_cast<size_t>(rows * rows);
  const auto address = reinterpret_cast<uintptr_t>(panels_.data());
  float* panels = panels_.data() + (64 - address % 64) % 64 / sizeof(float);
  const size_t each = PanelFloatsOf(rows, cols);
  std::vector<Weight> weights(count);
  std::vector<MatMulJob> jobs(count);
  const auto multiply = [&](const float* x, int64_t inputs, size_t x_size, float* y,
                            int64_t outputs, size_t y_size, kernels::Epilogue epilogue) {
    for (size_t i = 0; i < count; ++i) {
      jobs[i] = {&weights[i], x + i * x_size, inputs, y + i * y_size, outputs, rows, epilogue};
    }
    kernels::MatMul(*kernels_, jobs);
  };
  const auto pack = [&](const float* m, int64_t inputs, size_t m_size, auto packer) {
    for (size_t i = 0; i < count; ++i) {
      auto* out = reinterpret_cast<std::byte*>(panels + i * each);
      weights[i] = packer(*kernels_, m + i * m_size, inputs, rows, inputs, kType, out);
    }
  };
  pack(x_.data(), cols, size, kernels::PackRows);
  multiply(x_.data(), cols, size, a_.data(), rows, square, kernels::Epilogue::kStore);
  pack(a_.data(), rows, square, kernels::PackRows);
  const std::span<const float> a(a_.data(), count * square), x(x_.data(), count * size);
  Scale(pool_, kB, a, b_.data());
  Scale(pool_, kC, a, a_.data());
  multiply(a_.data(), rows, square, b_.data(), rows, square, kernels::Epilogue::kAdd);
  pack(x_.data(), cols, size, kernels::PackTransposed);
  Scale(pool_, kA, x, y_.data());
  multiply(b_.data(), rows, square, y_.data(), cols, size, kernels::Epilogue::kAdd);
  std::swap(x_, y_);
}

void Muon::Move(const Matrix& matrix, double rate, const float* x) const {
  const auto rows = static_cast<size_t>(matrix.rows), cols = static_cast<size_t>(matrix.cols);
  const auto keep = static_cast<float>(1.0 - rate * options_.weight_decay);
  const auto step = static_cast<float>(rate * 0.2 * std::sqrt(static_cast<double>(matrix.cols)));
  const std::span<float> value = matrix.parameter->value;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) {
      const size_t i = matrix.turned ? c * rows + r : r * cols + c;
      value[i] = keep * value[i] - step * x[r * cols + c];
    }
  }
}

}  // namespace lode::train
