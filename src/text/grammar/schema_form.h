// What a JSON schema asks of a value, brought into one shape: a Form is a conjunction, for each
// type of value what must hold; a schema becomes a list of Forms of which one must hold. Schemas
// below (of properties and items) stay references, "Parts", so that recursion ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/grammar/numbers.h"
#include "text/grammar/terms.h"

namespace lode::text::grammar {

// Schemas that must hold together: sorted numbers of SchemaForms' parts. None: anything.
using Parts = std::vector<uint32_t>;
inline constexpr uint32_t kNever = 0;  // the part that nothing fits

Parts Join(const Parts& a, const Parts& b);
inline bool IsNever(const Parts& parts) { return !parts.empty() && parts[0] == kNever; }

enum TypeBits : uint8_t {
  kNullType = 1, kBooleanType = 2, kIntegerType = 4, kFractionType = 8, kStringType = 16,
  kArrayType = 32, kObjectType = 64, kNumberTypes = 12, kAllTypes = 127
};

struct StringForm {
  std::vector<TermId> terms;  // all of them: the text between the quotes
  std::vector<TermId> raw;    // the same of plain text, where that was asked for
  uint32_t min = 0, max = kUnbounded;
};

struct ArrayForm {
  std::vector<Parts> prefix;
  Parts rest;
  uint32_t min = 0, max = kUnbounded;
  std::vector<Parts> contains;  // some item for each
  bool unique = false;
};

struct ObjectForm {
  struct Property {
    std::string name;
    Parts parts;
    bool required = false;
    bool evaluated = false;  // listed by a `properties`, for unevaluatedProperties
  };
  struct Class {  // names that are not among the properties
    TermId names;
    Parts parts;
  };
  std::vector<Property> properties;
  std::vector<Class> classes;  // disjoint; together all names
  uint32_t min = 0, max = kUnbounded;

  const Property* Find(const std::string& name) const;
};

struct Form {
  uint8_t types = kAllTypes;
  std::optional<std::vector<Json>> values;  // one of these
  std::vector<Json> excluded;               // none of these
  NumberRange number;
  StringForm string;
  ArrayForm array;
  ObjectForm object;
};

using Forms = std::vector<Form>;

// Whether two JSON values are the same: 1 and 1.0 are.
bool SameValue(const Json& a, const Json& b);
uint8_t TypeOf(const Json& value);

}  // namespace lode::text::grammar
