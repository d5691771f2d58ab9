// Attention over keys and values in BF16 or int8: the body, in the order that ops.h fixes.
//
// Included by attention_tile.cc, once per Highway target, where both products are fused
// multiply-adds of f32, and by attention_avx512dot.cc with LODE_ATTENTION_DOT, where they are dot
// products of words (2 x BF16, 4 x int8). Only the product differs: "Left" is a lane's query or
// probabilities, a word for each step on the dot path, its 2 or 4 numbers as f32 on the other. Both
// sum in one order and, as int8 sums are exact in f32, give the same bits. No include guard: each
// includer brings a namespace.
//
// A tile of 128 keys is 4 panels of 32 keys for the scores and panels of 32 dimensions for the
// values, in both cases records of 128 bytes (32 words) per step. The lanes are cut into groups of
// up to kGroupMax; a group's sums stay in registers while it walks a panel, and the first two
// groups fetch the next panels ahead.

#include "kernels/cpu/attention_product-inl.h"

// --- Pages ---------------------------------------------------------------------------------------

// One kv head's part of a page (ops.h, KvPageBytes).
struct Page {
  std::byte* keys;
  std::byte* values;
  float* key_scales;    // int8 only
  float* value_scales;  // int8 only
};

template <KvType kType>
HWY_INLINE Page PageOf(const AttentionShape& shape, const AttentionSequence& sequence,
                       int64_t kv_head, int64_t tile) {
  constexpr int64_t kPerWord = kType == KvType::kBF16 ? 2 : 4;
  std::byte* page =
      sequence.pages[tile] + sequence.page_offset + kv_head * (KvPageBytes(shape) / shape.kv_heads);
  const int64_t key_bytes = 4 * RoundUp(shape.head_dim, kPerWord) / kPerWord * kRecord;
  const int64_t value_bytes = ValueWidth(shape) / 32 * (kPageTokens / kPerWord) * kRecord;
  auto* scales = reinterpret_cast<float*>(page + key_bytes + value_bytes);
  return {page, page + key_bytes, scales, scales + kPageTokens};
}

// Where number `i` of the page's record `record`, word `word`, lies.
HWY_INLINE std::byte* WordAt(std::byte* base, int64_t record, int64_t word) {
  return base + record * kRecord + word * 4;
}

// A tile's panels in the order in which they are walked, keys first; then those of the next tile.
struct Panels {
  Page page, next;
  int64_t keys, values;            // how many
  int64_t key_bytes, value_bytes;  // of one

  const std::byte* At(int64_t i) const {
    const bool here = i < keys + values;
    const Page& in = here ? page : next;
    if (!here) i -= keys + values;
    return i < keys ? in.keys + i * key_bytes : in.values + (i - keys) * value_bytes;
  }
  Ahead After(int64_t i) const { return {At(i + 1), At(i + 2)}; }
};

template <KvType kType>
HWY_INLINE Panels PanelsOf(const AttentionShape& shape, const Page& page, const Page& next) {
  constexpr int64_t kPerWord = kType == KvType::kBF16 ? 2 : 4;
  return {page,
          next,
          kPageTokens / kKeyPanel,
          ValueWidth(shape) / 32,
          RoundUp(shape.head_dim, kPerWord) / kPerWord * kRecord,
          kPageTokens / kPerWord * kRecord};
}

// The upper halves of x[0..count), rounded; zeros up to `padded`.
HWY_INLINE void RoundRow(const float* x, int64_t count, int64_t padded, uint32_t* halves) {
  const hn::RebindToUnsigned<DF> du;
  const auto L = static_cast<int64_t>(hn::Lanes(du));
  for (int64_t i = 0; i < padded; i += L) {
    const VF v = RoundFlushBF16V(LoadPadded(x, i, count));
    hn::Store(hn::ShiftRight<16>(hn::BitCast(du, v)), du, halves + i);
  }
}

