// Any bytes as an importance matrix, in either form: refused in a sentence, or its entries are
// whole.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "quant/imatrix.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto imatrix = lode::quant::ParseImatrix({bytes, size}, "fuzz.imatrix");
  if (!imatrix.ok()) {
    LODE_CHECK(imatrix.error().code() != lode::Code::kInternal);
    LODE_CHECK(!imatrix.error().ToString().empty());
    return 0;
  }
  LODE_CHECK(!imatrix->entries.empty());
  for (const auto& [name, entry] : imatrix->entries) {
    LODE_CHECK(!entry.counts.empty());
    LODE_CHECK(entry.sums.size() % entry.counts.size() == 0);
    for (const float sum : entry.sums) LODE_CHECK(sum >= 0.0f);
  }
  return 0;
}
