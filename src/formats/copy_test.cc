// Whole models read and written again, in both formats, sharded and not: the same metadata, the same
// bytes. With LODE_KEEP_COPIES=FOLDER the copies stay there, for tools/fixtures/check_formats.py to
// look at with readers that are not ours.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/hf_checkpoint.h"
#include "formats/safetensors_writer.h"
#include "formats/test_files.h"
#include "tests/support/shared.h"

namespace lode::formats {
namespace {

// Where copies of one kind go.
class CopyFolder {
 public:
  explicit CopyFolder(const std::string& kind) {
    const char* kept = std::getenv("LODE_KEEP_COPIES");
    path_ = (kept != nullptr ? std::string(kept) : temporary_.path()) + "/" + kind;
    EXPECT_TRUE(MakeFolders(path_).ok());
  }
  const std::string& path() const { return path_; }

 private:
  testing::TemporaryFolder temporary_;
  std::string path_;
};

template <typename Writer>
void WriteTensors(const tensor::TensorSource& source, Writer* writer) {
  for (const tensor::TensorInfo& info : source.tensors()) {
    const Result<void> written = writer->Write(source.View(info).bytes);
    ASSERT_TRUE(written.ok()) << written.error().ToString();
  }
  const Result<void> finished = writer->Finish();
  ASSERT_TRUE(finished.ok()) << finished.error().ToString();
}

void ExpectSameTensors(const tensor::TensorSource& a, const tensor::TensorSource& b) {
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const tensor::TensorInfo& info : a.tensors()) {
    const tensor::TensorInfo* other = b.Find(info.name);
    ASSERT_NE(other, nullptr) << info.name;
    EXPECT_EQ(info.dtype, other->dtype) << info.name;
    EXPECT_EQ(info.shape, other->shape) << info.name;
    const auto x = a.View(info).bytes, y = b.View(*other).bytes;
    ASSERT_EQ(x.size(), y.size()) << info.name;
    EXPECT_TRUE(x.empty() || std::memcmp(x.data(), y.data(), x.size()) == 0) << info.name;
  }
}

TEST(Copy, AGgufIsTheSameModelWholeAndSplit) {
  for (const char* name : {"f32-latent-mtp", "mix-4bit", "mix-k", "mix-legacy"}) {
    const auto source =
        GgufFile::Open(lode::testing::TestFile(std::string("golden/gguf/") + name + ".gguf"));
    ASSERT_TRUE(source.ok()) << source.error().ToString();
    for (const uint64_t shard_bytes_max : {uint64_t{0}, uint64_t{100'000}}) {
      const CopyFolder folder(shard_bytes_max == 0 ? "gguf-whole" : "gguf-split");
      GgufWriter writer;
      for (const GgufEntry& entry : (*source)->entries()) writer.Set(entry);
      for (const auto& info : (*source)->tensors()) writer.AddTensor(info.name, info.dtype, info.shape);
      const Result<void> begun = writer.Begin(folder.path() + "/" + name + ".gguf", shard_bytes_max);
      ASSERT_TRUE(begun.ok()) << begun.error().ToString();
      WriteTensors(**source, &writer);
      const auto copy = GgufFile::Open(writer.paths().front());
      ASSERT_TRUE(copy.ok()) << copy.error().ToString();
      ExpectSameTensors(**source, **copy);
      EXPECT_EQ((*copy)->shards() > 1, shard_bytes_max > 0);
      for (const GgufEntry& entry : (*source)->entries()) {
        const GgufEntry* other = (*copy)->FindEntry(entry.key);
        ASSERT_NE(other, nullptr) << entry.key;
        EXPECT_TRUE(entry.type == other->type && entry.element == other->element) << entry.key;
        ASSERT_EQ(entry.bytes.size(), other->bytes.size()) << entry.key;
        EXPECT_TRUE(std::equal(entry.bytes.begin(), entry.bytes.end(), other->bytes.begin()))
            << entry.key;
      }
    }
  }
}

TEST(Copy, ACheckpointIsTheSameModelWholeAndSharded) {
  for (const char* name : {"modelopt-mixed", "fp8-nano", "moe-nano", "sharded-tied"}) {
    const std::string path = lode::testing::TestFile(std::string("golden/") + name);
    const auto source = HfCheckpoint::Open(path);
    ASSERT_TRUE(source.ok()) << source.error().ToString();
    for (const uint64_t shard_bytes_max : {uint64_t{0}, uint64_t{50'000}}) {
      const CopyFolder folder(std::string(shard_bytes_max == 0 ? "hf-whole-" : "hf-sharded-") + name);
      const std::string config = (*source)->ReadFile("config.json").value();
      ASSERT_TRUE(WriteFileAtomic(folder.path() + "/config.json", config).ok());
      SafetensorsWriter writer;
      for (const auto& info : (*source)->tensors()) writer.AddTensor(info.name, info.dtype, info.shape);
      const Result<void> begun = writer.BeginFolder(folder.path(), shard_bytes_max);
      ASSERT_TRUE(begun.ok()) << begun.error().ToString();
      WriteTensors(**source, &writer);
      EXPECT_EQ(writer.paths().size() > 1, shard_bytes_max > 0);
      const auto copy = HfCheckpoint::Open(folder.path());
      ASSERT_TRUE(copy.ok()) << copy.error().ToString();
      ExpectSameTensors(**source, **copy);
    }
  }
}

}  // namespace
}  // namespace lode::formats
