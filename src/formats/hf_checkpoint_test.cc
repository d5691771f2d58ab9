#include "formats/hf_checkpoint.h"

#include <gtest/gtest.h>

#include <cstring>
#include <ctime>

#include "formats/safetensors_writer.h"
#include "formats/test_files.h"
#include "tests/support/shared.h"

namespace lode::formats {
namespace {

using testing::Bytes;
using testing::SafetensorsBytes;
using testing::TemporaryFolder;

// A file of one-byte tensors with these names; each holds its name's first letter.
std::string Weights(const std::vector<std::string>& names) {
  std::string header = "{", data;
  for (const std::string& name : names) {
    header += (data.empty() ? "\"" : ",\"") + name + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
              std::to_string(data.size()) + "," + std::to_string(data.size() + 1) + "]}";
    data += name[0];
  }
  return SafetensorsBytes(header + "}", data);
}

// Opens files given as text; they outlive the checkpoint.
class Memory {
 public:
  Memory& Add(const std::string& name, const std::string& content) {
    contents_[name] = content;
    return *this;
  }
  Result<std::unique_ptr<HfCheckpoint>> Open() const {
    MemoryFiles files;
    for (const auto& [name, content] : contents_) files[name] = Bytes(content);
    return HfCheckpoint::FromMemory(std::move(files), "model");
  }
  std::string ErrorOf() const {
    const auto opened = Open();
    return opened.ok() ? "" : opened.error().ToString();
  }

 private:
  std::map<std::string, std::string> contents_;
};

void ExpectWords(const std::string& message, std::initializer_list<const char*> words) {
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (const char* word : words) EXPECT_NE(message.find(word), std::string::npos) << message;
}

TEST(HfCheckpoint, OpensASingleFile) {
  Memory memory;
  memory.Add("config.json", R"({"hidden_size":8})").Add("model.safetensors", Weights({"a", "b"}));
  memory.Add("tokenizer.json", "{}").Add("generation_config.json", R"({"eos_token_id":[2]})");
  const auto opened = memory.Open();
  ASSERT_TRUE(opened.ok()) << opened.error().ToString();
  const HfCheckpoint& model = **opened;
  EXPECT_EQ(model.naming(), tensor::Naming::kHuggingFace);
  EXPECT_EQ(GetInt(model.config(), "hidden_size"), 8);
  EXPECT_EQ(&model.root_config(), &model.config());
  ASSERT_NE(model.Find("b"), nullptr);
  EXPECT_EQ(std::to_integer<char>(model.View(*model.Find("b")).bytes[0]), 'b');
  EXPECT_TRUE(model.HasFile("tokenizer.json"));
  EXPECT_FALSE(model.HasFile("chat_template.jinja"));
  EXPECT_EQ(model.ReadFile("tokenizer.json").value(), "{}");
  EXPECT_TRUE(model.ReadJson("generation_config.json").ok());
  EXPECT_EQ(model.ReadFile("absent").error().code(), Code::kNotFound);
  EXPECT_FALSE(model.HasFile("../config.json"));
}

TEST(HfCheckpoint, ReadsAConfigAsPythonWritesIt) {
  Memory memory;
  memory.Add("config.json", R"({"time_step_limit":[0.0,Infinity]})");
  memory.Add("model.safetensors", Weights({"a"}));
  const auto opened = memory.Open();
  ASSERT_TRUE(opened.ok()) << opened.error().ToString();
  EXPECT_EQ(DumpJson((*opened)->config()), R"({"time_step_limit":[0.0,"Infinity"]})");
}

TEST(HfCheckpoint, OpensShardsByTheirIndex) {
  Memory memory;
  memory.Add("config.json", "{}").Add("one.safetensors", Weights({"a", "stray"}));
  memory.Add("two.safetensors", Weights({"b"})).Add("model.safetensors", Weights({"not_this"}));
  memory.Add("model.safetensors.index.json",
             R"({"metadata":{"total_size":1},"weight_map":{"b":"two.safetensors","a":"one.safetensors"}})");
  const auto opened = memory.Open();
  ASSERT_TRUE(opened.ok()) << opened.error().ToString();
  EXPECT_EQ((*opened)->tensors().size(), 2u);
  EXPECT_EQ(std::to_integer<char>((*opened)->View(*(*opened)->Find("b")).bytes[0]), 'b');
  EXPECT_EQ((*opened)->Find("stray"), nullptr);
  ASSERT_EQ((*opened)->warnings().size(), 1u);
  ExpectWords((*opened)->warnings()[0], {"'model'", "1 tensors"});
}

TEST(HfCheckpoint, ListsEveryMissingShardAndEveryMissingTensor) {
  Memory memory;
  memory.Add("config.json", "{}").Add("one.safetensors", Weights({"a"}));
  memory.Add("model.safetensors.index.json",
             R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"three.safetensors"}})");
  ExpectWords(memory.ErrorOf(), {"'model'", "2 of its 3", "'two.safetensors'", "'three.safetensors'"});
  memory.Add("model.safetensors.index.json",
             R"({"weight_map":{"a":"one.safetensors","b":"one.safetensors","c":"one.safetensors"}})");
  ExpectWords(memory.ErrorOf(), {"'model'", "'b (in one.safetensors)'", "'c (in one.safetensors)'"});
}

