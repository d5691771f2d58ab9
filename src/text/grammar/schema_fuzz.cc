// Any bytes as a JSON schema; what compiles is walked with the same bytes.
#include <cstdint>
#include <string_view>

#include "text/grammar/compile.h"
#include "text/grammar/grammar_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto json = lode::ParseJson(input);
  if (!json.ok()) return 0;
  const auto grammar =
      lode::text::grammar::CompileJsonSchema(*json, {.any_order = size % 2 == 1});
  if (grammar.ok()) lode::text::grammar::WalkGrammar(*grammar, input);
  return 0;
}
