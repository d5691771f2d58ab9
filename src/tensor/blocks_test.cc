#include "tensor/blocks.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/file.h"
#include "tensor/scalar.h"
#include "tests/support/shared.h"

namespace lode::tensor {
namespace {

std::vector<std::byte> ReadBytes(const std::string& file) {
  const Result<std::string> content = ReadFile(testing::TestFile(file));
  EXPECT_TRUE(content.ok()) << content.error().ToString();
  if (!content.ok()) return {};
  const auto* data = reinterpret_cast<const std::byte*>(content->data());
  return {data, data + content->size()};
}

std::vector<float> ReadFloats(const std::string& file) {
  const std::vector<std::byte> bytes = ReadBytes(file);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

// The same bits, or both NaN (a NaN's payload is nobody's contract).
void ExpectSameBits(const std::vector<float>& got, const std::vector<float>& wanted,
                    const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  ASSERT_FALSE(got.empty()) << what;
  size_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(wanted[i])) continue;
    if (std::bit_cast<uint32_t>(got[i]) == std::bit_cast<uint32_t>(wanted[i])) continue;
    if (++wrong == 1) ADD_FAILURE() << what << " at " << i << ": " << got[i] << ", not " << wanted[i];
  }
  EXPECT_EQ(wrong, 0u) << what;
}

struct Fixture {
  DType dtype;
  const char* name;
};

TEST(Blocks, EveryTypeDecodesToTheSameBitsAsTheReference) {
  const Fixture fixtures[] = {
      {DType::kF16, "f16"},       {DType::kBF16, "bf16"},     {DType::kF8E4M3, "fp8_e4m3"},
      {DType::kQ4_0, "q4_0"},     {DType::kQ4_1, "q4_1"},     {DType::kQ5_0, "q5_0"},
      {DType::kQ5_1, "q5_1"},     {DType::kQ8_0, "q8_0"},     {DType::kQ2K, "q2_k"},
      {DType::kQ3K, "q3_k"},      {DType::kQ4K, "q4_k"},      {DType::kQ5K, "q5_k"},
      {DType::kQ6K, "q6_k"},      {DType::kIQ4NL, "iq4_nl"},  {DType::kIQ4XS, "iq4_xs"},
      {DType::kMXFP4, "mxfp4"},   {DType::kNVFP4, "nvfp4"}};
  size_t covered = 1;  // f32 is a copy, below
  for (const auto& [dtype, name] : fixtures) {
    const std::string base = std::string("golden/dequant/") + name;
    const std::vector<std::byte> blocks = ReadBytes(base + ".blocks.bin");
    const std::vector<float> wanted = ReadFloats(base + ".f32.bin");
    ASSERT_EQ(blocks.size() / static_cast<size_t>(Info(dtype).block_bytes) *
                  static_cast<size_t>(Info(dtype).block_elements),
              wanted.size());
    // At every alignment: mapped files promise none.
    for (size_t shift = 0; shift < 4; ++shift) {
      std::vector<std::byte> moved(blocks.size() + shift);
      std::copy(blocks.begin(), blocks.end(), moved.begin() + static_cast<std::ptrdiff_t>(shift));
      std::vector<float> got(wanted.size());
      DecodeBlocks(dtype, moved.data() + shift, static_cast<int64_t>(got.size()), got.data());
      ExpectSameBits(got, wanted, name);
    }
    ++covered;
  }
  size_t weights = 0;
  for (const DTypeInfo& info : AllDTypes()) weights += info.weights ? 1 : 0;
  EXPECT_EQ(covered, weights) << "a type of weights has no fixture";
}

TEST(Blocks, FloatsAreCopied) {
  const float values[] = {1.5f, -0.0f, 3e38f};
  float got[3];
  DecodeBlocks(DType::kF32, reinterpret_cast<const std::byte*>(values), 3, got);
  EXPECT_EQ(std::memcmp(got, values, sizeof(values)), 0);
}

TEST(Blocks, ModelOptsNvfp4DecodesToTheSameBitsAsTheReference) {
  const std::string base = "golden/dequant/nvfp4_modelopt";
  const std::vector<std::byte> packed = ReadBytes(base + ".weight.bin");
  const std::vector<std::byte> scales = ReadBytes(base + ".scale.bin");
  const std::vector<float> scale2 = ReadFloats(base + ".scale2.bin");
  const std::vector<float> wanted = ReadFloats(base + ".f32.bin");
  ASSERT_EQ(scale2.size(), 1u);
  std::vector<float> got(packed.size() * 2);
  DecodeNvfp4ModelOpt(reinterpret_cast<const uint8_t*>(packed.data()),
                      reinterpret_cast<const uint8_t*>(scales.data()),
                      static_cast<int64_t>(got.size()), got.data());
  for (float& value : got) value *= scale2[0];
  ExpectSameBits(got, wanted, "nvfp4_modelopt");
}

TEST(Blocks, EncodesTheSameBytesAsTheReference) {
  const std::vector<float> input = ReadFloats("golden/encode/input.f32.bin");
  const Fixture fixtures[] = {
      {DType::kF16, "f16"},   {DType::kBF16, "bf16"}, {DType::kQ4_0, "q4_0"},
      {DType::kQ4_1, "q4_1"}, {DType::kQ5_0, "q5_0"}, {DType::kQ5_1, "q5_1"},
      {DType::kQ8_0, "q8_0"}, {DType::kMXFP4, "mxfp4"}};
  for (const auto& [dtype, name] : fixtures) {
    const std::vector<std::byte> wanted = ReadBytes(std::string("golden/encode/") + name + ".bin");
    std::vector<std::byte> got(wanted.size());
    ASSERT_TRUE(CanEncode(dtype));
    EncodeBlocks(dtype, input.data(), static_cast<int64_t>(input.size()), got.data());
    EXPECT_TRUE(got == wanted) << name;
  }
}

TEST(Blocks, Iq4NlLosesLessThanQ4_0) {
  const std::vector<float> input = ReadFloats("golden/encode/input.f32.bin");
  const int64_t elements = 12 * 256;  // the ordinary rows
  const auto error = [&](DType dtype) {
    std::vector<std::byte> blocks(static_cast<size_t>(elements / Info(dtype).block_elements *
                                                      Info(dtype).block_bytes));
    std::vector<float> back(static_cast<size_t>(elements));
    EncodeBlocks(dtype, input.data(), elements, blocks.data());
    DecodeBlocks(dtype, blocks.data(), elements, back.data());
    double sum = 0, norm = 0;
    for (size_t i = 0; i < back.size(); ++i) {
      sum += std::pow(static_cast<double>(back[i]) - input[i], 2);
      norm += std::pow(static_cast<double>(input[i]), 2);
    }
    return std::sqrt(sum / norm);
  };
  EXPECT_LT(error(DType::kIQ4NL), error(DType::kQ4_0));
  EXPECT_LT(error(DType::kQ4_0), 0.1);
}

TEST(Blocks, NonFiniteInputGivesSomeBlockAndNoTrap) {
  std::vector<float> input(256);
  const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-45f, 0.0f, -1.0f};
  for (size_t i = 0; i < input.size(); ++i) input[i] = odd[(i * 7 + i / 32) % 8];
  for (const DTypeInfo& info : AllDTypes()) {
    if (!CanEncode(info.dtype)) continue;
    std::vector<std::byte> blocks(static_cast<size_t>(256 / info.block_elements * info.block_bytes));
    std::vector<float> back(256);
    EncodeBlocks(info.dtype, input.data(), 256, blocks.data());
    DecodeBlocks(info.dtype, blocks.data(), 256, back.data());
  }
}

