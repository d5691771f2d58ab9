// What a model is, once its config is understood: plain numbers, a list of layers. Letters as in
// docs/SHAPES.md. The names of families do not occur here or anywhere below; a family is a table in
// arch/ that fills this.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lode::model {

enum class BlockKind : uint8_t { kMamba2, kAttention, kMlp, kMoe };
const char* Name(BlockKind kind);

struct Mamba2Spec {
  int64_t heads = 0, head_dim = 0, groups = 0, state = 0, taps = 0;

  int64_t inner() const { return heads * head_dim; }
  int64_t conv_dim() const { return inner() + 2 * groups * state; }
  // Rows of the input projection: z | x | B | C | dt.
  int64_t projection() const { return inner() + conv_dim() + heads; }
};

struct AttentionSpec {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;

  int64_t q_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
};

struct MlpSpec {
  int64_t width = 0;
};

struct MoeSpec {
  int64_t experts = 0, top_k = 0, width = 0;
  int64_t latent = 0;        // width the experts work in; 0: the model's
  int64_t shared_width = 0;  // of the shared expert; 0: none
  bool normalize = true;     // weights of the chosen sum to one before scaling
  double scale = 1.0;
};

// One residual layer: x += block(norm(x)). Only the member of its kind means anything.
struct LayerSpec {
  BlockKind kind = BlockKind::kMamba2;
  Mamba2Spec mamba2;
  AttentionSpec attention;
  MlpSpec mlp;
  MoeSpec moe;
};

struct ModelSpec {
  std::string family;        // name of the table in arch/ it was read with
  std::string name;          // what the checkpoint calls itself, may be empty
  int64_t vocabulary = 0;    // V
  int64_t width = 0;         // D
  int64_t context_max = 0;   // as the checkpoint claims
  double norm_epsilon = 1e-5;
  bool tied_head = false;    // the head is the embedding
  std::vector<LayerSpec> layers;
  std::vector<LayerSpec> mtp;  // the multi-token-prediction head's layers; empty: no head
};

int64_t CountLayers(const ModelSpec& spec, BlockKind kind);

}  // namespace lode::model
