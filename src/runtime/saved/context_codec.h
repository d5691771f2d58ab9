// Compression of pages and states: bytes of equal significance are brought together (planes), then
// zstd. Exact, of course; and worth little for noise such as the low bytes of f32 states.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace lode::runtime {

struct Compressed {
  uint8_t planes = 1;            // the width of elements that was taken for the input's: 1, 2 or 4
  std::vector<std::byte> bytes;  // empty: it does not get smaller
};

// The width is found by trying it on the beginning of the input. The same input and level always
// give the same bytes (of one zstd version).
Compressed Compress(std::span<const std::byte> raw, int level);

// Fills `raw` exactly. Errors: kBadInput. Takes as much memory again when `planes` > 1.
Result<void> Decompress(std::span<const std::byte> bytes, uint8_t planes, std::span<std::byte> raw);
// Whether the bytes would decompress, to `raw_bytes`; takes no memory to speak of.
Result<void> CheckCompressed(std::span<const std::byte> bytes, uint64_t raw_bytes);

}  // namespace lode::runtime
