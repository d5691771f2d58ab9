// What does not fit a schema, as Forms: a choice, of which each alternative breaks one keyword.
// Used for not, if, and oneOf. A keyword whose breaking cannot be said exactly is an error.
#include <algorithm>

#include "text/grammar/regex.h"
#include "text/grammar/schema_forms.h"

namespace lode::text::grammar {
namespace {

bool IsOneOf(const std::string& key, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* name) { return key == name; });
}

}  // namespace

Result<Forms> SchemaForms::Negative(const Json& schema) {
  const Json* ref = FindKey(schema, "$ref");
  if (ref != nullptr && ref->is_string() && source_->ref_hides_siblings()) {
    LODE_ASSIGN(const Json* target, source_->Resolve(schema, ref->get_ref<const std::string&>()));
    return FormsOf(PartsOf(*target, true));
  }
  Forms forms;
  size_t of_ref = 0;
  for (const auto& [key, value] : schema.items()) {
    const size_t before = forms.size();
    LODE_ASSIGN(const bool done, NegateKeyword(schema, key, value, &forms));
    if (key == "$ref") of_ref = forms.size() - before;
    if (!done)
      return Error(Code::kUnsupported, source_->PathOf(schema) + "/" + key +
                                           " cannot be enforced within not, if or oneOf");
  }
  if (ref != nullptr && source_->draft_unknown() && forms.size() > of_ref)
    return Error(Code::kUnsupported,
                 source_->PathOf(schema) + ": whether what stands beside $ref holds within not, if "
                                           "or oneOf depends on the draft",
                 "name the draft with $schema");
  return forms;
}

// False if that is not possible. Keywords that ask nothing add nothing.
Result<bool> SchemaForms::NegateKeyword(const Json& schema, const std::string& key,
                                        const Json& value, Forms* forms) {
  const auto add = [&](Result<Forms> more) -> Result<bool> {
    if (!more.ok()) return more.error();
    std::move(more->begin(), more->end(), std::back_inserter(*forms));
    return true;
  };
  if (key == "type") {
    Form typed = Anything();
    Json only;
    only["type"] = value;
    LODE_TRY(TypeKeywords(only, &typed));
    if (typed.types != kAllTypes) forms->push_back(Only(kAllTypes & ~typed.types));
    return true;
  }
  if (key == "enum" || key == "const") {
    Form form = Anything();
    const Json list = key == "enum" ? value : Json::array({value});
    for (const Json& excluded : list) {
      // Numbers, strings and words can be left out; of lists and objects only the empty ones'
      // types.
      if (excluded.is_structured()) return false;
      form.excluded.push_back(excluded);
    }
    return add(Both({form}, {Anything()}));
  }
  if (key == "$ref" && value.is_string()) {
    LODE_ASSIGN(const Json* target, source_->Resolve(schema, value.get_ref<const std::string&>()));
    return add(FormsOf(PartsOf(*target, true)));
  }
  if (key == "allOf" && value.is_array()) {
    for (const Json& part : value) LODE_TRY(add(FormsOf(PartsOf(part, true))));
    return true;
  }
  if ((key == "anyOf") && value.is_array()) {
    Parts none;
    for (const Json& part : value) none = Join(none, PartsOf(part, true));
    return add(FormsOf(none));
  }
  if (key == "not") {  // fits again, but what it lists does not count as evaluated
    LODE_ASSIGN(Forms again, FormsOf(PartsOf(value)));
    for (Form& form : again)
      for (ObjectForm::Property& property : form.object.properties) property.evaluated = false;
    return add(std::move(again));
  }
  if (IsOneOf(key, {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}))
    return NegateNumber(schema, key, forms);
  if (IsOneOf(key, {"minLength", "maxLength", "minItems", "maxItems", "minProperties",
                    "maxProperties"}))
    return NegateCount(schema, key, forms);
  if (IsOneOf(key, {"properties", "required", "items", "contains", "pattern"}))
    return NegateChildren(schema, key, value, forms);
  return !IsOneOf(key, {"oneOf", "if", "then", "else", "additionalProperties", "patternProperties",
                        "propertyNames", "additionalItems", "prefixItems", "uniqueItems",
                        "multipleOf", "format", "dependencies", "dependentRequired",
                        "dependentSchemas", "unevaluatedProperties", "unevaluatedItems",
                        "$dynamicRef", "$recursiveRef", "minContains", "maxContains"});
}

Result<bool> SchemaForms::NegateNumber(const Json& schema, const std::string& key, Forms* forms) {
  if (schema[key].is_boolean()) return false;  // draft 4
  if ((key == "minimum" && GetBool(schema, "exclusiveMinimum")) ||
      (key == "maximum" && GetBool(schema, "exclusiveMaximum")))
    return false;
  LODE_ASSIGN(auto bound, Bound(schema, key.c_str()));
  Form form = Only(kNumberTypes);
  const bool was_strict = key.starts_with("exclusive");
  bound->strict = !was_strict;
  if (key.ends_with("inimum")) {
    form.number.LowerHigh(*bound);
  } else {
    form.number.RaiseLow(*bound);
  }
  forms->push_back(std::move(form));
  return true;
}

Result<bool> SchemaForms::NegateCount(const Json& schema, const std::string& key, Forms* forms) {
  LODE_ASSIGN(const uint32_t count, Count(schema, key.c_str(), 0));
  const bool least = key.starts_with("min");
  if (least && count == 0) return true;  // nothing breaks it
  const uint32_t min = least ? 0 : count + 1;
  const uint32_t max = least ? count - 1 : kUnbounded;
  Form form = Anything();
  if (key.ends_with("Length")) {
    form.types = kStringType;
    form.string.min = min;
    form.string.max = max;
  } else if (key.ends_with("Items")) {
    form.types = kArrayType;
    form.array.min = min;
    form.array.max = max;
  } else {
    form.types = kObjectType;
    form.object.min = min;
    form.object.max = max;
  }
  forms->push_back(std::move(form));
  return true;
}

Result<bool> SchemaForms::NegateChildren(const Json& schema, const std::string& key,
                                         const Json& value, Forms* forms) {
  if (key == "properties" && value.is_object()) {
    for (const auto& [name, child] : value.items()) {
      const Parts broken = PartsOf(child, true);
      if (IsNever(broken)) continue;
      Form form = Only(kObjectType);
      form.object.properties.push_back({name, broken, true});
      forms->push_back(std::move(form));
    }
    return true;
  }
  if (key == "required" && value.is_array()) {
    for (const Json& name : value) {
      if (!name.is_string()) return false;
      Form form = Only(kObjectType);
      form.object.properties.push_back({name.get<std::string>(), {kNever}, false});
      forms->push_back(std::move(form));
    }
    return true;
  }
  if (key == "items" && !value.is_array()) {
    if (FindKey(schema, "prefixItems") != nullptr) return false;
    const Parts broken = PartsOf(value, true);
    if (IsNever(broken)) return true;
    Form form = Only(kArrayType);
    form.array.contains.push_back(broken);
    forms->push_back(std::move(form));
    return true;
  }
  if (key == "contains") {
    if (FindKey(schema, "minContains") != nullptr || FindKey(schema, "maxContains") != nullptr)
      return false;
    Form form = Only(kArrayType);
    form.array.rest = PartsOf(value, true);
    forms->push_back(std::move(form));
    return true;
  }
  if (key == "pattern" && value.is_string()) {
    Form form = Only(kStringType);
    if (!AddPattern(value.get_ref<const std::string&>(), false, true, &form.string).ok())
      return false;
    forms->push_back(std::move(form));
    return true;
  }
  return false;
}

}  // namespace lode::text::grammar
