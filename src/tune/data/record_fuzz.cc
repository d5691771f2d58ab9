// Fuzz target: any bytes as a file of records (the first byte picks the kind of file). What comes
// out keeps its promises: weights for every label and every message, errors with a reason.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "tune/data/files.h"

namespace {

void CheckWords(const lode::tune::Words& words) {
  if (words.is_text) return;
  LODE_CHECK(words.messages.is_array());
  LODE_CHECK(words.messages.size() == words.weights.size());
  for (const lode::Json& message : words.messages) LODE_CHECK(message.is_object());
  for (const float weight : words.weights) LODE_CHECK(weight >= 0 && weight <= 1);
}

lode::Result<void> Check(const lode::Result<lode::tune::DataRecord>& record) {
  if (!record.ok()) {
    LODE_CHECK(record.error().code() != lode::Code::kInternal);
    LODE_CHECK(!record.error().ToString().empty());
    return {};
  }
  CheckWords(record->prompt);
  CheckWords(record->answer);
  CheckWords(record->rejected);
  LODE_CHECK(record->tools.is_null() || record->tools.is_array());
  LODE_CHECK(record->variables.is_object());
  for (const auto& example : record->examples) {
    LODE_CHECK(!example.tokens.empty());
    LODE_CHECK(example.tokens.size() == example.weights.size());
    LODE_CHECK(example.weights[0] == 0);
  }
  return {};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const char* const name = data[0] % 2 == 0 ? "fuzz.jsonl" : "fuzz.json";
  const auto walked = lode::tune::VisitRecordsOf(
      bytes, name, {}, [](const lode::tune::Place& place, const auto& record) {
        LODE_CHECK(!lode::tune::ToString(place).empty());
        return Check(record);
      });
  LODE_CHECK(walked.ok());
  return 0;
}