void AppendBF16(const AttentionShape& shape, const AttentionSequence& sequence, int64_t kv_head,
                int64_t begin, int64_t end, const float* k, const float* v, int64_t kv_stride) {
  const int64_t words = RoundUp(shape.head_dim, 2) / 2;
  const int64_t width = ValueWidth(shape);
  HWY_ALIGN uint32_t halves[kAttentionHeadDimMax];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t position = sequence.position + row;
    const int64_t slot = position % kPageTokens;
    const Page page = PageOf<KvType::kBF16>(shape, sequence, kv_head, position / kPageTokens);
    const int64_t at = (sequence.rows.begin + row) * kv_stride + kv_head * shape.head_dim;
    RoundRow(k + at, shape.head_dim, 2 * words, halves);
    std::byte* key = WordAt(page.keys, slot / kKeyPanel * words, slot % kKeyPanel);
    for (int64_t i = 0; i < words; ++i, key += kRecord) {
      const uint32_t pair = halves[2 * i + 1] << 16 | halves[2 * i];
      std::memcpy(key, &pair, 4);
    }
    RoundRow(v + at, shape.head_dim, width, halves);
    for (int64_t i = 0; i < width; i += 32) {
      std::byte* record = WordAt(page.values, i / 32 * (kPageTokens / 2) + slot / 2, 0);
      if (slot % 2 == 0) {  // whole words: whatever lay in the place of the odd key is zero now
        std::memcpy(record, halves + i, kRecord);
        continue;
      }
      for (int64_t j = 0; j < 32; ++j) {
        const auto half = static_cast<uint16_t>(halves[i + j]);
        std::memcpy(record + 4 * j + 2, &half, 2);
      }
    }
  }
}

// Writes round(x * 127 / max|x|) to bytes[0..padded); returns max|x| / 127, NaN when x is not
// finite.
HWY_INLINE float QuantizeInt8(const float* x, int64_t count, int64_t padded, int8_t* bytes) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  VF top = hn::Zero(d);
  VF poison = hn::Zero(d);
  for (int64_t i = 0; i < count; i += L) {
    const VF v = LoadPadded(x, i, count);
    top = hn::Max(top, hn::Abs(v));
    poison = hn::MulAdd(v, hn::Zero(d), poison);
  }
  const float max = hn::GetLane(hn::MaxOfLanes(d, top));
  const VF inverse = hn::Set(d, max > 0.0f ? 127.0f / max : 0.0f);
  HWY_ALIGN int32_t whole[kLanes];
  const hn::RebindToSigned<DF> di;
  for (int64_t i = 0; i < padded; i += L) {
    const auto q = hn::NearestInt(hn::Mul(LoadPadded(x, i, count), inverse));
    hn::Store(hn::Max(hn::Min(q, hn::Set(di, 127)), hn::Set(di, -127)), di, whole);
    for (int64_t j = 0; j < std::min(L, padded - i); ++j) {
      bytes[i + j] = static_cast<int8_t>(whole[j]);
    }
  }
  HWY_ALIGN float lanes[kLanes];
  hn::Store(poison, d, lanes);
  float bad = 0.0f;
  for (int64_t j = 0; j < L; ++j) bad += lanes[j];
  return max / 127.0f + bad;
}

void AppendInt8(const AttentionShape& shape, const AttentionSequence& sequence, int64_t kv_head,
                int64_t begin, int64_t end, const float* k, const float* v, int64_t kv_stride) {
  const int64_t words = RoundUp(shape.head_dim, 4) / 4;
  const int64_t width = ValueWidth(shape);
  int8_t bytes[kAttentionHeadDimMax];
  for (int64_t row = begin; row < end; ++row) {
    const int64_t position = sequence.position + row;
    const int64_t slot = position % kPageTokens;
    const Page page = PageOf<KvType::kInt8>(shape, sequence, kv_head, position / kPageTokens);
    const int64_t at = (sequence.rows.begin + row) * kv_stride + kv_head * shape.head_dim;
    const float key_scale = QuantizeInt8(k + at, shape.head_dim, 4 * words, bytes);
    for (int64_t i = 0; i < words; ++i) {
      uint32_t word;
      std::memcpy(&word, bytes + 4 * i, 4);
      word ^= 0x80808080u;  // k + 128
      std::memcpy(WordAt(page.keys, slot / kKeyPanel * words + i, slot % kKeyPanel), &word, 4);
    }
    const float value_scale = QuantizeInt8(v + at, shape.head_dim, width, bytes);
    for (int64_t i = 0; i < width; ++i) {
      std::memcpy(WordAt(page.values, i / 32 * (kPageTokens / 4) + slot / 4, i % 32) + slot % 4,
                  bytes + i, 1);
    }
    page.key_scales[slot] = key_scale;
    page.value_scales[slot] = value_scale;
  }
}

