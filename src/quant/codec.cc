#include "quant/codec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/blocks.h"

namespace lode::quant {
namespace {

using tensor::DType;

constexpr int64_t kBlock = 16;       // elements under one NVFP4 scale
constexpr int64_t kSuper = 64;       // elements of GGUF's NVFP4 super-block
constexpr int64_t kSuperBytes = 36;  // 4 scales, 32 bytes of codes

float Load(const std::byte* source, int64_t index) {
  float value;
  std::memcpy(&value, source + index * 4, sizeof(value));
  return value;
}

// E4M3 by code. A NaN keeps its code's sign, so that the 256 values are 256 bit patterns.
const std::array<float, 256>& Fp8Values() {
  static const std::array<float, 256> values = [] {
    std::array<std::byte, 256> codes;
    for (size_t i = 0; i < 256; ++i) codes[i] = static_cast<std::byte>(i);
    std::array<float, 256> decoded;
    tensor::DecodeBlocks(DType::kF8E4M3, codes.data(), 256, decoded.data());
    for (size_t i = 0; i < 256; ++i) {
      if (std::isnan(decoded[i])) decoded[i] = std::bit_cast<float>(i < 128 ? 0x7FC00000u : 0xFFC00000u);
    }
    return decoded;
  }();
  return values;
}

// An FP4 code times a block scale, by scale and code.
const std::array<std::array<float, 16>, 256>& Nvfp4Values() {
  static const auto values = [] {
    std::array<std::array<float, 16>, 256> table;
    std::array<uint8_t, 8> packed;  // codes 0 1, 2 3, ..
    for (uint8_t j = 0; j < 8; ++j) packed[j] = static_cast<uint8_t>(2 * j | (2 * j + 1) << 4);
    for (size_t scale = 0; scale < 256; ++scale) {
      const auto code = static_cast<uint8_t>(scale);
      tensor::DecodeNvfp4ModelOpt(packed.data(), &code, 16, table[scale].data());
    }
    return table;
  }();
  return values;
}

uint8_t NibbleAt(const std::byte* packed, int64_t element) {
  const auto byte = static_cast<uint8_t>(packed[element / 2]);
  return element % 2 == 0 ? byte & 15 : byte >> 4;
}

// One row of ModelOpt's NVFP4 (neighbours share a byte) into GGUF's super-blocks (element j shares one
// with j + 8), and back.
void PackSuperBlocks(const std::byte* packed, const uint8_t* scales, int64_t cols, std::byte* out) {
  for (int64_t at = 0; at < cols; at += kSuper, out += kSuperBytes) {
    for (int64_t s = 0; s < 4; ++s) {
      out[s] = static_cast<std::byte>(scales[at / kBlock + s]);
      for (int64_t j = 0; j < 8; ++j) {
        const int64_t element = at + s * kBlock + j;
        out[4 + s * 8 + j] = static_cast<std::byte>(NibbleAt(packed, element) |
                                                    NibbleAt(packed, element + 8) << 4);
      }
    }
  }
}

void UnpackSuperBlocks(const std::byte* stored, int64_t cols, std::byte* packed) {
  for (int64_t at = 0; at < cols; at += kSuper, stored += kSuperBytes) {
    for (int64_t s = 0; s < 4; ++s) {
      const std::byte* codes = stored + 4 + s * 8;
      const auto nibble = [&](int64_t j) {
        const auto byte = static_cast<uint8_t>(codes[j % 8]);
        return j < 8 ? byte & 15 : byte >> 4;
      };
      for (int64_t j = 0; j < 8; ++j) {
        packed[(at + s * kBlock) / 2 + j] =
            static_cast<std::byte>(nibble(2 * j) | nibble(2 * j + 1) << 4);
      }
    }
  }
}

uint32_t StoredBits(DType dtype, const std::byte* stored, int64_t index) {
  if (dtype == DType::kF32) return std::bit_cast<uint32_t>(Load(stored, index));
  uint16_t half;
  std::memcpy(&half, stored + index * 2, sizeof(half));
  return static_cast<uint32_t>(half) << 16;
}

// Bits of a float -> FP8 code, for one scale.
class Fp8Codes {
 public:
  explicit Fp8Codes(float scale) {
    for (size_t code = 0; code < 256; ++code) {
      table_[code] = {std::bit_cast<uint32_t>(Fp8Values()[code] * scale), static_cast<uint8_t>(code)};
    }
    std::sort(table_.begin(), table_.end());
  }
  bool distinct() const {
    return std::adjacent_find(table_.begin(), table_.end(), [](const auto& a, const auto& b) {
             return a.first == b.first;
           }) == table_.end();
  }
  bool Find(uint32_t bits, std::byte* code) const {
    const auto found = std::lower_bound(table_.begin(), table_.end(), std::pair{bits, uint8_t{0}});
    if (found == table_.end() || found->first != bits) return false;
    *code = static_cast<std::byte>(found->second);
    return true;
  }

