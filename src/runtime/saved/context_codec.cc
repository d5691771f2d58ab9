#include "runtime/saved/context_codec.h"

#include <zstd.h>

#include <algorithm>
#include <memory>

#include "base/check.h"

namespace lode::runtime {
namespace {

constexpr size_t kTrialBytes = size_t{64} << 10;

// Byte b of every element, for each b; what is left of a division at the end stays as it is.
void Split(std::span<const std::byte> raw, size_t width, std::byte* planes) {
  const size_t count = raw.size() / width;
  for (size_t b = 0; b < width; ++b) {
    std::byte* const plane = planes + b * count;
    for (size_t i = 0; i < count; ++i) plane[i] = raw[i * width + b];
  }
  std::copy(raw.begin() + static_cast<ptrdiff_t>(count * width), raw.end(), planes + count * width);
}

void Join(const std::byte* planes, size_t width, std::span<std::byte> raw) {
  const size_t count = raw.size() / width;
  for (size_t b = 0; b < width; ++b) {
    const std::byte* const plane = planes + b * count;
    for (size_t i = 0; i < count; ++i) raw[i * width + b] = plane[i];
  }
  std::copy(planes + count * width, planes + raw.size(),
            raw.begin() + static_cast<ptrdiff_t>(count * width));
}

// Empty when it does not get smaller than `bytes_max`.
std::vector<std::byte> CompressAs(std::span<const std::byte> raw, size_t width, int level,
                                  size_t bytes_max) {
  std::vector<std::byte> split;
  if (width > 1) {
    split.resize(raw.size());
    Split(raw, width, split.data());
    raw = split;
  }
  std::vector<std::byte> bytes(ZSTD_compressBound(raw.size()));
  const size_t size = ZSTD_compress(bytes.data(), bytes.size(), raw.data(), raw.size(), level);
  if (ZSTD_isError(size) != 0 || size >= bytes_max) return {};
  bytes.resize(size);
  return bytes;
}

}  // namespace

Compressed Compress(std::span<const std::byte> raw, int level) {
  Compressed best;
  size_t best_bytes = 0;
  const std::span<const std::byte> trial = raw.first(std::min(raw.size(), kTrialBytes));
  for (const uint8_t width : {uint8_t{1}, uint8_t{2}, uint8_t{4}}) {
    const size_t bytes = CompressAs(trial, width, level, SIZE_MAX).size();
    if (best_bytes == 0 || bytes < best_bytes) {
      best_bytes = bytes;
      best.planes = width;
    }
  }
  best.bytes = CompressAs(raw, best.planes, level, raw.size());
  return best;
}

namespace {

Error Wrong() { return Error(Code::kBadInput, "its compressed bytes are damaged"); }

struct StreamDeleter {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

}  // namespace

Result<void> CheckCompressed(std::span<const std::byte> bytes, uint64_t raw_bytes) {
  const std::unique_ptr<ZSTD_DStream, StreamDeleter> stream(ZSTD_createDStream());
  if (stream == nullptr) return Error(Code::kNoSpace, "there is no memory to decompress");
  if (ZSTD_getFrameContentSize(bytes.data(), bytes.size()) != raw_bytes) return Wrong();
  std::vector<std::byte> piece(ZSTD_DStreamOutSize());
  ZSTD_inBuffer in = {bytes.data(), bytes.size(), 0};
  uint64_t total = 0;
  size_t state = 1;  // 0 once the frame is complete
  while (state != 0) {
    ZSTD_outBuffer out = {piece.data(), piece.size(), 0};
    const size_t in_before = in.pos;
    state = ZSTD_decompressStream(stream.get(), &out, &in);
    if (ZSTD_isError(state) != 0) return Wrong();
    total += out.pos;
    if (total > raw_bytes || (out.pos == 0 && in.pos == in_before)) return Wrong();
  }
  if (total != raw_bytes || in.pos != in.size) return Wrong();
  return {};
}

Result<void> Decompress(std::span<const std::byte> bytes, uint8_t planes,
                        std::span<std::byte> raw) {
  LODE_CHECK(planes == 1 || planes == 2 || planes == 4);
  // Before memory is taken: a frame that says another length is not worth it.
  if (ZSTD_getFrameContentSize(bytes.data(), bytes.size()) != raw.size()) return Wrong();
  std::vector<std::byte> split;
  std::span<std::byte> target = raw;
  if (planes > 1) {
    split.resize(raw.size());
    target = split;
  }
  const size_t size = ZSTD_decompress(target.data(), target.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(size) != 0 || size != raw.size()) return Wrong();
  if (planes > 1) Join(split.data(), planes, raw);
  return {};
}

}  // namespace lode::runtime
