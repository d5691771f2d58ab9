// Matrix products in f32 with the weight as it lies in the file: the reference modes, and the types
// that have no packed form.
//
// A panel is 32 rows of the weight. For 256 columns at a time the panel is decoded to f32 and
// turned (column by column, 32 rows side by side) into a 32 KiB scratch that stays in L1/L2; then
// every token runs over it, 32 outputs in two vectors, up to kTile tokens together. Each output has
// one accumulator that takes the columns in ascending order, whatever the tile: this is the order
// of ops.h. Up to kFewTokens tokens skip the panel: rows are turned in registers and used at once,
// in that order.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "kernels/cpu/matmul_parts.h"
#include "kernels/cpu/targets.h"
#include "kernels/ops.h"
#include "kernels/panel.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul_decode.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/decode-inl.h"
#include "kernels/cpu/lanes-inl.h"

#ifndef LODE_KERNELS_CPU_MATMUL_ONCE_
#define LODE_KERNELS_CPU_MATMUL_ONCE_
namespace lode::kernels {
constexpr int64_t kPanelCols = 256;  // a multiple of every block size
// For a few tokens: so many columns of a row at once, for rows lie pages apart in the file and the
// memory wants long runs. The stride is a line more, so that rows do not share cache sets.
constexpr int64_t kFewTokens = 4;
constexpr int64_t kFewCols = 1024;
constexpr int64_t kFewStride = kFewCols + 16;
}  // namespace lode::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

// Two vectors of rows times kTile tokens must fit the registers: 16 + 3 of 32 with 512 bits (more
// would not be faster: 16 chains cover the latency of two FMA pipes), 12 + 3 of 16 else.
constexpr int kTile = HWY_MAX_BYTES >= 64 ? 8 : 6;

#if HWY_TARGET != HWY_SCALAR
// Turns 4 x 4 numbers inside each 128-bit block of four vectors: afterwards v[j] has, in block b,
// column 4 b + j.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void TurnBlocks(D d, V* v) {
  const hn::RepartitionToWide<D> d64;
  const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, v[0], v[1]));
  const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, v[0], v[1]));
  const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, v[2], v[3]));
  const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, v[2], v[3]));
  v[0] = hn::BitCast(d, hn::InterleaveLower(d64, low01, low23));
  v[1] = hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23));
  v[2] = hn::BitCast(d, hn::InterleaveLower(d64, high01, high23));
  v[3] = hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23));
}
#endif

// panel[k][r] for 4 rows: reads rows[0..3][0, count), writes columns of the panel at `panel`.
HWY_INLINE void TurnFourRows(const float* const* rows, int64_t count, float* HWY_RESTRICT panel) {
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  for (; k + 4 <= count; k += 4) {
    hn::Vec<decltype(d)> v[4];
    for (int r = 0; r < 4; ++r) v[r] = hn::LoadU(d, rows[r] + k);
    TurnBlocks(d, v);
    for (int j = 0; j < 4; ++j) hn::StoreU(v[j], d, panel + (k + j) * kPanelRows);
  }
#endif
  for (; k < count; ++k) {
    for (int r = 0; r < 4; ++r) panel[k * kPanelRows + r] = rows[r][k];
  }
}

// Asks for the bytes of columns [k0, k0 + count) of a row, ahead of their use.
HWY_INLINE void PrefetchColumns(const Weight& w, int64_t row, int64_t k0, int64_t count) {
  if (w.data == nullptr || row >= w.rows || k0 >= w.cols) return;
  const std::byte* begin = w.data + row * w.row_bytes;
  const std::byte* at = begin + k0 * w.row_bytes / w.cols;
  const std::byte* end = begin + std::min(k0 + count, w.cols) * w.row_bytes / w.cols;
  for (; at < end; at += 64) hwy::Prefetch(at);
}

// Decodes rows [row0, row0 + rows) x columns [k0, k0 + count) into panel [count][32].
void BuildPanel(const Weight& w, int64_t row0, int64_t rows, int64_t k0, int64_t count,
                float* HWY_RESTRICT decoded, float* HWY_RESTRICT panel) {
  for (int64_t r = 0; r < kPanelRows; r += 4) {
    const float* four[4];
    for (int64_t i = 0; i < 4; ++i) {
      float* row = decoded + i * kPanelCols;
      four[i] = row;
      if (r + i < rows) {
        PrefetchColumns(w, row0 + r + i, k0 + kPanelCols, kPanelCols);
        DecodeRow(w, row0 + r + i, k0, count, row);
      } else {
        std::memset(row, 0, static_cast<size_t>(count) * sizeof(float));
      }
    }
    TurnFourRows(four, count, panel + r);
  }
}

