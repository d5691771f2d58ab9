#include "runtime/tier/disk_record.h"

#include <cstring>
#include <type_traits>

#include "base/text.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace lode::runtime {
namespace {

constexpr uint64_t kMagic = 0x31445645444f4c00;  // version 1
constexpr uint64_t kAlign = 4096;
constexpr uint64_t kPagesMax = uint64_t{1} << 24;  // of a file
constexpr uint64_t kFrameBytesMax = uint64_t{1} << 40;

// The fixed part. No padding, so its bytes are all of it.
struct Fixed {
  uint64_t magic = kMagic;
  uint64_t bytes = 0;  // of the whole head
  DiskSum sum{};       // of the whole head with zeros here
  ContextDigest maker{};
  RootKey root{};
  uint64_t handle = 0;
  int64_t created = 0;
  double seconds_saved = 0.0;
  uint64_t page_bytes = 0, state_bytes = 0;
  DiskSum state_sum{};
  uint64_t tokens = 0, pages = 0;
  uint8_t role = 0, point_class = 0, hidden = 0;
  std::array<uint8_t, 5> zeros{};
};
static_assert(std::is_trivially_copyable_v<Fixed> && sizeof(Fixed) <= kDiskHeadStart);
static_assert(std::has_unique_object_representations_v<DiskPage>);

DiskSum SumOfHead(std::span<const std::byte> bytes, Fixed fixed) {
  fixed.sum = {};
  const DiskSum front = SumOf({reinterpret_cast<const std::byte*>(&fixed), sizeof(fixed)});
  const DiskSum rest = SumOf(bytes.subspan(sizeof(fixed)));
  return {front[0] ^ (rest[0] * 3), front[1] ^ (rest[1] * 5)};
}

Error Wrong(const char* what) {
  return Error(Code::kBadInput, std::string("an evicted state's file has a bad head: ") + what);
}

}  // namespace

DiskSum SumOf(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

std::string DiskStateName(uint64_t handle) {
  return Format("%016llx.state", static_cast<unsigned long long>(handle));
}
std::string DiskPagesName(uint64_t handle) {
  return Format("%016llx.pages", static_cast<unsigned long long>(handle));
}

uint64_t DiskHeadBytes(int64_t tokens, int64_t pages) {
  const uint64_t bytes = kDiskHeadStart + static_cast<uint64_t>(tokens) * sizeof(Token) +
                         static_cast<uint64_t>(pages) * sizeof(DiskPage);
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

std::vector<std::byte> EncodeDiskHead(const DiskHead& head) {
  Fixed fixed;
  fixed.bytes = DiskHeadBytes(std::ssize(head.tokens), std::ssize(head.pages));
  fixed.maker = head.maker;
  fixed.root = head.root;
  fixed.handle = head.handle;
  fixed.created = head.created;
  fixed.seconds_saved = head.seconds_saved;
  fixed.page_bytes = head.page_bytes;
  fixed.state_bytes = head.state_bytes;
  fixed.state_sum = head.state_sum;
  fixed.tokens = head.tokens.size();
  fixed.pages = head.pages.size();
  fixed.role = static_cast<uint8_t>(head.role);
  fixed.point_class = static_cast<uint8_t>(head.point_class);
  fixed.hidden = head.hidden ? 1 : 0;
  std::vector<std::byte> bytes(fixed.bytes);
  // Pages first: they are the wider, and stay aligned.
  std::byte* at = bytes.data() + kDiskHeadStart;
  if (!head.pages.empty()) std::memcpy(at, head.pages.data(), head.pages.size() * sizeof(DiskPage));
  at += head.pages.size() * sizeof(DiskPage);
  if (!head.tokens.empty()) std::memcpy(at, head.tokens.data(), head.tokens.size() * sizeof(Token));
  fixed.sum = SumOfHead(bytes, fixed);
  std::memcpy(bytes.data(), &fixed, sizeof(fixed));
  return bytes;
}

Result<uint64_t> DiskHeadLength(std::span<const std::byte> start) {
  if (start.size() < kDiskHeadStart) return Wrong("it is cut off");
  Fixed fixed;
  std::memcpy(&fixed, start.data(), sizeof(fixed));
  if (fixed.magic != kMagic) return Wrong("it does not begin as one");
  if (fixed.bytes > kDiskHeadBytesMax || fixed.tokens > kDiskHeadBytesMax ||
      fixed.pages > kDiskHeadBytesMax) {
    return Wrong("it is too long");
  }
  if (fixed.bytes != DiskHeadBytes(static_cast<int64_t>(fixed.tokens),
                                   static_cast<int64_t>(fixed.pages))) {
    return Wrong("its lengths do not agree");
  }
  return fixed.bytes;
}

Result<DiskHead> DecodeDiskHead(std::span<const std::byte> bytes) {
  LODE_ASSIGN(const uint64_t length, DiskHeadLength(bytes));
  if (bytes.size() != length) return Wrong("it is cut off");
  Fixed fixed;
  std::memcpy(&fixed, bytes.data(), sizeof(fixed));
  if (SumOfHead(bytes, fixed) != fixed.sum) return Wrong("its checksum does not agree");
  if (fixed.tokens == 0) return Wrong("it is of no tokens");
  const auto count = static_cast<uint64_t>(PageCount(static_cast<int64_t>(fixed.tokens)));
  if (fixed.pages != 0 && fixed.pages != count) return Wrong("its pages do not cover its tokens");
  if (fixed.pages > 0 && (fixed.page_bytes == 0 || fixed.page_bytes > kFrameBytesMax)) {
    return Wrong("no page is so large");
  }
  if (fixed.state_bytes > kFrameBytesMax) return Wrong("no state is so large");
  if (fixed.role >= kPointRoles || fixed.point_class >= kPointClasses || fixed.hidden > 1) {
    return Wrong("it is of no known kind");
  }
  if (!(fixed.seconds_saved >= 0.0)) return Wrong("it would save no time");
  DiskHead head;
  head.maker = fixed.maker;
  head.root = fixed.root;
  head.handle = fixed.handle;
  head.created = fixed.created;
  head.seconds_saved = fixed.seconds_saved;
  head.page_bytes = fixed.page_bytes;
  head.state_bytes = fixed.state_bytes;
  head.state_sum = fixed.state_sum;
  head.role = static_cast<PointRole>(fixed.role);
  head.point_class = static_cast<PointClass>(fixed.point_class);
  head.hidden = fixed.hidden != 0;
  head.pages.resize(fixed.pages);
  head.tokens.resize(fixed.tokens);
  const std::byte* at = bytes.data() + kDiskHeadStart;
  if (fixed.pages > 0) std::memcpy(head.pages.data(), at, fixed.pages * sizeof(DiskPage));
  at += fixed.pages * sizeof(DiskPage);
  std::memcpy(head.tokens.data(), at, fixed.tokens * sizeof(Token));
  for (const DiskPage& page : head.pages) {
    if (page.index >= kPagesMax) return Wrong("no file has so many pages");
  }
  return head;
}

}  // namespace lode::runtime
