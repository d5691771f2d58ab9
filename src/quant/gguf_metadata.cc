// ModelSpec -> {arch}.* of GGUF. Which key a number has is the family's table; what is written here by
// name is what llama.cpp asks for whatever the family.
#include <algorithm>
#include <cmath>
#include <limits>

#include "model/config.h"
#include "quant/hyper.h"
#include "quant/metadata.h"

namespace lode::quant {
namespace {

using model::BlockKind;
using model::Field;
using model::Hyper;
using model::LayerSpec;
using model::Need;
using tensor::DType;

uint32_t U32(int64_t value) {
  return static_cast<uint32_t>(
      std::clamp<int64_t>(value, 0, std::numeric_limits<uint32_t>::max()));
}

// GGUF folds the MTP head's layers into one block, so of each list it has one entry.
void SetPerLayer(const model::ModelSpec& spec, const std::string& prefix,
                 formats::GgufWriter* writer) {
  std::vector<int32_t> kv_heads;
  std::vector<int32_t> widths;
  const auto add = [&](const LayerSpec& layer, size_t at) {
    kv_heads.resize(std::max(kv_heads.size(), at + 1));
    widths.resize(kv_heads.size());
    if (layer.kind == BlockKind::kAttention) {
      kv_heads[at] = static_cast<int32_t>(layer.attention.kv_heads);
    } else if (layer.kind == BlockKind::kMlp) {
      widths[at] = static_cast<int32_t>(layer.mlp.width);
    } else if (layer.kind == BlockKind::kMoe) {
      widths[at] = static_cast<int32_t>(layer.moe.width);
    }
  };
  for (size_t i = 0; i < spec.layers.size(); ++i) add(spec.layers[i], i);
  for (const LayerSpec& layer : spec.mtp) add(layer, spec.layers.size());
  writer->SetI32s(prefix + "attention.head_count_kv", kv_heads);
  writer->SetI32s(prefix + "feed_forward_length", widths);
}

bool Applies(const Field& field, const Kinds& kinds) {
  switch (field.need) {
    case Need::kIfMamba2:
      return kinds.mamba2;
    case Need::kIfAttention:
      return kinds.attention;
    case Need::kIfMlp:
      return kinds.mlp;
    case Need::kIfMoe:
      return kinds.moe;
    case Need::kAlways:
    case Need::kOptional:
      return true;
  }
  return true;
}

}  // namespace

Kinds KindsOf(const model::ModelSpec& spec) {
  Kinds kinds;
  for (const auto* layers : {&spec.layers, &spec.mtp}) {
    for (const LayerSpec& layer : *layers) {
      kinds.mamba2 = kinds.mamba2 || layer.kind == BlockKind::kMamba2;
      kinds.attention = kinds.attention || layer.kind == BlockKind::kAttention;
      kinds.mlp = kinds.mlp || layer.kind == BlockKind::kMlp;
      kinds.moe = kinds.moe || layer.kind == BlockKind::kMoe;
    }
  }
  return kinds;
}

Hyper HyperOf(const model::ModelSpec& spec) {
  Hyper h;
  h.vocabulary = spec.vocabulary;
  h.width = spec.width;
  h.layers = static_cast<int64_t>(spec.layers.size());
  h.context_max = spec.context_max;
  h.norm_epsilon = spec.norm_epsilon;
  h.tied_head = spec.tied_head;
  h.mtp_layers = spec.mtp.empty() ? 0 : 1;
  for (const auto* layers : {&spec.mtp, &spec.layers}) {
    for (const LayerSpec& layer : *layers) {
      if (layer.kind == BlockKind::kMamba2) {
        h.mamba_heads = layer.mamba2.heads;
        h.mamba_head_dim = layer.mamba2.head_dim;
        h.mamba_inner = layer.mamba2.inner();
        h.groups = layer.mamba2.groups;
        h.state = layer.mamba2.state;
        h.taps = layer.mamba2.taps;
      } else if (layer.kind == BlockKind::kAttention) {
        h.heads = layer.attention.heads;
        h.kv_heads = layer.attention.kv_heads;
        h.head_dim = layer.attention.head_dim;
      } else if (layer.kind == BlockKind::kMlp) {
        h.mlp_width = layer.mlp.width;
      } else {
        h.experts = layer.moe.experts;
        h.top_k = layer.moe.top_k;
        h.expert_width = layer.moe.width;
        h.shared_width = layer.moe.shared_width;
        h.shared_experts = layer.moe.shared_width > 0 ? 1 : 0;
        h.latent = layer.moe.latent;
        h.routed_scale = layer.moe.scale;
        h.normalize_top_k = layer.moe.normalize;
      }
    }
  }
  return h;
}

bool OfExperts(const Field& field) {
  for (const auto member : {&Hyper::experts, &Hyper::top_k, &Hyper::expert_width,
                            &Hyper::shared_experts, &Hyper::shared_width, &Hyper::latent,
                            &Hyper::routing_groups, &Hyper::routing_groups_kept}) {
    if (field.integer == member) return true;
  }
  return field.real == &Hyper::routed_scale || field.flag == &Hyper::normalize_top_k;
}

void SetModelMetadata(const model::ModelSpec& spec, const Json& config, const std::string& name,
                      formats::GgufWriter* writer) {
  const model::ArchDef& arch = model::ArchOf(spec);
  const Kinds kinds = KindsOf(spec);
  Hyper hyper = HyperOf(spec);
  hyper.layers += hyper.mtp_layers;  // "block_count" counts the MTP block
  const std::string architecture = kinds.moe ? arch.gguf_moe : arch.gguf_dense;
  const std::string prefix = architecture + ".";
  writer->SetString("general.architecture", architecture);
  writer->SetString("general.type", "model");
  if (!name.empty()) writer->SetString("general.name", name);
  for (const Field& field : arch.fields) {
    if (field.gguf == nullptr || !Applies(field, kinds) || (OfExperts(field) && !kinds.moe)) continue;
    const std::string key = prefix + field.gguf;
    if (field.integer != nullptr) {
      int64_t value = hyper.*field.integer;
      if (field.integer == &Hyper::shared_experts && value > 0) {
        for (const char* word : field.hugging_face) {
          value = std::max<int64_t>(value, GetInt(config, word, 0));
        }
      }
      if (field.need != Need::kOptional || value > 0) writer->SetU32(key, U32(value));
    } else if (field.real != nullptr) {
      writer->SetF32(key, static_cast<float>(hyper.*field.real));
    } else {
      writer->SetBool(key, hyper.*field.flag);
    }
  }
  SetPerLayer(spec, prefix, writer);
  // No value of these changes what is computed; llama.cpp does not load a model without them.
  writer->SetF32(prefix + "attention.layer_norm_epsilon", static_cast<float>(hyper.norm_epsilon));
  if (kinds.attention) {
    writer->SetU32(prefix + "attention.value_length", U32(hyper.head_dim));
    writer->SetU32(prefix + "rope.dimension_count", U32(hyper.head_dim));
    writer->SetF32(prefix + "rope.freq_base",
                   static_cast<float>(GetDouble(config, "rope_theta", 10000.0)));
    writer->SetBool(prefix + "rope.scaling.finetuned", false);
  }
}

void SetFileType(DType dtype, formats::GgufWriter* writer) {
  uint32_t type = 0;
  switch (dtype) {  // the numbers of general.file_type
    case DType::kF16: type = 1; break;
    case DType::kQ4_0: type = 2; break;
    case DType::kQ4_1: type = 3; break;
    case DType::kQ8_0: type = 7; break;
    case DType::kQ5_0: type = 8; break;
    case DType::kQ5_1: type = 9; break;
    case DType::kIQ4NL: type = 25; break;
    case DType::kBF16: type = 32; break;
    case DType::kMXFP4: type = 38; break;
    case DType::kNVFP4: type = 39; break;
    default: break;
  }
  writer->SetU32("general.file_type", type);
  writer->SetU32("general.quantization_version", 2);
}

}  // namespace lode::quant
