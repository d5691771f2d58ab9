#include "tensor/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/wider_copies.h"
#include "tensor/scalar.h"

namespace lode::tensor {
namespace {

// The non-linear 4-bit levels of IQ4_NL and IQ4_XS.
constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

float LoadF16(const uint8_t* source) { return F16ToFloat(LoadUnaligned<uint16_t>(source)); }

void StoreF16(float value, uint8_t* target) {
  const uint16_t half = FloatToF16(value);
  std::memcpy(target, &half, sizeof(half));
}

// 2^(code - 128): half of the OCP scale, for use with the doubled FP4 table. Code 255 is not special.
float HalfE8M0(uint8_t code) {
  const uint32_t bits = code < 2 ? 0x00200000u << code : static_cast<uint32_t>(code - 1) << 23;
  return std::bit_cast<float>(bits);
}

// --- decoders: one block each ---------------------------------------------------------------------

struct Q4_0 {
  static constexpr int kElements = 32, kBytes = 18;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const uint8_t* qs = block + 2;
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>((qs[j] & 15) - 8);
      y[j + 16] = d * static_cast<float>((qs[j] >> 4) - 8);
    }
  }
};

struct Q4_1 {
  static constexpr int kElements = 32, kBytes = 20;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const float m = LoadF16(block + 2);
    const uint8_t* qs = block + 4;
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(qs[j] & 15) + m;
      y[j + 16] = d * static_cast<float>(qs[j] >> 4) + m;
    }
  }
};

struct Q5_0 {
  static constexpr int kElements = 32, kBytes = 22;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const uint32_t high = LoadUnaligned<uint32_t>(block + 2);
    const uint8_t* qs = block + 6;
    for (int j = 0; j < 16; ++j) {
      const int low_half = (qs[j] & 15) | static_cast<int>(((high >> j) & 1) << 4);
      const int high_half = (qs[j] >> 4) | static_cast<int>(((high >> (j + 16)) & 1) << 4);
      y[j] = d * static_cast<float>(low_half - 16);
      y[j + 16] = d * static_cast<float>(high_half - 16);
    }
  }
};

struct Q5_1 {
  static constexpr int kElements = 32, kBytes = 24;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const float m = LoadF16(block + 2);
    const uint32_t high = LoadUnaligned<uint32_t>(block + 4);
    const uint8_t* qs = block + 8;
    for (int j = 0; j < 16; ++j) {
      const int low_half = (qs[j] & 15) | static_cast<int>(((high >> j) & 1) << 4);
      const int high_half = (qs[j] >> 4) | static_cast<int>(((high >> (j + 16)) & 1) << 4);
      y[j] = d * static_cast<float>(low_half) + m;
      y[j + 16] = d * static_cast<float>(high_half) + m;
    }
  }
};

struct Q8_0 {
  static constexpr int kElements = 32, kBytes = 34;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const int8_t* qs = reinterpret_cast<const int8_t*>(block + 2);
    for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(qs[j]) * d;
  }
};

// Q2_K and Q3_K keep the low two bits of 256 elements in 64 bytes the same way: two halves of 128;
// in half h, byte 32h + l holds elements 128h + 32k + l, k = 0..3, two bits each.
int LowTwoBits(const uint8_t* qs, int i) {
  return (qs[(i >> 7) * 32 + (i & 31)] >> (((i >> 5) & 3) * 2)) & 3;
}

struct Q2K {
  static constexpr int kElements = 256, kBytes = 84;
  static void Decode(const uint8_t* block, float* y) {
    const uint8_t* scales = block;
    const uint8_t* qs = block + 16;
    const float d = LoadF16(block + 80);
    const float dmin = LoadF16(block + 82);
    for (int s = 0; s < 16; ++s) {
      const float dl = d * static_cast<float>(scales[s] & 15);
      const float ml = dmin * static_cast<float>(scales[s] >> 4);
      for (int i = 16 * s; i < 16 * (s + 1); ++i) {
        y[i] = dl * static_cast<float>(LowTwoBits(qs, i)) - ml;
      }
    }
  }
};

