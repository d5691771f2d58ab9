// The K types and IQ4_XS: super-blocks of 256 whose blocks' scales are themselves whole numbers
// under one scale of the super-block. First every block's best scale; then the super-block's; then,
// in turns, each block's whole-number scale by its true error, and the super-block's scale by least
// squares.
//
// No include guard: not a header of declarations.

namespace lode::quant {
namespace {

// --- one scale a block --------------------------------------------------------------------------

struct SuperScale {
  float d[kBatch];    // of the super-block that the lane belongs to
  int scale[kBatch];  // of the block
};

// The factor under which whole numbers kLow..kHigh come nearest to the blocks' scales, each
// weighted.
template <int kSubs, int kLow, int kHigh>
float FitSuperScale(const float* scale, const float* weight) {
  float largest = 0.0f;
  for (int b = 0; b < kSubs; ++b) {
    if (__builtin_fabsf(scale[b]) > __builtin_fabsf(largest)) largest = scale[b];
  }
  if (largest == 0.0f) return 0.0f;
  float best = 0.0f;
  float best_score = -1.0f;
  for (int t = 0; t < 8; ++t) {
    const float end = kLow < 0 ? static_cast<float>(kLow) + 0.5f * static_cast<float>(t - 1)
                               : static_cast<float>(kHigh) - 0.5f * static_cast<float>(t - 1);
    float product = 0.0f, square = 0.0f;
    for (int b = 0; b < kSubs; ++b) {
      const float whole =
          static_cast<float>(Clamp(Nearest(scale[b] * (end / largest)), kLow, kHigh));
      product += weight[b] * scale[b] * whole;
      square += weight[b] * whole * whole;
    }
    if (square > 0.0f && product * product > best_score * square) {
      best = product / square;
      best_score = product * product / square;
    }
  }
  return best;
}

// The whole number nearest to a / b, within bounds that no type's range reaches; 0 for b = 0.
LODE_INLINE int Ratio(float a, float b) {
  const float ratio = b == 0.0f ? 0.0f : a / b;
  return Nearest(ratio < -1000.0f ? -1000.0f : ratio > 1000.0f ? 1000.0f : ratio);
}

// Each lane's whole-number scale: the nearest to the wanted one and its neighbours, by true error.
template <class Grid, int kN, int kLow, int kHigh>
void ChooseScales(const Batch& batch, const Lanes& wanted, SuperScale* super, Lanes* error) {
  Lanes trial, tag, chosen;
  for (int b = 0; b < kBatch; ++b) {
    error->at[b] = 3e38f;
    chosen.at[b] = 0.0f;
  }
  for (int step = -1; step <= 1; ++step) {
    for (int b = 0; b < kBatch; ++b) {
      const float d = super->d[b];
      const int whole = Clamp(Ratio(wanted.at[b], d) + step, kLow, kHigh);
      tag.at[b] = static_cast<float>(whole);
      trial.at[b] = d * tag.at[b];
    }
    TryScale<Grid, kN>(batch, trial, tag, error, &chosen);
  }
  for (int b = 0; b < kBatch; ++b) super->scale[b] = static_cast<int>(chosen.at[b]);
}

// Leaves the levels in the batch.
template <class Grid, int kN, int kSubs, int kLow, int kHigh>
SuperScale FitSuper(Batch* batch) {
  Lanes wanted, weight, error, best_error, scale;
  FitScale<Grid, kN>(*batch, &wanted, &weight);
  SuperScale best = {}, super = {};
  for (int b = 0; b < kBatch; b += kSubs) {
    const float d = FitSuperScale<kSubs, kLow, kHigh>(wanted.at + b, weight.at + b);
    for (int s = b; s < b + kSubs; ++s) super.d[s] = RoundF16(d, nullptr);
  }
  for (int turn = 0; turn < 3; ++turn) {
    ChooseScales<Grid, kN, kLow, kHigh>(*batch, wanted, &super, &error);
    Lanes xq, qq;
    for (int g = 0; g < kBatch; g += kLanes) {
      V vxq, vqq;
      for (int b = g; b < g + kLanes; ++b) {
        scale.at[b] = super.d[b] * static_cast<float>(super.scale[b]);
      }
      Products<Grid, kN>(*batch, g, Over(Set(1.0f), Load(scale.at + g)), &vxq, &vqq);
      Store(vxq, xq.at + g);
      Store(vqq, qq.at + g);
    }
    for (int b = 0; b < kBatch; b += kSubs) {
      float now = 0.0f, before = 0.0f, product = 0.0f, square = 0.0f;
      for (int s = b; s < b + kSubs; ++s) {
        const float whole = static_cast<float>(super.scale[s]);
        now += error.at[s];
        before += best_error.at[s];
        product += whole * xq.at[s];
        square += whole * whole * qq.at[s];
      }
      for (int s = b; s < b + kSubs; ++s) {
        if (turn == 0 || now < before) {
          best.d[s] = super.d[s];
          best.scale[s] = super.scale[s];
          best_error.at[s] = error.at[s];
        }
        super.d[s] = square > 0.0f ? RoundF16(product / square, nullptr) : super.d[s];
      }
    }
  }
  for (int b = 0; b < kBatch; ++b) scale.at[b] = best.d[b] * static_cast<float>(best.scale[b]);
  Assign<Grid, kN>(scale, batch);
  return best;
}

void EncodeQ6K(Batch& batch, int count, uint8_t* block) {
  const SuperScale super = FitSuper<GridQ6, 16, 16, -128, 127>(&batch);
  if (count == 0) return;
  uint8_t q[256];
  for (int b = 0; b < 16; ++b) Codes<16>(batch, b, 32, q + 16 * b);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* from = q + 128 * half;
    uint8_t* low = block + 64 * half;
    uint8_t* high = block + 128 + 32 * half;
    for (int l = 0; l < 32; ++l) {
      low[l] = static_cast<uint8_t>((from[l] & 15) | (from[l + 64] & 15) << 4);
      low[l + 32] = static_cast<uint8_t>((from[l + 32] & 15) | (from[l + 96] & 15) << 4);
      high[l] = static_cast<uint8_t>((from[l] >> 4) | (from[l + 32] >> 4) << 2 |
                                     (from[l + 64] >> 4) << 4 | (from[l + 96] >> 4) << 6);
    }
  }
  for (int b = 0; b < 16; ++b) block[192 + b] = static_cast<uint8_t>(super.scale[b]);
  RoundF16(super.d[0], block + 208);
}

// Two bits of each of 256 codes: byte 32 h + l holds elements 128 h + 32 k + l, k = 0..3.
LODE_INLINE void PackTwoBits(const uint8_t* q, uint8_t* target) {
  for (int half = 0; half < 2; ++half) {
    const uint8_t* from = q + 128 * half;
    for (int l = 0; l < 32; ++l) {
      target[32 * half + l] =
          static_cast<uint8_t>((from[l] & 3) | (from[l + 32] & 3) << 2 | (from[l + 64] & 3) << 4 |
                               (from[l + 96] & 3) << 6);
    }
  }
}

void EncodeQ3K(Batch& batch, int count, uint8_t* block) {
  const SuperScale super = FitSuper<GridQ3, 16, 16, -32, 31>(&batch);
  if (count == 0) return;
  uint8_t q[256];
  for (int b = 0; b < 16; ++b) Codes<16>(batch, b, 4, q + 16 * b);
  for (int i = 0; i < 32; ++i) block[i] = 0;
  for (int i = 0; i < 256; ++i) block[i & 31] |= static_cast<uint8_t>((q[i] >> 2) << (i >> 5));
  PackTwoBits(q, block + 32);
  uint8_t* scales = block + 96;
  for (int i = 0; i < 12; ++i) scales[i] = 0;
  for (int b = 0; b < 16; ++b) {
    const int code = super.scale[b] + 32;
    scales[b & 7] |= static_cast<uint8_t>((code & 15) << (b < 8 ? 0 : 4));
    scales[8 + (b & 3)] |= static_cast<uint8_t>((code >> 4) << (2 * (b >> 2)));
  }
  RoundF16(super.d[0], block + 108);
}

void EncodeIq4Xs(Batch& batch, int count, uint8_t* out) {
  const SuperScale super = FitSuper<GridIq4, 32, 8, -32, 31>(&batch);
  for (int first = 0; first < count; first += 8, out += 136) {
    uint16_t high = 0;
    for (int i = 4; i < 8; ++i) out[i] = 0;
    for (int b = 0; b < 8; ++b) {
      const int code = super.scale[first + b] + 32;
      out[4 + b / 2] |= static_cast<uint8_t>((code & 15) << (4 * (b & 1)));
      high = static_cast<uint16_t>(high | (code >> 4) << (2 * b));
      uint8_t q[32];
      TableCodes<32>(batch, first + b, kIq4Codes, q);
      PackNibbles<32>(q, out + 8 + 16 * b);
    }
    RoundF16(super.d[first], out);
    __builtin_memcpy(out + 2, &high, sizeof(high));
  }
}

// --- a scale and a minimum a block --------------------------------------------------------------

struct SuperAffine {
  float d[kBatch], dmin[kBatch];
  int scale[kBatch], min[kBatch];
};

// Sums of a group of lanes under what it was rounded to.
struct AffineLanes {
  Lanes w, wx, l, ll, xl;
};

// Whole-number scales and minima: the nearest to the wanted ones and their neighbours, by true
// error.
template <int kMax, int kN, int kTop>
void ChooseAffine(const Batch& batch, const Lanes& scale, const Lanes& offset, SuperAffine* super,
                  Lanes* error) {
  Lanes trial_d, trial_b, tag, chosen;
  for (int b = 0; b < kBatch; ++b) {
    error->at[b] = 3e38f;
    chosen.at[b] = 0.0f;
  }
  for (int pair = 0; pair < 9; ++pair) {
    for (int b = 0; b < kBatch; ++b) {
      const int whole_s = Clamp(Ratio(scale.at[b], super->d[b]) + pair / 3 - 1, 0, kTop);
      const int whole_m = Clamp(Ratio(-offset.at[b], super->dmin[b]) + pair % 3 - 1, 0, kTop);
      tag.at[b] = static_cast<float>(whole_s * 64 + whole_m);
      trial_d.at[b] = super->d[b] * static_cast<float>(whole_s);
      trial_b.at[b] = -super->dmin[b] * static_cast<float>(whole_m);
    }
    for (int g = 0; g < kBatch; g += kLanes) {
      const V now = AffineError<kMax, kN>(batch, g, Load(trial_d.at + g), Load(trial_b.at + g));
      const V best = Load(error->at + g);
      Store(now < best ? Load(tag.at + g) : Load(chosen.at + g), chosen.at + g);
      Store(Min(now, best), error->at + g);
    }
  }
  for (int b = 0; b < kBatch; ++b) {
    super->scale[b] = static_cast<int>(chosen.at[b]) / 64;
    super->min[b] = static_cast<int>(chosen.at[b]) % 64;
  }
}

// The super-block's two factors by least squares under the levels that the present ones give.
template <int kMax, int kN, int kSubs>
void RefineAffine(const Batch& batch, SuperAffine* super) {
  AffineLanes sums;
  Lanes d, shift;
  for (int b = 0; b < kBatch; ++b) {
    d.at[b] = super->d[b] * static_cast<float>(super->scale[b]);
    shift.at[b] = super->dmin[b] * static_cast<float>(super->min[b]);
  }
  for (int g = 0; g < kBatch; g += kLanes) {
    const V id = Over(Set(1.0f), Load(d.at + g));
    const AffineSums s = AffineProducts<kMax, kN>(batch, g, id, Load(shift.at + g) * id);
    V w = {}, wx = {};
    for (int i = 0; i < kN; ++i) {
      w += Load(batch.w + i * kBatch + g);
      wx += Load(batch.w + i * kBatch + g) * Load(batch.x + i * kBatch + g);
    }
    Store(w, sums.w.at + g);
    Store(wx, sums.wx.at + g);
    Store(s.l, sums.l.at + g);
    Store(s.ll, sums.ll.at + g);
    Store(s.xl, sums.xl.at + g);
  }
  for (int b = 0; b < kBatch; b += kSubs) {
    double aa = 0, am = 0, mm = 0, xa = 0, xm = 0;
    for (int s = b; s < b + kSubs; ++s) {
      const double scale = super->scale[s];
      const double min = super->min[s];
      aa += scale * scale * static_cast<double>(sums.ll.at[s]);
      am += scale * min * static_cast<double>(sums.l.at[s]);
      mm += min * min * static_cast<double>(sums.w.at[s]);
      xa += scale * static_cast<double>(sums.xl.at[s]);
      xm += min * static_cast<double>(sums.wx.at[s]);
    }
    const double det = aa * mm - am * am;
    double new_d = aa > 0 ? xa / aa : 0;
    double new_m = super->dmin[b];
    if (det > 1e-9 * aa * mm) {
      new_d = (mm * xa - am * xm) / det;
      new_m = (am * xa - aa * xm) / det;
    }
    if (!(new_d > 0) || !(new_m >= 0)) continue;
    for (int s = b; s < b + kSubs; ++s) {
      super->d[s] = RoundF16(static_cast<float>(new_d), nullptr);
      super->dmin[s] = RoundF16(static_cast<float>(new_m), nullptr);
    }
  }
}

template <int kMax, int kN, int kSubs, int kTop, int kTries>
SuperAffine FitSuperAffine(Batch* batch) {
  Lanes scale, offset, error, best_error, ones, mins;
  FitAffine<kMax, kN, kTries, true>(*batch, &scale, &offset);
  SuperAffine best = {}, super = {};
  for (int b = 0; b < kBatch; ++b) {
    ones.at[b] = 1.0f;
    mins.at[b] = -offset.at[b];
  }
  for (int b = 0; b < kBatch; b += kSubs) {
    const float d = FitSuperScale<kSubs, 0, kTop>(scale.at + b, ones.at + b);
    const float m = FitSuperScale<kSubs, 0, kTop>(mins.at + b, ones.at + b);
    for (int s = b; s < b + kSubs; ++s) {
      super.d[s] = RoundF16(d, nullptr);
      super.dmin[s] = RoundF16(m, nullptr);
    }
  }
  for (int turn = 0; turn < 2; ++turn) {
    ChooseAffine<kMax, kN, kTop>(*batch, scale, offset, &super, &error);
    for (int b = 0; b < kBatch; b += kSubs) {
      float now = 0.0f, before = 0.0f;
      for (int s = b; s < b + kSubs; ++s) {
        now += error.at[s];
        before += best_error.at[s];
      }
      for (int s = b; s < b + kSubs && (turn == 0 || now < before); ++s) {
        best.d[s] = super.d[s];
        best.dmin[s] = super.dmin[s];
        best.scale[s] = super.scale[s];
        best.min[s] = super.min[s];
        best_error.at[s] = error.at[s];
      }
    }
    if (turn == 0) RefineAffine<kMax, kN, kSubs>(*batch, &super);
  }
  for (int b = 0; b < kBatch; ++b) {
    scale.at[b] = best.d[b] * static_cast<float>(best.scale[b]);
    offset.at[b] = -best.dmin[b] * static_cast<float>(best.min[b]);
  }
  AssignAffine<kMax, kN>(scale, offset, batch);
  return best;
}

void EncodeQ2K(Batch& batch, int count, uint8_t* block) {
  const SuperAffine super = FitSuperAffine<3, 16, 16, 15, 18>(&batch);
  if (count == 0) return;
  uint8_t q[256];
  for (int b = 0; b < 16; ++b) {
    Codes<16>(batch, b, 0, q + 16 * b);
    block[b] = static_cast<uint8_t>(super.scale[b] | super.min[b] << 4);
  }
  PackTwoBits(q, block + 16);
  RoundF16(super.d[0], block + 80);
  RoundF16(super.dmin[0], block + 82);
}

// Eight 6-bit scales and minima in 12 bytes.
LODE_INLINE void PackScaleMin(const int* scale, const int* min, uint8_t* target) {
  for (int j = 0; j < 4; ++j) {
    target[j] = static_cast<uint8_t>(scale[j] | (scale[j + 4] >> 4) << 6);
    target[j + 4] = static_cast<uint8_t>(min[j] | (min[j + 4] >> 4) << 6);
    target[j + 8] = static_cast<uint8_t>((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

template <int kMax>
void EncodeQ45K(Batch& batch, int count, uint8_t* out) {
  constexpr int kBytes = kMax == 15 ? 144 : 176;
  const SuperAffine super = FitSuperAffine<kMax, 32, 8, 63, kMax == 15 ? 14 : 10>(&batch);
  for (int first = 0; first < count; first += 8, out += kBytes) {
    uint8_t q[256];
    for (int b = 0; b < 8; ++b) Codes<32>(batch, first + b, 0, q + 32 * b);
    RoundF16(super.d[first], out);
    RoundF16(super.dmin[first], out + 2);
    PackScaleMin(super.scale + first, super.min + first, out + 4);
    uint8_t* low = out + (kMax == 15 ? 16 : 48);
    for (int j = 0; j < 8; j += 2) {
      for (int l = 0; l < 32; ++l) {
        const uint8_t* pair = q + 32 * j + l;
        low[16 * j + l] = static_cast<uint8_t>((pair[0] & 15) | (pair[32] & 15) << 4);
      }
    }
    for (int l = 0; kMax == 31 && l < 32; ++l) {
      int high = 0;
      for (int j = 0; j < 8; ++j) high |= (q[32 * j + l] >> 4) << j;
      out[16 + l] = static_cast<uint8_t>(high);
    }
  }
}

void EncodeQ4K(Batch& batch, int count, uint8_t* out) { EncodeQ45K<15>(batch, count, out); }
void EncodeQ5K(Batch& batch, int count, uint8_t* out) { EncodeQ45K<31>(batch, count, out); }

}  // namespace
}  // namespace lode::quant