// sums[m][0..31] continues over `count` columns for M tokens.
template <int M>
HWY_INLINE void RunTile(const float* HWY_RESTRICT panel, int64_t count, const float* HWY_RESTRICT x,
                        int64_t x_stride, float* HWY_RESTRICT sums) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < kPanelRows; r += 2 * L) {
    VF sum0[M];
    VF sum1[M];
    HWY_UNROLL(16)
    for (int m = 0; m < M; ++m) {
      sum0[m] = hn::LoadU(d, sums + m * kPanelRows + r);
      sum1[m] = hn::LoadU(d, sums + m * kPanelRows + r + L);
    }
    for (int64_t k = 0; k < count; ++k) {
      const VF w0 = hn::LoadU(d, panel + k * kPanelRows + r);
      const VF w1 = hn::LoadU(d, panel + k * kPanelRows + r + L);
      HWY_UNROLL(16)
      for (int m = 0; m < M; ++m) {
        const VF value = hn::Set(d, x[m * x_stride + k]);
        sum0[m] = hn::MulAdd(w0, value, sum0[m]);
        sum1[m] = hn::MulAdd(w1, value, sum1[m]);
      }
    }
    HWY_UNROLL(16)
    for (int m = 0; m < M; ++m) {
      hn::StoreU(sum0[m], d, sums + m * kPanelRows + r);
      hn::StoreU(sum1[m], d, sums + m * kPanelRows + r + L);
    }
  }
}

template <int M = kTile>
HWY_INLINE void RunTileOf(int64_t tokens, const float* panel, int64_t count, const float* x,
                          int64_t x_stride, float* sums) {
  if constexpr (M > 0) {
    if (tokens == M) {
      RunTile<M>(panel, count, x, x_stride, sums);
    } else {
      RunTileOf<M - 1>(tokens, panel, count, x, x_stride, sums);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
constexpr int kLanesHere = HWY_MAX_BYTES >= 64 ? 16 : HWY_MAX_BYTES >= 32 ? 8 : 4;

// Turns a square of kLanesHere x kLanesHere numbers: v[i] is row i before, column i after.
HWY_INLINE void TurnSquare(VF* v) {
  const DF d;
  HWY_UNROLL(16)
  for (int g = 0; g < kLanesHere; g += 4) TurnBlocks(d, v + g);
  // Now v[4 g + j] holds rows 4 g.. of column 4 b + j in block b: turn the blocks.
#if HWY_MAX_BYTES >= 64
  HWY_UNROLL(4)
  for (int j = 0; j < 4; ++j) {
    const VF a = v[j], b = v[4 + j], c = v[8 + j], e = v[12 + j];
    const VF even_ab = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a);
    const VF odd_ab = hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a));
    const VF even_ce = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(e), c);
    const VF odd_ce = hn::OddEvenBlocks(e, hn::SwapAdjacentBlocks(c));
    v[j] = hn::ConcatLowerLower(d, even_ce, even_ab);
    v[4 + j] = hn::ConcatLowerLower(d, odd_ce, odd_ab);
    v[8 + j] = hn::ConcatUpperUpper(d, even_ce, even_ab);
    v[12 + j] = hn::ConcatUpperUpper(d, odd_ce, odd_ab);
  }
#elif HWY_MAX_BYTES >= 32
  HWY_UNROLL(4)
  for (int j = 0; j < 4; ++j) {
    const VF a = v[j], b = v[4 + j];
    v[j] = hn::ConcatLowerLower(d, b, a);
    v[4 + j] = hn::ConcatUpperUpper(d, b, a);
  }
#endif
}

// What will be decoded after the columns at hand. Its bytes are asked for while these are computed
// with, a slice of all rows at a time: memory and arithmetic then take turns no more.
struct NextColumns {
  const Weight* w;
  int64_t row0, k0;
  double bytes_per_column;