TEST(HfCheckpoint, RefusesABadIndex) {
  Memory memory;
  memory.Add("config.json", "{}").Add("one.safetensors", Weights({"a"}));
  for (const char* index :
       {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})",
        R"({"weight_map":{"a":"../one.safetensors"}})", R"({"weight_map":{"a":"x/one.safetensors"}})",
        R"({"weight_map":{"a":"..\\one.safetensors"}})", R"({"weight_map":{"a":".."}})",
        R"({"weight_map":{"a":""}})", R"({"weight_map":{"a":"one.safetensors\u0000"}})",
        R"({"weight_map":{"a":"/etc/passwd"}})", R"({"weight_map":{"a":"one.bin"}})",
        R"({"weight_map":{"a":"one.safetensors","a":"one.safetensors"}})"}) {
    memory.Add("model.safetensors.index.json", index);
    ExpectWords(memory.ErrorOf(), {"'model'", "model.safetensors.index.json"});
  }
}

TEST(HfCheckpoint, NamesTheFileThatIsDamaged) {
  Memory memory;
  ExpectWords(memory.ErrorOf(), {"'model'", "config.json"});
  memory.Add("config.json", "{");
  ExpectWords(memory.ErrorOf(), {"config.json", "line 1"});
  memory.Add("config.json", "[1]");
  ExpectWords(memory.ErrorOf(), {"config.json", "no JSON object"});
  memory.Add("config.json", "{}");
  ExpectWords(memory.ErrorOf(), {"'model'", "model.safetensors"});
  memory.Add("model.safetensors", Weights({"a"}).substr(0, 30));
  ExpectWords(memory.ErrorOf(), {"'model'", "'model/model.safetensors'"});
}

TEST(HfCheckpoint, AMultimodalWrapperShowsItsTextModel) {
  Memory memory;
  memory.Add("config.json",
             R"({"llm_config":{"hidden_size":8},"quantization_config":{"quant_method":"modelopt"},"hidden_size":1})");
  memory.Add("model.safetensors", Weights({"vision.x", "language_model.a", "vision.y", "language_model.b"}));
  const auto opened = memory.Open();
  ASSERT_TRUE(opened.ok()) << opened.error().ToString();
  const HfCheckpoint& model = **opened;
  EXPECT_EQ(GetInt(model.config(), "hidden_size"), 8);
  EXPECT_NE(FindKey(model.config(), "quantization_config"), nullptr);
  EXPECT_EQ(GetInt(model.root_config(), "hidden_size"), 1);
  ASSERT_EQ(model.tensors().size(), 2u);
  EXPECT_EQ(model.tensors()[1].name, "b");
  ASSERT_NE(model.Find("a"), nullptr);
  EXPECT_EQ(std::to_integer<char>(model.View(*model.Find("a")).bytes[0]), 'l');
  EXPECT_EQ(model.Find("vision.x"), nullptr);
}

