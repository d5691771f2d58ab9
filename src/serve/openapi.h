// The OpenAPI 3.1 document of the site, from the tables that the site itself runs by: its routes,
// its faults, the limits of fields. What a field is called and may hold stands in a table of its
// own; a test compares that with the readers of requests, field by field and in both directions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "serve/openai/rules.h"

namespace lode::serve {

struct ApiRoute {
  std::string path;   // with a '/' at the end: everything below it
  bool open = false;  // without a key
  bool post = false;
  bool erase = false;  // DELETE, too
  std::string methods = {};  // not empty: its operations are those of the table that begin with it
};

enum class FieldType : uint8_t {
  kString,
  kBool,
  kInteger,
  kNumber,
  kObject,
  kArray,
  kStrings,
  kAny
};

struct FieldDoc {
  const char* name;
  FieldType type;
  const char* what;
  double least = 0.0, most = 0.0;  // of numbers; both 0: no limit
  bool required = false;
};

// Fields of one request, as several tables; empty: no such schema. Names: "chat", "completion",
// "message", "response", "embedding", "tokenize", "detokenize", and for contexts "context",
// "context_change", "context_fork", "context_truncate", "context_save", "context_restore".
std::vector<std::span<const FieldDoc>> FieldsOf(const std::string& schema);

Json OpenApiDocument(const std::vector<ApiRoute>& routes, const FieldLimits& limits,
                     const std::string& version);

}  // namespace lode::serve
