#include "quant/matrices.h"

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "model/config.h"
#include "quant/work.h"
#include "tensor/blocks.h"

namespace lode::quant {
namespace {

using tensor::TensorInfo;

Matrix MatrixOf(const model::TensorSlot& slot) {
  Matrix matrix;
  matrix.slot = slot;
  matrix.experts = std::max<int64_t>(1, slot.experts);
  matrix.cols = slot.gguf_shape.back();
  int64_t elements = 1;
  tensor::CountElements(slot.gguf_shape, &elements);
  matrix.rows = elements / matrix.experts / std::max<int64_t>(1, matrix.cols);
  return matrix;
}

bool IsMatrix(const model::TensorSlot& slot) { return slot.row->kind == model::Kind::kMatrix; }

}  // namespace

Result<Matrices> Matrices::Open(const tensor::TensorSource& source) {
  Matrices matrices;
  matrices.source_ = &source;
  matrices.gguf_ = dynamic_cast<const formats::GgufFile*>(&source);
  matrices.hf_ = dynamic_cast<const formats::HfCheckpoint*>(&source);
  LODE_ASSIGN(matrices.spec_, model::ReadSpec(source));
  if (matrices.gguf_ != nullptr) {
    LODE_TRY(matrices.FromGguf());
  } else if (matrices.hf_ != nullptr) {
    LODE_TRY(matrices.FromHuggingFace());
  } else {
    return Error(Code::kUnsupported,
                 source.path() + " is neither a GGUF nor a Hugging Face checkpoint");
  }
  return matrices;
}

Result<void> Matrices::FromGguf() {
  std::vector<std::string> missing;
  for (const model::TensorSlot& slot : model::ListTensors(spec_)) {
    if (!IsMatrix(slot)) continue;
    const TensorInfo* info = gguf_->Find(slot.gguf);
    if (info == nullptr) {
      missing.push_back(slot.gguf);
      continue;
    }
    Matrix matrix = MatrixOf(slot);
    matrix.stored = info->dtype;
    if (!tensor::Info(info->dtype).weights || info->shape.empty() ||
        info->shape.back() != matrix.cols ||
        !tensor::CountElements(info->shape, &matrix.rows) ||
        matrix.rows != MatrixOf(slot).elements()) {
      return Error(Code::kBadInput, gguf_->path() + ": tensor " + Quote(slot.gguf) + " is " +
                                        tensor::Name(info->dtype) + " " +
                                        tensor::ToString(info->shape) + ", but weights of " +
                                        tensor::ToString(slot.gguf_shape) + " are needed");
    }
    matrix.rows = MatrixOf(slot).rows;
    std::vector<float> scales;
    SlotPlan named;
    named.slot = slot;
    if (const TensorInfo* scale = gguf_->Find(named.SideName(".scale"))) {
      int64_t count = 0;
      tensor::CountElements(scale->shape, &count);
      if (scale->dtype != tensor::DType::kF32 || (count != 1 && count != matrix.experts)) {
        return Error(Code::kBadInput, gguf_->path() + ": tensor " + Quote(scale->name) +
                                          " is not one F32 scale for each matrix");
      }
      std::vector<float> stored(static_cast<size_t>(count));
      std::memcpy(stored.data(), gguf_->View(*scale).bytes.data(), stored.size() * sizeof(float));
      scales.assign(static_cast<size_t>(matrix.experts), stored.front());
      if (count > 1) scales = stored;
      matrix.scaled = true;
    }
    matrices_.push_back(std::move(matrix));
    infos_.push_back(info);
    scales_.push_back(std::move(scales));
  }
  if (missing.empty()) return {};
  return Error(Code::kNotFound,
               gguf_->path() + Format(": %zu tensors are missing: ", missing.size()) +
                   Join(missing, ", "));
}

Result<void> Matrices::FromHuggingFace() {
  listing_ = std::make_unique<Listing>(hf_->tensors());
  const auto fits = [&](const SlotPlan& plan) {
    return std::all_of(plan.parts.begin(), plan.parts.end(), [&](const Part& part) {
      return FitsUe4m3(hf_->View(*part.scale).bytes);
    });
  };
  LODE_ASSIGN(Plan plan, MakePlan(spec_, *listing_, hf_->path(), fits));
  plan_ = std::make_unique<Plan>(std::move(plan));
  for (size_t i = 0; i < plan_->slots.size(); ++i) {
    const SlotPlan& slot = plan_->slots[i];
    if (!IsMatrix(slot.slot)) continue;
    Matrix matrix = MatrixOf(slot.slot);
    matrix.stored = slot.parts.front().weight->dtype;
    if (slot.parts.front().coding == Coding::kNvfp4) matrix.stored = tensor::DType::kNVFP4;
    matrix.scaled = slot.scaled;
    matrices_.push_back(std::move(matrix));
    slots_.push_back(i);
  }
  return {};
}

void Matrices::Decode(size_t matrix, int64_t row, int64_t count, float* out) const {
  const Matrix& m = matrices_[matrix];
  if (gguf_ != nullptr) {
    const std::byte* bytes = Stored(matrix).data() + row * RowBytes(m.stored, m.cols);
    tensor::DecodeBlocks(m.stored, bytes, count * m.cols, out);
    for (int64_t r = 0; r < count && !scales_[matrix].empty(); ++r) {
      const float scale = scales_[matrix][static_cast<size_t>((row + r) / m.rows)];
      for (int64_t c = 0; c < m.cols; ++c) out[r * m.cols + c] *= scale;
    }
    return;
  }
  const SlotPlan& plan = plan_->slots[slots_[matrix]];
  while (count > 0) {
    const int64_t part = row / plan.rows();
    const int64_t first = row % plan.rows();
    const int64_t here = std::min(count, plan.rows() - first);
    const PartData data = DataOf(*hf_, plan, plan.parts[static_cast<size_t>(part)]);
    DecodeRows(data, first, here, true, out);
    row += here;
    count -= here;
    out += here * m.cols;
  }
}

std::span<const std::byte> Matrices::Stored(size_t matrix) const {
  if (gguf_ == nullptr) return {};
  return gguf_->View(*infos_[matrix]).bytes;
}

const std::byte* Matrices::Address(size_t matrix, int64_t expert) const {
  const Matrix& m = matrices_[matrix];
  if (gguf_ != nullptr) {
    return Stored(matrix).data() + expert * m.rows * RowBytes(m.stored, m.cols);
  }
  const SlotPlan& plan = plan_->slots[slots_[matrix]];
  if (plan.parts.size() > 1 || m.experts == 1) {
    return hf_->View(*plan.parts[static_cast<size_t>(expert)].weight).bytes.data();
  }
  return hf_->View(*plan.parts.front().weight).bytes.data() +
         expert * m.rows * RowBytes(m.stored, m.cols);
}

std::vector<std::string> Matrices::SideNames(size_t matrix) const {
  SlotPlan named;
  named.slot = matrices_[matrix].slot;
  return {named.SideName(".scale"), named.SideName(".input_scale")};
}

}  // namespace lode::quant