TEST(HfCheckpoint, SaysWhyATensorCannotBeGiven) {
  Memory memory;
  memory.Add("config.json", "{}");
  memory.Add("model.safetensors",
             SafetensorsBytes(R"({"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}})", "123"));
  const auto opened = memory.Open();
  ASSERT_TRUE(opened.ok()) << opened.error().ToString();
  EXPECT_EQ((*opened)->Find("a"), nullptr);
  ExpectWords((*opened)->WhyAbsent("a"), {"F6_E2M3"});
  EXPECT_EQ((*opened)->WhyAbsent("b"), "");
}

TEST(HfCheckpoint, AnIndexOfAHundredThousandTensorsOpensInLinearTime) {
  constexpr int kTensors = 100000;
  std::string header = "{", index = R"({"weight_map":{)";
  for (int i = 0; i < kTensors; ++i) {
    const std::string name = "backbone.layers.1.mixer.experts." + std::to_string(i) + ".up_proj.weight";
    header += (i ? ",\"" : "\"") + name + R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" +
              std::to_string(i) + "," + std::to_string(i + 1) + "]}";
    index += (i ? ",\"" : "\"") + name + R"(":"a.safetensors")";
  }
  Memory memory;
  memory.Add("config.json", "{}").Add("model.safetensors.index.json", index + "}}");
  memory.Add("a.safetensors", SafetensorsBytes(header + "}", std::string(kTensors, 'x')));
  const std::clock_t begin = std::clock();  // of this process: the machine may be busy
  const auto opened = memory.Open();
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  ASSERT_TRUE(opened.ok()) << opened.error().ToString();
  EXPECT_EQ((*opened)->tensors().size(), static_cast<size_t>(kTensors));
  RecordProperty("seconds", std::to_string(seconds));
  EXPECT_LT(seconds, 12);  // measured below 1 s; a quadratic step would take a minute
}

TEST(HfCheckpoint, WrittenFoldersAreReadBackWholeOrSharded) {
  for (const uint64_t shard_bytes_max : {0, 8}) {
    TemporaryFolder folder;
    ASSERT_TRUE(WriteFileAtomic(folder.File("config.json"), "{}").ok());
    SafetensorsWriter writer;
    for (int i = 0; i < 5; ++i) writer.AddTensor("t" + std::to_string(i), tensor::DType::kF32, {1});
    ASSERT_TRUE(writer.BeginFolder(folder.path(), shard_bytes_max).ok());
    for (int i = 0; i < 5; ++i) {
      const float value = static_cast<float>(i);
      ASSERT_TRUE(writer.Write(std::as_bytes(std::span(&value, 1))).ok());
    }
    ASSERT_TRUE(writer.Finish().ok());
    EXPECT_EQ(writer.paths().size(), shard_bytes_max ? 3u : 1u);
    EXPECT_EQ(FileExists(folder.File("model.safetensors.index.json")), shard_bytes_max > 0);
    const auto opened = HfCheckpoint::Open(folder.path() + "//");
    ASSERT_TRUE(opened.ok()) << opened.error().ToString();
    ASSERT_EQ((*opened)->tensors().size(), 5u);
    for (int i = 0; i < 5; ++i) {
      float value = -1;
      std::memcpy(&value, (*opened)->View(*(*opened)->Find("t" + std::to_string(i))).bytes.data(), 4);
      EXPECT_EQ(value, static_cast<float>(i));
    }
    EXPECT_TRUE((*opened)->warnings().empty());
  }
}

TEST(HfCheckpoint, TheProjectsOwnCheckpointsOpen) {
  for (const char* name : {"dense-head80", "dense-state256", "experts-stacked", "fp8-nano", "latent-super",
                           "modelopt-mixed", "moe-lightning", "moe-nano", "nvfp4-nano", "sharded-tied"}) {
    const auto opened = HfCheckpoint::Open(lode::testing::TestFile(std::string("golden/") + name));
    ASSERT_TRUE(opened.ok()) << opened.error().ToString();
    EXPECT_GT((*opened)->tensors().size(), 10u) << name;
    EXPECT_EQ(GetString((*opened)->config(), "model_type"), "nemotron_h") << name;
    for (const tensor::TensorInfo& info : (*opened)->tensors()) {
      EXPECT_EQ((*opened)->View(info).bytes.size(), info.bytes);
    }
  }
}

}  // namespace
}  // namespace lode::formats
