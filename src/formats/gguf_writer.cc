#include "formats/gguf_writer.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/check.h"
#include "base/text.h"
#include "formats/shards.h"

namespace lode::formats {
namespace {

constexpr uint64_t kAlignmentMax = 4096;
constexpr size_t kTensorNameBytesMax = 63;  // llama.cpp refuses longer ones
constexpr size_t kShardsMax = 65535;        // split.no is a u16

template <typename T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string* out, std::string_view text) {
  Append(out, static_cast<uint64_t>(text.size()));
  out->append(text);
}

template <typename T>
std::string_view AsBytes(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

template <typename T>
std::string_view AsBytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

uint64_t Padding(uint64_t bytes, uint64_t alignment) {
  return (alignment - bytes % alignment) % alignment;
}

}  // namespace

void GgufWriter::SetRaw(std::string_view key, GgufType type, std::string_view value) {
  std::string stored;
  Append(&stored, static_cast<uint32_t>(type));
  stored.append(value);
  for (Entry& entry : entries_) {
    if (entry.key == key) {
      entry.value = std::move(stored);
      return;
    }
  }
  entries_.push_back({std::string(key), std::move(stored)});
}

void GgufWriter::SetArray(std::string_view key, GgufType element, uint64_t count,
                          std::string_view elements) {
  std::string value;
  Append(&value, static_cast<uint32_t>(element));
  Append(&value, count);
  value.append(elements);
  SetRaw(key, GgufType::kArray, value);
}

void GgufWriter::SetString(std::string_view key, std::string_view value) {
  std::string stored;
  AppendString(&stored, value);
  SetRaw(key, GgufType::kString, stored);
}
void GgufWriter::SetBool(std::string_view key, bool value) {
  SetRaw(key, GgufType::kBool, value ? std::string_view("\1", 1) : std::string_view("\0", 1));
}
void GgufWriter::SetU16(std::string_view key, uint16_t value) {
  SetRaw(key, GgufType::kU16, AsBytes(value));
}
void GgufWriter::SetU32(std::string_view key, uint32_t value) {
  SetRaw(key, GgufType::kU32, AsBytes(value));
}
void GgufWriter::SetI32(std::string_view key, int32_t value) {
  SetRaw(key, GgufType::kI32, AsBytes(value));
}
void GgufWriter::SetU64(std::string_view key, uint64_t value) {
  SetRaw(key, GgufType::kU64, AsBytes(value));
}
void GgufWriter::SetF32(std::string_view key, float value) {
  SetRaw(key, GgufType::kF32, AsBytes(value));
}
void GgufWriter::SetStrings(std::string_view key, std::span<const std::string_view> values) {
  std::string elements;
  for (const std::string_view value : values) AppendString(&elements, value);
  SetArray(key, GgufType::kString, values.size(), elements);
}
void GgufWriter::SetStrings(std::string_view key, std::span<const std::string> values) {
  std::string elements;
  for (const std::string& value : values) AppendString(&elements, value);
  SetArray(key, GgufType::kString, values.size(), elements);
}
void GgufWriter::SetI32s(std::string_view key, std::span<const int32_t> values) {
  SetArray(key, GgufType::kI32, values.size(), AsBytes(values));
}
void GgufWriter::SetU32s(std::string_view key, std::span<const uint32_t> values) {
  SetArray(key, GgufType::kU32, values.size(), AsBytes(values));
}
void GgufWriter::SetF32s(std::string_view key, std::span<const float> values) {
  SetArray(key, GgufType::kF32, values.size(), AsBytes(values));
}
void GgufWriter::SetBools(std::string_view key, std::span<const bool> values) {
  SetArray(key, GgufType::kBool, values.size(), AsBytes(values));
}
void GgufWriter::Set(const GgufEntry& entry) {
  if (entry.type == GgufType::kString) return SetString(entry.key, AsText(entry.bytes));
  if (entry.type != GgufType::kArray) return SetRaw(entry.key, entry.type, AsText(entry.bytes));
  SetArray(entry.key, entry.element, entry.count, AsText(entry.bytes));
}

void GgufWriter::SetAlignment(uint32_t bytes) {
  LODE_CHECK(bytes > 0 && bytes <= kAlignmentMax && bytes % 8 == 0);
  alignment_ = bytes;
  SetU32("general.alignment", bytes);
}

void GgufWriter::AddTensor(std::string_view name, tensor::DType dtype,
                           const tensor::Shape& shape) {
  tensors_.push_back({std::string(name), dtype, shape, 0});
}

// Everything that a reader would refuse is refused here, before a file exists.
Result<void> GgufWriter::Check() {
  std::unordered_set<std::string_view> names;
  for (const Entry& entry : entries_) {
    const bool plain = std::all_of(entry.key.begin(), entry.key.end(),
                                   [](char c) { return c > ' ' && c < 0x7F; });
    if (entry.key.empty() || entry.key.size() > 65535 || !plain) {
      return Error(Code::kBadInput, "GGUF cannot hold the metadata key " + Quote(entry.key));
    }
  }
  for (Tensor& tensor : tensors_) {
    const std::string where = "tensor " + Quote(tensor.name, 200);
    if (tensor.name.empty() || tensor.name.size() > kTensorNameBytesMax) {
      return Error(Code::kBadInput, where + Format(": GGUF names have 1 to %zu bytes",
                                                   kTensorNameBytesMax));
    }
    if (!names.insert(tensor.name).second) {
      return Error(Code::kBadInput, where + " is there twice");
    }
    if (tensor::Info(tensor.dtype).ggml_id < 0) {
      return Error(Code::kUnsupported, where + ": GGUF has no type " + tensor::Name(tensor.dtype),
                   "convert it to another type with --type");
    }
    if (tensor.shape.size() > 4) {
      return Error(Code::kBadInput, where + ": GGUF holds at most 4 dimensions, not " +
                                        tensor::ToString(tensor.shape));
    }
    if (!tensor::CountBytes(tensor.dtype, tensor.shape, &tensor.bytes)) {
      return Error(Code::kBadInput, where + ": its shape " + tensor::ToString(tensor.shape) +
                                        " is not whole " + tensor::Name(tensor.dtype) + " blocks");
    }
  }
  return {};
}

Result<void> GgufWriter::Begin(const std::string& path, uint64_t shard_bytes_max) {
  LODE_CHECK(files_.empty());
  LODE_TRY(Check());
  shard_begin_ = ShardBegins(tensors_, shard_bytes_max);
  const size_t shards = shard_begin_.size() - 1;
  if (shards > kShardsMax) {
    return Error(Code::kBadInput, Format("%zu shards are more than GGUF allows", shards),
                 "allow larger shards");
  }
  std::string prefix = path;
  if (EndsWith(prefix, ".gguf")) prefix.resize(prefix.size() - 5);
  for (size_t i = 0; i < shards; ++i) {
    paths_.push_back(shards == 1 ? path
                                 : prefix + Format("-%05zu-of-%05zu.gguf", i + 1, shards));
    LODE_ASSIGN(AtomicFile file, AtomicFile::Create(paths_.back()));
    files_.push_back(std::move(file));
    LODE_TRY(WriteHeader(i));
  }
  return PadFinishedTensors();
}

Result<void> GgufWriter::WriteHeader(size_t shard) {
  const size_t shards = shard_begin_.size() - 1;
  std::vector<Entry> all = shard == 0 ? entries_ : std::vector<Entry>();
  if (shards > 1) {
    GgufWriter split;  // only for its encoding of the three keys
    split.SetU16("split.no", static_cast<uint16_t>(shard));
    split.SetU16("split.count", static_cast<uint16_t>(shards));
    split.SetI32("split.tensors.count", static_cast<int32_t>(tensors_.size()));
    for (Entry& entry : split.entries_) {
      std::erase_if(all, [&](const Entry& old) { return old.key == entry.key; });
      all.push_back(std::move(entry));
    }
  }
  std::string header = "GGUF";
  Append(&header, uint32_t{3});
  Append(&header, static_cast<uint64_t>(shard_begin_[shard + 1] - shard_begin_[shard]));
  Append(&header, static_cast<uint64_t>(all.size()));
  for (const Entry& entry : all) {
    AppendString(&header, entry.key);
    header += entry.value;
  }
  uint64_t offset = 0;
  for (size_t i = shard_begin_[shard]; i < shard_begin_[shard + 1]; ++i) {
    const Tensor& tensor = tensors_[i];
    AppendString(&header, tensor.name);
    Append(&header, static_cast<uint32_t>(tensor.shape.size()));
    for (size_t d = tensor.shape.size(); d-- > 0;) {
      Append(&header, static_cast<uint64_t>(tensor.shape[d]));
    }
    Append(&header, static_cast<uint32_t>(tensor::Info(tensor.dtype).ggml_id));
    Append(&header, offset);
    offset += tensor.bytes + Padding(tensor.bytes, alignment_);
  }
  header.append(Padding(header.size(), alignment_), '\0');
  return files_[shard].Write(header);
}

// Closes every tensor that has all its bytes and moves on to the next one, across shards.
Result<void> GgufWriter::PadFinishedTensors() {
  static constexpr char kZeros[kAlignmentMax] = {};
  while (tensor_ < tensors_.size()) {
    while (tensor_ >= shard_begin_[shard_ + 1]) ++shard_;
    if (done_ < tensors_[tensor_].bytes) return {};
    LODE_TRY(files_[shard_].Write(kZeros, Padding(done_, alignment_)));
    ++tensor_;
    done_ = 0;
  }
  return {};
}

Result<void> GgufWriter::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (tensor_ == tensors_.size()) {
      return Error(Code::kInternal, "more tensor bytes were written than declared");
    }
    const size_t count = static_cast<size_t>(
        std::min<uint64_t>(bytes.size(), tensors_[tensor_].bytes - done_));
    LODE_TRY(files_[shard_].Write(bytes.data(), count));
    done_ += count;
    bytes = bytes.subspan(count);
    LODE_TRY(PadFinishedTensors());
  }
  return {};
}

Result<void> GgufWriter::Finish() {
  if (tensor_ != tensors_.size()) {
    return Error(Code::kInternal, "tensor " + Quote(tensors_[tensor_].name) +
                                      " was not written completely");
  }
  for (size_t i = files_.size(); i-- > 0;) LODE_TRY(files_[i].Commit());
  return {};
}

}  // namespace lode::formats
