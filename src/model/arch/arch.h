// A family of models as one table: how its config is spelled, which tensors it has, what they are called
// in each format. The one table feeds the reader of configs, the binder of weights, the converter,
// `inspect`, the memory plan and the tests. No code of a family anywhere.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/spec.h"

namespace lode::model {

// Every number a family's config may carry, before it is turned into layers.
struct Hyper {
  int64_t vocabulary = 0, width = 0, layers = 0, context_max = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t mamba_heads = 0, mamba_head_dim = 0, mamba_inner = 0, groups = 0, state = 0, taps = 0;
  int64_t mlp_width = 0;
  int64_t experts = 0, top_k = 0, expert_width = 0, shared_experts = 0, shared_width = 0, latent = 0;
  int64_t routing_groups = 1, routing_groups_kept = 1;
  int64_t mtp_layers = 0;
  double norm_epsilon = 1e-5, routed_scale = 1.0;
  bool normalize_top_k = true, tied_head = false;
};

// Which layers a row of a table belongs to.
enum class Where : uint8_t {
  kModel,      // once per model
  kLayer,      // every layer, trunk and MTP
  kMamba2, kAttention, kMlp, kMoe,
  kMtpFirst,   // the first layer of the MTP head
  kMtpLast,    // the last one
};

// When a config must have a field.
enum class Need : uint8_t { kAlways, kIfMamba2, kIfAttention, kIfMlp, kIfMoe, kOptional };

// One number of the config. Exactly one of the member pointers is set.
struct Field {
  std::vector<const char*> hugging_face;  // key and its aliases
  const char* gguf;                       // without the "{arch}." prefix; nullptr: not in GGUF
  Need need;
  int64_t Hyper::*integer = nullptr;
  double Hyper::*real = nullptr;
  bool Hyper::*flag = nullptr;
  int64_t max = int64_t{1} << 24;         // larger integers are nonsense, not models
};

// A field of config.json that must have this value (or be absent): what Lode does not compute.
struct Refusal {
  const char* key;
  const char* allowed;  // as JSON, alternatives separated by '|'
  const char* why;
};

// Where a weight goes.
enum class Role : uint8_t {
  kEmbedding, kFinalNorm, kHead,
  kNorm,
  kMambaIn, kMambaOut, kMambaConv, kMambaConvBias, kMambaA, kMambaD, kMambaDtBias, kMambaNorm,
  kQuery, kKey, kValue, kAttentionOut,
  kUp, kDown,
  kRouter, kRouterBias, kExpertUp, kExpertDown, kSharedUp, kSharedDown, kLatentDown, kLatentUp,
  kMtpEmbeddingNorm, kMtpHiddenNorm, kMtpProjection, kMtpFinalNorm,
};

// A dimension by name; model/tensors.cc computes it from the spec.
enum class Dim : uint8_t {
  kVocabulary, kWidth, kTwiceWidth,
  kMambaProjection, kConvDim, kTaps, kMambaHeads, kInner, kGroups, kInnerPerGroup, kOne,
  kQueryWidth, kKvWidth, kMlpWidth,
  kExperts, kExpertWidth, kExpertInput, kSharedWidth, kLatent,
};

// How the two formats store the same numbers.
enum class Transform : uint8_t {
  kNone,
  kReshape,      // same numbers, other dimensions
  kNegativeExp,  // GGUF holds -exp(x) of what Hugging Face holds
  kStack,        // GGUF stacks the experts, Hugging Face has one tensor each (or one stacked)
};

// How a weight is kept.
enum class Kind : uint8_t {
  kMatrix,  // stays as it lies in the file, any weight type
  kVector,  // small: decoded to f32 when the model is bound
};

struct TensorRow {
  Role role;
  Where where;
  Kind kind;
  Transform transform;
  // "{i}" is the layer, "{e}" the expert. In the MTP head the prefix of a layer is its own.
  const char* gguf;          // after "blk.{i}." unless where is kModel
  const char* hugging_face;  // after the layer's prefix unless where is kModel
  std::vector<Dim> shape;       // Hugging Face's, per expert for kStack
  std::vector<Dim> gguf_shape;  // outermost first; empty: as `shape` (with kExperts in front for kStack)
  bool optional = false;
  const char* gguf_mtp_last = nullptr;  // another GGUF name in the last MTP layer (folded in one block)
};

// How a config names its layers.
struct Layout {
  char letter;
  std::vector<const char*> words;
  BlockKind kind;
};

struct ArchDef {
  const char* family;
  std::vector<const char*> hugging_face_types;  // config.json "model_type"
  const char* gguf_dense;                       // general.architecture without experts
  const char* gguf_moe;                         // and with
  std::vector<const char*> pattern_keys, pattern_list_keys, mtp_pattern_keys, mtp_list_keys;
  std::vector<Layout> layout;
  std::vector<Field> fields;
  std::vector<Refusal> refusals;
  std::vector<TensorRow> tensors;
  std::vector<const char*> layer_prefixes;  // Hugging Face, first one is written: "backbone.layers.{i}."
  const char* mtp_prefix;                   // "mtp.layers.{i}."
};

// Every family Lode knows.
const std::vector<const ArchDef*>& AllArchs();

extern const ArchDef kNemotronH;

}  // namespace lode::model
