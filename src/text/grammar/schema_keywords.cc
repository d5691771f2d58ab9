#include <algorithm>
#include <cmath>

#include "text/grammar/formats.h"
#include "text/grammar/regex.h"
#include "text/grammar/schema_forms.h"

namespace lode::text::grammar {
namespace {

constexpr size_t kClassesMax = 64;

const Json* FindObject(const Json& schema, const char* key) {
  const Json* found = FindKey(schema, key);
  return found != nullptr && found->is_object() ? found : nullptr;
}

}  // namespace

Error SchemaForms::Bad(const Json& schema, std::string_view keyword,
                       const std::string& what) const {
  return Error(Code::kBadInput,
               source_->PathOf(schema) + "/" + std::string(keyword) + " " + what);
}

Result<Forms> SchemaForms::Positive(const Json& schema) {
  const Json* ref = FindKey(schema, "$ref");
  if (ref != nullptr && !ref->is_string()) ref = nullptr;  // a property of that name, misplaced
  if (ref != nullptr && source_->ref_hides_siblings()) {
    LODE_ASSIGN(const Json* target, source_->Resolve(schema, ref->get_ref<const std::string&>()));
    return FormsOf(PartsOf(*target));
  }
  Form local = Anything();
  LODE_TRY(Local(schema, &local));
  LODE_ASSIGN(Forms forms, Both({local}, {Anything()}));
  if (ref != nullptr) {
    LODE_ASSIGN(const Json* target, source_->Resolve(schema, ref->get_ref<const std::string&>()));
    LODE_ASSIGN(const Forms more, FormsOf(PartsOf(*target)));
    LODE_ASSIGN(forms, Both(forms, more));
  }
  for (const char* keyword : {"$dynamicRef", "$recursiveRef", "extends", "disallow"})
    if (FindKey(schema, keyword) != nullptr) Refuse(schema, keyword);
  LODE_ASSIGN(forms, Applicators(schema, std::move(forms)));
  LODE_TRY(Unevaluated(schema, &forms));
  return forms;
}

Result<Forms> SchemaForms::Applicators(const Json& schema, Forms forms) {
  const auto list_of = [&](const char* keyword) -> Result<const Json*> {
    const Json* list = FindKey(schema, keyword);
    if (list != nullptr && (!list->is_array() || list->empty()))
      return Bad(schema, keyword, "must be a list of schemas");
    return list;
  };
  LODE_ASSIGN(const Json* all, list_of("allOf"));
  if (all != nullptr) {
    for (const Json& part : *all) {
      LODE_ASSIGN(const Forms more, FormsOf(PartsOf(part)));
      LODE_ASSIGN(forms, Both(forms, more));
    }
  }
  LODE_ASSIGN(const Json* any, list_of("anyOf"));
  if (any != nullptr) {
    Forms choice;
    for (const Json& part : *any) {
      LODE_ASSIGN(Forms more, FormsOf(PartsOf(part)));
      std::move(more.begin(), more.end(), std::back_inserter(choice));
    }
    LODE_ASSIGN(forms, Both(forms, choice));
  }
  LODE_ASSIGN(const Json* one, list_of("oneOf"));
  if (one != nullptr) {
    LODE_ASSIGN(const Forms choice, OneOf(schema, *one));
    LODE_ASSIGN(forms, Both(forms, choice));
  }
  if (const Json* part = FindKey(schema, "not")) {
    LODE_ASSIGN(const Forms more, FormsOf(PartsOf(*part, true)));
    LODE_ASSIGN(forms, Both(forms, more));
  }
  LODE_ASSIGN(forms, Conditional(schema, std::move(forms)));
  return Dependencies(schema, std::move(forms));
}

Result<Forms> SchemaForms::Conditional(const Json& schema, Forms forms) {
  const Json* condition = FindKey(schema, "if");
  const Json* then = FindKey(schema, "then");
  const Json* otherwise = FindKey(schema, "else");
  if (condition == nullptr || (then == nullptr && otherwise == nullptr)) return forms;
  Forms choice;
  for (const bool holds : {true, false}) {
    Parts parts = PartsOf(*condition, !holds);
    const Json* consequence = holds ? then : otherwise;
    if (consequence != nullptr) parts = Join(parts, PartsOf(*consequence));
    LODE_ASSIGN(Forms more, FormsOf(parts));
    std::move(more.begin(), more.end(), std::back_inserter(choice));
  }
  return Both(forms, choice);
}

Result<Forms> SchemaForms::Dependencies(const Json& schema, Forms forms) {
  for (const char* keyword : {"dependencies", "dependentRequired", "dependentSchemas"}) {
    const Json* list = FindObject(schema, keyword);
    if (list == nullptr) continue;
    for (const auto& [name, needs] : list->items()) {
      Form without = Anything();  // either the name is not there
      without.object.properties.push_back({name, {kNever}, false});
      Form with = Only(kObjectType);  // or it is, and what it needs holds
      with.object.properties.push_back({name, {}, true});
      Forms present{with};
      if (needs.is_array()) {
        for (const Json& need : needs) {
          if (!need.is_string()) return Bad(schema, keyword, "must name properties");
          const std::string& other = need.get_ref<const std::string&>();
          if (other != name) present[0].object.properties.push_back({other, {}, true});
        }
      } else {
        LODE_ASSIGN(const Forms more, FormsOf(PartsOf(needs)));
        LODE_ASSIGN(present, Both(present, more));
      }
      present.push_back(std::move(without));
      LODE_ASSIGN(forms, Both(forms, present));
    }
  }
  return forms;
}

Result<Forms> SchemaForms::OneOf(const Json& schema, const Json& list) {
  std::vector<Parts> parts;
  std::vector<Forms> forms;
  for (const Json& part : list) {
    parts.push_back(PartsOf(part));
    LODE_ASSIGN(Forms more, FormsOf(parts.back()));
    forms.push_back(std::move(more));
  }
  std::vector<Parts> alone = parts;  // each, and none of those that it meets
  bool all_alone = true;
  for (size_t i = 0; i < parts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      LODE_ASSIGN(const Forms both, Both(forms[i], forms[j]));
      bool meet = false;
      for (const Form& form : both) {
        LODE_ASSIGN(const bool empty, IsEmpty(form, 4));
        meet |= !empty;
      }
      if (!meet) continue;
      all_alone = false;
      alone[i] = Join(alone[i], PartsOf(list[j], true));
      alone[j] = Join(alone[j], PartsOf(list[i], true));
    }
  }
  Forms choice;
  for (size_t i = 0; i < parts.size(); ++i) {
    Result<Forms> more = all_alone ? forms[i] : FormsOf(alone[i]);
    if (!more.ok() && more.error().code() == Code::kUnsupported) {
      Refuse(schema, "oneOf (its alternatives may hold together)");
      return forms[0];
    }
    if (!more.ok()) return more;
    std::move(more->begin(), more->end(), std::back_inserter(choice));
  }
  return choice;
}