// --- One span ------------------------------------------------------------------------------------

// Views of the scratch's factors of lanes, [kLanesMax] each.
struct LaneFactors {
  float* m;       // of this tile
  float* l;       // of this tile
  float* keep;    // what the sums so far are multiplied by
  float* take;    // what this tile's sums are multiplied by
  float* query;   // scale of the query (int8), times 1 / sqrt(P) and log2(e)
  float* p;       // scale of the probabilities (int8)
  int32_t* bias;  // -128 times the sum of the query's int8
  explicit LaneFactors(float* at)
      : m(at),
        l(at + kLanesMax),
        keep(at + 2 * kLanesMax),
        take(at + 3 * kLanesMax),
        query(at + 4 * kLanesMax),
        p(at + 5 * kLanesMax),
        bias(reinterpret_cast<int32_t*>(at + 6 * kLanesMax)) {}
};

HWY_INLINE Left Queries(const AttentionShape& shape, const AttentionScratch& scratch) {
  return {reinterpret_cast<const LeftWord*>(scratch.queries), QueryFloats(shape),
          kLanesMax * kWordChunk};
}
#if defined(LODE_ATTENTION_DOT)
constexpr int64_t kWeightWords = kWordChunk;
#else
constexpr int64_t kWeightWords = kPageTokens;
#endif
HWY_INLINE LeftWord* WeightsOf(const AttentionScratch& scratch, int64_t lane) {
  return reinterpret_cast<LeftWord*>(scratch.weights) + lane * kWeightWords;
}
HWY_INLINE Left Weights(const AttentionScratch& scratch) {
  return {WeightsOf(scratch, 0), kWeightWords, 0};
}

template <KvType kType>
HWY_INLINE void LoadQueries(const AttentionShape& shape, const AttentionLanes& lanes,
                            const float* q, int64_t q_stride, const AttentionScratch& scratch,
                            LaneFactors* factors) {
  constexpr int64_t kPerWord = kType == KvType::kBF16 ? 2 : 4;
  const int64_t padded = RoundUp(shape.head_dim, kPerWord);
  // scores come out as powers of two: s log2(e) / sqrt(P)
  const float scale = 1.44269504088896341f / std::sqrt(static_cast<float>(shape.head_dim));
  HWY_ALIGN uint32_t halves[kAttentionHeadDimMax];
  int8_t bytes[kAttentionHeadDimMax];
  for (int64_t i = 0; i < lanes.count(); ++i) {
    const float* source = q + lanes.Offset(shape, i, q_stride);
    factors->query[i] = scale;
    if constexpr (kType == KvType::kBF16) {
      RoundRow(source, shape.head_dim, padded, halves);
    } else {
      factors->query[i] *= QuantizeInt8(source, shape.head_dim, padded, bytes);
      int32_t sum = 0;
      for (int64_t j = 0; j < padded; ++j) sum += bytes[j];
      factors->bias[i] = -128 * sum;
    }
#if defined(LODE_ATTENTION_DOT)
    auto* words = reinterpret_cast<uint32_t*>(scratch.queries) + i * kWordChunk;
    for (int64_t j = 0; j < padded / kPerWord; ++j) {
      uint32_t word;
      if constexpr (kType == KvType::kBF16) {
        word = halves[2 * j + 1] << 16 | halves[2 * j];
      } else {
        std::memcpy(&word, bytes + 4 * j, 4);
      }
      words[j / kWordChunk * (kLanesMax * kWordChunk) + j % kWordChunk] = word;
    }
#else
    float* numbers = scratch.queries + i * QueryFloats(shape);
    for (int64_t j = 0; j < padded; ++j) {
      if constexpr (kType == KvType::kBF16) {
        const uint32_t bits = halves[j] << 16;
        std::memcpy(numbers + j, &bits, 4);
      } else {
        numbers[j] = bytes[j];
      }
    }
#endif
  }
}

