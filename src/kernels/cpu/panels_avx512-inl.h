// Vector operations of 512 bits for panels-inl.h. The file that includes this defines
// LODE_DOT_INSTRUCTIONS to 1 where VNNI and BF16 dot products exist, else to 0.
// No include guard: included once per namespace.

constexpr int kRows = 16;
constexpr int VectorsFor(int) { return 2; }
constexpr int PairVectorsFor(int) { return 2; }
using VF = __m512;
using VI = __m512i;
using WidePair = __m512i;

LODE_INLINE VF LoadF(const float* p) { return _mm512_loadu_ps(p); }
LODE_INLINE void StoreF(VF v, float* p) { _mm512_storeu_ps(p, v); }
LODE_INLINE VF SetF(float x) { return _mm512_set1_ps(x); }
LODE_INLINE VF MulF(VF a, VF b) { return _mm512_mul_ps(a, b); }
LODE_INLINE VF SubF(VF a, VF b) { return _mm512_sub_ps(a, b); }
LODE_INLINE VF FmaF(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
LODE_INLINE VF CvtF(VI v) { return _mm512_cvtepi32_ps(v); }
LODE_INLINE VF BitCastF(VI v) { return _mm512_castsi512_ps(v); }
LODE_INLINE VI SetI(int32_t x) { return _mm512_set1_epi32(x); }
LODE_INLINE VI AddI(VI a, VI b) { return _mm512_add_epi32(a, b); }
LODE_INLINE VI SubI(VI a, VI b) { return _mm512_sub_epi32(a, b); }
LODE_INLINE VI AndI(VI a, VI b) { return _mm512_and_si512(a, b); }
LODE_INLINE VI OrI(VI a, VI b) { return _mm512_or_si512(a, b); }
LODE_INLINE VI MaxI(VI a, VI b) { return _mm512_max_epi32(a, b); }
LODE_INLINE void EndPhase() { __asm__ volatile("" ::: "memory"); }
LODE_INLINE void Hold(VI& v) { __asm__ volatile("" : "+v"(v)); }
template <int N>
LODE_INLINE VI ShiftLeftI(VI a) {
  return _mm512_slli_epi32(a, N);
}
LODE_INLINE VF LoadHalves(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
LODE_INLINE VI LoadBytesI(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
LODE_INLINE VI LoadSignedI(const uint8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// The offset codes of one group: rows 0-15 and rows 16-31, 4 columns each.
template <PanelFormat F>
LODE_INLINE void LoadCodes(const uint8_t* codes, int group, VI* w) {
  constexpr PanelTraits kT = TraitsOf(F);
  if constexpr (kT.bits == CodeBits::k8) {
    w[0] = _mm512_loadu_si512(codes + group * 128);
    w[1] = _mm512_loadu_si512(codes + group * 128 + 64);
    return;
  }
  const VI low_mask = _mm512_set1_epi8(15);
  const VI both = _mm512_loadu_si512(codes + group * 64);
  w[0] = _mm512_and_si512(both, low_mask);
  w[1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_mask);
  if constexpr (kT.table != nullptr) {
    static constexpr OffsetTable<F> kTable;
    const VI lookup =
        _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(kTable.codes)));
    w[0] = _mm512_shuffle_epi8(lookup, w[0]);
    w[1] = _mm512_shuffle_epi8(lookup, w[1]);
  }
  if constexpr (kT.bits == CodeBits::k5) {
    uint64_t bits[2];
    __builtin_memcpy(bits, codes + 512 + group * 16, sizeof(bits));
    const VI sixteen = _mm512_set1_epi8(16);
    w[0] = _mm512_mask_add_epi8(w[0], bits[0], w[0], sixteen);
    w[1] = _mm512_mask_add_epi8(w[1], bits[1], w[1], sixteen);
  }
  if constexpr (kT.bits == CodeBits::k6) {
    const VI high = _mm512_loadu_si512(codes + 512 + group / 2 * 64);
    const VI mask = _mm512_set1_epi8(0x30);
    const bool odd = group % 2 != 0;
    const VI first = odd ? high : _mm512_slli_epi16(high, 4);
    const VI second = odd ? _mm512_srli_epi16(high, 2) : _mm512_slli_epi16(high, 2);
    w[0] = _mm512_or_si512(w[0], _mm512_and_si512(first, mask));
    w[1] = _mm512_or_si512(w[1], _mm512_and_si512(second, mask));
  }
}

LODE_INLINE VI SetGroup(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof(four));
  return _mm512_set1_epi32(four);
}

#if LODE_DOT_INSTRUCTIONS
constexpr bool SignedDots(PanelFormat) { return false; }

template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void Dots(const uint8_t* codes, int group0, int64_t, const int8_t* q,
                      VI (&sums)[M][V]) {
  LODE_UNROLL
  for (int g = 0; g < Groups; ++g) {
    VI w[2];
    LoadCodes<F>(codes, group0 + g, w);
    LODE_UNROLL
    for (int m = 0; m < M; ++m) {
      const VI x = SetGroup(q + m * 32 + (group0 + g) * 4);
      sums[m][0] = _mm512_dpbusd_epi32(sums[m][0], w[0], x);
      sums[m][1] = _mm512_dpbusd_epi32(sums[m][1], w[1], x);
    }
  }
}
#else
constexpr bool SignedDots(PanelFormat format) { return !FitsPairSums(format); }

template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void Dots(const uint8_t* codes, int group0, int64_t, const int8_t* q,
                      VI (&sums)[M][V]) {
  const VI ones = _mm512_set1_epi16(1);
  if constexpr (SignedDots(F)) {
    const VI offset = _mm512_set1_epi8(static_cast<char>(0x80));
    const VI zero = _mm512_setzero_si512();
    LODE_UNROLL
    for (int g = 0; g < Groups; ++g) {
      VI w[2];
      LoadCodes<F>(codes, group0 + g, w);
      VI magnitude[2];  // 128 as an unsigned byte where w is -128
      __mmask64 negative[2];
      LODE_UNROLL
      for (int v = 0; v < 2; ++v) {
        w[v] = _mm512_xor_si512(w[v], offset);
        magnitude[v] = _mm512_abs_epi8(w[v]);
        negative[v] = _mm512_movepi8_mask(w[v]);
      }
      LODE_UNROLL
      for (int m = 0; m < M; ++m) {
        const VI x = SetGroup(q + m * 32 + (group0 + g) * 4);
        LODE_UNROLL
        for (int v = 0; v < 2; ++v) {
          const VI turned = _mm512_mask_sub_epi8(x, negative[v], zero, x);
          const VI pairs = _mm512_maddubs_epi16(magnitude[v], turned);
          sums[m][v] = AddI(sums[m][v], _mm512_madd_epi16(pairs, ones));
        }
      }
    }
  } else {
    constexpr int kEvery = std::min(Groups, GroupsBetweenSums(F));
    LODE_UNROLL
    for (int begin = 0; begin < Groups; begin += kEvery) {
      VI pairs[M][2];
      LODE_UNROLL
      for (int m = 0; m < M; ++m) pairs[m][0] = pairs[m][1] = _mm512_setzero_si512();
      LODE_UNROLL
      for (int i = 0; i < kEvery; ++i) {
        const int g = begin + i;
        VI w[2];
        LoadCodes<F>(codes, group0 + g, w);
        LODE_UNROLL
        for (int m = 0; m < M; ++m) {
          const VI x = SetGroup(q + m * 32 + (group0 + g) * 4);
          pairs[m][0] = _mm512_add_epi16(pairs[m][0], _mm512_maddubs_epi16(w[0], x));
          pairs[m][1] = _mm512_add_epi16(pairs[m][1], _mm512_maddubs_epi16(w[1], x));
        }
      }
      LODE_UNROLL
      for (int m = 0; m < M; ++m) {
        sums[m][0] = AddI(sums[m][0], _mm512_madd_epi16(pairs[m][0], ones));
        sums[m][1] = AddI(sums[m][1], _mm512_madd_epi16(pairs[m][1], ones));
      }
    }
  }
}
#endif

LODE_INLINE WidePair LoadPair(const uint8_t* p) { return _mm512_loadu_si512(p); }
LODE_INLINE WidePair SetPair(const uint16_t* x) {
  int32_t two;
  __builtin_memcpy(&two, x, sizeof(two));
  return _mm512_set1_epi32(two);
}
LODE_INLINE VF DotPair(WidePair a, WidePair b, VF sum) {
#if LODE_DOT_INSTRUCTIONS
  return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#else
  const VI odd_mask = _mm512_set1_epi32(static_cast<int32_t>(0xFFFF0000u));
  const VF odd_a = BitCastF(AndI(a, odd_mask)), odd_b = BitCastF(AndI(b, odd_mask));
  sum = FmaF(odd_a, odd_b, sum);
  return FmaF(BitCastF(ShiftLeftI<16>(a)), BitCastF(ShiftLeftI<16>(b)), sum);
#endif
}
