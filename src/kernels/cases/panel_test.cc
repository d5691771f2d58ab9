// Packed panels: every type and instruction set against the oracle, bit for bit; packed, unpacked,
// alone, together and on any number of threads the same bits.
#include "kernels/panel.h"

#include <gtest/gtest.h>

#include <bit>

#include "kernels/cases/support.h"
#include "kernels/ref/ref.h"
#include "tensor/blocks.h"

namespace lode::kernels {
namespace {

using cases::OnEveryIsa;
using cases::Random;
using cases::SameBits;
using tensor::DType;

constexpr DType kPacked[] = {DType::kBF16,  DType::kF8E4M3, DType::kQ8_0,  DType::kQ4_0,
                             DType::kQ4_1,  DType::kQ5_0,   DType::kQ5_1,  DType::kQ4K,
                             DType::kQ5K,   DType::kQ6K,    DType::kIQ4NL, DType::kIQ4XS,
                             DType::kMXFP4, DType::kNVFP4,  DType::kF16,   DType::kF32};

// A weight with its bytes, and packed on demand.
struct Case {
  std::vector<std::byte> bytes, packed;
  std::vector<uint8_t> scales;
  Weight weight;

  void Pack() {
    const PanelFormat format = PanelFormatOf(weight);
    packed.resize(static_cast<size_t>(PackedBytes(weight)) + 64);
    auto* base =
        reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(packed.data()) + 63) / 64 * 64);
    const int64_t records = RecordsOf(weight.cols);
    for (int64_t panel = 0; panel < PanelsOf(weight.rows); ++panel) {
      PackRecords(weight, format, panel, 0, records, base + panel * RecordsBytes(format, records));
    }
    weight.packed = base;
  }
};

// Random codes; scales that are finite and of one size.
Case MakeCase(DType dtype, int64_t rows, int64_t cols, uint32_t seed) {
  const tensor::DTypeInfo& info = tensor::Info(dtype);
  Case c;
  c.weight.dtype = dtype;
  c.weight.rows = rows;
  c.weight.cols = cols;
  c.weight.row_bytes = (cols + info.block_elements - 1) / info.block_elements * info.block_bytes;
  c.bytes.resize(static_cast<size_t>(rows * c.weight.row_bytes));
  std::mt19937 generator(seed);
  for (std::byte& b : c.bytes) b = static_cast<std::byte>(generator());
  const auto half = [&](std::byte* at) {  // 2^-8 to 2^-4, either sign
    const auto bits = static_cast<uint16_t>((generator() & 0x83FF) | (7 + generator() % 4) << 10);
    std::memcpy(at, &bits, 2);
  };
  if (dtype == DType::kBF16) {
    for (size_t i = 0; i < c.bytes.size(); i += 2) {
      const uint16_t bits = tensor::FloatToBf16(Random(1, generator())[0]);
      std::memcpy(&c.bytes[i], &bits, 2);
    }
  }
  for (size_t at = 0; at < c.bytes.size(); at += static_cast<size_t>(info.block_bytes)) {
    std::byte* p = &c.bytes[at];
    switch (dtype) {
      case DType::kF32: {
        const float number = Random(1, generator())[0];
        std::memcpy(p, &number, 4);
        break;
      }
      case DType::kF16:  // below 2, so no infinity and no NaN: whose bits are each machine's own
        p[1] &= std::byte{0xBF};
        break;
      case DType::kF8E4M3:
        *p &= std::byte{0xBF};
        break;
      case DType::kQ4_1:
      case DType::kQ5_1:
      case DType::kQ4K:
      case DType::kQ5K:
        half(p + 2);
        [[fallthrough]];
      case DType::kQ4_0:
      case DType::kQ5_0:
      case DType::kQ8_0:
      case DType::kIQ4NL:
      case DType::kIQ4XS:
        half(p);
        break;
      case DType::kQ6K:
        half(p + 208);
        break;
      case DType::kMXFP4:
        *p = static_cast<std::byte>(118 + generator() % 8);
        break;
      case DType::kNVFP4:
        for (int i = 0; i < 4; ++i) p[i] = static_cast<std::byte>(generator() % 0x7F);
        break;
      default:
        break;
    }
  }
  c.weight.data = c.bytes.data();
  return c;
}