TEST(Scalar, HalvesRoundTripAndRoundToNearestEven) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const uint16_t half = static_cast<uint16_t>(code);
    const float value = F16ToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(F16ToFloat(FloatToF16(value))));
    } else {
      ASSERT_EQ(FloatToF16(value), half);
    }
    const float wide = Bf16ToFloat(half);
    if (std::isnan(wide)) {
      EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(wide))));
    } else {
      ASSERT_EQ(FloatToBf16(wide), half);
    }
  }
  // Between two neighbours: to the even one; a little above: up.
  for (uint32_t code = 0; code < 0x7BFF; ++code) {
    const float low = F16ToFloat(static_cast<uint16_t>(code));
    const float middle = low + (F16ToFloat(static_cast<uint16_t>(code + 1)) - low) / 2;
    ASSERT_EQ(FloatToF16(middle), (code + 1) & ~1u);
    ASSERT_EQ(FloatToF16(std::nextafter(middle, INFINITY)), code + 1);
    ASSERT_EQ(FloatToF16(-middle), 0x8000u | ((code + 1) & ~1u));
  }
  EXPECT_EQ(FloatToF16(65519.0f), 0x7BFF);
  EXPECT_EQ(FloatToF16(65520.0f), 0x7C00);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3F808000u)), 0x3F80);  // a tie, to even
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3F818000u)), 0x3F82);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3F808001u)), 0x3F81);
}