Result<void> SchemaForms::Local(const Json& schema, Form* form) {
  LODE_TRY(TypeKeywords(schema, form));
  LODE_TRY(NumberKeywords(schema, form));
  LODE_TRY(StringKeywords(schema, form));
  LODE_TRY(ArrayKeywords(schema, form));
  return ObjectKeywords(schema, form);
}

Result<void> SchemaForms::TypeKeywords(const Json& schema, Form* form) {
  static constexpr std::pair<const char*, int> kNames[] = {
      {"null", kNullType},     {"boolean", kBooleanType}, {"integer", kIntegerType},
      {"number", kNumberTypes}, {"string", kStringType},  {"array", kArrayType},
      {"object", kObjectType}};
  if (const Json* type = FindKey(schema, "type")) {
    uint8_t types = 0;
    const Json list = type->is_array() ? *type : Json::array({*type});
    for (const Json& name : list) {
      const auto is_it = [&](const auto& entry) {
        return name.is_string() && name.get_ref<const std::string&>() == entry.first;
      };
      const auto* known = std::find_if(std::begin(kNames), std::end(kNames), is_it);
      if (known == std::end(kNames)) return Bad(schema, "type", "is not one of JSON's types");
      types |= static_cast<uint8_t>(known->second);
    }
    form->types &= types;
  }
  if (const Json* values = FindKey(schema, "enum")) {
    if (!values->is_array()) return Bad(schema, "enum", "must be a list");
    form->values.emplace();
    for (const Json& value : *values) form->values->push_back(value);
  }
  if (const Json* value = FindKey(schema, "const")) {
    Form constant = *form;
    constant.values = std::vector<Json>{*value};
    Form both;
    MergeValues(*form, constant, &both);
    form->values = both.values;
  }
  return {};
}