std::vector<float> Product(const Weight& weight, const std::vector<float>& x, int64_t tokens,
                           Precision precision, int threads) {
  ThreadPool pool(threads);
  Context context(&pool, MatMulScratchFloats(tokens),
                  MatMulActivationBytes(tokens, weight.cols, precision));
  std::vector<float> y(static_cast<size_t>(tokens * weight.rows), NAN);
  MatMulJob job = {&weight, x.data(), weight.cols, y.data(), weight.rows, tokens};
  job.precision = precision;
  MatMul(context, {&job, 1});
  return y;
}

std::vector<float> Expected(const Weight& weight, const std::vector<float>& x, int64_t tokens,
                            Precision precision) {
  std::vector<float> y(static_cast<size_t>(tokens * weight.rows));
  MatMulJob job = {&weight, x.data(), weight.cols, y.data(), weight.rows, tokens};
  job.precision = precision;
  ref::MatMul(job);
  return y;
}

TEST(Panels, EveryTypeEqualsTheOracleBitForBitOnEveryInstructionSet) {
  for (const DType dtype : kPacked) {
    const int64_t block = tensor::Info(dtype).block_elements;
    for (const auto& [rows, blocks] : {std::pair<int64_t, int64_t>{1, 1}, {33, 3}, {70, 18}}) {
      const int64_t cols = block == 1 ? blocks * 32 - (rows == 33 ? 5 : 0) : block * blocks;
      Case c = MakeCase(dtype, rows, cols, 7);
      c.weight.scale = 0.75f;
      for (const Precision precision : {Precision::kNative, Precision::kNativeWide}) {
        for (const int64_t tokens : {int64_t{1}, int64_t{6}, int64_t{13}, int64_t{29}}) {
          const auto x = Random(tokens * cols, 3);
          const auto expected = Expected(c.weight, x, tokens, precision);
          OnEveryIsa([&](Isa isa) {
            for (const bool packed : {false, true}) {
              c.weight.packed = nullptr;
              // Plain decoding in portable code has no fused multiply-add.
              if (isa == Isa::kPortable && TakesFloats(PanelFormatOf(c.weight))) continue;
              if (packed) c.Pack();
              const auto y = Product(c.weight, x, tokens, precision, packed ? 2 : 1);
              EXPECT_TRUE(SameBits(expected, y))
                  << tensor::Name(dtype) << " " << rows << "x" << cols << " tokens " << tokens
                  << " on " << Name(isa) << (packed ? " packed" : "")
                  << (precision == Precision::kNativeWide ? " wide" : "");
            }
          });
        }
      }
    }
  }
}

// Numbers that take no library function, so that every machine has the same ones.
std::vector<float> Plain(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = static_cast<float>(static_cast<int32_t>(generator()) >> 8) * 0x1p-22f;
  return out;
}

uint64_t Digest(const std::vector<float>& values) {  // FNV-1a
  uint64_t hash = 0xcbf29ce484222325;
  for (const float value : values) {
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 32; i += 8) hash = (hash ^ (bits >> i & 0xFF)) * 0x100000001b3;
  }
  return hash;
}

