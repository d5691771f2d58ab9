// The tiles of panels.h, written over the few vector operations that an instruction set defines
// before it includes this file, inside a namespace of its own and under its compile attributes:
//   kRows      f32 lanes of a vector: rows at once
//   VectorsFor(M)  vectors of rows that a tile of M tokens holds together: few tokens leave registers
//                  for more rows, so that a panel is walked less often
//   VF, VI     vectors of kRows floats, int32
//   LoadF StoreF SetF MulF FmaF CvtF(VI) SetI ShiftLeftI<n> SubI AddI
//   LoadHalves(p)        kRows f16 -> VF
//   LoadBytesI(p)        kRows u8 -> VI;  LoadSignedI(p)  kRows i8 -> VI
//   BitCastF(VI)
//   EndPhase(), Hold(VI) nothing behind it is read earlier, this value is computed here: else the
//                        compiler loads weights of the next phase early and spills sums for them;
//                        or nothing, where that was not found to pay
//   Dots<F, Groups, M>(codes, group0, row0, q, sums)   sums[m][v] += Groups exact dot products of
//   four SignedDots(F)        whether Dots takes signed codes, so that no offset needs to leave
//   PairVectorsFor(M), WidePair, LoadPair, SetPair, DotPair for BF16
// No include guard: it is meant to be included more than once.

// The scales of a record as two vectors per row vector, the second one for the second 16 columns.
template <ScaleKind K>
LODE_INLINE VF WeightScale(const uint8_t* scales, const uint8_t* header, int64_t row, int half) {
  if constexpr (K == ScaleKind::kF16 || K == ScaleKind::kF16Min) {
    return LoadHalves(scales + 2 * row);
  } else if constexpr (K == ScaleKind::kE8M0) {
    // 2^(code - 128); codes 0 and 1 give subnormal numbers.
    const VI code = LoadBytesI(scales + row);
    const VI bits = MaxI(ShiftLeftI<23>(code), SetI(0x00400000));
    return MulF(BitCastF(bits), SetF(0.5f));
  } else if constexpr (K == ScaleKind::kUE4M3Pair) {
    // Half of the scale, for the codes are doubled. The sign bit moves to the front.
    const VI code = LoadBytesI(scales + 32 * half + row);
    const VI low = AndI(code, SetI(0x7F));
    const VI bits = OrI(ShiftLeftI<20>(low), ShiftLeftI<24>(SubI(code, low)));
    return MulF(BitCastF(bits), SetF(0x1p119f));
  } else if constexpr (K == ScaleKind::kSuperMin) {
    return MulF(LoadHalves(header + 2 * row), CvtF(LoadBytesI(scales + row)));
  } else {
    return MulF(LoadHalves(header + 2 * row), CvtF(LoadSignedI(scales + 32 * half + row)));
  }
}

// What is added to every value of a row in a record, not yet times the activations' sum.
template <ScaleKind K>
LODE_INLINE VF WeightMinimum(const uint8_t* scales, const uint8_t* header, int64_t row) {
  if constexpr (K == ScaleKind::kF16Min) {
    return LoadHalves(scales + 64 + 2 * row);
  } else {
    const VF minimum = MulF(LoadHalves(header + 64 + 2 * row), CvtF(LoadBytesI(scales + 32 + row)));
    return SubF(SetF(0.0f), minimum);
  }
}

template <PanelFormat F>
constexpr bool kSplit = TraitsOf(F).scales == ScaleKind::kUE4M3Pair ||
                        TraitsOf(F).scales == ScaleKind::kSuperPair;

// The exact sums of one half of a record (or of all of it, where the type does not scale 16): of
// the high digits first when there are two, then the offset leaves, then the (low) digits.
template <PanelFormat F, int M, bool Wide, int V>
LODE_INLINE void BlockSums(const uint8_t* w, int64_t row0, int half, const int8_t* q,
                           const int32_t* n, VI (&c)[M][V]) {
  constexpr int kShift = SignedDots(F) ? -1 : TraitsOf(F).offset_shift;
  constexpr int kGroups = kSplit<F> ? 4 : 8;
  LODE_UNROLL
  for (int m = 0; m < M; ++m) {
    LODE_UNROLL
    for (int v = 0; v < V; ++v) c[m][v] = SetI(0);
  }
  if constexpr (Wide) {
    Dots<F, kGroups, M>(w, half * kGroups, row0, q, c);
    EndPhase();
    LODE_UNROLL
    for (int m = 0; m < M; ++m) {
      LODE_UNROLL
      for (int v = 0; v < V; ++v) c[m][v] = SubI(ShiftLeftI<8>(c[m][v]), c[m][v]);
    }
  }
  if constexpr (kShift >= 0) {
    LODE_UNROLL
    for (int m = 0; m < M; ++m) {
      const int32_t sum = !kSplit<F> ? n[m] : half == 0 ? n[M + m] : n[m] - n[M + m];
      const VI offset = SetI(static_cast<int32_t>(static_cast<uint32_t>(sum) << kShift));
      LODE_UNROLL
      for (int v = 0; v < V; ++v) {
        c[m][v] = Wide ? AddI(c[m][v], offset) : offset;
        if constexpr (Wide) Hold(c[m][v]);
      }
    }
  }
  Dots<F, kGroups, M>(w, half * kGroups, row0, q + (Wide ? M * 32 : 0), c);
  if constexpr (Wide) EndPhase();
}

