#include "kernels/peaks.h"

#include "base/check.h"
#include "kernels/cpu/peaks_loops.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include "hwy/base.h"
#endif

// After it the compiler knows nothing of the value (see peaks_avx512.cc).
#if defined(__x86_64__)
#define LODE_OPAQUE(x) asm volatile("" : "+x"(x))
#elif defined(__aarch64__)
#define LODE_OPAQUE(x) asm volatile("" : "+w"(x))
#else
#define LODE_OPAQUE(x) asm volatile("" : "+m"(x))
#endif

namespace lode::kernels {
namespace {

using F32x4 = float __attribute__((vector_size(16)));
using I32x4 = int32_t __attribute__((vector_size(16)));
using I16x8 = int16_t __attribute__((vector_size(16)));
using U64x2 = uint64_t __attribute__((vector_size(16)));

// One multiply-add as the machine's baseline has it: fused on arm64, two operations on x86.
F32x4 MultiplyAdd(F32x4 a, F32x4 b, F32x4 sum) {
#if defined(__aarch64__)
  return vfmaq_f32(sum, a, b);
#else
  return sum + a * b;
#endif
}

#if defined(__x86_64__)
double RunX86(Isa isa, Peak peak, int64_t rounds) {
  const bool wide = isa == Isa::kAvx512 || isa == Isa::kAvx512Dot;
  switch (peak) {
    case Peak::kF32:
      return wide ? PeakF32Avx512(rounds) : PeakF32Avx2(rounds);
    case Peak::kBF16:
      if (isa == Isa::kAvx512Dot) return PeakBF16Avx512Dot(rounds);
      return wide ? PeakBF16Avx512(rounds) : PeakBF16Avx2(rounds);
    case Peak::kInt8:
      if (isa == Isa::kAvx512Dot) return PeakInt8Avx512Dot(rounds);
      if (isa == Isa::kAvxVnni) return PeakInt8AvxVnni(rounds);
      return wide ? PeakInt8Avx512(rounds) : PeakInt8Avx2(rounds);
  }
  LODE_CHECK(false);
}
#endif

}  // namespace

double PeakF32Plain(int64_t rounds) {
  F32x4 sums[kPeakChains];
  F32x4 factor = {0.5f, 0.5f, 0.5f, 0.5f};
  for (F32x4& sum : sums) LODE_OPAQUE(sum = F32x4{});
  LODE_OPAQUE(factor);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) {
      LODE_OPAQUE(factor);  // the product is not the same one for all chains
      sums[c] = MultiplyAdd(factor, factor, sums[c]);
    }
  }
  for (F32x4& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 4 * 2;
}

double PeakBF16Plain(int64_t rounds) {
  F32x4 sums[kPeakChains];
  I32x4 pairs = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
  const I32x4 high = I32x4{} + static_cast<int32_t>(0xffff0000u);
  F32x4 x = {0.5f, 0.5f, 0.5f, 0.5f};
  for (F32x4& sum : sums) LODE_OPAQUE(sum = F32x4{});
  LODE_OPAQUE(x);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) {
      LODE_OPAQUE(pairs);
      sums[c] = MultiplyAdd((F32x4)(pairs & high), x, sums[c]);
      sums[c] = MultiplyAdd((F32x4)(pairs << 16), x, sums[c]);
    }
  }
  for (F32x4& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 8 * 2;
}

// Bytes widened to 16 bits, multiplied, and summed there.
double PeakInt8Plain(int64_t rounds) {
  I16x8 sums[kPeakChains];
  I16x8 a = {3, 3, 3, 3, 3, 3, 3, 3}, b = {5, 5, 5, 5, 5, 5, 5, 5};
  for (I16x8& sum : sums) LODE_OPAQUE(sum = I16x8{});
  LODE_OPAQUE(b);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) {
      LODE_OPAQUE(a);
      sums[c] += a * b;
    }
  }
  for (I16x8& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 8 * 2;
}

uint64_t ReadAllPlain(const std::byte* data, size_t bytes) {
  U64x2 sums[8] = {};
  for (size_t at = 0; at < bytes; at += 128) {
    __builtin_prefetch(data + at + kReadAhead);
    __builtin_prefetch(data + at + kReadAhead + 64);
    const auto* words = reinterpret_cast<const U64x2*>(data + at);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sums[i] ^= words[i];
  }
  for (int i = 1; i < 8; ++i) sums[0] ^= sums[i];
  return sums[0][0] + sums[0][1];
}

#if defined(__aarch64__)
HWY_PUSH_ATTRIBUTES("arch=armv8.2-a+dotprod")

double PeakInt8NeonDot(int64_t rounds) {
  int32x4_t sums[kPeakChains];
  int8x16_t a = vdupq_n_s8(3);
  for (int32x4_t& sum : sums) LODE_OPAQUE(sum = vdupq_n_s32(0));
  LODE_OPAQUE(a);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) sums[c] = vdotq_s32(sums[c], a, a);
  }
  for (int32x4_t& sum : sums) LODE_OPAQUE(sum);
  return static_cast<double>(rounds) * kPeakChains * 16 * 2;
}

HWY_POP_ATTRIBUTES
#endif

const char* Name(Peak peak) {
  return peak == Peak::kF32 ? "f32" : peak == Peak::kBF16 ? "bf16" : "int8";
}

double RunPeak(Isa isa, Peak peak, int64_t rounds) {
#if defined(__x86_64__)
  if (isa != Isa::kPortable) return RunX86(isa, peak, rounds);
#elif defined(__aarch64__)
  if (isa == Isa::kNeonDot && peak == Peak::kInt8) return PeakInt8NeonDot(rounds);
#endif
  switch (peak) {
    case Peak::kF32:
      return PeakF32Plain(rounds);
    case Peak::kBF16:
      return PeakBF16Plain(rounds);
    case Peak::kInt8:
      return PeakInt8Plain(rounds);
  }
  LODE_CHECK(false);
}

uint64_t ReadAll(Isa isa, const std::byte* data, size_t bytes) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512 || isa == Isa::kAvx512Dot) return ReadAllAvx512(data, bytes);
  if (isa != Isa::kPortable) return ReadAllAvx2(data, bytes);
#endif
  return ReadAllPlain(data, bytes);
}

}  // namespace lode::kernels
