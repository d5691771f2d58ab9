// The loops over a whole vocabulary that a sampler consists of, in plain C++ that compilers turn
// into vectors. Not an interface: sampler.cc and its tests alone use them. NaN counts as minus
// infinity everywhere. None allocates; all are functions of their arguments.
#pragma once

#include <cstdint>

namespace lode::runtime {

constexpr int64_t kSamplerBlock = 64;  // values that share a maximum

// A share of the distribution is a sum of weights exp((value - top) / T), each rounded to a whole
// number of these units: such sums have no order, so any way to find a share finds the same. Among
// 131,072 tokens rounding is at most 1.5e-8 of the likeliest token's weight.
constexpr int kWeightBits = 42;
constexpr int64_t kVocabularyMax = int64_t{1} << 20;  // sums of weights stay far below 2^63

// maxima[b] of values[64 b .. 64 b + 63]; the last block may be shorter. Returns the largest.
float BlockMaxima(const float* values, int64_t count, float* maxima);

// Values whose bit is set in `words` (bit i % 64 of word i / 64); minus infinity for the others.
// Source and target may be the same.
void CopyMasked(const float* source, const uint64_t* words, int64_t count, float* target);

// (value - top) / T, not below -32, where the weight is 0.
float ScaledDistance(float value, float top, double inverse_temperature);
int64_t Weight(float value, float top, double inverse_temperature);
void Weights(const float* values, int64_t count, float top, double inverse_temperature,
             int64_t* weights);

int64_t WeightSum(const float* values, int64_t count, float top, double inverse_temperature);

// The distance's mean under the weights: entropy less the surprise of the top, negated.
// Also gives the weights and their sum.
double MeanDistance(const float* values, int64_t count, float top, double inverse_temperature,
                    int64_t* sum, int64_t* weights);

// How far each token's surprise is from the entropy, as a float's bits, which order as it does.
void TypicalKeys(const float* values, int64_t count, float top, double inverse_temperature,
                 double mean, uint32_t* keys);

// Numbers in descending order of the values; equal for equal values, both zeros among them.
void DescendingKeys(const float* values, int64_t count, uint32_t* keys);
float ValueOfKey(uint32_t key);

// Indices of the keys with key >> shift == digit, ascending; returns how many.
int64_t FindDigit(const uint32_t* keys, int64_t count, int shift, uint32_t digit, int32_t* found);

// Values whose (key, index) is not above (key, last); minus infinity for the others. Source and
// target may be the same.
void CopyUpTo(const float* source, const uint32_t* keys, int64_t count, uint32_t key, int64_t last,
              float* target);

// The smallest and the largest; 0 when there are none.
void KeyRange(const uint32_t* keys, int64_t count, uint32_t* least, uint32_t* most);

int64_t CountAtLeast(const float* values, int64_t count, float bound);
// How many are larger than `value`, plus how many of the first `before` are equal to it.
int64_t CountAhead(const float* values, int64_t count, float value, int64_t before);

// Gumbel noise g = -log(-log u), u from Philox, keyed by (seed, choice, position, token).
struct NoiseKey {
  uint64_t seed;
  uint64_t position;
  uint32_t choice;
};
// u has 53 bits and is neither 0 nor 1, so the noise is between -3.62 and 36.74.
constexpr double kNoiseMax = 36.75;
double Noise(const NoiseKey& key, uint32_t token);

// Word 0 of Philox, the upper 32 bits of u, for 64 tokens from `first` on.
using NoiseWords = void (*)(uint32_t first, const NoiseKey& key, uint32_t words[kSamplerBlock]);
// The one with the widest vectors, of at most `lanes_max` 64-bit lanes, that this machine has. All
// give the same words.
NoiseWords ChooseNoiseWords(int lanes_max = 8);

// Which of 64 tokens with these words may have (value - top) / T + noise >= threshold: flags[j] is
// not 0 for at least all of them, for |top / T| < 2^40. True when there are any.
// Why it is fast: g <= -log(1 - u), and a float's bits bound its logarithm, so no logarithm is
// taken.
bool NoiseCandidates(const float values[kSamplerBlock], const uint32_t words[kSamplerBlock],
                     float top, float inverse_temperature, float threshold,
                     uint32_t flags[kSamplerBlock]);

// For `threshold` above: what the float arithmetic of the bound may be off.
constexpr double kNoiseSlack = 2e-3;

}  // namespace lode::runtime
