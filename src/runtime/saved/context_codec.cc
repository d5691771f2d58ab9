#include "runtime/saved/context_codec.h"

#include <zstd.h>

#include <algorithm>

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

ZSTD_DStream* Stream(void* stream) { return static_cast<ZSTD_DStream*>(stream); }

}  // namespace

Decompressor::Decompressor(std::span<std::byte> raw, uint64_t raw_bytes, uint8_t planes)
    : raw_(raw), raw_bytes_(raw_bytes), width_(planes), stream_(ZSTD_createDStream()),
      piece_(ZSTD_DStreamOutSize()) {
  LODE_CHECK(planes == 1 || planes == 2 || planes == 4);
  LODE_CHECK(raw.empty() || raw.size() == raw_bytes);
}

Decompressor::~Decompressor() { ZSTD_freeDStream(Stream(stream_)); }

Result<void> Decompressor::Push(std::span<const std::byte> bytes) {
  if (stream_ == nullptr) return Error(Code::kNoSpace, "there is no memory to decompress");
  ZSTD_inBuffer in = {bytes.data(), bytes.size(), 0};
  bool full = false;  // there may be more to come out
  while (in.pos < in.size || full) {
    if (state_ == 0) return Wrong();  // something stands behind the frame
    ZSTD_outBuffer out = {piece_.data(), piece_.size(), 0};
    state_ = ZSTD_decompressStream(Stream(stream_), &out, &in);
    if (ZSTD_isError(state_) != 0 || out.pos > raw_bytes_ - done_) return Wrong();
    if (!raw_.empty()) Place({piece_.data(), out.pos});
    done_ += out.pos;
    full = out.pos == out.size && state_ != 0;
  }
  return {};
}

Result<void> Decompressor::Finish() {
  if (state_ != 0 || done_ != raw_bytes_) return Wrong();
  return {};
}

// Byte b of every element, for each b, goes back to its element.
void Decompressor::Place(std::span<const std::byte> bytes) {
  const uint64_t count = raw_bytes_ / width_;
  uint64_t at = done_;
  while (!bytes.empty()) {
    const uint64_t plane = count == 0 ? width_ : at / count;
    if (width_ == 1 || plane >= width_) {
      std::copy(bytes.begin(), bytes.end(), raw_.begin() + static_cast<ptrdiff_t>(at));
      return;
    }
    const uint64_t first = at - plane * count;
    const uint64_t run = std::min<uint64_t>(bytes.size(), count - first);
    std::byte* const target = raw_.data() + first * width_ + plane;
    for (uint64_t i = 0; i < run; ++i) target[i * width_] = bytes[i];
    bytes = bytes.subspan(run);
    at += run;
  }
}

Result<void> CheckCompressed(std::span<const std::byte> bytes, uint64_t raw_bytes) {
  if (ZSTD_getFrameContentSize(bytes.data(), bytes.size()) != raw_bytes) return Wrong();
  Decompressor check({}, raw_bytes, 1);
  LODE_TRY(check.Push(bytes));
  return check.Finish();
}

Result<void> Decompress(std::span<const std::byte> bytes, uint8_t planes,
                        std::span<std::byte> raw) {
  LODE_CHECK(planes == 1 || planes == 2 || planes == 4);
  // Before memory is taken: a frame that says another length is not worth it.
  if (ZSTD_getFrameContentSize(bytes.data(), bytes.size()) != raw.size()) return Wrong();
  if (planes == 1) {
    const size_t size = ZSTD_decompress(raw.data(), raw.size(), bytes.data(), bytes.size());
    if (ZSTD_isError(size) != 0 || size != raw.size()) return Wrong();
    return {};
  }
  Decompressor out(raw, raw.size(), planes);
  LODE_TRY(out.Push(bytes));
  return out.Finish();
}

}  // namespace lode::runtime