 private:
  std::array<std::pair<uint32_t, uint8_t>, 256> table_;
};

float RowScale(const PartData& part, int64_t row) {
  return part.coding == Coding::kFp8Rows ? Load(part.row_scales, row) : part.scale;
}

}  // namespace

int64_t PartData::row_bytes() const {
  switch (coding) {
    case Coding::kPlain:
      return cols * tensor::Info(dtype).block_bytes;
    case Coding::kFp8:
    case Coding::kFp8Rows:
      return cols;
    case Coding::kNvfp4:
      return cols / 2;
  }
  LODE_CHECK(false);
}

void DecodeRows(const PartData& part, int64_t row, int64_t count, bool inside, float* out) {
  const std::byte* source = part.weight + row * part.row_bytes();
  switch (part.coding) {
    case Coding::kPlain:
      tensor::DecodeBlocks(part.dtype, source, count * part.cols, out);
      return;
    case Coding::kFp8:
    case Coding::kFp8Rows:
      for (int64_t r = 0; r < count; ++r) {
        const float scale = inside ? RowScale(part, row + r) : 1.0f;
        for (int64_t c = 0; c < part.cols; ++c, ++source, ++out) {
          const float value = Fp8Values()[static_cast<uint8_t>(*source)];
          *out = inside ? value * scale : value;
        }
      }
      return;
    case Coding::kNvfp4: {
      const int64_t elements = count * part.cols;
      tensor::DecodeNvfp4ModelOpt(reinterpret_cast<const uint8_t*>(source),
                                  part.block_scales + row * part.cols / kBlock, elements, out);
      if (inside) {
        for (int64_t i = 0; i < elements; ++i) out[i] *= part.scale;
      }
      return;
    }
  }
}

void StoreRows(const PartData& part, int64_t row, int64_t count, DType dtype, bool inside,
               float* scratch, std::byte* out) {
  if (part.coding == Coding::kPlain && part.dtype == dtype) {
    std::memcpy(out, part.weight + row * part.row_bytes(),
                static_cast<size_t>(count * part.row_bytes()));
    return;
  }
  if (part.coding == Coding::kNvfp4 && dtype == DType::kNVFP4) {
    const int64_t row_bytes = part.cols / kSuper * kSuperBytes;
    for (int64_t r = row; r < row + count; ++r, out += row_bytes) {
      PackSuperBlocks(part.weight + r * part.row_bytes(),
                      part.block_scales + r * part.cols / kBlock, part.cols, out);
    }
    return;
  }
  DecodeRows(part, row, count, inside, scratch);
  const int64_t elements = count * part.cols;
  if (dtype == DType::kF32) {
    std::memcpy(out, scratch, static_cast<size_t>(elements) * sizeof(float));
  } else if (dtype == DType::kBF16 && part.coding != Coding::kPlain && !inside) {
    // Exact, so the upper half is all there is; unlike a rounding it keeps a NaN's sign.
    for (int64_t i = 0; i < elements; ++i) {
      const auto half = static_cast<uint16_t>(std::bit_cast<uint32_t>(scratch[i]) >> 16);
      std::memcpy(out + i * 2, &half, sizeof(half));
    }
  } else {
    tensor::EncodeBlocks(dtype, scratch, elements, out);
  }
}

bool RecoverRows(const PartData& part, int64_t row, int64_t count, DType dtype, bool inside,
                 const std::byte* stored, std::byte* out) {
  const int64_t elements = count * part.cols;
  switch (part.coding) {
    case Coding::kPlain: {
      if (part.dtype == dtype) {
        std::memcpy(out, stored, static_cast<size_t>(elements * tensor::Info(dtype).block_bytes));
        return true;
      }
      if (dtype != DType::kF32) return false;
      std::vector<float> values(static_cast<size_t>(elements));
      std::memcpy(values.data(), stored, values.size() * sizeof(float));
      if (part.dtype == DType::kBF16) {  // exact, and a NaN stays as it is
        for (size_t i = 0; i < values.size(); ++i) {
          const auto bits = std::bit_cast<uint32_t>(values[i]);
          const auto half = static_cast<uint16_t>(bits >> 16);
          if ((bits & 0xFFFF) != 0) return false;
          std::memcpy(out + i * 2, &half, sizeof(half));
        }
        return true;
      }
      tensor::EncodeBlocks(part.dtype, values.data(), elements, out);
      return true;
    }
    case Coding::kFp8:
    case Coding::kFp8Rows: {
      if (dtype != DType::kF32 && dtype != DType::kBF16) return false;
      Fp8Codes codes(inside ? RowScale(part, row) : 1.0f);
      for (int64_t r = 0; r < count; ++r) {
        if (inside && r > 0 && part.coding == Coding::kFp8Rows) {
          codes = Fp8Codes(RowScale(part, row + r));
        }
        for (int64_t i = r * part.cols; i < (r + 1) * part.cols; ++i) {
          if (!codes.Find(StoredBits(dtype, stored, i), out + i)) return false;
        }
      }
      return true;
    }
    case Coding::kNvfp4: {
      if (dtype == DType::kNVFP4) {
        const int64_t row_bytes = part.cols / kSuper * kSuperBytes;
        for (int64_t r = 0; r < count; ++r) {
          UnpackSuperBlocks(stored + r * row_bytes, part.cols, out + r * part.row_bytes());
        }
        return true;
      }
      if ((dtype != DType::kF32 && dtype != DType::kBF16) || part.block_scales == nullptr) {
        return false;
      }
      std::fill(out, out + elements / 2, std::byte{0});
      for (int64_t i = 0; i < elements; ++i) {
        const auto& values = Nvfp4Values()[part.block_scales[(row * part.cols + i) / kBlock]];
        const uint32_t bits = StoredBits(dtype, stored, i);
        unsigned code = 0;
        while (code < 16 &&
               std::bit_cast<uint32_t>(inside ? values[code] * part.scale : values[code]) != bits) {
          ++code;
        }
        if (code == 16) return false;
        out[i / 2] |= static_cast<std::byte>(code << (i % 2 == 0 ? 0 : 4));
      }
      return true;
    }
  }
  return false;
}

bool Recoverable(const PartData& part, bool inside) {
  switch (part.coding) {
    case Coding::kPlain:
      return true;
    case Coding::kFp8:
      return !inside || Fp8Codes(part.scale).distinct();
    case Coding::kFp8Rows:
      for (int64_t r = 0; r < part.rows; ++r) {
        if (inside && !Fp8Codes(RowScale(part, r)).distinct()) return false;
      }
      return true;
    case Coding::kNvfp4: {
      std::array<bool, 256> used{};
      const int64_t scales = part.rows * part.cols / kBlock;
      for (int64_t i = 0; i < scales; ++i) used[part.block_scales[i]] = true;
      for (size_t scale = 0; scale < 256; ++scale) {
        if (!used[scale]) continue;
        std::array<uint32_t, 16> bits;
        for (size_t code = 0; code < 16; ++code) {
          const float value = Nvfp4Values()[scale][code];
          if (std::isnan(value)) return false;
          bits[code] = std::bit_cast<uint32_t>(inside ? value * part.scale : value);
        }
        std::sort(bits.begin(), bits.end());
        if (std::adjacent_find(bits.begin(), bits.end()) != bits.end()) return false;
      }
      return true;
    }
  }
  return false;
}

bool FitsUe4m3(std::span<const std::byte> scales) {
  return std::all_of(scales.begin(), scales.end(),
                     [](std::byte scale) { return static_cast<uint8_t>(scale) < 0x7F; });
}

void Nvfp4Scales(const std::byte* stored, int64_t cols, uint8_t* scales) {
  for (int64_t at = 0; at < cols; at += kSuper, stored += kSuperBytes, scales += 4) {
    std::memcpy(scales, stored, 4);
  }
}

void TransformToGguf(model::Transform transform, std::span<float> values) {
  if (transform != model::Transform::kNegativeExp) return;
  for (float& x : values) x = static_cast<float>(-std::exp(static_cast<double>(x)));
}

void TransformToHuggingFace(model::Transform transform, std::span<float> values) {
  if (transform != model::Transform::kNegativeExp) return;
  for (float& x : values) x = static_cast<float>(std::log(-static_cast<double>(x)));
}

}  // namespace lode::quant
