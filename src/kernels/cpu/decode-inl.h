// Fast decoders of weight rows to f32, bit-equal to kernels::DecodeColumns (a test compares them).
// Types without a body here go through the scalar decoder.
#if defined(LODE_KERNELS_CPU_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LODE_KERNELS_CPU_DECODE_INL_H_
#undef LODE_KERNELS_CPU_DECODE_INL_H_
#else
#define LODE_KERNELS_CPU_DECODE_INL_H_
#endif

#include "kernels/cpu/lanes-inl.h"
#include "kernels/weight.h"
#include "tensor/blocks.h"
#include "tensor/scalar.h"

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

using D8 = hn::Rebind<uint8_t, DF>;
using DI8 = hn::Rebind<int8_t, DF>;
using D16 = hn::Rebind<uint16_t, DF>;
using DF16 = hn::Rebind<hwy::float16_t, DF>;
using DU = hn::RebindToUnsigned<DF>;
using DI = hn::RebindToSigned<DF>;

HWY_INLINE VF Load16Bit(const std::byte* p, bool bf16) {
  const DF d;
  if (bf16) {
    const auto wide = hn::PromoteTo(DU(), hn::LoadU(D16(), reinterpret_cast<const uint16_t*>(p)));
    return hn::BitCast(d, hn::ShiftLeft<16>(wide));
  }
  return hn::PromoteTo(d, hn::LoadU(DF16(), reinterpret_cast<const hwy::float16_t*>(p)));
}

HWY_INLINE uint16_t LoadHalf(const std::byte* p) {
  uint16_t half;
  std::memcpy(&half, p, sizeof(half));
  return half;
}

// One block of 32 signed bytes times d.
HWY_INLINE void DecodeQ8Block(const std::byte* block, float* out) {
  const DF d;
  const size_t L = hn::Lanes(d);
  const VF scale = hn::Set(d, tensor::F16ToFloat(LoadHalf(block)));
  const auto* codes = reinterpret_cast<const int8_t*>(block + 2);
  for (size_t i = 0; i < 32; i += L) {
    const auto q = hn::ConvertTo(d, hn::PromoteTo(DI(), hn::LoadU(DI8(), codes + i)));
    hn::StoreU(hn::Mul(scale, q), d, out + i);
  }
}

// One block of 32 nibbles (low halves first): value = d * (nibble - 8).
HWY_INLINE void DecodeQ4Block(const std::byte* block, float* out) {
  const DF d;
  const size_t L = hn::Lanes(d);
  const VF scale = hn::Set(d, tensor::F16ToFloat(LoadHalf(block)));
  const auto eight = hn::Set(DI(), 8);
  const auto low_mask = hn::Set(DI(), 15);
  const auto* codes = reinterpret_cast<const uint8_t*>(block + 2);
  for (size_t i = 0; i < 16; i += L) {
    const auto both = hn::PromoteTo(DI(), hn::LoadU(D8(), codes + i));
    const auto low = hn::Sub(hn::And(both, low_mask), eight);
    const auto high = hn::Sub(hn::ShiftRight<4>(both), eight);
    hn::StoreU(hn::Mul(scale, hn::ConvertTo(d, low)), d, out + i);
    hn::StoreU(hn::Mul(scale, hn::ConvertTo(d, high)), d, out + 16 + i);
  }
}

// Sixteen signed bytes times a scale.
HWY_INLINE void ScaleBytes(const int8_t* codes, float scale, float* out) {
  const DF d;
  const size_t L = hn::Lanes(d);
  for (size_t i = 0; i < 16; i += L) {
    const auto q = hn::ConvertTo(d, hn::PromoteTo(DI(), hn::LoadU(DI8(), codes + i)));
    hn::StoreU(hn::Mul(hn::Set(d, scale), q), d, out + i);
  }
}

#if HWY_TARGET != HWY_SCALAR
using D128 = hn::FixedTag<uint8_t, 16>;
using V128 = hn::Vec<D128>;