Result<std::optional<NumberRange::Bound>> SchemaForms::Bound(const Json& schema,
                                                             const char* keyword) {
  const Json* value = FindKey(schema, keyword);
  if (value == nullptr || value->is_boolean()) return std::optional<NumberRange::Bound>();
  auto number = ToDecimal(*value);
  if (!number.ok()) return Bad(schema, keyword, number.error().message());
  return std::optional<NumberRange::Bound>({*number, false});
}

Result<void> SchemaForms::NumberKeywords(const Json& schema, Form* form) {
  LODE_ASSIGN(auto low, Bound(schema, "minimum"));
  LODE_ASSIGN(auto high, Bound(schema, "maximum"));
  LODE_ASSIGN(auto above, Bound(schema, "exclusiveMinimum"));
  LODE_ASSIGN(auto below, Bound(schema, "exclusiveMaximum"));
  if (low && GetBool(schema, "exclusiveMinimum")) low->strict = true;  // draft 4
  if (high && GetBool(schema, "exclusiveMaximum")) high->strict = true;
  if (above) above->strict = true;
  if (below) below->strict = true;
  for (const auto& bound : {low, above})
    if (bound) form->number.RaiseLow(*bound);
  for (const auto& bound : {high, below})
    if (bound) form->number.LowerHigh(*bound);
  if (const Json* multiple = FindKey(schema, "multipleOf")) {
    auto number = ToDecimal(*multiple);
    if (!number.ok() || number->negative || number->zero())
      return Bad(schema, "multipleOf", "must be a number above 0");
    form->number.multiples.push_back(*number);
  }
  return {};
}

Result<uint32_t> SchemaForms::Count(const Json& schema, const char* keyword, uint32_t fallback) {
  const Json* value = FindKey(schema, keyword);
  if (value == nullptr) return fallback;
  auto number = ToDecimal(*value);
  if (!number.ok() || number->negative || !number->whole())
    return Bad(schema, keyword, "must be a whole number from 0");
  // Beyond what any answer holds, large bounds are the same.
  return number->integer.size() > 9 ? kUnbounded - 1
                                    : static_cast<uint32_t>(std::stoul(number->integer));
}

Result<void> SchemaForms::StringKeywords(const Json& schema, Form* form) {
  LODE_ASSIGN(form->string.min, Count(schema, "minLength", 0));
  LODE_ASSIGN(form->string.max, Count(schema, "maxLength", kUnbounded));
  if (const Json* pattern = FindKey(schema, "pattern")) {
    if (!pattern->is_string()) return Bad(schema, "pattern", "must be a string");
    const std::string& text = pattern->get_ref<const std::string&>();
    const auto added = AddPattern(text, false, false, &form->string);
    if (!added.ok() && added.error().code() == Code::kUnsupported) {
      Refuse(schema, "pattern (" + added.error().message() + ")");
    } else if (!added.ok()) {
      return Error(added.error()).AddContext(source_->PathOf(schema) + "/pattern");
    }
  }
  const std::string format = GetString(schema, "format");
  if (IsUnenforcedFormat(format)) Refuse(schema, "format (" + format + ")");
  const std::optional<std::string> pattern = FormatPattern(format);
  if (!pattern) return {};
  return AddPattern(*pattern, true, false, &form->string);
}

