#include "formats/open.h"

#include <cstdio>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "formats/gguf.h"

namespace lode::formats {
namespace {

using Source = std::unique_ptr<tensor::TensorSource>;

const char* const kAccepted =
    "give a .gguf file, a Hugging Face folder (config.json and safetensors), a folder with one GGUF "
    "model, or the .safetensors or .safetensors.index.json file of such a folder";

template <typename T>
Result<Source> AsSource(Result<std::unique_ptr<T>> opened) {
  if (!opened.ok()) return std::move(opened).error();
  return Source(std::move(opened).value());
}

bool IsPickle(const std::string& name) {
  return EndsWith(name, ".bin") || EndsWith(name, ".pt") || EndsWith(name, ".pth") ||
         EndsWith(name, ".ckpt") || EndsWith(name, ".pkl");
}

bool BeginsLikeGguf(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  char magic[4] = {};
  const size_t got = std::fread(magic, 1, sizeof(magic), file);
  std::fclose(file);
  return got == 4 && std::string_view(magic, 4) == "GGUF";
}

// "model-00002-of-00004.gguf": a shard that is not the first.
bool IsLaterShard(const std::string& name) {
  const size_t at = name.rfind("-of-");
  if (at == std::string::npos || at < 6 || !EndsWith(name, ".gguf")) return false;
  const std::string number = name.substr(at - 5, 5);
  int64_t value = 0;
  return name[at - 6] == '-' && ParseInt64(number, &value) && value > 1;
}

Result<Source> OpenFolder(const std::string& path) {
  const bool has_weights = FileExists(path + "/model.safetensors") ||
                           FileExists(path + "/model.safetensors.index.json");
  if (has_weights) return AsSource(HfCheckpoint::Open(path));
  LODE_ASSIGN(const std::vector<std::string> names, ListFolder(path));
  std::vector<std::string> models;
  for (const std::string& name : names) {
    if (EndsWith(name, ".gguf") && !IsLaterShard(name)) models.push_back(name);
  }
  if (models.size() == 1) return AsSource(GgufFile::Open(path + "/" + models[0]));
  if (models.size() > 1) {
    return Error(Code::kBadInput, Quote(path, 300) + Format(" holds %zu GGUF models: ",
                                                            models.size()) + Join(models, ", "),
                 "give the path of one");
  }
  if (FileExists(path + "/config.json")) return AsSource(HfCheckpoint::Open(path));
  return Error(Code::kBadInput, Quote(path, 300) + " holds no model", kAccepted);
}

}  // namespace

Result<Source> OpenSource(const std::string& path) {
  if (IsFolder(path)) return OpenFolder(path);
  LODE_ASSIGN(const uint64_t size, FileSize(path));
  const std::filesystem::path split(path);
  const std::string folder = split.has_parent_path() ? split.parent_path().string() : ".";
  const std::string name = split.filename().string();
  if (EndsWith(name, ".gguf") || BeginsLikeGguf(path)) return AsSource(GgufFile::Open(path));
  if (EndsWith(name, ".safetensors") || EndsWith(name, ".safetensors.index.json")) {
    return AsSource(HfCheckpoint::Open(folder, name));
  }
  if (name == "config.json") return AsSource(HfCheckpoint::Open(folder));
  if (IsPickle(name)) {
    return Error(Code::kUnsupported,
                 Quote(path, 300) + " looks like a PyTorch pickle, which can run code when it is "
                                    "loaded; Lode does not read it",
                 "take the model's safetensors or GGUF files");
  }
  return Error(Code::kBadInput,
               Quote(path, 300) + " (" + HumanBytes(size) + ") is no model that Lode knows",
               kAccepted);
}

Result<Source> OpenGgufFromMemory(std::span<const std::byte> bytes, const std::string& name) {
  return AsSource(GgufFile::FromMemory(bytes, name));
}

Result<Source> OpenHfFromMemory(MemoryFiles files, const std::string& name) {
  return AsSource(HfCheckpoint::FromMemory(std::move(files), name));
}

}  // namespace lode::formats