// Stores 16 probabilities (as they are multiplied) of one lane.
template <KvType kType>
HWY_INLINE void StoreWeights(const VF* p, LeftWord* to, int64_t at) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < 16 / L; ++i) {
#if defined(LODE_ATTENTION_DOT)
    if constexpr (kType == KvType::kBF16) {
      const auto half = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(p[i].raw));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + at / 2), half);
    } else {
      const __m128i bytes = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(p[i].raw));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at / 4), bytes);
    }
#else
    if constexpr (kType == KvType::kBF16) {
      hn::Store(RoundBF16V(p[i]), d, to + at + i * L);
    } else {
      hn::Store(hn::ConvertTo(d, hn::NearestInt(p[i])), d, to + at + i * L);
    }
#endif
  }
}

// One lane: masks, m = max, p = 2^(s - m), l = sum in 16 lanes; p goes to the weights.
template <KvType kType>
HWY_INLINE void SoftmaxLane(float* scores, int64_t keys, int64_t lane, const float* value_scales,
                            const AttentionScratch& scratch, LaneFactors* factors) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  if (keys < kPageTokens) {
    std::fill(scores + keys, scores + kPageTokens, -std::numeric_limits<float>::infinity());
  }
  VF tops[kVectorsOf16];
  for (int v = 0; v < kVectorsOf16; ++v) tops[v] = hn::Load(d, scores + v * L);
  for (int64_t i = 16; i < kPageTokens; i += 16) {
    for (int v = 0; v < kVectorsOf16; ++v) {
      tops[v] = hn::Max(tops[v], hn::Load(d, scores + i + v * L));
    }
  }
  for (int v = 1; v < kVectorsOf16; ++v) tops[0] = hn::Max(tops[0], tops[v]);
  const VF m = hn::MaxOfLanes(d, tops[0]);
  LeftWord* weights = WeightsOf(scratch, lane);
  VF sums[kVectorsOf16];
  for (int v = 0; v < kVectorsOf16; ++v) sums[v] = hn::Zero(d);
  VF top = hn::Zero(d);
  for (int64_t i = 0; i < kPageTokens; i += 16) {
    VF p[kVectorsOf16];
    for (int v = 0; v < kVectorsOf16; ++v) {
      p[v] = Exp2V(hn::Sub(hn::Load(d, scores + i + v * L), m));
      sums[v] = hn::Add(sums[v], p[v]);
      if constexpr (kType == KvType::kInt8) {
        p[v] = hn::Mul(p[v], hn::LoadU(d, value_scales + i + v * L));
        top = hn::Max(top, p[v]);
        hn::Store(p[v], d, scores + i + v * L);
      }
    }
    if constexpr (kType == KvType::kBF16) StoreWeights<kType>(p, weights, i);
  }
  factors->m[lane] = hn::GetLane(m);
  factors->l[lane] = SumTreeV(sums);
  if constexpr (kType == KvType::kInt8) {
    // One scale for the lane's 128 probabilities times their values' scales: round(255 p / max).
    const float max = hn::GetLane(hn::MaxOfLanes(d, top));
    const VF inverse = hn::Set(d, max > 0.0f ? 255.0f / max : 0.0f);
    factors->p[lane] = max / 255.0f;
    for (int64_t i = 0; i < kPageTokens; i += 16) {
      VF p[kVectorsOf16];
      for (int v = 0; v < kVectorsOf16; ++v) {
        p[v] = hn::Mul(hn::Load(d, scores + i + v * L), inverse);
      }
      StoreWeights<kType>(p, weights, i);
    }
  }
}

