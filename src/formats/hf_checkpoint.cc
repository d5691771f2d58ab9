#include "formats/hf_checkpoint.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/text.h"
#include "formats/safetensors.h"

namespace lode::formats {
namespace {

using tensor::TensorInfo;

constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr const char* kSingleFile = "model.safetensors";
constexpr std::string_view kTextPrefix = "language_model.";
constexpr size_t kListedMax = 200;  // names in one message; beyond that a number does

// All of them, up to a length that a terminal still holds.
std::string List(const std::vector<std::string>& names) {
  std::vector<std::string> quoted;
  for (size_t i = 0; i < names.size() && i < kListedMax; ++i) quoted.push_back(Quote(names[i], 200));
  std::string list = Join(quoted, ", ");
  if (names.size() > kListedMax) list += Format(" and %zu more", names.size() - kListedMax);
  return list;
}

// A file name that cannot lead out of its folder.
bool IsPlainName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= 255 &&
         std::none_of(name.begin(), name.end(), [](char c) {
           return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20;
         });
}

Error MissingShards(const std::vector<std::string>& missing, size_t shards) {
  return Error(Code::kNotFound, Format("%zu of its %zu weight files are missing: ",
                                       missing.size(), shards) + List(missing),
               "download them into the same folder");
}

}  // namespace

Result<std::unique_ptr<HfCheckpoint>> HfCheckpoint::Open(const std::string& folder,
                                                         const std::string& weights) {
  std::unique_ptr<HfCheckpoint> checkpoint(new HfCheckpoint);
  checkpoint->path_ = folder.empty() ? "." : folder;
  while (checkpoint->path_.size() > 1 && checkpoint->path_.back() == '/') {
    checkpoint->path_.pop_back();
  }
  return Load(std::move(checkpoint), weights);
}

Result<std::unique_ptr<HfCheckpoint>> HfCheckpoint::FromMemory(MemoryFiles files,
                                                               const std::string& name) {
  std::unique_ptr<HfCheckpoint> checkpoint(new HfCheckpoint);
  checkpoint->path_ = name;
  checkpoint->in_memory_ = true;
  checkpoint->memory_ = std::move(files);
  return Load(std::move(checkpoint), "");
}

Result<std::unique_ptr<HfCheckpoint>> HfCheckpoint::Load(std::unique_ptr<HfCheckpoint> checkpoint,
                                                         const std::string& weights) {
  const auto load = [&]() -> Result<void> {
    LODE_TRY(checkpoint->LoadConfig());
    std::string index = weights;
    if (weights.empty()) {
      index = checkpoint->HasFile(kIndexFile) ? kIndexFile : "";
    } else if (EndsWith(weights, ".safetensors")) {
      // A shard that the index speaks of stands for the whole model. Plain names need no escapes in
      // JSON, so a search of the text finds it.
      index.clear();
      if (checkpoint->HasFile(kIndexFile)) {
        LODE_ASSIGN(const std::string text, checkpoint->ReadFile(kIndexFile));
        if (text.find('"' + weights + '"') != std::string::npos) index = kIndexFile;
      }
    }
    if (!index.empty()) return checkpoint->LoadIndex(index);
    return checkpoint->LoadSingle(weights.empty() ? kSingleFile : weights);
  };
  Result<void> loaded = load();
  if (!loaded.ok()) return std::move(loaded.error().AddContext(Quote(checkpoint->path_, 300)));
  checkpoint->Unwrap();
  return checkpoint;
}

std::string HfCheckpoint::FilePath(const std::string& name) const { return path_ + "/" + name; }

bool HfCheckpoint::HasFile(const std::string& name) const {
  if (!IsPlainName(name)) return false;
  return in_memory_ ? memory_.count(name) > 0 : FileExists(FilePath(name));
}

