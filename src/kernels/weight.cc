#include "kernels/weight.h"

#include "kernels/panel.h"
#include "tensor/blocks.h"

namespace lode::kernels {

void DecodeColumns(const Weight& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  if (weight.data == nullptr) {
    UnpackColumns(weight, row, begin, count, out);
    return;
  }
  const std::byte* data = weight.data + row * weight.row_bytes;
  if (weight.block_scales != nullptr) {
    tensor::DecodeNvfp4ModelOpt(reinterpret_cast<const uint8_t*>(data) + begin / 2,
                                weight.block_scales + row * (weight.cols / 16) + begin / 16, count,
                                out);
    return;
  }
  const tensor::DTypeInfo& info = tensor::Info(weight.dtype);
  tensor::DecodeBlocks(weight.dtype, data + begin / info.block_elements * info.block_bytes, count,
                       out);
}

}  // namespace lode::kernels
