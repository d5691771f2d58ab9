#include "kernels/panel.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "kernels/isa.h"
#include "tensor/scalar.h"

namespace lode::kernels {

// Whole panels of whole columns; false where there is no fast form. cpu/panel_pack_*.cc
bool PackWholePanelAvx2(const Weight& w, PanelFormat format, int64_t panel, int64_t first,
                        int64_t count, uint8_t* out);
bool PackWholePanelNeon(const Weight& w, PanelFormat format, int64_t panel, int64_t first,
                        int64_t count, uint8_t* out);

namespace {

using tensor::DType;

uint16_t Half(const uint8_t* p) { return tensor::LoadUnaligned<uint16_t>(p); }

// 16 bytes of nibbles: elements 0-15 are the low halves, 16-31 the high ones.
void SplitNibbles(const uint8_t* bytes, uint8_t* codes) {
  for (int j = 0; j < 16; ++j) {
    codes[j] = bytes[j] & 15;
    codes[j + 16] = bytes[j] >> 4;
  }
}

void AddFifthBits(uint32_t bits, uint8_t* codes) {
  for (int j = 0; j < 32; ++j) codes[j] |= static_cast<uint8_t>(((bits >> j) & 1) << 4);
}

// The eight 6-bit scales and minima of Q4_K and Q5_K, packed in 12 bytes.
void ScaleAndMin(const uint8_t* packed, int64_t j, uint8_t* pair) {
  if (j < 4) {
    pair[0] = packed[j] & 63;
    pair[1] = packed[j + 4] & 63;
  } else {
    pair[0] = static_cast<uint8_t>((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4));
    pair[1] = static_cast<uint8_t>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4));
  }
}

void LoadSuperBlock(PanelFormat format, const uint8_t* row, int64_t block, RowBlock* out) {
  const int64_t j = block % kSuperRecords;
  const int64_t super = block / kSuperRecords;
  switch (format) {
    case PanelFormat::kQ4K:
    case PanelFormat::kQ5K: {
      const bool five = format == PanelFormat::kQ5K;
      const uint8_t* p = row + super * (five ? 176 : 144);
      out->d = Half(p);
      out->dmin = Half(p + 2);
      ScaleAndMin(p + 4, j, out->scales);
      const uint8_t* q = p + (five ? 48 : 16) + 32 * (j / 2);
      const int shift = 4 * static_cast<int>(j & 1);
      for (int l = 0; l < 32; ++l) out->codes[l] = (q[l] >> shift) & 15;
      if (!five) return;
      for (int l = 0; l < 32; ++l) {
        out->codes[l] |= static_cast<uint8_t>(((p[16 + l] >> j) & 1) << 4);
      }
      return;
    }
    case PanelFormat::kQ6K: {
      const uint8_t* p = row + super * 210;
      const int64_t half = j / 4, k = j % 4;
      const uint8_t* low = p + 64 * half + 32 * (k & 1);
      const uint8_t* high = p + 128 + 32 * half;
      const int shift = 4 * static_cast<int>(k >> 1);
      for (int l = 0; l < 32; ++l) {
        out->codes[l] =
            static_cast<uint8_t>(((low[l] >> shift) & 15) | (((high[l] >> (2 * k)) & 3) << 4));
      }
      out->scales[0] = p[192 + 8 * half + 2 * k];
      out->scales[1] = p[193 + 8 * half + 2 * k];
      out->d = Half(p + 208);
      return;
    }
    default: {  // IQ4_XS
      const uint8_t* p = row + super * 136;
      const int low = (p[4 + j / 2] >> (4 * (j & 1))) & 15;
      const int high = (Half(p + 2) >> (2 * j)) & 3;
      out->d = Half(p);
      out->scales[0] = static_cast<uint8_t>((low | high << 4) - 32);
      SplitNibbles(p + 8 + 16 * j, out->codes);
    }
  }
}

