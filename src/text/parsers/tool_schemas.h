// What the parsers need of the tools' JSON schemas: the kind of every parameter, resolved once per
// request (text/parsers/tool_schemas_json.h). Not a validator: a value that breaks its schema is
// passed on for the client to judge.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace lode::text {

enum class ValueKind { kString, kInteger, kNumber, kBoolean, kNull, kObject, kArray };

// The first type that is not null; `nullable` when null is allowed beside it.
struct ParameterType {
  ValueKind kind = ValueKind::kString;
  bool nullable = false;
};

struct ToolSchema {
  std::map<std::string, ParameterType, std::less<>> parameters;
  ParameterType undeclared;  // from additionalProperties; else a string
};

class ToolSchemas {
 public:
  // A later tool of the same name replaces the earlier one.
  void Add(std::string name, ToolSchema schema) {
    tools_.insert_or_assign(std::move(name), std::move(schema));
  }
  // nullptr when no such tool was given.
  const ToolSchema* Find(std::string_view name) const {
    const auto found = tools_.find(name);
    return found == tools_.end() ? nullptr : &found->second;
  }
  bool empty() const { return tools_.empty(); }

 private:
  std::map<std::string, ToolSchema, std::less<>> tools_;
};

}  // namespace lode::text
