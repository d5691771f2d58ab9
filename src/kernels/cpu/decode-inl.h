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
HWY_INLINE void DecodeRow(const Weight& w, int64_t row, int64_t begin, int64_t count, float* out) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  const std::byte* data = w.data + row * w.row_bytes;
  const bool whole = count % 32 == 0;
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
      default:
        break;
    }
  }
  DecodeColumns(w, row, begin, count, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