Result<std::string> HfCheckpoint::ReadFile(const std::string& name) const {
  if (!HasFile(name)) {
    return Error(Code::kNotFound, Quote(path_, 300) + " has no file " + Quote(name));
  }
  if (!in_memory_) return lode::ReadFile(FilePath(name));
  const std::span<const std::byte> bytes = memory_.at(name);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<Json> HfCheckpoint::ReadJson(const std::string& name) const {
  LODE_ASSIGN(const std::string text, ReadFile(name));
  // These files are written by Python.
  Result<Json> json = ParseJson(text, {.python_numbers = true});
  if (!json.ok()) json.error().AddContext(Quote(FilePath(name), 300));
  return json;
}

Result<std::span<const std::byte>> HfCheckpoint::Map(const std::string& name) {
  if (in_memory_) {
    files_.push_back(memory_.at(name));
  } else {
    LODE_ASSIGN(auto map, MappedFile::Open(FilePath(name)));
    files_.push_back(map->bytes());
    maps_.push_back(std::move(map));
  }
  return files_.back();
}

Result<void> HfCheckpoint::LoadConfig() {
  if (!HasFile("config.json")) {
    return Error(Code::kNotFound, "it has no config.json",
                 "give a folder as downloaded from Hugging Face, or a .gguf file");
  }
  LODE_ASSIGN(config_, ReadJson("config.json"));
  if (!config_.is_object()) return Error(Code::kBadInput, "config.json is no JSON object");
  return {};
}

void HfCheckpoint::AddTensor(TensorInfo info, int file) {
  tensors_.push_back(std::move(info));
  tensor_file_.push_back(file);
}

Result<void> HfCheckpoint::LoadSingle(const std::string& file) {
  if (!HasFile(file)) {
    std::vector<std::string> others;
    bool pickles = false;
    if (!in_memory_) {
      LODE_ASSIGN(const std::vector<std::string> names, ListFolder(path_));
      for (const std::string& name : names) {
        if (EndsWith(name, ".safetensors")) others.push_back(name);
        pickles = pickles || EndsWith(name, ".bin") || EndsWith(name, ".pth");
      }
    }
    if (!others.empty()) {
      return Error(Code::kNotFound, std::string("it has neither ") + kIndexFile + " nor " +
                                        kSingleFile + ", only " + List(others),
                   "download the index too, or give the path of one .safetensors file");
    }
    if (pickles) {
      return Error(Code::kUnsupported,
                   "its weights are PyTorch pickles, which can run code when they are loaded; Lode "
                   "does not read them",
                   "take the model's safetensors or GGUF files");
    }
    return Error(Code::kNotFound, std::string("it has neither ") + kIndexFile + " nor " +
                                      kSingleFile,
                 "download the weights into the same folder");
  }
  LODE_ASSIGN(const auto bytes, Map(file));
  LODE_ASSIGN(SafetensorsFile parsed, ParseSafetensors(bytes, FilePath(file)));
  for (TensorInfo& info : parsed.tensors) AddTensor(std::move(info), 0);
  for (auto& [name, dtype] : parsed.unreadable) unreadable_.emplace(name, dtype);
  return {};
}

Result<void> HfCheckpoint::LoadIndex(const std::string& index) {
  LODE_ASSIGN(const std::string text, ReadFile(index));
  Result<Json> json = ParseJson(text, {.refuse_duplicates = true});
  if (!json.ok()) return std::move(json.error().AddContext(index));
  const Json* weight_map = FindKey(*json, "weight_map");
  if (weight_map == nullptr || !weight_map->is_object()) {
    return Error(Code::kBadInput, index + " has no object \"weight_map\"", "download it again");
  }
  struct Mapped {
    std::string file;
    bool found = false;
  };
  std::unordered_map<std::string, Mapped> wanted;
  wanted.reserve(weight_map->size());
  std::set<std::string> files;
  for (const auto& [name, file] : weight_map->items()) {
    if (!file.is_string() || !IsPlainName(file.get_ref<const std::string&>()) ||
        !EndsWith(file.get_ref<const std::string&>(), ".safetensors")) {
      return Error(Code::kBadInput, index + ": tensor " + Quote(name) + " is mapped to " +
                                        Quote(DumpJson(file)) +
                                        ", which is no plain name of a .safetensors file");
    }
    wanted[name].file = file.get<std::string>();
    files.insert(wanted[name].file);
  }
  std::vector<std::string> missing;
  for (const std::string& file : files) {
    if (!HasFile(file)) missing.push_back(file);
  }
  if (!missing.empty()) return MissingShards(missing, files.size());

  size_t unmapped = 0, found_count = 0;
  for (const std::string& file : files) {
    LODE_ASSIGN(const auto bytes, Map(file));
    LODE_ASSIGN(SafetensorsFile parsed, ParseSafetensors(bytes, FilePath(file)));
    const auto claim = [&](const std::string& name) {
      const auto found = wanted.find(name);
      if (found == wanted.end() || found->second.file != file) {
        ++unmapped;
        return false;
      }
      found->second.found = true;  // a file has no name twice, so this counts each once
      ++found_count;
      return true;
    };
    for (TensorInfo& info : parsed.tensors) {
      if (claim(info.name)) AddTensor(std::move(info), static_cast<int>(files_.size()) - 1);
    }
    for (auto& [name, dtype] : parsed.unreadable) {
      if (claim(name)) unreadable_.emplace(name, dtype);
    }
  }
  if (found_count < wanted.size()) {
    std::vector<std::string> absent;
    for (const auto& [name, file] : weight_map->items()) {
      if (!wanted[name].found) absent.push_back(name + " (in " + wanted[name].file + ")");
    }
    return Error(Code::kNotFound, Format("%zu tensors of ", absent.size()) + index +
                                      " are not in the files it names: " + List(absent),
                 "the files do not belong together; download them again");
  }
  if (unmapped > 0) {
    warnings_.push_back(Quote(path_, 300) + Format(": %zu tensors are not in ", unmapped) + index +
                        " and are ignored");
  }
  return {};
}

void HfCheckpoint::Unwrap() {
  const Json* text = FindKey(config_, "llm_config");
  if (text == nullptr || !text->is_object()) text = FindKey(config_, "text_config");
  if (text != nullptr && text->is_object()) {
    Json inner = *text;
    const Json* quantization = FindKey(config_, "quantization_config");
    if (quantization != nullptr && FindKey(inner, "quantization_config") == nullptr) {
      inner["quantization_config"] = *quantization;
    }
    root_config_ = std::move(config_);
    config_ = std::move(inner);

    const auto has_prefix = [](const auto& name) { return StartsWith(name, kTextPrefix); };
    const bool prefixed = std::any_of(tensors_.begin(), tensors_.end(), [&](const TensorInfo& t) {
      return has_prefix(t.name);
    });
    if (prefixed) {
      size_t kept = 0;
      for (size_t i = 0; i < tensors_.size(); ++i) {
        if (!has_prefix(tensors_[i].name)) continue;
        tensors_[i].name.erase(0, kTextPrefix.size());
        if (kept != i) {
          tensors_[kept] = std::move(tensors_[i]);
          tensor_file_[kept] = tensor_file_[i];
        }
        ++kept;
      }
      tensors_.resize(kept);
      tensor_file_.resize(kept);
      std::unordered_map<std::string, std::string> unreadable;
      for (const auto& [name, dtype] : unreadable_) {
        if (has_prefix(name)) unreadable.emplace(name.substr(kTextPrefix.size()), dtype);
      }
      unreadable_ = std::move(unreadable);
    }
  }
  // Last, because the views point into the names.
  tensor_index_.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) tensor_index_.emplace(tensors_[i].name, i);
}

const TensorInfo* HfCheckpoint::Find(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

tensor::TensorView HfCheckpoint::View(const TensorInfo& info) const {
  const auto found = tensor_index_.find(info.name);
  LODE_CHECK(found != tensor_index_.end());
  const TensorInfo& ours = tensors_[found->second];
  const std::span<const std::byte> file = files_[static_cast<size_t>(tensor_file_[found->second])];
  return {ours.dtype, ours.shape, file.subspan(ours.file_offset, ours.bytes)};
}

std::string HfCheckpoint::WhyAbsent(std::string_view name) const {
  const auto found = unreadable_.find(std::string(name));
  if (found == unreadable_.end()) return "";
  return "has the dtype " + Quote(found->second) + ", which Lode does not read";
}

}  // namespace lode::formats
