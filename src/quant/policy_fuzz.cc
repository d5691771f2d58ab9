// Any bytes as a policy of types: refused in a sentence, or what it says is known: groups with types, and
// patterns that can be asked about any name without end or memory.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "quant/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lode::quant::TypePolicy policy;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto read = lode::quant::ReadPolicy(text, &policy);
  if (!read.ok()) {
    LODE_CHECK(read.error().code() != lode::Code::kInternal);
    LODE_CHECK(!read.error().ToString().empty());
    return 0;
  }
  for (const auto& [group, type] : policy.groups) {
    LODE_CHECK(lode::tensor::Info(type).weights);
    LODE_CHECK(lode::quant::Name(group)[0] != '\0');
  }
  const std::string name(200, 'a');
  for (const auto& [pattern, type] : policy.tensors) {
    LODE_CHECK(lode::tensor::Info(type).weights);
    const bool matches = lode::quant::MatchesPattern(pattern, name);
    const bool letters_fit = pattern.find_first_not_of("a*") == std::string::npos;
    LODE_CHECK(!matches || letters_fit);
  }
  return 0;
}
