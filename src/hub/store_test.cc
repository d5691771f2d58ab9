#include "hub/store.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/file.h"

namespace lode::hub {
namespace {

constexpr char kSha[] = "0123456789abcdef0123456789abcdef01234567";

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/lode_store_XXXXXX";
    home_ = ::mkdtemp(name);
  }
  void TearDown() override {
    std::error_code error;
    std::filesystem::remove_all(home_, error);
  }
  void Put(const std::vector<std::string>& names, const std::string& revision = "main",
           const std::string& sha = kSha) {
    const Store store(home_);
    std::vector<StoredFile> files;
    for (const std::string& name : names) {
      const std::string path = store.RevisionFolder(model_, sha) + "/" + name;
      ASSERT_TRUE(MakeFolders(path.substr(0, path.rfind('/'))).ok());
      ASSERT_TRUE(WriteFileAtomic(path, "12345").ok());
      files.push_back({name, 5, ""});
    }
    ASSERT_TRUE(store.Add(model_, revision, sha, files).ok());
  }

  std::string home_;
  const ModelName model_{"acme", "tiny", ""};
};

TEST(ModelName, IsTwoPlainPartsAndPerhapsAFile) {
  EXPECT_EQ(ParseModelName("acme/tiny-1.5_b")->Id(), "acme/tiny-1.5_b");
  EXPECT_EQ(ParseModelName("acme/tiny:sub/a.gguf")->file, "sub/a.gguf");
  for (const char* bad : {"", "tiny", "acme/", "/tiny", "a/b/c", "../b", "a/..", "a/.b", "a b/c",
                          "a/b:", "a/b:../c", "a/b:/c", "a/-b", "a/b\n"}) {
    EXPECT_FALSE(LooksLikeModelName(bad)) << bad;
  }
}

TEST_F(StoreTest, FindsTheOneThingThatCanBeRun) {
  const Store store(home_);
  const std::string folder = store.RevisionFolder(model_, kSha);
  EXPECT_EQ(store.Find("acme/tiny").error().code(), Code::kNotFound);
  EXPECT_NE(store.Find("acme/tiny").error().hint().find("lode pull acme/tiny"), std::string::npos);
  Put({"q4-00001-of-00002.gguf", "q4-00002-of-00002.gguf", "README.md"});
  EXPECT_EQ(*store.Find("acme/tiny"), folder + "/q4-00001-of-00002.gguf");
  Put({"sub/q8.gguf"});
  const Result<std::string> several = store.Find("acme/tiny");
  ASSERT_FALSE(several.ok());
  EXPECT_NE(several.error().hint().find("q4-00001-of-00002.gguf, sub/q8.gguf"), std::string::npos);
  EXPECT_EQ(*store.Find("acme/tiny:sub/q8.gguf"), folder + "/sub/q8.gguf");
  Put({"model.safetensors"});
  EXPECT_EQ(*store.Find("acme/tiny"), folder);
}

TEST_F(StoreTest, DoesNotFindFilesThatAreListedButGone) {
  Put({"a.gguf"});
  std::filesystem::resize_file(Store(home_).RevisionFolder(model_, kSha) + "/a.gguf", 3);
  EXPECT_FALSE(Store(home_).Find("acme/tiny").ok());
}

TEST_F(StoreTest, UsesMainOrElseTheNewestRef) {
  const std::string other = "ffffffffffffffffffffffffffffffffffffffff";
  Put({"a.gguf"}, "refs/pr/1", other);
  EXPECT_EQ(*Store(home_).Find("acme/tiny"),
            Store(home_).RevisionFolder(model_, other) + "/a.gguf");
  Put({"a.gguf"}, "main", kSha);
  Put({"a.gguf"}, "refs/pr/1", other);
  EXPECT_EQ(*Store(home_).Find("acme/tiny"), Store(home_).RevisionFolder(model_, kSha) + "/a.gguf");
}

TEST_F(StoreTest, IgnoresARefThatPointsElsewhere) {
  Put({"a.gguf"});
  ASSERT_TRUE(WriteFileAtomic(Store(home_).ModelFolder(model_) + "/refs/main", "../../..").ok());
  EXPECT_FALSE(Store(home_).Find("acme/tiny").ok());
}

TEST(Store, LivesWhereTheEnvironmentSays) {
  const char* const before[] = {::getenv("LODE_HOME"), ::getenv("XDG_DATA_HOME")};
  ::setenv("LODE_HOME", "/somewhere", 1);
  EXPECT_EQ(Store::OfUser()->home(), "/somewhere");
  ::unsetenv("LODE_HOME");
  ::setenv("XDG_DATA_HOME", "/data", 1);
  EXPECT_EQ(Store::OfUser()->home(), "/data/lode");
  ::unsetenv("XDG_DATA_HOME");
  if (::getenv("HOME") != nullptr) {
    EXPECT_EQ(Store::OfUser()->home(), std::string(::getenv("HOME")) + "/.local/share/lode");
  }
  if (before[0] != nullptr) ::setenv("LODE_HOME", before[0], 1);
  if (before[1] != nullptr) ::setenv("XDG_DATA_HOME", before[1], 1);
}

TEST(Store, GroupsThePartsOfASplitFile) {
  EXPECT_EQ(SplitGroup("a-00003-of-00010.gguf"), "a-00001-of-00010.gguf");
  EXPECT_EQ(SplitGroup("a-3-of-10.gguf"), "a-3-of-10.gguf");
  EXPECT_EQ(SplitGroup("a-00003-of-00010.txt"), "a-00003-of-00010.txt");
  EXPECT_EQ(SplitGroup(".gguf"), ".gguf");
}

}  // namespace
}  // namespace lode::hub
