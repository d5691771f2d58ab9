// The one way in for a path that a user typed: finds out what it is and opens it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "formats/hf_checkpoint.h"  // MemoryFiles
#include "tensor/source.h"

namespace lode::formats {

// `path` is one of
//   a .gguf file (of a split model: the first shard),
//   a Hugging Face folder (config.json and safetensors),
//   a folder that holds exactly one GGUF model,
//   a .safetensors or .safetensors.index.json file in a Hugging Face folder.
// Errors: one sentence with the path; for anything else it says what is accepted.
// Use naming() to tell the two kinds apart; GgufFile and HfCheckpoint give more than TensorSource.
Result<std::unique_ptr<tensor::TensorSource>> OpenSource(const std::string& path);

// The same from bytes that the caller keeps alive; `name` stands for the path in messages.
Result<std::unique_ptr<tensor::TensorSource>> OpenGgufFromMemory(std::span<const std::byte> bytes,
                                                                 const std::string& name);
Result<std::unique_ptr<tensor::TensorSource>> OpenHfFromMemory(MemoryFiles files,
                                                               const std::string& name);

}  // namespace lode::formats
