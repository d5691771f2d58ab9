// One panel of a weight times all tokens, chunk by chunk, so that a chunk of weights stays in the
// first-level cache while the tiles of tokens pass over it. The next chunk is asked for meanwhile,
// each tile taking its share of the lines: the hardware does not see the order of panels (at 24
// tokens this is worth a factor of 1.4).
#include <algorithm>
#include <cstdint>

#include "kernels/cpu/matmul_parts.h"

namespace lode::kernels {

#if defined(__x86_64__)
// A panel of a weight that lies in rows, times one tile; false where the type has no such way.
bool RunRowsAvx512Dot(const Weight& w, PanelFormat format, int64_t panel, const uint8_t* tile,
                      int64_t m, bool wide, float* sums);  // cpu/panel_rows_avx512dot.cc
#endif

namespace {

constexpr int64_t kRowTokens = 4;  // more are faster through panels made on the way

constexpr int64_t kChunkRecords = 16;      // 17 KiB of the widest type
constexpr int64_t kChunkPlainRecords = 8;  // of bf16: 16 KiB
constexpr int64_t kFarPrefetch = 4096;     // bytes ahead, when one tile reads the whole panel
constexpr int64_t kFewTiles = 3;           // then smaller chunks leave more room for the next one
constexpr int64_t kChunkFewRecords = 8;

// From how many tiles on it pays to make records ready once for all of them (measured on Zen 4, both
// ways in turn: up to 1.3 times as fast for FP4); never where a code is one mask away.
constexpr int64_t ExpandTiles(PanelFormat format, bool wide) {
  switch (format) {
    case PanelFormat::kMXFP4:
    case PanelFormat::kNVFP4:
    case PanelFormat::kQ6K:
      return 2;
    case PanelFormat::kIQ4XS:
      return 3;
    case PanelFormat::kQ5K:
      return wide ? 4 : 3;
    case PanelFormat::kQ5_0:
      return wide ? 5 : 4;
    case PanelFormat::kQ4K:
      return wide ? INT64_MAX : 4;
    case PanelFormat::kQ5_1:
      return wide ? INT64_MAX : 5;
    default:
      return INT64_MAX;
  }
}

constexpr int64_t kPackedScratchBytes = RecordsBytes(PanelFormat::kQ8_0, kChunkRecords);

int64_t Lines(int64_t bytes) { return (bytes + 63) / 64; }

// Where the bytes of a chunk are: in the packed weight, or packed into the scratch now.
const uint8_t* ChunkOf(const Weight& w, PanelFormat format, int64_t panel, int64_t first,
                       int64_t count, const uint8_t* packed_panel, std::byte* scratch) {
  if (packed_panel != nullptr) return packed_panel + RecordsBytes(format, first);
  PackRecords(w, format, panel, first, count, scratch);
  return reinterpret_cast<const uint8_t*>(scratch);
}

const uint8_t* PackedPanel(const Weight& w, PanelFormat format, int64_t panel) {
  if (w.packed == nullptr) return nullptr;
  return reinterpret_cast<const uint8_t*>(w.packed) +
         panel * RecordsBytes(format, RecordsOf(w.cols));
}

// What each tile asks for of the next chunk: `lines` for each record of this one.
struct Prefetch {
  const uint8_t* next;
  int64_t per_record;  // lines that each tile takes, for each of its records
  int64_t limit;       // lines of the next chunk

