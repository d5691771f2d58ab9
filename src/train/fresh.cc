#include "train/fresh.h"

#include <cmath>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/random.h"
#include "model/config.h"
#include "model/fields.h"
#include "model/tensors.h"
#include "train/config_source.h"

namespace lode::train {
namespace {

using model::Role;
using model::TensorSlot;

// A config, and the numbers that the model's weights point at.
class FreshSource final : public ConfigSource {
 public:
  explicit FreshSource(Json config) : ConfigSource("a new model", std::move(config)) {}

  float* Take(size_t count) {
    numbers_.push_back(std::make_unique<float[]>(count));
    return numbers_.back().get();
  }

 private:
  std::vector<std::unique_ptr<float[]>> numbers_;
};

// Numbers of one tensor, each a function of (seed, tensor, place).
class Draws {
 public:
  Draws(uint64_t seed, uint64_t tensor) : key_(RandomKey(seed, tensor)) {}
  double Uniform() { return RandomUnit(key_ + ++at_); }
  double Normal() {  // Box and Muller 1958
    const double radius = std::sqrt(-2.0 * std::log(Uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * Uniform());
  }

 private:
  uint64_t key_, at_ = 0;
};

bool JoinsStream(Role role) {
  return role == Role::kMambaOut || role == Role::kAttentionOut || role == Role::kDown ||
         role == Role::kExpertDown || role == Role::kSharedDown || role == Role::kLatentUp;
}

double VectorNumber(const TensorSlot& slot, const model::Mamba2Spec& mamba, Draws* draws) {
  switch (slot.row->role) {
    case Role::kMambaA:  // the model has -exp of the logarithm, which lies in [1, 16]
      return -(1.0 + 15.0 * draws->Uniform());
    case Role::kMambaDtBias: {  // whose softplus is log-uniform in [0.001, 0.1]
      const double dt = 1e-3 * std::pow(100.0, draws->Uniform());
      return dt + std::log(-std::expm1(-dt));
    }
    case Role::kMambaConv: {
      const double bound = 1.0 / std::sqrt(static_cast<double>(mamba.taps));
      return bound * (2.0 * draws->Uniform() - 1.0);
    }
    case Role::kMambaConvBias:
    case Role::kRouterBias:
      return 0.0;
    default:
      return 1.0;  // norms, D
  }
}

class Maker {
 public:
  Maker(model::Model* model, FreshSource* source, const FreshOptions& options)
      : model_(model), source_(source), options_(options) {}

  void Fill(const TensorSlot& slot) {
    if (slot.experts > 0) {
      std::vector<model::Weight>& experts = *model::ExpertsOf(model_, slot);
      experts.resize(static_cast<size_t>(slot.experts));
      for (model::Weight& expert : experts) FillMatrix(slot, &expert);
    } else if (model::Weight* matrix = model::MatrixOf(model_, slot)) {
      FillMatrix(slot, matrix);
    } else {
      FillVector(slot);
    }
  }

 private:
  void FillMatrix(const TensorSlot& slot, model::Weight* matrix) {
    Draws draws(options_.seed, tensor_++);
    matrix->rows = slot.shape.front();
    matrix->cols = slot.shape.back();
    matrix->row_bytes = matrix->cols * static_cast<int64_t>(sizeof(float));
    const auto count = static_cast<size_t>(matrix->rows * matrix->cols);
    const auto layers = static_cast<double>(model_->layers.size());
    const double size = JoinsStream(slot.row->role) ? options_.deviation / std::sqrt(2.0 * layers)
                                                    : options_.deviation;
    float* numbers = source_->Take(count);
    for (size_t i = 0; i < count; ++i) numbers[i] = static_cast<float>(size * draws.Normal());
    matrix->data = reinterpret_cast<const std::byte*>(numbers);
  }

  void FillVector(const TensorSlot& slot) {
    Draws draws(options_.seed, tensor_++);
    std::vector<float>* vector = model::VectorOf(model_, slot);
    LODE_CHECK(vector != nullptr);
    int64_t count = 0;
    LODE_CHECK(tensor::CountElements(slot.shape, &count));
    vector->resize(static_cast<size_t>(count));
    model::Mamba2Spec mamba;
    if (slot.layer >= 0) mamba = model_->layers[static_cast<size_t>(slot.layer)].spec.mamba2;
    for (float& x : *vector) x = static_cast<float>(VectorNumber(slot, mamba, &draws));
  }

  model::Model* model_;
  FreshSource* source_;
  FreshOptions options_;
  uint64_t tensor_ = 0;
};

}  // namespace

Result<std::unique_ptr<model::Model>> FreshModel(Json config, const FreshOptions& options) {
  auto source = std::make_shared<FreshSource>(std::move(config));
  auto model = std::make_unique<model::Model>();
  LODE_ASSIGN(model->spec, model::ReadSpec(*source));
  model->source = source;
  if (!model->spec.mtp.empty()) {
    return Error(Code::kUnsupported, "a new model can have no MTP head yet",
                 "leave num_nextn_predict_layers out of the config");
  }
  for (const model::LayerSpec& spec : model->spec.layers) {
    model->layers.push_back({spec, {}, {}, {}, {}, {}});
  }
  Maker maker(model.get(), source.get(), options);
  for (const TensorSlot& slot : model::ListTensors(model->spec)) maker.Fill(slot);
  if (model->spec.tied_head) model->head = model->embedding;
  return model;
}

}  // namespace lode::train
