// Any bytes as a tokenizer.json, and any bytes as text for whatever loads. The input is the file, then
// a zero byte, then the text; without a zero byte the file is also the text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/utf8.h"
#include "text/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string_view json = input.substr(0, zero);
  const std::string_view text =
      zero == std::string_view::npos ? input : input.substr(zero + 1);
  auto loaded = lode::text::Tokenizer::FromHuggingFace(json, text);  // the text as a config, too
  if (!loaded.ok()) loaded = lode::text::Tokenizer::FromHuggingFace(json);
  if (!loaded.ok()) return 0;
  const lode::text::Tokenizer& tokenizer = **loaded;
  for (const bool special : {true, false}) {
    const auto ids =
        tokenizer.Encode(text, {.recognise_special = special, .add_special = special});
    if (!ids.ok()) continue;
    const auto decoded = tokenizer.Decode(*ids, special);
    if (!decoded.ok() || !lode::IsValidUtf8(*decoded)) std::abort();
    lode::text::StreamDecoder stream(tokenizer, special);
    std::string streamed;
    for (const int32_t id : *ids) {
      const std::string part = stream.Push(id);
      if (!lode::IsValidUtf8(part)) std::abort();
      streamed += part;
    }
    if (streamed + stream.Flush() != *decoded) std::abort();
  }
  return 0;
}