TEST(Scalar, E4M3RoundTripsRoundsToNearestEvenAndSaturates) {
  EXPECT_EQ(E4M3ToFloat(0x7E), 448.0f);
  EXPECT_EQ(E4M3ToFloat(0x01), 0x1p-9f);
  EXPECT_EQ(E4M3ToFloat(0x08), 0x1p-6f);
  EXPECT_TRUE(std::isnan(E4M3ToFloat(0x7F)) && std::isnan(E4M3ToFloat(0xFF)));
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F) continue;
    ASSERT_EQ(FloatToE4M3(E4M3ToFloat(static_cast<uint8_t>(code))), code);
  }
  for (int code = 0; code < 0x7E; ++code) {
    const float low = E4M3ToFloat(static_cast<uint8_t>(code));
    const float middle = (low + E4M3ToFloat(static_cast<uint8_t>(code + 1))) / 2;
    ASSERT_EQ(FloatToE4M3(middle), (code + 1) & ~1);
    ASSERT_EQ(FloatToE4M3(std::nextafter(middle, INFINITY)), code + 1);
  }
  EXPECT_EQ(FloatToE4M3(1e9f), 0x7E);
  EXPECT_EQ(FloatToE4M3(-INFINITY), 0xFE);
  EXPECT_EQ(FloatToE4M3(NAN) & 0x7F, 0x7F);
}

TEST(Scalar, Fp4TakesTheNearestCodeAndTiesToTheEvenOne) {
  for (int code = 0; code < 16; ++code) {
    EXPECT_EQ(FloatToFp4(kFp4[static_cast<size_t>(code)]), code);
    EXPECT_EQ(kFp4[static_cast<size_t>(code)] * 2, kFp4Doubled[static_cast<size_t>(code)]);
  }
  const float ties[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  for (int i = 0; i < 7; ++i) EXPECT_EQ(FloatToFp4(ties[i]), (i + 1) & ~1) << ties[i];
  EXPECT_EQ(FloatToFp4(100.0f), 7);
}

TEST(Scalar, E8M0IsAPowerOfTwo) {
  EXPECT_EQ(E8M0ToFloat(127), 1.0f);
  EXPECT_EQ(E8M0ToFloat(0), 0x1p-127f);
  EXPECT_EQ(E8M0ToFloat(254), 0x1p127f);
  EXPECT_TRUE(std::isnan(E8M0ToFloat(255)));
}

TEST(Scalar, GgufsUnsignedE4M3HasItsTwoZeros) {
  EXPECT_EQ(Ue4m3ToFloat(0x00), 0.0f);
  EXPECT_EQ(Ue4m3ToFloat(0x7F), 0.0f);
  EXPECT_EQ(Ue4m3ToFloat(0x01), 0x1p-9f);
  EXPECT_EQ(Ue4m3ToFloat(0x7E), 448.0f);
}

}  // namespace
}  // namespace lode::tensor
