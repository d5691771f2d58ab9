// GGUF version 3 files, whole or split into shards: writing.
//
// Order of use: metadata and tensor declarations, Begin, then the bytes of every tensor in the
// order of their declaration (in pieces of any size), Finish. Nothing of a model has to be in
// memory.
//
// Surprising policy: files appear under their names at Finish, all or (if the disk fails in
// between) the last shards first, so that a first shard is never there without its siblings. An
// object that dies before Finish leaves nothing behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "formats/gguf.h"
#include "tensor/dtype.h"
#include "tensor/source.h"

namespace lode::formats {

class GgufWriter {
 public:
  // Metadata, written in the order of the first setting; setting a key again replaces its value.
  // Errors of keys (empty, longer than 65535 bytes, not ASCII) come from Begin.
  void SetString(std::string_view key, std::string_view value);
  void SetBool(std::string_view key, bool value);
  void SetU16(std::string_view key, uint16_t value);
  void SetU32(std::string_view key, uint32_t value);
  void SetI32(std::string_view key, int32_t value);
  void SetU64(std::string_view key, uint64_t value);
  void SetF32(std::string_view key, float value);
  void SetStrings(std::string_view key, std::span<const std::string_view> values);
  void SetStrings(std::string_view key, std::span<const std::string> values);
  void SetI32s(std::string_view key, std::span<const int32_t> values);
  void SetU32s(std::string_view key, std::span<const uint32_t> values);
  void SetF32s(std::string_view key, std::span<const float> values);
  void SetBools(std::string_view key, std::span<const bool> values);
  // As another file has it.
  void Set(const GgufEntry& entry);

  // Where tensors begin: multiples of so many bytes (a multiple of 8, at most 4096); 32 unless set,
  // the format's default, which no key has to say.
  void SetAlignment(uint32_t bytes);
  void AddTensor(std::string_view name, tensor::DType dtype, const tensor::Shape& shape);

  // Creates the file(s) and writes headers. With `shard_bytes_max` above 0 and more tensor bytes
  // than that, the model is split: path "dir/x.gguf" becomes "dir/x-00001-of-0000N.gguf" and so on;
  // a tensor larger than the limit has a shard of its own.
  // Errors: kBadInput for a name, shape or type that GGUF cannot hold (the tensor is named),
  // kNoSpace, and what the system says.
  Result<void> Begin(const std::string& path, uint64_t shard_bytes_max = 0);
  // The next bytes of the tensors. More bytes than declared are a caller's bug (kInternal).
  Result<void> Write(std::span<const std::byte> bytes);
  // Errors: kInternal when tensors are incomplete, or what the system says (a full disk).
  Result<void> Finish();

  // Valid after Begin: the files, first shard first.
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  struct Entry {
    std::string key;
    std::string value;  // type and value as stored
  };
  struct Tensor {
    std::string name;
    tensor::DType dtype;
    tensor::Shape shape;
    uint64_t bytes = 0;
  };

  void SetRaw(std::string_view key, GgufType type, std::string_view value);
  void SetArray(std::string_view key, GgufType element, uint64_t count, std::string_view elements);
  Result<void> Check();
  Result<void> WriteHeader(size_t shard);
  Result<void> PadFinishedTensors();

  uint64_t alignment_ = 32;
  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
  std::vector<size_t> shard_begin_;  // first tensor of each shard; one more at the end
  std::vector<std::string> paths_;
  std::vector<AtomicFile> files_;
  size_t shard_ = 0;    // being written
  size_t tensor_ = 0;   // being written
  uint64_t done_ = 0;   // bytes of it
};

}  // namespace lode::formats
