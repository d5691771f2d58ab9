// The arithmetic of attention_tile-inl.h: 2^z, rounding, and lanes times a panel, on the
// processor's dot products (LODE_ATTENTION_DOT) or on fused multiply-adds. Included by it alone,
// into its namespace.

#if defined(LODE_ATTENTION_DOT)
using LeftWord = uint32_t;
// x 2 sums of 16 lanes: 24 registers, 2 for the panel, 1 broadcast
constexpr int64_t kGroupMax = 12;
#else
using LeftWord = float;
constexpr int64_t kGroupMax = 4;  // x 2 sums: enough to hide the latency, fits 16 registers
#endif

constexpr int64_t kRecord = 128;  // bytes of 32 words

// What a product multiplies: the panel's type, then the lane's.
enum class Product { kBF16, kKeysInt8, kValuesInt8 };

// Left operand of some lanes. Dot: word k of lane i at data[k / 64 * chunk + i * 64 + k % 64]; else
// number j of lane i at data[i * row + j].
struct Left {
  const LeftWord* data;
  int64_t row, chunk;
};

constexpr int64_t NumbersPerWord(Product product) { return product == Product::kBF16 ? 2 : 4; }

// The panels that are walked after this one: `next` is brought into the nearest cache, `after` into
// the second, lines of each for every step. Two groups bring half each: the memory, which one row's
// attention waits for, is asked all the time and for far enough ahead.
struct Ahead {
  const std::byte *next, *after;
  int lines = 0;
};

// --- exp2 ----------------------------------------------------------------------------------------

// 2^z for z <= 0; exactly 0 below -126, exactly 1 at 0. NaN stays NaN.
HWY_INLINE VF Exp2V(VF z) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const VF magic = hn::Set(d, 12582912.0f);  // 1.5 * 2^23: the sum's low bits are round(z)
  const VF shifted = hn::Add(z, magic);
  const VF r = hn::Sub(z, hn::Sub(shifted, magic));
  const VF p = Exp2PolynomialV(r);
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(du, shifted));
  const VF power = hn::BitCast(d, hn::Add(hn::BitCast(du, p), exponent));
  return hn::IfThenZeroElse(hn::Lt(z, hn::Set(d, -126.0f)), power);
}

// To bfloat16, ties to even; subnormals become zero, as the dot product would take them.
HWY_INLINE VF RoundFlushBF16V(VF x) {
  const DF d;
  const VF rounded = RoundBF16V(x);
  return hn::IfThenZeroElse(hn::Lt(hn::Abs(rounded), hn::Set(d, 0x1p-126f)), rounded);
}

// --- Products ------------------------------------------------------------------------------------

#if defined(LODE_ATTENTION_DOT)

template <Product kProduct>
struct DotSum {
  __m512i sum;
  HWY_INLINE void Step(__m512i panel, __m512i left) {
    if constexpr (kProduct == Product::kKeysInt8) {
      sum = _mm512_dpbusd_epi32(sum, panel, left);
    } else {
      sum = _mm512_dpbusd_epi32(sum, left, panel);
    }
  }
  HWY_INLINE void Start(int32_t bias) { sum = _mm512_set1_epi32(bias); }
  HWY_INLINE VF Value() const { return VF{_mm512_cvtepi32_ps(sum)}; }
};
template <>
struct DotSum<Product::kBF16> {
  __m512 sum;
  HWY_INLINE void Step(__m512i panel, __m512i left) {
    sum =
        _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(panel), reinterpret_cast<__m512bh>(left));
  }
  HWY_INLINE void Start(int32_t) { sum = _mm512_setzero_ps(); }
  HWY_INLINE VF Value() const { return VF{sum}; }
};

template <Product kProduct, int kGroup, int kAhead>
HWY_INLINE void Walk(const std::byte* panel, const Left& left, int64_t words, const Ahead& ahead,
                     DotSum<kProduct> (&sums)[kGroup][2]) {
  const uint32_t* data = left.data;
  const auto* next = reinterpret_cast<const char*>(ahead.next);
  const auto* after = reinterpret_cast<const char*>(ahead.after);
  for (int64_t begin = 0; begin < words; begin += kWordChunk, data += left.chunk) {
    const int64_t count = std::min(kWordChunk, words - begin);
    for (int64_t k = 0; k < count; ++k) {
      for (int i = 0; i < kAhead; ++i, next += 64, after += 64) {
        _mm_prefetch(next, _MM_HINT_T0);
        _mm_prefetch(after, _MM_HINT_T1);
      }
      const __m512i p0 = _mm512_loadu_si512(panel);
      const __m512i p1 = _mm512_loadu_si512(panel + 64);
      panel += kRecord;
      HWY_UNROLL(12)
      for (int i = 0; i < kGroup; ++i) {
        const __m512i word = _mm512_set1_epi32(static_cast<int>(data[i * kWordChunk + k]));
        sums[i][0].Step(p0, word);
        sums[i][1].Step(p1, word);
      }
    }
  }
}