// f += one record times its block of the tile.
template <PanelFormat F, int M, bool Wide, int V>
LODE_INLINE void AddRecord(const uint8_t* w, const uint8_t* header, const uint8_t* a, int64_t row0,
                           VF (&f)[M][V]) {
  constexpr PanelTraits kT = TraitsOf(F);
  const uint8_t* scales = w + CodeBytes(kT.bits);
  const auto* s = reinterpret_cast<const float*>(a + M * (Wide ? 64 : 32));
  const auto* n = reinterpret_cast<const int32_t*>(s + M);
  LODE_UNROLL
  for (int half = 0; half < (kSplit<F> ? 2 : 1); ++half) {
    VI c[M][V];
    BlockSums<F, M, Wide>(w, row0, half, reinterpret_cast<const int8_t*>(a), n, c);
    LODE_UNROLL
    for (int v = 0; v < V; ++v) {
      const VF scale = WeightScale<kT.scales>(scales, header, row0 + v * kRows, half);
      LODE_UNROLL
      for (int m = 0; m < M; ++m) {
        f[m][v] = FmaF(CvtF(c[m][v]), MulF(scale, SetF(s[m])), f[m][v]);
      }
    }
    if constexpr (Wide) EndPhase();
  }
  if constexpr (kT.scales == ScaleKind::kF16Min || kT.scales == ScaleKind::kSuperMin) {
    const auto* sums = s + 3 * M;
    LODE_UNROLL
    for (int v = 0; v < V; ++v) {
      const VF minimum = WeightMinimum<kT.scales>(scales, header, row0 + v * kRows);
      LODE_UNROLL
      for (int m = 0; m < M; ++m) f[m][v] = FmaF(minimum, SetF(sums[m]), f[m][v]);
    }
  }
}

// c [M][32] at row0 into registers, or zeros; and back.
template <int M, int V>
LODE_INLINE void LoadSums(const float* c, bool first, int64_t row0, VF (&f)[M][V]) {
  LODE_UNROLL
  for (int m = 0; m < M; ++m) {
    LODE_UNROLL
    for (int v = 0; v < V; ++v) {
      f[m][v] = first ? SetF(0.0f) : LoadF(c + m * kPanelRows + row0 + v * kRows);
    }
  }
}
template <int M, int V>
LODE_INLINE void StoreSums(const VF (&f)[M][V], int64_t row0, float* c) {
  LODE_UNROLL
  for (int m = 0; m < M; ++m) {
    LODE_UNROLL
    for (int v = 0; v < V; ++v) StoreF(f[m][v], c + m * kPanelRows + row0 + v * kRows);
  }
}

LODE_INLINE const uint8_t* AskFor(const uint8_t* at, int64_t lines) {
  for (int64_t i = 0; i < lines; ++i, at += 64) __builtin_prefetch(at);
  return at;
}

template <PanelFormat F, int M, bool Wide>
LODE_TILE void IntTile(const IntTileJob& job) {
  constexpr int64_t kHeader = HeaderBytes(TraitsOf(F).scales);
  constexpr int kVectors = VectorsFor(M);
  for (int64_t row0 = 0; row0 < kPanelRows; row0 += kRows * kVectors) {
    const uint8_t* w = job.weights;
    const uint8_t* a = job.activations;
    const uint8_t* prefetch = job.prefetch;
    const uint8_t* header = w;
    VF f[M][kVectors];
    LoadSums(job.c, job.first, row0, f);
    for (int64_t b = 0; b < job.records; ++b) {
      if (row0 == 0) prefetch = AskFor(prefetch, job.lines);
      if constexpr (kHeader > 0) {
        if (b % kSuperRecords == 0) {
          header = w;
          w += kHeader;
        }
      }
      AddRecord<F, M, Wide>(w, header, a, row0, f);
      w += RecordBytes(F);
      a += M * IntBlockBytes(Wide);
    }
    StoreSums(f, row0, job.c);
  }
}

