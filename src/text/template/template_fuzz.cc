// Fuzz target: a template, a zero byte, and the variables as JSON. Whatever the bytes, parsing and
// rendering end within their limits, and the input spans lie in order inside the text.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "text/template/chat_template.h"
#include "text/template/request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t zero = bytes.find('\0');
  const auto source = bytes.substr(0, zero);
  const auto json_text = zero == bytes.npos ? std::string_view("{}") : bytes.substr(zero + 1);
  auto parsed = lode::text::ChatTemplate::Parse(source);
  if (!parsed.ok()) return 0;
  const auto json = lode::ParseJson(json_text);
  lode::Json variables = json.ok() ? *json : lode::Json::object();
  auto filled = lode::text::MakeTemplateVariables(variables);
  if (filled.ok()) variables = *std::move(filled);
  lode::text::RenderOptions options;
  options.now = lode::text::CivilTime{2025, 6, 28, 12, 0, 0, 0};
  // Small limits: the fuzzer looks for crashes, not for how long the real limits take.
  options.limits.steps_max = 20'000;
  options.limits.output_bytes_max = 1 << 20;
  options.limits.memory_bytes_max = 16 << 20;
  const auto prompt = (*parsed)->RenderWithOrigin(variables, options);
  if (!prompt.ok()) return 0;
  size_t end = 0;
  for (const auto& span : prompt->input_spans) {
    LODE_CHECK(span.begin >= end);
    LODE_CHECK(span.begin < span.end);
    end = span.end;
  }
  LODE_CHECK(end <= prompt->text.size());
  return 0;
}
