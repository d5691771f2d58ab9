// Attention's plan: who computes what. The kernels are attention_f32.cc and attention_tile-inl.h.
//
// The work is cut into lanes (rows x query heads of one kv head) and, where that gives too few
// pieces for the threads, also into spans of 2048 keys. Spans are computed apart and merged in
// order always, so the cut shows in no bit. Neither does it show that sequences which begin with the
// same pages walk these together: a lane sees the same spans in the same order.
#include <algorithm>
#include <deque>
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

// Lanes and the spans that they walk.
struct Piece {
  AttentionLanes lanes;
  int64_t span = 0, span_end = 0;
  // Of lanes that go on where a group ended: which of the group's these are; below 0: they begin.
  int64_t from = -1;
  bool group() const { return lanes.shared != nullptr; }
};

// Pieces that one thread does in order: a group and those that go on from it, or one alone.
struct Work {
  std::pmr::vector<Piece> pieces;
  std::pmr::vector<size_t> begins;  // of such runs
  // Of groups; each list stays where it is while others come.
  std::pmr::deque<std::pmr::vector<AttentionRow>> rows;

  explicit Work(StackMemory* memory) : pieces(memory), begins(memory), rows(memory) {}
  int64_t runs() const { return static_cast<int64_t>(begins.size()); }
  std::span<const Piece> Run(int64_t i) const {
    const auto at = static_cast<size_t>(i);
    const size_t end = at + 1 < begins.size() ? begins[at + 1] : pieces.size();
    return std::span(pieces).subspan(begins[at], end - begins[at]);
  }
  int64_t spans() const {
    int64_t count = 0;
    for (const Piece& piece : pieces) count += piece.span_end - piece.span;
    return count;
  }
};

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

// Sequences that begin with the same pages, as many spans of them.
struct Group {
  std::pmr::vector<const AttentionSequence*> members;
  int64_t spans = 0;  // 0: one sequence alone
};

// A prompt's rows read their keys together as they are.
constexpr int64_t kGroupRows = 16;

int64_t SpansInCommon(const AttentionSequence& a, const AttentionSequence& b) {
  const int64_t most = std::min(a.position, b.position) / kSpanTokens;
  if (a.page_offset != b.page_offset) return 0;
  for (int64_t i = 0; i < most * kSpanTiles; ++i) {
    if (a.pages[i] != b.pages[i]) return i / kSpanTiles;
  }
  return most;
}

// Each first one that is left takes those with it that save the most reading.
std::pmr::vector<Group> GroupsOf(std::span<const AttentionSequence> sequences,
                                 StackMemory* memory) {
  std::pmr::vector<Group> groups(memory);
  std::pmr::vector<bool> taken(sequences.size(), false, memory);
  std::pmr::vector<std::pair<int64_t, size_t>> others(memory);  // spans in common
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (taken[i] || sequences[i].rows.count == 0) continue;
    groups.push_back({std::pmr::vector<const AttentionSequence*>(memory)});
    Group& group = groups.back();
    group.members.push_back(&sequences[i]);
    if (sequences[i].rows.count > kGroupRows) continue;
    others.clear();
    for (size_t j = i + 1; j < sequences.size(); ++j) {
      const int64_t rows = sequences[j].rows.count;
      if (taken[j] || rows == 0 || rows > kGroupRows) continue;
      const int64_t spans = SpansInCommon(sequences[i], sequences[j]);
      if (spans > 0) others.push_back({spans, j});
    }
    std::sort(others.begin(), others.end(), [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    });
    int64_t best = 0;
    for (int64_t n = 1; n <= std::ssize(others); ++n) {
      const int64_t saved = n * others[static_cast<size_t>(n - 1)].first;
      if (best == 0 || saved > best * group.spans) {
        best = n;
        group.spans = others[static_cast<size_t>(n - 1)].first;
      }
    }
    for (int64_t n = 0; n < best; ++n) {
      const size_t j = others[static_cast<size_t>(n)].second;
      taken[j] = true;
      group.members.push_back(&sequences[j]);
    }
  }
  return groups;
}

