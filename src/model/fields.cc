#include "model/fields.h"

namespace lode::model {
namespace {

Layer& LayerOf(Model* model, const TensorSlot& slot) {
  auto& layers = slot.mtp ? model->mtp.layers : model->layers;
  return layers[static_cast<size_t>(slot.layer)];
}

}  // namespace

std::vector<Weight>* ExpertsOf(Model* model, const TensorSlot& slot) {
  MoeWeights& moe = LayerOf(model, slot).moe;
  return slot.row->role == Role::kExpertUp ? &moe.up : &moe.down;
}

Weight* MatrixOf(Model* model, const TensorSlot& slot) {
  switch (slot.row->role) {
    case Role::kEmbedding:
      return &model->embedding;
    case Role::kHead:
      return &model->head;
    case Role::kMtpProjection:
      return &model->mtp.projection;
    case Role::kMambaIn:
      return &LayerOf(model, slot).mamba2.in;
    case Role::kMambaOut:
      return &LayerOf(model, slot).mamba2.out;
    case Role::kQuery:
      return &LayerOf(model, slot).attention.query;
    case Role::kKey:
      return &LayerOf(model, slot).attention.key;
    case Role::kValue:
      return &LayerOf(model, slot).attention.value;
    case Role::kAttentionOut:
      return &LayerOf(model, slot).attention.out;
    case Role::kUp:
      return &LayerOf(model, slot).mlp.up;
    case Role::kDown:
      return &LayerOf(model, slot).mlp.down;
    case Role::kRouter:
      return &LayerOf(model, slot).moe.router;
    case Role::kSharedUp:
      return &LayerOf(model, slot).moe.shared_up;
    case Role::kSharedDown:
      return &LayerOf(model, slot).moe.shared_down;
    case Role::kLatentDown:
      return &LayerOf(model, slot).moe.latent_down;
    case Role::kLatentUp:
      return &LayerOf(model, slot).moe.latent_up;
    default:
      return nullptr;
  }
}

std::vector<float>* VectorOf(Model* model, const TensorSlot& slot) {
  switch (slot.row->role) {
    case Role::kFinalNorm:
      return &model->final_norm;
    case Role::kMtpEmbeddingNorm:
      return &model->mtp.embedding_norm;
    case Role::kMtpHiddenNorm:
      return &model->mtp.hidden_norm;
    case Role::kMtpFinalNorm:
      return &model->mtp.final_norm;
    case Role::kNorm:
      return &LayerOf(model, slot).norm;
    case Role::kMambaConv:
      return &LayerOf(model, slot).mamba2.conv;
    case Role::kMambaConvBias:
      return &LayerOf(model, slot).mamba2.conv_bias;
    case Role::kMambaA:
      return &LayerOf(model, slot).mamba2.a;
    case Role::kMambaD:
      return &LayerOf(model, slot).mamba2.d;
    case Role::kMambaDtBias:
      return &LayerOf(model, slot).mamba2.dt_bias;
    case Role::kMambaNorm:
      return &LayerOf(model, slot).mamba2.norm;
    case Role::kRouterBias:
      return &LayerOf(model, slot).moe.bias;
    default:
      return nullptr;
  }
}

}  // namespace lode::model
