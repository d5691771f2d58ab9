// What a sequence keeps between tokens, as bytes: pages of keys and values, and one slot for
// everything recurrent. This is all that the runtime ever learns about a model's layers: it moves
// pages and slots about, and kernels read the slot at `source` and write it at `target` (so a fork
// copies nothing).
//
//   page: 128 tokens of every attention layer, layer after layer (kernels/ops.h says how one looks)
//   slot: for each Mamba layer the last K-1 raw rows [K-1, C], then the state [H, N, Pp]; all f32
//   MTP page: the same as a page for the attention layers of the MTP head
//   trial: rows that a step ran without writing the slot, of which a later one may replay the first:
//     for each Mamba layer raw rows [W, C], convolved rows [W, C] and dt [W, H]; all f32
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "model/spec.h"

namespace lode::model {

// How inputs of matrix products and the KV cache are rounded. Sums are f32 always, the residual
// stream and the recurrent state too. kF32 and kBF16 are the reference modes; kNative is what each
// weight's type is fastest with (kernels::Precision::kNative).
enum class Activations : uint8_t { kF32, kBF16, kNative };

struct Numerics {
  Activations activations = Activations::kF32;
  kernels::KvType kv = kernels::KvType::kF32;
  // Native only: all routed experts have packed forms, so no room is needed for their products apart.
  bool fused_experts = false;
};

struct StateLayout {
  // By layer of the trunk, -1 for layers of another kind.
  std::vector<int64_t> page_offset;   // of the layer's part in a page
  std::vector<int64_t> conv_offset;   // in a slot
  std::vector<int64_t> state_offset;  // in a slot
  std::vector<int64_t> mtp_page_offset;  // by layer of the MTP head
  std::vector<int64_t> trial_offset;     // in a trial of one row
  int64_t trial_row_floats = 0;
  uint64_t page_bytes = 0;
  uint64_t slot_bytes = 0;
  uint64_t mtp_page_bytes = 0;
};

StateLayout MakeStateLayout(const ModelSpec& spec, const Numerics& numerics);

kernels::AttentionShape ShapeOf(const AttentionSpec& spec, const Numerics& numerics);

// Rows that are tried, and of those tried before the ones to replay, in one block of W rows.
struct TrialView {
  float* rows = nullptr;  // [W trial_row_floats]
  int64_t rows_max = 0;   // W
  int64_t replay_begin = 0, replay_count = 0;
};

// Rows of one sequence in a step, and where its state lies. A fresh sequence has position 0 and a
// zeroed source slot. The rows to replay come after the source and before `position`.
struct SequenceView {
  kernels::RowRange rows;       // in the batch
  int64_t position = 0;         // of the first of these rows
  std::byte* const* pages = nullptr;
  const std::byte* slot_source = nullptr;
  std::byte* slot_target = nullptr;
  TrialView trial;
  bool keep = true;  // false: a trial, whose rows go to `trial` and not into the slot
  std::byte* const* mtp_pages = nullptr;
};

}  // namespace lode::model
