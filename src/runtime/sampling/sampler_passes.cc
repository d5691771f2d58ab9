#include "runtime/sampling/sampler_passes.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/wider_copies.h"
#include "runtime/sampling/sampler.h"

namespace lode::runtime {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kDistanceMin = -32.0f;

// Adding it leaves a whole number in a float's low bits: 1.5 * 2^23, for numbers within +-2^22.
constexpr float kRoundFloat = 12582912.0f;
// The same for a double and units of 2^-42, within +-2^9.
constexpr double kRoundWeight = 0x1.8p52 / (int64_t{1} << kWeightBits);

inline float Unbounded(float value, float top, double inverse_temperature) {
  const double difference = static_cast<double>(value) - static_cast<double>(top);
  return static_cast<float>(difference * inverse_temperature);
}

inline float Distance(float value, float top, double inverse_temperature) {
  const float distance = Unbounded(value, top, inverse_temperature);
  return distance > kDistanceMin ? distance : kDistanceMin;  // NaN, too
}

// exp(x) for -32 <= x <= 0, within 2e-7 of it: x = n ln 2 + r, |r| <= ln 2 / 2, and the power
// series of exp(r) up to r^7 / 7!.
inline float Exp(float x) {
  const float shifted = x * 1.44269504f + kRoundFloat;
  const float n = shifted - kRoundFloat;
  // ln 2 in two parts, the first of so few bits that its product is exact.
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float sum = 1.0f / 5040;
  sum = sum * r + 1.0f / 720;
  sum = sum * r + 1.0f / 120;
  sum = sum * r + 1.0f / 24;
  sum = sum * r + 1.0f / 6;
  sum = sum * r + 0.5f;
  sum = sum * r + 1.0f;
  sum = sum * r + 1.0f;
  // 2^n: the low bits of `shifted` are n, what else it has is shifted out.
  const uint32_t power = (std::bit_cast<uint32_t>(shifted) << 23) + (127u << 23);
  return sum * std::bit_cast<float>(power);
}

// `a` unless b is larger: never a NaN b.
inline float Larger(float a, float b) { return b > a ? b : a; }

// Rounds to units of 2^-42.
inline int64_t Units(double x) {
  return std::bit_cast<int64_t>(x + kRoundWeight) - std::bit_cast<int64_t>(kRoundWeight);
}

// Calls use(begin, distances, many) with the distances of each 64 values; behind the last value
// they are those of weight 0. Steps are loops of their own: together compilers see a branch.
template <typename Use>
inline void ForDistances(const float* values, int64_t count, float top, double inverse_temperature,
                         Use use) {
  for (int64_t begin = 0; begin < count; begin += kSamplerBlock) {
    const int64_t many = std::min(kSamplerBlock, count - begin);
    float distances[kSamplerBlock];
    if (many == kSamplerBlock) {
      for (int64_t i = 0; i < kSamplerBlock; ++i)
        distances[i] = Unbounded(values[begin + i], top, inverse_temperature);
    } else {
      for (int64_t i = 0; i < kSamplerBlock; ++i) {
        distances[i] =
            i < many ? Unbounded(values[begin + i], top, inverse_temperature) : kDistanceMin;
      }
    }
    float bounded[kSamplerBlock];
    for (int64_t i = 0; i < kSamplerBlock; ++i)
      bounded[i] = distances[i] > kDistanceMin ? distances[i] : kDistanceMin;
    use(begin, bounded, many);
  }
}

}  // namespace

LODE_WIDER_COPIES
float BlockMaxima(const float* values, int64_t count, float* maxima) {
  float top = -kInfinity;
  for (int64_t begin = 0; begin < count; begin += kSamplerBlock) {
    float lanes[16];
    const float* block = values + begin;
    if (count - begin >= kSamplerBlock) {
      for (int j = 0; j < 16; ++j) {
        const float low = Larger(Larger(-kInfinity, block[j]), block[j + 16]);
        lanes[j] = Larger(Larger(low, block[j + 32]), block[j + 48]);
      }
    } else {
      std::fill(lanes, lanes + 16, -kInfinity);
      for (int64_t i = 0; i < count - begin; ++i) lanes[0] = Larger(lanes[0], block[i]);
    }
    for (int width = 8; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j)
        lanes[j] = Larger(lanes[j], lanes[j + width]);
    }
    maxima[begin / kSamplerBlock] = lanes[0];
    top = Larger(top, lanes[0]);
  }
  return top;
}

