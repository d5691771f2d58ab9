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

// Decompression of bytes that come in pieces, in order, into memory that is filled exactly; or,
// with nothing to fill, a check that they would decompress to so many bytes. Takes the window of
// zstd (at most 8 MiB for what Compress wrote) and a piece, however long the whole is. Errors:
// kBadInput.
class Decompressor {
 public:
  // `raw` empty: check only. What is damaged is found at the latest by Finish.
  Decompressor(std::span<std::byte> raw, uint64_t raw_bytes, uint8_t planes);
  ~Decompressor();
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;

  Result<void> Push(std::span<const std::byte> bytes);
  Result<void> Finish();

 private:
  void Place(std::span<const std::byte> bytes);

  std::span<std::byte> raw_;
  uint64_t raw_bytes_;
  size_t width_;
  void* stream_;  // zstd's; null: there was no memory
  std::vector<std::byte> piece_;
  uint64_t done_ = 0;     // bytes that came out
  size_t state_ = 1;      // 0 once the frame is complete
};

// All at once. Fills `raw` exactly. Errors: kBadInput.
Result<void> Decompress(std::span<const std::byte> bytes, uint8_t planes, std::span<std::byte> raw);
// Whether the bytes would decompress, to `raw_bytes`; takes no memory to speak of.
Result<void> CheckCompressed(std::span<const std::byte> bytes, uint64_t raw_bytes);

}  // namespace lode::runtime
