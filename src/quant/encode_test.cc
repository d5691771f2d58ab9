#include "quant/encode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "kernels/isa.h"
#include "tensor/blocks.h"
#include "tensor/scalar.h"

namespace lode::quant {
namespace {

using tensor::DType;

constexpr int64_t kRows = 12, kCols = 768;

// Like weights: nearly normal, rows of different size, a few far out.
std::vector<float> Weights(uint32_t seed = 7) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(kRows * kCols);
  for (size_t i = 0; i < x.size(); ++i) {
    const float size = 0.02f * (1.0f + static_cast<float>(i / kCols) / 6.0f);
    x[i] = size * normal(random) * (random() % 211 == 0 ? 4.0f : 1.0f);
  }
  return x;
}

std::vector<float> MeanSquares() {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> squares(kCols);
  for (float& value : squares) value = std::exp(1.2f * normal(random));
  return squares;
}

std::vector<DType> BlockTypes() {
  std::vector<DType> types;
  for (const tensor::DTypeInfo& info : tensor::AllDTypes()) {
    if (info.weights && info.block_elements > 1) types.push_back(info.dtype);
  }
  return types;
}

float Largest(const std::vector<float>& x) {
  float most = 0;
  for (const float value : x) most = std::max(most, std::fabs(value));
  return most;
}

std::vector<std::byte> Encode(DType dtype, const std::vector<float>& x, const float* importance,
                              const EncodeOptions& options = {}, int64_t cols = kCols) {
  const tensor::DTypeInfo& info = tensor::Info(dtype);
  std::vector<std::byte> out(x.size() / static_cast<size_t>(info.block_elements) *
                             static_cast<size_t>(info.block_bytes));
  EncodeRows(dtype, x.data(), static_cast<int64_t>(x.size()) / cols, cols, importance,
             TensorScale(dtype, Largest(x)), options, out.data());
  return out;
}

std::vector<float> Decode(DType dtype, const std::vector<std::byte>& blocks,
                          const std::vector<float>& x) {
  std::vector<float> y(x.size());
  tensor::DecodeBlocks(dtype, blocks.data(), static_cast<int64_t>(y.size()), y.data());
  const float scale = TensorScale(dtype, Largest(x));
  for (float& value : y) value *= scale;
  return y;
}

// Square error over square size.
double Error(const std::vector<float>& x, const std::vector<float>& y, const float* importance) {
  double error = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double w = importance == nullptr ? 1.0 : static_cast<double>(importance[i % kCols]);
    error += w * std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
    size += w * std::pow(static_cast<double>(x[i]), 2);
  }
  return error / size;
}

double EncodeError(DType dtype, const std::vector<float>& x, const float* importance = nullptr,
                   const float* judge = nullptr) {
  return Error(x, Decode(dtype, Encode(dtype, x, importance), x), judge);
}

TEST(Encode, EveryTypeStaysWithinItsBound) {
  // Relative root mean square errors for weights like ours, measured and rounded up.
  const std::pair<DType, double> bounds[] = {
      {DType::kF8E4M3, 0.028}, {DType::kQ4_0, 0.090},  {DType::kQ4_1, 0.082},
      {DType::kQ5_0, 0.045},   {DType::kQ5_1, 0.040},  {DType::kQ8_0, 0.0058},
      {DType::kQ2K, 0.30},     {DType::kQ3K, 0.165},   {DType::kQ4K, 0.082},
      {DType::kQ5K, 0.041},    {DType::kQ6K, 0.0205},  {DType::kIQ4NL, 0.082},
      {DType::kIQ4XS, 0.082},  {DType::kMXFP4, 0.120}, {DType::kNVFP4, 0.088}};
  const std::vector<float> x = Weights();
  for (const auto& [dtype, bound] : bounds) {
    EXPECT_LT(std::sqrt(EncodeError(dtype, x)), bound) << tensor::Name(dtype);
  }
}

TEST(Encode, LosesLessThanSimpleRounding) {
  const std::vector<float> x = Weights();
  for (const DType dtype : BlockTypes()) {
    if (!tensor::CanEncode(dtype)) continue;
    std::vector<std::byte> simple(Encode(dtype, x, nullptr).size());
    tensor::EncodeBlocks(dtype, x.data(), static_cast<int64_t>(x.size()), simple.data());
    EXPECT_LT(EncodeError(dtype, x), 0.97 * Error(x, Decode(dtype, simple, x), nullptr))
        << tensor::Name(dtype);
  }
}

// The least error of 32 elements over every scale of a list, each element to its nearest level.
double LeastError(const float* x, int n, const std::vector<float>& levels,
                  const std::vector<float>& scales) {
  double best = 1e300;
  for (const float d : scales) {
    double error = 0;
    for (int i = 0; i < n; ++i) {
      double nearest = 1e300;
      for (const float level : levels) {
        nearest = std::min(nearest, std::fabs(static_cast<double>(x[i]) -
                                              static_cast<double>(d) * static_cast<double>(level)));
      }
      error += nearest * nearest;
    }
    best = std::min(best, error);
  }
  return best;
}