LODE_WIDER_COPIES
void CopyMasked(const float* source, const uint64_t* words, int64_t count, float* target) {
  uint32_t bits[32];
  for (uint32_t i = 0; i < 32; ++i) bits[i] = 1u << i;
  int64_t begin = 0;
  for (; begin + 32 <= count; begin += 32) {
    const auto word = static_cast<uint32_t>(words[begin / 64] >> begin % 64);
    for (int64_t i = 0; i < 32; ++i)
      target[begin + i] = (word & bits[i]) != 0 ? source[begin + i] : -kInfinity;
  }
  for (; begin < count; ++begin)
    target[begin] = words[begin / 64] >> begin % 64 & 1 ? source[begin] : -kInfinity;
}

float ScaledDistance(float value, float top, double inverse_temperature) {
  return Distance(value, top, inverse_temperature);
}

int64_t Weight(float value, float top, double inverse_temperature) {
  return Units(static_cast<double>(Exp(Distance(value, top, inverse_temperature))));
}

LODE_WIDER_COPIES
void Weights(const float* values, int64_t count, float top, double inverse_temperature,
             int64_t* weights) {
  ForDistances(values, count, top, inverse_temperature,
               [weights](int64_t begin, const float* distances, int64_t many) {
                 int64_t units[kSamplerBlock];
                 for (int64_t i = 0; i < kSamplerBlock; ++i)
                   units[i] = Units(static_cast<double>(Exp(distances[i])));
                 std::copy(units, units + many, weights + begin);
               });
}

LODE_WIDER_COPIES
int64_t WeightSum(const float* values, int64_t count, float top, double inverse_temperature) {
  int64_t sum = 0;
  ForDistances(values, count, top, inverse_temperature,
               [&sum](int64_t, const float* distances, int64_t) {
                 int64_t part = 0;
                 for (int64_t i = 0; i < kSamplerBlock; ++i)
                   part += Units(static_cast<double>(Exp(distances[i])));
                 sum += part;
               });
  return sum;
}

LODE_WIDER_COPIES
double MeanDistance(const float* values, int64_t count, float top, double inverse_temperature,
                    int64_t* sum, int64_t* weights) {
  int64_t plain = 0, weighted = 0;
  ForDistances(values, count, top, inverse_temperature,
               [&](int64_t begin, const float* distances, int64_t many) {
                 int64_t units[kSamplerBlock], part = 0, weighted_part = 0;
                 for (int64_t i = 0; i < kSamplerBlock; ++i) {
                   const double weight = Exp(distances[i]);
                   units[i] = Units(weight);
                   part += units[i];
                   weighted_part += Units(weight * static_cast<double>(distances[i]));
                 }
                 std::copy(units, units + many, weights + begin);
                 plain += part;
                 weighted += weighted_part;
               });
  *sum = plain;
  return static_cast<double>(weighted) / static_cast<double>(plain);
}

LODE_WIDER_COPIES
void TypicalKeys(const float* values, int64_t count, float top, double inverse_temperature,
                 double mean, uint32_t* keys) {
  ForDistances(values, count, top, inverse_temperature,
               [=](int64_t begin, const float* distances, int64_t many) {
                 uint32_t bits[kSamplerBlock];
                 for (int64_t i = 0; i < kSamplerBlock; ++i) {
                   const double apart = std::abs(static_cast<double>(distances[i]) - mean);
                   bits[i] = std::bit_cast<uint32_t>(static_cast<float>(apart));
                 }
                 std::copy(bits, bits + many, keys + begin);
               });
}

LODE_WIDER_COPIES
void DescendingKeys(const float* values, int64_t count, uint32_t* keys) {
  for (int64_t i = 0; i < count; ++i) {
    const float value = Larger(-kInfinity, values[i]);
    const auto bits = std::bit_cast<uint32_t>(value + 0.0f);  // both zeros are one
    const auto negative = static_cast<uint32_t>(static_cast<int32_t>(bits) >> 31);
    keys[i] = bits ^ (~negative >> 1);
  }
}

