#include <gtest/gtest.h>

#include "base/text.h"
#include "kernels/cases/support.h"
#include "kernels/ref/ref.h"
#include "tensor/blocks.h"

namespace lode::kernels {
namespace {

using cases::OnEveryTarget;
using cases::Random;
using cases::SameBits;

// A weight of random bytes (for types that cannot be encoded) or of encoded random numbers.
std::vector<std::byte> RandomWeight(tensor::DType dtype, int64_t rows, int64_t cols,
                                    uint32_t seed) {
  const tensor::DTypeInfo& info = tensor::Info(dtype);
  const int64_t row_bytes = cols / info.block_elements * info.block_bytes;
  std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes));
  if (tensor::CanEncode(dtype)) {
    const auto values = Random(rows * cols, seed);
    tensor::EncodeBlocks(dtype, values.data(), rows * cols, bytes.data());
    return bytes;
  }
  std::mt19937 generator(seed);
  for (std::byte& b : bytes) b = static_cast<std::byte>(generator() & 0x3B);  // keeps scales finite
  return bytes;
}

Weight Make(tensor::DType dtype, int64_t rows, int64_t cols, const std::vector<std::byte>& bytes) {
  const tensor::DTypeInfo& info = tensor::Info(dtype);
  Weight w;
  w.dtype = dtype;
  w.rows = rows;
  w.cols = cols;
  w.data = bytes.data();
  w.row_bytes = cols / info.block_elements * info.block_bytes;
  return w;
}

TEST(MatMul, EqualsTheScalarOracleBitForBitForEveryTypeAndTarget) {
  for (const tensor::DTypeInfo& info : tensor::AllDTypes()) {
    if (!info.weights) continue;
    for (const auto& [rows, cols] : std::vector<std::pair<int64_t, int64_t>>{
             {1, 256},
             {33, 512},
             {64, 768},
             {70, info.block_elements == 256 ? 256 : 64},
             {5, info.block_elements == 1 ? 13 : info.block_elements * 3}}) {
      const auto bytes = RandomWeight(info.dtype, rows, cols, 7);
      Weight w = Make(info.dtype, rows, cols, bytes);
      w.scale = 0.75f;
      // 11 go through panels, 1 and 3 through registers.
      for (const int64_t tokens : {int64_t{11}, int64_t{1}, int64_t{3}}) {
        const auto x = Random(tokens * cols, 3);
        std::vector<float> expected(static_cast<size_t>(tokens * rows));
        ref::MatMul({&w, x.data(), cols, expected.data(), rows, tokens});
        OnEveryTarget([&](int64_t target) {
          for (const int threads : {1, 2}) {
            ThreadPool pool(threads);
            Context context(&pool, MatMulScratchFloats(tokens));
            std::vector<float> y(expected.size());
            const MatMulJob job = {&w, x.data(), cols, y.data(), rows, tokens};
            MatMul(context, {&job, 1});
            if (cases::HasFma(target)) {
              EXPECT_TRUE(SameBits(expected, y)) << info.name << " " << rows << "x" << cols;
            } else {
              // Two roundings a step instead of one: at most cols half-units of the sum of
              // magnitudes.
              std::vector<float> row(static_cast<size_t>(cols));
              for (int64_t r = 0; r < rows; ++r) {
                DecodeColumns(w, r, 0, cols, row.data());
                for (int64_t t = 0; t < tokens; ++t) {
                  double magnitude = 0.0;
                  for (int64_t k = 0; k < cols; ++k) {
                    magnitude += std::abs(double{row[static_cast<size_t>(k)]} *
                                          double{x[static_cast<size_t>(t * cols + k)]});
                  }
                  const auto i = static_cast<size_t>(t * rows + r);
                  ASSERT_NEAR(y[i], expected[i], 1e-6 * magnitude) << info.name;
                }
              }
            }
          }
        });
      }
    }
  }
}