// FP4 (E2M1) values doubled, so that they are whole numbers; the scale is halved for it. Minus zero is
// zero here: it adds the same nothing to a sum.
HWY_ALIGN constexpr int8_t kFp4Doubled[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                              0, -1, -2, -3, -4, -6, -8, -12};
HWY_ALIGN constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                             1,    13,   25,  38,  53,  69,  89,  113};

HWY_INLINE V128 LookUp(const int8_t* table, V128 codes) {
  return hn::TableLookupBytes(hn::Load(D128(), reinterpret_cast<const uint8_t*>(table)), codes);
}

// 32 nibbles in 16 bytes, the low halves first, through a table.
HWY_INLINE void DecodeTableBlock(const uint8_t* bytes, const int8_t* table, float scale,
                                 float* out) {
  const D128 d;
  const V128 both = hn::LoadU(d, bytes);
  HWY_ALIGN int8_t codes[32];
  hn::Store(LookUp(table, hn::And(both, hn::Set(d, 15))), d, reinterpret_cast<uint8_t*>(codes));
  hn::Store(LookUp(table, hn::ShiftRight<4>(both)), d, reinterpret_cast<uint8_t*>(codes + 16));
  ScaleBytes(codes, scale, out);
  ScaleBytes(codes + 16, scale, out + 16);
}

// 16 FP4 codes in 8 bytes. `interleaved`: even elements are the low halves (ModelOpt); else the first
// eight elements are (GGUF).
HWY_INLINE void DecodeFp4Sixteen(const uint8_t* bytes, bool interleaved, float scale, float* out) {
  const D128 d;
  HWY_ALIGN uint8_t eight[16] = {};
  std::memcpy(eight, bytes, 8);
  const V128 both = hn::Load(d, eight);
  const V128 low = hn::And(both, hn::Set(d, 15));
  const V128 high = hn::ShiftRight<4>(both);
  const V128 codes = interleaved ? hn::InterleaveLower(d, low, high)
                                 : hn::ConcatLowerLower(d, high, low);
  HWY_ALIGN int8_t values[16];
  hn::Store(LookUp(kFp4Doubled, codes), d, reinterpret_cast<uint8_t*>(values));
  ScaleBytes(values, scale * 0.5f, out);
}
#endif

// 32 nibbles (low halves first) with a fifth bit each: value = d * (q - 16).
HWY_INLINE void DecodeQ5Block(const std::byte* block, float* out) {
  uint32_t fifth;
  std::memcpy(&fifth, block + 2, sizeof(fifth));
  const auto* codes = reinterpret_cast<const uint8_t*>(block + 6);
  int8_t values[32];
  for (int i = 0; i < 16; ++i) {
    values[i] = static_cast<int8_t>(((codes[i] & 15) | (fifth >> i & 1) << 4) - 16);
    values[i + 16] = static_cast<int8_t>((codes[i] >> 4 | (fifth >> (i + 16) & 1) << 4) - 16);
  }
  const float scale = tensor::F16ToFloat(LoadHalf(block));
  ScaleBytes(values, scale, out);
  ScaleBytes(values + 16, scale, out + 16);
}

// FP8 E4M3 without scale: the bits, moved to f32's places, times 2^120; 0x7F and 0xFF are NaN.
HWY_INLINE VF DecodeE4M3(const uint8_t* codes) {
  const DF d;
  const auto wide = hn::PromoteTo(DU(), hn::LoadU(D8(), codes));
  const auto magnitude = hn::And(wide, hn::Set(DU(), 0x7Fu));
  const auto sign = hn::ShiftLeft<24>(hn::And(wide, hn::Set(DU(), 0x80u)));
  const VF value = hn::Mul(hn::BitCast(d, hn::ShiftLeft<20>(magnitude)), hn::Set(d, 0x1p120f));
  const VF with_sign = hn::BitCast(d, hn::Or(hn::BitCast(DU(), value), sign));
  const auto is_nan = hn::RebindMask(d, hn::Eq(magnitude, hn::Set(DU(), 0x7Fu)));
  return hn::IfThenElse(is_nan, hn::Set(d, __builtin_nanf("")), with_sign);
}

