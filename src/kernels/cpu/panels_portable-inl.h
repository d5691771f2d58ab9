// Vector operations in plain C++ for panels-inl.h: eight rows in arrays that a compiler may turn into
// whatever vectors it has. The same bits as every other instruction set.
// No include guard: included once per namespace.

constexpr int kRows = 8;
constexpr int VectorsFor(int) { return 1; }
constexpr int PairVectorsFor(int) { return 1; }
struct VF {
  float lane[kRows];
};
struct VI {
  int32_t lane[kRows];
};
struct WidePair {
  VF even, odd;
};

template <class V, class Lane>
LODE_INLINE V Each(const Lane& lane) {
  V v;
  for (int i = 0; i < kRows; ++i) v.lane[i] = lane(i);
  return v;
}
LODE_INLINE VF LoadF(const float* p) {
  return Each<VF>([&](int i) { return p[i]; });
}
LODE_INLINE void StoreF(const VF& v, float* p) {
  for (int i = 0; i < kRows; ++i) p[i] = v.lane[i];
}
LODE_INLINE VF SetF(float x) {
  return Each<VF>([&](int) { return x; });
}
LODE_INLINE VF MulF(const VF& a, const VF& b) {
  return Each<VF>([&](int i) { return a.lane[i] * b.lane[i]; });
}
LODE_INLINE VF SubF(const VF& a, const VF& b) {
  return Each<VF>([&](int i) { return a.lane[i] - b.lane[i]; });
}
LODE_INLINE VF FmaF(const VF& a, const VF& b, const VF& c) {
  return Each<VF>([&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
}
LODE_INLINE VF CvtF(const VI& v) {
  return Each<VF>([&](int i) { return static_cast<float>(v.lane[i]); });
}
LODE_INLINE VF BitCastF(const VI& v) {
  return Each<VF>([&](int i) { return __builtin_bit_cast(float, v.lane[i]); });
}
LODE_INLINE VI SetI(int32_t x) {
  return Each<VI>([&](int) { return x; });
}
LODE_INLINE VI AddI(const VI& a, const VI& b) {
  return Each<VI>([&](int i) { return a.lane[i] + b.lane[i]; });
}
LODE_INLINE VI SubI(const VI& a, const VI& b) {
  return Each<VI>([&](int i) { return a.lane[i] - b.lane[i]; });
}
LODE_INLINE VI AndI(const VI& a, const VI& b) {
  return Each<VI>([&](int i) { return a.lane[i] & b.lane[i]; });
}
LODE_INLINE VI OrI(const VI& a, const VI& b) {
  return Each<VI>([&](int i) { return a.lane[i] | b.lane[i]; });
}
LODE_INLINE VI MaxI(const VI& a, const VI& b) {
  return Each<VI>([&](int i) { return std::max(a.lane[i], b.lane[i]); });
}
LODE_INLINE void EndPhase() {}
LODE_INLINE void Hold(VI&) {}
template <int N>
LODE_INLINE VI ShiftLeftI(const VI& a) {
  return Each<VI>(
      [&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) << N); });
}
LODE_INLINE VF LoadHalves(const uint8_t* p) {
  return Each<VF>(
      [&](int i) { return tensor::F16ToFloat(tensor::LoadUnaligned<uint16_t>(p + 2 * i)); });
}
LODE_INLINE VI LoadBytesI(const uint8_t* p) {
  return Each<VI>([&](int i) { return int32_t{p[i]}; });
}
LODE_INLINE VI LoadSignedI(const uint8_t* p) {
  return Each<VI>([&](int i) { return int32_t{static_cast<int8_t>(p[i])}; });
}

constexpr bool SignedDots(PanelFormat) { return false; }

// The offset code of row0's group at byte i (row i / 4, column i % 4).
template <PanelFormat F>
LODE_INLINE int32_t CodeAt(const uint8_t* codes, int group, int64_t row0, int i) {
  constexpr PanelTraits kT = TraitsOf(F);
  const int64_t byte = row0 * 4 + i;  // of 128
  if constexpr (kT.bits == CodeBits::k8) return codes[group * 128 + byte];
  const uint8_t both = codes[group * 64 + (byte & 63)];
  int32_t code = byte >= 64 ? both >> 4 : both & 15;
  if constexpr (kT.table != nullptr) {
    static constexpr OffsetTable<F> kTable;
    code = kTable.codes[code];
  }
  if constexpr (kT.bits == CodeBits::k5) {
    code |= (codes[512 + group * 16 + byte / 8] >> (byte % 8) & 1) << 4;
  }
  if constexpr (kT.bits == CodeBits::k6) {
    const int from = (group % 2 != 0 ? 4 : 0) + (byte >= 64 ? 2 : 0);
    code |= (codes[512 + group / 2 * 64 + (byte & 63)] >> from & 3) << 4;
  }
  return code;
}

template <PanelFormat F, int Groups, int M, int V>
LODE_INLINE void Dots(const uint8_t* codes, int group0, int64_t row0, const int8_t* q,
                      VI (&sums)[M][V]) {
  for (int g = group0; g < group0 + Groups; ++g) {
    int32_t w[4 * kRows];
    for (int i = 0; i < 4 * kRows; ++i) w[i] = CodeAt<F>(codes, g, row0, i);
    for (int m = 0; m < M; ++m) {
      const int8_t* x = q + m * 32 + g * 4;
      for (int r = 0; r < kRows; ++r) {
        sums[m][0].lane[r] +=
            w[4 * r] * x[0] + w[4 * r + 1] * x[1] + w[4 * r + 2] * x[2] + w[4 * r + 3] * x[3];
      }
    }
  }
}

LODE_INLINE float Bf16(const void* p) {
  return tensor::Bf16ToFloat(tensor::LoadUnaligned<uint16_t>(p));
}
LODE_INLINE WidePair LoadPair(const uint8_t* p) {
  return {Each<VF>([&](int i) { return Bf16(p + 4 * i); }),
          Each<VF>([&](int i) { return Bf16(p + 4 * i + 2); })};
}
LODE_INLINE WidePair SetPair(const uint16_t* x) { return {SetF(Bf16(x)), SetF(Bf16(x + 1))}; }
LODE_INLINE VF DotPair(const WidePair& a, const WidePair& b, const VF& sum) {
  return FmaF(a.even, b.even, FmaF(a.odd, b.odd, sum));
}
