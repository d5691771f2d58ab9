// The search for the scale (and minimum) of blocks, 16 blocks at a time: a lane is a block, so no
// sum crosses lanes and every instruction set gives the same bits. Vectors are GCC's and clang's
// own, as wide as the including file says with LODE_LANES; everything lies in an anonymous
// namespace, for it is compiled once for each instruction set (encode_avx2.cc and its siblings).
//
// The error that is made small is sum over elements of w (x - decoded)^2. Each fit tries a number
// of positions for the largest element, takes the least-squares scale of each rounding, keeps the
// best and improves it by rounding and fitting in turns (Lloyd's iteration).
//
// No include guard: not a header of declarations. The includer has included what is needed.

namespace lode::quant {
namespace {

constexpr int kLanes = LODE_LANES;  // floats in a vector
constexpr int kBatch = 16;          // blocks side by side

#define LODE_INLINE inline __attribute__((always_inline))

typedef float V __attribute__((vector_size(4 * LODE_LANES)));

LODE_INLINE V Set(float value) { return V{} + value; }
LODE_INLINE V Load(const float* source) {
  V v;
  __builtin_memcpy(&v, source, sizeof(v));
  return v;
}
LODE_INLINE void Store(V v, float* target) { __builtin_memcpy(target, &v, sizeof(v)); }
LODE_INLINE V Min(V a, V b) { return a < b ? a : b; }
LODE_INLINE V Max(V a, V b) { return a > b ? a : b; }
LODE_INLINE V Abs(V a) { return Max(a, -a); }
// 0 where the divisor is 0 (or no number).
LODE_INLINE V Over(V a, V b) {
  const V safe = b * b > Set(0.0f) ? b : Set(1.0f);
  return b * b > Set(0.0f) ? a / safe : Set(0.0f);
}
// To the nearest whole number, ties to even; |v| < 2^22.
LODE_INLINE V Round(V v) {
  const V magic = Set(12582912.0f);
  return (v + magic) - magic;
}

// --- grids: the levels that a scaled element may take -------------------------------------------

// Whole numbers kLow..kHigh. The signed maximum is tried at kPlaces positions: from kLow outwards,
// and on the other side, where the range ends at kHigh.
template <int kLow, int kHigh, int kDown, int kUp>
struct Whole {
  static constexpr int kPlaces = kDown + kUp;
  static float Place(int i) {
    if (kHigh > 100) return static_cast<float>(kLow) + 0.4f * static_cast<float>(i - kPlaces / 2);
    // Coarse grids are worth clipping, fine ones are not: the span is about a level and a half.
    if (i < kDown) {
      return static_cast<float>(kLow) - 0.9f + 1.9f * static_cast<float>(i) / (kDown - 1);
    }
    return static_cast<float>(kHigh) - 0.4f + 1.3f * static_cast<float>(i - kDown) / (kUp - 1);
  }
  static LODE_INLINE V Level(V v) {
    return Round(Min(Max(v, Set(static_cast<float>(kLow))), Set(static_cast<float>(kHigh))));
  }
};

using GridQ4 = Whole<-8, 7, 14, 7>;
using GridQ5 = Whole<-16, 15, 10, 6>;
using GridQ8 = Whole<-127, 127, 4, 3>;
using GridQ6 = Whole<-32, 31, 8, 6>;
using GridQ3 = Whole<-4, 3, 16, 10>;

// The levels of IQ4_NL and IQ4_XS.
constexpr float kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                            1,    13,   25,  38,  53,  69,  89,  113};
constexpr float Iq4Middle(int i) { return (kIq4[i] + kIq4[i + 1]) * 0.5f; }

#if !defined(__clang__) && LODE_LANES >= 8
// Halving the 15 middles: four steps, each with a look-up by lane.
typedef int32_t I __attribute__((vector_size(4 * LODE_LANES)));

constexpr float kIq4Middles[16] = {
    Iq4Middle(0),  Iq4Middle(1),  Iq4Middle(2),  Iq4Middle(3), Iq4Middle(4),  Iq4Middle(5),
    Iq4Middle(6),  Iq4Middle(7),  Iq4Middle(8),  Iq4Middle(9), Iq4Middle(10), Iq4Middle(11),
    Iq4Middle(12), Iq4Middle(13), Iq4Middle(14), 0};

LODE_INLINE V LookUp(const float* table, I index) {
#if LODE_LANES == 16
  return __builtin_shuffle(Load(table), index);
#else
  return __builtin_shuffle(Load(table), Load(table + 8), index);
#endif
}

LODE_INLINE V NearestIq4(V v) {
  I index = (v > Set(kIq4Middles[7])) & 8;
  index += (v > LookUp(kIq4Middles, index + 3)) & 4;
  index += (v > LookUp(kIq4Middles, index + 1)) & 2;
  index += (v > LookUp(kIq4Middles, index)) & 1;
  return LookUp(kIq4, index);
}
#else
LODE_INLINE V NearestIq4(V v) {
  V level = Set(kIq4[0]);
  for (int i = 0; i < 15; ++i) {
    level += v > Set(Iq4Middle(i)) ? Set(kIq4[i + 1] - kIq4[i]) : Set(0.0f);
  }
  return level;
}
#endif

struct GridIq4 {
  static constexpr int kPlaces = 12;
  static float Place(int i) {
    return i < 7 ? -136.0f + 4.0f * static_cast<float>(i) : 65.0f + 5.0f * static_cast<float>(i);
  }
  static LODE_INLINE V Level(V v) { return NearestIq4(v); }
};

// FP4 E2M1, doubled: 0 1 2 3 4 6 8 12 with signs.
struct GridFp4 {
  static LODE_INLINE V Level(V v) {
    const V a = Abs(v);
    // Adding 1.5 * 2^23 times the step of the range rounds to that step.
    const V step = a < Set(4.0f) ? Set(1.0f) : a < Set(8.0f) ? Set(2.0f) : Set(4.0f);
    const V magic = step * Set(12582912.0f);
    const V level = (Min(a, Set(12.0f)) + magic) - magic;
    return v < Set(0.0f) ? -level : level;
  }
};

// --- a batch of blocks --------------------------------------------------------------------------

// Element i of block b is at [i * kBatch + b]; `level` receives what the elements are rounded to.
struct Batch {
  alignas(64) float x[32 * kBatch];
  alignas(64) float w[32 * kBatch];
  alignas(64) float level[32 * kBatch];
};

struct alignas(64) Lanes {
  float at[kBatch];
};

LODE_INLINE V Bounded(V v) {
  const V bounded = Min(Max(v, Set(-1e15f)), Set(1e15f));
  return v == v ? bounded : Set(0.0f);
}

// `count` blocks of n elements from x; blocks that are not there are zeros. Numbers too large for
// any type (and those that are none) are replaced, so that no sum overflows.
//   importance: of the columns of a row, or nullptr; `column` is the first block's.
void Gather(const float* x, int count, int n, const float* importance, int64_t column, int64_t cols,
            Batch* batch) {
  alignas(64) float rows[32 * kBatch] = {};  // as they come
  const int used = count * n;
  for (int i = 0; i + kLanes <= used; i += kLanes) Store(Bounded(Load(x + i)), rows + i);
  for (int b = 0; b < kBatch; ++b) {
    for (int i = 0; i < n; ++i) batch->x[i * kBatch + b] = rows[b * n + i];
  }
  if (importance == nullptr) {
    for (int i = 0; i < n * kBatch; i += kLanes) Store(Set(1.0f), batch->w + i);
    return;
  }
  for (int b = 0; b < kBatch; ++b) {
    for (int i = 0; i < n; ++i) batch->w[i * kBatch + b] = importance[column + i];
    column += n;
    if (column >= cols) column = 0;
  }
}

// --- one scale a block --------------------------------------------------------------------------

// Sums over a block's elements of w x q and w q^2, q the levels under the inverse scale `id`.
template <class Grid, int kN>
LODE_INLINE void Products(const Batch& batch, int g, V id, V* xq, V* qq) {
  V sum_xq = {};
  V sum_qq = {};
  for (int i = 0; i < kN; ++i) {
    const V x = Load(batch.x + i * kBatch + g);
    const V q = Grid::Level(x * id);
    const V wq = Load(batch.w + i * kBatch + g) * q;
    sum_xq += wq * x;
    sum_qq += wq * q;
  }
  *xq = sum_xq;
  *qq = sum_qq;
}

// The scale of each block, with its sign; `weight` gets sum w q^2, which says how much it matters.
template <class Grid, int kN>
void FitScale(const Batch& batch, Lanes* scale, Lanes* weight) {
  for (int g = 0; g < kBatch; g += kLanes) {
    V largest = {};
    V signed_max = {};
    for (int i = 0; i < kN; ++i) {
      const V x = Load(batch.x + i * kBatch + g);
      signed_max = Abs(x) > largest ? x : signed_max;
      largest = Max(largest, Abs(x));
    }
    const V inverse = Over(Set(1.0f), signed_max);
    V best = {};
    V d = {};
    V xq, qq;
    for (int place = 0; place < Grid::kPlaces; ++place) {
      Products<Grid, kN>(batch, g, inverse * Set(Grid::Place(place)), &xq, &qq);
      const V candidate = Over(xq, qq);
      const V score = candidate * xq;  // by how much the error is below sum w x^2
      d = score > best ? candidate : d;
      best = Max(best, score);
    }
    for (int turn = 0; turn < 2; ++turn) {
      Products<Grid, kN>(batch, g, Over(Set(1.0f), d), &xq, &qq);
      d = Over(xq, qq);
    }
    Store(d, scale->at + g);
    Store(qq, weight->at + g);
  }
}

// Rounds to the levels under the scales as they are stored.
template <class Grid, int kN>
void Assign(const Lanes& scale, Batch* batch) {
  for (int g = 0; g < kBatch; g += kLanes) {
    const V id = Over(Set(1.0f), Load(scale.at + g));
    for (int i = 0; i < kN; ++i) {
      Store(Grid::Level(Load(batch->x + i * kBatch + g) * id), batch->level + i * kBatch + g);
    }
  }
}

// The error of one group of lanes under scales d.
template <class Grid, int kN>
LODE_INLINE V ScaleError(const Batch& batch, int g, V d) {
  const V id = Over(Set(1.0f), d);
  V error = {};
  for (int i = 0; i < kN; ++i) {
    const V x = Load(batch.x + i * kBatch + g);
    const V miss = x - Grid::Level(x * id) * d;
    error += Load(batch.w + i * kBatch + g) * miss * miss;
  }
  return error;
}

// Where trial scales lie below best in error, they become the best. `trial` and `tag` are the
// caller's.
template <class Grid, int kN>
void TryScale(const Batch& batch, const Lanes& trial, const Lanes& tag, Lanes* best_error,
              Lanes* best_tag) {
  for (int g = 0; g < kBatch; g += kLanes) {
    const V error = ScaleError<Grid, kN>(batch, g, Load(trial.at + g));
    const V best = Load(best_error->at + g);
    Store(error < best ? Load(tag.at + g) : Load(best_tag->at + g), best_tag->at + g);
    Store(Min(error, best), best_error->at + g);
  }
}

// --- a scale and a minimum a block --------------------------------------------------------------

// x is about scale * level + offset, levels 0..kMax.
struct AffineSums {
  V l, ll, xl;  // sums of w l, w l^2, w x l
};

template <int kMax, int kN>
LODE_INLINE AffineSums AffineProducts(const Batch& batch, int g, V id, V shift) {
  AffineSums sums = {};
  for (int i = 0; i < kN; ++i) {
    const V x = Load(batch.x + i * kBatch + g);
    const V level = Round(Min(Max(x * id + shift, Set(0.0f)), Set(static_cast<float>(kMax))));
    const V wl = Load(batch.w + i * kBatch + g) * level;
    sums.l += wl;
    sums.ll += wl * level;
    sums.xl += wl * x;
  }
  return sums;
}

// What one group of lanes knows while it searches: sums over its elements, and the best fit so far.
struct AffineFit {
  V w, wx, wxx;         // sums of w, w x, w x^2
  V error, scale, offset;
};

// The least-squares line through the levels; it replaces the best where its error is smaller. With
// kNegative the offset must not be above 0, as in the K types.
template <bool kNegative>
LODE_INLINE void KeepLine(const AffineSums& s, AffineFit* fit) {
  const V zero = Set(0.0f);
  const V two = Set(2.0f);
  // All elements on one level: no line, and no noise of a difference taken for one.
  const V full = fit->w * s.ll;
  const V det = full - s.l * s.l > full * Set(1e-5f) ? full - s.l * s.l : zero;
  V slope = Over(fit->w * s.xl - fit->wx * s.l, det);
  V base = Over(s.ll * fit->wx - s.l * s.xl, det);
  if (kNegative) {
    const V alone = Over(s.xl, s.ll);  // through the origin
    slope = det > zero ? (base > zero ? alone : slope) : alone;
    base = Min(base, zero);
  }
  const V error = fit->wxx + slope * slope * s.ll + base * base * fit->w +
                  two * slope * base * s.l - two * slope * s.xl - two * base * fit->wx;
  const V usable = slope > zero ? error : Set(3e38f);
  fit->scale = usable < fit->error ? slope : fit->scale;
  fit->offset = usable < fit->error ? base : fit->offset;
  fit->error = Min(usable, fit->error);
}

template <int kMax, int kN, int kTries, bool kNegative>
void FitAffine(const Batch& batch, Lanes* scale, Lanes* offset) {
  for (int g = 0; g < kBatch; g += kLanes) {
    V low = Load(batch.x + g);
    V high = low;
    AffineFit fit = {};
    for (int i = 0; i < kN; ++i) {
      const V x = Load(batch.x + i * kBatch + g);
      const V wx = Load(batch.w + i * kBatch + g) * x;
      low = Min(low, x);
      high = Max(high, x);
      fit.w += Load(batch.w + i * kBatch + g);
      fit.wx += wx;
      fit.wxx += wx * x;
    }
    if (kNegative) low = Min(low, Set(0.0f));
    // To begin with, a constant.
    fit.offset = Over(fit.wx, fit.w);
    if (kNegative) fit.offset = Min(fit.offset, Set(0.0f));
    fit.error = fit.wxx + fit.offset * (fit.offset * fit.w - Set(2.0f) * fit.wx);
    const V inverse = Over(Set(1.0f), high - low);
    for (int t = 0; t < kTries; ++t) {
      // Levels beyond the ends are clipped: at the far end only, or (every third try) at both.
      const float out = 1.9f * static_cast<float>(t) / (kTries - 1) - 0.9f;
      const float shift = t % 3 == 0 ? 0.5f * out : 0.0f;
      const V id = inverse * Set(static_cast<float>(kMax) + out);
      KeepLine<kNegative>(AffineProducts<kMax, kN>(batch, g, id, -low * id - Set(shift)), &fit);
    }
    for (int turn = 0; turn < 2; ++turn) {
      const V id = Over(Set(1.0f), fit.scale);
      KeepLine<kNegative>(AffineProducts<kMax, kN>(batch, g, id, -fit.offset * id), &fit);
    }
    Store(fit.scale, scale->at + g);
    Store(fit.offset, offset->at + g);
  }
}

template <int kMax, int kN>
void AssignAffine(const Lanes& scale, const Lanes& offset, Batch* batch) {
  for (int g = 0; g < kBatch; g += kLanes) {
    const V id = Over(Set(1.0f), Load(scale.at + g));
    const V shift = -Load(offset.at + g) * id;
    for (int i = 0; i < kN; ++i) {
      const V level = Load(batch->x + i * kBatch + g) * id + shift;
      Store(Round(Min(Max(level, Set(0.0f)), Set(static_cast<float>(kMax)))),
            batch->level + i * kBatch + g);
    }
  }
}

template <int kMax, int kN>
LODE_INLINE V AffineError(const Batch& batch, int g, V d, V b) {
  const V id = Over(Set(1.0f), d);
  const V shift = -b * id;
  V error = {};
  for (int i = 0; i < kN; ++i) {
    const V x = Load(batch.x + i * kBatch + g);
    const V level = Round(Min(Max(x * id + shift, Set(0.0f)), Set(static_cast<float>(kMax))));
    const V miss = x - (level * d + b);
    error += Load(batch.w + i * kBatch + g) * miss * miss;
  }
  return error;
}

// --- storing ------------------------------------------------------------------------------------

LODE_INLINE float RoundF16(float value, uint8_t* target) {
  const float bounded = value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value;
  const uint16_t half = tensor::FloatToF16(bounded);
  if (target != nullptr) __builtin_memcpy(target, &half, sizeof(half));
  return tensor::F16ToFloat(half);
}

LODE_INLINE int Clamp(int value, int low, int high) {
  return value < low ? low : value > high ? high : value;
}

// Halves away from zero; |value| is small.
LODE_INLINE int Nearest(float value) {
  return static_cast<int>(value < 0.0f ? value - 0.5f : value + 0.5f);
}

// Levels of block b, plus `add`, as codes.
template <int kN>
LODE_INLINE void Codes(const Batch& batch, int b, int add, uint8_t* q) {
  for (int i = 0; i < kN; ++i) {
    q[i] = static_cast<uint8_t>(static_cast<int>(batch.level[i * kBatch + b]) + add);
  }
}

// The code of a level in a table of 16 whole levels between -127 and 127.
struct LevelCodes {
  uint8_t of[255];
  template <typename T>
  explicit constexpr LevelCodes(const T (&levels)[16]) : of() {
    for (int code = 15; code >= 0; --code) {
      of[static_cast<int>(levels[code]) + 127] = static_cast<uint8_t>(code);
    }
  }
};
constexpr LevelCodes kIq4Codes(kIq4);
constexpr float kFp4Levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
constexpr LevelCodes kFp4Codes(kFp4Levels);

template <int kN>
LODE_INLINE void TableCodes(const Batch& batch, int b, const LevelCodes& codes, uint8_t* q) {
  for (int i = 0; i < kN; ++i) q[i] = codes.of[static_cast<int>(batch.level[i * kBatch + b]) + 127];
}

// Element j shares a byte with element j + kN / 2.
template <int kN>
LODE_INLINE void PackNibbles(const uint8_t* q, uint8_t* target) {
  for (int j = 0; j < kN / 2; ++j) {
    target[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + kN / 2] << 4));
  }
}

LODE_INLINE void PackFifthBits(const uint8_t* q, uint8_t* target) {
  uint32_t high = 0;
  for (int j = 0; j < 32; ++j) high |= static_cast<uint32_t>(q[j] >> 4) << j;
  __builtin_memcpy(target, &high, sizeof(high));
}

}  // namespace
}  // namespace lode::quant