// Every F16 of either sign under which the largest element falls between two levels' magnitudes.
std::vector<float> HalfScales(const float* x, int n, float from, float to) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  std::vector<float> scales;
  for (uint16_t code = tensor::FloatToF16(largest / to);
       code <= tensor::FloatToF16(largest / from); ++code) {
    scales.push_back(tensor::F16ToFloat(code));
    scales.push_back(-tensor::F16ToFloat(code));
  }
  return scales;
}

std::vector<float> Range(int low, int high) {
  std::vector<float> levels;
  for (int level = low; level <= high; ++level) levels.push_back(static_cast<float>(level));
  return levels;
}

TEST(Encode, ComesNearTheExhaustiveSearchOverAllScales) {
  const std::vector<float> iq4 = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
  struct Case {
    DType dtype;
    std::vector<float> levels;
    float from, to;
    double slack;
  };
  const Case cases[] = {{DType::kQ4_0, Range(-8, 7), 5, 10, 1.02},
                        {DType::kQ5_0, Range(-16, 15), 11, 19, 1.02},
                        {DType::kIQ4NL, iq4, 80, 150, 1.02}};
  std::vector<float> x = Weights();
  x.resize(kCols);
  for (const Case& c : cases) {
    double least = 0, size = 0;
    for (size_t i = 0; i < x.size(); i += 32) {
      least += LeastError(&x[i], 32, c.levels, HalfScales(&x[i], 32, c.from, c.to));
    }
    for (const float value : x) size += std::pow(static_cast<double>(value), 2);
    const double got = EncodeError(c.dtype, x) * size;
    EXPECT_LT(got, c.slack * least) << tensor::Name(c.dtype);
    EXPECT_GT(got, 0.9999 * least) << tensor::Name(c.dtype) << ": the oracle misses something";
  }
}

TEST(Encode, Fp4TakesTheBestOfAllBlockScales) {
  const std::vector<float> levels = {0,  1,  2,  3,  4,  6,  8,  12,
                                     -1, -2, -3, -4, -6, -8, -12};
  std::vector<float> x = Weights();
  x.resize(kCols);
  std::vector<float> powers, codes;
  for (uint8_t code = 100; code < 140; ++code) powers.push_back(0.5f * tensor::E8M0ToFloat(code));
  const float scale = TensorScale(DType::kNVFP4, Largest(x));
  for (uint8_t code = 1; code < 0x7F; ++code) {
    codes.push_back(0.5f * scale * tensor::E4M3ToFloat(code));
  }
  double mxfp4 = 0, nvfp4 = 0, size = 0;
  for (size_t i = 0; i < x.size(); i += 32) mxfp4 += LeastError(&x[i], 32, levels, powers);
  for (size_t i = 0; i < x.size(); i += 16) nvfp4 += LeastError(&x[i], 16, levels, codes);
  for (const float value : x) size += std::pow(static_cast<double>(value), 2);
  EXPECT_NEAR(EncodeError(DType::kMXFP4, x) * size / mxfp4, 1.0, 1e-4);
  EXPECT_NEAR(EncodeError(DType::kNVFP4, x) * size / nvfp4, 1.0, 2e-3);
}

// A fine grid of steps and minima, the best of it improved by nothing: what a patient person would
// do.
double LeastAffine(const float* x, int n, int top, bool negative) {
  const auto [low, high] = std::minmax_element(x, x + n);
  const double bottom = negative ? std::min(0.0f, *low) : *low;
  const double range = *high - bottom;
  double best = 1e300;
  for (int a = 0; a <= 40; ++a) {
    for (int b = -10; b <= 20; ++b) {
      const double d = range * (0.7 + 0.01 * a) / top;
      const double m = bottom + 0.01 * b * range;
      if (negative && m > 0) continue;
      double error = 0;
      for (int i = 0; i < n; ++i) {
        const double level = std::clamp(std::round((x[i] - m) / d), 0.0, static_cast<double>(top));
        error += std::pow(x[i] - m - d * level, 2);
      }
      best = std::min(best, error);
    }
  }
  return best;
}

TEST(Encode, AffineTypesComeNearAFineGridOfStepsAndMinima) {
  struct Case {
    DType dtype;
    int block, top;
    bool negative;
    double slack;  // the K types' scales are whole numbers under another scale
  };
  const Case cases[] = {{DType::kQ4_1, 32, 15, false, 1.02}, {DType::kQ5_1, 32, 31, false, 1.03},
                        {DType::kQ4K, 32, 15, true, 1.05},   {DType::kQ5K, 32, 31, true, 1.07},
                        {DType::kQ2K, 16, 3, true, 1.12}};
  std::vector<float> x = Weights();
  x.resize(2 * kCols);
  double size = 0;
  for (const float value : x) size += std::pow(static_cast<double>(value), 2);
  for (const Case& c : cases) {
    double least = 0;
    for (size_t i = 0; i < x.size(); i += static_cast<size_t>(c.block)) {
      least += LeastAffine(&x[i], c.block, c.top, c.negative);
    }
    EXPECT_LT(EncodeError(c.dtype, x) * size, c.slack * least) << tensor::Name(c.dtype);
  }
}