// Of a group: all rows together over the spans in common, then each sequence's over its own.
void CutGroup(const Group& group, AttentionLanes lanes, int64_t rows_max, Work* work) {
  size_t member = 0;
  int64_t row = 0;
  while (member < group.members.size()) {
    std::pmr::vector<AttentionRow>& rows = work->rows.emplace_back();
    std::pmr::vector<Piece> alone(work->pieces.get_allocator());
    while (member < group.members.size() && std::ssize(rows) < rows_max) {
      const AttentionSequence* s = group.members[member];
      const int64_t take = std::min(s->rows.count - row, rows_max - std::ssize(rows));
      AttentionLanes own = lanes;
      own.sequence = s;
      own.row = row;
      own.rows = take;
      alone.push_back({own, group.spans, Spans(own), std::ssize(rows) * lanes.heads});
      for (int64_t i = 0; i < take; ++i) rows.push_back({s, row + i});
      row += take;
      if (row == s->rows.count) {
        ++member;
        row = 0;
      }
    }
    lanes.sequence = group.members[0];
    lanes.row = 0;
    lanes.rows = std::ssize(rows);
    lanes.shared = rows.data();
    work->begins.push_back(work->pieces.size());
    work->pieces.push_back({lanes, 0, group.spans});
    lanes.shared = nullptr;
    work->pieces.insert(work->pieces.end(), alone.begin(), alone.end());
  }
}

// Cuts all rows and heads, at most `heads` heads of a group together.
Work Cut(const AttentionShape& shape, std::span<const Group> groups, int64_t heads,
         StackMemory* memory) {
  const int64_t per_kv_head = shape.heads / shape.kv_heads;
  const int64_t head_pieces = (per_kv_head + heads - 1) / heads;
  const int64_t rows_max = std::max<int64_t>(1, kLanesMax / heads);
  Work work(memory);
  for (const Group& group : groups) {
    const AttentionSequence& s = *group.members[0];
    const int64_t row_pieces = group.spans > 0 ? 1 : (s.rows.count + rows_max - 1) / rows_max;
    for (int64_t r = 0; r < row_pieces; ++r) {
      const int64_t row = s.rows.count * r / row_pieces;
      const int64_t rows = s.rows.count * (r + 1) / row_pieces - row;
      for (int64_t i = 0; i < shape.kv_heads * head_pieces; ++i) {
        const int64_t piece = i % head_pieces;
        const int64_t head = per_kv_head * piece / head_pieces;
        const AttentionLanes lanes = {
            &s,   i / head_pieces, row,
            rows, head,            per_kv_head * (piece + 1) / head_pieces - head};
        if (group.spans > 0) {
          CutGroup(group, lanes, rows_max, &work);
          continue;
        }
        work.begins.push_back(work.pieces.size());
        work.pieces.push_back({lanes, 0, Spans(lanes)});
      }
    }
  }
  return work;
}

// Where a piece's sums begin: nowhere yet, or where its group ended.
void Begin(const Call& call, const Piece& piece, SoftmaxState group, SoftmaxState total) {
  const int64_t lanes = piece.lanes.count();
  call.Reset(total, lanes);
  if (piece.from < 0) return;
  const int64_t width = ValueWidth(call.shape);
  std::copy_n(group.m + piece.from, lanes, total.m);
  std::copy_n(group.l + piece.from, lanes, total.l);
  std::copy_n(group.o + piece.from * width, lanes * width, total.o);
}

// The group before a run's other pieces has its sums where these find them.
int64_t GroupLanes(std::span<const Piece> run) {
  return run[0].group() ? run[0].lanes.count() : 0;
}

