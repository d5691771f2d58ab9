// Any bytes as a safetensors file: parsed or refused; the tensors of a parsed one tile its data.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  const auto file = lode::formats::ParseSafetensors({bytes, size}, "fuzz.safetensors");
  if (!file.ok()) {
    LODE_CHECK(file.error().code() != lode::Code::kInternal);
    LODE_CHECK(!file.error().ToString().empty());
    return 0;
  }
  uint64_t end = 0;
  for (const auto& info : file->tensors) {
    LODE_CHECK(info.file_offset >= end && info.file_offset <= size);
    LODE_CHECK(info.bytes <= size - info.file_offset);
    LODE_CHECK(file->unreadable.size() > 0 || end == 0 || info.file_offset == end);
    end = info.file_offset + info.bytes;
  }
  LODE_CHECK(!file->unreadable.empty() || file->tensors.empty() || end == size);
  return 0;
}