struct Q3K {
  static constexpr int kElements = 256, kBytes = 110;
  static void Decode(const uint8_t* block, float* y) {
    const uint8_t* hmask = block;
    const uint8_t* qs = block + 32;
    const uint8_t* scales = block + 96;
    const float d = LoadF16(block + 108);
    for (int s = 0; s < 16; ++s) {
      const int low4 = s < 8 ? scales[s] & 15 : scales[s - 8] >> 4;
      const int high2 = (scales[8 + (s & 3)] >> (2 * (s >> 2))) & 3;
      const float dl = d * static_cast<float>((low4 | (high2 << 4)) - 32);
      for (int i = 16 * s; i < 16 * (s + 1); ++i) {
        const int bit = (hmask[i & 31] >> (i >> 5)) & 1;
        y[i] = dl * static_cast<float>(LowTwoBits(qs, i) - (bit ? 0 : 4));
      }
    }
  }
};

// The eight 6-bit scales and mins of Q4_K and Q5_K, packed in 12 bytes.
void UnpackScaleMin(const uint8_t* packed, int j, int* scale, int* min) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *min = packed[j + 4] & 63;
  } else {
    *scale = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4);
    *min = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
  }
}

struct Q4K {
  static constexpr int kElements = 256, kBytes = 144;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const float dmin = LoadF16(block + 2);
    const uint8_t* qs = block + 16;
    for (int j = 0; j < 8; ++j) {
      int scale, min;
      UnpackScaleMin(block + 4, j, &scale, &min);
      const float dl = d * static_cast<float>(scale);
      const float ml = dmin * static_cast<float>(min);
      const uint8_t* q = qs + 32 * (j / 2);
      const int shift = 4 * (j & 1);
      for (int l = 0; l < 32; ++l) {
        y[32 * j + l] = dl * static_cast<float>((q[l] >> shift) & 15) - ml;
      }
    }
  }
};

struct Q5K {
  static constexpr int kElements = 256, kBytes = 176;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const float dmin = LoadF16(block + 2);
    const uint8_t* qh = block + 16;
    const uint8_t* qs = block + 48;
    for (int j = 0; j < 8; ++j) {
      int scale, min;
      UnpackScaleMin(block + 4, j, &scale, &min);
      const float dl = d * static_cast<float>(scale);
      const float ml = dmin * static_cast<float>(min);
      const uint8_t* q = qs + 32 * (j / 2);
      const int shift = 4 * (j & 1);
      for (int l = 0; l < 32; ++l) {
        const int value = ((q[l] >> shift) & 15) | (((qh[l] >> j) & 1) << 4);
        y[32 * j + l] = dl * static_cast<float>(value) - ml;
      }
    }
  }
};

struct Q6K {
  static constexpr int kElements = 256, kBytes = 210;
  static void Decode(const uint8_t* block, float* y) {
    const int8_t* scales = reinterpret_cast<const int8_t*>(block + 192);
    const float d = LoadF16(block + 208);
    for (int half = 0; half < 2; ++half) {
      const uint8_t* ql = block + 64 * half;
      const uint8_t* qh = block + 128 + 32 * half;
      for (int k = 0; k < 4; ++k) {  // 32 elements that share shifts
        const uint8_t* low = ql + 32 * (k & 1);
        const int shift = 4 * (k >> 1);
        for (int l = 0; l < 32; ++l) {
          const float dl = d * static_cast<float>(scales[8 * half + 2 * k + l / 16]);
          const int q = ((low[l] >> shift) & 15) | (((qh[l] >> (2 * k)) & 3) << 4);
          y[128 * half + 32 * k + l] = dl * static_cast<float>(q - 32);
        }
      }
    }
  }
};

struct Iq4Nl {
  static constexpr int kElements = 32, kBytes = 18;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const uint8_t* qs = block + 2;
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(kIq4Levels[qs[j] & 15]);
      y[j + 16] = d * static_cast<float>(kIq4Levels[qs[j] >> 4]);
    }
  }
};

struct Iq4Xs {
  static constexpr int kElements = 256, kBytes = 136;
  static void Decode(const uint8_t* block, float* y) {
    const float d = LoadF16(block);
    const uint16_t scales_high = LoadUnaligned<uint16_t>(block + 2);
    const uint8_t* scales_low = block + 4;
    const uint8_t* qs = block + 8;
    for (int b = 0; b < 8; ++b) {
      const int scale = ((scales_low[b / 2] >> (4 * (b & 1))) & 15) |
                        (((scales_high >> (2 * b)) & 3) << 4);
      const float dl = d * static_cast<float>(scale - 32);
      for (int j = 0; j < 16; ++j) {
        const uint8_t pair = qs[16 * b + j];
        y[32 * b + j] = dl * static_cast<float>(kIq4Levels[pair & 15]);
        y[32 * b + 16 + j] = dl * static_cast<float>(kIq4Levels[pair >> 4]);
      }
    }
  }
};

