// The inner loops over panels (kernels/panel.h), one table of them per instruction set, and the
// form that activations take for them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/isa.h"
#include "kernels/panel.h"

namespace lode::kernels {

// Tokens are cut into tiles of nearly equal size, at most these many.
constexpr int kIntTile = 6;
constexpr int kBF16Tile = 12;
inline int64_t TilesOf(int64_t tokens, int64_t tile) { return (tokens + tile - 1) / tile; }
inline int64_t TileBegin(int64_t tokens, int64_t tiles, int64_t index) {
  return tokens * index / tiles;
}

// Integer activations of a tile of m tokens: per 32 columns
//   int8 q[m][32] | with wide: int8 low[m][32] | f32 s[m] | i32 n[m] | i32 n0[m] | f32 f[m]
// x ~ s * q, or s * (255 q + low); n = -sum of all 32 whole numbers, n0 of the first 16, f = s *
// -n.
constexpr int64_t IntBlockBytes(bool wide) { return wide ? 80 : 48; }

// BF16 activations: rows of bfloat16, `stride` numbers apart; with wide a second row of what
// rounding left over follows each, `stride` numbers behind the first.

// c [m][32] (+)= records of one panel times a tile. `first`: c begins at zero. For each record,
// `lines` cache lines are asked for from `prefetch` on.
struct IntTileJob {
  const uint8_t* weights;
  const uint8_t* activations;
  int64_t records;  // a chunk begins at a multiple of eight of them
  float* c;
  const uint8_t* prefetch;
  int64_t lines;
  bool first;
  uint32_t offset = 0;  // expanded: of the codes
};
using IntTileFn = void (*)(const IntTileJob& job);

struct BF16TileJob {
  const uint8_t* weights;  // [pairs][32][2]
  const uint16_t* activations;
  int64_t stride;      // between tokens, in numbers
  int64_t low_offset;  // wide: of a token's second row; 0: there is none
  int64_t pairs;
  float* c;
  const uint8_t* prefetch;  // `lines` for every eight pairs
  int64_t lines;
  bool first;
};
using BF16TileFn = void (*)(const BF16TileJob& job);

// c [m][32] (+)= columns of one panel of f16 or f32 times tokens.
struct FloatTileJob {
  const uint8_t* weights;  // [columns][32]
  const float* x;          // [m][columns]
  int64_t stride;          // between tokens
  int64_t columns;
  float* c;
  const uint8_t* prefetch;  // `lines` for every eight columns
  int64_t lines;
  bool first;
};
using FloatTileFn = void (*)(const FloatTileJob& job);

// Records made ready for many tiles (panels_expanded-inl.h): bytes and f32.
enum ExpandedKind : uint8_t { kExpandedOne, kExpandedPair, kExpandedMinimum };  // scales of a record
constexpr int64_t ExpandedBytes(ExpandedKind kind) {
  return 1024 + (kind == kExpandedOne ? 1 : 2) * kPanelRows * 4;
}

struct PanelKernels {
  // [format - kQ8_0][wide][m - 1]
  IntTileFn integer[kIntegerFormats][2][kIntTile];
  BF16TileFn bf16[kBF16Tile];
  FloatTileFn floats[2][kBF16Tile];  // f16, f32; null without fused multiply-adds
  // Where unpacking once for all tiles pays, else null: records -> expanded records, and their tiles
  // [kind][wide][m - 1].
  void (*expand[kIntegerFormats])(const uint8_t* chunk, int64_t records, uint8_t* expanded);
  ExpandedKind expanded_kind[kIntegerFormats];
  IntTileFn expanded[3][2][kIntTile];
  // [count] FP8 E4M3 -> bfloat16; exact.
  void (*widen_f8)(const uint8_t* codes, int64_t count, uint16_t* out);
};

const PanelKernels& PanelKernelsFor(Isa isa);

// Without integer dot products, pairs of products are summed in 16 bits. Codes of 8 bits would
// overflow them: those are multiplied as signed numbers, the sign of one factor moved to the other.
constexpr bool FitsPairSums(PanelFormat format) { return TraitsOf(format).offset_shift != 7; }
// Of the others, groups whose sums of pairs fit together: 2 * 127 * the largest code * groups <
// 2^15.
constexpr int GroupsBetweenSums(PanelFormat format) {
  const PanelTraits traits = TraitsOf(format);
  return traits.bits == CodeBits::k6                              ? 2
         : traits.bits == CodeBits::k5 || traits.table != nullptr ? 4
                                                                  : 8;
}

// A table's values with the offset, as unsigned codes.
template <PanelFormat F>
struct alignas(16) OffsetTable {
  uint8_t codes[16] = {};
  constexpr OffsetTable() {
    constexpr PanelTraits kT = TraitsOf(F);
    for (int i = 0; i < 16; ++i)
      codes[i] = static_cast<uint8_t>(kT.table[i] + (1 << kT.offset_shift));
  }
};

}  // namespace lode::kernels
