#include "tensor/dtype.h"

#include <algorithm>
#include <cctype>
#include <map>

#include "base/text.h"

namespace lode::tensor {
namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// GGUF types that exist and that Lode refuses by name.
const std::map<uint32_t, const char*>& RefusedGgmlTypes() {
  static const std::map<uint32_t, const char*> kNames = {
      {9, "Q8_1"},  {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"},
      {19, "IQ1_S"}, {21, "IQ3_S"}, {22, "IQ2_S"},   {29, "IQ1_M"},  {34, "TQ1_0"},
      {35, "TQ2_0"}, {41, "Q1_0"},  {42, "Q2_0"}};
  return kNames;
}

}  // namespace

const std::vector<DTypeInfo>& AllDTypes() {
  // In the order of the enum; Info() indexes it.
  static const std::vector<DTypeInfo> kTable = {
      {DType::kF32, "f32", 0, "F32", 1, 4, true},
      {DType::kF16, "f16", 1, "F16", 1, 2, true},
      {DType::kBF16, "bf16", 30, "BF16", 1, 2, true},
      {DType::kF64, "f64", 28, "F64", 1, 8, false},
      {DType::kI8, "i8", 24, "I8", 1, 1, false},
      {DType::kI16, "i16", 25, "I16", 1, 2, false},
      {DType::kI32, "i32", 26, "I32", 1, 4, false},
      {DType::kI64, "i64", 27, "I64", 1, 8, false},
      {DType::kU8, "u8", -1, "U8", 1, 1, false},
      {DType::kU16, "u16", -1, "U16", 1, 2, false},
      {DType::kU32, "u32", -1, "U32", 1, 4, false},
      {DType::kU64, "u64", -1, "U64", 1, 8, false},
      {DType::kBool, "bool", -1, "BOOL", 1, 1, false},
      {DType::kF8E4M3, "f8_e4m3", -1, "F8_E4M3", 1, 1, true},
      {DType::kF8E5M2, "f8_e5m2", -1, "F8_E5M2", 1, 1, false},
      {DType::kF8E8M0, "f8_e8m0", -1, "F8_E8M0", 1, 1, false},
      {DType::kQ4_0, "q4_0", 2, "", 32, 18, true},
      {DType::kQ4_1, "q4_1", 3, "", 32, 20, true},
      {DType::kQ5_0, "q5_0", 6, "", 32, 22, true},
      {DType::kQ5_1, "q5_1", 7, "", 32, 24, true},
      {DType::kQ8_0, "q8_0", 8, "", 32, 34, true},
      {DType::kQ2K, "q2_k", 10, "", 256, 84, true},
      {DType::kQ3K, "q3_k", 11, "", 256, 110, true},
      {DType::kQ4K, "q4_k", 12, "", 256, 144, true},
      {DType::kQ5K, "q5_k", 13, "", 256, 176, true},
      {DType::kQ6K, "q6_k", 14, "", 256, 210, true},
      {DType::kIQ4NL, "iq4_nl", 20, "", 32, 18, true},
      {DType::kIQ4XS, "iq4_xs", 23, "", 256, 136, true},
      {DType::kMXFP4, "mxfp4", 39, "", 32, 17, true},
      {DType::kNVFP4, "nvfp4", 40, "", 64, 36, true},
  };
  return kTable;
}

const DTypeInfo& Info(DType dtype) { return AllDTypes()[static_cast<size_t>(dtype)]; }

Result<DType> DTypeFromGgml(uint32_t ggml_id) {
  for (const DTypeInfo& info : AllDTypes()) {
    if (info.ggml_id >= 0 && static_cast<uint32_t>(info.ggml_id) == ggml_id) return info.dtype;
  }
  const auto refused = RefusedGgmlTypes().find(ggml_id);
  if (refused != RefusedGgmlTypes().end()) {
    return Error(Code::kUnsupported,
                 std::string("tensor type ") + refused->second + " is not supported by Lode",
                 "take a file in one of Q2_K to Q6_K, IQ4_NL, IQ4_XS, Q4_0, Q8_0, NVFP4, BF16");
  }
  return Error(Code::kUnsupported, Format("unknown GGUF tensor type %u", ggml_id));
}

Result<DType> DTypeFromSafetensors(std::string_view name) {
  for (const DTypeInfo& info : AllDTypes()) {
    if (info.safetensors[0] != '\0' && name == info.safetensors) return info.dtype;
  }
  return Error(Code::kUnsupported, "unknown safetensors dtype " + Quote(name));
}

Result<DType> DTypeFromName(std::string_view name) {
  const std::string lower = Lower(name);
  std::vector<std::string> names;
  for (const DTypeInfo& info : AllDTypes()) {
    if (lower == info.name) return info.dtype;
    if (info.weights) names.push_back(info.name);
  }
  return Error(Code::kBadInput, "no tensor type is called " + Quote(name),
               "take one of " + Join(names, ", "));
}

}  // namespace lode::tensor
