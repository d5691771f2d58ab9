// Every quantized type's blocks from the fits of encode-inl.h: what is stored, in which order of
// bits. Layouts are those of tensor/blocks.cc, which decodes them.
//
// No include guard: not a header of declarations.

namespace lode::quant {
namespace {

// --- blocks of 32 with one scale in F16 ---------------------------------------------------------

// What the types with single blocks share: fit, store the scale, assign under the stored one, pack.
template <class Grid, class Pack>
void EncodeSingle(const Batch& source, int count, int block_bytes, uint8_t* out, Pack pack) {
  Batch& batch = const_cast<Batch&>(source);
  Lanes scale, weight;
  FitScale<Grid, 32>(batch, &scale, &weight);
  for (int b = 0; b < kBatch; ++b) {
    scale.at[b] = RoundF16(scale.at[b], b < count ? out + b * block_bytes : nullptr);
  }
  Assign<Grid, 32>(scale, &batch);
  for (int b = 0; b < count; ++b) pack(batch, b, out + b * block_bytes);
}

void EncodeQ4_0(Batch& batch, int count, uint8_t* out) {
  EncodeSingle<GridQ4>(batch, count, 18, out, [](const Batch& levels, int b, uint8_t* block) {
    uint8_t q[32];
    Codes<32>(levels, b, 8, q);
    PackNibbles<32>(q, block + 2);
  });
}

void EncodeQ5_0(Batch& batch, int count, uint8_t* out) {
  EncodeSingle<GridQ5>(batch, count, 22, out, [](const Batch& levels, int b, uint8_t* block) {
    uint8_t q[32];
    Codes<32>(levels, b, 16, q);
    PackFifthBits(q, block + 2);
    PackNibbles<32>(q, block + 6);
  });
}

void EncodeQ8_0(Batch& batch, int count, uint8_t* out) {
  EncodeSingle<GridQ8>(batch, count, 34, out, [](const Batch& levels, int b, uint8_t* block) {
    Codes<32>(levels, b, 0, block + 2);
  });
}

void EncodeIq4Nl(Batch& batch, int count, uint8_t* out) {
  EncodeSingle<GridIq4>(batch, count, 18, out, [](const Batch& levels, int b, uint8_t* block) {
    uint8_t q[32];
    TableCodes<32>(levels, b, kIq4Codes, q);
    PackNibbles<32>(q, block + 2);
  });
}

template <int kMax>
void EncodeAffine(Batch& batch, int count, uint8_t* out) {
  constexpr int kBytes = kMax == 15 ? 20 : 24;
  Lanes scale, offset;
  FitAffine<kMax, 32, 18, false>(batch, &scale, &offset);
  for (int b = 0; b < kBatch; ++b) {
    uint8_t* block = b < count ? out + b * kBytes : nullptr;
    scale.at[b] = RoundF16(scale.at[b], block);
    offset.at[b] = RoundF16(offset.at[b], block == nullptr ? nullptr : block + 2);
  }
  AssignAffine<kMax, 32>(scale, offset, &batch);
  for (int b = 0; b < count; ++b) {
    uint8_t* block = out + b * kBytes;
    uint8_t q[32];
    Codes<32>(batch, b, 0, q);
    if (kMax == 31) PackFifthBits(q, block + 4);
    PackNibbles<32>(q, block + (kMax == 31 ? 8 : 4));
  }
}

// --- FP4 ----------------------------------------------------------------------------------------

template <int kN>
void LargestOf(const Batch& batch, Lanes* largest) {
  for (int g = 0; g < kBatch; g += kLanes) {
    V most = {};
    for (int i = 0; i < kN; ++i) most = Max(most, Abs(Load(batch.x + i * kBatch + g)));
    Store(most, largest->at + g);
  }
}

// Half of the scale of an E8M0 code, for the doubled levels.
LODE_INLINE float HalfE8M0(int code) {
  const uint32_t bits =
      code < 2 ? 0x00200000u << code : static_cast<uint32_t>(code - 1) << 23;
  return std::bit_cast<float>(bits);
}

// The scale is a power of two: the usual one puts the largest element between 4 and 8 (6 is the
// last level); half and twice of it are tried, too.
void EncodeMxfp4(Batch& batch, int count, uint8_t* out) {
  Lanes largest, trial, tag, error, code;
  LargestOf<32>(batch, &largest);
  for (int b = 0; b < kBatch; ++b) {
    error.at[b] = 3e38f;
    code.at[b] = 0.0f;
  }
  for (int step = -1; step <= 1; ++step) {
    for (int b = 0; b < kBatch; ++b) {
      const int exponent = static_cast<int>(std::bit_cast<uint32_t>(largest.at[b]) >> 23);
      const int at = largest.at[b] > 0.0f ? Clamp(exponent - 2 + step, 0, 254) : 0;
      tag.at[b] = static_cast<float>(at);
      trial.at[b] = HalfE8M0(at);
    }
    TryScale<GridFp4, 32>(batch, trial, tag, &error, &code);
  }
  for (int b = 0; b < kBatch; ++b) trial.at[b] = HalfE8M0(static_cast<int>(code.at[b]));
  Assign<GridFp4, 32>(trial, &batch);
  for (int b = 0; b < count; ++b) {
    uint8_t* block = out + b * 17;
    block[0] = static_cast<uint8_t>(code.at[b]);
    uint8_t q[32];
    TableCodes<32>(batch, b, kFp4Codes, q);
    PackNibbles<32>(q, block + 1);
  }
}

// The nearest code of an unsigned E4M3 from 0x01 to 0x7E; 0 for 0.
LODE_INLINE int ScaleCode(float value) {
  if (!(value > 0.0f)) return 0;
  const int code = tensor::FloatToE4M3(value);
  return Clamp(code, 1, 0x7E);
}

// Four blocks of 16 make one of 64; a batch is four of these. The largest element of a block is
// mapped to 6 or to 4 (Cook et al. 2025, "four over six"), which leaves other gaps between the
// levels; the E4M3 scales between the two and just beyond are tried as well, and the smallest error
// wins.
void EncodeNvfp4(Batch& batch, int count, bool four_over_six, uint8_t* out) {
  Lanes largest, trial, tag, error, code;
  LargestOf<16>(batch, &largest);
  for (int b = 0; b < kBatch; ++b) {
    error.at[b] = 3e38f;
    code.at[b] = 0.0f;
  }
  // An octave has 8 codes, so 4's scale is at most five codes above 6's.
  for (int step = four_over_six ? -1 : 0; step <= (four_over_six ? 6 : 0); ++step) {
    for (int b = 0; b < kBatch; ++b) {
      const int six = ScaleCode(largest.at[b] / 6.0f);
      const int at = six == 0 ? 0 : Clamp(six + step, 1, 0x7E);
      tag.at[b] = static_cast<float>(at);
      trial.at[b] = 0.5f * tensor::E4M3ToFloat(static_cast<uint8_t>(at));
    }
    TryScale<GridFp4, 16>(batch, trial, tag, &error, &code);
  }
  for (int b = 0; b < kBatch; ++b) {
    trial.at[b] = 0.5f * tensor::E4M3ToFloat(static_cast<uint8_t>(code.at[b]));
  }
  Assign<GridFp4, 16>(trial, &batch);
  for (int b = 0; b < count; ++b) {
    uint8_t* block = out + b / 4 * 36;
    block[b % 4] = static_cast<uint8_t>(code.at[b]);
    uint8_t q[16];
    TableCodes<16>(batch, b, kFp4Codes, q);
    PackNibbles<16>(q, block + 4 + 8 * (b % 4));
  }
}

// --- the loop over all blocks -------------------------------------------------------------------

// Batches of blocks of kN elements; kGroup of them make kBytes bytes.
template <int kN, int kGroup, int kBytes, class Encode>
void ForBatches(const EncodeJob& job, Encode encode) {
  Batch batch;
  const int64_t blocks = job.elements / kN;
  for (int64_t at = 0; at < blocks; at += kBatch) {
    const int count = blocks - at < kBatch ? static_cast<int>(blocks - at) : kBatch;
    const int64_t column = job.cols > 0 ? (job.column + at * kN) % job.cols : 0;
    Gather(job.x + at * kN, count, kN, job.importance, column, job.cols, &batch);
    encode(batch, count, job.out + at / kGroup * kBytes);
  }
}

void EncodeHere(const EncodeJob& job) {
  using tensor::DType;
  switch (job.dtype) {
    case DType::kQ4_0: return ForBatches<32, 1, 18>(job, EncodeQ4_0);
    case DType::kQ4_1: return ForBatches<32, 1, 20>(job, EncodeAffine<15>);
    case DType::kQ5_0: return ForBatches<32, 1, 22>(job, EncodeQ5_0);
    case DType::kQ5_1: return ForBatches<32, 1, 24>(job, EncodeAffine<31>);
    case DType::kQ8_0: return ForBatches<32, 1, 34>(job, EncodeQ8_0);
    case DType::kIQ4NL: return ForBatches<32, 1, 18>(job, EncodeIq4Nl);
    case DType::kMXFP4: return ForBatches<32, 1, 17>(job, EncodeMxfp4);
    case DType::kNVFP4:
      return ForBatches<16, 4, 36>(job, [&](Batch& batch, int count, uint8_t* out) {
        EncodeNvfp4(batch, count, job.four_over_six, out);
      });
    case DType::kQ2K: return ForBatches<16, 16, 84>(job, EncodeQ2K);
    case DType::kQ3K: return ForBatches<16, 16, 110>(job, EncodeQ3K);
    case DType::kQ4K: return ForBatches<32, 8, 144>(job, EncodeQ4K);
    case DType::kQ5K: return ForBatches<32, 8, 176>(job, EncodeQ5K);
    case DType::kQ6K: return ForBatches<16, 16, 210>(job, EncodeQ6K);
    case DType::kIQ4XS: return ForBatches<32, 8, 136>(job, EncodeIq4Xs);
    default: return;
  }
}

}  // namespace
}  // namespace lode::quant
