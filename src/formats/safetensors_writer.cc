#include "formats/safetensors_writer.h"

#include <algorithm>
#include <filesystem>
#include <unordered_set>
#include <utility>

#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "formats/shards.h"
#include "formats/safetensors.h"

namespace lode::formats {
namespace {

std::string JsonString(const std::string& text) { return DumpJson(Json(text)); }

}  // namespace

void SafetensorsWriter::SetMetadata(std::string_view key, std::string_view value) {
  for (auto& [old_key, old_value] : metadata_) {
    if (old_key == key) {
      old_value = value;
      return;
    }
  }
  metadata_.emplace_back(key, value);
}

void SafetensorsWriter::AddTensor(std::string_view name, tensor::DType dtype,
                                  const tensor::Shape& shape) {
  tensors_.push_back({std::string(name), dtype, shape, 0});
}

Result<void> SafetensorsWriter::Check() {
  std::unordered_set<std::string_view> names;
  for (Tensor& tensor : tensors_) {
    const std::string where = "tensor " + Quote(tensor.name, 200);
    if (tensor.name == "__metadata__" || !IsValidUtf8(tensor.name)) {
      return Error(Code::kBadInput, where + ": safetensors cannot hold this name");
    }
    if (!names.insert(tensor.name).second) {
      return Error(Code::kBadInput, where + " is there twice");
    }
    if (tensor::Info(tensor.dtype).safetensors[0] == '\0') {
      return Error(Code::kUnsupported,
                   where + ": safetensors has no type " + tensor::Name(tensor.dtype),
                   "convert it to bf16 or f32 with --type");
    }
    if (!tensor::CountBytes(tensor.dtype, tensor.shape, &tensor.bytes)) {
      return Error(Code::kBadInput,
                   where + ": its shape " + tensor::ToString(tensor.shape) + " is too large");
    }
  }
  return {};
}

Result<void> SafetensorsWriter::BeginFile(const std::string& path) {
  LODE_TRY(Check());
  shard_begin_ = {0, tensors_.size()};
  return Begin({path});
}

Result<void> SafetensorsWriter::BeginFolder(const std::string& folder, uint64_t shard_bytes_max) {
  LODE_TRY(Check());
  shard_begin_ = ShardBegins(tensors_, shard_bytes_max);
  const size_t shards = shard_begin_.size() - 1;
  if (shards == 1) return Begin({folder + "/model.safetensors"});
  index_path_ = folder + "/model.safetensors.index.json";
  std::vector<std::string> paths;
  for (size_t i = 0; i < shards; ++i) {
    paths.push_back(folder + Format("/model-%05zu-of-%05zu.safetensors", i + 1, shards));
  }
  return Begin(std::move(paths));
}

Result<void> SafetensorsWriter::Begin(std::vector<std::string> paths) {
  LODE_CHECK(files_.empty());
  paths_ = std::move(paths);
  for (size_t i = 0; i < paths_.size(); ++i) {
    LODE_ASSIGN(AtomicFile file, AtomicFile::Create(paths_[i]));
    files_.push_back(std::move(file));
    LODE_TRY(WriteHeader(i));
  }
  Advance();
  return {};
}

Result<void> SafetensorsWriter::WriteHeader(size_t shard) {
  // Written by hand: a document of a hundred thousand tensors would be built only to be printed.
  std::string header = "{\"__metadata__\":{";
  for (size_t i = 0; i < metadata_.size(); ++i) {
    if (i > 0) header += ',';
    header += JsonString(metadata_[i].first) + ":" + JsonString(metadata_[i].second);
  }
  header += '}';
  uint64_t offset = 0;
  for (size_t i = shard_begin_[shard]; i < shard_begin_[shard + 1]; ++i) {
    const Tensor& tensor = tensors_[i];
    header += "," + JsonString(tensor.name) + ":{\"dtype\":\"" +
              tensor::Info(tensor.dtype).safetensors + "\",\"shape\":[";
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      if (d > 0) header += ',';
      header += std::to_string(tensor.shape[d]);
    }
    header += "],\"data_offsets\":[" + std::to_string(offset) + ",";
    offset += tensor.bytes;
    header += std::to_string(offset) + "]}";
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');  // the data then begins at a multiple of 8
  if (header.size() > kSafetensorsHeaderBytesMax) {
    return Error(Code::kBadInput, Quote(paths_[shard], 300) + ": its header would be too large",
                 "split the model into more files");
  }
  const uint64_t length = header.size();
  LODE_TRY(files_[shard].Write(&length, sizeof(length)));
  return files_[shard].Write(header);
}

// Past every tensor that has all its bytes.
void SafetensorsWriter::Advance() {
  while (tensor_ < tensors_.size()) {
    while (tensor_ >= shard_begin_[shard_ + 1]) ++shard_;
    if (done_ < tensors_[tensor_].bytes) return;
    ++tensor_;
    done_ = 0;
  }
}

Result<void> SafetensorsWriter::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (tensor_ == tensors_.size()) {
      return Error(Code::kInternal, "more tensor bytes were written than declared");
    }
    const size_t count = static_cast<size_t>(
        std::min<uint64_t>(bytes.size(), tensors_[tensor_].bytes - done_));
    LODE_TRY(files_[shard_].Write(bytes.data(), count));
    done_ += count;
    bytes = bytes.subspan(count);
    Advance();
  }
  return {};
}

std::string SafetensorsWriter::IndexJson() const {
  uint64_t total = 0;
  for (const Tensor& tensor : tensors_) total += tensor.bytes;
  std::string json = "{\n  \"metadata\": {\n    \"total_size\": " + std::to_string(total) +
                     "\n  },\n  \"weight_map\": {";
  for (size_t shard = 0; shard + 1 < shard_begin_.size(); ++shard) {
    const std::string file =
        JsonString(std::filesystem::path(paths_[shard]).filename().string());
    for (size_t i = shard_begin_[shard]; i < shard_begin_[shard + 1]; ++i) {
      json += (i > 0 ? ",\n    " : "\n    ") + JsonString(tensors_[i].name) + ": " + file;
    }
  }
  return json + "\n  }\n}\n";
}

Result<void> SafetensorsWriter::Finish() {
  if (tensor_ != tensors_.size()) {
    return Error(Code::kInternal, "tensor " + Quote(tensors_[tensor_].name) +
                                      " was not written completely");
  }
  for (AtomicFile& file : files_) LODE_TRY(file.Commit());
  if (index_path_.empty()) return {};
  return WriteFileAtomic(index_path_, IndexJson());
}

}  // namespace lode::formats
