#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <limits>

#include "tensor/source.h"

namespace lode::tensor {
namespace {

TEST(DType, TheTableIsInTheOrderOfTheEnum) {
  for (size_t i = 0; i < AllDTypes().size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(AllDTypes()[i].dtype), i);
  }
}

TEST(DType, IsFoundByItsNumberAndNames) {
  for (const DTypeInfo& info : AllDTypes()) {
    EXPECT_EQ(DTypeFromName(info.name).value(), info.dtype);
    if (info.ggml_id >= 0) {
      EXPECT_EQ(DTypeFromGgml(static_cast<uint32_t>(info.ggml_id)).value(), info.dtype);
    }
    if (info.safetensors[0] != '\0') {
      EXPECT_EQ(DTypeFromSafetensors(info.safetensors).value(), info.dtype);
    }
  }
  EXPECT_EQ(DTypeFromName("Q4_K").value(), DType::kQ4K);
}

TEST(DType, RefusesByName) {
  EXPECT_NE(DTypeFromGgml(16).error().ToString().find("IQ2_XXS"), std::string::npos);
  EXPECT_EQ(DTypeFromGgml(16).error().code(), Code::kUnsupported);
  EXPECT_FALSE(DTypeFromGgml(4).ok());
  EXPECT_FALSE(DTypeFromGgml(0xFFFFFFFFu).ok());
  EXPECT_FALSE(DTypeFromSafetensors("").ok());
  EXPECT_NE(DTypeFromName("q9").error().ToString().find("q4_0"), std::string::npos);
}

TEST(Shape, CountsElementsAndBytesWithoutOverflow) {
  int64_t count = 0;
  uint64_t bytes = 0;
  EXPECT_TRUE(CountElements({}, &count) && count == 1);
  EXPECT_TRUE(CountElements({3, 0, std::numeric_limits<int64_t>::max()}, &count) && count == 0);
  EXPECT_FALSE(CountElements({int64_t{1} << 40, int64_t{1} << 40}, &count));
  EXPECT_FALSE(CountElements({-1, 2}, &count));
  EXPECT_TRUE(CountBytes(DType::kQ4_0, {2, 64}, &bytes) && bytes == 72);
  EXPECT_FALSE(CountBytes(DType::kQ4_0, {64, 2}, &bytes));  // a row is not whole blocks
  EXPECT_FALSE(CountBytes(DType::kF32, {std::numeric_limits<int64_t>::max()}, &bytes));
  EXPECT_EQ(ToString(Shape{2, 3}), "[2, 3]");
}

}  // namespace
}  // namespace lode::tensor
