#include "hub/part_file.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/file.h"

namespace lode::hub {
namespace {

class PartFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/lode_part_XXXXXX";
    folder_ = ::mkdtemp(name);
    spec_ = {.path = folder_ + "/file", .size = 10, .hash = "", .segment_bytes = 4};
  }
  void TearDown() override {
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
  }

  std::string folder_;
  PartSpec spec_;
};

TEST_F(PartFileTest, TakesSegmentsInAnyOrder) {
  auto part = *PartFile::Open(spec_);
  ASSERT_EQ(part->segments().size(), 3u);
  ASSERT_TRUE(part->Write(part->segments()[2].get(), "89").ok());
  ASSERT_TRUE(part->Write(part->segments()[0].get(), "01").ok());
  ASSERT_TRUE(part->Write(part->segments()[1].get(), "4567").ok());
  EXPECT_FALSE(part->complete());
  ASSERT_TRUE(part->Write(part->segments()[0].get(), "23").ok());
  EXPECT_TRUE(part->complete());
  ASSERT_TRUE(part->Finish({}).ok());
  EXPECT_EQ(*ReadFile(spec_.path), "0123456789");
  EXPECT_FALSE(FileExists(spec_.path + ".part"));
  EXPECT_FALSE(FileExists(spec_.path + ".part.json"));
}

TEST_F(PartFileTest, RemembersWhatWasWritten) {
  {
    auto part = *PartFile::Open(spec_);
    ASSERT_TRUE(part->Write(part->segments()[0].get(), "0123").ok());
    ASSERT_TRUE(part->Write(part->segments()[2].get(), "8").ok());
    ASSERT_TRUE(part->Remember().ok());
  }
  auto part = *PartFile::Open(spec_);
  EXPECT_EQ(part->done_bytes(), 5u);
  ASSERT_TRUE(part->Write(part->segments()[2].get(), "9").ok());
  ASSERT_TRUE(part->Write(part->segments()[1].get(), "4567").ok());
  ASSERT_TRUE(part->Finish({}).ok());
  EXPECT_EQ(*ReadFile(spec_.path), "0123456789");
}

TEST_F(PartFileTest, BeginsAnewWhenTheFileOrTheMemoryIsAnother) {
  const auto write_some = [&] {
    auto part = *PartFile::Open(spec_);
    ASSERT_TRUE(part->Restart(false).ok());
    ASSERT_TRUE(part->Write(part->segments()[0].get(), "0123").ok());
    ASSERT_TRUE(part->Remember().ok());
  };
  write_some();
  PartSpec other = spec_;
  other.hash = std::string(64, '0');
  EXPECT_EQ((*PartFile::Open(other))->done_bytes(), 0u);
  write_some();
  other = spec_;
  other.size = 11;
  EXPECT_EQ((*PartFile::Open(other))->done_bytes(), 0u);
  for (const char* memory :
       {"", "{", R"({"size":10,"hash":""})", R"({"size":10,"hash":"","segments":[[0,10,11]]})",
        R"({"size":10,"hash":"","segments":[[0,4,4],[5,10,0]]})",
        R"({"size":10,"hash":"","segments":[[0,4,4],[4,9,0]]})",
        R"({"size":10,"hash":"","segments":[[0,4,4],[4,18446744073709551615,0]]})",
        R"({"size":10,"hash":"","segments":[[0,10,5]]})",  // the file has only 4 bytes
        R"({"size":10,"hash":"","segments":[[-1,10,0]]})"}) {
    write_some();
    ASSERT_TRUE(WriteFileAtomic(spec_.path + ".part.json", memory).ok());
    EXPECT_EQ((*PartFile::Open(spec_))->done_bytes(), 0u) << memory;
  }
}

TEST_F(PartFileTest, RefusesMoreBytesThanBelongThere) {
  auto part = *PartFile::Open(spec_);
  EXPECT_FALSE(part->Write(part->segments()[2].get(), "89a").ok());
  EXPECT_EQ(part->done_bytes(), 0u);
}

TEST_F(PartFileTest, KeepsThePartWhenTheHashIsWrong) {
  spec_.hash = std::string(64, '0');
  spec_.size = 4;
  auto part = *PartFile::Open(spec_);
  ASSERT_TRUE(part->Write(part->segments()[0].get(), "0123").ok());
  EXPECT_FALSE(part->Finish({}).ok());
  EXPECT_FALSE(FileExists(spec_.path));
}

TEST_F(PartFileTest, DoesNotWriteThroughALink) {
  ASSERT_TRUE(WriteFileAtomic(folder_ + "/victim", "precious").ok());
  std::filesystem::create_symlink(folder_ + "/victim", spec_.path + ".part");
  EXPECT_FALSE(PartFile::Open(spec_).ok());
  EXPECT_EQ(*ReadFile(folder_ + "/victim"), "precious");
}

}  // namespace
}  // namespace lode::hub