// done(i, column, sum) for the group's lanes and the panel's 32 columns, a vector at a time.
template <Product kProduct, int kGroup, class Done>
HWY_INLINE void MultiplyPanel(const std::byte* panel, const Left& left, const int32_t* bias,
                              int64_t words, const Ahead& ahead, const Done& done) {
  DotSum<kProduct> sums[kGroup][2];
  HWY_UNROLL(12)
  for (int i = 0; i < kGroup; ++i) {
    sums[i][0].Start(bias == nullptr ? 0 : bias[i]);
    sums[i][1].Start(bias == nullptr ? 0 : bias[i]);
  }
  if (ahead.lines == 2) {
    Walk<kProduct, kGroup, 2>(panel, left, words, ahead, sums);
  } else if (ahead.lines == 1) {
    Walk<kProduct, kGroup, 1>(panel, left, words, ahead, sums);
  } else {
    Walk<kProduct, kGroup, 0>(panel, left, words, ahead, sums);
  }
  HWY_UNROLL(12)
  for (int i = 0; i < kGroup; ++i) {
    done(i, 0, sums[i][0].Value());
    done(i, 16, sums[i][1].Value());
  }
}

#else

// Number `index` of each word: BF16 the upper half (1) or the lower (0), int8 the byte.
template <Product kProduct>
HWY_INLINE VF Number(hn::Vec<hn::RebindToUnsigned<DF> > words, int index) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const hn::RebindToSigned<DF> di;
  if constexpr (kProduct == Product::kBF16) {
    if (index == 1) return hn::BitCast(d, hn::And(words, hn::Set(du, 0xFFFF0000u)));
    return hn::BitCast(d, hn::ShiftLeft<16>(words));
  } else {
    // Keys lie as k + 128: flipping the sign bit takes it off.
    if constexpr (kProduct == Product::kKeysInt8) words = hn::Xor(words, hn::Set(du, 0x80808080u));
    auto bytes = hn::BitCast(di, words);
    if (index == 0) bytes = hn::ShiftLeft<24>(bytes);
    if (index == 1) bytes = hn::ShiftLeft<16>(bytes);
    if (index == 2) bytes = hn::ShiftLeft<8>(bytes);
    return hn::ConvertTo(d, hn::ShiftRight<24>(bytes));
  }
}

template <Product kProduct, int kGroup, class Done>
HWY_INLINE void MultiplyPanel(const std::byte* panel, const Left& left, const int32_t*,
                              int64_t words, const Ahead&, const Done& done) {
  const DF d;
  const hn::RebindToUnsigned<DF> du;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  constexpr int kNumbers = static_cast<int>(NumbersPerWord(kProduct));
  for (int64_t column = 0; column < 32; column += 2 * L) {
    VF sums[kGroup][2];
    HWY_UNROLL(4)
    for (int i = 0; i < kGroup; ++i) sums[i][0] = sums[i][1] = hn::Zero(d);
    const auto* at = reinterpret_cast<const uint32_t*>(panel) + column;
    for (int64_t k = 0; k < words; ++k, at += 32) {
      const auto w0 = hn::LoadU(du, at);
      const auto w1 = hn::LoadU(du, at + L);
      HWY_UNROLL(4)
      for (int j = kNumbers - 1; j >= 0; --j) {  // the odd number of a pair first
        const VF p0 = Number<kProduct>(w0, j);
        const VF p1 = Number<kProduct>(w1, j);
        HWY_UNROLL(4)
        for (int i = 0; i < kGroup; ++i) {
          const VF x = hn::Set(d, left.data[i * left.row + k * kNumbers + j]);
          sums[i][0] = hn::MulAdd(p0, x, sums[i][0]);
          sums[i][1] = hn::MulAdd(p1, x, sums[i][1]);
        }
      }
    }
    HWY_UNROLL(4)
    for (int i = 0; i < kGroup; ++i) {
      done(i, column, sums[i][0]);
      done(i, column + L, sums[i][1]);
    }
  }
}

#endif

// All lanes against one panel: done(lane, column, sum).
template <Product kProduct, class Done>
HWY_INLINE void Multiply(const std::byte* panel, const Left& left, const int32_t* bias,
                         int64_t lanes, int64_t words, const Ahead& ahead, const Done& done) {
  const int64_t groups = (lanes + kGroupMax - 1) / kGroupMax;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = lanes * g / groups;
    const int64_t count = lanes * (g + 1) / groups - first;
    Left part = left;
#if defined(LODE_ATTENTION_DOT)
    part.data += first * kWordChunk;
#else
    part.data += first * left.row;
#endif
    const int32_t* part_bias = bias == nullptr ? nullptr : bias + first;
    const int64_t half = g * words * kRecord / 2;
    const Ahead fetch = {ahead.next + half, ahead.after + half, g > 1 ? 0 : groups == 1 ? 2 : 1};
    const auto finish = [&](int64_t i, int64_t column, VF sum)
                            HWY_ATTR { done(first + i, column, sum); };
    switch (count) {
#define LODE_GROUP(n)                                                         \
  case n:                                                                     \
    MultiplyPanel<kProduct, n>(panel, part, part_bias, words, fetch, finish); \
    break;
      LODE_GROUP(1)
      LODE_GROUP(2)
      LODE_GROUP(3)
      LODE_GROUP(4)
#if defined(LODE_ATTENTION_DOT)
      LODE_GROUP(5)
      LODE_GROUP(6)
      LODE_GROUP(7)
      LODE_GROUP(8)
      LODE_GROUP(9)
      LODE_GROUP(10)
      LODE_GROUP(11)
      LODE_GROUP(12)
#endif
#undef LODE_GROUP
    }
  }
}
