// The matrices of any model as floats: whatever a checkpoint stores them as and wherever it keeps
// their scales, rows come out as the numbers that the model computes with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "formats/hf_checkpoint.h"
#include "model/spec.h"
#include "quant/plan.h"

namespace lode::quant {

// One matrix, or the stack of a layer's experts.
struct Matrix {
  model::TensorSlot slot;
  tensor::DType stored = tensor::DType::kF32;  // of a stack whose parts differ: the first part's
  bool scaled = false;   // it has scales beside it
  int64_t experts = 1;   // in the stack
  int64_t rows = 0;      // of one expert
  int64_t cols = 0;

  int64_t elements() const { return experts * rows * cols; }
};

// Life: refers to the source, which must outlive it. Threads: const, so any.
class Matrices {
 public:
  // Errors: what reading the spec and planning the tensors say; kUnsupported for a type that Lode
  // does not decode.
  static Result<Matrices> Open(const tensor::TensorSource& source);

  const model::ModelSpec& spec() const { return spec_; }
  // In the order of the layers; the router is one of them.
  const std::vector<Matrix>& all() const { return matrices_; }

  // Rows [row, row + count) counted through all experts, with every scale applied: out[count *
  // cols].
  void Decode(size_t matrix, int64_t row, int64_t count, float* out) const;
  // The bytes as they lie in a GGUF, when the source is one.
  std::span<const std::byte> Stored(size_t matrix) const;
  // Where an expert's first weight lies: what a bound model's views of it point to.
  const std::byte* Address(size_t matrix, int64_t expert) const;

  // Of a Hugging Face folder: everything that is no matrix; null for a GGUF.
  const Plan* plan() const { return plan_.get(); }
  const formats::GgufFile* gguf() const { return gguf_; }
  const formats::HfCheckpoint* hugging_face() const { return hf_; }
  // Names in the GGUF of scales beside matrices, which Decode applies.
  std::vector<std::string> SideNames(size_t matrix) const;

 private:
  Result<void> FromGguf();
  Result<void> FromHuggingFace();

  const tensor::TensorSource* source_ = nullptr;
  const formats::GgufFile* gguf_ = nullptr;
  const formats::HfCheckpoint* hf_ = nullptr;
  model::ModelSpec spec_;
  std::unique_ptr<Listing> listing_;
  std::unique_ptr<Plan> plan_;
  std::vector<Matrix> matrices_;
  std::vector<const tensor::TensorInfo*> infos_;  // GGUF: of each matrix
  std::vector<std::vector<float>> scales_;        // GGUF: per expert, empty for none
  std::vector<size_t> slots_;                     // Hugging Face: index in the plan
};

}  // namespace lode::quant
