#include "model/tensors.h"

#include "base/check.h"
#include "base/text.h"
#include "model/config.h"

namespace lode::model {
namespace {

int64_t SizeOf(Dim dim, const ModelSpec& spec, const LayerSpec& layer) {
  const Mamba2Spec& m = layer.mamba2;
  switch (dim) {
    case Dim::kVocabulary:
      return spec.vocabulary;
    case Dim::kWidth:
      return spec.width;
    case Dim::kTwiceWidth:
      return 2 * spec.width;
    case Dim::kMambaProjection:
      return m.projection();
    case Dim::kConvDim:
      return m.conv_dim();
    case Dim::kTaps:
      return m.taps;
    case Dim::kMambaHeads:
      return m.heads;
    case Dim::kInner:
      return m.inner();
    case Dim::kGroups:
      return m.groups;
    case Dim::kInnerPerGroup:
      return m.inner() / m.groups;
    case Dim::kOne:
      return 1;
    case Dim::kQueryWidth:
      return layer.attention.q_width();
    case Dim::kKvWidth:
      return layer.attention.kv_width();
    case Dim::kMlpWidth:
      return layer.mlp.width;
    case Dim::kExperts:
      return layer.moe.experts;
    case Dim::kExpertWidth:
      return layer.moe.width;
    case Dim::kExpertInput:
      return layer.moe.latent > 0 ? layer.moe.latent : spec.width;
    case Dim::kSharedWidth:
      return layer.moe.shared_width;
    case Dim::kLatent:
      return layer.moe.latent;
  }
  LODE_CHECK(false);
}

tensor::Shape ShapeOf(const std::vector<Dim>& dims, const ModelSpec& spec, const LayerSpec& layer) {
  tensor::Shape shape;
  for (const Dim dim : dims) shape.push_back(SizeOf(dim, spec, layer));
  return shape;
}

bool Belongs(Where where, BlockKind kind, bool mtp, bool first, bool last) {
  switch (where) {
    case Where::kModel:
      return false;
    case Where::kLayer:
      return true;
    case Where::kMamba2:
      return kind == BlockKind::kMamba2;
    case Where::kAttention:
      return kind == BlockKind::kAttention;
    case Where::kMlp:
      return kind == BlockKind::kMlp;
    case Where::kMoe:
      return kind == BlockKind::kMoe;
    case Where::kMtpFirst:
      return mtp && first;
    case Where::kMtpLast:
      return mtp && last;
  }
  return false;
}

std::string WithIndex(const std::string& pattern, const char* mark, int64_t index) {
  const size_t at = pattern.find(mark);
  if (at == std::string::npos) return pattern;
  return pattern.substr(0, at) + std::to_string(index) + pattern.substr(at + 3);
}

TensorSlot MakeSlot(const TensorRow& row, const ModelSpec& spec, const LayerSpec& layer) {
  TensorSlot slot;
  slot.row = &row;
  slot.shape = ShapeOf(row.shape, spec, layer);
  slot.gguf_shape = row.gguf_shape.empty() ? slot.shape : ShapeOf(row.gguf_shape, spec, layer);
  if (row.transform == Transform::kStack) {
    slot.experts = layer.moe.experts;
    slot.gguf_shape.insert(slot.gguf_shape.begin(), slot.experts);
  }
  return slot;
}

}  // namespace

std::string ExpertName(const std::string& pattern, int64_t expert) {
  return WithIndex(pattern, "{e}", expert);
}

std::string StackedName(const std::string& pattern) {
  std::string name = pattern;
  const size_t at = name.find(".{e}");
  if (at != std::string::npos) name.erase(at, 4);
  if (EndsWith(name, ".weight")) name.erase(name.size() - 7);
  return name;
}

std::vector<TensorSlot> ListTensors(const ModelSpec& spec) {
  const ArchDef& arch = ArchOf(spec);
  std::vector<TensorSlot> slots;
  for (const TensorRow& row : arch.tensors) {
    if (row.where != Where::kModel) continue;
    if (row.role == Role::kHead && spec.tied_head) continue;
    TensorSlot slot = MakeSlot(row, spec, LayerSpec());
    slot.gguf = row.gguf;
    slot.hugging_face.push_back(row.hugging_face);
    if (StartsWith(row.hugging_face, "backbone.")) {
      slot.hugging_face.push_back("model." + std::string(row.hugging_face).substr(9));
    }
    slots.push_back(std::move(slot));
  }
  const auto add_layer = [&](const LayerSpec& layer, bool mtp, int64_t index, int64_t count) {
    for (const TensorRow& row : arch.tensors) {
      if (!Belongs(row.where, layer.kind, mtp, index == 0, index == count - 1)) continue;
      const bool latent = row.role == Role::kLatentDown || row.role == Role::kLatentUp;
      const bool shared = row.role == Role::kSharedUp || row.role == Role::kSharedDown;
      if ((latent && layer.moe.latent == 0) || (shared && layer.moe.shared_width == 0)) continue;
      TensorSlot slot = MakeSlot(row, spec, layer);
      slot.mtp = mtp;
      slot.layer = index;
      // GGUF folds the MTP head's layers into one block behind the trunk.
      const auto trunk = static_cast<int64_t>(spec.layers.size());
      const bool renamed = mtp && row.gguf_mtp_last != nullptr && index == count - 1 && count > 1;
      slot.gguf = "blk." + std::to_string(mtp ? trunk : index) + "." +
                  (renamed ? row.gguf_mtp_last : row.gguf);
      if (mtp) {
        slot.hugging_face.push_back(WithIndex(arch.mtp_prefix, "{i}", index) + row.hugging_face);
      } else {
        for (const char* prefix : arch.layer_prefixes) {
          slot.hugging_face.push_back(WithIndex(prefix, "{i}", index) + row.hugging_face);
        }
      }
      slots.push_back(std::move(slot));
    }
  };
  const auto layers = static_cast<int64_t>(spec.layers.size());
  for (int64_t i = 0; i < layers; ++i)
    add_layer(spec.layers[static_cast<size_t>(i)], false, i, layers);
  const auto mtp = static_cast<int64_t>(spec.mtp.size());
  for (int64_t i = 0; i < mtp; ++i) add_layer(spec.mtp[static_cast<size_t>(i)], true, i, mtp);
  return slots;
}

TensorTotals CountTensors(const ModelSpec& spec) {
  TensorTotals totals;
  for (const TensorSlot& slot : ListTensors(spec)) {
    int64_t one = 0;
    LODE_CHECK(tensor::CountElements(slot.shape, &one));
    const int64_t copies = slot.experts > 0 ? slot.experts : 1;
    totals.tensors += copies;
    totals.parameters += copies * one;
    if (slot.mtp) {
      totals.mtp_parameters += copies * one;
    } else if (slot.experts > 0) {
      totals.active += spec.layers[static_cast<size_t>(slot.layer)].moe.top_k * one;
    } else if (slot.row->kind == Kind::kMatrix && slot.row->role != Role::kEmbedding) {
      totals.active += one;
    }
  }
  if (spec.tied_head) totals.active += spec.vocabulary * spec.width;
  return totals;
}

}  // namespace lode::model
