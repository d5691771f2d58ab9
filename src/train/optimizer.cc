#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace lode::train {
namespace {

constexpr size_t kPiece = 1 << 14;  // numbers: some tens of microseconds

// In 16 lanes, that a compiler may compute side by side.
double SumOfSquares(std::span<const float> x) {
  double lanes[16] = {};
  size_t i = 0;
  for (; i + 16 <= x.size(); i += 16) {
    for (size_t j = 0; j < 16; ++j) lanes[j] += static_cast<double>(x[i + j]) * x[i + j];
  }
  for (size_t j = 0; i + j < x.size(); ++j) lanes[j] += static_cast<double>(x[i + j]) * x[i + j];
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

AdamW::AdamW(Parameters* parameters, ThreadPool* pool, const AdamOptions& options)
    : parameters_(parameters), pool_(pool), options_(options) {
  size_t at = 0;
  const std::span<Parameter> all = parameters->all();
  for (size_t p = 0; p < all.size(); ++p) {
    const size_t size = all[p].value.size();
    for (size_t begin = 0; begin < size; begin += kPiece) {
      pieces_.push_back({p, begin, std::min(kPiece, size - begin), at + begin,
                         options.moves_matrices || !all[p].between_layers});
    }
    at += size;
  }
  first_.resize(at);
  second_.resize(at);
  squares_.resize(pieces_.size());
}

double AdamW::Norm() {
  const std::span<Parameter> all = parameters_->all();
  pool_->Run(std::ssize(pieces_), [&](int64_t chunk, int) {
    const Piece& piece = pieces_[static_cast<size_t>(chunk)];
    squares_[static_cast<size_t>(chunk)] =
        SumOfSquares(all[piece.parameter].gradient.subspan(piece.begin, piece.count));
  });
  double sum = 0.0;
  for (const double square : squares_) sum += square;
  return std::sqrt(sum);
}

UpdateReport AdamW::Update(double rate) {
  UpdateReport report;
  report.norm = Norm();
  if (!std::isfinite(report.norm)) {
    report.skipped = true;
    return report;
  }
  ++steps_;
  const double bound = options_.norm_max;
  if (bound > 0.0 && report.norm > bound) report.scale = bound / report.norm;
  const auto scale = static_cast<float>(report.scale);
  const auto steps = static_cast<double>(steps_);
  const auto b1 = static_cast<float>(options_.beta1), b2 = static_cast<float>(options_.beta2);
  // Both corrections in two factors: rate m / c1 / (sqrt(v / c2) + epsilon)
  const double c1 = 1.0 - std::pow(options_.beta1, steps);
  const auto inverse2 = static_cast<float>(1.0 / (1.0 - std::pow(options_.beta2, steps)));
  const auto step = static_cast<float>(rate / c1);
  const auto epsilon = static_cast<float>(options_.epsilon);
  const std::span<Parameter> all = parameters_->all();
  pool_->Run(std::ssize(pieces_), [&](int64_t chunk, int) {
    const Piece& piece = pieces_[static_cast<size_t>(chunk)];
    if (!piece.moves) return;
    const Parameter& p = all[piece.parameter];
    const auto keep = p.decays ? static_cast<float>(1.0 - rate * options_.weight_decay) : 1.0f;
    float* value = p.value.data() + piece.begin;
    const float* gradient = p.gradient.data() + piece.begin;
    float* m = first_.data() + piece.at;
    float* v = second_.data() + piece.at;
    for (size_t i = 0; i < piece.count; ++i) {
      const float g = gradient[i] * scale;
      m[i] = b1 * m[i] + (1.0f - b1) * g;
      v[i] = b2 * v[i] + (1.0f - b2) * g * g;
      value[i] = value[i] * keep - step * m[i] / (std::sqrt(v[i] * inverse2) + epsilon);
    }
  });
  return report;
}

}  // namespace lode::train
