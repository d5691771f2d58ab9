#include "tune/weights.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "formats/safetensors_writer.h"
#include "model/fields.h"
#include "model/tensors.h"
#include "tensor/scalar.h"

namespace lode::tune {
namespace {

using tensor::DType;

// The model's convolution is [taps, channels], a checkpoint's [channels, 1, taps].
void Turn(std::span<const float> in, size_t rows, std::span<float> out) {
  const size_t columns = in.size() / rows;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) out[c * rows + r] = in[r * columns + c];
  }
}

}  // namespace

WeightList::WeightList(model::Model* model, train::Parameters* parameters)
    : model_(model), parameters_(parameters) {
  for (const train::Parameter& p : parameters->all()) {
    tensors_.push_back({p.name, p.shape, p.form, p.value});
  }
  for (const model::TensorSlot& slot : model::ListTensors(model->spec)) {
    if (slot.row->role != model::Role::kRouterBias) continue;
    tensors_.push_back({slot.hugging_face.front(), slot.shape, train::Form::kVector,
                        *model::VectorOf(model, slot)});
  }
  for (const Tensor& tensor : tensors_) count_ += std::ssize(tensor.values);
}

void WeightList::CopyTo(std::span<float> values) const {
  LODE_CHECK(std::ssize(values) == count_);
  float* to = values.data();
  for (const Tensor& tensor : tensors_) {
    to = std::copy(tensor.values.begin(), tensor.values.end(), to);
  }
}

std::vector<float> WeightList::InFileOrder(const Tensor& tensor, std::span<const float> values) {
  std::vector<float> ordered(values.begin(), values.end());
  if (tensor.form == train::Form::kConvolution) {
    Turn(values, static_cast<size_t>(tensor.shape.back()), ordered);
  }
  return ordered;
}

Result<void> WeightList::Write(const std::string& folder, std::span<const float> values, DType type,
                               const TextFiles& files) const {
  LODE_CHECK(std::ssize(values) == count_);
  const auto type_of = [&](const Tensor& tensor) {
    return tensor.form == train::Form::kMatrix ? type : DType::kF32;
  };
  formats::SafetensorsWriter writer;
  for (const Tensor& tensor : tensors_) {
    writer.AddTensor(tensor.name, type_of(tensor), tensor.shape);
  }
  LODE_TRY(writer.BeginFolder(folder));
  size_t at = 0;
  for (const Tensor& tensor : tensors_) {
    const std::vector<float> ordered =
        InFileOrder(tensor, values.subspan(at, tensor.values.size()));
    at += tensor.values.size();
    if (type_of(tensor) == DType::kF32) {
      LODE_TRY(writer.Write(std::as_bytes(std::span(ordered))));
      continue;
    }
    std::vector<uint16_t> rounded(ordered.size());
    for (size_t i = 0; i < ordered.size(); ++i) rounded[i] = tensor::FloatToBf16(ordered[i]);
    LODE_TRY(writer.Write(std::as_bytes(std::span(rounded))));
  }
  LODE_TRY(writer.Finish());
  Json config = model_->source->config();
  config["torch_dtype"] = type == DType::kF32 ? "float32" : "bfloat16";
  LODE_TRY(WriteFileAtomic(folder + "/config.json", DumpJson(config, 2) + "\n"));
  for (const auto& [name, content] : files) {
    LODE_TRY(WriteFileAtomic(folder + "/" + name, content));
  }
  return {};
}

Result<void> WeightList::Read(const tensor::TensorSource& source) {
  for (const Tensor& tensor : tensors_) {
    const tensor::TensorInfo* info = source.Find(tensor.name);
    if (info == nullptr || info->dtype != DType::kF32 || info->shape != tensor.shape) {
      return Error(Code::kBadInput,
                   source.path() + ": the tensor " + Quote(tensor.name) +
                       (info == nullptr ? " is missing" : " has another type or shape"));
    }
    const tensor::TensorView view = source.View(*info);
    LODE_CHECK(view.bytes.size() == tensor.values.size_bytes());
    if (tensor.form == train::Form::kConvolution) {
      std::vector<float> ordered(tensor.values.size());
      std::memcpy(ordered.data(), view.bytes.data(), view.bytes.size());
      Turn(ordered, static_cast<size_t>(tensor.shape.front()), tensor.values);
    } else {
      std::memcpy(tensor.values.data(), view.bytes.data(), view.bytes.size());
    }
  }
  parameters_->Publish();
  return {};
}

}  // namespace lode::tune