// (m, l) = (m, l) followed by (m_next, l_next); what o and its next part are multiplied by. A part
// without keys (l_next = 0) changes nothing.
HWY_INLINE void MergeFactors(int64_t lanes, const float* m_next, const float* l_next, float* m,
                             float* l, float* keep, float* take) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < lanes; i += L) {
    const VF old_m = hn::LoadU(d, m + i);
    const VF old_l = hn::LoadU(d, l + i);
    const VF next_m = hn::LoadU(d, m_next + i);
    const VF next_l = hn::LoadU(d, l_next + i);
    const auto dead = hn::Eq(next_l, hn::Zero(d));
    const VF top = hn::Max(old_m, next_m);
    const VF a = hn::IfThenElse(dead, hn::Set(d, 1.0f), Exp2V(hn::Sub(old_m, top)));
    const VF b = hn::IfThenZeroElse(dead, Exp2V(hn::Sub(next_m, top)));
    hn::StoreU(hn::IfThenElse(dead, old_m, top), d, m + i);
    hn::StoreU(hn::MulAdd(old_l, a, hn::Mul(next_l, b)), d, l + i);
    hn::StoreU(a, d, keep + i);
    hn::StoreU(b, d, take + i);
  }
}

template <KvType kType>
HWY_INLINE void TileScores(const AttentionShape& shape, const Panels& panels, int64_t lanes,
                           int64_t keys, const AttentionScratch& scratch,
                           const LaneFactors& factors) {
  const DF d;
  constexpr Product kProduct = kType == KvType::kBF16 ? Product::kBF16 : Product::kKeysInt8;
  const int64_t words =
      RoundUp(shape.head_dim, NumbersPerWord(kProduct)) / NumbersPerWord(kProduct);
  const int32_t* bias = kType == KvType::kBF16 ? nullptr : factors.bias;
  const Left left = Queries(shape, scratch);
  for (int64_t first = 0; first < keys; first += kKeyPanel) {
    const int64_t at = first / kKeyPanel;
    Multiply<kProduct>(
        panels.At(at), left, bias, lanes, words, panels.After(at),
        [&](int64_t i, int64_t column, VF sum) HWY_ATTR {
          VF scale = hn::Set(d, factors.query[i]);
          if constexpr (kType == KvType::kInt8) {
            scale = hn::Mul(scale, hn::LoadU(d, panels.page.key_scales + first + column));
          }
          hn::Store(hn::Mul(sum, scale), d, scratch.scores + i * kPageTokens + first + column);
        });
  }
}

// o = fma(o, keep, sums * take)
template <KvType kType>
HWY_INLINE void TileValues(const AttentionShape& shape, const Panels& panels, int64_t lanes,
                           int64_t keys, const AttentionScratch& scratch,
                           const LaneFactors& factors, float* o) {
  const DF d;
  constexpr Product kProduct = kType == KvType::kBF16 ? Product::kBF16 : Product::kValuesInt8;
  const int64_t width = ValueWidth(shape);
  const int64_t words = RoundUp(keys, NumbersPerWord(kProduct)) / NumbersPerWord(kProduct);
  for (int64_t first = 0; first < width; first += 32) {
    const int64_t panel = panels.keys + first / 32;
    Multiply<kProduct>(panels.At(panel), Weights(scratch), nullptr, lanes, words,
                       panels.After(panel), [&](int64_t i, int64_t column, VF sum) HWY_ATTR {
                         float* at = o + i * width + first + column;
                         const VF part = hn::Mul(sum, hn::Set(d, factors.take[i]));
                         hn::Store(hn::MulAdd(hn::Load(d, at), hn::Set(d, factors.keep[i]), part),
                                   d, at);
                       });
  }
}