// One thread walks all spans of its lanes.
void AttendWhole(const Call& call, const Work& work) {
  call.context.pool().Run(work.runs(), [&](int64_t i, int thread) {
    // The last rows of a long prompt cost most and come first.
    const auto run = work.Run(work.runs() - 1 - i);
    const AttentionScratch scratch = call.scratch(thread);
    const SoftmaxState group(scratch.group, GroupLanes(run));
    for (const Piece& piece : run) {
      const int64_t lanes = piece.lanes.count();
      const SoftmaxState span(scratch.span, lanes);
      const SoftmaxState total = piece.group() ? group : SoftmaxState(scratch.total, lanes);
      Begin(call, piece, group, total);
      for (int64_t s = piece.span; s < piece.span_end; ++s) {
        call.AttendSpan(piece.lanes, s, scratch, span);
        call.kernels.merge(lanes, ValueWidth(call.shape), span, total);
      }
      if (!piece.group()) {
        call.kernels.finish(call.shape, piece.lanes, total, call.out, call.out_stride);
      }
    }
  });
}

// Spans go to any thread, in waves that fill the room for partial results; after each wave the
// caller merges in order. Pieces whose spans do not end with the wave keep their total in the
// caller's scratch.
void AttendSpans(const Call& call, const Work& work) {
  struct Item {
    const Piece* piece;
    int64_t span;
    float* state;
  };
  const std::pmr::vector<Piece>& pieces = work.pieces;
  const int64_t room = SoftmaxState::Floats(call.shape, kPartialLanes);
  SoftmaxState group(nullptr, 0);
  std::pmr::vector<Item> wave(&call.context.memory());
  size_t at = 0;
  int64_t span = pieces[0].span;
  while (at < pieces.size()) {
    wave.clear();
    for (int thread = 0; thread < call.context.pool().threads(); ++thread) {
      float* free = call.scratch(thread).partials;
      float* const end = free + room;
      while (at < pieces.size()) {
        const int64_t floats = SoftmaxState::Floats(call.shape, pieces[at].lanes.count());
        if (free + floats > end) break;
        wave.push_back({&pieces[at], span, free});
        free += floats;
        if (++span == pieces[at].span_end && ++at < pieces.size()) span = pieces[at].span;
      }
    }
    call.context.pool().Run(static_cast<int64_t>(wave.size()), [&](int64_t i, int thread) {
      const Item& item = wave[static_cast<size_t>(i)];
      call.AttendSpan(item.piece->lanes, item.span, call.scratch(thread),
                      SoftmaxState(item.state, item.piece->lanes.count()));
    });
    for (const Item& item : wave) {
      const Piece& piece = *item.piece;
      const int64_t lanes = piece.lanes.count();
      if (piece.group()) group = SoftmaxState(call.scratch(0).group, lanes);
      const SoftmaxState total =
          piece.group() ? group : SoftmaxState(call.scratch(0).total, lanes);
      if (item.span == piece.span) Begin(call, piece, group, total);
      call.kernels.merge(lanes, ValueWidth(call.shape), SoftmaxState(item.state, lanes), total);
      if (item.span + 1 == piece.span_end && !piece.group()) {
        call.kernels.finish(call.shape, piece.lanes, total, call.out, call.out_stride);
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
  StackMemory* memory = &context.memory();
  const StackMemory::Scope scope(memory);
  const std::pmr::vector<Group> groups = GroupsOf(sequences, memory);
  Work work = Cut(shape, groups, heads, memory);
  // Fewer pieces than threads: heads are dealt out, too, although each piece then reads the keys.
  constexpr int64_t kHeadsMin = 4;
  while (work.spans() < threads && heads > kHeadsMin) {
    heads = std::max(kHeadsMin, heads / 2);
    work = Cut(shape, groups, heads, memory);
  }
  if (threads == 1 || work.runs() >= 4 * threads || work.spans() == work.runs()) {
    AttendWhole(call, work);
  } else {
    AttendSpans(call, work);
  }
}

}  // namespace lode::kernels
