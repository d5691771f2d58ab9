// Any bytes as GBNF; what compiles is walked with the same bytes.
#include <cstdint>
#include <string_view>

#include "text/grammar/compile.h"
#include "text/grammar/grammar_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 4096) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto grammar = lode::text::grammar::CompileGbnf(input);
  if (grammar.ok()) lode::text::grammar::WalkGrammar(*grammar, input);
  return 0;
}