TEST(Encode, ImportanceLowersTheWeightedError) {
  const std::vector<float> x = Weights();
  const std::vector<float> importance = Importance(MeanSquares());
  for (const DType dtype : BlockTypes()) {
    const double with = EncodeError(dtype, x, importance.data(), importance.data());
    const double without = EncodeError(dtype, x, nullptr, importance.data());
    // MXFP4's scales are powers of two: there is little to choose.
    EXPECT_LT(with, (dtype == DType::kMXFP4 ? 0.999 : 0.94) * without) << tensor::Name(dtype);
    EXPECT_LT(EncodeError(dtype, x), EncodeError(dtype, x, importance.data()))
        << tensor::Name(dtype) << ": and costs elsewhere";
  }
}

TEST(Encode, FourOverSixLowersTheError) {
  const std::vector<float> x = Weights();
  EncodeOptions plain;
  plain.four_over_six = false;
  const std::vector<std::byte> blocks = Encode(DType::kNVFP4, x, nullptr, plain);
  const double six = Error(x, Decode(DType::kNVFP4, blocks, x), nullptr);
  EXPECT_LT(EncodeError(DType::kNVFP4, x), 0.85 * six);
}

TEST(Encode, EveryInstructionSetAndEverySplitGivesTheSameBytes) {
  std::vector<float> x = Weights();
  const std::vector<float> importance = Importance(MeanSquares());
  const kernels::Isa active = kernels::ActiveIsa();
  for (const DType dtype : BlockTypes()) {
    const std::vector<std::byte> whole = Encode(dtype, x, importance.data());
    for (const kernels::Isa isa : kernels::SupportedIsas()) {
      kernels::ForceIsa(isa);
      EXPECT_TRUE(Encode(dtype, x, importance.data()) == whole)
          << tensor::Name(dtype) << " " << kernels::Name(isa);
    }
    kernels::ForceIsa(active);
    std::vector<std::byte> rows(whole.size());
    const size_t row_bytes = whole.size() / kRows;
    for (size_t r = 0; r < kRows; ++r) {
      EncodeRows(dtype, &x[r * kCols], 1, kCols, importance.data(),
                 TensorScale(dtype, Largest(x)), {}, &rows[r * row_bytes]);
    }
    EXPECT_TRUE(rows == whole) << tensor::Name(dtype);
  }
}

TEST(Encode, OddNumbersGiveBlocksWithoutNan) {
  std::vector<float> x(kCols);
  const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, 0.0f, -1.0f};
  for (size_t i = 0; i < x.size(); ++i) x[i] = odd[(i * 7 + i / 32) % 8];
  std::vector<float> zeros(kCols), same(kCols, -0.25f), positive(kCols);
  for (size_t i = 0; i < positive.size(); ++i) {
    positive[i] = 1.0f + 0.001f * static_cast<float>(i % 64);
  }
  for (const DType dtype : BlockTypes()) {
    for (const std::vector<float>* input : {&x, &zeros, &same, &positive}) {
      std::vector<std::byte> blocks = Encode(dtype, *input, nullptr);
      std::vector<float> back(kCols);
      tensor::DecodeBlocks(dtype, blocks.data(), kCols, back.data());
      for (const float value : back) ASSERT_FALSE(std::isnan(value)) << tensor::Name(dtype);
      if (input == &zeros) {
        EXPECT_EQ(Largest(back), 0.0f) << tensor::Name(dtype);
      }
    }
    EXPECT_LT(EncodeError(dtype, same), 0.002) << tensor::Name(dtype) << " of equal numbers";
    EXPECT_LT(EncodeError(dtype, positive), 0.02) << tensor::Name(dtype) << " of positive numbers";
  }
}

TEST(Encode, ImportanceIsMadeFitOrRefused) {
  const std::vector<float> fit = Importance(std::vector<float>{0, 1, 3});
  ASSERT_EQ(fit.size(), 3u);
  EXPECT_GT(fit[0], 0.0f);
  EXPECT_LT(fit[0], 0.01f);
  EXPECT_FLOAT_EQ(fit[2], 3 * fit[1]);
  EXPECT_TRUE(Importance(std::vector<float>(3)).empty());
  EXPECT_TRUE(Importance(std::vector<float>{1, NAN}).empty());
}

}  // namespace
}  // namespace lode::quant