// Two groups of 16 FP4 codes with a scale each, of either layout; the second is absent at an odd
// end.
void LoadNvfp4(const Weight& w, int64_t row, int64_t block, RowBlock* out) {
  const auto* data = reinterpret_cast<const uint8_t*>(w.data) + row * w.row_bytes;
  for (int half = 0; half < 2; ++half) {
    const int64_t sixteen = 2 * block + half;
    if (sixteen * 16 >= w.cols) break;
    uint8_t* codes = out->codes + 16 * half;
    if (w.block_scales != nullptr) {
      const uint8_t* bytes = data + sixteen * 8;
      for (int i = 0; i < 8; ++i) {
        codes[2 * i] = bytes[i] & 15;
        codes[2 * i + 1] = bytes[i] >> 4;
      }
      out->scales[half] = w.block_scales[row * (w.cols / 16) + sixteen];
    } else {
      const uint8_t* p = data + sixteen / 4 * 36;
      const uint8_t* bytes = p + 4 + sixteen % 4 * 8;
      for (int i = 0; i < 8; ++i) {
        codes[i] = bytes[i] & 15;
        codes[i + 8] = bytes[i] >> 4;
      }
      // Unsigned here: the sign bit means nothing, and 0x7F is zero.
      const uint8_t scale = p[sixteen % 4] & 0x7F;
      out->scales[half] = scale == 0x7F ? 0 : scale;
    }
  }
}

// [rows of 32 codes] -> [8 groups][32 rows][4]
void TurnCodes(const uint8_t (*codes)[32], uint8_t* out) {
  for (int group = 0; group < 8; ++group) {
    for (int row = 0; row < 32; ++row) {
      std::memcpy(out + (group * 32 + row) * 4, codes[row] + group * 4, 4);
    }
  }
}

// Low four bits of the turned codes, rows 0-15 in the low halves.
void StoreNibbles(const uint8_t* turned, uint8_t* out) {
  for (int group = 0; group < 8; ++group) {
    const uint8_t* from = turned + group * 128;
    for (int i = 0; i < 64; ++i) {
      out[group * 64 + i] = static_cast<uint8_t>((from[i] & 15) | (from[i + 64] << 4));
    }
  }
}

void StoreFifthBits(const uint8_t* turned, uint8_t* out) {
  for (int byte = 0; byte < 128; ++byte) {
    uint8_t bits = 0;
    for (int i = 0; i < 8; ++i)
      bits |= static_cast<uint8_t>(((turned[8 * byte + i] >> 4) & 1) << i);
    out[byte] = bits;
  }
}

// Bits 4 and 5: of a pair of groups, (even, rows 0-15) in bits 0-1, (even, 16-31) in 2-3, then odd.
void StoreSixthBits(const uint8_t* turned, uint8_t* out) {
  for (int pair = 0; pair < 4; ++pair) {
    const uint8_t* from = turned + pair * 256;
    for (int i = 0; i < 64; ++i) {
      out[pair * 64 + i] =
          static_cast<uint8_t>((from[i] >> 4) | ((from[i + 64] >> 4) << 2) |
                               ((from[i + 128] >> 4) << 4) | ((from[i + 192] >> 4) << 6));
    }
  }
}

void StoreHalf(uint16_t half, uint8_t* at) { std::memcpy(at, &half, 2); }

// The scales of 32 rows; `header` is in front of the record when it is the first of eight.
void StoreScales(ScaleKind kind, const RowBlock* rows, uint8_t* header, uint8_t* out) {
  for (int r = 0; r < 32; ++r) {
    const RowBlock& b = rows[r];
    switch (kind) {
      case ScaleKind::kF16Min:
        StoreHalf(b.dmin, out + 64 + 2 * r);
        [[fallthrough]];
      case ScaleKind::kF16:
        StoreHalf(b.d, out + 2 * r);
        break;
      case ScaleKind::kE8M0:
        out[r] = b.scales[0];
        break;
      case ScaleKind::kSuperMin:
      case ScaleKind::kSuperPair:
      case ScaleKind::kUE4M3Pair:
        out[32 + r] = b.scales[1];
        [[fallthrough]];
      case ScaleKind::kSuper:
        out[r] = b.scales[0];
        break;
    }
    if (header == nullptr) continue;
    StoreHalf(b.d, header + 2 * r);
    if (kind == ScaleKind::kSuperMin) StoreHalf(b.dmin, header + 64 + 2 * r);
  }
}