struct Mxfp4 {
  static constexpr int kElements = 32, kBytes = 17;
  static void Decode(const uint8_t* block, float* y) {
    const float d = HalfE8M0(block[0]);
    const uint8_t* qs = block + 1;
    for (int j = 0; j < 16; ++j) {
      y[j] = d * static_cast<float>(kFp4Doubled[qs[j] & 15]);
      y[j + 16] = d * static_cast<float>(kFp4Doubled[qs[j] >> 4]);
    }
  }
};

struct Nvfp4 {
  static constexpr int kElements = 64, kBytes = 36;
  static void Decode(const uint8_t* block, float* y) {
    for (int s = 0; s < 4; ++s) {
      const float d = Ue4m3ToFloat(block[s]) * 0.5f;
      const uint8_t* qs = block + 4 + 8 * s;
      for (int j = 0; j < 8; ++j) {
        y[16 * s + j] = d * static_cast<float>(kFp4Doubled[qs[j] & 15]);
        y[16 * s + 8 + j] = d * static_cast<float>(kFp4Doubled[qs[j] >> 4]);
      }
    }
  }
};

template <typename Block>
void DecodeAll(const uint8_t* source, int64_t elements, float* target) {
  for (int64_t i = 0; i < elements; i += Block::kElements) {
    Block::Decode(source, target + i);
    source += Block::kBytes;
  }
}

// --- encoders: one block each ---------------------------------------------------------------------

// Truncates to a whole number in [0, max]; NaN gives 0.
uint8_t TruncateTo(float value, int max) {
  if (!(value > 0.0f)) return 0;
  if (value >= static_cast<float>(max)) return static_cast<uint8_t>(max);
  return static_cast<uint8_t>(value);
}

// The element of largest magnitude, the first of equals, with its sign.
float SignedMax(const float* x, int count) {
  int best = 0;
  for (int i = 1; i < count; ++i) {
    if (std::fabs(x[i]) > std::fabs(x[best])) best = i;
  }
  return x[best];
}

float Inverse(float d) { return d == 0.0f ? 0.0f : 1.0f / d; }

void PackNibbles(const uint8_t* q, uint8_t* target) {
  for (int j = 0; j < 16; ++j) target[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] << 4));
}

void PackFifthBits(const uint8_t* q, uint8_t* target) {
  uint32_t high = 0;
  for (int j = 0; j < 32; ++j) high |= static_cast<uint32_t>(q[j] >> 4) << j;
  std::memcpy(target, &high, sizeof(high));
}

// Q4_0 and Q5_0: levels are symmetric; the largest element maps to the lowest level exactly.
void EncodeSymmetric(const float* x, int levels_half, uint8_t* q, uint8_t* scale) {
  const float d = SignedMax(x, 32) / static_cast<float>(-levels_half);
  const float id = Inverse(d);
  for (int i = 0; i < 32; ++i) {
    q[i] = TruncateTo(x[i] * id + (static_cast<float>(levels_half) + 0.5f), 2 * levels_half - 1);
  }
  StoreF16(d, scale);
}

// Q4_1 and Q5_1: a minimum and a step.
void EncodeAffine(const float* x, int level_max, uint8_t* q, uint8_t* scale) {
  const float min = *std::min_element(x, x + 32);
  const float max = *std::max_element(x, x + 32);
  const float d = (max - min) / static_cast<float>(level_max);
  const float id = Inverse(d);
  for (int i = 0; i < 32; ++i) q[i] = TruncateTo((x[i] - min) * id + 0.5f, level_max);
  StoreF16(d, scale);
  StoreF16(min, scale + 2);
}

void EncodeQ4_0(const float* x, uint8_t* block) {
  uint8_t q[32];
  EncodeSymmetric(x, 8, q, block);
  PackNibbles(q, block + 2);
}

void EncodeQ4_1(const float* x, uint8_t* block) {
  uint8_t q[32];
  EncodeAffine(x, 15, q, block);
  PackNibbles(q, block + 4);
}

