#include "text/parsers/tool_schemas_json.h"

#include <algorithm>
#include <optional>

namespace lode::text {
namespace {

constexpr int kHopsMax = 32;  // through $ref, anyOf, allOf: schemas may refer to themselves

// "#/$defs/Name" inside `root`, or nullptr.
const Json* FollowPointer(const Json& root, std::string_view reference) {
  if (reference.empty() || reference[0] != '#') return nullptr;
  reference.remove_prefix(1);
  const Json* here = &root;
  while (!reference.empty()) {
    if (reference[0] != '/') return nullptr;
    reference.remove_prefix(1);
    const size_t slash = std::min(reference.find('/'), reference.size());
    std::string key;
    for (size_t i = 0; i < slash; ++i) {
      const bool escaped = reference[i] == '~' && i + 1 < slash;
      if (escaped && (reference[i + 1] == '0' || reference[i + 1] == '1')) {
        key += reference[++i] == '0' ? '~' : '/';
      } else {
        key += reference[i];
      }
    }
    here = FindKey(*here, key);
    if (here == nullptr) return nullptr;
    reference.remove_prefix(slash);
  }
  return here;
}

std::optional<ValueKind> KindOfName(std::string_view name) {
  if (name == "string") return ValueKind::kString;
  if (name == "integer") return ValueKind::kInteger;
  if (name == "number") return ValueKind::kNumber;
  if (name == "boolean") return ValueKind::kBoolean;
  if (name == "null") return ValueKind::kNull;
  if (name == "object") return ValueKind::kObject;
  if (name == "array") return ValueKind::kArray;
  return std::nullopt;
}

ValueKind KindOfValue(const Json& value) {
  if (value.is_number_integer()) return ValueKind::kInteger;
  if (value.is_number()) return ValueKind::kNumber;
  if (value.is_boolean()) return ValueKind::kBoolean;
  if (value.is_null()) return ValueKind::kNull;
  if (value.is_object()) return ValueKind::kObject;
  if (value.is_array()) return ValueKind::kArray;
  return ValueKind::kString;
}

// Collects the alternatives of one schema in order: the first kind that is not null, and null.
class Resolver {
 public:
  explicit Resolver(const Json& root) : root_(root) {}

  ParameterType Resolve(const Json& schema) {
    Visit(schema);
    ParameterType type;
    type.kind = kind_.value_or(nullable_ ? ValueKind::kNull : ValueKind::kString);
    type.nullable = nullable_;
    return type;
  }

 private:
  void Add(ValueKind kind) {
    if (kind == ValueKind::kNull) {
      nullable_ = true;
    } else if (!kind_.has_value()) {
      kind_ = kind;
    }
  }

  void Visit(const Json& schema) {
    if (!schema.is_object() || ++hops_ > kHopsMax) return;
    if (GetBool(schema, "nullable")) nullable_ = true;
    if (const Json* type = FindKey(schema, "type"); type != nullptr && VisitType(*type)) return;
    if (const Json* value = FindKey(schema, "const")) return Add(KindOfValue(*value));
    if (const Json* values = FindKey(schema, "enum"); values != nullptr && values->is_array()) {
      for (const Json& value : *values) Add(KindOfValue(value));
      return;
    }
    if (const Json* reference = FindKey(schema, "$ref")) {
      const Json* target = reference->is_string()
                               ? FollowPointer(root_, reference->get_ref<const std::string&>())
                               : nullptr;
      if (target != nullptr) return Visit(*target);
    }
    for (const char* key : {"anyOf", "oneOf", "allOf"}) {
      const Json* list = FindKey(schema, key);
      if (list == nullptr || !list->is_array()) continue;
      for (const Json& alternative : *list) Visit(alternative);
      return;
    }
    if (FindKey(schema, "properties") != nullptr) return Add(ValueKind::kObject);
    if (FindKey(schema, "items") != nullptr) return Add(ValueKind::kArray);
  }

  // True when the type keyword says something.
  bool VisitType(const Json& type) {
    bool known = false;
    const auto add = [&](const Json& name) {
      if (!name.is_string()) return;
      const std::optional<ValueKind> kind = KindOfName(name.get_ref<const std::string&>());
      if (!kind.has_value()) return;
      Add(*kind);
      known = true;
    };
    if (type.is_array()) {
      for (const Json& name : type) add(name);
    } else {
      add(type);
    }
    return known;
  }

  const Json& root_;
  int hops_ = 0;
  std::optional<ValueKind> kind_;
  bool nullable_ = false;
};

ToolSchema MakeSchema(const Json& root) {
  ToolSchema tool;
  if (const Json* properties = FindKey(root, "properties");
      properties != nullptr && properties->is_object()) {
    for (const auto& [name, schema] : properties->items()) {
      tool.parameters.emplace(name, Resolver(root).Resolve(schema));
    }
  }
  if (const Json* other = FindKey(root, "additionalProperties")) {
    tool.undeclared = Resolver(root).Resolve(*other);
  }
  return tool;
}

}  // namespace

ToolSchemas ToolSchemasFromJson(const Json& tools) {
  ToolSchemas schemas;
  if (!tools.is_array()) return schemas;
  for (const Json& entry : tools) {
    const Json* function = FindKey(entry, "function");
    const Json& tool = function != nullptr && function->is_object() ? *function : entry;
    const std::string name = GetString(tool, "name");
    if (name.empty()) continue;
    const Json* root = FindKey(tool, "parameters");
    if (root == nullptr) root = FindKey(tool, "input_schema");
    schemas.Add(name, root != nullptr ? MakeSchema(*root) : ToolSchema());
  }
  return schemas;
}

}  // namespace lode::text
