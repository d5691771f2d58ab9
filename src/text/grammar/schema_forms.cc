#include "base/json_text.h"
#include "text/grammar/schema_forms.h"

#include <algorithm>
#include <cmath>

namespace lode::text::grammar {
namespace {

constexpr size_t kFormsMax = 4096;    // alternatives of one schema
constexpr size_t kMergesMax = 200000;  // in all
constexpr int kDepthMax = 200;        // of references and applicators at one place
constexpr size_t kClassesMax = 64;

}  // namespace

Parts Join(const Parts& a, const Parts& b) {
  Parts joined;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(joined));
  if (IsNever(joined)) joined.resize(1);
  return joined;
}

const ObjectForm::Property* ObjectForm::Find(const std::string& name) const {
  for (const Property& property : properties)
    if (property.name == name) return &property;
  return nullptr;
}

bool SameValue(const Json& a, const Json& b) {
  if (a.is_number() && b.is_number()) {
    const auto left = ToDecimal(a), right = ToDecimal(b);
    return left.ok() && right.ok() ? Compare(*left, *right) == 0 : a.dump() == b.dump();
  }
  if (a.type() != b.type()) return false;
  if (a.is_array()) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i)
      if (!SameValue(a[i], b[i])) return false;
    return true;
  }
  if (a.is_object()) {
    if (a.size() != b.size()) return false;
    for (const auto& [key, value] : a.items()) {
      const Json* other = FindKey(b, key);
      if (other == nullptr || !SameValue(value, *other)) return false;
    }
    return true;
  }
  return a == b;
}

uint8_t TypeOf(const Json& value) {
  if (value.is_null()) return kNullType;
  if (value.is_boolean()) return kBooleanType;
  if (value.is_string()) return kStringType;
  if (value.is_array()) return kArrayType;
  if (value.is_object()) return kObjectType;
  const auto number = ToDecimal(value);
  return number.ok() && number->whole() ? kIntegerType : kFractionType;
}

SchemaForms::SchemaForms(const SchemaSource* source, GrammarBuilder* builder, bool raw)
    : source_(source), builder_(builder), raw_(raw) {
  parts_.push_back({.schema = nullptr, .known = true, .forms = {}});  // kNever
}

void SchemaForms::Refuse(const Json& schema, std::string_view keyword) {
  refusals_.insert(source_->PathOf(schema) + "/" + std::string(keyword));
}

std::string SchemaForms::PathOf(const Parts& parts) const {
  for (const uint32_t part : parts)
    if (parts_[part].schema != nullptr) return source_->PathOf(*parts_[part].schema);
  return "#";
}

Form SchemaForms::Anything() const {
  Form form;
  form.object.classes.push_back({builder_->terms().json_star(), {}});
  return form;
}

Form SchemaForms::Only(uint8_t types) const {
  Form form = Anything();
  form.types = types;
  return form;
}

Parts SchemaForms::PartsOf(const Json& schema, bool negated) {
  if (schema.is_boolean()) return schema.get<bool>() != negated ? Parts{} : Parts{kNever};
  if (schema.is_object() && schema.empty()) return negated ? Parts{kNever} : Parts{};
  const auto [it, added] =
      part_of_.try_emplace({&schema, negated}, static_cast<uint32_t>(parts_.size()));
  if (added) parts_.push_back({.schema = &schema, .negated = negated, .forms = {}});
  return {it->second};
}

Result<Forms> SchemaForms::FormsOf(uint32_t part) {
  if (parts_[part].known) return parts_[part].forms;
  const Json& schema = *parts_[part].schema;
  if (!schema.is_object())
    return Error(Code::kBadInput,
                 source_->PathOf(schema) + " is no schema: an object or a boolean");
  if (parts_[part].open)
    return Error(Code::kUnsupported, source_->PathOf(schema) +
                                         " refers to itself without going into a value");
  if (++depth_ > kDepthMax) {
    --depth_;
    return Error(Code::kNoSpace, source_->PathOf(schema) + ": references are nested too deeply");
  }
  parts_[part].open = true;
  Result<Forms> forms = parts_[part].negated ? Negative(schema) : Positive(schema);
  parts_[part].open = false;
  --depth_;
  if (!forms.ok()) return forms;
  parts_[part].forms = *forms;
  parts_[part].known = true;
  return forms;
}