Result<void> SchemaForms::AddPattern(const std::string& pattern, bool whole, bool negated,
                                     StringForm* string) {
  Terms& terms = builder_->terms();
  for (const Spelling spelling : {Spelling::kJson, Spelling::kRaw}) {
    if (spelling == Spelling::kRaw && !raw_) break;
    auto& list = spelling == Spelling::kJson ? string->terms : string->raw;
    std::optional<CountedClass> counted;
    if (!whole && !negated) counted = AsCountedClass(&terms, pattern, spelling);
    TermId term = Terms::kNothing;
    if (counted) {
      string->min = std::max(string->min, counted->min);
      string->max = std::min(string->max, counted->max);
      term = counted->any;
    } else {
      LODE_ASSIGN(term, RegexTerm(&terms, pattern, {.spelling = spelling, .whole = whole}));
    }
    if (negated) term = terms.Not(term);
    if (term != AnyText(&terms, spelling)) list.push_back(term);
  }
  return {};
}

Result<void> SchemaForms::ArrayKeywords(const Json& schema, Form* form) {
  ArrayForm& array = form->array;
  LODE_ASSIGN(array.min, Count(schema, "minItems", 0));
  LODE_ASSIGN(array.max, Count(schema, "maxItems", kUnbounded));
  const Json* items = FindKey(schema, "items");
  const Json* prefix = FindKey(schema, "prefixItems");
  const Json* rest = items;
  if (items != nullptr && items->is_array()) {  // drafts before 2020-12
    prefix = items;
    rest = FindKey(schema, "additionalItems");
  }
  if (prefix != nullptr) {
    if (!prefix->is_array()) return Bad(schema, "prefixItems", "must be a list of schemas");
    for (const Json& item : *prefix) array.prefix.push_back(PartsOf(item));
  }
  if (rest != nullptr) array.rest = PartsOf(*rest);
  array.unique = GetBool(schema, "uniqueItems");
  if (const Json* contains = FindKey(schema, "contains")) {
    LODE_ASSIGN(const uint32_t least, Count(schema, "minContains", 1));
    if (least > 1) Refuse(schema, "minContains");
    if (FindKey(schema, "maxContains") != nullptr) Refuse(schema, "maxContains");
    if (least > 0) array.contains.push_back(PartsOf(*contains));
  }
  if (const Json* unevaluated = FindKey(schema, "unevaluatedItems"))
    if (!unevaluated->is_boolean() || !unevaluated->get<bool>()) Refuse(schema, "unevaluatedItems");
  return {};
}

Result<void> SchemaForms::ObjectKeywords(const Json& schema, Form* form) {
  ObjectForm& object = form->object;
  LODE_ASSIGN(object.min, Count(schema, "minProperties", 0));
  LODE_ASSIGN(object.max, Count(schema, "maxProperties", kUnbounded));
  if (const Json* properties = FindKey(schema, "properties")) {
    if (!properties->is_object()) return Bad(schema, "properties", "must be an object");
    for (const auto& [name, child] : properties->items())
      object.properties.push_back({name, PartsOf(child), false, true});
  }
  LODE_TRY(NameClasses(schema, form));
  if (const Json* required = FindKey(schema, "required")) {
    if (!required->is_array()) return Bad(schema, "required", "must be a list of names");
    for (const Json& entry : *required) {
      if (!entry.is_string()) return Bad(schema, "required", "must be a list of names");
      const std::string& name = entry.get_ref<const std::string&>();
      auto& list = object.properties;
      const auto is_it = [&](const auto& property) { return property.name == name; };
      auto it = std::find_if(list.begin(), list.end(), is_it);
      if (it == list.end()) it = list.insert(list.end(), {name, *ClassOf(object, name), true});
      it->required = true;
    }
  }
  return PropertyNames(schema, form);
}

