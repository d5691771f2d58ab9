// Settings from any bytes: an error or values, never more.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tune/run_config.h"
#include "tune/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto settings = lode::tune::Settings::Parse(text, "fuzz.toml", {});
  if (!settings.ok()) return 0;
  lode::tune::RunConfig config;
  if (config.Keys().Fill(*settings).ok()) {
    config.Check().ok();
    config.Keys().Values();
  }
  return 0;
}