// Stored, so that x86 and arm64 are compared though no test runs on both. They change with the
// order of sums in ops.h and with nothing else.
TEST(Panels, HaveTheSameBitsOnEveryArchitecture) {
  struct Stored {
    DType dtype;
    uint64_t native, wide;
  };
  const Stored stored[] = {
      {DType::kBF16, 0x70ba480adc5df1fe, 0x1707e7c82ebffb82},
      {DType::kF8E4M3, 0xdad3792a7026c488, 0x27eca2ec982801f9},
      {DType::kQ8_0, 0x95b364e78f3524c7, 0x2eb8683d899835da},
      {DType::kQ4_0, 0xf888f5241b98c9a9, 0x4a09e7d26ff1dfc5},
      {DType::kQ4_1, 0x5f67d5ef036bed08, 0x2ce33eec0c29691e},
      {DType::kQ5_0, 0x8935974833e353b1, 0x691944fe8a2fc0d1},
      {DType::kQ5_1, 0x77a4de9cf14f89ba, 0x2711d9a9ba49580d},
      {DType::kQ4K, 0xf6b1645488435a0d, 0x424f05ffe6aeffa2},
      {DType::kQ5K, 0x524f2f024251eba2, 0x8236238b35309493},
      {DType::kQ6K, 0x093d4e28363f0c91, 0xe71a53cf9fde4345},
      {DType::kIQ4NL, 0x16f6cdad135127aa, 0x3869864952d6476e},
      {DType::kIQ4XS, 0x0dd5719294397438, 0x0c601dfb48c3e64e},
      {DType::kMXFP4, 0x3b7be3196dba0ffe, 0x3d01738414c64e97},
      {DType::kNVFP4, 0xe93431d1282d4f85, 0x23e520080542834c},
  };
  const int64_t rows = 45, cols = 512, tokens = 9;
  const auto x = Plain(tokens * cols, 31);
  for (const Stored& expected : stored) {
    Case c = MakeCase(expected.dtype, rows, cols, 37);
    if (expected.dtype == DType::kBF16) {
      const auto numbers = Plain(rows * cols, 41);
      for (size_t i = 0; i < numbers.size(); ++i) {
        const uint16_t bits = tensor::FloatToBf16(numbers[i]);
        std::memcpy(&c.bytes[2 * i], &bits, 2);
      }
    }
    c.Pack();
    OnEveryIsa([&](Isa isa) {
      const auto native = Digest(Product(c.weight, x, tokens, Precision::kNative, 2));
      const auto wide = Digest(Product(c.weight, x, tokens, Precision::kNativeWide, 2));
      EXPECT_TRUE(native == expected.native && wide == expected.wide)
          << tensor::Name(expected.dtype) << " has on " << Name(isa) << std::hex << " 0x" << native
          << ", 0x" << wide;
    });
  }
}

TEST(Panels, PackingGivesTheSameBytesOnEveryInstructionSet) {
  for (const DType dtype : kPacked) {
    const int64_t block = tensor::Info(dtype).block_elements;
    Case c = MakeCase(dtype, 64, block == 1 ? 96 : block * 2, 13);
    ForceIsa(Isa::kPortable);
    c.Pack();
    const std::vector<std::byte> plain(c.weight.packed, c.weight.packed + PackedBytes(c.weight));
    OnEveryIsa([&](Isa isa) {
      c.packed.assign(c.packed.size(), std::byte{0xEE});
      c.Pack();
      EXPECT_EQ(std::memcmp(plain.data(), c.weight.packed, plain.size()), 0)
          << tensor::Name(dtype) << " " << Name(isa);
    });
    ForceIsa(SupportedIsas().front());
  }
}

TEST(Panels, TheNativeProductIsNearTheExactOneAndTheWideOneNearer) {
  for (const DType dtype : kPacked) {
    const int64_t cols = 1024, rows = 64, tokens = 4;
    const Case c = MakeCase(dtype, rows, cols, 5);
    if (TakesFloats(PanelFormatOf(c.weight))) continue;  // they are the exact one
    const auto x = Random(tokens * cols, 6);
    const auto exact = Expected(c.weight, x, tokens, Precision::kF32);
    double norm = 0.0, native = 0.0, wide = 0.0;
    const auto a = Product(c.weight, x, tokens, Precision::kNative, 1);
    const auto b = Product(c.weight, x, tokens, Precision::kNativeWide, 1);
    for (size_t i = 0; i < exact.size(); ++i) {
      norm += double{exact[i]} * exact[i];
      native += std::pow(double{a[i]} - exact[i], 2);
      wide += std::pow(double{b[i]} - exact[i], 2);
    }
    // Rounding to 1/127 of the largest of 32 normal numbers (about 2.1 sigma); to 8 bits of
    // mantissa.
    EXPECT_LT(std::sqrt(native / norm), 0.008) << tensor::Name(dtype);
    EXPECT_LT(std::sqrt(wide / norm), 5e-5) << tensor::Name(dtype);
  }
}

