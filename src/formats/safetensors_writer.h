// safetensors files, one or several with an index: writing.
//
// Order of use: tensor declarations, Begin, the bytes of every tensor in the order of their
// declaration (in pieces of any size), Finish. Files appear under their names at Finish, the index
// last; an object that dies before leaves nothing behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tensor/dtype.h"
#include "tensor/source.h"

namespace lode::formats {

class SafetensorsWriter {
 public:
  // The header's "__metadata__"; {"format": "pt"} is there from the start, as loaders ask for it.
  void SetMetadata(std::string_view key, std::string_view value);
  void AddTensor(std::string_view name, tensor::DType dtype, const tensor::Shape& shape);

  // One file with exactly this path.
  Result<void> BeginFile(const std::string& path);
  // In a folder: model.safetensors, or with more than `shard_bytes_max` (above 0) tensor bytes
  // model-00001-of-0000N.safetensors ... and model.safetensors.index.json.
  // Errors: kBadInput for a name or type that the format cannot hold, and what the system says.
  Result<void> BeginFolder(const std::string& folder, uint64_t shard_bytes_max = 0);
  // The next bytes of the tensors. More bytes than declared are a caller's bug (kInternal).
  Result<void> Write(std::span<const std::byte> bytes);
  // Errors: kInternal when tensors are incomplete, or what the system says (a full disk).
  Result<void> Finish();

  // Valid after Begin: the weight files, in order.
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  struct Tensor {
    std::string name;
    tensor::DType dtype;
    tensor::Shape shape;
    uint64_t bytes = 0;
  };

  Result<void> Check();
  Result<void> Begin(std::vector<std::string> paths);
  Result<void> WriteHeader(size_t shard);
  void Advance();
  std::string IndexJson() const;

  std::vector<std::pair<std::string, std::string>> metadata_ = {{"format", "pt"}};
  std::vector<Tensor> tensors_;
  std::vector<size_t> shard_begin_;  // first tensor of each shard; one more at the end
  std::vector<std::string> paths_;
  std::string index_path_;  // empty: no index
  std::vector<AtomicFile> files_;
  size_t shard_ = 0;   // being written
  size_t tensor_ = 0;  // being written
  uint64_t done_ = 0;  // bytes of it
};

}  // namespace lode::formats
