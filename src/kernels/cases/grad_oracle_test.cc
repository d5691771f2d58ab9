// The oracles of ref/grad.h held to central differences in double: every number of every input.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "kernels/ref/grad.h"

namespace lode::kernels::ref {
namespace {

using Doubles = Array<double>;

Doubles Normal(size_t count, uint32_t seed, double scale = 1.0) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(0.0, scale);
  Doubles out(count);
  for (double& x : out) x = normal(generator);
  return out;
}

double Dot(const Doubles& a, const Doubles& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// `loss` reads `input`, whose gradient is said to be `gradient`.
void HoldToDifferences(const char* name, Doubles* input, const Doubles& gradient,
                       const std::function<double()>& loss) {
  ASSERT_EQ(input->size(), gradient.size()) << name;
  double largest = 0.0;
  for (const double g : gradient) largest = std::max(largest, std::abs(g));
  ASSERT_GT(largest, 0.0) << name;
  constexpr double kStep = 1e-5;
  for (size_t i = 0; i < input->size(); ++i) {
    const double value = (*input)[i];
    const auto at = [&](double steps) {
      (*input)[i] = value + steps * kStep;
      return loss();
    };
    // Of fourth order: the error is about 1e-10 of the largest gradient.
    const double slope = (8.0 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12.0 * kStep);
    (*input)[i] = value;
    EXPECT_NEAR(gradient[i], slope, 1e-6 * std::max(std::abs(slope), 0.01 * largest))
        << name << "[" << i << "]";
  }
}

TEST(GradOracle, NormsAgreeWithDifferences) {
  for (const int64_t groups : {1, 3}) {
    Doubles x = Normal(4 * 12, 1), w = Normal(12, 2);
    const Doubles dy = Normal(4 * 12, 3);
    const auto grad = GroupNormBackward(x, w, 1e-5, groups, dy);
    const auto loss = [&] { return Dot(GroupNorm(x, w, 1e-5, groups), dy); };
    HoldToDifferences("x", &x, grad.dx, loss);
    HoldToDifferences("w", &w, grad.dw, loss);
    Doubles z = Normal(4 * 12, 4);
    const auto gated = GatedNormBackward(x, z, w, 1e-5, groups, dy);
    const auto gated_loss = [&] { return Dot(GatedNorm(x, z, w, 1e-5, groups), dy); };
    HoldToDifferences("y", &x, gated.dy, gated_loss);
    HoldToDifferences("z", &z, gated.dz, gated_loss);
    HoldToDifferences("gated w", &w, gated.dw, gated_loss);
  }
}

TEST(GradOracle, ConvolutionAgreesWithDifferences) {
  const std::vector<int64_t> lengths = {1, 7, 3};
  for (const int64_t taps : {4, 2}) {
    Doubles x = Normal(11 * 3, 1), w = Normal(static_cast<size_t>(taps) * 3, 2);
    Doubles bias = Normal(3, 3);
    const Doubles dout = Normal(11 * 3, 4);
    const auto grad = ConvSiluBackward(x, w, bias, taps, lengths, dout);
    const auto loss = [&] { return Dot(ConvSilu(x, w, bias, taps, lengths), dout); };
    HoldToDifferences("x", &x, grad.dx, loss);
    HoldToDifferences("w", &w, grad.dw, loss);
    HoldToDifferences("bias", &bias, grad.dbias, loss);
  }
}

TEST(GradOracle, ScanAgreesWithDifferences) {
  const ScanShape shape = {4, 3, 2, 5};
  const std::vector<int64_t> lengths = {6, 1, 9};
  ScanInputs<double> in = {Normal(16 * 12, 1), Normal(16 * 10, 2), Normal(16 * 10, 3),
                           Normal(16 * 4, 4),  Normal(4, 5),       Normal(4, 6)};
  for (double& dt : in.dt) dt = 0.05 + 0.3 * std::abs(dt);
  for (double& a : in.a) a = -0.2 - std::abs(a);
  const Doubles dy = Normal(16 * 12, 7);
  const auto grad = ScanBackward(shape, in, lengths, dy);
  const auto loss = [&] { return Dot(Scan(shape, in, lengths), dy); };
  HoldToDifferences("x", &in.x, grad.x, loss);
  HoldToDifferences("b", &in.b, grad.b, loss);
  HoldToDifferences("c", &in.c, grad.c, loss);
  HoldToDifferences("dt", &in.dt, grad.dt, loss);
  HoldToDifferences("a", &in.a, grad.a, loss);
  HoldToDifferences("d", &in.d, grad.d, loss);
}

TEST(GradOracle, AttentionAgreesWithDifferences) {
  const AttentionShape shape = {4, 2, 3, KvType::kF32};
  const std::vector<int64_t> lengths = {5, 1, 4};
  Heads<double> in = {Normal(10 * 12, 1), Normal(10 * 6, 2), Normal(10 * 6, 3)};
  const Doubles dout = Normal(10 * 12, 4);
  const auto grad = AttendBackward(shape, in, lengths, dout);
  const auto loss = [&] { return Dot(Attend(shape, in, lengths), dout); };
  HoldToDifferences("q", &in.q, grad.q, loss);
  HoldToDifferences("k", &in.k, grad.k, loss);
  HoldToDifferences("v", &in.v, grad.v, loss);
}

TEST(GradOracle, RoutingAndItsBalanceAgreeWithDifferences) {
  const std::vector<int32_t> ids = {0, 3, 1, 2, 2, 4, 0, 1, 3, 4, 1, 4};
  const std::vector<int64_t> lengths = {4, 2};
  for (const bool normalize : {true, false}) {
    const RouterShape shape = {5, 2, normalize, 2.5};
    Doubles logits = Normal(6 * 5, 1);
    const Doubles dweights = Normal(12, 2);
    HoldToDifferences("logits", &logits, RouteBackward(shape, logits, ids, dweights),
                      [&] { return Dot(RouteWeights(shape, logits, ids), dweights); });
    HoldToDifferences("balance", &logits, BalanceBackward(shape, logits, ids, lengths, 0.7),
                      [&] { return BalanceLoss(shape, logits, ids, lengths, 0.7); });
  }
}

TEST(GradOracle, CrossEntropyAgreesWithDifferences) {
  const std::vector<int32_t> targets = {2, 0, 6};
  Doubles logits = Normal(3 * 7, 1, 2.0);
  const Doubles coefficients = {0.5, -1.5, 2.0};
  HoldToDifferences("logits", &logits, CrossEntropyBackward(logits, targets, coefficients),
                    [&] { return -Dot(LogProbabilities(logits, targets), coefficients); });
}

}  // namespace
}  // namespace lode::kernels::ref