Result<Forms> SchemaForms::FormsOf(const Parts& parts) {
  Forms forms{Anything()};
  for (const uint32_t part : parts) {
    LODE_ASSIGN(const Forms more, FormsOf(part));
    LODE_ASSIGN(forms, Both(forms, more));
  }
  return forms;
}

Result<const Forms*> SchemaForms::Expand(const Parts& parts) {
  const auto known = expanded_.find(parts);
  if (known != expanded_.end()) return &known->second;
  LODE_ASSIGN(Forms forms, FormsOf(parts));
  return &(expanded_[parts] = std::move(forms));
}

Result<Forms> SchemaForms::Both(const Forms& a, const Forms& b) {
  Forms both;
  if (a.size() * b.size() > kFormsMax)
    return Error(Code::kNoSpace, "the schema has too many alternatives at one place",
                 "use fewer anyOf and oneOf side by side");
  for (const Form& left : a) {
    for (const Form& right : b) {
      if (++merges_ > kMergesMax)
        return Error(Code::kNoSpace, "the schema has too many alternatives");
      Form form;
      LODE_ASSIGN(const bool some, Merge(left, right, &form));
      if (some) both.push_back(std::move(form));
    }
  }
  return both;
}

bool SchemaForms::MergeValues(const Form& a, const Form& b, Form* both) {
  both->excluded = a.excluded;
  both->excluded.insert(both->excluded.end(), b.excluded.begin(), b.excluded.end());
  if (a.values && b.values) {
    both->values.emplace();
    for (const Json& value : *a.values)
      if (std::any_of(b.values->begin(), b.values->end(),
                      [&](const Json& other) { return SameValue(value, other); }))
        both->values->push_back(value);
  } else if (a.values || b.values) {
    both->values = a.values ? a.values : b.values;
  }
  return true;
}

// Values that do not fit go, as far as that needs no other schema; types follow.
Result<void> SchemaForms::Narrow(Form* form) {
  for (const Json& value : form->excluded)
    if (value.is_null()) form->types &= static_cast<uint8_t>(~kNullType);
  if (form->number.empty()) form->types &= static_cast<uint8_t>(~kNumberTypes);
  if (form->string.min > form->string.max) form->types &= static_cast<uint8_t>(~kStringType);
  if (form->array.min > form->array.max) form->types &= static_cast<uint8_t>(~kArrayType);
  if (form->object.min > form->object.max) form->types &= static_cast<uint8_t>(~kObjectType);
  for (const ObjectForm::Property& property : form->object.properties)
    if (property.required && IsNever(property.parts))
      form->types &= static_cast<uint8_t>(~kObjectType);
  if (!form->values) return {};
  std::vector<Json> values = std::move(*form->values), kept;
  form->values.reset();  // so that fitting asks for the rest only
  uint8_t types = 0;
  for (Json& value : values) {
    const uint8_t type = TypeOf(value);
    if (!(type & form->types)) continue;
    if (!value.is_structured()) {
      LODE_ASSIGN(const bool fits, FitsForm(value, *form));
      if (!fits) continue;
    }
    types |= type;
    kept.push_back(std::move(value));
  }
  form->values = std::move(kept);
  form->types &= types;
  return {};
}

Result<bool> SchemaForms::Merge(const Form& a, const Form& b, Form* both) {
  both->types = a.types & b.types;
  if (both->types == 0) return false;
  MergeValues(a, b, both);
  both->number = a.number;
  if (b.number.low) both->number.RaiseLow(*b.number.low);
  if (b.number.high) both->number.LowerHigh(*b.number.high);
  for (const Decimal& multiple : b.number.multiples)
    if (std::find(both->number.multiples.begin(), both->number.multiples.end(), multiple) ==
        both->number.multiples.end())
      both->number.multiples.push_back(multiple);
  both->string = a.string;
  both->string.min = std::max(a.string.min, b.string.min);
  both->string.max = std::min(a.string.max, b.string.max);
  for (const TermId term : b.string.terms)
    if (std::find(a.string.terms.begin(), a.string.terms.end(), term) == a.string.terms.end())
      both->string.terms.push_back(term);
  both->string.raw.insert(both->string.raw.end(), b.string.raw.begin(), b.string.raw.end());
  ArrayForm& array = both->array;
  const size_t prefix = std::max(a.array.prefix.size(), b.array.prefix.size());
  for (size_t i = 0; i < prefix; ++i) {
    const Parts& left = i < a.array.prefix.size() ? a.array.prefix[i] : a.array.rest;
    const Parts& right = i < b.array.prefix.size() ? b.array.prefix[i] : b.array.rest;
    array.prefix.push_back(Join(left, right));
  }
  array.rest = Join(a.array.rest, b.array.rest);
  array.min = std::max(a.array.min, b.array.min);
  array.max = std::min(a.array.max, b.array.max);
  array.contains = a.array.contains;
  for (const Parts& parts : b.array.contains)
    if (std::find(array.contains.begin(), array.contains.end(), parts) == array.contains.end())
      array.contains.push_back(parts);
  array.unique = a.array.unique || b.array.unique;
  if (both->types & kObjectType) {
    LODE_ASSIGN(const bool some, MergeObjects(a.object, b.object, &both->object));
    if (!some) both->types &= static_cast<uint8_t>(~kObjectType);
  } else {
    both->object.classes.push_back({builder_->terms().json_star(), {}});
  }
  LODE_TRY(Narrow(both));
  return both->types != 0;
}

