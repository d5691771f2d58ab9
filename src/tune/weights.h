// All numbers of a trained model as one list, the bridge between masters in memory and tensors in
// files: copied in one go while training goes on, written as Hugging Face lays them out, and read
// back to the bit.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/bind.h"
#include "tensor/source.h"
#include "train/parameters.h"
#include "tune/plain_vocabulary.h"

namespace lode::tune {

// Life: model and parameters outlive it. Threads: one owner; Write only reads what it is given.
class WeightList {
 public:
  WeightList(model::Model* model, train::Parameters* parameters);

  int64_t count() const { return count_; }  // numbers, with the biases of routers
  // Parameters come first, in their own order, so moments of an optimizer fit `values` from the
  // front.
  void CopyTo(std::span<float> values) const;

  // A checkpoint in `folder`, which exists: weights, config.json, and `files` beside them.
  //   type: f32, or bf16 for matrices. Errors: what the system says.
  Result<void> Write(const std::string& folder, std::span<const float> values, tensor::DType type,
                     const TextFiles& files) const;
  // Sets masters and biases to what a checkpoint of type f32 has, and publishes them. Errors:
  // kBadInput for a tensor that is missing or has another type or shape.
  Result<void> Read(const tensor::TensorSource& source);

 private:
  struct Tensor {
    std::string name;
    tensor::Shape shape;
    train::Form form;
    std::span<float> values;
  };
  static std::vector<float> InFileOrder(const Tensor& tensor, std::span<const float> values);

  const model::Model* model_;
  train::Parameters* parameters_;
  std::vector<Tensor> tensors_;
  int64_t count_ = 0;
};

}  // namespace lode::tune
