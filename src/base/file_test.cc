#include "base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace lode {
namespace {

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("lode-file-test-" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) { return (folder_ / name).string(); }
  std::filesystem::path folder_;
};

TEST_F(FileTest, AnAbandonedWriteLeavesTheOldFileAndNoTemporary) {
  ASSERT_TRUE(WriteFileAtomic(Path("a"), "old").ok());
  {
    auto file = AtomicFile::Create(Path("a"));
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->Write("new").ok());
  }
  EXPECT_EQ(ReadFile(Path("a")).value(), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, WritesOfAnySizeArriveWhole) {
  std::string expected;
  auto file = AtomicFile::Create(Path("b"));
  ASSERT_TRUE(file.ok());
  for (const size_t bytes : {size_t{1}, size_t{1000}, size_t{3} << 20, size_t{0}, size_t{700000}}) {
    const std::string part(bytes, static_cast<char>('a' + bytes % 26));
    expected += part;
    ASSERT_TRUE(file->Write(part).ok());
    EXPECT_EQ(file->offset(), expected.size());
  }
  ASSERT_TRUE(file->Commit().ok());
  EXPECT_EQ(ReadFile(Path("b")).value(), expected);
  const auto map = MappedFile::Open(Path("b"));
  ASSERT_TRUE(map.ok());
  EXPECT_EQ((*map)->bytes().size(), expected.size());
}

TEST_F(FileTest, AFullDiskIsASentence) {
  if (!FileExists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  auto error = SystemError("cannot write", "x", ENOSPC);
  EXPECT_EQ(error.code(), Code::kNoSpace);
  EXPECT_NE(error.ToString().find("free some space"), std::string::npos);
}

TEST_F(FileTest, AMissingFileAndAFolderAreErrors) {
  EXPECT_EQ(ReadFile(Path("none")).error().code(), Code::kNotFound);
  EXPECT_FALSE(ReadFile(folder_.string()).ok());
  EXPECT_FALSE(MappedFile::Open(Path("none")).ok());
}

TEST_F(FileTest, ListsAFolderInOrder) {
  ASSERT_TRUE(WriteFileAtomic(Path("b"), "").ok());
  ASSERT_TRUE(WriteFileAtomic(Path("a"), "").ok());
  EXPECT_EQ(ListFolder(folder_.string()).value(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(ListFolder(Path("absent")).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace lode
