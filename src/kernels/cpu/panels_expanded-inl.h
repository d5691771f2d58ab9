// Records whose codes are bytes and whose scales are f32 already, made once for all tiles that pass over
// a chunk: unpacking 4 to 6 bits and scales costs a tile as much as a fifth to a half of its dot
// products. The numbers and their order are those of panels-inl.h, so the bits are too. Included
// behind it and behind panels_avx512-inl.h.
//   record: u8 codes [8 groups][32 rows][4] | f32 scales [1 or 2][32] | f32 minima [32] or none

constexpr ExpandedKind KindOf(PanelFormat format) {
  const ScaleKind kind = TraitsOf(format).scales;
  if (kind == ScaleKind::kF16Min || kind == ScaleKind::kSuperMin) return kExpandedMinimum;
  return kind == ScaleKind::kUE4M3Pair || kind == ScaleKind::kSuperPair ? kExpandedPair
                                                                        : kExpandedOne;
}

template <PanelFormat F>
LODE_TILE void Expand(const uint8_t* w, int64_t records, uint8_t* out) {
  constexpr PanelTraits kT = TraitsOf(F);
  constexpr int64_t kHeader = HeaderBytes(kT.scales);
  const uint8_t* header = w;
  for (int64_t b = 0; b < records; ++b) {
    if constexpr (kHeader > 0) {
      if (b % kSuperRecords == 0) {
        header = w;
        w += kHeader;
      }
    }
    LODE_UNROLL
    for (int g = 0; g < 8; ++g) {
      VI codes[2];
      LoadCodes<F>(w, g, codes);
      _mm512_storeu_si512(out + g * 128, codes[0]);
      _mm512_storeu_si512(out + g * 128 + 64, codes[1]);
    }
    const uint8_t* scales = w + CodeBytes(kT.bits);
    auto* to = reinterpret_cast<float*>(out + CodeBytes(CodeBits::k8));
    for (int64_t row = 0; row < kPanelRows; row += kRows) {
      StoreF(WeightScale<kT.scales>(scales, header, row, 0), to + row);
      if constexpr (kSplit<F>) {
        StoreF(WeightScale<kT.scales>(scales, header, row, 1), to + kPanelRows + row);
      }
      if constexpr (KindOf(F) == kExpandedMinimum) {
        StoreF(WeightMinimum<kT.scales>(scales, header, row), to + kPanelRows + row);
      }
    }
    w += RecordBytes(F);
    out += ExpandedBytes(KindOf(F));
  }
}

template <int Groups, int M>
LODE_INLINE void ByteDots(const uint8_t* codes, int group0, const int8_t* q, VI (&sums)[M][2]) {
  LODE_UNROLL
  for (int g = group0; g < group0 + Groups; ++g) {
    const VI w[2] = {_mm512_loadu_si512(codes + g * 128), _mm512_loadu_si512(codes + g * 128 + 64)};
    LODE_UNROLL
    for (int m = 0; m < M; ++m) {
      const VI x = SetGroup(q + m * 32 + g * 4);
      sums[m][0] = _mm512_dpbusd_epi32(sums[m][0], w[0], x);
      sums[m][1] = _mm512_dpbusd_epi32(sums[m][1], w[1], x);
    }
  }
}

// f += one half of a record (or all of it) times its block of the tile.
template <int Halves, int M, bool Wide>
LODE_INLINE void AddExpanded(const uint8_t* w, int half, const uint8_t* a, uint32_t offset,
                             VF (&f)[M][2]) {
  constexpr int kGroups = 8 / Halves;
  const auto* q = reinterpret_cast<const int8_t*>(a);
  const auto* s = reinterpret_cast<const float*>(a + M * (Wide ? 64 : 32));
  const auto* n = reinterpret_cast<const int32_t*>(s + M);
  VI c[M][2];
  if constexpr (Wide) {
    LODE_UNROLL
    for (int m = 0; m < M; ++m) c[m][0] = c[m][1] = SetI(0);
    ByteDots<kGroups, M>(w, half * kGroups, q, c);
    EndPhase();
  }
  LODE_UNROLL
  for (int m = 0; m < M; ++m) {
    const int32_t sum = Halves == 1 ? n[m] : half == 0 ? n[M + m] : n[m] - n[M + m];
    const VI leaves = SetI(static_cast<int32_t>(static_cast<uint32_t>(sum) * offset));
    LODE_UNROLL
    for (int v = 0; v < 2; ++v) {
      c[m][v] = Wide ? AddI(SubI(ShiftLeftI<8>(c[m][v]), c[m][v]), leaves) : leaves;
      if constexpr (Wide) Hold(c[m][v]);
    }
  }
  ByteDots<kGroups, M>(w, half * kGroups, q + (Wide ? M * 32 : 0), c);
  if constexpr (Wide) EndPhase();
  const auto* scales = reinterpret_cast<const float*>(w + CodeBytes(CodeBits::k8)) +
                       half * kPanelRows;
  LODE_UNROLL
  for (int v = 0; v < 2; ++v) {
    const VF scale = LoadF(scales + v * kRows);
    LODE_UNROLL
    for (int m = 0; m < M; ++m) {
      f[m][v] = FmaF(CvtF(c[m][v]), MulF(scale, SetF(s[m])), f[m][v]);
    }
  }
}