  const uint8_t* From(int64_t tile, int64_t records) const {
    return next + tile * per_record * records * 64;
  }
  int64_t Of(int64_t tile, int64_t records) const {
    return next != nullptr && tile * per_record * records < limit ? per_record : 0;
  }
};

Prefetch NextChunk(const uint8_t* next, int64_t bytes, int64_t tiles, int64_t records) {
  const int64_t lines = Lines(bytes);
  return {next, std::max<int64_t>(1, (lines + tiles * records - 1) / (tiles * records)), lines};
}

void RunInteger(const PanelKernels& kernels, const Weight& w, PanelFormat format, int64_t panel,
                const PanelInput& in, std::byte* scratch, float* sums) {
  const int at = static_cast<int>(format) - static_cast<int>(PanelFormat::kQ8_0);
  const IntTileFn* tile_of = kernels.integer[at][in.wide ? 1 : 0];
  const int64_t records = RecordsOf(w.cols);
  const int64_t token_bytes = records * IntBlockBytes(in.wide);
  const int64_t tiles = TilesOf(in.tokens, kIntTile);
  const uint8_t* packed = PackedPanel(w, format, panel);
  if (tiles == 1 && packed != nullptr) {
    tile_of[in.tokens - 1](
        {packed, in.tiles, records, sums, packed + kFarPrefetch, Lines(RecordBytes(format)), true});
    return;
  }
#if defined(__x86_64__)
  if (packed == nullptr && in.tokens <= kRowTokens && ActiveIsa() == Isa::kAvx512Dot &&
      RunRowsAvx512Dot(w, format, panel, in.tiles, in.tokens, in.wide, sums)) {
    return;
  }
#endif
  const auto expand = tiles >= ExpandTiles(format, in.wide) ? kernels.expand[at] : nullptr;
  if (expand != nullptr) tile_of = kernels.expanded[kernels.expanded_kind[at]][in.wide ? 1 : 0];
  const int shift = TraitsOf(format).offset_shift;
  auto* expanded = reinterpret_cast<uint8_t*>(scratch) + kPackedScratchBytes;
  const int64_t most = tiles <= kFewTiles ? kChunkFewRecords : kChunkRecords;
  for (int64_t first = 0; first < records; first += most) {
    const int64_t count = std::min(most, records - first);
    const uint8_t* chunk = ChunkOf(w, format, panel, first, count, packed, scratch);
    const Prefetch ahead = packed == nullptr ? Prefetch{nullptr, 0, 0}
                                             : NextChunk(chunk + RecordsBytes(format, count),
                                                         RecordsBytes(format, count), tiles, count);
    if (expand != nullptr) {
      expand(chunk, count, expanded);
      chunk = expanded;
    }
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t begin = TileBegin(in.tokens, tiles, t);
      const int64_t m = TileBegin(in.tokens, tiles, t + 1) - begin;
      const uint8_t* a = in.tiles + begin * token_bytes + first * m * IntBlockBytes(in.wide);
      tile_of[m - 1]({chunk, a, count, sums + begin * kPanelRows, ahead.From(t, count),
                      ahead.Of(t, count), first == 0, shift < 0 ? 0u : 1u << shift});
    }
  }
}

void RunBF16(const PanelKernels& kernels, const Weight& w, PanelFormat format, int64_t panel,
             const PanelInput& in, std::byte* scratch, float* sums) {
  const bool f8 = format == PanelFormat::kF8;
  const int64_t records = RecordsOf(w.cols);
  const int64_t tiles = TilesOf(in.tokens, kBF16Tile);
  const uint8_t* packed = PackedPanel(w, format, panel);
  // The columns behind the last one are zero on both sides.
  if (tiles == 1 && packed != nullptr && !f8) {
    kernels.bf16[in.tokens - 1]({packed, in.rows, in.stride, in.low_offset, records * 16, sums,
                                 packed + kFarPrefetch, 16, true});
    return;
  }
  std::byte* widened = scratch + kChunkPlainRecords * kPanelRows * kRecordCols;
  for (int64_t first = 0; first < records; first += kChunkPlainRecords) {
    const int64_t count = std::min(kChunkPlainRecords, records - first);
    const uint8_t* chunk = ChunkOf(w, format, panel, first, count, packed, scratch);
    const int64_t bytes = RecordsBytes(format, count);
    const int64_t groups = count * 2;  // of eight pairs
    const Prefetch ahead = packed == nullptr ? Prefetch{nullptr, 0, 0}
                                             : NextChunk(chunk + bytes, bytes, tiles, groups);
    if (f8) {
      kernels.widen_f8(chunk, bytes, reinterpret_cast<uint16_t*>(widened));
      chunk = reinterpret_cast<const uint8_t*>(widened);
    }
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t begin = TileBegin(in.tokens, tiles, t);
      const int64_t m = TileBegin(in.tokens, tiles, t + 1) - begin;
      kernels.bf16[m - 1]({chunk, in.rows + begin * in.stride + first * kRecordCols, in.stride,
                           in.low_offset, count * 16, sums + begin * kPanelRows,
                           ahead.From(t, groups), ahead.Of(t, groups), first == 0});
    }
  }
}

}  // namespace

void RunFloatPanel(const PanelKernels& kernels, const Weight& w, PanelFormat format, int64_t panel,
                   const float* x, int64_t x_stride, int64_t tokens, float* sums) {
  const FloatTileFn* tile_of = kernels.floats[format == PanelFormat::kF16 ? 0 : 1];
  const int64_t column_bytes = RecordBytes(format) / kRecordCols;
  const int64_t tiles = TilesOf(tokens, kBF16Tile);
  // One tile reads the whole panel; several want it a piece of 16 KiB at a time.
  const int64_t most = tiles == 1 ? w.cols : (16 << 10) / column_bytes;
  const uint8_t* packed = PackedPanel(w, format, panel);
  for (int64_t first = 0; first < w.cols; first += most) {
    const int64_t count = std::min(most, w.cols - first);
    const uint8_t* columns = packed + first * column_bytes;
    const uint8_t* next = columns + (tiles == 1 ? kFarPrefetch : count * column_bytes);
    const int64_t groups = (count + 7) / 8;
    const int64_t lines = Lines(8 * column_bytes);
    const int64_t share = (lines + tiles - 1) / tiles;  // that each tile asks for, a group
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t begin = TileBegin(tokens, tiles, t);
      const int64_t m = TileBegin(tokens, tiles, t + 1) - begin;
      tile_of[m - 1]({columns, x + begin * x_stride + first, x_stride, count,
                      sums + begin * kPanelRows, next + t * share * groups * 64,
                      t * share < lines ? share : 0, first == 0});
    }
  }
}

static_assert(kPanelScratchFloats * 4 >=
              kPackedScratchBytes + kChunkRecords * ExpandedBytes(kExpandedPair));
static_assert(kPanelScratchFloats * 4 >= 3 * RecordsBytes(PanelFormat::kF8, kChunkPlainRecords));

void RunPanelProduct(const PanelKernels& kernels, const Weight& weight, PanelFormat format,
                     int64_t panel, const PanelInput& input, float* scratch, float* sums) {
  auto* bytes = reinterpret_cast<std::byte*>(scratch);
  if (IsInteger(format)) {
    RunInteger(kernels, weight, format, panel, input, bytes, sums);
  } else {
    RunBF16(kernels, weight, format, panel, input, bytes, sums);
  }
}

}  // namespace lode::kernels
