// Names for runs of tokens: a chain of SHA-256 over blocks of a page's length, such that equal
// digests mean equal tokens, made in the same way, under equal rules. For disk, deltas and reports;
// what lies in memory is found by comparing ids.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lode::runtime {

using ContextDigest = std::array<std::byte, 32>;

// Tokens from `first` up to the next run: how their rows were made.
struct ContextRun {
  enum class Kind : uint8_t { kPrefill = 0, kDecode = 1 };  // one and the same on CPUs
  int64_t first = 0;
  Kind kind = Kind::kPrefill;
  ContextDigest adapter{};  // all zero: the base model

  bool operator==(const ContextRun&) const = default;
};

// h_0 = SHA-256("lode.ctx.1" || model || numerics || u32 page_tokens); h_i = SHA-256(h_(i-1) || for
// each run in block i: u8 kind || adapter || u32 count || u32 ids), all little-endian. One digest
// for each block, the last of which may be short. `runs` begin at token 0 and ascend; empty: one
// run of prefill without an adapter.
std::vector<ContextDigest> ChainTokens(const ContextDigest& model, const ContextDigest& numerics,
                                       int64_t page_tokens, std::span<const int32_t> tokens,
                                       std::span<const ContextRun> runs);

// How many tokens at the beginning are the same, made in the same way.
int64_t SharedTokens(std::span<const int32_t> a, std::span<const ContextRun> a_runs,
                     std::span<const int32_t> b, std::span<const ContextRun> b_runs);

ContextDigest Sha256(std::span<const std::byte> bytes);
ContextDigest Sha256(const std::string& text);

// Lower-case hex of the first `digits` half bytes.
std::string DigestText(const ContextDigest& digest, int digits = 64);

}  // namespace lode::runtime