// acc += the pair of columns: the odd one first, then the even one (what the BF16 dot product
// does).
template <int M, bool Wide>
LODE_TILE void BF16TileOf(const BF16TileJob& job) {
  constexpr int kPairVectors = PairVectorsFor(M);
  for (int64_t row0 = 0; row0 < kPanelRows; row0 += kRows * kPairVectors) {
    VF f[M][kPairVectors];
    LoadSums(job.c, job.first, row0, f);
    const uint8_t* w = job.weights + row0 * 4;
    const uint8_t* prefetch = job.prefetch;
    for (int64_t k = 0; k < job.pairs; ++k) {
      if (row0 == 0 && k % 8 == 0) prefetch = AskFor(prefetch, job.lines);
      WidePair pair[kPairVectors];
      LODE_UNROLL
      for (int v = 0; v < kPairVectors; ++v) pair[v] = LoadPair(w + v * kRows * 4);
      LODE_UNROLL
      for (int m = 0; m < M; ++m) {
        const uint16_t* x = job.activations + m * job.stride + 2 * k;
        const auto high = SetPair(x);
        LODE_UNROLL
        for (int v = 0; v < kPairVectors; ++v) f[m][v] = DotPair(pair[v], high, f[m][v]);
        if constexpr (Wide) {
          const auto low = SetPair(x + job.low_offset);
          LODE_UNROLL
          for (int v = 0; v < kPairVectors; ++v) f[m][v] = DotPair(pair[v], low, f[m][v]);
        }
      }
      w += kPanelRows * 4;
    }
    StoreSums(f, row0, job.c);
  }
}

template <bool F16, int M>
LODE_TILE void FloatTile(const FloatTileJob& job) {
  constexpr int kVectors = PairVectorsFor(M);
  constexpr int64_t kBytes = F16 ? 2 : 4;
  for (int64_t row0 = 0; row0 < kPanelRows; row0 += kRows * kVectors) {
    VF f[M][kVectors];
    LoadSums(job.c, job.first, row0, f);
    const uint8_t* w = job.weights + row0 * kBytes;
    const uint8_t* prefetch = job.prefetch;
    for (int64_t k = 0; k < job.columns; ++k) {
      if (row0 == 0 && k % 8 == 0) prefetch = AskFor(prefetch, job.lines);
      VF column[kVectors];
      LODE_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (F16) {
          column[v] = LoadHalves(w + v * kRows * kBytes);
        } else {
          column[v] = LoadF(reinterpret_cast<const float*>(w) + v * kRows);
        }
      }
      LODE_UNROLL
      for (int m = 0; m < M; ++m) {
        const VF x = SetF(job.x[m * job.stride + k]);
        LODE_UNROLL
        for (int v = 0; v < kVectors; ++v) f[m][v] = FmaF(column[v], x, f[m][v]);
      }
      w += kPanelRows * kBytes;
    }
    StoreSums(f, row0, job.c);
  }
}

template <int M>
LODE_TILE void BF16Tile(const BF16TileJob& job) {
  if (job.low_offset != 0) {
    BF16TileOf<M, true>(job);
  } else {
    BF16TileOf<M, false>(job);
  }
}

// Bits moved to f32's places times 2^120, then the upper half: exact, for E4M3 has three bits of
// mantissa. The loop is one that compilers turn into vectors.
LODE_TILE void WidenF8(const uint8_t* codes, int64_t count, uint16_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t code = codes[i];
    const uint32_t magnitude = code & 0x7Fu;
    const float value = __builtin_bit_cast(float, magnitude << 20) * 0x1p120f;
    const uint32_t bits = __builtin_bit_cast(uint32_t, value) | (code & 0x80u) << 24;
    out[i] = static_cast<uint16_t>(magnitude == 0x7Fu ? 0x7FC0u : bits >> 16);
  }
}

template <PanelFormat F, bool Wide>
constexpr void FillTiles(IntTileFn* tiles) {
  tiles[0] = IntTile<F, 1, Wide>;
  tiles[1] = IntTile<F, 2, Wide>;
  tiles[2] = IntTile<F, 3, Wide>;
  tiles[3] = IntTile<F, 4, Wide>;
  tiles[4] = IntTile<F, 5, Wide>;
  tiles[5] = IntTile<F, 6, Wide>;
}

template <int I = 0>
constexpr void FillFormats(PanelKernels* kernels) {
  if constexpr (I < kIntegerFormats) {
    constexpr auto kFormat = static_cast<PanelFormat>(static_cast<int>(PanelFormat::kQ8_0) + I);
    FillTiles<kFormat, false>(kernels->integer[I][0]);
    FillTiles<kFormat, true>(kernels->integer[I][1]);
    FillFormats<I + 1>(kernels);
  }
}

template <int M = 1>
constexpr void FillBF16(PanelKernels* kernels) {
  if constexpr (M <= kBF16Tile) {
    kernels->bf16[M - 1] = BF16Tile<M>;
    kernels->floats[0][M - 1] = FloatTile<true, M>;
    kernels->floats[1][M - 1] = FloatTile<false, M>;
    FillBF16<M + 1>(kernels);
  }
}

constexpr PanelKernels MakeKernels() {
  PanelKernels kernels = {};
  FillFormats(&kernels);
  FillBF16(&kernels);
  kernels.widen_f8 = WidenF8;
  return kernels;
}