LODE_WIDER_COPIES
int64_t FindDigit(const uint32_t* keys, int64_t count, int shift, uint32_t digit, int32_t* found) {
  int64_t many = 0;
  for (int64_t begin = 0; begin < count; begin += kSamplerBlock) {
    const int64_t end = std::min(begin + kSamplerBlock, count);
    uint32_t any = 0;
    for (int64_t i = begin; i < end; ++i) any |= (keys[i] >> shift) == digit;
    if (any == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      found[many] = static_cast<int32_t>(i);
      many += (keys[i] >> shift) == digit;
    }
  }
  return many;
}

LODE_WIDER_COPIES
void CopyUpTo(const float* source, const uint32_t* keys, int64_t count, uint32_t key, int64_t last,
              float* target) {
  for (int64_t begin = 0; begin < count; begin += kSamplerBlock) {
    const int64_t many = std::min(kSamplerBlock, count - begin);
    float kept[kSamplerBlock];
    for (int64_t i = 0; i < many; ++i)
      kept[i] = keys[begin + i] <= key ? source[begin + i] : -kInfinity;
    for (int64_t i = 0; i < many; ++i) {
      if (keys[begin + i] == key && begin + i > last) kept[i] = -kInfinity;
    }
    std::copy(kept, kept + many, target + begin);
  }
}

LODE_WIDER_COPIES
void KeyRange(const uint32_t* keys, int64_t count, uint32_t* least, uint32_t* most) {
  // Signed, as vectors compare.
  int32_t low = std::numeric_limits<int32_t>::max(), high = std::numeric_limits<int32_t>::min();
  for (int64_t i = 0; i < count; ++i) {
    const auto key = static_cast<int32_t>(keys[i] ^ 0x80000000u);
    low = std::min(low, key);
    high = std::max(high, key);
  }
  *least = count > 0 ? static_cast<uint32_t>(low) ^ 0x80000000u : 0;
  *most = count > 0 ? static_cast<uint32_t>(high) ^ 0x80000000u : 0;
}

float ValueOfKey(uint32_t key) {
  const auto negative = static_cast<uint32_t>(static_cast<int32_t>(key) >> 31);
  return std::bit_cast<float>(key ^ (~negative >> 1));
}

LODE_WIDER_COPIES
int64_t CountAtLeast(const float* values, int64_t count, float bound) {
  int64_t many = 0;
  for (int64_t i = 0; i < count; ++i) many += values[i] >= bound;
  return many;
}

LODE_WIDER_COPIES
int64_t CountAhead(const float* values, int64_t count, float value, int64_t before) {
  int64_t ahead = 0;
  for (int64_t i = 0; i < count; ++i) ahead += values[i] > value;
  for (int64_t i = 0; i < before; ++i) ahead += values[i] == value;
  return ahead;
}

double Noise(const NoiseKey& key, uint32_t token) {
  const uint32_t counter[4] = {token, static_cast<uint32_t>(key.position),
                               static_cast<uint32_t>(key.position >> 32), key.choice};
  const uint32_t seed[2] = {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)};
  uint32_t words[4];
  Philox4x32(counter, seed, words);
  const uint64_t bits = (uint64_t{words[0]} << 32 | words[1]) >> 11;
  // From 2^52 on the half is rounded away, and the very last would become 1.
  const double u = std::min((static_cast<double>(bits) + 0.5) * 0x1p-53, 1.0 - 0x1p-53);
  return -std::log(-std::log(u));
}

LODE_WIDER_COPIES
bool NoiseCandidates(const float values[kSamplerBlock], const uint32_t words[kSamplerBlock],
                     float top, float inverse_temperature, float threshold,
                     uint32_t flags[kSamplerBlock]) {
  constexpr float kLn2 = 0.693147181f;
  uint32_t any = 0;
  for (uint32_t j = 0; j < kSamplerBlock; ++j) {
    // 1 - u >= z 2^-31, z = the complement's upper 31 bits; exponent and mantissa of the float z
    // read as one number are at most log2 z + 127, and at most 0.09 less.
    const float z = static_cast<float>(static_cast<int32_t>(~words[j] >> 1));
    const float bits = static_cast<float>(std::bit_cast<int32_t>(z)) * 0x1p-23f;
    const float noise = kLn2 * ((31.0f + 127.0f) - bits);
    const float score = (values[j] - top) * inverse_temperature + noise;
    flags[j] = score >= threshold;
    any |= flags[j];
  }
  return any != 0;
}

}  // namespace lode::runtime