template <KvType kType>
HWY_INLINE void AttendSpan(const AttentionShape& shape, const AttentionLanes& lanes, const float* q,
                           int64_t q_stride, int64_t tile, int64_t tile_end,
                           const AttentionScratch& scratch, SoftmaxState state) {
  const int64_t count = lanes.count();
  const int64_t padded = RoundUp(count, 16);
  LaneFactors factors(scratch.lanes);
  LoadQueries<kType>(shape, lanes, q, q_stride, scratch, &factors);
  std::fill(state.m, state.m + padded, -std::numeric_limits<float>::infinity());
  std::fill(state.l, state.l + padded, 0.0f);
  std::fill(state.o, state.o + count * ValueWidth(shape), 0.0f);
  std::fill(factors.m, factors.m + padded, 0.0f);
  std::fill(factors.l, factors.l + padded, 0.0f);
  float value_scales[kPageTokens];
  for (; tile < tile_end; ++tile) {
    const auto page_of = [&](int64_t i) HWY_ATTR {
      return PageOf<kType>(shape, *lanes.sequence, lanes.kv_head, i);
    };
    const Panels panels =
        PanelsOf<kType>(shape, page_of(tile), page_of(std::min(tile + 1, tile_end - 1)));
    const int64_t keys = std::min(kPageTokens, lanes.last() + 1 - tile * kPageTokens);
    TileScores<kType>(shape, panels, count, keys, scratch, factors);
    const float* scales = panels.page.value_scales;
    if (kType == KvType::kInt8 && keys < kPageTokens) {  // behind them may be anything
      std::copy(scales, scales + keys, value_scales);
      std::fill(value_scales + keys, value_scales + kPageTokens, 0.0f);
      scales = value_scales;
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t own =
          std::clamp<int64_t>(lanes.position(i) + 1 - tile * kPageTokens, 0, kPageTokens);
      float* scores = scratch.scores + i * kPageTokens;
      if (own > 0) {
        SoftmaxLane<kType>(scores, own, i, scales, scratch, &factors);
      } else {  // the keys of this tile come after the row
        factors.m[i] = factors.l[i] = factors.p[i] = 0.0f;
        std::fill_n(WeightsOf(scratch, i), kWeightWords, LeftWord{0});
      }
    }
    MergeFactors(padded, factors.m, factors.l, state.m, state.l, factors.keep, factors.take);
    if (kType == KvType::kInt8) {
      for (int64_t i = 0; i < count; ++i) factors.take[i] *= factors.p[i];
    }
    TileValues<kType>(shape, panels, count, keys, scratch, factors, state.o);
  }
}

void AttendBF16(const AttentionShape& shape, const AttentionLanes& lanes, const float* q,
                int64_t q_stride, int64_t tile, int64_t tile_end, const AttentionScratch& scratch,
                SoftmaxState state) {
  AttendSpan<KvType::kBF16>(shape, lanes, q, q_stride, tile, tile_end, scratch, state);
}

void AttendInt8(const AttentionShape& shape, const AttentionLanes& lanes, const float* q,
                int64_t q_stride, int64_t tile, int64_t tile_end, const AttentionScratch& scratch,
                SoftmaxState state) {
  AttendSpan<KvType::kInt8>(shape, lanes, q, q_stride, tile, tile_end, scratch, state);
}

void MergeSpan(int64_t lanes, int64_t width, SoftmaxState part, SoftmaxState total) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  float keep[kLanesMax];
  float take[kLanesMax];
  MergeFactors(RoundUp(lanes, 16), part.m, part.l, total.m, total.l, keep, take);
  for (int64_t i = 0; i < lanes; ++i) {
    for (int64_t j = i * width; j < (i + 1) * width; j += L) {
      const VF next = hn::Mul(hn::Load(d, part.o + j), hn::Set(d, take[i]));
      hn::Store(hn::MulAdd(hn::Load(d, total.o + j), hn::Set(d, keep[i]), next), d, total.o + j);
    }
  }
}

void Finish(const AttentionShape& shape, const AttentionLanes& lanes, SoftmaxState total,
            float* out, int64_t out_stride) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = ValueWidth(shape);
  for (int64_t i = 0; i < lanes.count(); ++i) {
    float* target = out + lanes.Offset(shape, i, out_stride);
    const VF l = hn::Set(d, total.l[i]);
    for (int64_t j = 0; j < shape.head_dim; j += L) {
      StorePadded(hn::Div(hn::Load(d, total.o + i * width + j), l), target, j, shape.head_dim);
    }
  }
}