TEST(Panels, ATokensBitsDoNotDependOnItsCompany) {
  for (const DType dtype : {DType::kQ4_0, DType::kQ6K, DType::kBF16, DType::kNVFP4}) {
    const int64_t rows = 96, cols = 512, tokens = 64;
    Case c = MakeCase(dtype, rows, cols, 1);
    c.Pack();
    const auto x = Random(tokens * cols, 5);
    OnEveryIsa([&](Isa isa) {
      const auto all = Product(c.weight, x, tokens, Precision::kNative, 3);
      for (const int64_t chunk : {1, 3, 7, 24}) {
        std::vector<float> y;
        for (int64_t t = 0; t < tokens; t += chunk) {
          const int64_t count = std::min<int64_t>(chunk, tokens - t);
          const std::vector<float> part(x.begin() + t * cols, x.begin() + (t + count) * cols);
          const auto one = Product(c.weight, part, count, Precision::kNative, 1);
          y.insert(y.end(), one.begin(), one.end());
        }
        EXPECT_TRUE(SameBits(all, y)) << tensor::Name(dtype) << " " << chunk << " " << Name(isa);
      }
    });
  }
}

TEST(Panels, ModelOptsNvfp4WithAnOddNumberOfSixteens) {
  const int64_t rows = 34, cols = 48 + 64, tokens = 7;
  std::mt19937 generator(11);
  Case c;
  c.bytes.resize(static_cast<size_t>(rows * cols / 2));
  c.scales.resize(static_cast<size_t>(rows * cols / 16));
  for (std::byte& b : c.bytes) b = static_cast<std::byte>(generator());
  for (uint8_t& s : c.scales) s = static_cast<uint8_t>(generator() % 0x7F);
  c.weight.dtype = DType::kU8;
  c.weight.rows = rows;
  c.weight.cols = cols;
  c.weight.data = c.bytes.data();
  c.weight.row_bytes = cols / 2;
  c.weight.block_scales = c.scales.data();
  c.weight.scale = 0.01f;
  const auto x = Random(tokens * cols, 2);
  const auto expected = Expected(c.weight, x, tokens, Precision::kNative);
  OnEveryIsa([&](Isa isa) {
    c.weight.packed = nullptr;
    EXPECT_TRUE(SameBits(Product(c.weight, x, tokens, Precision::kNative, 2), expected))
        << Name(isa);
    c.Pack();
    EXPECT_TRUE(SameBits(Product(c.weight, x, tokens, Precision::kNative, 2), expected))
        << Name(isa);
  });
}

TEST(Panels, JobsThatShareInputsAndTypesThatHaveNoPanelsGoTogether) {
  Case a = MakeCase(DType::kQ8_0, 40, 64, 1), b = MakeCase(DType::kQ4_0, 96, 64, 2);
  Case f = MakeCase(DType::kF32, 33, 64, 3), h = MakeCase(DType::kBF16, 31, 64, 4);
  const auto numbers = Random(33 * 64, 9);
  std::memcpy(f.bytes.data(), numbers.data(), f.bytes.size());
  const auto scales = Random(96, 9);
  b.weight.row_scales = scales.data();
  const auto x = Random(5 * 64, 4);
  const Case* cases[] = {&a, &b, &f, &h};
  std::vector<std::vector<float>> got, want;
  std::vector<MatMulJob> jobs;
  for (const Case* c : cases) {
    got.emplace_back(static_cast<size_t>(5 * c->weight.rows), 1.0f);
    want.push_back(got.back());
  }
  for (size_t i = 0; i < 4; ++i) {
    const Weight& w = cases[i]->weight;
    MatMulJob job = {&w, x.data(), 64, got[i].data(), w.rows, 5, Epilogue::kAdd};
    job.precision = Precision::kNative;
    jobs.push_back(job);
    job.y = want[i].data();
    ref::MatMul(job);
  }
  ThreadPool pool(3);
  Context context(&pool, MatMulScratchFloats(5),
                  2 * MatMulActivationBytes(5, 64, Precision::kNative));
  MatMul(context, jobs);
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(SameBits(got[i], want[i])) << i;
}

