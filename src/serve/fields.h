// Reads the fields of a JSON request, each with its type and range. What is null or absent is not
// there; what is of another type is an error that begins with the field's path:
//   messages[0].role: must be a string
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace lode::serve {

class Fields {
 public:
  // `object` must be one and must stay. `path` of it; empty: the request itself.
  explicit Fields(const Json& object, std::string path = "")
      : object_(object), path_(std::move(path)) {}

  const Json* Find(std::string_view name) const;  // null: not there, or JSON's null
  std::string Path(std::string_view name) const;
  Error Bad(std::string_view name, const std::string& what) const;

  Result<std::optional<std::string>> String(std::string_view name) const;
  Result<std::optional<bool>> Bool(std::string_view name) const;
  Result<std::optional<double>> Number(std::string_view name, double least, double most) const;
  Result<std::optional<int64_t>> Integer(std::string_view name, int64_t least, int64_t most) const;
  Result<const Json*> Object(std::string_view name) const;  // null: not there
  Result<const Json*> Array(std::string_view name) const;
  // A string, or a list of them.
  Result<std::vector<std::string>> Strings(std::string_view name, size_t count_max,
                                           size_t bytes_max) const;

 private:
  const Json& object_;
  std::string path_;
};

// The path of a list's entry, and the fields of one that must be an object.
std::string At(const std::string& path, size_t index);
Result<Fields> ObjectAt(const Json& list, size_t index, const std::string& path);

// The path at the beginning of such an error's message; empty: it names none.
std::string ParamOf(const Error& error);

// A JSON object from a body. Errors: kBadInput.
Result<Json> ParseBody(std::string_view body);

}  // namespace lode::serve
