// The head of an evicted point's file: which tokens it is of, where its pages lie, and checksums of
// all. Plain bytes: nothing here touches a disk. Machine-local (a cache, not an exchange format),
// so numbers are the machine's own, which must be little-endian.
//
//   HANDLE.state   head (padded to 4 KiB), then the state
//   HANDLE.pages   the pages that no other file had, one after the other
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_chain.h"
#include "runtime/tree/frame_pool.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::runtime {

using DiskSum = std::array<uint64_t, 2>;
DiskSum SumOf(std::span<const std::byte> bytes);  // XXH3-128

// Page `index` of the file that belongs to `handle`.
struct DiskPage {
  uint64_t handle = 0;
  uint64_t index = 0;
  DiskSum sum{};
  bool operator==(const DiskPage&) const = default;
};

struct DiskHead {
  ContextDigest maker{};  // of what makes bytes mean something: model, numerics, sizes
  RootKey root{};
  uint64_t handle = 0;
  int64_t created = 0;    // seconds of the tier's clock
  double seconds_saved = 0.0;
  PointRole role = PointRole::kEnd;
  PointClass point_class = PointClass::kOld;
  bool hidden = false;
  uint64_t page_bytes = 0;
  uint64_t state_bytes = 0;
  DiskSum state_sum{};
  std::vector<Token> tokens;    // [0, offset)
  std::vector<DiskPage> pages;  // covering them; empty for a model without attention
};

// Names of a record's files.
std::string DiskStateName(uint64_t handle);
std::string DiskPagesName(uint64_t handle);

// What a head of so many tokens and pages takes in the file.
uint64_t DiskHeadBytes(int64_t tokens, int64_t pages);
// The longest that is believed.
constexpr uint64_t kDiskHeadBytesMax = uint64_t{1} << 30;
// Bytes of a file that say how long its head is.
constexpr uint64_t kDiskHeadStart = 256;

std::vector<std::byte> EncodeDiskHead(const DiskHead& head);
// The length of the whole head, from its first kDiskHeadStart bytes. Errors: kBadInput.
Result<uint64_t> DiskHeadLength(std::span<const std::byte> start);
// Errors: kBadInput for anything but what EncodeDiskHead makes.
Result<DiskHead> DecodeDiskHead(std::span<const std::byte> bytes);

}  // namespace lode::runtime
