#include "formats/open.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "formats/test_files.h"
#include "tests/support/shared.h"

namespace lode::formats {
namespace {

using testing::Bytes;
using testing::GgufStart;
using testing::SafetensorsBytes;
using testing::TemporaryFolder;

void Write(const std::string& path, const std::string& content) {
  ASSERT_TRUE(WriteFileAtomic(path, content).ok());
}

std::string ErrorOf(const std::string& path) {
  const auto opened = OpenSource(path);
  return opened.ok() ? "" : opened.error().ToString();
}

TEST(Open, TellsTheKindsApart) {
  const std::string golden = lode::testing::TestFile("golden/");
  for (const auto& [path, naming] : std::initializer_list<std::pair<const char*, tensor::Naming>>{
           {"gguf/f32-dense.gguf", tensor::Naming::kGguf},
           {"gguf/split-00001-of-00004.gguf", tensor::Naming::kGguf},
           {"moe-nano", tensor::Naming::kHuggingFace},
           {"moe-nano/model.safetensors", tensor::Naming::kHuggingFace},
           {"moe-nano/config.json", tensor::Naming::kHuggingFace},
           {"sharded-tied/", tensor::Naming::kHuggingFace},
           {"sharded-tied/model.safetensors.index.json", tensor::Naming::kHuggingFace}}) {
    const auto opened = OpenSource(golden + path);
    ASSERT_TRUE(opened.ok()) << opened.error().ToString();
    EXPECT_EQ((*opened)->naming(), naming) << path;
  }
  // A shard stands for its whole model.
  const auto shard = OpenSource(golden + "sharded-tied/model-00002-of-00003.safetensors");
  ASSERT_TRUE(shard.ok()) << shard.error().ToString();
  EXPECT_EQ((*shard)->tensors().size(), (*OpenSource(golden + "sharded-tied"))->tensors().size());
}

TEST(Open, AFolderWithOneGgufIsThatModel) {
  TemporaryFolder folder;
  EXPECT_NE(ErrorOf(folder.path()).find("holds no model; give a .gguf file"), std::string::npos);
  Write(folder.File("a.gguf"), GgufStart(0, 0).str());
  Write(folder.File("README.md"), "x");
  EXPECT_EQ(ErrorOf(folder.path()), "");
  Write(folder.File("config.json"), "{}");  // repositories of GGUF files often have one
  EXPECT_EQ(ErrorOf(folder.path()), "");
  Write(folder.File("b.gguf"), GgufStart(0, 0).str());
  const std::string two = ErrorOf(folder.path());
  EXPECT_NE(two.find("a.gguf, b.gguf"), std::string::npos) << two;
}

TEST(Open, AGgufIsKnownByItsFirstBytesToo) {
  TemporaryFolder folder;
  Write(folder.File("model"), GgufStart(0, 0).str());
  EXPECT_EQ(ErrorOf(folder.File("model")), "");
}

TEST(Open, ASafetensorsFileOfAnyNameOpensInItsFolder) {
  TemporaryFolder folder;
  Write(folder.File("weights.safetensors"), SafetensorsBytes("{}", ""));
  EXPECT_NE(ErrorOf(folder.File("weights.safetensors")).find("config.json"), std::string::npos);
  Write(folder.File("config.json"), "{}");
  EXPECT_EQ(ErrorOf(folder.File("weights.safetensors")), "");
  const std::string folder_error = ErrorOf(folder.path());
  EXPECT_NE(folder_error.find("'weights.safetensors'"), std::string::npos) << folder_error;
}

TEST(Open, RefusesEverythingElseInASentence) {
  TemporaryFolder folder;
  EXPECT_EQ(OpenSource(folder.File("absent")).error().code(), Code::kNotFound);
  Write(folder.File("pytorch_model.bin"), "x");
  EXPECT_NE(ErrorOf(folder.File("pytorch_model.bin")).find("pickle"), std::string::npos);
  Write(folder.File("config.json"), "{}");
  EXPECT_NE(ErrorOf(folder.path()).find("pickle"), std::string::npos);
  Write(folder.File("notes.txt"), "x");
  const std::string other = ErrorOf(folder.File("notes.txt"));
  EXPECT_NE(other.find("notes.txt"), std::string::npos);
  EXPECT_NE(other.find("give a .gguf file"), std::string::npos);
  EXPECT_NE(ErrorOf("/dev/null"), "");
}

TEST(Open, OpensFromMemory) {
  const std::string gguf = GgufStart(0, 0).str();
  ASSERT_TRUE(OpenGgufFromMemory(Bytes(gguf), "demo").ok());
  const std::string config = "{}", weights = SafetensorsBytes("{}", "");
  const auto hf = OpenHfFromMemory({{"config.json", Bytes(config)}, {"model.safetensors", Bytes(weights)}}, "demo");
  ASSERT_TRUE(hf.ok()) << hf.error().ToString();
  EXPECT_EQ((*hf)->path(), "demo");
}

}  // namespace
}  // namespace lode::formats
