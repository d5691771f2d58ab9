// Grouped-query attention over paged keys and values, in the order that ops.h fixes.
//
// A work item is a block of rows of one sequence and one kv head. It walks the tiles of 128 keys once for
// all its rows, so that a tile stays in cache; each row and head keeps its own running (m, l, O). A tile
// has K as panels of 32 keys, so the scores of 32 keys are two vectors and d is the loop (no horizontal
// sums); V is row by row, so a value's dimensions are the vector and the key is the loop.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/targets.h"
#include "kernels/ops.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/lanes-inl.h"

#ifndef LODE_KERNELS_CPU_ATTENTION_ONCE_
#define LODE_KERNELS_CPU_ATTENTION_ONCE_
namespace lode::kernels {
constexpr int64_t kAttentionRows = 4;  // rows of a work item

struct AttentionItem {
  const AttentionSequence* sequence;
  int64_t kv_head;
  int64_t row, rows;  // inside the sequence's rows
};
}  // namespace lode::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

HWY_INLINE VF LoadKv(const std::byte* base, int64_t index, bool bf16) {
  const DF d;
  if (!bf16) return hn::LoadU(d, reinterpret_cast<const float*>(base) + index);
  const hn::Rebind<uint16_t, DF> d16;
  const hn::RebindToUnsigned<DF> du;
  const auto wide =
      hn::PromoteTo(du, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(base) + index));
  return hn::BitCast(d, hn::ShiftLeft<16>(wide));
}

// Running softmax of one (row, head).
struct Running {
  float m, l;
  float* o;
};

HWY_INLINE void Merge(Running* into, float m, float l, const float* o, int64_t width) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const float top = std::max(into->m, m);
  const VF a = ExpV(hn::Set(d, into->m - top));
  const VF b = ExpV(hn::Set(d, m - top));
  for (int64_t i = 0; i < width; i += L) {
    const VF scaled = hn::Mul(hn::Load(d, o + i), b);
    hn::Store(hn::MulAdd(hn::Load(d, into->o + i), a, scaled), d, into->o + i);
  }
  into->l = hn::GetLane(hn::MulAdd(hn::Set(d, into->l), a, hn::Mul(hn::Set(d, l), b)));
  into->m = top;
}

HWY_INLINE void Reset(Running* running, int64_t width) {
  running->m = -std::numeric_limits<float>::infinity();
  running->l = 0.0f;
  std::fill(running->o, running->o + width, 0.0f);
}

// scores[0..127] of one query over one tile: 4 panels of 32 keys.
HWY_INLINE void Scores(const float* q, const std::byte* k, bool bf16, int64_t width,
                       int64_t head_dim, float scale, float* scores) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t panel = 0; panel < kPageTokens / kKeyPanel; ++panel) {
    for (int64_t key = 0; key < kKeyPanel; key += L) {
      VF sum = hn::Zero(d);
      const int64_t base = panel * width * kKeyPanel + key;
      for (int64_t i = 0; i < head_dim; ++i) {
        sum = hn::MulAdd(LoadKv(k, base + i * kKeyPanel, bf16), hn::Set(d, q[i]), sum);
      }
      hn::Store(hn::Mul(sum, hn::Set(d, scale)), d, scores + panel * kKeyPanel + key);
    }
  }
}

// Masks, m = max, p = exp(s - m), l = sum in 16 lanes. Returns m; scores become p.
HWY_INLINE float Softmax(float* scores, int64_t keys, bool round, float* l) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  float m = scores[0];
  for (int64_t i = 1; i < keys; ++i) m = std::max(m, scores[i]);
  for (int64_t i = 0; i < kPageTokens; i += L) {
    VF p = ExpV(hn::Sub(hn::Load(d, scores + i), hn::Set(d, m)));
    if (i + L > keys) {
      const VF index = hn::Add(hn::Iota(d, 0.0f), hn::Set(d, static_cast<float>(i)));
      p = hn::IfThenElseZero(hn::Lt(index, hn::Set(d, static_cast<float>(keys))), p);
    }
    hn::Store(p, d, scores + i);
  }
  *l = Sum16(
      kPageTokens, [&](int64_t i) { return hn::Load(d, scores + i); },
      [](VF v, VF sum) { return hn::Add(sum, v); });
  if (round) {
    for (int64_t i = 0; i < kPageTokens; i += L) {
      hn::Store(RoundBF16V(hn::Load(d, scores + i)), d, scores + i);
    }
  }
  return m;
}

