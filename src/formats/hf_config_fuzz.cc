// Any bytes as a Hugging Face folder: four files joined by 0x1E (config.json, the index, a shard, the
// single file); an empty part is an absent file.
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/json.h"
#include "formats/hf_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::array<const char*, 4> names = {"config.json", "model.safetensors.index.json",
                                            "a.safetensors", "model.safetensors"};
  lode::formats::MemoryFiles files;
  size_t begin = 0;
  for (size_t part = 0; part < names.size() && begin <= size; ++part) {
    size_t end = begin;
    while (end < size && (data[end] != 0x1E || part + 1 == names.size())) ++end;
    if (end > begin) {
      files[names[part]] = {reinterpret_cast<const std::byte*>(data) + begin, end - begin};
    }
    begin = end + 1;
  }
  const auto checkpoint = lode::formats::HfCheckpoint::FromMemory(std::move(files), "fuzz");
  if (!checkpoint.ok()) {
    LODE_CHECK(checkpoint.error().code() != lode::Code::kInternal);
    LODE_CHECK(!checkpoint.error().ToString().empty());
    return 0;
  }
  const lode::formats::HfCheckpoint& model = **checkpoint;
  for (const auto& info : model.tensors()) {
    LODE_CHECK(model.Find(info.name) == &info);
    LODE_CHECK(model.View(info).bytes.size() == info.bytes);
  }
  LODE_CHECK(model.config().is_object());
  (void)lode::DumpJson(model.config());
  (void)lode::DumpJson(model.root_config());
  (void)model.WhyAbsent("x");
  return 0;
}
