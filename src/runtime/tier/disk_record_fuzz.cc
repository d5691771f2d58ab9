// Bytes as the head of an evicted state's file: refused with a sentence, or as it was written. With
// a first byte that is odd the bytes are put into a true head, whose checksum stays what it was.
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "runtime/tier/disk_record.h"

namespace lode::runtime {
namespace {

DiskHead Sample() {
  DiskHead head;
  head.handle = 7;
  head.page_bytes = 4096;
  head.state_bytes = 1000;
  head.seconds_saved = 2.5;
  for (int i = 0; i < 300; ++i) head.tokens.push_back(i);
  for (uint64_t i = 0; i < 3; ++i) head.pages.push_back({7, i, {i, i + 1}});
  return head;
}

void Run(const uint8_t* data, size_t size) {
  if (size == 0) return;
  std::vector<std::byte> bytes;
  if (data[0] % 2 == 0) {
    const auto* const first = reinterpret_cast<const std::byte*>(data);
    bytes.assign(first + 1, first + size);
  } else {
    bytes = EncodeDiskHead(Sample());
    LODE_CHECK(DecodeDiskHead(bytes).ok());
    const size_t at = size > 2 ? (data[1] * 16u + data[2]) % bytes.size() : 0;
    const size_t count = std::min(size > 3 ? size - 3 : 0, bytes.size() - at);
    if (count > 0) std::memcpy(bytes.data() + at, data + 3, count);
  }
  const auto length = DiskHeadLength(bytes);
  const auto head = DecodeDiskHead(bytes);
  if (!head.ok()) {
    LODE_CHECK(!head.error().message().empty());
    return;
  }
  LODE_CHECK(length.ok() && *length == bytes.size());
  LODE_CHECK(EncodeDiskHead(*head) == bytes);
}

}  // namespace
}  // namespace lode::runtime

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lode::runtime::Run(data, size);
  return 0;
}
