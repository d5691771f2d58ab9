// Element types of tensors: plain numbers and quantized blocks, with their sizes and names.
// One table (dtype.cc) feeds the readers, the writers, `inspect` and the error messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lode::tensor {

enum class DType : uint8_t {
  kF32, kF16, kBF16, kF64,
  kI8, kI16, kI32, kI64, kU8, kU16, kU32, kU64, kBool,
  kF8E4M3, kF8E5M2, kF8E8M0,
  kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0,
  kQ2K, kQ3K, kQ4K, kQ5K, kQ6K,
  kIQ4NL, kIQ4XS, kMXFP4, kNVFP4,
};

struct DTypeInfo {
  DType dtype;
  const char* name;         // lower case, as in flags and messages: "q4_0"
  int ggml_id;              // id in GGUF files, -1 when GGUF has no such type
  const char* safetensors;  // name in safetensors headers, "" when it has no such type
  int block_elements;       // elements in one block, 1 for plain numbers
  int block_bytes;          // bytes of one block
  bool weights;             // Lode decodes it as weights of a model
};

const DTypeInfo& Info(DType dtype);
const std::vector<DTypeInfo>& AllDTypes();
inline const char* Name(DType dtype) { return Info(dtype).name; }

// kUnsupported, with the type's public name, for a GGUF type that Lode does not read.
Result<DType> DTypeFromGgml(uint32_t ggml_id);
Result<DType> DTypeFromSafetensors(std::string_view name);
// By the name in Info, upper or lower case ("Q4_K" and "q4_k" too); errors list what there is.
Result<DType> DTypeFromName(std::string_view name);

}  // namespace lode::tensor