void EncodeQ5_0(const float* x, uint8_t* block) {
  uint8_t q[32];
  EncodeSymmetric(x, 16, q, block);
  PackFifthBits(q, block + 2);
  PackNibbles(q, block + 6);
}

void EncodeQ5_1(const float* x, uint8_t* block) {
  uint8_t q[32];
  EncodeAffine(x, 31, q, block);
  PackFifthBits(q, block + 4);
  PackNibbles(q, block + 8);
}

void EncodeQ8_0(const float* x, uint8_t* block) {
  const float d = std::fabs(SignedMax(x, 32)) / 127.0f;
  const float id = Inverse(d);
  StoreF16(d, block);
  for (int i = 0; i < 32; ++i) {
    const float scaled = std::round(x[i] * id);  // halves away from zero
    const float bounded = scaled >= -127.0f ? std::min(scaled, 127.0f) : -127.0f;  // NaN too
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(bounded));
  }
}

void EncodeMxfp4(const float* x, uint8_t* block) {
  const float largest = std::fabs(SignedMax(x, 32));
  uint8_t exponent = 0;
  if (largest > 0.0f) {
    // FP4's largest power of two is 4 = 2^2. log2 in float, as the reference takes it.
    const float wanted = std::floor(std::log2(largest)) - 2.0f + 127.0f;
    exponent = static_cast<uint8_t>(TruncateTo(wanted, 254));
  }
  block[0] = exponent;
  const float d = HalfE8M0(exponent);
  uint8_t q[32];
  for (int i = 0; i < 32; ++i) {
    int best = 0;
    float best_error = std::fabs(d * static_cast<float>(kFp4Doubled[0]) - x[i]);
    for (int code = 1; code < 16; ++code) {
      const float error = std::fabs(d * static_cast<float>(kFp4Doubled[code]) - x[i]);
      if (error < best_error) {
        best_error = error;
        best = code;
      }
    }
    q[i] = static_cast<uint8_t>(best);
  }
  PackNibbles(q, block + 1);
}

uint8_t NearestIq4Level(float value) {
  int best = 0;
  for (int code = 1; code < 16; ++code) {
    if (std::fabs(static_cast<float>(kIq4Levels[code]) - value) <
        std::fabs(static_cast<float>(kIq4Levels[best]) - value)) {
      best = code;
    }
  }
  return static_cast<uint8_t>(best);
}

void EncodeIq4Nl(const float* x, uint8_t* block) {
  float d = SignedMax(x, 32) / static_cast<float>(kIq4Levels[0]);
  float id = Inverse(d);
  // Least squares for the scale under the first assignment, weighted by x^2: large weights matter.
  float product = 0.0f, square = 0.0f;
  for (int i = 0; i < 32; ++i) {
    const float level = static_cast<float>(kIq4Levels[NearestIq4Level(x[i] * id)]);
    product += x[i] * x[i] * x[i] * level;
    square += x[i] * x[i] * level * level;
  }
  if (square > 0.0f && std::isfinite(product / square)) d = product / square;
  StoreF16(d, block);
  id = Inverse(LoadF16(block));
  uint8_t q[32];
  for (int i = 0; i < 32; ++i) q[i] = NearestIq4Level(x[i] * id);
  PackNibbles(q, block + 2);
}

template <void (*kEncode)(const float*, uint8_t*)>
void EncodeAll(DType dtype, const float* source, int64_t elements, uint8_t* target) {
  const DTypeInfo& info = Info(dtype);
  for (int64_t i = 0; i < elements; i += info.block_elements) {
    kEncode(source + i, target);
    target += info.block_bytes;
  }
}

}  // namespace

float Ue4m3ToFloat(uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const float mantissa = static_cast<float>(code & 7);
  if (code == 0x7F) return 0.0f;
  if (exponent == 0) return mantissa * 0x1p-9f;
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 120) << 23) *
         (1.0f + mantissa / 8.0f);
}

