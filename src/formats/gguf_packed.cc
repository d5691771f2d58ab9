// Packed files (`lode pack`): which tensors are packed, and what they are.
#include "base/text.h"
#include "formats/gguf.h"

namespace lode::formats {
namespace {

// "128,1856,2688" -> {128, 1856, 2688}
bool ParseShape(std::string_view text, tensor::Shape* shape) {
  while (true) {
    const size_t comma = std::min(text.find(','), text.size());
    int64_t size = 0;
    if (!ParseInt64(std::string(text.substr(0, comma)), &size) || size <= 0) return false;
    shape->push_back(size);
    if (comma == text.size()) return shape->size() <= 4;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

Result<void> GgufFile::Complete() {
  LODE_TRY(CheckVocabulary());
  LODE_TRY(MarkPacked());
  BuildConfig();
  return {};
}

// Gives packed matrices their types and shapes; their bytes stay what the header says.
Result<void> GgufFile::MarkPacked() {
  if (!Has(kPackedNames)) return {};
  LODE_ASSIGN(const auto names, GetStrings(kPackedNames));
  LODE_ASSIGN(const auto types, GetStrings(kPackedTypes));
  LODE_ASSIGN(const auto shapes, GetStrings(kPackedShapes));
  if (types.size() != names.size() || shapes.size() != names.size()) {
    return Error(Code::kBadInput, Quote(path_, 300) + ": its lists of packed tensors differ in length");
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const auto found = tensor_index_.find(names[i]);
    const std::string place = Quote(path_, 300) + ": packed tensor " + Quote(names[i]);
    if (found == tensor_index_.end()) return Error(Code::kBadInput, place + " is not in the file");
    tensor::TensorInfo& info = tensors_[found->second];
    tensor::Shape shape;
    uint64_t plain = 0;
    const auto dtype = tensor::DTypeFromName(types[i]);
    if (info.packed || info.dtype != tensor::DType::kI8 || !dtype.ok() ||
        !ParseShape(shapes[i], &shape) || !tensor::CountBytes(*dtype, shape, &plain)) {
      return Error(Code::kBadInput, place + " has no sound type and shape");
    }
    info.dtype = *dtype;
    info.shape = shape;
    info.packed = true;
  }
  return {};
}

}  // namespace lode::formats
