#include "hub/select.h"

#include <gtest/gtest.h>

#include "base/text.h"

namespace lode::hub {
namespace {

std::vector<RemoteFile> Files(const std::vector<std::string>& names) {
  std::vector<RemoteFile> files;
  for (const std::string& name : names) files.push_back({name, 1000, true, ""});
  return files;
}

std::string Names(const Result<std::vector<RemoteFile>>& files) {
  if (!files.ok()) return "error: " + files.error().ToString();
  std::vector<std::string> names;
  for (const RemoteFile& file : *files) names.push_back(file.name);
  return Join(names, " ");
}

const std::vector<std::string> kBoth = {"LICENSE",    "config.json",       "model.safetensors",
                                        "model.gguf", "pytorch_model.bin", "chart.png"};

TEST(Select, PrefersTheCheckpointAndLeavesWhatLodeDoesNotRead) {
  EXPECT_EQ(Names(SelectFiles(Files(kBoth), {"a/b", "", {}})),
            "LICENSE config.json model.safetensors");
}

TEST(Select, TakesTheOnlyGgufWithAllItsParts) {
  EXPECT_EQ(
      Names(SelectFiles(Files({"m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "README.md"}),
                        {"a/b", "", {}})),
      "m-00001-of-00002.gguf m-00002-of-00002.gguf README.md");
}

TEST(Select, ListsTheChoicesAmongSeveralGguf) {
  const std::string text = Names(SelectFiles(Files({"m-Q4.gguf", "m-Q8.gguf"}), {"a/b", "", {}}));
  EXPECT_NE(text.find("several models: m-Q4.gguf (" + HumanBytes(1000) + "), m-Q8.gguf ("),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("lode pull a/b:m-Q4.gguf"), std::string::npos) << text;
}

TEST(Select, TakesExactlyWhatIsAskedFor) {
  EXPECT_EQ(Names(SelectFiles(Files(kBoth), {"a/b", "model.gguf", {}})), "model.gguf");
  EXPECT_EQ(Names(SelectFiles(Files(kBoth), {"a/b", "", {"*.bin", "conf*"}})),
            "config.json pytorch_model.bin");
  EXPECT_EQ(Names(SelectFiles(Files({"x/m.gguf", "y/n.gguf"}), {"a/b", "", {"x/*"}})), "x/m.gguf");
  EXPECT_EQ(Names(SelectFiles(Files({"m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "n.gguf"}),
                              {"a/b", "m-00002-of-00002.gguf", {}})),
            "m-00001-of-00002.gguf m-00002-of-00002.gguf");
}

TEST(Select, SaysWhatThereIsInstead) {
  EXPECT_NE(
      Names(SelectFiles(Files(kBoth), {"a/b", "model.guf", {}})).find("did you mean model.gguf"),
      std::string::npos);
  EXPECT_NE(Names(SelectFiles(Files(kBoth), {"a/b", "", {"*.tflite"}})).find("has no file"),
            std::string::npos);
  EXPECT_NE(Names(SelectFiles(Files({"README.md"}), {"a/b", "", {}})).find("neither"),
            std::string::npos);
  EXPECT_FALSE(SelectFiles({}, {"a/b", "", {}}).ok());
}

}  // namespace
}  // namespace lode::hub
