// A checkpoint of random numbers that is made from a config in memory: for speed, depth and bits,
// where what a model says does not matter. The same config and seed give the same bytes.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "model/bind.h"
#include "model/config.h"
#include "model/tensors.h"
#include "tests/support/memory_source.h"

namespace lode::testing {

// All kinds of blocks, as small as they go: for contexts that are long.
inline Json TinyHybridConfig() {
  return Json{{"architectures", {"NemotronHForCausalLM"}},
              {"model_type", "nemotron_h"},
              {"vocab_size", 256},
              {"hidden_size", 64},
              {"intermediate_size", 128},
              {"num_hidden_layers", 5},
              {"num_attention_heads", 1},
              {"num_key_value_heads", 1},
              {"head_dim", 16},
              {"attention_bias", false},
              {"max_position_embeddings", 1 << 21},
              {"mamba_num_heads", 4},
              {"mamba_head_dim", 32},
              {"ssm_state_size", 32},
              {"n_groups", 2},
              {"conv_kernel", 4},
              {"expand", 2},
              {"chunk_size", 128},
              {"mamba_hidden_act", "silu"},
              {"mamba_proj_bias", false},
              {"use_conv_bias", true},
              {"use_bias", false},
              {"mlp_hidden_act", "relu2"},
              {"mlp_bias", false},
              {"layer_norm_epsilon", 1e-5},
              {"norm_eps", 1e-5},
              {"residual_in_fp32", false},
              {"tie_word_embeddings", false},
              {"n_routed_experts", 8},
              {"num_experts_per_tok", 2},
              {"moe_intermediate_size", 32},
              {"n_shared_experts", 1},
              {"moe_shared_expert_intermediate_size", 64},
              {"norm_topk_prob", true},
              {"routed_scaling_factor", 2.5},
              {"n_group", 1},
              {"topk_group", 1},
              {"hybrid_override_pattern", "ME*-M"}};
}

class RandomNumbers {
 public:
  RandomNumbers(uint32_t seed, model::Role role, int64_t columns)
      : random_(seed), role_(role), scale_(1.0F / std::sqrt(static_cast<float>(columns))) {}
  float Next() {
    const float x = normal_(random_);
    switch (role_) {
      case model::Role::kMambaA:  // what decays with exp(-exp(it) dt)
        return std::abs(x);
      case model::Role::kMambaDtBias:
        return x - 3.0F;
      case model::Role::kMambaConvBias:
      case model::Role::kRouterBias:
        return 0.1F * x;
      case model::Role::kEmbedding:
        return x;
      case model::Role::kMambaConv:
        return 0.5F * x;
      default:
        return IsVector() ? 1.0F + 0.1F * x : scale_ * x;
    }
  }

 private:
  bool IsVector() const {
    using model::Role;
    return role_ == Role::kNorm || role_ == Role::kFinalNorm || role_ == Role::kMambaNorm ||
           role_ == Role::kMambaD || role_ == Role::kMtpEmbeddingNorm ||
           role_ == Role::kMtpHiddenNorm || role_ == Role::kMtpFinalNorm;
  }
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  model::Role role_;
  float scale_;
};

// In BF16, as releases are. Errors: those of the config.
inline Result<std::unique_ptr<model::Model>> RandomModel(Json config, uint32_t seed = 1) {
  LODE_ASSIGN(const model::ModelSpec spec, model::ReadSpec(MemorySource(config)));
  auto source = std::make_shared<MemorySource>(std::move(config));
  for (const model::TensorSlot& slot : model::ListTensors(spec)) {
    for (int64_t expert = 0; expert < std::max<int64_t>(1, slot.experts); ++expert) {
      int64_t elements = 0;
      tensor::CountElements(slot.shape, &elements);
      RandomNumbers numbers(seed++, slot.row->role, slot.shape.back());
      std::string bytes(static_cast<size_t>(elements) * 2, '\0');
      for (int64_t i = 0; i < elements; ++i) {
        const float value = numbers.Next();
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof(bits));
        const auto upper = static_cast<uint16_t>(bits >> 16);
        std::memcpy(bytes.data() + 2 * i, &upper, sizeof(upper));
      }
      const std::string& name = slot.hugging_face.front();
      source->Add(slot.experts > 0 ? model::ExpertName(name, expert) : name, tensor::DType::kBF16,
                  slot.shape, std::move(bytes));
    }
  }
  return model::Bind(std::move(source));
}

}  // namespace lode::testing
