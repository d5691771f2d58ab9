#include "train/parameters.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/check.h"
#include "model/fields.h"
#include "model/tensors.h"

namespace lode::train {

using model::LayerGrad;
using model::Role;
using model::TensorSlot;
using model::Weight;

namespace {

constexpr tensor::DType kType = tensor::DType::kF32;

int64_t Floats(uint64_t bytes) { return static_cast<int64_t>(bytes / sizeof(float)); }

// What gathers for a matrix that is not one of several experts; nullptr: the embedding.
model::MatrixGrad* GradOf(model::ModelGrad* grad, const TensorSlot& slot) {
  LayerGrad* layer = slot.layer < 0 ? nullptr : &grad->layers[static_cast<size_t>(slot.layer)];
  switch (slot.row->role) {
    case Role::kHead:
      return &grad->head;
    case Role::kMambaIn:
      return &layer->mamba2.in;
    case Role::kMambaOut:
      return &layer->mamba2.out;
    case Role::kQuery:
      return &layer->attention.query;
    case Role::kKey:
      return &layer->attention.key;
    case Role::kValue:
      return &layer->attention.value;
    case Role::kAttentionOut:
      return &layer->attention.out;
    case Role::kUp:
      return &layer->mlp.up;
    case Role::kDown:
      return &layer->mlp.down;
    case Role::kRouter:
      return &layer->moe.router;
    case Role::kSharedUp:
      return &layer->moe.shared_up;
    case Role::kSharedDown:
      return &layer->moe.shared_down;
    case Role::kLatentDown:
      return &layer->moe.latent_down;
    case Role::kLatentUp:
      return &layer->moe.latent_up;
    default:
      return nullptr;
  }
}

float** VectorGradOf(model::ModelGrad* grad, const TensorSlot& slot) {
  LayerGrad* layer = slot.layer < 0 ? nullptr : &grad->layers[static_cast<size_t>(slot.layer)];
  switch (slot.row->role) {
    case Role::kFinalNorm:
      return &grad->final_norm;
    case Role::kNorm:
      return &layer->norm;
    case Role::kMambaConv:
      return &layer->mamba2.conv;
    case Role::kMambaConvBias:
      return &layer->mamba2.conv_bias;
    case Role::kMambaA:
      return &layer->mamba2.a;
    case Role::kMambaD:
      return &layer->mamba2.d;
    case Role::kMambaDtBias:
      return &layer->mamba2.dt_bias;
    case Role::kMambaNorm:
      return &layer->mamba2.norm;
    default:
      return nullptr;
  }
}

// The numbers of a weight as they are multiplied: with its scales.
void Decode(const Weight& w, float* out) {
  for (int64_t r = 0; r < w.rows; ++r) {
    float* row = out + r * w.cols;
    kernels::DecodeColumns(w, r, 0, w.cols, row);
    const float scale = w.row_scales != nullptr ? w.row_scales[r] : w.scale;
    if (scale != 1.0f) {
      for (int64_t c = 0; c < w.cols; ++c) row[c] *= scale;
    }
  }
}

}  // namespace

float* Parameters::Take(int64_t floats) {
  const size_t bytes = (static_cast<size_t>(floats) * sizeof(float) + 63) / 64 * 64;
  memory_.emplace_back(static_cast<float*>(std::aligned_alloc(64, bytes)), std::free);
  LODE_CHECK(memory_.back() != nullptr);
  taken_ += bytes;
  std::fill_n(memory_.back().get(), floats, 0.0f);
  return memory_.back().get();
}

bool IsBetweenLayers(const TensorSlot& slot) {
  const Role role = slot.row->role;
  return slot.row->kind == model::Kind::kMatrix && role != Role::kEmbedding &&
         role != Role::kHead && role != Role::kRouter;
}

void Parameters::AddMatrix(const std::string& name, const TensorSlot& slot, Weight* weight,
                           model::MatrixGrad* grad) {
  const int64_t count = weight->rows * weight->cols;
  float* master = Take(count);
  float* gradient = Take(count);
  Decode(*weight, master);
  Weight own;
  own.dtype = kType;
  own.rows = weight->rows;
  own.cols = weight->cols;
  own.data = reinterpret_cast<const std::byte*>(master);
  own.row_bytes = weight->cols * static_cast<int64_t>(sizeof(float));
  *weight = own;
  Matrix matrix = {weight, grad, master, nullptr, nullptr};
  // A head that is the embedding gathers where the embedding does.
  const bool tied = grad == nullptr && model_->spec.tied_head;
  if (grad == nullptr) grad_.embedding = gradient;
  if (tied) {
    model_->head = own;
    matrix.weight = &model_->head;
    matrix.grad = grad = &grad_.head;
  }
  if (grad != nullptr) {
    grad->dw = gradient;
    matrix.panels = reinterpret_cast<std::byte*>(
        Take(Floats(kernels::PackedMatrixBytes(own.rows, own.cols, kType))));
    matrix.turned = reinterpret_cast<std::byte*>(
        Take(Floats(kernels::PackedMatrixBytes(own.cols, own.rows, kType))));
  }
  matrices_.push_back(matrix);
  const auto size = static_cast<size_t>(count);
  all_.push_back({name,
                  slot.shape,
                  Form::kMatrix,
                  slot.row->role != Role::kEmbedding,
                  {master, size},
                  {gradient, size},
                  IsBetweenLayers(slot)});
  count_ += count;
}

void Parameters::Collect() {
  grad_.layers.resize(model_->layers.size());
  for (const TensorSlot& slot : model::ListTensors(model_->spec)) {
    if (slot.experts > 0) {
      model::MoeGrad& moe = grad_.layers[static_cast<size_t>(slot.layer)].moe;
      auto& grads = slot.row->role == Role::kExpertUp ? moe.up : moe.down;
      auto& weights = *model::ExpertsOf(model_, slot);
      grads.resize(weights.size());
      for (size_t e = 0; e < weights.size(); ++e) {
        AddMatrix(model::ExpertName(slot.hugging_face.front(), static_cast<int64_t>(e)), slot,
                  &weights[e], &grads[e]);
      }
      continue;
    }
    if (Weight* weight = model::MatrixOf(model_, slot)) {
      AddMatrix(slot.hugging_face.front(), slot, weight, GradOf(&grad_, slot));
      continue;
    }
    float** gradient = VectorGradOf(&grad_, slot);
    if (gradient == nullptr) continue;
    std::vector<float>* values = model::VectorOf(model_, slot);
    const size_t size = values->size();
    *gradient = Take(static_cast<int64_t>(size));
    Parameter p = {slot.hugging_face.front(), slot.shape,       Form::kVector, false,
                   {values->data(), size},    {*gradient, size}};
    if (slot.row->role == Role::kMambaConv) p.form = Form::kConvolution;
    if (slot.row->role == Role::kMambaA) {
      p.form = Form::kLogDecay;
      float* logs = Take(static_cast<int64_t>(size));
      for (size_t i = 0; i < size; ++i) logs[i] = std::log(-(*values)[i]);
      p.value = {logs, size};
      p.gradient = {Take(static_cast<int64_t>(size)), size};
      decays_.push_back({all_.size(), values, {*gradient, size}});
    }
    all_.push_back(p);
    count_ += static_cast<int64_t>(size);
  }
}

Result<std::unique_ptr<Parameters>> Parameters::Make(model::Model* model,
                                                     kernels::Context* kernels) {
  if (!model->mtp.layers.empty()) {
    return Error(Code::kUnsupported, "the MTP head of this model cannot be trained yet");
  }
  std::unique_ptr<Parameters> parameters(new Parameters(model, kernels));
  parameters->Collect();
  parameters->Publish();
  return parameters;
}

uint64_t Parameters::Bytes(const model::ModelSpec& spec) {
  uint64_t bytes = 0;
  const auto align = [](uint64_t count) { return (count + 63) / 64 * 64; };
  for (const TensorSlot& slot : model::ListTensors(spec)) {
    int64_t count = 0;
    tensor::CountElements(slot.shape, &count);
    const auto each = static_cast<uint64_t>(count) * sizeof(float);
    if (slot.row->kind == model::Kind::kVector) {
      if (slot.row->role == Role::kRouterBias) continue;
      bytes += align(each) * (slot.row->role == Role::kMambaA ? 3 : 1);
      continue;
    }
    uint64_t one = 2 * align(each);
    if (slot.row->role != Role::kEmbedding || spec.tied_head) {
      const int64_t rows = slot.shape.front(), cols = slot.shape.back();
      one += align(kernels::PackedMatrixBytes(rows, cols, kType)) +
             align(kernels::PackedMatrixBytes(cols, rows, kType));
    }
    bytes += one * static_cast<uint64_t>(std::max<int64_t>(1, slot.experts));
  }
  return bytes;
}

int64_t Parameters::Count(const model::ModelSpec& spec) {
  int64_t all = 0;
  for (const TensorSlot& slot : model::ListTensors(spec)) {
    if (slot.row->role == Role::kRouterBias) continue;
    int64_t count = 0;
    tensor::CountElements(slot.shape, &count);
    all += count * std::max<int64_t>(1, slot.experts);
  }
  return all;
}

uint64_t Parameters::taken() const { return taken_; }

void Parameters::ClearGradients() {
  for (Parameter& p : all_) std::fill(p.gradient.begin(), p.gradient.end(), 0.0f);
  for (Decay& d : decays_) std::fill(d.da.begin(), d.da.end(), 0.0f);
}

void Parameters::FinishGradients() {
  for (Decay& d : decays_) {
    Parameter& p = all_[d.parameter];
    // a = -exp(log), so da / dlog = a
    for (size_t i = 0; i < d.da.size(); ++i) p.gradient[i] += d.da[i] * (*d.a)[i];
    std::fill(d.da.begin(), d.da.end(), 0.0f);
  }
}

void Parameters::Publish() {
  for (Decay& d : decays_) {
    const Parameter& p = all_[d.parameter];
    for (size_t i = 0; i < p.value.size(); ++i) (*d.a)[i] = -std::exp(p.value[i]);
  }
  for (const Matrix& m : matrices_) {
    if (m.grad == nullptr) continue;
    const int64_t rows = m.weight->rows, cols = m.weight->cols;
    m.weight->packed =
        kernels::PackRows(*kernels_, m.master, cols, rows, cols, kType, m.panels).packed;
    m.grad->turned =
        kernels::PackTransposed(*kernels_, m.master, cols, rows, cols, kType, m.turned);
  }
}

}  // namespace lode::train
