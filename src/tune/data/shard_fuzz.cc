// Fuzz target: any bytes as a shard of tokens; with a first byte that is odd, as a Megatron pair
// whose .idx has the length that the next two bytes say. What opens can be read from end to end.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/check.h"
#include "tune/data/shard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data) + 3, size - 3), index;
  if (data[0] % 2 == 1) {
    const size_t length = std::min<size_t>(bytes.size(), data[1] + 256u * data[2]);
    index = bytes.first(length);
    bytes = bytes.subspan(length);
  }
  const auto shard = lode::tune::TokenShard::FromMemory(bytes, index, "fuzz");
  if (!shard.ok()) {
    LODE_CHECK(shard.error().code() != lode::Code::kInternal);
    return 0;
  }
  const lode::tune::TokenShard& tokens = **shard;
  std::vector<int32_t> ids(static_cast<size_t>(tokens.tokens()));
  tokens.Read(0, ids);
  int64_t last = 0;
  for (int64_t d = 0; d <= tokens.documents(); ++d) {
    LODE_CHECK(tokens.DocumentBegin(d) >= last);
    last = tokens.DocumentBegin(d);
  }
  LODE_CHECK(last == tokens.tokens());
  for (int64_t t = 0; t < tokens.tokens(); ++t) {
    const float weight = tokens.Weight(t);
    LODE_CHECK(weight == 0 || weight == 1);
    LODE_CHECK(tokens.NextDocument(t) <= tokens.documents());
  }
  (void)tokens.CheckIds(1000).ok();
  (void)tokens.Fingerprint();
  return 0;
}
