// What the attention kernels of all types share: the piece of work ("lanes"), the running softmax,
// and the table that an instruction set fills. attention.cc cuts the work and merges; the kernels
// compute.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/ops.h"

namespace lode::kernels {

// 8 tiles of 12: K and V of a tile are read once for so many
constexpr int64_t kLanesMax = 96;
// lanes of finished spans that a thread's scratch has room for
constexpr int64_t kPartialLanes = 512;
constexpr int64_t kWordChunk = 64;      // words of a lane that lie side by side, see QueryFloats

inline int64_t RoundUp(int64_t x, int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

// A row of some sequence.
struct AttentionRow {
  const AttentionSequence* sequence;
  int64_t row;
};

// Some rows of a sequence times some query heads of one kv head: all look at the same keys. Lane i
// is row i / heads, head i % heads. With `shared` the rows are those of several sequences, whose
// pages are the same as far as these lanes are to look.
struct AttentionLanes {
  const AttentionSequence* sequence;
  int64_t kv_head;
  int64_t row, rows;    // inside the sequence's rows, or inside `shared`
  int64_t head, heads;  // inside the kv head's group
  const AttentionRow* shared = nullptr;

  int64_t count() const { return rows * heads; }
  AttentionRow RowOf(int64_t lane) const {
    const int64_t at = row + lane / heads;
    return shared != nullptr ? shared[at] : AttentionRow{sequence, at};
  }
  int64_t position(int64_t lane) const {
    const AttentionRow at = RowOf(lane);
    return at.sequence->position + at.row;
  }
  int64_t last() const { return position(count() - 1); }
  // Of a tensor [T, H*P]: where this lane's head begins.
  int64_t Offset(const AttentionShape& shape, int64_t lane, int64_t stride) const {
    const int64_t group = shape.heads / shape.kv_heads;
    const AttentionRow at = RowOf(lane);
    return (at.sequence->rows.begin + at.row) * stride +
           (kv_head * group + head + lane % heads) * shape.head_dim;
  }
};

// Dimensions of a value as the kernels compute them; those behind head_dim are zero.
inline int64_t ValueWidth(const AttentionShape& shape) {
  return shape.kv_type == KvType::kF32 ? PaddedHeadDim(shape.head_dim)
                                       : RoundUp(shape.head_dim, 32);
}
// A lane's query: f32, or words of 2 x BF16 or 4 x int8 in chunks of kWordChunk.
inline int64_t QueryFloats(const AttentionShape& shape) { return RoundUp(shape.head_dim, 64); }

// Running softmax: m and l [lanes, rounded up to 16], o [lanes, ValueWidth]. No keys yet: l = 0.
struct SoftmaxState {
  float* m;
  float* l;
  float* o;

  SoftmaxState(float* memory, int64_t lanes)
      : m(memory), l(memory + RoundUp(lanes, 16)), o(memory + 2 * RoundUp(lanes, 16)) {}
  static int64_t Floats(const AttentionShape& shape, int64_t lanes) {
    return RoundUp(lanes, 16) * (2 + ValueWidth(shape));
  }
};

// A thread's scratch, in floats.
struct AttentionScratch {
  float* queries;   // [kLanesMax, QueryFloats]
  float* scores;    // [kLanesMax, 128]
  float* weights;   // [kLanesMax, 128]; probabilities as the product takes them
  float* lanes;     // [8, kLanesMax]; factors of each lane
  float* span;      // a SoftmaxState of kLanesMax
  float* total;     // another
  float* group;     // another, of lanes that several sequences begin with
  float* partials;  // spans on the way to their merge: room for kPartialLanes

  AttentionScratch(float* memory, const AttentionShape& shape) {
    float** const at[] = {&queries, &scores, &weights, &lanes, &span, &total, &group, &partials};
    for (int i = 0; i < kParts; ++i) {
      *at[i] = memory;
      memory += PartFloats(shape, i);
    }
  }
  static int64_t Floats(const AttentionShape& shape) {
    int64_t floats = 0;
    for (int i = 0; i < kParts; ++i) floats += PartFloats(shape, i);
    return floats;
  }

 private:
  static constexpr int kParts = 8;
  static int64_t PartFloats(const AttentionShape& shape, int part) {
    const int64_t state = SoftmaxState::Floats(shape, kLanesMax);
    const int64_t floats[kParts] = {kLanesMax * QueryFloats(shape),
                                    kLanesMax * kPageTokens,
                                    kLanesMax * kPageTokens,
                                    8 * kLanesMax,
                                    state,
                                    state,
                                    state,
                                    SoftmaxState::Floats(shape, kPartialLanes)};
    return RoundUp(floats[part], 16);
  }
};

struct AttentionKernels {
  // Writes rows [begin, end) of one kv head into the pages. Two rows whose positions share a panel
  // of 32 keys must come in one call or in calls that do not overlap in time.
  void (*append)(const AttentionShape& shape, const AttentionSequence& sequence, int64_t kv_head,
                 int64_t begin, int64_t end, const float* k, const float* v, int64_t kv_stride);
  // state = softmax over the keys of tiles [tile, tile_end), which lie in one span.
  void (*attend)(const AttentionShape& shape, const AttentionLanes& lanes, const float* q,
                 int64_t q_stride, int64_t tile, int64_t tile_end, const AttentionScratch& scratch,
                 SoftmaxState state);
  // total = total followed by part.
  void (*merge)(int64_t lanes, int64_t width, SoftmaxState part, SoftmaxState total);
  // out = o / l
  void (*finish)(const AttentionShape& shape, const AttentionLanes& lanes, SoftmaxState total,
                 float* out, int64_t out_stride);
};

// One table for each way to compute; those with `Dot` exist on x86 and need Isa::kAvx512Dot.
AttentionKernels AttentionF32();
AttentionKernels AttentionBF16();
AttentionKernels AttentionInt8();
AttentionKernels AttentionBF16Dot();
AttentionKernels AttentionInt8Dot();

}  // namespace lode::kernels
