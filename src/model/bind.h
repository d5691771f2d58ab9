// A model with its weights: every matrix a view of the file it came from, every small vector
// decoded.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "kernels/weight.h"
#include "model/spec.h"
#include "tensor/source.h"

namespace lode::model {

using kernels::Weight;

struct Mamba2Weights {
  Weight in, out;
  std::vector<float> conv;       // [K, C]: turned round, so that channels are the vector
  std::vector<float> conv_bias;  // [C]
  std::vector<float> a, d, dt_bias;  // [heads]; a = -exp(A_log)
  std::vector<float> norm;           // [inner]
};

struct AttentionWeights {
  Weight query, key, value, out;
};

struct MlpWeights {
  Weight up, down;
};

struct MoeWeights {
  Weight router;            // [E, D]
  std::vector<float> bias;  // [E], for the choice only
  std::vector<Weight> up, down;  // one each per expert
  Weight shared_up, shared_down;  // empty without a shared expert
  Weight latent_down, latent_up;  // empty without a latent space
};

// One residual layer. Only the member of its kind is filled.
struct Layer {
  LayerSpec spec;
  std::vector<float> norm;  // [D]
  Mamba2Weights mamba2;
  AttentionWeights attention;
  MlpWeights mlp;
  MoeWeights moe;
};

struct MtpHead {
  std::vector<float> embedding_norm, hidden_norm, final_norm;  // [D]
  Weight projection;                                           // [D, 2 D]
  std::vector<Layer> layers;                                   // empty: the model has none
};

// Memory for packed matrices, in huge pages where the system has them.
class PackedMemory {
 public:
  // nullptr: the system has none.
  static std::unique_ptr<PackedMemory> Take(uint64_t bytes);
  ~PackedMemory();
  std::byte* data() { return data_; }

 private:
  PackedMemory() = default;
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// Life: keeps its source (the mapped files) alive. Threads: read-only after Bind, so any; but a
// Packer sets Weight::packed between steps.
struct Model {
  ModelSpec spec;
  std::shared_ptr<const tensor::TensorSource> source;
  Weight embedding, head;
  std::vector<float> final_norm;
  std::vector<Layer> layers;
  MtpHead mtp;
  // Scales per row, decoded; Weight::row_scales point into these.
  std::vector<std::unique_ptr<std::vector<float>>> row_scales;

  // What Weight::packed points into, unless the file itself is packed.
  std::vector<std::unique_ptr<PackedMemory>> packed;
  std::mutex packed_mutex;

  uint64_t weight_bytes = 0;   // of the views: what stays in the file
  uint64_t vector_bytes = 0;   // of the decoded copies
  bool quantized = false;      // some matrix has less than 16 bits
  bool any_bf16 = false;       // some matrix is BF16
};

// Whether all routed experts can be computed fused (Numerics::fused_experts) when activations are
// native.
bool CanFuseExperts(const Model& model);

// Errors: kNotFound with every tensor that is missing (experts of a stack as ranges); kBadInput for
// a shape that is not the spec's; kUnsupported for a quantization that Lode does not know. All
// before anything is computed.
Result<std::unique_ptr<Model>> Bind(std::shared_ptr<const tensor::TensorSource> source);

// Looks at every weight for NaN and infinity: a sentence for each tensor that has some. With a pool
// on all its threads. `progress` is told the bytes seen so far; returning false ends the search
// early.
std::vector<std::string> FindBadNumbers(
    const tensor::TensorSource& source, ThreadPool* pool = nullptr,
    const std::function<bool(uint64_t bytes)>& progress = nullptr);

}  // namespace lode::model