template <ExpandedKind K, int M, bool Wide>
LODE_TILE void ExpandedTile(const IntTileJob& job) {
  constexpr int kHalves = K == kExpandedPair ? 2 : 1;
  const uint8_t* w = job.weights;
  const uint8_t* a = job.activations;
  const uint8_t* prefetch = job.prefetch;
  VF f[M][2];
  LoadSums(job.c, job.first, 0, f);
  for (int64_t b = 0; b < job.records; ++b) {
    prefetch = AskFor(prefetch, job.lines);
    LODE_UNROLL
    for (int half = 0; half < kHalves; ++half) {
      AddExpanded<kHalves, M, Wide>(w, half, a, job.offset, f);
    }
    if constexpr (K == kExpandedMinimum) {
      const auto* s = reinterpret_cast<const float*>(a + M * (Wide ? 64 : 32));
      const auto* minima =
          reinterpret_cast<const float*>(w + CodeBytes(CodeBits::k8)) + kPanelRows;
      LODE_UNROLL
      for (int v = 0; v < 2; ++v) {
        const VF minimum = LoadF(minima + v * kRows);
        LODE_UNROLL
        for (int m = 0; m < M; ++m) f[m][v] = FmaF(minimum, SetF(s[3 * M + m]), f[m][v]);
      }
    }
    w += ExpandedBytes(K);
    a += M * IntBlockBytes(Wide);
  }
  StoreSums(f, 0, job.c);
}

template <ExpandedKind K, bool Wide, int M = 1>
constexpr void FillExpandedTiles(PanelKernels* kernels) {
  if constexpr (M <= kIntTile) {
    kernels->expanded[K][Wide][M - 1] = ExpandedTile<K, M, Wide>;
    FillExpandedTiles<K, Wide, M + 1>(kernels);
  }
}

template <int I = 0>
constexpr void FillExpand(PanelKernels* kernels) {
  if constexpr (I < kIntegerFormats) {
    constexpr auto kFormat = static_cast<PanelFormat>(static_cast<int>(PanelFormat::kQ8_0) + I);
    // Codes that are bytes, or one mask away from them, gain nothing (panel_run.cc).
    if constexpr (TraitsOf(kFormat).bits != CodeBits::k8 && kFormat != PanelFormat::kQ4_0 &&
                  kFormat != PanelFormat::kQ4_1 && kFormat != PanelFormat::kIQ4NL) {
      kernels->expand[I] = Expand<kFormat>;
      kernels->expanded_kind[I] = KindOf(kFormat);
    }
    FillExpand<I + 1>(kernels);
  }
}

constexpr PanelKernels MakeKernelsWithExpansion() {
  PanelKernels kernels = MakeKernels();
#if !defined(LODE_QUICK)  // the bits are the same without
  FillExpand(&kernels);
  FillExpandedTiles<kExpandedOne, false>(&kernels);
  FillExpandedTiles<kExpandedOne, true>(&kernels);
  FillExpandedTiles<kExpandedPair, false>(&kernels);
  FillExpandedTiles<kExpandedPair, true>(&kernels);
  FillExpandedTiles<kExpandedMinimum, false>(&kernels);
  FillExpandedTiles<kExpandedMinimum, true>(&kernels);
#endif
  return kernels;
}