  // The slice that corresponds to columns [k, k + count) of the ones at hand, into the second-level
  // cache.
  HWY_INLINE void Prefetch(int64_t k, int64_t count) const {
    if (w == nullptr || w->data == nullptr) return;
    const auto first = static_cast<int64_t>(static_cast<double>(k0 + k) * bytes_per_column);
    const auto last = std::min(
        static_cast<int64_t>(static_cast<double>(k0 + k + count) * bytes_per_column), w->row_bytes);
    const int64_t line = (first + 63) / 64 * 64;
    if (line >= last) return;
    const int64_t rows = std::min(kPanelRows, w->rows - row0);
    const std::byte* at = w->data + row0 * w->row_bytes + line;
    for (int64_t r = 0; r < rows; ++r) __builtin_prefetch(at + r * w->row_bytes, 0, 2);
  }
};

// A few tokens: the weight is turned in registers and used at once, not through a panel in memory.
// rows_decoded [32][kFewStride]; sums [M][32] continue over `count` columns, in the same order.
template <int M>
HWY_INLINE void RunFewTokens(const float* HWY_RESTRICT rows_decoded, int64_t count,
                             const float* HWY_RESTRICT x, int64_t x_stride, const NextColumns& next,
                             float* HWY_RESTRICT sums) {
  const DF d;
  constexpr int L = kLanesHere;
  constexpr int64_t kPasses = kPanelRows / (2 * L);
  // Two groups of rows side by side: their chains of sums do not wait for one another.
  for (int64_t r = 0; r < kPanelRows; r += 2 * L) {
    VF sum[2][M];
    HWY_UNROLL(4)
    for (int m = 0; m < M; ++m) {
      sum[0][m] = hn::LoadU(d, sums + m * kPanelRows + r);
      sum[1][m] = hn::LoadU(d, sums + m * kPanelRows + r + L);
    }
    for (int64_t k = 0; k < count; k += L) {
      next.Prefetch(k + (r / (2 * L)) * L / kPasses, L / kPasses);
      HWY_UNROLL(2)
      for (int group = 0; group < 2; ++group) {
        const float* source = rows_decoded + (r + group * L) * kFewStride + k;
        VF v[L];
        HWY_UNROLL(16)
        for (int i = 0; i < L; ++i) v[i] = hn::LoadU(d, source + i * kFewStride);
        TurnSquare(v);
        HWY_UNROLL(16)
        for (int i = 0; i < L; ++i) {
          HWY_UNROLL(4)
          for (int m = 0; m < M; ++m) {
            sum[group][m] = hn::MulAdd(v[i], hn::Set(d, x[m * x_stride + k + i]), sum[group][m]);
          }
        }
      }
    }
    HWY_UNROLL(4)
    for (int m = 0; m < M; ++m) {
      hn::StoreU(sum[0][m], d, sums + m * kPanelRows + r);
      hn::StoreU(sum[1][m], d, sums + m * kPanelRows + r + L);
    }
  }
}

// The same as the loop over panels in RunPanel, for 1 to kFewTokens tokens.
void SumFewTokens(const MatMulJob& job, int64_t row0, int64_t rows, float* decoded, float* sums) {
  const Weight& w = *job.weight;
  constexpr int64_t kAhead = 2;  // rows; about the time that memory takes to answer
  // Wide types wait for memory, narrow ones for their decoding, which a busy prefetcher only slows
  // (measured: BF16 18 -> 28 tok/s with slices, Q4_0 11 -> 9).
  const double bytes_per_column = static_cast<double>(w.row_bytes) / static_cast<double>(w.cols);
  const bool wide = bytes_per_column > 1.5;
  for (int64_t k0 = 0; k0 < w.cols; k0 += kFewCols) {
    const int64_t count = std::min(kFewCols, w.cols - k0);
    const int64_t whole = count / kLanesHere * kLanesHere;
    for (int64_t r = 0; r < kPanelRows; ++r) {
      if (r < rows) {
        if (!wide) PrefetchColumns(w, row0 + r + kAhead, k0, count);
        DecodeRow(w, row0 + r, k0, count, decoded + r * kFewStride);
      } else if (k0 == 0) {
        std::memset(decoded + r * kFewStride, 0, kFewStride * sizeof(float));
      }
    }
    const bool more = k0 + kFewCols < w.cols;
    const NextColumns next = {wide ? &w : nullptr, more ? row0 : row0 + kPanelRows,
                              more ? k0 + kFewCols : 0, bytes_per_column};
    const float* x = job.x + k0;
    switch (job.rows) {
      case 1:
        RunFewTokens<1>(decoded, whole, x, job.x_stride, next, sums);
        break;
      case 2:
        RunFewTokens<2>(decoded, whole, x, job.x_stride, next, sums);
        break;
      case 3:
        RunFewTokens<3>(decoded, whole, x, job.x_stride, next, sums);
        break;
      default:
        RunFewTokens<4>(decoded, whole, x, job.x_stride, next, sums);
        break;
    }
    for (int64_t k = whole; k < count; ++k) {  // the last columns of an odd width
      for (int64_t m = 0; m < job.rows; ++m) {
        for (int64_t r = 0; r < rows; ++r) {
          float& sum = sums[m * kPanelRows + r];
          sum = hn::GetLane(hn::MulAdd(hn::Set(DF(), decoded[r * kFewStride + k]),
                                       hn::Set(DF(), x[m * job.x_stride + k]), hn::Set(DF(), sum)));
        }
      }
    }
  }
}
#endif

