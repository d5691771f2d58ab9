// What each tensor of a model is in both formats: which tensors of a Hugging Face listing make it up,
// and the type it has in GGUF when nothing is to be lost. The same plan serves both directions: with a
// checkpoint's own listing, and with the listing that a GGUF remembers.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "model/spec.h"
#include "model/tensors.h"
#include "tensor/source.h"

namespace lode::quant {

// Tensors by name. Views `tensors`, which must outlive it.
class Listing {
 public:
  explicit Listing(const std::vector<tensor::TensorInfo>& tensors);
  const tensor::TensorInfo* Find(std::string_view name) const;
  const std::vector<tensor::TensorInfo>& tensors() const { return tensors_; }

 private:
  const std::vector<tensor::TensorInfo>& tensors_;
  std::unordered_map<std::string_view, const tensor::TensorInfo*> index_;
};

// How Hugging Face codes one matrix.
enum class Coding : uint8_t { kPlain, kFp8, kFp8Rows, kNvfp4 };

// One matrix or vector of the checkpoint: a whole slot, or one expert of a stack.
struct Part {
  const tensor::TensorInfo* weight = nullptr;
  const tensor::TensorInfo* scale = nullptr;        // FP8: one or a row each; NVFP4: a block each
  const tensor::TensorInfo* scale_2 = nullptr;      // NVFP4: one
  const tensor::TensorInfo* input_scale = nullptr;  // of the activations
  Coding coding = Coding::kPlain;
};

struct SlotPlan {
  model::TensorSlot slot;
  std::vector<Part> parts;  // one, or the experts; one as well when the checkpoint stacks them
  tensor::DType dtype = tensor::DType::kF32;  // in GGUF
  bool scaled = false;       // there are scales: beside the weight in ".scale", unless `inside`
  bool inside = false;       // scales are multiplied into the weights
  bool input_scales = false; // ".input_scale" beside it

  // A matrix that --type may turn into another type.
  bool convertible() const;
  int64_t rows() const;      // of one part
  int64_t cols() const;
  std::string SideName(const char* suffix) const;  // "blk.0.ssm_in" + suffix
};

// Which tensor of the listing is made from which slot.
enum class Piece : uint8_t { kWeight, kScale, kBlockScales, kScale2, kInputScale };
struct Origin {
  size_t slot = 0, part = 0;
  Piece piece = Piece::kWeight;
};

struct Plan {
  std::vector<SlotPlan> slots;
  // Tensors that a GGUF's own tensors give back; all others have to be remembered.
  std::unordered_map<std::string_view, Origin> origins;
};

// `fits` says whether the scales of an NVFP4 slot are all unsigned numbers, as GGUF needs them.
// Errors: kNotFound listing every missing tensor, kBadInput for shapes, kUnsupported for codings.
Result<Plan> MakePlan(const model::ModelSpec& spec, const Listing& listing, const std::string& path,
                      const std::function<bool(const SlotPlan&)>& fits);

}  // namespace lode::quant
