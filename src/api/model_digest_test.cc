#include "api/model_digest.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "api/open.h"
#include "base/file.h"
#include "runtime/saved/context_weights.h"
#include "tests/support/memory_source.h"

namespace lode::api {
namespace {

class ModelDigestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "lode-digest-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    home_ = pattern;
    ::setenv("LODE_HOME", home_.c_str(), 1);
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(home_, ignored);
  }
  std::string home_;
};

TEST_F(ModelDigestTest, AnyByteOfAnyTensorChangesIt) {
  std::string bytes(400'000, 'x');
  const auto digest = [&](const std::string& name, const Json& config = Json::object()) {
    testing::MemorySource source(config);
    source.Add(name, tensor::DType::kF32, {100'000}, bytes);
    const auto made = runtime::DigestWeights(source);
    EXPECT_TRUE(made.ok());
    return *made;
  };
  const auto before = digest("a");
  EXPECT_EQ(digest("a"), before);
  EXPECT_NE(digest("b"), before);
  EXPECT_NE(digest("a", {{"rope_theta", 1e4}}), before);
  for (const size_t at : {size_t{0}, bytes.size() / 3, bytes.size() - 1}) {
    bytes[at] = 'y';
    EXPECT_NE(digest("a"), before) << at;
    bytes[at] = 'x';
  }
  EXPECT_EQ(digest("a"), before);
}

TEST_F(ModelDigestTest, FilesAreReadOnceAndRemembered) {
  const auto source =
      OpenSource(std::string(LODE_SOURCE_DIR) + "/tests/golden/gguf/mix-4bit.gguf");
  ASSERT_TRUE(source.ok());
  int reads = 0;
  const DigestProgress count = [&](uint64_t done, uint64_t total) {
    reads += done == total;
    return true;
  };
  const auto first = ModelDigest(**source, count);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(reads, 1);
  if (!std::filesystem::exists(home_ + "/digests.json")) {
    GTEST_SKIP() << "the fixture was written this very moment";
  }
  const auto again = ModelDigest(**source, count);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(reads, 1);
  EXPECT_EQ(*again, *first);
  // Other files of the same bytes are other files, and have the same digest.
  const std::string copy = home_ + "/copy.gguf";
  std::filesystem::copy_file((*source)->path(), copy);
  const auto other = OpenSource(copy);
  ASSERT_TRUE(other.ok());
  const auto copied = ModelDigest(**other, count);
  ASSERT_TRUE(copied.ok());
  EXPECT_EQ(reads, 2);
  EXPECT_EQ(*copied, *first);
}

TEST_F(ModelDigestTest, WhatIsRememberedMayBeNonsense) {
  std::filesystem::create_directories(home_);
  for (const char* nonsense : {"", "{", "[1]", "[[1,2]]", "[[\"a\",\"b\"]]"}) {
    ASSERT_TRUE(WriteFileAtomic(home_ + "/digests.json", nonsense).ok());
    const auto source =
        OpenSource(std::string(LODE_SOURCE_DIR) + "/tests/golden/gguf/mix-4bit.gguf");
    ASSERT_TRUE(source.ok());
    EXPECT_TRUE(ModelDigest(**source).ok());
  }
}

TEST_F(ModelDigestTest, ItCanBeCancelled) {
  const auto source = OpenSource("demo");
  ASSERT_TRUE(source.ok());
  const auto digest = ModelDigest(**source, [](uint64_t, uint64_t) { return false; });
  ASSERT_FALSE(digest.ok());
  EXPECT_EQ(digest.error().code(), Code::kCancelled);
}

}  // namespace
}  // namespace lode::api
