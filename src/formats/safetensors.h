// One safetensors file: reading. Writing is in safetensors_writer.h; a folder of shards with its
// config is hf_checkpoint.h. Tensors are views into the caller's bytes and may be unaligned.
//
// Surprising policy: the header is checked completely (lengths, repeated names, sizes, and that the
// tensors tile the data without hole or overlap), but a dtype that Lode does not know is no error
// until somebody wants that tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tensor/source.h"

namespace lode::formats {

// The reference reader's limit; no published header comes near it.
inline constexpr uint64_t kSafetensorsHeaderBytesMax = 100'000'000;

struct SafetensorsFile {
  // In the order of the data. `file_offset` counts from the beginning of the file.
  std::vector<tensor::TensorInfo> tensors;
  // Tensors whose dtype Lode has no word for: name and the dtype as written.
  std::vector<std::pair<std::string, std::string>> unreadable;
  std::vector<std::pair<std::string, std::string>> metadata;
};

// `bytes` is the whole file, `name` its path for messages. Errors: kBadInput, naming file and tensor.
Result<SafetensorsFile> ParseSafetensors(std::span<const std::byte> bytes, const std::string& name);

}  // namespace lode::formats
