// Bytes as a recorded load: refused with a sentence that names the line, or requests in order.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "bench/contexts_trace.h"

namespace lode::bench {
namespace {

constexpr int64_t kTokensMax = 1 << 20;

void Run(std::string_view text) {
  const auto trace = ParseTrace(text, "it", kTokensMax);
  if (!trace.ok()) {
    LODE_CHECK(!trace.error().message().empty());
    return;
  }
  LODE_CHECK(!trace->requests.empty());
  int64_t tokens = 0;
  for (const SimRequest& request : trace->requests) {
    LODE_CHECK(!request.prompt.empty());
    for (const Probe& probe : request.probes) LODE_CHECK(probe.offset >= 0);
    tokens += std::ssize(request.prompt) + std::ssize(request.output);
  }
  // Ids that a line itself lists cost it as many bytes.
  LODE_CHECK(tokens <= kTokensMax + static_cast<int64_t>(text.size()));
}

}  // namespace
}  // namespace lode::bench

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lode::bench::Run({reinterpret_cast<const char*>(data), size});
  return 0;
}