HWY_INLINE void WeightedValues(const float* p, int64_t keys, const std::byte* v, bool bf16,
                               int64_t width, float* o) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  // Four vectors of dimensions at a time hide the latency of the chain over keys.
  int64_t i = 0;
  for (; i + 4 * L <= width; i += 4 * L) {
    VF s0 = hn::Zero(d);
    VF s1 = hn::Zero(d);
    VF s2 = hn::Zero(d);
    VF s3 = hn::Zero(d);
    for (int64_t key = 0; key < keys; ++key) {
      const VF w = hn::Set(d, p[key]);
      const int64_t at = key * width + i;
      s0 = hn::MulAdd(w, LoadKv(v, at, bf16), s0);
      s1 = hn::MulAdd(w, LoadKv(v, at + L, bf16), s1);
      s2 = hn::MulAdd(w, LoadKv(v, at + 2 * L, bf16), s2);
      s3 = hn::MulAdd(w, LoadKv(v, at + 3 * L, bf16), s3);
    }
    hn::Store(s0, d, o + i);
    hn::Store(s1, d, o + i + L);
    hn::Store(s2, d, o + i + 2 * L);
    hn::Store(s3, d, o + i + 3 * L);
  }
  for (; i < width; i += L) {
    VF sum = hn::Zero(d);
    for (int64_t key = 0; key < keys; ++key) {
      sum = hn::MulAdd(hn::Set(d, p[key]), LoadKv(v, key * width + i, bf16), sum);
    }
    hn::Store(sum, d, o + i);
  }
}

// `width` is head_dim rounded up to 16: in pages and scratch a row has that many numbers, the last ones
// zero in V and never read in K.
void AttendItem(const AttentionShape& shape, const AttentionItem& item, const float* q,
                int64_t q_stride, float* out, int64_t out_stride, float* scratch) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const AttentionSequence& sequence = *item.sequence;
  const int64_t width = PaddedHeadDim(shape.head_dim);
  const int64_t group = shape.heads / shape.kv_heads;
  const bool bf16 = shape.kv_type == KvType::kBF16;
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  const int64_t k_bytes = kPageTokens * width * KvBytes(shape.kv_type);

  float* tile_o = scratch;
  float* queries = tile_o + width;
  float* outputs = queries + kAttentionRows * group * width;  // per (row, head): span, total
  std::vector<Running> span(static_cast<size_t>(item.rows * group));
  std::vector<Running> total(span.size());
  for (int64_t r = 0; r < item.rows; ++r) {
    for (int64_t h = 0; h < group; ++h) {
      const auto i = static_cast<size_t>(r * group + h);
      span[i].o = outputs + 2 * static_cast<int64_t>(i) * width;
      total[i].o = span[i].o + width;
      Reset(&span[i], width);
      Reset(&total[i], width);
      const float* source = q + (sequence.rows.begin + item.row + r) * q_stride +
                            (item.kv_head * group + h) * shape.head_dim;
      float* query = queries + static_cast<int64_t>(i) * width;
      for (int64_t p = 0; p < width; p += L) {
        const VF v = LoadPadded(source, p, shape.head_dim);
        hn::Store(shape.round_to_bf16 ? RoundBF16V(v) : v, d, query + p);
      }
    }
  }

  HWY_ALIGN float scores[kPageTokens];
  const int64_t last = sequence.position + item.row + item.rows - 1;  // the last row's position
  for (int64_t tile = 0; tile * kPageTokens <= last; ++tile) {
    const std::byte* page = sequence.pages[tile] + sequence.page_offset;
    const std::byte* k = page + item.kv_head * k_bytes;
    const std::byte* v = page + (shape.kv_heads + item.kv_head) * k_bytes;
    const bool span_ends = (tile + 1) * kPageTokens % kSpanTokens == 0;
    for (int64_t r = 0; r < item.rows; ++r) {
      const int64_t position = sequence.position + item.row + r;
      const int64_t keys = std::min(kPageTokens, position + 1 - tile * kPageTokens);
      for (int64_t h = 0; h < group; ++h) {
        const auto i = static_cast<size_t>(r * group + h);
        if (keys > 0) {
          Scores(queries + static_cast<int64_t>(i) * width, k, bf16, width, shape.head_dim, scale,
                 scores);
          float l = 0.0f;
          const float m = Softmax(scores, keys, shape.round_to_bf16, &l);
          WeightedValues(scores, keys, v, bf16, width, tile_o);
          Merge(&span[i], m, l, tile_o, width);
        }
        if (span_ends && span[i].l > 0.0f) {
          Merge(&total[i], span[i].m, span[i].l, span[i].o, width);
          Reset(&span[i], width);
        }
      }
    }
  }
  for (int64_t r = 0; r < item.rows; ++r) {
    for (int64_t h = 0; h < group; ++h) {
      const auto i = static_cast<size_t>(r * group + h);
      if (span[i].l > 0.0f) Merge(&total[i], span[i].m, span[i].l, span[i].o, width);
      float* target = out + (sequence.rows.begin + item.row + r) * out_stride +
                      (item.kv_head * group + h) * shape.head_dim;
      const VF l = hn::Set(d, total[i].l);
      for (int64_t p = 0; p < width; p += L) {
        StorePadded(hn::Div(hn::Load(d, total[i].o + p), l), target, p, shape.head_dim);
      }
    }
  }
}