// [columns][32 rows]
void PackFloats(const Weight& w, PanelFormat format, int64_t panel, int64_t first, int64_t count,
                uint8_t* out) {
  const int64_t each = format == PanelFormat::kF16 ? 2 : 4;
  const int64_t begin = first * kRecordCols;
  const int64_t rows = std::min(kPanelRows, w.rows - panel * kPanelRows);
  const int64_t real = std::min(count * kRecordCols, w.cols - begin);
  std::memset(out, 0, static_cast<size_t>(count * kRecordCols * kPanelRows * each));
  for (int64_t k = 0; k < real; k += 16) {  // a cache line of rows at a time
    for (int64_t r = 0; r < rows; ++r) {
      const auto* row = reinterpret_cast<const uint8_t*>(w.data) +
                        (panel * kPanelRows + r) * w.row_bytes + (begin + k) * each;
      for (int64_t i = 0; i < std::min<int64_t>(16, real - k); ++i) {
        std::memcpy(out + ((k + i) * kPanelRows + r) * each, row + i * each,
                    static_cast<size_t>(each));
      }
    }
  }
}

void PackPlain(const Weight& w, PanelFormat format, int64_t panel, int64_t first, int64_t count,
               uint8_t* out) {
  if (TakesFloats(format)) return PackFloats(w, format, panel, first, count, out);
  const int64_t each = format == PanelFormat::kBF16 ? 2 : 1;
  const int64_t begin = first * kRecordCols;
  const int64_t cols = count * kRecordCols;
  std::memset(out, 0, static_cast<size_t>(cols * kPanelRows * each));
  const int64_t rows = std::min(kPanelRows, w.rows - panel * kPanelRows);
  const int64_t real = std::min(cols, w.cols - begin);
  for (int64_t r = 0; r < rows; ++r) {
    const auto* row = reinterpret_cast<const uint8_t*>(w.data) +
                      (panel * kPanelRows + r) * w.row_bytes + begin * each;
    int64_t k = 0;
    if (each == 2) {
      for (; k + 2 <= real; k += 2) std::memcpy(out + (k / 2 * kPanelRows + r) * 4, row + k * 2, 4);
    } else {
      for (; k + 2 <= real; k += 2) std::memcpy(out + (k / 2 * kPanelRows + r) * 2, row + k, 2);
    }
    if (k < real) {
      std::memcpy(out + (k / 2 * kPanelRows + r) * 2 * each, row + k * each,
                  static_cast<size_t>(each));
    }
  }
}

}  // namespace

namespace {

// The code (with its offset) of row r, column i of a record.
int CodeAt(PanelFormat format, const uint8_t* record, int64_t r, int i) {
  const PanelTraits traits = TraitsOf(format);
  const int64_t group = i / 4;
  const int64_t byte = r * 4 + i % 4;  // of the group's 128
  if (traits.bits == CodeBits::k8) return record[group * 128 + byte];
  const uint8_t both = record[group * 64 + (byte & 63)];
  int code = byte >= 64 ? both >> 4 : both & 15;
  if (traits.bits == CodeBits::k5) {
    code |= (record[512 + group * 16 + byte / 8] >> (byte % 8) & 1) << 4;
  }
  if (traits.bits == CodeBits::k6) {
    const int64_t from = (group % 2 != 0 ? 4 : 0) + (byte >= 64 ? 2 : 0);
    code |= (record[512 + group / 2 * 64 + (byte & 63)] >> from & 3) << 4;
  }
  return code;
}

// 32 numbers of row r of a record; `header` as in the panel. Operation by operation what
// tensor::DecodeBlocks does.
void UnpackRecord(PanelFormat format, const uint8_t* record, const uint8_t* header, int64_t r,
                  float* out) {
  const PanelTraits traits = TraitsOf(format);
  const uint8_t* scales = record + CodeBytes(traits.bits);
  const auto half = [](const uint8_t* p) { return tensor::F16ToFloat(Half(p)); };
  float d[2] = {0.0f, 0.0f};
  float minimum = 0.0f;
  switch (traits.scales) {
    case ScaleKind::kF16Min:
      minimum = half(scales + 64 + 2 * r);
      [[fallthrough]];
    case ScaleKind::kF16:
      d[0] = d[1] = half(scales + 2 * r);
      break;
    case ScaleKind::kE8M0: {
      const uint32_t code = scales[r];
      d[0] = d[1] = std::bit_cast<float>(code < 2 ? 0x00200000u << code : (code - 1) << 23);
      break;
    }
    case ScaleKind::kUE4M3Pair:
      for (int i = 0; i < 2; ++i) d[i] = tensor::E4M3ToFloat(scales[32 * i + r]) * 0.5f;
      break;
    case ScaleKind::kSuperMin:
      d[0] = d[1] = half(header + 2 * r) * static_cast<float>(scales[r]);
      minimum = -(half(header + 64 + 2 * r) * static_cast<float>(scales[32 + r]));
      break;
    case ScaleKind::kSuperPair:
    case ScaleKind::kSuper:
      for (int i = 0; i < 2; ++i) {
        const int at = traits.scales == ScaleKind::kSuper ? 0 : 32 * i;
        d[i] = half(header + 2 * r) * static_cast<float>(static_cast<int8_t>(scales[at + r]));
      }
      break;
  }
  const bool has_minimum =
      traits.scales == ScaleKind::kF16Min || traits.scales == ScaleKind::kSuperMin;
  for (int i = 0; i < 32; ++i) {
    const int code = CodeAt(format, record, r, i);
    const int value = traits.table != nullptr    ? traits.table[code]
                      : traits.offset_shift >= 0 ? code - (1 << traits.offset_shift)
                                                 : code;
    const float product = d[i / 16] * static_cast<float>(value);
    out[i] = has_minimum ? product + minimum : product;
  }
}

}  // namespace