const Parts* SchemaForms::ClassOf(const ObjectForm& object, const std::string& name) {
  static const Parts kNothingFits{kNever};
  for (const ObjectForm::Class& names : object.classes)
    if (names.names == builder_->terms().json_star() || Matches(names.names, name))
      return &names.parts;
  return &kNothingFits;  // not reached: classes hold all names
}

Result<bool> SchemaForms::MergeObjects(const ObjectForm& a, const ObjectForm& b, ObjectForm* both) {
  both->min = std::max(a.min, b.min);
  both->max = std::min(a.max, b.max);
  for (const ObjectForm::Property& left : a.properties) {
    const ObjectForm::Property* right = b.Find(left.name);
    both->properties.push_back(
        {left.name, Join(left.parts, right != nullptr ? right->parts : *ClassOf(b, left.name)),
         left.required || (right != nullptr && right->required),
         left.evaluated || (right != nullptr && right->evaluated)});
  }
  for (const ObjectForm::Property& right : b.properties)
    if (a.Find(right.name) == nullptr)
      both->properties.push_back(
          {right.name, Join(right.parts, *ClassOf(a, right.name)), right.required,
           right.evaluated});
  const TermId all = builder_->terms().json_star();
  for (const ObjectForm::Class& left : a.classes) {
    for (const ObjectForm::Class& right : b.classes) {
      const TermId names = left.names == all    ? right.names
                           : right.names == all ? left.names
                                                : builder_->terms().And({left.names, right.names});
      const bool plain = left.names == all || right.names == all;
      if (!plain && builder_->automata().Start(names, Counting::kNone) == Automata::kDead) continue;
      both->classes.push_back({names, Join(left.parts, right.parts)});
    }
  }
  if (both->classes.size() > kClassesMax)
    return Error(Code::kNoSpace, "the schema has too many patternProperties at one place");
  for (const ObjectForm::Property& property : both->properties)
    if (property.required && IsNever(property.parts)) return false;
  return both->min <= both->max;
}

bool SchemaForms::Matches(TermId term, const std::string& text) {
  Automata& automata = builder_->automata();
  Automata::State state = automata.Start(term, Counting::kNone);
  const std::string quoted = QuoteJson(text);
  for (size_t i = 1; i + 1 < quoted.size() && state != Automata::kDead; ++i)
    state = automata.Next(state, static_cast<uint8_t>(quoted[i]));
  return state != Automata::kDead && automata.accepting(state);
}

bool SchemaForms::IsEmptyParts(const Parts& parts, int depth) {
  if (IsNever(parts)) return true;
  if (depth <= 0 || parts.empty()) return false;
  const auto forms = Expand(parts);
  if (!forms.ok()) return false;  // not shown
  const Forms copy = **forms;
  for (const Form& form : copy) {
    const auto empty = IsEmpty(form, depth - 1);
    if (!empty.ok() || !*empty) return false;
  }
  return true;
}

