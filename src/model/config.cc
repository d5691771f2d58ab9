#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"
#include "base/text.h"
#include "model/config_reader.h"
#include "kernels/ops.h"  // PaddedHeadDim
#include "model/tensors.h"

namespace lode::model {

const char* Name(BlockKind kind) {
  switch (kind) {
    case BlockKind::kMamba2:
      return "Mamba-2";
    case BlockKind::kAttention:
      return "attention";
    case BlockKind::kMlp:
      return "MLP";
    case BlockKind::kMoe:
      return "mixture of experts";
  }
  return "?";
}

int64_t CountLayers(const ModelSpec& spec, BlockKind kind) {
  return std::count_if(spec.layers.begin(), spec.layers.end(),
                       [&](const LayerSpec& layer) { return layer.kind == kind; });
}

namespace {


// Sizes beyond which a config is hostile or broken, not a model. Together they keep every product of
// sizes inside 64 bits and every list that is built from a config alone short.
constexpr int64_t kLayersMax = 4096;
constexpr int64_t kMtpLayersMax = 16;
constexpr int64_t kParametersMax = int64_t{1} << 50;  // 2,000 times the largest release
constexpr int64_t kTensorsMax = int64_t{1} << 22;     // 80 times
constexpr int64_t kStateMax = int64_t{1} << 44;       // recurrent numbers of one sequence
// What the kernels have room for on their stacks.
constexpr int64_t kMambaHeadDimMax = 512;
constexpr int64_t kHeadDimMax = 4096;

bool Matches(const ArchDef& arch, const TensorSource& source, std::string* name) {
  const Json& config = source.config();
  if (source.naming() == Naming::kGguf) {
    *name = GetString(config, "general.architecture");
    return *name == arch.gguf_dense || *name == arch.gguf_moe;
  }
  *name = GetString(config, "model_type");
  return std::any_of(arch.hugging_face_types.begin(), arch.hugging_face_types.end(),
                     [&](const char* type) { return *name == type; });
}

Result<const ArchDef*> FindArch(const TensorSource& source) {
  std::string name;
  std::vector<std::string> known;
  for (const ArchDef* arch : AllArchs()) {
    if (Matches(*arch, source, &name)) return arch;
    if (source.naming() == Naming::kGguf) {
      known.insert(known.end(), {arch->gguf_dense, arch->gguf_moe});
    } else {
      known.insert(known.end(), arch->hugging_face_types.begin(), arch->hugging_face_types.end());
    }
  }
  const char* field =
      source.naming() == Naming::kGguf ? "'general.architecture'" : "'model_type' in config.json";
  if (name.empty()) return Error(Code::kBadInput, source.path() + ": " + field + " is missing");
  return Error(Code::kUnsupported,
               source.path() + ": " + field + " is " + Quote(name) +
                   ", a model family that Lode does not run",
               "it runs " + Join(known, ", "));
}

// The value as JSON on one line; an endless limit as Python writes it.
std::string Canonical(const Json& value) {
  if (value.is_array()) {
    std::string text = "[";
    for (size_t i = 0; i < value.size(); ++i) {
      if (i > 0) text += ",";
      text += Canonical(value[i]);
    }
    return text + "]";
  }
  if (value.is_number_float() && std::isinf(value.get<double>())) return "Infinity";
  return DumpJson(value);
}

Result<void> CheckRefusals(const ArchDef& arch, const TensorSource& source) {
  if (source.naming() == Naming::kGguf) return {};
  for (const Refusal& refusal : arch.refusals) {
    const Json* value = FindKey(source.config(), refusal.key);
    if (value == nullptr) continue;
    const std::string text = Canonical(*value);
    const std::vector<std::string> allowed = Split(refusal.allowed, '|');
    if (std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
      return Error(Code::kUnsupported, source.path() + ": config field '" + refusal.key + "' is " +
                                           text + ": Lode does not compute " + refusal.why);
    }
  }
  return {};
}

// What a checkpoint says of its quantization. Which tensor has which format is seen from the tensors
// themselves when they are bound; here only what is surely none of ours is refused, by its field.
Result<void> CheckQuantization(const TensorSource& source) {
  const Json* quantization = FindKey(source.config(), "quantization_config");
  if (quantization == nullptr || quantization->is_null()) return {};
  const auto refuse = [&](const std::string& field, const Json& value) {
    return Error(Code::kUnsupported,
                 source.path() + ": config field 'quantization_config." + field + "' is " +
                     Quote(value.is_string() ? value.get<std::string>() : DumpJson(value)) +
                     ": a quantization that Lode does not know",
                 "it reads ModelOpt's FP8 and NVFP4 checkpoints, and GGUF files");
  };
  if (!quantization->is_object()) {
    return Error(Code::kBadInput,
                 source.path() + ": config field 'quantization_config' is not an object");
  }
  const Json* method = FindKey(*quantization, "quant_method");
  if (method != nullptr && !method->is_null() && *method != "modelopt") {
    return refuse("quant_method", *method);
  }
  const auto known = [](const Json& algorithm) {
    return algorithm.is_null() || algorithm == "FP8" || algorithm == "NVFP4" ||
           algorithm == "W4A16_NVFP4" || algorithm == "MIXED_PRECISION" ||
           algorithm == "FP8_PER_CHANNEL_PER_TOKEN";
  };
  const Json* algorithm = FindKey(*quantization, "quant_algo");
  if (algorithm != nullptr && !known(*algorithm)) return refuse("quant_algo", *algorithm);
  const Json* layers = FindKey(*quantization, "quantized_layers");
  if (layers == nullptr || !layers->is_object()) return {};
  for (const auto& [module, how] : layers->items()) {
    const Json* one = FindKey(how, "quant_algo");
    if (one != nullptr && !known(*one)) {
      return refuse("quantized_layers." + module + ".quant_algo", *one);
    }
  }
  return {};
}

bool Needed(Need need, const std::set<BlockKind>& kinds) {
  switch (need) {
    case Need::kAlways:
      return true;
    case Need::kIfMamba2:
      return kinds.count(BlockKind::kMamba2) > 0;
    case Need::kIfAttention:
      return kinds.count(BlockKind::kAttention) > 0;
    case Need::kIfMlp:
      return kinds.count(BlockKind::kMlp) > 0;
    case Need::kIfMoe:
      return kinds.count(BlockKind::kMoe) > 0;
    case Need::kOptional:
      return false;
  }
  return false;
}

LayerSpec MakeLayer(BlockKind kind, const Hyper& h) {
  LayerSpec layer;
  layer.kind = kind;
  layer.mamba2 = {h.mamba_heads, h.mamba_head_dim, h.groups, h.state, h.taps};
  layer.attention = {h.heads, h.kv_heads, h.head_dim};
  layer.mlp = {h.mlp_width};
  layer.moe.experts = h.experts;
  layer.moe.top_k = h.top_k;
  layer.moe.width = h.expert_width;
  layer.moe.latent = h.latent;
  layer.moe.shared_width = h.shared_width;
  layer.moe.normalize = h.normalize_top_k;
  layer.moe.scale = h.routed_scale;
  return layer;
}

// Relations between numbers that the kernels rely on.
Result<void> CheckHyper(const Hyper& h, const std::set<BlockKind>& kinds,
                        const TensorSource& source) {
  const auto bad = [&](const std::string& what) {
    return Error(Code::kBadInput, source.path() + ": config: " + what);
  };
  const auto positive = [&](int64_t value, const char* what) -> Result<void> {
    if (value > 0) return {};
    return bad(std::string(what) + " is zero");
  };
  const auto at_most = [&](int64_t value, int64_t max, const char* what) -> Result<void> {
    if (value <= max) return {};
    return Error(
        Code::kUnsupported,
        source.path() + Format(": config: %s is %lld; Lode computes at most %lld", what,
                               static_cast<long long>(value), static_cast<long long>(max)));
  };
  LODE_TRY(positive(h.width, "hidden size"));
  LODE_TRY(positive(h.vocabulary, "vocabulary size"));
  LODE_TRY(at_most(h.vocabulary, int64_t{1} << 24, "vocabulary size"));
  if (kinds.count(BlockKind::kMamba2) > 0) {
    LODE_TRY(positive(h.mamba_heads, "number of Mamba heads"));
    LODE_TRY(positive(h.mamba_head_dim, "Mamba head dimension"));
    LODE_TRY(positive(h.groups, "n_groups"));
    LODE_TRY(positive(h.state, "SSM state size"));
    LODE_TRY(positive(h.taps, "convolution kernel"));
    LODE_TRY(at_most(h.mamba_head_dim, kMambaHeadDimMax, "Mamba head dimension"));
    if (h.mamba_heads % h.groups != 0) {
      return bad(Format("%lld Mamba heads cannot be split into %lld groups",
                        static_cast<long long>(h.mamba_heads), static_cast<long long>(h.groups)));
    }
  }
  if (kinds.count(BlockKind::kAttention) > 0) {
    LODE_TRY(positive(h.heads, "number of attention heads"));
    LODE_TRY(positive(h.kv_heads, "number of key-value heads"));
    LODE_TRY(positive(h.head_dim, "attention head dimension"));
    LODE_TRY(at_most(h.head_dim, kHeadDimMax, "attention head dimension"));
    if (h.heads % h.kv_heads != 0) {
      return bad(Format("%lld attention heads cannot share %lld key-value heads",
                        static_cast<long long>(h.heads), static_cast<long long>(h.kv_heads)));
    }
  }
  if (kinds.count(BlockKind::kMlp) > 0) LODE_TRY(positive(h.mlp_width, "MLP width"));
  if (kinds.count(BlockKind::kMoe) > 0) {
    LODE_TRY(positive(h.experts, "number of experts"));
    LODE_TRY(positive(h.top_k, "number of experts per token"));
    LODE_TRY(positive(h.expert_width, "expert width"));
    if (h.top_k > h.experts) {
      return bad(Format("%lld experts per token out of %lld", static_cast<long long>(h.top_k),
                        static_cast<long long>(h.experts)));
    }
    if (h.routing_groups > 1) {
      return Error(
          Code::kUnsupported,
          source.path() + Format(": config field 'n_group' is %lld: Lode does not route by "
                                 "groups of experts",
                                 static_cast<long long>(h.routing_groups)));
    }
    if (h.shared_experts > 0 && h.shared_width == 0) {
      return bad(
          "'moe_shared_expert_intermediate_size' is missing though there is a shared expert");
    }
  }
  return {};
}

// The sizes together, once every layer is known: each number may be fine and their product absurd.
Result<void> CheckTotals(const ModelSpec& spec, const TensorSource& source) {
  const auto bad = [&](const std::string& what) {
    return Error(Code::kBadInput, source.path() + ": config: " + what,
                 "the file is damaged, or no model");
  };
  for (const LayerSpec& layer : spec.layers) {
    const AttentionSpec& a = layer.attention;
    if (layer.kind == BlockKind::kAttention && (a.kv_heads == 0 || a.heads % a.kv_heads != 0)) {
      return bad(Format("%lld attention heads cannot share %lld key-value heads",
                        static_cast<long long>(a.heads), static_cast<long long>(a.kv_heads)));
    }
  }
  int64_t tensors = 0;
  int64_t parameters = 0;
  for (const TensorSlot& slot : ListTensors(spec)) {
    const int64_t copies = std::max<int64_t>(1, slot.experts);
    int64_t one = 0;
    int64_t all = 0;
    tensors += copies;
    if (!tensor::CountElements(slot.shape, &one) || __builtin_mul_overflow(one, copies, &all) ||
        all > kParametersMax - parameters) {
      return bad("its sizes make more than " + WithThousands(kParametersMax) + " parameters");
    }
    parameters += all;
  }
  if (tensors > kTensorsMax) {
    return bad("its layers and experts make more than " + WithThousands(kTensorsMax) + " tensors");
  }
  int64_t state = 0;
  for (const LayerSpec& layer : spec.layers) {
    if (layer.kind != BlockKind::kMamba2) continue;
    const Mamba2Spec& m = layer.mamba2;
    const int64_t padded = m.heads * kernels::PaddedHeadDim(m.head_dim);
    int64_t one = 0;
    if (__builtin_mul_overflow(padded, m.state, &one) || one > kStateMax - state) {
      return bad("its Mamba layers keep more than " + WithThousands(kStateMax) +
                 " numbers of a sequence");
    }
    state += one;
  }
  return {};
}

// GGUF: a layer is recurrent iff it has no kv heads and no feed-forward width, attention iff it only has
// kv heads, else an MLP or, with a router, a mixture of experts.
Result<void> LayersFromGguf(const ConfigReader& reader, const TensorSource& source, Hyper* hyper,
                            std::vector<LayerSpec>* all, std::vector<LayerSpec>* mtp) {
  LODE_ASSIGN(const auto kv_heads, reader.PerLayer("attention.head_count_kv", hyper->layers));
  LODE_ASSIGN(const auto widths, reader.PerLayer("feed_forward_length", hyper->layers));
  const int64_t trunk = hyper->layers - hyper->mtp_layers;
  for (int64_t i = 0; i < hyper->layers; ++i) {
    const auto at = static_cast<size_t>(i);
    const std::string block = "blk." + std::to_string(i) + ".";
    const bool routed = source.Find(block + "ffn_gate_inp.weight") != nullptr;
    if (i >= trunk) {  // the MTP block folds two layers into one
      LayerSpec attention = MakeLayer(BlockKind::kAttention, *hyper);
      if (kv_heads[at] > 0) attention.attention.kv_heads = kv_heads[at];
      LayerSpec feed_forward = MakeLayer(routed ? BlockKind::kMoe : BlockKind::kMlp, *hyper);
      if (!routed) feed_forward.mlp.width = widths[at];
      if (routed && feed_forward.moe.width == 0) feed_forward.moe.width = widths[at];
      mtp->push_back(attention);
      mtp->push_back(feed_forward);
      continue;
    }
    BlockKind kind = BlockKind::kMamba2;
    if (widths[at] > 0) {
      kind = routed ? BlockKind::kMoe : BlockKind::kMlp;
    } else if (kv_heads[at] > 0) {
      kind = BlockKind::kAttention;
    }
    LayerSpec layer = MakeLayer(kind, *hyper);
    if (kind == BlockKind::kAttention) layer.attention.kv_heads = kv_heads[at];
    if (kind == BlockKind::kMlp) layer.mlp.width = widths[at];
    if (kind == BlockKind::kMoe && layer.moe.width == 0) layer.moe.width = widths[at];
    all->push_back(layer);
  }
  return {};
}

// What the formats leave out or spell in another way.
Result<void> DeriveHyper(const ConfigReader& reader, const ArchDef& arch,
                         const TensorSource& source, Hyper* hyper) {
  if (hyper->vocabulary == 0) {
    for (const TensorRow& row : arch.tensors) {
      if (row.role != Role::kEmbedding) continue;
      const auto* info = source.Find(reader.gguf() ? row.gguf : row.hugging_face);
      if (info != nullptr && info->shape.size() == 2) hyper->vocabulary = info->shape[0];
    }
  }
  if (hyper->mamba_inner == 0) hyper->mamba_inner = hyper->mamba_heads * hyper->mamba_head_dim;
  if (hyper->mamba_head_dim == 0 && hyper->mamba_heads > 0) {
    hyper->mamba_head_dim = hyper->mamba_inner / hyper->mamba_heads;
  }
  if (hyper->mamba_heads * hyper->mamba_head_dim != hyper->mamba_inner) {
    return Error(Code::kBadInput, source.path() +
                                      ": config: the Mamba inner width is not a multiple "
                                      "of its number of heads");
  }
  if (hyper->head_dim == 0 && hyper->heads > 0) hyper->head_dim = hyper->width / hyper->heads;
  if (hyper->mtp_layers > 1) {
    return Error(
        Code::kUnsupported,
        source.path() + Format(": config field '%s' is %lld: Lode runs one MTP block",
                               reader.gguf() ? "nextn_predict_layers" : "num_nextn_predict_layers",
                               static_cast<long long>(hyper->mtp_layers)));
  }
  return {};
}

// Hugging Face: the layers by their pattern. A checkpoint that was saved without its MTP head still
// announces it; then the model has none.
Result<void> LayersFromHuggingFace(const ConfigReader& reader, const ArchDef& arch,
                                   const TensorSource& source, const Hyper& hyper,
                                   ModelSpec* spec) {
  const std::string mtp_name = arch.mtp_prefix;
  const std::string mtp_start = mtp_name.substr(0, mtp_name.find('{'));
  const auto& tensors = source.tensors();
  const bool without_mtp =
      !tensors.empty() && std::none_of(tensors.begin(), tensors.end(), [&](const auto& info) {
        return StartsWith(info.name, mtp_start);
      });
  LODE_ASSIGN(const auto kinds, reader.Pattern(arch.pattern_keys, arch.pattern_list_keys));
  LODE_ASSIGN(const auto mtp_kinds, reader.Pattern(arch.mtp_pattern_keys, arch.mtp_list_keys));
  if (kinds.empty()) {
    return Error(Code::kBadInput, source.path() + ": config.json says nothing of the layers: '" +
                                      arch.pattern_keys.front() + "' and '" +
                                      arch.pattern_list_keys.front() + "' are missing");
  }
  const auto count = static_cast<int64_t>(kinds.size());
  if (count > kLayersMax) {
    return Error(
        Code::kBadInput,
        source.path() + Format(": the layer pattern has %lld layers; Lode takes at most %lld",
                               static_cast<long long>(count), static_cast<long long>(kLayersMax)));
  }
  if (hyper.layers != 0 && hyper.layers != count) {
    return Error(Code::kBadInput,
                 source.path() + Format(": config field 'num_hidden_layers' is %lld, but the layer "
                                        "pattern has %lld layers",
                                        static_cast<long long>(hyper.layers),
                                        static_cast<long long>(count)));
  }
  for (const BlockKind kind : kinds) spec->layers.push_back(MakeLayer(kind, hyper));
  if (hyper.mtp_layers > 0 && !without_mtp) {
    if (mtp_kinds.empty()) {
      return Error(Code::kBadInput, source.path() + ": config.json has an MTP head but not '" +
                                        arch.mtp_pattern_keys.front() + "'");
    }
    if (static_cast<int64_t>(mtp_kinds.size()) > kMtpLayersMax) {
      return Error(
          Code::kBadInput,
          source.path() + Format(": the MTP head's pattern has %zu layers", mtp_kinds.size()));
    }
    for (const BlockKind kind : mtp_kinds) {
      if (kind == BlockKind::kMamba2) {
        return Error(Code::kUnsupported,
                     source.path() + ": an MTP head with Mamba layers is not supported");
      }
      spec->mtp.push_back(MakeLayer(kind, hyper));
    }
  }
  return {};
}

// Every field that the layers need and the config lacks, in one error.
Result<void> CheckMissing(const ConfigReader& reader, const ArchDef& arch,
                          const TensorSource& source, const Hyper& hyper,
                          const std::set<BlockKind>& kinds, const std::set<std::string>& found) {
  std::vector<std::string> missing;
  for (const Field& field : arch.fields) {
    const bool spelled = reader.gguf() ? field.gguf != nullptr : !field.hugging_face.empty();
    std::string key;
    reader.Find(field, &key);
    if (spelled && Needed(field.need, kinds) && found.count(key) == 0) {
      // Derived above, or per layer.
      if (field.integer == &Hyper::head_dim && hyper.head_dim > 0) continue;
      if (field.integer == &Hyper::expert_width && hyper.expert_width > 0) continue;
      missing.push_back(key);
    }
  }
  if (!missing.empty()) {
    return Error(Code::kBadInput, source.path() + ": config lacks " + Join(missing, ", "));
  }
  return {};
}

}  // namespace

Result<ModelSpec> ReadSpec(const TensorSource& source) {
  LODE_ASSIGN(const ArchDef* arch, FindArch(source));
  LODE_TRY(CheckRefusals(*arch, source));
  if (source.naming() == Naming::kHuggingFace) LODE_TRY(CheckQuantization(source));
  const ConfigReader reader(source, *arch);
  Hyper hyper;
  std::set<std::string> found;
  for (const Field& field : arch->fields) {
    LODE_ASSIGN(const bool present, reader.Read(field, &hyper));
    std::string key;
    reader.Find(field, &key);
    if (present) found.insert(key);
  }
  LODE_TRY(DeriveHyper(reader, *arch, source, &hyper));

  ModelSpec spec;
  if (reader.gguf()) {
    if (hyper.layers <= hyper.mtp_layers) {
      return Error(Code::kBadInput,
                   source.path() + ": config field 'block_count' is missing or too small");
    }
    if (source.Find("output.weight") == nullptr) hyper.tied_head = true;
    LODE_TRY(LayersFromGguf(reader, source, &hyper, &spec.layers, &spec.mtp));
  } else {
    LODE_TRY(LayersFromHuggingFace(reader, *arch, source, hyper, &spec));
  }

  std::set<BlockKind> kinds;
  for (const auto* layers : {&spec.layers, &spec.mtp}) {
    for (const LayerSpec& layer : *layers) {
      kinds.insert(layer.kind);
      // A GGUF may give the experts' width per layer only.
      if (hyper.expert_width == 0 && layer.kind == BlockKind::kMoe) {
        hyper.expert_width = layer.moe.width;
      }
    }
  }
  LODE_TRY(CheckMissing(reader, *arch, source, hyper, kinds, found));
  LODE_TRY(CheckHyper(hyper, kinds, source));

  spec.family = arch->family;
  spec.name = reader.gguf() ? GetString(source.config(), "general.name")
                            : GetString(source.config(), "_name_or_path");
  spec.vocabulary = hyper.vocabulary;
  spec.width = hyper.width;
  spec.context_max = hyper.context_max;
  spec.norm_epsilon = hyper.norm_epsilon;
  spec.tied_head = hyper.tied_head;
  LODE_TRY(CheckTotals(spec, source));
  return spec;
}

const ArchDef& ArchOf(const ModelSpec& spec) {
  for (const ArchDef* arch : AllArchs()) {
    if (spec.family == arch->family) return *arch;
  }
  LODE_CHECK(false);
}

std::string PatternOf(const ModelSpec& spec) {
  std::string pattern;
  for (const LayerSpec& layer : spec.layers) {
    for (const Layout& row : ArchOf(spec).layout) {
      if (row.kind == layer.kind) pattern += row.letter;
    }
  }
  return pattern;
}

}  // namespace lode::model