// 5 experts of which token t uses t % 5 and (t + 2) % 5, through RoutedExperts and through single
// products.
TEST(Experts, TheFusedLayerEqualsItsProductsBitForBitForAnyNumberOfTokens) {
  const int64_t input = 96, width = 64 + 32, experts = 5, top_k = 2, tokens = 37;
  for (const auto& [up_type, down_type] : {std::pair{DType::kQ4_0, DType::kQ8_0},
                                           {DType::kBF16, DType::kBF16},
                                           {DType::kNVFP4, DType::kBF16},
                                           {DType::kBF16, DType::kQ5_0}}) {
    std::vector<Case> ups, downs;
    std::vector<Weight> up, down;
    const auto scales = Random(width, 77);
    const int64_t in = up_type == DType::kNVFP4 ? 128 : input;
    for (uint32_t e = 0; e < experts; ++e) {
      ups.push_back(MakeCase(up_type, width, in, 10 + e));
      downs.push_back(MakeCase(down_type, in, width, 20 + e));
      if (e % 2 == 0) ups.back().Pack();
      ups.back().weight.scale = 0.5f;
      if (e == 3) ups.back().weight.row_scales = scales.data();
    }
    for (uint32_t e = 0; e < experts; ++e) {
      up.push_back(ups[e].weight);
      down.push_back(downs[e].weight);
    }
    const auto x = Random(tokens * in, 3);
    const auto slot_weights = Random(tokens * top_k, 4);
    std::vector<int32_t> ids;
    for (int32_t t = 0; t < tokens; ++t) {
      const int32_t a = t % 5, b = (t + 2) % 5;
      ids.push_back(std::min(a, b));
      ids.push_back(std::max(a, b));
    }
    const auto start = Random(tokens * in, 8);
    std::vector<float> expected = start;  // token by token, product by product
    for (int64_t t = 0; t < tokens; ++t) {
      std::vector<float> y(static_cast<size_t>(in));
      for (int64_t slot = 0; slot < top_k; ++slot) {
        const auto e = static_cast<size_t>(ids[static_cast<size_t>(t * top_k + slot)]);
        std::vector<float> h(static_cast<size_t>(width)), out(static_cast<size_t>(in));
        ref::MatMul({&up[e], x.data() + t * in, in, h.data(), width, 1, Epilogue::kReluSquared,
                     Precision::kNative});
        ref::MatMul(
            {&down[e], h.data(), width, out.data(), in, 1, Epilogue::kStore, Precision::kNative});
        for (size_t i = 0; i < y.size(); ++i) {
          y[i] = std::fma(slot_weights[static_cast<size_t>(t * top_k + slot)], out[i], y[i]);
        }
      }
      for (int64_t i = 0; i < in; ++i)
        expected[static_cast<size_t>(t * in + i)] += y[static_cast<size_t>(i)];
    }
    OnEveryIsa([&](Isa isa) {
      if (isa == Isa::kPortable) return;  // no fused multiply-add in the weighted sum there
      for (const int64_t chunk : {int64_t{1}, int64_t{5}, tokens}) {
        std::vector<float> got = start;
        ThreadPool pool(chunk == 5 ? 1 : 3);
        Context context(&pool, MatMulScratchFloats(chunk),
                        MatMulActivationBytes(chunk, in, Precision::kNative));
        std::vector<float> y(static_cast<size_t>(chunk * in), NAN);
        std::vector<float> gathered(static_cast<size_t>(chunk * top_k * in));
        std::vector<float> mid(static_cast<size_t>(chunk * top_k * width));
        for (int64_t t = 0; t < tokens; t += chunk) {
          const int64_t count = std::min(chunk, tokens - t);
          RoutedExperts(context, {up, down, x.data() + t * in, in, count, ids.data() + t * top_k,
                                  slot_weights.data() + t * top_k, top_k, y.data(), in,
                                  got.data() + t * in, reinterpret_cast<uint8_t*>(gathered.data()),
                                  reinterpret_cast<uint8_t*>(mid.data())});
        }
        EXPECT_TRUE(SameBits(got, expected))
            << tensor::Name(up_type) << " " << chunk << " " << Name(isa);
      }
    });
  }
}

TEST(Panels, ABrokenInputPoisonsItsTokenAndNoOther) {
  Case c = MakeCase(DType::kQ4_0, 32, 64, 1);
  auto x = Random(3 * 64, 4);
  x[64 + 5] = INFINITY;
  const auto y = Product(c.weight, x, 3, Precision::kNative, 1);
  for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i / 32 == 1) << i;
}

}  // namespace
}  // namespace lode::kernels
