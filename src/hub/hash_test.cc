#include "hub/hash.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"

namespace lode::hub {
namespace {

std::string TestPath() { return ::testing::TempDir() + "/lode_hash_" + std::to_string(::getpid()); }

TEST(Hash, AgreesWithPublishedValues) {
  const std::string path = TestPath();
  ASSERT_TRUE(WriteFileAtomic(path, "abc").ok());
  // FIPS 180-2's own example.
  EXPECT_EQ(*HashFile(path, HashKind::kSha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  // `printf 'hello\n' | git hash-object --stdin`, and the empty blob that every repository knows.
  ASSERT_TRUE(WriteFileAtomic(path, "hello\n").ok());
  EXPECT_EQ(*HashFile(path, HashKind::kGitBlob), "ce013625030ba8dba906f756967f9e9ca394464a");
  ASSERT_TRUE(WriteFileAtomic(path, "").ok());
  EXPECT_EQ(*HashFile(path, HashKind::kGitBlob), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
  ::unlink(path.c_str());
}

TEST(Hash, StopsWhenAsked) {
  const std::string path = TestPath();
  ASSERT_TRUE(WriteFileAtomic(path, "abc").ok());
  const Result<std::string> hash = HashFile(path, HashKind::kSha256, [] { return true; });
  ASSERT_FALSE(hash.ok());
  EXPECT_EQ(hash.error().code(), Code::kCancelled);
  ::unlink(path.c_str());
  EXPECT_EQ(HashFile(path, HashKind::kSha256).error().code(), Code::kNotFound);
}

TEST(Hash, KnowsHexOfARightLength) {
  EXPECT_TRUE(IsHex("00ff", 4));
  EXPECT_FALSE(IsHex("00ff", 3));
  EXPECT_FALSE(IsHex("00FF", 4));
  EXPECT_FALSE(IsHex("00/f", 4));
}

}  // namespace
}  // namespace lode::hub