void UnpackColumns(const Weight& weight, int64_t row, int64_t begin, int64_t count, float* out) {
  const PanelFormat format = PanelFormatOf(weight);
  const int64_t r = row % kPanelRows;
  const auto* panel = reinterpret_cast<const uint8_t*>(weight.packed) +
                      row / kPanelRows * RecordsBytes(format, RecordsOf(weight.cols));
  for (int64_t k = begin; k < begin + count; k += kRecordCols) {
    const int64_t b = k / kRecordCols;
    const uint8_t* group = panel + RecordsBytes(format, b / kSuperRecords * kSuperRecords);
    float values[kRecordCols];
    if (IsInteger(format)) {
      const int64_t header = HeaderBytes(TraitsOf(format).scales);
      UnpackRecord(format, group + header + b % kSuperRecords * RecordBytes(format), group, r,
                   values);
    } else if (TakesFloats(format)) {
      const uint8_t* record = panel + RecordsBytes(format, b);
      for (int64_t i = 0; i < kRecordCols; ++i) {
        const int64_t at = i * kPanelRows + r;
        values[i] = format == PanelFormat::kF16
                        ? tensor::F16ToFloat(Half(record + 2 * at))
                        : tensor::LoadUnaligned<float>(record + 4 * at);
      }
    } else {
      const uint8_t* record = panel + RecordsBytes(format, b);
      for (int64_t i = 0; i < kRecordCols; ++i) {
        const int64_t at = i / 2 * 2 * kPanelRows + r * 2 + i % 2;
        values[i] = format == PanelFormat::kBF16 ? tensor::Bf16ToFloat(Half(record + 2 * at))
                                                 : tensor::E4M3ToFloat(record[at]);
      }
    }
    std::copy_n(values, std::min(kRecordCols, begin + count - k), out + (k - begin));
  }
}

PanelFormat PanelFormatOf(const Weight& weight) {
  if (weight.block_scales != nullptr) return PanelFormat::kNVFP4;
  switch (weight.dtype) {
    case DType::kBF16:
      return PanelFormat::kBF16;
    case DType::kF8E4M3:
      return PanelFormat::kF8;
    case DType::kF16:
      return PanelFormat::kF16;
    case DType::kF32:
      return PanelFormat::kF32;
    case DType::kQ8_0:
      return PanelFormat::kQ8_0;
    case DType::kQ4_0:
      return PanelFormat::kQ4_0;
    case DType::kQ4_1:
      return PanelFormat::kQ4_1;
    case DType::kQ5_0:
      return PanelFormat::kQ5_0;
    case DType::kQ5_1:
      return PanelFormat::kQ5_1;
    case DType::kIQ4NL:
      return PanelFormat::kIQ4NL;
    case DType::kIQ4XS:
      return PanelFormat::kIQ4XS;
    case DType::kMXFP4:
      return PanelFormat::kMXFP4;
    case DType::kNVFP4:
      return PanelFormat::kNVFP4;
    case DType::kQ4K:
      return PanelFormat::kQ4K;
    case DType::kQ5K:
      return PanelFormat::kQ5K;
    case DType::kQ6K:
      return PanelFormat::kQ6K;
    default:
      return PanelFormat::kNone;
  }
}

