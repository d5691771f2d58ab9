#include "train/muon.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/support/random_model.h"

namespace lode::train {
namespace {

using Dense = std::vector<std::vector<double>>;

// Eigenvalues and eigenvectors (columns of `vectors`) of a symmetric matrix, by Jacobi's rotations.
void Diagonalize(Dense* matrix, Dense* vectors) {
  Dense& a = *matrix;
  const size_t n = a.size();
  vectors->assign(n, std::vector<double>(n, 0.0));
  for (size_t i = 0; i < n; ++i) (*vectors)[i][i] = 1.0;
  for (int sweep = 0; sweep < 60; ++sweep) {
    for (size_t p = 0; p < n; ++p) {
      for (size_t q = p + 1; q < n; ++q) {
        if (std::abs(a[p][q]) < 1e-18) continue;
        const double angle = 0.5 * std::atan2(2.0 * a[p][q], a[q][q] - a[p][p]);
        const double c = std::cos(angle), s = std::sin(angle);
        for (size_t k = 0; k < n; ++k) {
          const double x = a[k][p], y = a[k][q];
          a[k][p] = c * x - s * y;
          a[k][q] = s * x + c * y;
        }
        for (size_t k = 0; k < n; ++k) {
          const double x = a[p][k], y = a[q][k];
          a[p][k] = c * x - s * y;
          a[q][k] = s * x + c * y;
        }
        for (std::vector<double>& row : *vectors) {
          const double x = row[p], y = row[q];
          row[p] = c * x - s * y;
          row[q] = s * x + c * y;
        }
      }
    }
  }
}

// What five iterations make of a matrix, by its singular values: each goes through the polynomial
// a s + b s^3 + c s^5 as a number.
Dense Orthogonal(const Dense& x) {
  const size_t rows = x.size(), cols = x[0].size();
  double square = 0.0;
  for (const auto& row : x) {
    for (const double v : row) square += v * v;
  }
  Dense gram(rows, std::vector<double>(rows, 0.0)), vectors;
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < rows; ++j) {
      for (size_t k = 0; k < cols; ++k) gram[i][j] += x[i][k] * x[j][k] / square;
    }
  }
  Diagonalize(&gram, &vectors);
  Dense out(rows, std::vector<double>(cols, 0.0));
  for (size_t e = 0; e < rows; ++e) {
    const double before = std::sqrt(std::max(0.0, gram[e][e]));
    double s = before;
    for (int i = 0; i < 5; ++i) s = 3.4445 * s - 4.7750 * s * s * s + 2.0315 * std::pow(s, 5);
    for (size_t k = 0; k < cols; ++k) {
      double along = 0.0;
      for (size_t j = 0; j < rows; ++j) along += vectors[j][e] * x[j][k] / std::sqrt(square);
      for (size_t i = 0; i < rows; ++i) out[i][k] += s / before * vectors[i][e] * along;
    }
  }
  return out;
}

Dense Turned(const Dense& x) {
  Dense out(x[0].size(), std::vector<double>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < x[0].size(); ++j) out[j][i] = x[i][j];
  }
  return out;
}

// Parameters of these shapes with their gradients, the last one no matrix between layers.
struct Toy {
  explicit Toy(uint32_t seed = 1) : random(seed) {
    for (const auto& shape : {tensor::Shape{6, 40}, {40, 6}, {33, 17}, {6, 40}, {5, 5}, {7, 9}}) {
      const auto size = static_cast<size_t>(shape[0] * shape[1]);
      values.emplace_back(size);
      gradients.emplace_back(size);
      for (float& x : values.back()) x = normal(random);
      parameters.push_back({"", shape, Form::kMatrix, true, values.back(), gradients.back(), true});
      floats += size;
    }
    parameters.back().between_layers = false;
    momentum.resize(floats);
    for (Parameter& p : parameters) {  // the lists have their places now
      const auto i = static_cast<size_t>(&p - parameters.data());
      p.value = values[i];
      p.gradient = gradients[i];
    }
  }
  void Draw() {
    for (auto& gradient : gradients) {
      for (float& x : gradient) x = normal(random);
    }
  }
  std::mt19937 random;
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> values, gradients;
  std::vector<Parameter> parameters;
  std::vector<float> momentum;
  size_t floats = 0;
};

TEST(Muon, MovesMatricesAsTheFormulaInDoubleSays) {
  Toy toy;
  ThreadPool pool(2);
  Muon muon(toy.parameters, &pool, toy.momentum, {0.9, 0.1});
  const double rate = 0.02, scale = 0.25;
  std::vector<Dense> momentum, values;
  for (const Parameter& p : toy.parameters) {
    const auto rows = static_cast<size_t>(p.shape[0]), cols = static_cast<size_t>(p.shape[1]);
    momentum.emplace_back(rows, std::vector<double>(cols, 0.0));
    values.emplace_back(rows, std::vector<double>(cols));
    for (size_t i = 0; i < p.value.size(); ++i) values.back()[i / cols][i % cols] = p.value[i];
  }
  const std::vector<float> untouched = toy.values.back();
  for (int step = 0; step < 3; ++step) {
    toy.Draw();
    muon.Update(rate, scale);
    for (size_t n = 0; n + 1 < toy.parameters.size(); ++n) {
      const Parameter& p = toy.parameters[n];
      const size_t rows = values[n].size(), cols = values[n][0].size();
      Dense u = values[n];
      for (size_t i = 0; i < p.value.size(); ++i) {
        double& m = momentum[n][i / cols][i % cols];
        m = 0.9 * m + 0.1 * scale * p.gradient[i];
        u[i / cols][i % cols] = 0.9 * m + 0.1 * scale * p.gradient[i];
      }
      const Dense o = rows <= cols ? Orthogonal(u) : Turned(Orthogonal(Turned(u)));
      const double size = 0.2 * std::sqrt(static_cast<double>(std::max(rows, cols)));
      for (size_t i = 0; i < p.value.size(); ++i) {
        double& v = values[n][i / cols][i % cols];
        v = v * (1.0 - rate * 0.1) - rate * size * o[i / cols][i % cols];
        ASSERT_NEAR(p.value[i], v, 2e-5) << "matrix " << n << " step " << step;
      }
    }
  }
  EXPECT_EQ(toy.values.back(), untouched);
}

TEST(Muon, HasTheSameBitsOnAnyThreads) {
  std::vector<std::vector<std::vector<float>>> results;
  for (const int threads : {1, 2, 5}) {
    Toy toy;
    ThreadPool pool(threads);
    Muon muon(toy.parameters, &pool, toy.momentum, {});
    for (int step = 0; step < 3; ++step) {
      toy.Draw();
      muon.Update(0.01, 1.0);
    }
    results.push_back(toy.values);
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST(Muon, TakesMatricesBetweenLayersOnly) {
  ThreadPool pool(1);
  auto model = std::move(*testing::RandomModel(testing::TinyHybridConfig()));
  kernels::Context context(&pool, 1 << 20);
  auto parameters = std::move(*Parameters::Make(model.get(), &context));
  int moved = 0;
  for (const Parameter& p : parameters->all()) {
    const bool other = p.form != Form::kMatrix || p.name.find("embeddings") != std::string::npos ||
                       p.name.find("lm_head") != std::string::npos ||
                       p.name.find("gate.weight") != std::string::npos;
    EXPECT_EQ(Muon::Moves(p), !other) << p.name;
    moved += Muon::Moves(p) ? 1 : 0;
  }
  EXPECT_EQ(moved, 2 * 2 + (2 * 8 + 2) + 4 + 2);  // two of Mamba, one each of experts, *, -
}

}  // namespace
}  // namespace lode::train