TEST(MatMul, ATokensBitsDoNotDependOnHowManyRunWithIt) {
  const int64_t rows = 100;
  const int64_t cols = 300;
  const auto bytes = RandomWeight(tensor::DType::kBF16, rows, cols, 1);
  const Weight w = Make(tensor::DType::kBF16, rows, cols, bytes);
  const auto x = Random(64 * cols, 5);
  OnEveryTarget([&](int64_t) {
    ThreadPool pool(2);
    Context context(&pool, MatMulScratchFloats(64));
    std::vector<float> all(64 * rows);
    const MatMulJob job = {&w, x.data(), cols, all.data(), rows, 64};
    MatMul(context, {&job, 1});
    for (const int64_t chunk : {1, 3, 7, 24}) {
      std::vector<float> y(64 * rows);
      for (int64_t t = 0; t < 64; t += chunk) {
        const int64_t count = std::min<int64_t>(chunk, 64 - t);
        const MatMulJob part = {&w, x.data() + t * cols, cols, y.data() + t * rows, rows, count};
        MatMul(context, {&part, 1});
      }
      EXPECT_TRUE(SameBits(all, y)) << chunk;
    }
  });
}

TEST(MatMul, SeveralJobsInOneRegionAndTheirEpilogues) {
  const auto bytes_a = RandomWeight(tensor::DType::kQ8_0, 40, 64, 1);
  const auto bytes_b = RandomWeight(tensor::DType::kF32, 96, 64, 2);
  Weight a = Make(tensor::DType::kQ8_0, 40, 64, bytes_a);
  Weight b = Make(tensor::DType::kF32, 96, 64, bytes_b);
  const auto scales = Random(96, 9);
  b.row_scales = scales.data();
  const auto x = Random(5 * 64, 4);
  ThreadPool pool(3);
  Context context(&pool, MatMulScratchFloats(5));
  std::vector<float> ya(5 * 40, 1.0f), yb(5 * 96), ea(5 * 40, 1.0f), eb(5 * 96);
  const MatMulJob jobs[] = {{&a, x.data(), 64, ya.data(), 40, 5, Epilogue::kAdd},
                            {&a, x.data(), 64, nullptr, 40, 0},
                            {&b, x.data(), 64, yb.data(), 96, 5, Epilogue::kReluSquared}};
  MatMul(context, jobs);
  ref::MatMul({&a, x.data(), 64, ea.data(), 40, 5, Epilogue::kAdd});
  ref::MatMul({&b, x.data(), 64, eb.data(), 96, 5, Epilogue::kReluSquared});
  EXPECT_TRUE(SameBits(ya, ea));
  EXPECT_TRUE(SameBits(yb, eb));
}

TEST(MatMul, ReadsModelOptsNvfp4WithItsScalesApart) {
  const int64_t rows = 34, cols = 96, tokens = 4;
  std::mt19937 generator(11);
  std::vector<std::byte> codes(static_cast<size_t>(rows * cols / 2));
  std::vector<uint8_t> scales(static_cast<size_t>(rows * cols / 16));
  for (std::byte& c : codes) c = static_cast<std::byte>(generator());
  for (uint8_t& s : scales) s = static_cast<uint8_t>(generator() % 0x7F);
  Weight w;
  w.dtype = tensor::DType::kU8;
  w.rows = rows;
  w.cols = cols;
  w.data = codes.data();
  w.row_bytes = cols / 2;
  w.block_scales = scales.data();
  w.scale = 0.01f;
  const auto x = Random(tokens * cols, 2);
  std::vector<float> y(static_cast<size_t>(tokens * rows)), expected(y.size());
  ThreadPool pool(2);
  Context context(&pool, MatMulScratchFloats(tokens));
  const MatMulJob job = {&w, x.data(), cols, y.data(), rows, tokens};
  MatMul(context, {&job, 1});
  ref::MatMul({&w, x.data(), cols, expected.data(), rows, tokens});
  EXPECT_TRUE(SameBits(y, expected));
}

TEST(RoundToBF16, RoundsToNearestEven) {
  auto x = Random(1000, 1, 100.0f);
  x.push_back(0.0f);
  x.push_back(-0.0f);
  x.push_back(INFINITY);
  x.push_back(1e-40f);
  std::vector<float> expected = x;
  for (float& v : expected) v = ref::RoundToBF16(v);
  OnEveryTarget([&](int64_t) {
    auto y = x;
    ThreadPool pool(2);
    Context context(&pool, 1);
    RoundToBF16(context, y.data(), static_cast<int64_t>(y.size()));
    EXPECT_TRUE(SameBits(y, expected));
  });
}

}  // namespace
}  // namespace lode::kernels
