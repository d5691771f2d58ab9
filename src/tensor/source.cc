#include "tensor/source.h"

namespace lode::tensor {

std::string ToString(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

bool CountElements(const Shape& shape, int64_t* count) {
  int64_t product = 1;
  bool overflow = false;
  bool empty = false;
  for (const int64_t dimension : shape) {
    if (dimension < 0) return false;
    empty = empty || dimension == 0;
    overflow = overflow || __builtin_mul_overflow(product, dimension, &product);
  }
  if (overflow && !empty) return false;
  *count = empty ? 0 : product;
  return true;
}

bool CountBytes(DType dtype, const Shape& shape, uint64_t* bytes) {
  int64_t elements = 0;
  if (!CountElements(shape, &elements)) return false;
  const DTypeInfo& info = Info(dtype);
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % info.block_elements != 0) return false;
  return !__builtin_mul_overflow(static_cast<uint64_t>(elements / info.block_elements),
                                 static_cast<uint64_t>(info.block_bytes), bytes);
}

}  // namespace lode::tensor