// y = epilogue(sums * scale) for rows [row0, row0 + rows) of the weight and all tokens.
void FinishRows(const MatMulJob& job, int64_t row0, int64_t rows, const float* sums) {
  const Weight& w = *job.weight;
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const VF zero = hn::Zero(d);
  for (int64_t t = 0; t < job.rows; ++t) {
    float* y = job.y + t * job.y_stride + row0;
    for (int64_t r = 0; r < rows; r += L) {
      const VF scale =
          w.row_scales != nullptr ? LoadPadded(w.row_scales + row0, r, rows) : hn::Set(d, w.scale);
      VF sum = hn::Mul(hn::LoadU(d, sums + t * kPanelRows + r), scale);
      if (job.epilogue == Epilogue::kReluSquared) {
        sum = hn::Max(sum, zero);
        sum = hn::Mul(sum, sum);
      } else if (job.epilogue == Epilogue::kAdd) {
        sum = hn::Add(LoadPadded(y, r, rows), sum);
      }
      StorePadded(sum, y, r, rows);
    }
  }
}

void RunPanel(const MatMulJob& job, int64_t panel_index, float* scratch) {
  const Weight& w = *job.weight;
  const bool few = HWY_TARGET != HWY_SCALAR && job.rows <= kFewTokens;
  float* sums = scratch;
  float* decoded = sums + std::max(job.rows, kFewTokens) * kPanelRows;
  float* panel = decoded + 4 * kPanelCols;
  const int64_t row0 = panel_index * kPanelRows;
  const int64_t rows = std::min(kPanelRows, w.rows - row0);
  std::memset(sums, 0, static_cast<size_t>(job.rows * kPanelRows) * sizeof(float));
#if HWY_TARGET != HWY_SCALAR
  if (few) SumFewTokens(job, row0, rows, decoded, sums);
#endif
  for (int64_t k0 = 0; k0 < w.cols && !few; k0 += kPanelCols) {
    const int64_t count = std::min(kPanelCols, w.cols - k0);
    BuildPanel(w, row0, rows, k0, count, decoded, panel);
    for (int64_t t = 0; t < job.rows; t += kTile) {
      RunTileOf(std::min<int64_t>(kTile, job.rows - t), panel, count, job.x + t * job.x_stride + k0,
                job.x_stride, sums + t * kPanelRows);
    }
  }
  FinishRows(job, row0, rows, sums);
}

void RoundRange(float* x, int64_t count) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < count; i += L) {
    StorePadded(RoundBF16V(LoadPadded(x, i, count)), x, i, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(RunPanel);
HWY_EXPORT(FinishRows);
HWY_EXPORT(RoundRange);

int64_t DecodedScratchFloats(int64_t rows) {
  const int64_t sums = std::max(rows, kFewTokens) * kPanelRows;
  return sums + std::max(kPanelRows * kPanelCols + 4 * kPanelCols, kPanelRows * kFewStride);
}

void RunDecodedPanel(const MatMulJob& job, int64_t panel, float* scratch) {
  HWY_DYNAMIC_DISPATCH(RunPanel)(job, panel, scratch);
}

void FinishPanel(const MatMulJob& job, int64_t panel, const float* sums) {
  const int64_t row0 = panel * kPanelRows;
  HWY_DYNAMIC_DISPATCH(FinishRows)
  (job, row0, std::min(kPanelRows, job.weight->rows - row0), sums);
}

void RoundToBF16(Context& context, float* x, int64_t count) {
  const auto round = HWY_DYNAMIC_DISPATCH(RoundRange);
  context.pool().ParallelFor(
      count, 1 << 14, [&](int64_t begin, int64_t end, int) { round(x + begin, end - begin); });
}

}  // namespace lode::kernels
#endif  // HWY_ONCE
