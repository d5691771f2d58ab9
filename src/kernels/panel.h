// The packed form of a weight, "panel32": 32 rows side by side, so that a vector holds one column
// of many rows and no sum crosses lanes. A panel is a row of records, one per 32 columns; a record
// holds the codes, 4 columns of a row together (what an integer dot product eats), then the scales.
//
//   codes   8 bit: [8 groups][32 rows][4 columns]; 4 bit: [8][16 rows][4], low half rows 0-15, high
//           half rows 16-31; a fifth bit: [8][128 bits]; two more bits: [4 pairs of groups][64
//           bytes]
//   scales  by type, [32 rows] each; those that a file keeps once for 256 columns stand in a header
//           in front of every eighth record
//   bf16    [pairs of columns][32 rows][2]; fp8 the same in bytes
//   f16, f32  [columns][32 rows]: multiplied in f32, in the order of Precision::kF32
//
// Codes are unsigned, with an offset that is a power of two (or none): integer dot products want
// one unsigned operand, and the offset leaves exactly (ops.h). Rows are padded to 32 with zero
// weights.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/weight.h"
#include "tensor/scalar.h"

namespace lode::kernels {

constexpr int64_t kPanelRows = 32;
constexpr int64_t kRecordCols = 32;
constexpr int64_t kSuperRecords = 8;  // records that share a header, in types with one

enum class PanelFormat : uint8_t {
  kNone,  // stays as it lies; the plain decoding kernel
  kBF16,
  kF8,
  kF16,
  kF32,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kIQ4NL,
  kMXFP4,
  kNVFP4,
  kQ4K,
  kQ5K,
  kQ6K,
  kIQ4XS,
};
constexpr int kPanelFormats = 17;   // kNone among them
constexpr int kIntegerFormats = 12;  // from kQ8_0 on

enum class CodeBits : uint8_t { k4, k5, k6, k8 };
enum class ScaleKind : uint8_t {
  kF16,        // f16 per 32
  kF16Min,     // and an f16 minimum, added
  kE8M0,       // power of two per 32, of FP4 codes that are doubled
  kUE4M3Pair,  // two unsigned E4M3, one per 16, of FP4 codes that are doubled
  kSuperMin,   // header f16 d, dmin; u8 scale and minimum per 32: d*s, minus dmin*m
  kSuperPair,  // header f16 d; i8 scales, one per 16
  kSuper,      // header f16 d; i8 scale per 32
};

struct PanelTraits {
  CodeBits bits;
  ScaleKind scales;
  int offset_shift;     // codes are value + (1 << offset_shift); -1: value itself
  const int8_t* table;  // of a 4-bit code's value (doubled for FP4), nullptr: the code is the value
};

inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

constexpr PanelTraits TraitsOf(PanelFormat format) {
  switch (format) {
    case PanelFormat::kQ8_0:
      return {CodeBits::k8, ScaleKind::kF16, 7, nullptr};
    case PanelFormat::kQ4_0:
      return {CodeBits::k4, ScaleKind::kF16, 3, nullptr};
    case PanelFormat::kQ4_1:
      return {CodeBits::k4, ScaleKind::kF16Min, -1, nullptr};
    case PanelFormat::kQ5_0:
      return {CodeBits::k5, ScaleKind::kF16, 4, nullptr};
    case PanelFormat::kQ5_1:
      return {CodeBits::k5, ScaleKind::kF16Min, -1, nullptr};
    case PanelFormat::kIQ4NL:
      return {CodeBits::k4, ScaleKind::kF16, 7, kIq4Levels};
    case PanelFormat::kIQ4XS:
      return {CodeBits::k4, ScaleKind::kSuper, 7, kIq4Levels};
    case PanelFormat::kMXFP4:
      return {CodeBits::k4, ScaleKind::kE8M0, 4, tensor::kFp4Doubled.data()};
    case PanelFormat::kNVFP4:
      return {CodeBits::k4, ScaleKind::kUE4M3Pair, 4, tensor::kFp4Doubled.data()};
    case PanelFormat::kQ4K:
      return {CodeBits::k4, ScaleKind::kSuperMin, -1, nullptr};
    case PanelFormat::kQ5K:
      return {CodeBits::k5, ScaleKind::kSuperMin, -1, nullptr};
    case PanelFormat::kQ6K:
      return {CodeBits::k6, ScaleKind::kSuperPair, 5, nullptr};
    default:
      return {CodeBits::k8, ScaleKind::kF16, -1, nullptr};
  }
}

constexpr bool IsInteger(PanelFormat format) { return format >= PanelFormat::kQ8_0; }
// Inputs as they are, and the bits of the plain decoding kernel.
constexpr bool TakesFloats(PanelFormat format) {
  return format == PanelFormat::kF16 || format == PanelFormat::kF32;
}

constexpr int64_t CodeBytes(CodeBits bits) {
  return bits == CodeBits::k8   ? 1024
         : bits == CodeBits::k4 ? 512
         : bits == CodeBits::k5 ? 640
                                : 768;
}
constexpr int64_t ScaleBytes(ScaleKind kind) {
  return kind == ScaleKind::kF16Min                              ? 128
         : kind == ScaleKind::kE8M0 || kind == ScaleKind::kSuper ? 32
                                                                 : 64;
}
// In front of every eighth record.
constexpr int64_t HeaderBytes(ScaleKind kind) {
  return kind == ScaleKind::kSuperMin                                 ? 128
         : kind == ScaleKind::kSuper || kind == ScaleKind::kSuperPair ? 64
                                                                      : 0;
}
constexpr int64_t RecordBytes(PanelFormat format) {
  if (format == PanelFormat::kF32) return kPanelRows * kRecordCols * 4;
  if (format == PanelFormat::kBF16 || format == PanelFormat::kF16) {
    return kPanelRows * kRecordCols * 2;
  }
  if (format == PanelFormat::kF8) return kPanelRows * kRecordCols;
  const PanelTraits traits = TraitsOf(format);
  return CodeBytes(traits.bits) + ScaleBytes(traits.scales);
}

// Bytes of `records` records that begin at a multiple of eight, headers included.
constexpr int64_t RecordsBytes(PanelFormat format, int64_t records) {
  const int64_t header = IsInteger(format) ? HeaderBytes(TraitsOf(format).scales) : 0;
  return records * RecordBytes(format) + (records + kSuperRecords - 1) / kSuperRecords * header;
}

inline int64_t RecordsOf(int64_t cols) { return (cols + kRecordCols - 1) / kRecordCols; }
inline int64_t PanelsOf(int64_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

// The form that a weight of this type is packed to; kNone for types that have none.
PanelFormat PanelFormatOf(const Weight& weight);

// Bytes of the whole weight when packed; a multiple of 32.
int64_t PackedBytes(const Weight& weight);

// One block of 32 columns of a row in file order, as numbers: what the oracle multiplies, and what
// packing stores. value = scale[i / 16] * (code[i] - offset) + minimum (a table's codes stay
// codes).
struct RowBlock {
  uint8_t codes[32];
  uint16_t d, dmin;   // f16 bits, where the type has them
  uint8_t scales[2];  // bytes, where the type has them
};
// Integer formats only. Columns behind the row's end (a half block of NVFP4) have code and scale
// zero.
void LoadRowBlock(const Weight& weight, PanelFormat format, int64_t row, int64_t block,
                  RowBlock* out);

// Columns [begin, begin + count) of a row of a packed weight as f32, the same numbers that
// DecodeColumns gives for the plain one. `begin` is a multiple of 32.
void UnpackColumns(const Weight& weight, int64_t row, int64_t begin, int64_t count, float* out);

// Writes records [first, first + count) of a panel to `out`, RecordsBytes of them; `first` is a
// multiple of eight. Threads: any, on different parts.
void PackRecords(const Weight& weight, PanelFormat format, int64_t panel, int64_t first,
                 int64_t count, std::byte* out);

}  // namespace lode::kernels
