// Vector operations of 256 bits for panels-inl.h: eight rows at once, for sixteen registers hold no
// more. The file that includes this defines LODE_DPBUSD to the integer dot product, where there is
// one. No include guard: included once per namespace.

constexpr int kRows = 8;
constexpr int VectorsFor(int tokens) { return tokens == 1 ? 4 : tokens == 2 ? 2 : 1; }
constexpr int PairVectorsFor(int tokens) { return tokens == 1 ? 4 : tokens == 2 ? 2 : 1; }
using VF = __m256;
using VI = __m256i;
struct WidePair {
  __m256 even, odd;
};

LODE_INLINE VF LoadF(const float* p) { return _mm256_loadu_ps(p); }
LODE_INLINE void StoreF(VF v, float* p) { _mm256_storeu_ps(p, v); }
LODE_INLINE VF SetF(float x) { return _mm256_set1_ps(x); }
LODE_INLINE VF MulF(VF a, VF b) { return _mm256_mul_ps(a, b); }
LODE_INLINE VF SubF(VF a, VF b) { return _mm256_sub_ps(a, b); }
LODE_INLINE VF FmaF(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }
LODE_INLINE VF CvtF(VI v) { return _mm256_cvtepi32_ps(v); }
LODE_INLINE VF BitCastF(VI v) { return _mm256_castsi256_ps(v); }
LODE_INLINE VI SetI(int32_t x) { return _mm256_set1_epi32(x); }
LODE_INLINE VI AddI(VI a, VI b) { return _mm256_add_epi32(a, b); }
LODE_INLINE VI SubI(VI a, VI b) { return _mm256_sub_epi32(a, b); }
LODE_INLINE VI AndI(VI a, VI b) { return _mm256_and_si256(a, b); }
LODE_INLINE VI OrI(VI a, VI b) { return _mm256_or_si256(a, b); }
LODE_INLINE VI MaxI(VI a, VI b) { return _mm256_max_epi32(a, b); }
LODE_INLINE void EndPhase() {}
LODE_INLINE void Hold(VI&) {}
template <int N>
LODE_INLINE VI ShiftLeftI(VI a) {
  return _mm256_slli_epi32(a, N);
}
LODE_INLINE VF LoadHalves(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
LODE_INLINE VI LoadBytesI(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
LODE_INLINE VI LoadSignedI(const uint8_t* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
LODE_INLINE VI LoadBytes(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

// The offset codes of one group for rows row0 to row0 + 7, 4 columns each.
template <PanelFormat F>
LODE_INLINE VI LoadCodes(const uint8_t* codes, int group, int64_t row0) {
  constexpr PanelTraits kT = TraitsOf(F);
  if constexpr (kT.bits == CodeBits::k8) return LoadBytes(codes + group * 128 + row0 * 4);
  const bool upper = row0 >= 16;  // the high halves
  const int64_t at = (row0 & 15) * 4;
  const VI both = LoadBytes(codes + group * 64 + at);
  VI w = _mm256_and_si256(upper ? _mm256_srli_epi16(both, 4) : both, _mm256_set1_epi8(15));
  if constexpr (kT.table != nullptr) {
    static constexpr OffsetTable<F> kTable;
    const __m128i table = _mm_load_si128(reinterpret_cast<const __m128i*>(kTable.codes));
    w = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), w);
  }
  if constexpr (kT.bits == CodeBits::k5) {
    // Byte i of the vector wants bit i of 32: spread the four bytes, then pick a bit each.
    int32_t bits;
    __builtin_memcpy(&bits, codes + 512 + group * 16 + row0 / 2, sizeof(bits));
    const VI spread = _mm256_shuffle_epi8(
        _mm256_set1_epi32(bits),
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303));
    const VI pick = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
    const VI set = _mm256_cmpeq_epi8(_mm256_and_si256(spread, pick), pick);
    w = _mm256_or_si256(w, _mm256_and_si256(set, _mm256_set1_epi8(16)));
  }
  if constexpr (kT.bits == CodeBits::k6) {
    VI high = LoadBytes(codes + 512 + group / 2 * 64 + at);
    const int from = (group % 2 != 0 ? 4 : 0) + (upper ? 2 : 0);
    high = from <= 4 ? _mm256_slli_epi16(high, 4 - from) : _mm256_srli_epi16(high, from - 4);
    w = _mm256_or_si256(w, _mm256_and_si256(high, _mm256_set1_epi8(0x30)));
  }
  return w;
}

LODE_INLINE VI SetGroup(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof(four));
  return _mm256_set1_epi32(four);
}

