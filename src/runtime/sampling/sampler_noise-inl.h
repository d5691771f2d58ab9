// Philox4x32-10 for many tokens at once: included by sampler_noise.cc for each width of vectors,
// with LODE_LANES (64-bit lanes of a vector), LODE_MULTIPLY (the product of the lanes' lower
// halves) and a namespace of its own. No include guard.

using Lanes [[gnu::vector_size(8 * LODE_LANES)]] = uint64_t;
using Halves [[gnu::vector_size(4 * LODE_LANES)]] = uint32_t;

inline Lanes Multiply(Lanes a, Lanes b) { return LODE_MULTIPLY(a, b); }

// Word 0 of Philox for 64 tokens from `first` on.
void FirstWords(uint32_t first, const NoiseKey& key, uint32_t words[kSamplerBlock]) {
  constexpr uint64_t kLow = 0xFFFFFFFFu, kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u;
  constexpr uint64_t kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;
  const uint64_t p0 = key.position & kLow, p1 = key.position >> 32;
  const uint64_t k0 = key.seed & kLow, k1 = key.seed >> 32;
  // The first two rounds, as far as they are the same for all tokens: only word 0 of the counter
  // differs. What stands in the upper half of a lane does not matter.
  const uint64_t b1 = kM1 * p1;
  const uint64_t a2 = kM0 * (b1 >> 32 ^ p0 ^ k0);
  const Lanes zero = {};
  const Lanes m0 = zero + kM0, m1 = zero + kM1;
  Lanes keys0[10], keys1[10];
  for (uint64_t round = 1; round < 10; ++round) {
    keys0[round] = zero + (k0 + round * kW0);
    keys1[round] = zero + (k1 + round * kW1);
  }
  const Lanes choice = zero + (key.choice ^ k1), c0_of_2 = keys0[1] ^ b1;
  const Lanes c2_of_2 = keys1[1] ^ (a2 >> 32), c3_of_2 = zero + a2;
  Lanes token;
  for (uint32_t i = 0; i < LODE_LANES; ++i) token[i] = first + i;
  for (uint32_t begin = 0; begin < kSamplerBlock; begin += LODE_LANES, token += LODE_LANES) {
    const Lanes a1 = Multiply(m0, token);
    const Lanes b2 = Multiply(m1, (a1 >> 32) ^ choice);
    Lanes c0 = (b2 >> 32) ^ c0_of_2, c1 = b2;
    Lanes c2 = a1 ^ c2_of_2, c3 = c3_of_2;
#pragma GCC unroll 8
    for (int round = 2; round < 9; ++round) {
      const Lanes a = Multiply(m0, c0), b = Multiply(m1, c2);
      c0 = (b >> 32) ^ c1 ^ keys0[round];
      c1 = b;
      c2 = (a >> 32) ^ c3 ^ keys1[round];
      c3 = a;
    }
    const Lanes word = (Multiply(m1, c2) >> 32) ^ c1 ^ keys0[9];
    const auto halves = __builtin_convertvector(word, Halves);
    std::memcpy(words + begin, &halves, sizeof(halves));
  }
}