// Columns [begin, begin + count) of `row`; count and begin as for DecodeColumns.
HWY_INLINE void DecodePlainRow(const Weight& w, int64_t row, int64_t begin, int64_t count, float* out) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const std::byte* data = w.data + row * w.row_bytes;
  const bool whole = count % 32 == 0;
#if HWY_TARGET != HWY_SCALAR
  if (w.block_scales != nullptr) {
    const auto* packed = reinterpret_cast<const uint8_t*>(data) + begin / 2;
    const uint8_t* scales = w.block_scales + row * (w.cols / 16) + begin / 16;
    for (int64_t i = 0; i < count; i += 16) {
      DecodeFp4Sixteen(packed + i / 2, true, tensor::E4M3ToFloat(scales[i / 16]), out + i);
    }
    return;
  }
#endif
  if (w.block_scales == nullptr && whole) {
    switch (w.dtype) {
      case tensor::DType::kF32:
        std::memcpy(out, data + begin * 4, static_cast<size_t>(count) * 4);
        return;
      case tensor::DType::kBF16:
      case tensor::DType::kF16: {
        const bool bf16 = w.dtype == tensor::DType::kBF16;
        for (int64_t i = 0; i < count; i += L) {
          hn::StoreU(Load16Bit(data + (begin + i) * 2, bf16), d, out + i);
        }
        return;
      }
      case tensor::DType::kF8E4M3:
        for (int64_t i = 0; i < count; i += L) {
          hn::StoreU(DecodeE4M3(reinterpret_cast<const uint8_t*>(data) + begin + i), d, out + i);
        }
        return;
      case tensor::DType::kQ8_0:
        for (int64_t i = 0; i < count; i += 32) {
          DecodeQ8Block(data + (begin + i) / 32 * 34, out + i);
        }
        return;
      case tensor::DType::kQ4_0:
        for (int64_t i = 0; i < count; i += 32) {
          DecodeQ4Block(data + (begin + i) / 32 * 18, out + i);
        }
        return;
      case tensor::DType::kQ5_0:
        for (int64_t i = 0; i < count; i += 32) {
          DecodeQ5Block(data + (begin + i) / 32 * 22, out + i);
        }
        return;
#if HWY_TARGET != HWY_SCALAR
      case tensor::DType::kIQ4NL:
        for (int64_t i = 0; i < count; i += 32) {
          const std::byte* block = data + (begin + i) / 32 * 18;
          DecodeTableBlock(reinterpret_cast<const uint8_t*>(block + 2), kIq4Values,
                           tensor::F16ToFloat(LoadHalf(block)), out + i);
        }
        return;
      case tensor::DType::kMXFP4:
        for (int64_t i = 0; i < count; i += 32) {
          const auto* block = reinterpret_cast<const uint8_t*>(data) + (begin + i) / 32 * 17;
          DecodeTableBlock(block + 1, kFp4Doubled, tensor::E8M0ToFloat(block[0]) * 0.5f, out + i);
        }
        return;
      case tensor::DType::kNVFP4:
        for (int64_t i = 0; i < count; i += 16) {
          const int64_t sub = (begin + i) / 16;  // four to a block
          const auto* block = reinterpret_cast<const uint8_t*>(data) + sub / 4 * 36;
          DecodeFp4Sixteen(block + 4 + sub % 4 * 8, false, tensor::Ue4m3ToFloat(block[sub % 4]),
                           out + i);
        }
        return;
#endif
      default:
        break;
    }
  }
  DecodeColumns(w, row, begin, count, out);
}

// The same, also of a weight that is only there as panels.
HWY_INLINE void DecodeRow(const Weight& w, int64_t row, int64_t begin, int64_t count, float* out) {
  if (w.data != nullptr) {
    DecodePlainRow(w, row, begin, count, out);
  } else {
    DecodeColumns(w, row, begin, count, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
