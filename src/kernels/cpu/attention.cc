// Attention's plan: who computes what. The kernels are attention_f32.cc and attention_tile-inl.h.
//
// The work is cut into lanes (rows x query heads of one kv head) and, where that gives too few
// pieces for the threads, also into spans of 2048 keys. Spans are computed apart and merged in
// order always, so the cut shows in no bit.
#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/attention.h"
#include "kernels/isa.h"
#include "kernels/ops.h"

namespace lode::kernels {
namespace {

constexpr int64_t kSpanTiles = kSpanTokens / kPageTokens;

AttentionKernels KernelsFor(KvType type) {
#if defined(__x86_64__)
  if (ActiveIsa() == Isa::kAvx512Dot) {
    if (type == KvType::kBF16) return AttentionBF16Dot();
    if (type == KvType::kInt8) return AttentionInt8Dot();
  }
#endif
  if (type == KvType::kBF16) return AttentionBF16();
  return type == KvType::kInt8 ? AttentionInt8() : AttentionF32();
}

int64_t Tiles(const AttentionLanes& lanes) { return lanes.last() / kPageTokens + 1; }
int64_t Spans(const AttentionLanes& lanes) { return lanes.last() / kSpanTokens + 1; }

// What all calls below hand on.
struct Call {
  Context& context;
  const AttentionShape& shape;
  const AttentionKernels& kernels;
  const float* q;
  int64_t q_stride;
  float* out;
  int64_t out_stride;

  AttentionScratch scratch(int thread) const { return {context.scratch(thread), shape}; }
  void AttendSpan(const AttentionLanes& lanes, int64_t span, const AttentionScratch& scratch,
                  SoftmaxState state) const {
    const int64_t end = std::min(Tiles(lanes), (span + 1) * kSpanTiles);
    kernels.attend(shape, lanes, q, q_stride, span * kSpanTiles, end, scratch, state);
  }
  void Reset(SoftmaxState state, int64_t lanes) const {
    const int64_t padded = RoundUp(lanes, 16);
    std::fill(state.m, state.m + padded, -__builtin_inff());
    std::fill(state.l, state.l + padded, 0.0f);
    std::fill(state.o, state.o + lanes * ValueWidth(shape), 0.0f);
  }
};

// Cuts all rows and heads, at most `heads` heads of a group together.
std::vector<AttentionLanes> Cut(const AttentionShape& shape,
                                std::span<const AttentionSequence> sequences, int64_t heads) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t head_pieces = (group + heads - 1) / heads;
  const int64_t rows_max = std::max<int64_t>(1, kLanesMax / heads);
  std::vector<AttentionLanes> cut;
  for (const AttentionSequence& s : sequences) {
    const int64_t row_pieces = (s.rows.count + rows_max - 1) / rows_max;
    for (int64_t r = 0; r < row_pieces; ++r) {
      const int64_t row = s.rows.count * r / row_pieces;
      const int64_t rows = s.rows.count * (r + 1) / row_pieces - row;
      for (int64_t i = 0; i < shape.kv_heads * head_pieces; ++i) {
        const int64_t piece = i % head_pieces;
        const int64_t head = group * piece / head_pieces;
        cut.push_back(
            {&s, i / head_pieces, row, rows, head, group * (piece + 1) / head_pieces - head});
      }
    }
  }
  return cut;
}

int64_t CountSpans(const std::vector<AttentionLanes>& cut) {
  int64_t spans = 0;
  for (const AttentionLanes& lanes : cut) spans += Spans(lanes);
  return spans;
}

// One thread walks all spans of its lanes.
void AttendWhole(const Call& call, const std::vector<AttentionLanes>& cut) {
  const auto count = static_cast<int64_t>(cut.size());
  call.context.pool().Run(count, [&](int64_t i, int thread) {
    // The last rows of a long prompt cost most and come first.
    const AttentionLanes& lanes = cut[static_cast<size_t>(count - 1 - i)];
    const AttentionScratch scratch = call.scratch(thread);
    const SoftmaxState span(scratch.span, lanes.count());
    const SoftmaxState total(scratch.total, lanes.count());
    call.Reset(total, lanes.count());
    for (int64_t s = 0; s < Spans(lanes); ++s) {
      call.AttendSpan(lanes, s, scratch, span);
      call.kernels.merge(lanes.count(), ValueWidth(call.shape), span, total);
    }
    call.kernels.finish(call.shape, lanes, total, call.out, call.out_stride);
  });
}

// Spans go to any thread, in waves that fill the room for partial results; after each wave the
// caller merges in order. Lanes whose spans do not end with the wave keep their total in the
// caller's scratch.
void AttendSpans(const Call& call, const std::vector<AttentionLanes>& cut) {
  struct Item {
    const AttentionLanes* lanes;
    int64_t span;
    float* state;
  };
  const int64_t room = SoftmaxState::Floats(call.shape, kPartialLanes);
  const SoftmaxState total(call.scratch(0).total, kLanesMax);
  std::vector<Item> wave;
  size_t at = 0;
  int64_t span = 0;
  while (at < cut.size()) {
    wave.clear();
    for (int thread = 0; thread < call.context.pool().threads(); ++thread) {
      float* free = call.scratch(thread).partials;
      float* const end = free + room;
      while (at < cut.size()) {
        const int64_t floats = SoftmaxState::Floats(call.shape, cut[at].count());
        if (free + floats > end) break;
        wave.push_back({&cut[at], span, free});
        free += floats;
        if (++span == Spans(cut[at])) {
          ++at;
          span = 0;
        }
      }
    }
    call.context.pool().Run(static_cast<int64_t>(wave.size()), [&](int64_t i, int thread) {
      const Item& item = wave[static_cast<size_t>(i)];
      call.AttendSpan(*item.lanes, item.span, call.scratch(thread),
                      SoftmaxState(item.state, item.lanes->count()));
    });
    for (const Item& item : wave) {
      const int64_t lanes = item.lanes->count();
      if (item.span == 0) call.Reset(total, lanes);
      call.kernels.merge(lanes, ValueWidth(call.shape), SoftmaxState(item.state, lanes), total);
      if (item.span + 1 == Spans(*item.lanes)) {
        call.kernels.finish(call.shape, *item.lanes, total, call.out, call.out_stride);
      }
    }
  }
}

// Appends are split at panels of 32 positions, so no two threads write into one word.
void Append(Context& context, const AttentionShape& shape, const AttentionKernels& kernels,
            std::span<const AttentionSequence> sequences, const float* k, const float* v,
            int64_t kv_stride) {
  int64_t rows = 0;
  for (const AttentionSequence& s : sequences) rows += s.rows.count;
  const auto append = [&](const AttentionSequence& s, int64_t head, int64_t begin, int64_t end) {
    kernels.append(shape, s, head, begin, end, k, v, kv_stride);
  };
  if (rows * shape.kv_heads <= 32) {  // less work than waking a thread
    for (const AttentionSequence& s : sequences) {
      for (int64_t head = 0; head < shape.kv_heads; ++head) append(s, head, 0, s.rows.count);
    }
    return;
  }
  for (const AttentionSequence& s : sequences) {
    const int64_t first = s.position / kKeyPanel;
    const int64_t panels = (s.position + s.rows.count - 1) / kKeyPanel + 1 - first;
    if (s.rows.count == 0) continue;
    context.pool().ParallelFor(
        panels * shape.kv_heads, 2, [&](int64_t item, int64_t item_end, int) {
          for (; item < item_end; ++item) {
            const int64_t panel = first + item / shape.kv_heads;
            const int64_t begin = std::max<int64_t>(0, panel * kKeyPanel - s.position);
            const int64_t end = std::min(s.rows.count, (panel + 1) * kKeyPanel - s.position);
            append(s, item % shape.kv_heads, begin, end);
          }
        });
  }
}

}  // namespace

