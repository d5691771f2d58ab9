// Single numbers of the small float types, to and from float: F16, BF16, FP8 E4M3, E8M0, FP4 E2M1.
// All conversions to float are exact; all conversions from float round to nearest, ties to even.
// Portable bit work, the same on every machine; kernels have their own vector forms and are tested
// against these.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace lode::tensor {

inline float F16ToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 31u;
  const uint32_t mantissa = half & 0x3FFu;
  uint32_t bits;
  if (exponent == 0) {
    bits = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f);
  } else if (exponent == 31) {
    bits = 0x7F800000u | (mantissa << 13);
  } else {
    bits = ((exponent + 112) << 23) | (mantissa << 13);
  }
  return std::bit_cast<float>(bits | sign);
}

// Beyond 65504 (after rounding) it is infinity; NaN stays NaN.
inline uint16_t FloatToF16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7FFFFFFFu;
  if (bits > 0x7F800000u) {
    return static_cast<uint16_t>(sign | 0x7E00u | ((bits >> 13) & 0x3FFu));
  }
  if (bits >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // 65520 and above
  if (bits < 0x38800000u) {
    // Below 2^-14: adding 0.5 puts the half's last bit at the float's last bit, so that the addition
    // itself rounds to nearest even.
    const float shifted = std::bit_cast<float>(bits) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000u));
  }
  bits += 0xFFFu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((bits - (112u << 23)) >> 13));
}

inline float Bf16ToFloat(uint16_t bf16) {
  return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16);
}

inline uint16_t FloatToBf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  bits += 0x7FFFu + ((bits >> 16) & 1u);  // cannot wrap: only NaNs lie above infinity
  return static_cast<uint16_t>(bits >> 16);
}

namespace internal {

// E4M3 in its "FN" form: bias 7, no infinities, 0x7F and 0xFF are NaN, largest value 448.
constexpr std::array<float, 256> MakeE4M3Table() {
  std::array<float, 256> table{};
  for (int code = 0; code < 256; ++code) {
    const int exponent = (code >> 3) & 15;
    const int mantissa = code & 7;
    uint32_t bits = 0;
    if ((code & 0x7F) == 0x7F) {
      bits = 0x7FC00000u;
    } else if (exponent == 0) {
      bits = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-9f);
    } else {
      bits = (static_cast<uint32_t>(exponent + 120) << 23) | (static_cast<uint32_t>(mantissa) << 20);
    }
    if (code & 0x80) bits |= 0x80000000u;
    table[static_cast<size_t>(code)] = std::bit_cast<float>(bits);
  }
  return table;
}

}  // namespace internal

inline constexpr std::array<float, 256> kE4M3ToFloat = internal::MakeE4M3Table();

inline float E4M3ToFloat(uint8_t code) { return kE4M3ToFloat[code]; }

// Saturates: everything beyond 448, infinity too, becomes 448 with its sign. NaN becomes NaN.
inline uint8_t FloatToE4M3(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint8_t sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  bits &= 0x7FFFFFFFu;
  if (bits > 0x7F800000u) return static_cast<uint8_t>(sign | 0x7Fu);
  if (bits >= 0x43E00000u) return static_cast<uint8_t>(sign | 0x7Eu);  // 448 and above
  if (bits < 0x3C800000u) {
    // Below 2^-6: 16384 has its last bit at 2^-9, the step of the subnormal codes.
    const float shifted = std::bit_cast<float>(bits) + 16384.0f;
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x46800000u));
  }
  bits += 0x7FFFFu + ((bits >> 20) & 1u);
  return static_cast<uint8_t>(sign | ((bits - (120u << 23)) >> 20));
}

// A power of two: 2^(code - 127). Code 255 is NaN here; GGUF's MXFP4 takes it as 2^128 (blocks.h).
inline float E8M0ToFloat(uint8_t code) {
  if (code == 255) return std::bit_cast<float>(0x7FC00000u);
  return std::bit_cast<float>(code == 0 ? 0x00400000u : static_cast<uint32_t>(code) << 23);
}

// FP4 E2M1 by code.
inline constexpr std::array<float, 16> kFp4 = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                               -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// The same, doubled, so that they are whole numbers; there code 8, minus zero, is 0.
inline constexpr std::array<int8_t, 16> kFp4Doubled = {0, 1,  2,  3,  4,  6,  8,  12,
                                                       0, -1, -2, -3, -4, -6, -8, -12};

// The code of the nearest FP4 value, ties to the even code; beyond 6 it is 6.
inline uint8_t FloatToFp4(float value) {
  const uint8_t sign = std::bit_cast<uint32_t>(value) >> 31 ? 8 : 0;
  const float a = sign ? -value : value;
  uint8_t code = 0;
  if (a > 5.0f) code = 7;
  else if (a >= 3.5f) code = 6;
  else if (a > 2.5f) code = 5;
  else if (a >= 1.75f) code = 4;
  else if (a > 1.25f) code = 3;
  else if (a >= 0.75f) code = 2;
  else if (a > 0.25f) code = 1;
  return static_cast<uint8_t>(sign | code);
}

// Reads that tolerate any alignment. The machine is little-endian, as the files are.
static_assert(std::endian::native == std::endian::little, "Lode's files and code are little-endian");

template <typename T>
inline T LoadUnaligned(const void* source) {
  T value;
  std::memcpy(&value, source, sizeof(T));
  return value;
}

}  // namespace lode::tensor