LODE_WIDER_COPIES
void DecodeBlocks(DType dtype, const std::byte* source, int64_t elements, float* target) {
  LODE_CHECK(elements >= 0 && elements % Info(dtype).block_elements == 0);
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(source);
  switch (dtype) {
    case DType::kF32:
      if (elements > 0) std::memcpy(target, bytes, static_cast<size_t>(elements) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < elements; ++i) target[i] = LoadF16(bytes + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < elements; ++i) {
        target[i] = Bf16ToFloat(LoadUnaligned<uint16_t>(bytes + 2 * i));
      }
      return;
    case DType::kF8E4M3:
      for (int64_t i = 0; i < elements; ++i) target[i] = E4M3ToFloat(bytes[i]);
      return;
    case DType::kQ4_0: return DecodeAll<Q4_0>(bytes, elements, target);
    case DType::kQ4_1: return DecodeAll<Q4_1>(bytes, elements, target);
    case DType::kQ5_0: return DecodeAll<Q5_0>(bytes, elements, target);
    case DType::kQ5_1: return DecodeAll<Q5_1>(bytes, elements, target);
    case DType::kQ8_0: return DecodeAll<Q8_0>(bytes, elements, target);
    case DType::kQ2K: return DecodeAll<Q2K>(bytes, elements, target);
    case DType::kQ3K: return DecodeAll<Q3K>(bytes, elements, target);
    case DType::kQ4K: return DecodeAll<Q4K>(bytes, elements, target);
    case DType::kQ5K: return DecodeAll<Q5K>(bytes, elements, target);
    case DType::kQ6K: return DecodeAll<Q6K>(bytes, elements, target);
    case DType::kIQ4NL: return DecodeAll<Iq4Nl>(bytes, elements, target);
    case DType::kIQ4XS: return DecodeAll<Iq4Xs>(bytes, elements, target);
    case DType::kMXFP4: return DecodeAll<Mxfp4>(bytes, elements, target);
    case DType::kNVFP4: return DecodeAll<Nvfp4>(bytes, elements, target);
    default: LODE_CHECK(Info(dtype).weights && "a weights type without a decoder");
  }
}

void DecodeNvfp4ModelOpt(const uint8_t* packed, const uint8_t* scales, int64_t elements,
                         float* target) {
  LODE_CHECK(elements >= 0 && elements % 16 == 0);
  for (int64_t block = 0; block < elements / 16; ++block) {
    const float d = E4M3ToFloat(scales[block]);
    for (int j = 0; j < 8; ++j) {
      const uint8_t pair = packed[8 * block + j];
      target[16 * block + 2 * j] = d * kFp4[pair & 15];
      target[16 * block + 2 * j + 1] = d * kFp4[pair >> 4];
    }
  }
}

bool CanEncode(DType dtype) {
  switch (dtype) {
    case DType::kF32: case DType::kF16: case DType::kBF16:
    case DType::kQ4_0: case DType::kQ4_1: case DType::kQ5_0: case DType::kQ5_1: case DType::kQ8_0:
    case DType::kMXFP4: case DType::kIQ4NL:
      return true;
    default:
      return false;
  }
}

void EncodeBlocks(DType dtype, const float* source, int64_t elements, std::byte* target) {
  LODE_CHECK(CanEncode(dtype));
  LODE_CHECK(elements >= 0 && elements % Info(dtype).block_elements == 0);
  uint8_t* bytes = reinterpret_cast<uint8_t*>(target);
  switch (dtype) {
    case DType::kF32:
      if (elements > 0) std::memcpy(bytes, source, static_cast<size_t>(elements) * sizeof(float));
      return;
    case DType::kF16:
      for (int64_t i = 0; i < elements; ++i) StoreF16(source[i], bytes + 2 * i);
      return;
    case DType::kBF16:
      for (int64_t i = 0; i < elements; ++i) {
        const uint16_t value = FloatToBf16(source[i]);
        std::memcpy(bytes + 2 * i, &value, sizeof(value));
      }
      return;
    case DType::kQ4_0: return EncodeAll<EncodeQ4_0>(dtype, source, elements, bytes);
    case DType::kQ4_1: return EncodeAll<EncodeQ4_1>(dtype, source, elements, bytes);
    case DType::kQ5_0: return EncodeAll<EncodeQ5_0>(dtype, source, elements, bytes);
    case DType::kQ5_1: return EncodeAll<EncodeQ5_1>(dtype, source, elements, bytes);
    case DType::kQ8_0: return EncodeAll<EncodeQ8_0>(dtype, source, elements, bytes);
    case DType::kMXFP4: return EncodeAll<EncodeMxfp4>(dtype, source, elements, bytes);
    case DType::kIQ4NL: return EncodeAll<EncodeIq4Nl>(dtype, source, elements, bytes);
    default: return;
  }
}

}  // namespace lode::tensor