#ifdef LODE_DPBUSD
constexpr bool SignedDots(PanelFormat) { return false; }

template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void Dots(const uint8_t* codes, int group0, int64_t row0, const int8_t* q,
                      VI (&sums)[M][V]) {
  LODE_UNROLL
  for (int g = group0; g < group0 + Groups; ++g) {
    LODE_UNROLL
    for (int v = 0; v < V; ++v) {
      const VI w = LoadCodes<F>(codes, g, row0 + v * kRows);
      LODE_UNROLL
      for (int m = 0; m < M; ++m) {
        sums[m][v] = LODE_DPBUSD(sums[m][v], w, SetGroup(q + m * 32 + g * 4));
      }
    }
  }
}
#else
constexpr bool SignedDots(PanelFormat format) { return !FitsPairSums(format); }

// One vector of rows: products of signed codes.
template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void SignedSums(const uint8_t* codes, int group0, int64_t row0, int v, const int8_t* q,
                            VI (&sums)[M][V]) {
  const VI ones = _mm256_set1_epi16(1);
  LODE_UNROLL
  for (int g = group0; g < group0 + Groups; ++g) {
    const VI w = _mm256_xor_si256(LoadCodes<F>(codes, g, row0),
                                  _mm256_set1_epi8(static_cast<char>(0x80)));
    const VI magnitude = _mm256_abs_epi8(w);  // 128 as an unsigned byte where w is -128
    LODE_UNROLL
    for (int m = 0; m < M; ++m) {
      const VI x = _mm256_sign_epi8(SetGroup(q + m * 32 + g * 4), w);
      const VI pairs = _mm256_maddubs_epi16(magnitude, x);
      sums[m][v] = AddI(sums[m][v], _mm256_madd_epi16(pairs, ones));
    }
  }
}

// One vector of rows: products of unsigned codes that are small enough to be summed in 16 bits.
template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void PairSums(const uint8_t* codes, int group0, int64_t row0, int v, const int8_t* q,
                          VI (&sums)[M][V]) {
  const VI ones = _mm256_set1_epi16(1);
  constexpr int kEvery = std::min(Groups, GroupsBetweenSums(F));
  LODE_UNROLL
  for (int begin = group0; begin < group0 + Groups; begin += kEvery) {
    VI pairs[M];
    LODE_UNROLL
    for (int m = 0; m < M; ++m) pairs[m] = _mm256_setzero_si256();
    LODE_UNROLL
    for (int g = begin; g < begin + kEvery; ++g) {
      const VI w = LoadCodes<F>(codes, g, row0);
      LODE_UNROLL
      for (int m = 0; m < M; ++m) {
        const VI products = _mm256_maddubs_epi16(w, SetGroup(q + m * 32 + g * 4));
        pairs[m] = _mm256_add_epi16(pairs[m], products);
      }
    }
    LODE_UNROLL
    for (int m = 0; m < M; ++m) sums[m][v] = AddI(sums[m][v], _mm256_madd_epi16(pairs[m], ones));
  }
}

template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void Dots(const uint8_t* codes, int group0, int64_t row0, const int8_t* q,
                      VI (&sums)[M][V]) {
  LODE_UNROLL
  for (int v = 0; v < V; ++v) {
    if constexpr (SignedDots(F)) {
      SignedSums<F, Groups, M, V>(codes, group0, row0 + v * kRows, v, q, sums);
    } else {
      PairSums<F, Groups, M, V>(codes, group0, row0 + v * kRows, v, q, sums);
    }
  }
}
#endif

LODE_INLINE WidePair Widen(VI pair) {
  return {BitCastF(ShiftLeftI<16>(pair)),
          BitCastF(AndI(pair, SetI(static_cast<int32_t>(0xFFFF0000u))))};
}
LODE_INLINE WidePair LoadPair(const uint8_t* p) { return Widen(LoadBytes(p)); }
LODE_INLINE WidePair SetPair(const uint16_t* x) {
  int32_t two;
  __builtin_memcpy(&two, x, sizeof(two));
  return Widen(SetI(two));
}
LODE_INLINE VF DotPair(const WidePair& a, const WidePair& b, VF sum) {
  return FmaF(a.even, b.even, FmaF(a.odd, b.odd, sum));
}
