// The parameters of a model that is trained: f32 masters that the model's own weights point at, and
// a gradient for each. The forward pass reads the masters, in panels that Publish makes anew after
// every update, so the sampler and the trainer share one set of weights.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "model/backward.h"
#include "model/bind.h"
#include "model/tensors.h"
#include "tensor/dtype.h"

namespace lode::train {

// How a parameter's numbers lie in the model.
enum class Form : uint8_t {
  kMatrix,
  kVector,
  kConvolution,  // [K, C]; checkpoints have [C, 1, K]
  kLogDecay,     // A_log; the model has -exp of it
};

struct Parameter {
  std::string name;     // in Hugging Face's naming; of a stack with the expert's number
  tensor::Shape shape;  // there
  Form form = Form::kMatrix;
  bool decays = false;  // weight decay: matrices, but not the embedding
  std::span<float> value, gradient;
  bool between_layers = false;  // a matrix, but not embedding, head or router
};

// The same of a tensor of the family's table.
bool IsBetweenLayers(const model::TensorSlot& slot);

// Life: the model outlives it. Threads: one owner.
class Parameters {
 public:
  // Decodes every weight of the model into masters; its weights are views of these from now on. The
  // bias of routers is no parameter: it is moved by the balance (model/backward.h), and stays.
  // Errors: kUnsupported for what has no gradient yet (an MTP head).
  static Result<std::unique_ptr<Parameters>> Make(model::Model* model, kernels::Context* kernels);

  // Masters, gradients and both sets of panels, to the byte.
  static uint64_t Bytes(const model::ModelSpec& spec);
  uint64_t taken() const;
  static int64_t Count(const model::ModelSpec& spec);

  std::span<Parameter> all() { return all_; }
  model::ModelGrad& grad() { return grad_; }
  int64_t count() const { return count_; }

  void ClearGradients();
  // After a backward pass and before an update: what A's logarithm gathers, from what A does.
  void FinishGradients();
  // The model sees the masters as they are now.
  void Publish();

 private:
  struct Matrix {
    model::Weight* weight;
    model::MatrixGrad* grad;  // nullptr: the embedding, through which nothing flows
    float* master;
    std::byte *panels, *turned;
  };

  Parameters(model::Model* model, kernels::Context* kernels) : model_(model), kernels_(kernels) {}
  void Collect();
  void AddMatrix(const std::string& name, const model::TensorSlot& slot, model::Weight* weight,
                 model::MatrixGrad* grad);

  model::Model* model_;
  kernels::Context* kernels_;
  std::vector<Parameter> all_;
  std::vector<Matrix> matrices_;
  struct Decay {
    size_t parameter;
    std::vector<float>* a;
    std::span<float> da;
  };
  std::vector<Decay> decays_;
  model::ModelGrad grad_;
  int64_t count_ = 0;
  uint64_t taken_ = 0;
  // Each taken once; their addresses stay.
  std::vector<std::unique_ptr<float, void (*)(void*)>> memory_;
  float* Take(int64_t floats);
};

}  // namespace lode::train
