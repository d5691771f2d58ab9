// Any bytes as a GGUF file: opened or refused, and everything that an opened file promises is read.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "formats/gguf.h"

namespace {

volatile uint8_t sink;

void Touch(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  sink = std::to_integer<uint8_t>(bytes.front());
  sink = std::to_integer<uint8_t>(bytes.back());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto file = lode::formats::GgufFile::FromMemory({bytes, size}, "fuzz.gguf");
  if (!file.ok()) {
    LODE_CHECK(file.error().code() != lode::Code::kInternal);
    LODE_CHECK(!file.error().ToString().empty());
    return 0;
  }
  const lode::formats::GgufFile& gguf = **file;
  for (const auto& entry : gguf.entries()) {
    LODE_CHECK(gguf.FindEntry(entry.key) == &entry);
    Touch(entry.bytes);
    (void)gguf.GetString(entry.key).ok();
    (void)gguf.GetInt(entry.key).ok();
    (void)gguf.GetFloat(entry.key).ok();
    (void)gguf.GetBool(entry.key).ok();
    (void)gguf.GetInts(entry.key).ok();
    (void)gguf.GetFloats(entry.key).ok();
    if (const auto strings = gguf.GetStrings(entry.key); strings.ok()) {
      for (const auto text : *strings) Touch(std::as_bytes(std::span(text)));
    }
  }
  uint64_t total = 0;
  for (const auto& info : gguf.tensors()) {
    LODE_CHECK(gguf.Find(info.name) == &info);
    const auto view = gguf.View(info);
    LODE_CHECK(view.bytes.size() == info.bytes);
    Touch(view.bytes);
    total += info.bytes;
  }
  LODE_CHECK(total <= size);  // no two tensors share bytes
  (void)lode::DumpJson(gguf.config());
  return 0;
}