// patternProperties and additionalProperties as disjoint classes of names.
Result<void> SchemaForms::NameClasses(const Json& schema, Form* form) {
  ObjectForm& object = form->object;
  Terms& terms = builder_->terms();
  struct Draft {
    TermId names;
    Parts parts;
    bool matched;
  };
  std::vector<Draft> drafts{{terms.json_star(), {}, false}};
  if (const Json* patterns = FindObject(schema, "patternProperties")) {
    for (const auto& [pattern, child] : patterns->items()) {
      auto term = RegexTerm(&terms, pattern, {});
      if (!term.ok()) {
        Refuse(schema, "patternProperties (" + term.error().message() + ")");
        continue;
      }
      const Parts parts = PartsOf(child);
      std::vector<Draft> split;
      const auto keep = [&](std::vector<TermId> both, Draft draft) {
        draft.names = terms.And(std::move(both));
        if (builder_->automata().Start(draft.names, Counting::kNone) != Automata::kDead)
          split.push_back(std::move(draft));
      };
      for (const Draft& draft : drafts) {
        keep({draft.names, *term}, {0, Join(draft.parts, parts), true});
        if (*term != terms.json_star()) keep({draft.names, terms.Not(*term)}, draft);
      }
      drafts = std::move(split);
      if (drafts.size() > kClassesMax || terms.overflowed())
        return Error(Code::kNoSpace, source_->PathOf(schema) +
                                         "/patternProperties has too many overlapping patterns");
      for (ObjectForm::Property& property : object.properties)
        if (Matches(*term, property.name)) property.parts = Join(property.parts, parts);
    }
  }
  const Json* additional = FindKey(schema, "additionalProperties");
  object.classes.clear();
  for (Draft& draft : drafts) {
    if (!draft.matched && additional != nullptr) draft.parts = PartsOf(*additional);
    object.classes.push_back({draft.names, std::move(draft.parts)});
  }
  return {};
}

Result<void> SchemaForms::PropertyNames(const Json& schema, Form* form) {
  const Json* names = FindKey(schema, "propertyNames");
  if (names == nullptr) return {};
  ObjectForm& object = form->object;
  const Parts parts = PartsOf(*names);
  for (ObjectForm::Property& property : object.properties) {
    LODE_ASSIGN(const bool fits, Fits(Json(property.name), parts));
    if (!fits) property.parts = {kNever};
  }
  LODE_ASSIGN(const Forms forms, FormsOf(parts));
  Terms& terms = builder_->terms();
  std::vector<TermId> allowed;
  for (const Form& name : forms) {
    if (!(name.types & kStringType)) continue;
    TermId term = Terms::kNothing;
    if (name.values) {
      std::vector<TermId> texts;
      for (const Json& value : *name.values)
        if (value.is_string())
          texts.push_back(TextTerm(&terms, value.get_ref<const std::string&>(), Spelling::kJson));
      term = terms.Alt(std::move(texts));
    } else if (!StringTerm(name, &term)) {
      continue;
    } else if (name.string.min > 0 || name.string.max != kUnbounded) {
      const TermId any = CharacterTerm(&terms, CodeSet::All(), Spelling::kJson);
      const bool small = name.string.max == kUnbounded ? name.string.min <= 16
                                                       : name.string.max <= 256;
      if (!small) Refuse(schema, "propertyNames (lengths beyond 256)");
      term = terms.And({term, terms.Repeat(any, name.string.min, name.string.max)});
    }
    allowed.push_back(term);
  }
  const TermId term = terms.Alt(std::move(allowed));
  std::vector<ObjectForm::Class> classes;
  for (const ObjectForm::Class& old : object.classes) {
    classes.push_back({terms.And({old.names, term}), old.parts});
    classes.push_back({terms.And({old.names, terms.Not(term)}), {kNever}});
  }
  object.classes = std::move(classes);
  return {};
}

Result<void> SchemaForms::Unevaluated(const Json& schema, Forms* forms) {
  const Json* unevaluated = FindKey(schema, "unevaluatedProperties");
  if (unevaluated == nullptr || (unevaluated->is_boolean() && unevaluated->get<bool>())) return {};
  // In each alternative, what its `properties` list is evaluated; whatever else it lets pass is
  // taken not to be, which asks for no less than the draft does.
  for (Form& form : *forms) {
    for (ObjectForm::Property& property : form.object.properties)
      if (!property.evaluated) property.parts = Join(property.parts, PartsOf(*unevaluated));
    for (ObjectForm::Class& names : form.object.classes)
      if (names.parts.empty()) names.parts = PartsOf(*unevaluated);
  }
  return {};
}

}  // namespace lode::text::grammar