int64_t KvPageBytes(const AttentionShape& shape) {
  const int64_t wide = RoundUp(shape.head_dim, 32);
  int64_t bytes = 0;  // of one kv head
  switch (shape.kv_type) {
    case KvType::kF32:
      bytes = 2 * kPageTokens * PaddedHeadDim(shape.head_dim) * 4;
      break;
    case KvType::kBF16:
      bytes = kPageTokens * (RoundUp(shape.head_dim, 2) + wide) * 2;
      break;
    case KvType::kInt8:
      bytes = kPageTokens * (RoundUp(shape.head_dim, 4) + wide + 2 * 4);
      break;
  }
  return shape.kv_heads * bytes;
}

int64_t AttentionScratchFloats(const AttentionShape& shape) {
  return AttentionScratch::Floats(shape);
}

void Attention(Context& context, const AttentionShape& shape,
               std::span<const AttentionSequence> sequences, const float* q, int64_t q_stride,
               const float* k, const float* v, int64_t kv_stride, float* out, int64_t out_stride) {
  LODE_CHECK(shape.head_dim <= kAttentionHeadDimMax);
  const AttentionKernels kernels = KernelsFor(shape.kv_type);
  Append(context, shape, kernels, sequences, k, v, kv_stride);
  const Call call = {context, shape, kernels, q, q_stride, out, out_stride};
  const int64_t threads = context.pool().threads();
  int64_t heads = std::min(kLanesMax, shape.heads / shape.kv_heads);
  std::vector<AttentionLanes> cut = Cut(shape, sequences, heads);
  // Fewer pieces than threads: heads are dealt out, too, although each piece then reads the keys.
  constexpr int64_t kHeadsMin = 4;
  while (CountSpans(cut) < threads && heads > kHeadsMin) {
    heads = std::max(kHeadsMin, heads / 2);
    cut = Cut(shape, sequences, heads);
  }
  const auto pieces = static_cast<int64_t>(cut.size());
  if (threads == 1 || pieces >= 4 * threads || CountSpans(cut) == pieces) {
    AttendWhole(call, cut);
  } else {
    AttendSpans(call, cut);
  }
}

}  // namespace lode::kernels