int64_t PackedBytes(const Weight& weight) {
  const PanelFormat format = PanelFormatOf(weight);
  LODE_CHECK(format != PanelFormat::kNone);
  return PanelsOf(weight.rows) * RecordsBytes(format, RecordsOf(weight.cols));
}

void LoadRowBlock(const Weight& weight, PanelFormat format, int64_t row, int64_t block,
                  RowBlock* out) {
  *out = RowBlock();
  const auto* data = reinterpret_cast<const uint8_t*>(weight.data) + row * weight.row_bytes;
  const tensor::DTypeInfo& info = tensor::Info(weight.dtype);
  const uint8_t* p = data + block * info.block_bytes;  // of the types with blocks of 32
  switch (format) {
    case PanelFormat::kQ8_0:
      out->d = Half(p);
      for (int j = 0; j < 32; ++j) out->codes[j] = p[2 + j] ^ 0x80;
      return;
    case PanelFormat::kQ4_0:
    case PanelFormat::kIQ4NL:
      out->d = Half(p);
      SplitNibbles(p + 2, out->codes);
      return;
    case PanelFormat::kQ4_1:
      out->d = Half(p);
      out->dmin = Half(p + 2);
      SplitNibbles(p + 4, out->codes);
      return;
    case PanelFormat::kQ5_0:
      out->d = Half(p);
      SplitNibbles(p + 6, out->codes);
      AddFifthBits(tensor::LoadUnaligned<uint32_t>(p + 2), out->codes);
      return;
    case PanelFormat::kQ5_1:
      out->d = Half(p);
      out->dmin = Half(p + 2);
      SplitNibbles(p + 8, out->codes);
      AddFifthBits(tensor::LoadUnaligned<uint32_t>(p + 4), out->codes);
      return;
    case PanelFormat::kMXFP4:
      out->scales[0] = p[0];
      SplitNibbles(p + 1, out->codes);
      return;
    case PanelFormat::kNVFP4:
      LoadNvfp4(weight, row, block, out);
      return;
    case PanelFormat::kQ4K:
    case PanelFormat::kQ5K:
    case PanelFormat::kQ6K:
    case PanelFormat::kIQ4XS:
      LoadSuperBlock(format, data, block, out);
      return;
    default:
      LODE_CHECK(false);
  }
}

void PackRecords(const Weight& weight, PanelFormat format, int64_t panel, int64_t first,
                 int64_t count, std::byte* target) {
  auto* out = reinterpret_cast<uint8_t*>(target);
  const bool whole =
      (panel + 1) * kPanelRows <= weight.rows && (first + count) * kRecordCols <= weight.cols;
  if (whole && ActiveIsa() != Isa::kPortable) {  // what is odd at the edges goes the plain way
#if defined(__x86_64__)
    if (PackWholePanelAvx2(weight, format, panel, first, count, out)) return;
#elif defined(__aarch64__)
    if (PackWholePanelNeon(weight, format, panel, first, count, out)) return;
#endif
  }
  if (!IsInteger(format)) {
    PackPlain(weight, format, panel, first, count, out);
    return;
  }
  const PanelTraits traits = TraitsOf(format);
  const int64_t rows = std::min(kPanelRows, weight.rows - panel * kPanelRows);
  RowBlock blocks[32];
  uint8_t codes[32][32];
  uint8_t turned[1024];
  for (int64_t b = first; b < first + count; ++b) {
    for (int64_t r = 0; r < kPanelRows; ++r) {
      if (r < rows) {
        LoadRowBlock(weight, format, panel * kPanelRows + r, b, &blocks[r]);
      } else {
        blocks[r] = RowBlock();
      }
      std::memcpy(codes[r], blocks[r].codes, 32);
    }
    uint8_t* header = nullptr;
    if (HeaderBytes(traits.scales) > 0 && b % kSuperRecords == 0) {
      header = out;
      out += HeaderBytes(traits.scales);
    }
    TurnCodes(codes, turned);
    if (traits.bits == CodeBits::k8) {
      std::memcpy(out, turned, sizeof(turned));
    } else {
      StoreNibbles(turned, out);
      if (traits.bits == CodeBits::k5) StoreFifthBits(turned, out + 512);
      if (traits.bits == CodeBits::k6) StoreSixthBits(turned, out + 512);
    }
    StoreScales(traits.scales, blocks, header, out + CodeBytes(traits.bits));
    out += RecordBytes(format);
  }
}

}  // namespace lode::kernels
