// JSON glue: nlohmann's ordered_json (keys keep their order, as templates and files need), parsed
// with limits and without exceptions. Nothing else in Lode calls the library's parse().
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lode {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  int depth_max = 128;             // nesting; deeper input is an error, not a stack overflow
  bool refuse_duplicates = false;  // a repeated key in one object is an error
  // Python writes Infinity, -Infinity and NaN as bare words, which JSON does not have; with this they
  // are read as the strings "Infinity", "-Infinity", "NaN" (a JSON value holds no infinity).
  bool python_numbers = false;
};

// Parses the whole of `text`. Errors: kBadInput with line and column.
Result<Json> ParseJson(std::string_view text, const JsonLimits& limits = {});
// Reads and parses a file; errors name the path.
Result<Json> ReadJsonFile(const std::string& path, const JsonLimits& limits = {});

// Sees a JSON text go by, without a document being built: for files whose size an attacker chooses.
// Every method may return an Error, which stops the walk and is what VisitJson returns.
class JsonVisitor {
 public:
  virtual ~JsonVisitor() = default;
  virtual Result<void> StartObject() = 0;
  virtual Result<void> Key(std::string_view key) = 0;
  virtual Result<void> EndObject() = 0;
  virtual Result<void> StartArray() = 0;
  virtual Result<void> EndArray() = 0;
  // null, a bool, a number or a string. Numbers written with a sign are signed, others unsigned.
  virtual Result<void> Value(Json&& value) = 0;
};

// Errors: kBadInput with line and column, or the visitor's own.
Result<void> VisitJson(std::string_view text, const JsonLimits& limits, JsonVisitor* visitor);

// One line; non-ASCII stays as it is, invalid UTF-8 is replaced instead of thrown over.
std::string DumpJson(const Json& json, int indent = -1);

// json[key] or nullptr when `json` is no object or has no such key.
const Json* FindKey(const Json& json, std::string_view key);
// Typed reads with a fallback when the key is absent or of another type.
std::string GetString(const Json& json, std::string_view key, std::string fallback = "");
int64_t GetInt(const Json& json, std::string_view key, int64_t fallback = 0);
double GetDouble(const Json& json, std::string_view key, double fallback = 0.0);
bool GetBool(const Json& json, std::string_view key, bool fallback = false);

}  // namespace lode