bool SchemaForms::IsEmptyType(const Form& form, uint8_t type, int depth) {
  switch (type) {
    case kStringType: {
      if (form.string.min > form.string.max) return true;
      if (form.string.terms.empty()) return false;
      TermId term = Terms::kNothing;
      return !StringTerm(form, &term);
    }
    case kArrayType: {
      const ArrayForm& array = form.array;
      if (array.min > array.max) return true;
      for (size_t i = 0; i < array.prefix.size() && i < array.min; ++i)
        if (IsEmptyParts(array.prefix[i], depth)) return true;
      return array.min > array.prefix.size() && IsEmptyParts(array.rest, depth);
    }
    case kObjectType: {
      uint32_t required = 0;
      for (const ObjectForm::Property& property : form.object.properties) {
        if (!property.required) continue;
        ++required;
        if (IsEmptyParts(property.parts, depth)) return true;
      }
      return required > form.object.max || form.object.min > form.object.max;
    }
    default:
      return (type & kNumberTypes) != 0 && form.number.empty();
  }
}

Result<bool> SchemaForms::IsEmpty(const Form& form, int depth) {
  if (form.values) {  // of which the simple ones fit (Narrow)
    Form plain = form;
    plain.values.reset();
    for (const Json& value : *form.values) {
      if (!value.is_structured()) return false;
      const auto fits = FitsForm(value, plain);
      if (!fits.ok() || *fits) return false;
    }
    return true;
  }
  for (uint8_t type = 1; type < 128; type = static_cast<uint8_t>(type * 2))
    if ((form.types & type) && !IsEmptyType(form, type, depth)) return false;
  return true;
}

bool SchemaForms::StringTerm(const Form& form, TermId* term) {
  Terms& terms = builder_->terms();
  std::vector<TermId> parts = form.string.terms;
  std::vector<TermId> excluded;
  for (const Json& value : form.excluded)
    if (value.is_string())
      excluded.push_back(TextTerm(&terms, value.get_ref<const std::string&>(), Spelling::kJson));
  if (!excluded.empty()) parts.push_back(terms.Not(terms.Alt(std::move(excluded))));
  parts.push_back(terms.json_star());
  *term = terms.And(std::move(parts));
  return builder_->automata().Start(*term, Counting::kNone) != Automata::kDead;
}

Result<bool> SchemaForms::Fits(const Json& value, const Parts& parts) {
  if (IsNever(parts)) return false;
  if (parts.empty()) return true;
  LODE_ASSIGN(const Forms* forms, Expand(parts));
  const Forms copy = *forms;
  for (const Form& form : copy) {
    LODE_ASSIGN(const bool fits, FitsForm(value, form));
    if (fits) return true;
  }
  return false;
}

Result<bool> SchemaForms::FitsForm(const Json& value, const Form& form) {
  if (!(TypeOf(value) & form.types)) return false;
  const auto same = [&](const Json& other) { return SameValue(value, other); };
  if (form.values && std::none_of(form.values->begin(), form.values->end(), same)) return false;
  if (std::any_of(form.excluded.begin(), form.excluded.end(), same)) return false;
  if (value.is_number()) {
    LODE_ASSIGN(const Decimal number, ToDecimal(value));
    return form.number.Has(number);
  }
  if (value.is_string()) {
    const std::string& text = value.get_ref<const std::string&>();
    const auto length = static_cast<size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
    if (length < form.string.min || length > form.string.max) return false;
    for (const TermId term : form.string.terms)
      if (!Matches(term, text)) return false;
    return true;
  }
  if (value.is_array()) {
    const ArrayForm& array = form.array;
    if (value.size() < array.min || value.size() > array.max) return false;
    for (size_t i = 0; i < value.size(); ++i) {
      LODE_ASSIGN(const bool fits,
                  Fits(value[i], i < array.prefix.size() ? array.prefix[i] : array.rest));
      if (!fits) return false;
      for (size_t j = 0; array.unique && j < i; ++j)
        if (SameValue(value[i], value[j])) return false;
    }
    for (const Parts& parts : array.contains) {
      bool found = false;
      for (size_t i = 0; i < value.size() && !found; ++i) {
        LODE_ASSIGN(found, Fits(value[i], parts));
      }
      if (!found) return false;
    }
    return true;
  }
  if (!value.is_object()) return true;
  const ObjectForm& object = form.object;
  if (value.size() < object.min || value.size() > object.max) return false;
  for (const ObjectForm::Property& property : object.properties)
    if (property.required && FindKey(value, property.name) == nullptr) return false;
  for (const auto& [key, child] : value.items()) {
    const ObjectForm::Property* property = object.Find(key);
    LODE_ASSIGN(const bool fits,
                Fits(child, property != nullptr ? property->parts : *ClassOf(object, key)));
    if (!fits) return false;
  }
  return true;
}

}  // namespace lode::text::grammar