// Writes one token's key and value of one kv head into its page.
void AppendOne(const AttentionShape& shape, const float* k, const float* v, std::byte* page,
               int64_t slot, int64_t kv_head) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = PaddedHeadDim(shape.head_dim);
  const int64_t k_bytes = kPageTokens * width * KvBytes(shape.kv_type);
  std::byte* k_panel =
      page + kv_head * k_bytes + slot / kKeyPanel * width * kKeyPanel * KvBytes(shape.kv_type);
  std::byte* v_row =
      page + (shape.kv_heads + kv_head) * k_bytes + slot * width * KvBytes(shape.kv_type);
  const int64_t lane = slot % kKeyPanel;
  HWY_ALIGN float rounded[kLanes];
  for (int64_t i = 0; i < width; i += L) {
    for (int which = 0; which < 2; ++which) {
      VF x = LoadPadded(which == 0 ? k : v, i, shape.head_dim);
      if (shape.kv_type == KvType::kBF16) x = RoundBF16V(x);
      hn::Store(x, d, rounded);
      for (int64_t j = 0; j < L; ++j) {
        const int64_t index = which == 0 ? (i + j) * kKeyPanel + lane : i + j;
        std::byte* base = which == 0 ? k_panel : v_row;
        uint32_t bits;
        std::memcpy(&bits, &rounded[j], sizeof(bits));
        if (shape.kv_type == KvType::kBF16) {
          const auto high = static_cast<uint16_t>(bits >> 16);
          std::memcpy(base + index * 2, &high, sizeof(high));
        } else {
          std::memcpy(base + index * 4, &bits, sizeof(bits));
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "base/check.h"
namespace lode::kernels {

HWY_EXPORT(AttendItem);
HWY_EXPORT(AppendOne);

int64_t AttentionScratchFloats(const AttentionShape& shape) {
  const int64_t group = shape.heads / shape.kv_heads;
  return PaddedHeadDim(shape.head_dim) * (1 + 3 * kAttentionRows * group);
}

void Attention(Context& context, const AttentionShape& shape,
               std::span<const AttentionSequence> sequences, const float* q, int64_t q_stride,
               const float* k, const float* v, int64_t kv_stride, float* out, int64_t out_stride) {
  const auto append = HWY_DYNAMIC_DISPATCH(AppendOne);
  const auto attend = HWY_DYNAMIC_DISPATCH(AttendItem);
  std::vector<AttentionItem> items;
  for (const AttentionSequence& s : sequences) {
    for (int64_t row = 0; row < s.rows.count; row += kAttentionRows) {
      for (int64_t head = 0; head < shape.kv_heads; ++head) {
        items.push_back({&s, head, row, std::min(kAttentionRows, s.rows.count - row)});
      }
    }
  }
  // Appends: one item's rows and head, so no two threads write the same bytes.
  context.pool().ParallelFor(
      static_cast<int64_t>(items.size()), 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const AttentionItem& item = items[static_cast<size_t>(i)];
          for (int64_t r = 0; r < item.rows; ++r) {
            const AttentionSequence& s = *item.sequence;
            const int64_t row = s.rows.begin + item.row + r;
            const int64_t position = s.position + item.row + r;
            const int64_t offset = row * kv_stride + item.kv_head * shape.head_dim;
            append(shape, k + offset, v + offset, s.pages[position / kPageTokens] + s.page_offset,
                   position % kPageTokens, item.kv_head);
          }
        }
      });
  // The last rows of a long prompt cost most; items are claimed one by one.
  context.pool().Run(static_cast<int64_t>(items.size()), [&](int64_t i, int thread) {
    attend(shape, items[static_cast<size_t>(i)], q, q_stride, out, out_stride,
           context.scratch(thread));
  });
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
