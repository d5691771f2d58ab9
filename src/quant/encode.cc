#include "quant/encode.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/isa.h"
#include "quant/encode_lanes.h"
#include "tensor/blocks.h"
#include "tensor/scalar.h"

namespace lode::quant {
namespace {

using tensor::DType;

using EncodeFunction = void (*)(const EncodeJob&);

EncodeFunction Chosen() {
#if defined(__x86_64__)
  switch (kernels::ActiveIsa()) {
    case kernels::Isa::kAvx512:
    case kernels::Isa::kAvx512Dot:
      return EncodeAvx512;
    case kernels::Isa::kAvx2:
    case kernels::Isa::kAvxVnni:
      return EncodeAvx2;
    default:
      return EncodePortable;
  }
#else
  return EncodePortable;
#endif
}

bool IsPlain(DType dtype) { return tensor::Info(dtype).block_elements == 1; }

void EncodePlain(DType dtype, const float* x, int64_t elements, std::byte* out) {
  if (dtype != DType::kF8E4M3) return tensor::EncodeBlocks(dtype, x, elements, out);
  for (int64_t i = 0; i < elements; ++i) out[i] = std::byte{tensor::FloatToE4M3(x[i])};
}

}  // namespace

bool CanQuantize(DType dtype) { return tensor::Info(dtype).weights; }

void EncodeRows(DType dtype, const float* x, int64_t rows, int64_t cols, const float* importance,
                float tensor_scale, const EncodeOptions& options, std::byte* out) {
  LODE_CHECK(CanQuantize(dtype));
  LODE_CHECK(cols >= 0 && cols % tensor::Info(dtype).block_elements == 0);
  const int64_t elements = rows * cols;
  EncodeJob job;
  job.dtype = dtype;
  job.importance = importance;
  job.cols = cols;
  job.four_over_six = options.four_over_six;
  const EncodeFunction encode = Chosen();
  const int64_t bytes_per_block = tensor::Info(dtype).block_bytes;
  const int64_t block = tensor::Info(dtype).block_elements;
  const auto piece = [&](const float* from, int64_t at, int64_t count) {
    std::byte* to = out + at / block * bytes_per_block;
    if (IsPlain(dtype)) return EncodePlain(dtype, from, count, to);
    job.x = from;
    job.elements = count;
    job.column = cols > 0 ? at % cols : 0;
    job.out = reinterpret_cast<uint8_t*>(to);
    encode(job);
  };
  if (tensor_scale == 1.0f) return piece(x, 0, elements);
  constexpr int64_t kPiece = 4096;  // whole blocks of every type
  float scaled[kPiece];
  const float inverse = tensor_scale != 0.0f ? 1.0f / tensor_scale : 0.0f;
  for (int64_t at = 0; at < elements; at += kPiece) {
    const int64_t count = std::min(kPiece, elements - at);
    for (int64_t i = 0; i < count; ++i) scaled[i] = x[at + i] * inverse;
    piece(scaled, at, count);
  }
}

float TensorScale(DType dtype, float largest) {
  // NVFP4: a block's largest element over 6 must fit E4M3 up to 448, and 3/2 of that when it is
  // mapped to 4; so the largest block's scale is 256 (Cook et al. 2025).
  const float fp8 = dtype == DType::kF8E4M3 ? 448.0f : 0.0f;
  const float span = dtype == DType::kNVFP4 ? 6.0f * 256.0f : fp8;
  if (span == 0.0f || !(largest > 0.0f) || !std::isfinite(largest)) return 1.0f;
  return std::max(largest / span, 1e-30f);
}

std::vector<float> Importance(std::span<const float> mean_squares) {
  double sum = 0;
  for (const float value : mean_squares) sum += static_cast<double>(std::max(value, 0.0f));
  const double mean = sum / static_cast<double>(std::max<size_t>(1, mean_squares.size()));
  if (!(mean > 0) || !std::isfinite(mean)) return {};
  constexpr float kFloor = 1e-4f;
  std::vector<float> out(mean_squares.size());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = std::max(kFloor, static_cast<float>(static_cast<double>(mean_squares[i]) / mean));
  }
  return out;
}

}  // namespace lode::quant
