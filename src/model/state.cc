#include "model/state.h"

namespace lode::model {
namespace {

// Every part begins at a cache line.
uint64_t Align(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

kernels::AttentionShape ShapeOf(const AttentionSpec& spec, const Numerics& numerics) {
  return {spec.heads, spec.kv_heads, spec.head_dim, numerics.kv};
}

StateLayout MakeStateLayout(const ModelSpec& spec, const Numerics& numerics) {
  StateLayout layout;
  for (const LayerSpec& layer : spec.layers) {
    layout.page_offset.push_back(-1);
    layout.conv_offset.push_back(-1);
    layout.state_offset.push_back(-1);
    layout.trial_offset.push_back(-1);
    if (layer.kind == BlockKind::kAttention) {
      layout.page_offset.back() = static_cast<int64_t>(layout.page_bytes);
      layout.page_bytes +=
          Align(static_cast<uint64_t>(kernels::KvPageBytes(ShapeOf(layer.attention, numerics))));
    } else if (layer.kind == BlockKind::kMamba2) {
      const Mamba2Spec& m = layer.mamba2;
      layout.conv_offset.back() = static_cast<int64_t>(layout.slot_bytes);
      layout.slot_bytes +=
          Align(static_cast<uint64_t>((m.taps - 1) * m.conv_dim()) * sizeof(float));
      layout.state_offset.back() = static_cast<int64_t>(layout.slot_bytes);
      layout.slot_bytes +=
          Align(static_cast<uint64_t>(m.heads * m.state * kernels::PaddedHeadDim(m.head_dim)) *
                sizeof(float));
      layout.trial_offset.back() = layout.trial_row_floats;
      layout.trial_row_floats += 2 * m.conv_dim() + m.heads;
    }
  }
  for (const LayerSpec& layer : spec.mtp) {
    layout.mtp_page_offset.push_back(-1);
    if (layer.kind == BlockKind::kAttention) {
      layout.mtp_page_offset.back() = static_cast<int64_t>(layout.mtp_page_bytes);
      layout.mtp_page_bytes +=
          Align(static_cast<uint64_t>(kernels::KvPageBytes(ShapeOf(layer.attention, numerics))));
    }
  }
  return layout;
}

}  // namespace lode::model
