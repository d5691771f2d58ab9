// From Forms (schema_form.h) to nodes of a Grammar: how values that fit are written.
#include <algorithm>
#include <deque>
#include <map>

#include "base/json_text.h"
#include "text/grammar/compile.h"
#include "text/grammar/elements.h"
#include "text/grammar/schema_forms.h"

namespace lode::text::grammar {
namespace {

constexpr size_t kObjectNodesMax = 100000;

class NodeMaker {
 public:
  NodeMaker(const SchemaSource* source, GrammarBuilder* builder, const JsonStyle& style,
            bool raw = false)
      : builder_(*builder), forms_(source, builder, raw), style_(style) {
    const TermId space = builder_.terms().Byte(' ');
    TermId run = Terms::kEmpty, after = Terms::kEmpty;
    if (style.space == JsonStyle::Space::kSpaced) after = builder_.terms().Optional(space);
    if (style.space == JsonStyle::Space::kRuns) {
      ByteSet blanks = ByteSet::One(' ');
      for (const char c : {'\t', '\n', '\r'}) blanks.Add(static_cast<uint8_t>(c));
      run = after = builder_.terms().Repeat(builder_.terms().Bytes(blanks), 0, style.run_max);
    }
    const auto sign = [&](char c, TermId before, TermId behind) {
      const TermId byte = builder_.terms().Byte(static_cast<uint8_t>(c));
      return builder_.Regular(builder_.terms().Concat({before, byte, behind}));
    };
    comma_ = sign(',', run, after);
    colon_ = sign(':', run, after);
    open_object_ = sign('{', Terms::kEmpty, run);
    close_object_ = sign('}', run, Terms::kEmpty);
    open_array_ = sign('[', Terms::kEmpty, run);
    close_array_ = sign(']', run, Terms::kEmpty);
    nothing_ = builder_.Choice({});
  }

  Result<NodeId> Make(const Json& schema) {
    const NodeId root = NodeOf(forms_.PartsOf(schema));
    LODE_TRY(BuildQueued());
    return root;
  }

  // The properties of `schema`, an object, as elements.
  Result<NodeId> MakeElements(const Json& schema, const ElementTags& tags) {
    LODE_ASSIGN(const Forms* forms, forms_.Expand(forms_.PartsOf(schema)));
    std::vector<NodeId> choices;
    const Forms copy = *forms;
    for (const Form& form : copy) {
      if (!(form.types & kObjectType)) continue;
      if (form.values) forms_.Refuse("#/enum (of whole arguments)");
      LODE_ASSIGN(const NodeId node, Elements(form.object, tags));
      choices.push_back(node);
    }
    LODE_TRY(BuildQueued());
    return builder_.Choice(std::move(choices));
  }

 private:
  Result<void> BuildQueued() {
    while (!queue_.empty()) {
      const Parts parts = queue_.front();
      queue_.pop_front();
      LODE_ASSIGN(const NodeId node, Build(parts));
      builder_.Define(nodes_.at(parts), node);
      if (builder_.overflowed() || builder_.terms().overflowed())
        return Error(Code::kNoSpace, forms_.PathOf(parts) + " makes the grammar too large");
    }
    if (!forms_.refusals().empty()) return Refused();
    return {};
  }

  Error Refused() const {
    std::string list;
    size_t named = 0;
    for (const std::string& path : forms_.refusals()) {
      if (++named > 20) {
        list += ", and " + std::to_string(forms_.refusals().size() - 20) + " more";
        break;
      }
      list += (named == 1 ? "" : ", ") + path;
    }
    return Error(Code::kUnsupported, "the schema asks for what cannot be enforced: " + list,
                 "leave these keywords out, or check the answer yourself");
  }

  // Declared at once, built later: schemas may be recursive, and chains of them long.
  NodeId NodeOf(const Parts& parts) {
    if (IsNever(parts)) return nothing_;
    const auto [it, added] = nodes_.try_emplace(parts, 0);
    if (added) {
      it->second = builder_.Declare();
      queue_.push_back(parts);
    }
    return it->second;
  }

  Result<NodeId> Build(const Parts& parts) {
    LODE_ASSIGN(const Forms* forms, forms_.Expand(parts));
    std::vector<NodeId> choices;
    const Forms copy = *forms;
    for (const Form& form : copy) LODE_TRY(AddForm(form, parts, &choices));
    return builder_.Choice(std::move(choices));
  }

  Result<void> AddForm(const Form& form, const Parts& parts, std::vector<NodeId>* choices) {
    if (form.values) {
      Form plain = form;
      plain.values.reset();
      for (const Json& value : *form.values) {
        LODE_ASSIGN(const bool fits, forms_.FitsForm(value, plain));
        if (fits) choices->push_back(ValueNode(value));
      }
      return {};
    }
    const auto excludes = [&](const Json& value) {
      return std::any_of(form.excluded.begin(), form.excluded.end(),
                         [&](const Json& other) { return SameValue(value, other); });
    };
    if (form.types & kNullType) choices->push_back(builder_.Literal("null"));
    if (form.types & kBooleanType)
      for (const bool value : {false, true})
        if (!excludes(value)) choices->push_back(builder_.Literal(value ? "true" : "false"));
    if (form.types & kNumberTypes) {
      LODE_ASSIGN(const NodeId node, NumberNode(form, parts));
      choices->push_back(node);
    }
    if (form.types & kStringType) {
      LODE_ASSIGN(const NodeId node, StringNode(form));
      choices->push_back(node);
    }
    if (form.types & kArrayType) {
      LODE_ASSIGN(const NodeId node, ArrayNode(form.array, parts));
      choices->push_back(node);
    }
    if (form.types & kObjectType) {
      LODE_ASSIGN(const NodeId node, ObjectNode(form.object, parts));
      choices->push_back(node);
    }
    return {};
  }

  // One value, written as it stands in the schema.
  NodeId ValueNode(const Json& value) {
    if (value.is_string()) return builder_.Literal(QuoteJson(value.get_ref<const std::string&>()));
    if (!value.is_structured()) return builder_.Literal(value.dump());
    std::vector<NodeId> parts{value.is_array() ? open_array_ : open_object_};
    bool first = true;
    for (const auto& [key, child] : value.items()) {
      if (!first) parts.push_back(comma_);
      first = false;
      if (value.is_object()) {
        parts.push_back(builder_.Literal(QuoteJson(key)));
        parts.push_back(colon_);
      }
      parts.push_back(ValueNode(child));
    }
    parts.push_back(value.is_array() ? close_array_ : close_object_);
    return builder_.Sequence(std::move(parts));
  }

  Result<NodeId> NumberNode(const Form& form, const Parts& parts) {
    Terms& terms = builder_.terms();
    const uint8_t types = form.types & kNumberTypes;
    const NumberKind kind = types == kIntegerType    ? NumberKind::kInteger
                            : types == kFractionType ? NumberKind::kFraction
                                                     : NumberKind::kBoth;
    NumberRange range = form.number;
    std::vector<TermId> excluded;
    for (const Json& value : form.excluded) {
      if (!value.is_number()) continue;
      LODE_ASSIGN(const Decimal number, ToDecimal(value));
      // Without exponents, a value is written with or without further zeros.
      const TermId zeros = terms.Star(terms.Byte('0'));
      const TermId digits = terms.Literal(number.integer);
      const TermId point = terms.Byte('.');
      const TermId tail = number.whole()
                              ? terms.Optional(terms.Concat(point, zeros))
                              : terms.Concat({point, terms.Literal(number.fraction), zeros});
      const TermId sign = number.zero()       ? terms.Optional(terms.Byte('-'))
                          : number.negative   ? terms.Byte('-')
                                              : Terms::kEmpty;
      excluded.push_back(terms.Concat({sign, digits, tail}));
    }
    if (!excluded.empty() && range.any()) {  // a bound that says no exponents
      Decimal far;
      far.integer = "1" + std::string(40, '0');
      range.LowerHigh({far, false});
    }
    auto term = NumberTerm(&terms, range, kind);
    if (!term.ok()) {
      forms_.Refuse(forms_.PathOf(parts) + "/multipleOf");
      return nothing_;
    }
    if (excluded.empty()) return builder_.Regular(*term);
    return builder_.Regular(terms.And({*term, terms.Not(terms.Alt(std::move(excluded)))}));
  }

  Result<NodeId> StringNode(const Form& form) {
    Terms& terms = builder_.terms();
    const StringForm& string = form.string;
    const bool bounded = string.min > 0 || string.max != kUnbounded;
    const bool excludes = std::any_of(form.excluded.begin(), form.excluded.end(),
                                      [](const Json& value) { return value.is_string(); });
    if (string.terms.empty() && !excludes) {
      const TermId free = builder_.automata().standard().free_string;
      if (!bounded) return builder_.Regular(free);
      return builder_.Counted(free, Counting::kJsonString, string.min, string.max, true);
    }
    TermId inside = Terms::kNothing;
    if (!forms_.StringTerm(form, &inside)) return nothing_;
    const TermId quote = terms.Byte('"');
    const TermId term = terms.Concat({quote, inside, quote});
    if (!bounded) return builder_.Regular(term);
    // Any number of characters of one class: nothing but the count decides.
    const Term& star = terms[inside];
    const bool any = star.kind == TermKind::kRepeat && star.min == 0 && star.max == kUnbounded &&
                     terms[star.a].single;
    return builder_.Counted(term, Counting::kJsonString, string.min, string.max, any);
  }

  Result<NodeId> ArrayNode(const ArrayForm& array, const Parts& parts) {
    if (array.unique && array.max > 1) forms_.Refuse(forms_.PathOf(parts) + "/uniqueItems");
    if (!array.contains.empty()) return ContainsNode(array, parts);
    const NodeId rest = NodeOf(array.rest);
    const size_t prefix = std::min<size_t>(array.prefix.size(), array.max);
    // From the end: what may follow after i items.
    const auto i_min = [&](size_t done) {
      return array.min > done ? array.min - static_cast<uint32_t>(done) : 0;
    };
    const auto i_max = [&](size_t done) {
      return array.max == kUnbounded ? kUnbounded : array.max - static_cast<uint32_t>(done);
    };
    NodeId tail;
    if (prefix == 0) {
      if (array.max == 0) {
        tail = builder_.Empty();
      } else {
        const uint32_t more = array.max == kUnbounded ? kUnbounded : array.max - 1;
        const NodeId some = builder_.Sequence(
            {rest, builder_.Repeat(builder_.Sequence({comma_, rest}), i_min(1), more)});
        tail = array.min == 0 ? builder_.Optional(some) : some;
      }
    } else {
      tail = builder_.Repeat(builder_.Sequence({comma_, rest}), i_min(prefix), i_max(prefix));
      for (size_t i = prefix; i-- > 0;) {
        std::vector<NodeId> item{NodeOf(array.prefix[i]), tail};
        if (i > 0) item.insert(item.begin(), comma_);
        tail = builder_.Sequence(std::move(item));
        if (i >= array.min) tail = builder_.Optional(tail);
      }
    }
    return builder_.Sequence({open_array_, tail, close_array_});
  }

  // Some item is of another schema, too. Exact for one such demand on lists of any length.
  Result<NodeId> ContainsNode(const ArrayForm& array, const Parts& parts) {
    if (array.contains.size() > 1 || !array.prefix.empty() || array.min > 1 ||
        array.max != kUnbounded) {
      forms_.Refuse(forms_.PathOf(parts) + "/contains");
      return nothing_;
    }
    const NodeId rest = NodeOf(array.rest);
    const NodeId found = NodeOf(Join(array.rest, array.contains[0]));
    return builder_.Sequence(
        {open_array_, builder_.Repeat(builder_.Sequence({rest, comma_}), 0, kUnbounded), found,
         builder_.Repeat(builder_.Sequence({comma_, rest}), 0, kUnbounded), close_array_});
  }

  // `"name": value` for names that are listed nowhere; nothing_ if there are none.
  NodeId OtherEntries(const ObjectForm& object) {
    Terms& terms = builder_.terms();
    std::vector<NodeId> choices;
    std::vector<TermId> listed;
    for (const ObjectForm::Property& property : object.properties)
      listed.push_back(TextTerm(&terms, property.name, Spelling::kJson));
    const TermId quote = terms.Byte('"');
    const TermId unlisted = terms.Not(terms.Alt(listed));
    for (const ObjectForm::Class& names : object.classes) {
      if (IsNever(names.parts)) continue;
      const TermId inside = listed.empty() ? names.names : terms.And({names.names, unlisted});
      const NodeId name = builder_.Regular(terms.Concat({quote, inside, quote}));
      choices.push_back(builder_.Sequence({name, colon_, NodeOf(names.parts)}));
    }
    return builder_.Choice(std::move(choices));
  }

  Result<NodeId> ObjectNode(const ObjectForm& object, const Parts& parts) {
    std::vector<ObjectForm::Property> properties;
    uint32_t required = 0;
    for (const ObjectForm::Property& property : object.properties) {
      if (IsNever(property.parts) && !property.required) continue;  // it may not be there
      properties.push_back(property);
      required += property.required;
    }
    const bool others = std::any_of(object.classes.begin(), object.classes.end(),
                                    [](const auto& names) { return !IsNever(names.parts); });
    const bool bounded_above =
        object.max != kUnbounded && (others || object.max < properties.size());
    const uint32_t min = object.min <= required ? 0 : object.min;
    // Names that are not listed may come twice, and count once: so only one of them counts.
    if (others && min > properties.size() + 1) {
      forms_.Refuse(forms_.PathOf(parts) + "/minProperties");
      return nothing_;
    }
    const uint32_t top = bounded_above ? object.max : std::max(min, 1u);
    if (!style_.any_order && top > 1 &&
        (properties.size() + 1) * (size_t{top} + 1) > kObjectNodesMax) {
      forms_.Refuse(forms_.PathOf(parts) + (bounded_above ? "/maxProperties" : "/minProperties"));
      return nothing_;
    }
    const NodeId entry = others ? OtherEntries(object) : nothing_;
    if (style_.any_order) {
      const SetRule rule{.others = others,
                         .separated = true,
                         .min = min,
                         .max = bounded_above ? object.max : kUnbounded};
      const auto part = [&](const ObjectForm::Property& property) -> Result<NodeId> {
        return builder_.Sequence(
            {builder_.Literal(QuoteJson(property.name)), colon_, NodeOf(property.parts)});
      };
      LODE_ASSIGN(const NodeId set, AnyOrder(properties, part, entry, rule));
      return builder_.Sequence({open_object_, set, close_object_});
    }
    std::vector<NodeId> after(top + 1);  // what may follow after so many
    for (uint32_t count = 0; count <= top; ++count)
      after[count] = Others(entry, count, min, bounded_above ? object.max : kUnbounded);
    for (size_t i = properties.size(); i-- > 0;) {
      const ObjectForm::Property& property = properties[i];
      const NodeId key = builder_.Literal(QuoteJson(property.name));
      const NodeId value = NodeOf(property.parts);
      std::vector<NodeId> before(top + 1);
      for (uint32_t count = 0; count <= top; ++count) {
        std::vector<NodeId> choices;
        const bool room = !bounded_above || count < top;
        if (room) {
          std::vector<NodeId> taken{key, colon_, value, after[std::min(count + 1, top)]};
          if (count > 0) taken.insert(taken.begin(), comma_);
          choices.push_back(builder_.Sequence(std::move(taken)));
        }
        if (!property.required) choices.push_back(after[count]);
        before[count] = builder_.Choice(std::move(choices));
      }
      after = std::move(before);
    }
    return builder_.Sequence({open_object_, after[0], close_object_});
  }

  // `part` makes what is written of a property.
  template <typename Part>
  Result<NodeId> AnyOrder(const std::vector<ObjectForm::Property>& properties, const Part& part,
                          NodeId other, SetRule rule) {
    std::vector<NodeId> parts;
    for (const bool required : {true, false}) {
      for (const ObjectForm::Property& property : properties) {
        if (property.required != required) continue;
        LODE_ASSIGN(const NodeId node, part(property));
        parts.push_back(node);
        rule.required += required;
      }
    }
    if (rule.others) parts.push_back(other);
    return builder_.Set(comma_, parts, rule);
  }

  // Entries of names that are not listed, after `count` others.
  NodeId Others(NodeId entry, uint32_t count, uint32_t min, uint32_t max) {
    const uint32_t missing = min > count ? min - count : 0;
    if (missing > 1) return nothing_;
    const uint32_t room = max == kUnbounded ? kUnbounded : max - count;
    if (room == 0) return missing == 0 ? builder_.Empty() : nothing_;
    const NodeId next = builder_.Sequence({comma_, entry});
    if (count > 0) return builder_.Repeat(next, missing, room);
    const NodeId some = builder_.Sequence(
        {entry, builder_.Repeat(next, 0, room == kUnbounded ? kUnbounded : room - 1)});
    return missing == 0 ? builder_.Optional(some) : some;
  }

  Result<NodeId> Elements(const ObjectForm& object, const ElementTags& tags) {
    uint32_t required = 0, listed = 0;
    for (const ObjectForm::Property& property : object.properties) {
      required += property.required;
      listed += !IsNever(property.parts);
      if (property.name.find_first_of("<>\n") != std::string::npos)
        forms_.Refuse("#/properties/" + property.name + " (the name cannot stand in a tag)");
    }
    if (object.min > required) forms_.Refuse("#/minProperties");
    if (object.max < listed) forms_.Refuse("#/maxProperties");
    std::vector<ObjectForm::Property> properties = object.properties;
    std::erase_if(properties, [](const auto& p) { return IsNever(p.parts) && !p.required; });
    const auto part = [&](const ObjectForm::Property& property) -> Result<NodeId> {
      LODE_ASSIGN(const NodeId value, ElementValue(property.parts, tags));
      return builder_.Sequence(
          {builder_.Literal(tags.before_key + property.name + tags.after_key), value});
    };
    if (style_.any_order) return AnyOrder(properties, part, nothing_, {});
    NodeId after = builder_.Empty();
    for (size_t i = properties.size(); i-- > 0;) {
      LODE_ASSIGN(const NodeId element, part(properties[i]));
      const NodeId taken = builder_.Sequence({element, after});
      after = properties[i].required ? taken : builder_.Choice({taken, after});
    }
    return after;
  }

  // A value and what ends it. What may be a string stands as it is, without quotes.
  Result<NodeId> ElementValue(const Parts& parts, const ElementTags& tags) {
    if (IsNever(parts)) return nothing_;
    LODE_ASSIGN(const Forms* forms, forms_.Expand(parts));
    const NodeId end = builder_.Literal(tags.after_value);
    std::vector<NodeId> choices;
    const Forms copy = *forms;
    for (const Form& form : copy) {
      Form others = form;
      others.types &= static_cast<uint8_t>(~kStringType);
      if (form.types & kStringType) {
        if (form.values) {
          for (const Json& value : *form.values) {
            if (!value.is_string()) continue;
            const std::string& text = value.get_ref<const std::string&>();
            LODE_ASSIGN(const bool fits, forms_.FitsForm(value, form));
            if (fits && text.find(tags.value_end) == std::string::npos)
              choices.push_back(builder_.Literal(text + tags.after_value));
          }
        } else {
          choices.push_back(RawString(form, tags));
        }
      }
      if (others.types == 0) continue;
      if (others.values)
        std::erase_if(*others.values, [](const Json& value) { return value.is_string(); });
      std::vector<NodeId> written;
      LODE_TRY(AddForm(others, parts, &written));
      choices.push_back(builder_.Sequence({builder_.Choice(std::move(written)), end}));
    }
    return builder_.Choice(std::move(choices));
  }

  NodeId RawString(const Form& form, const ElementTags& tags) {
    Terms& terms = builder_.terms();
    const TermId any = terms.Star(terms.Bytes(ByteSet::All()));
    const TermId ends = terms.Concat({any, terms.Literal(tags.value_end), any});
    std::vector<TermId> parts = form.string.raw;
    for (const Json& value : form.excluded)
      if (value.is_string())
        parts.push_back(terms.Not(terms.Literal(value.get_ref<const std::string&>())));
    parts.push_back(terms.Not(ends));
    const bool bounded = form.string.min > 0 || form.string.max != kUnbounded;
    if (parts.size() == 1 && !bounded) {  // up to the first end, with what must stand before it
      const size_t before = tags.after_value.find(tags.value_end);
      const std::string behind = tags.after_value.substr(before + tags.value_end.size());
      const TermId text = terms.Concat(any, terms.Literal(tags.after_value.substr(0, before)));
      return builder_.Sequence(
          {builder_.Regular(terms.Concat(
               terms.And({text, terms.Not(ends)}), terms.Literal(tags.value_end))),
           builder_.Literal(behind)});
    }
    parts.push_back(bounded || !form.string.raw.empty() ? terms.raw_star() : any);
    const TermId text = terms.And(std::move(parts));
    const NodeId value = bounded ? builder_.Counted(text, Counting::kRawText, form.string.min,
                                                    form.string.max, false)
                                 : builder_.Regular(text);
    return builder_.Sequence({value, builder_.Literal(tags.after_value)});
  }

  GrammarBuilder& builder_;
  SchemaForms forms_;
  JsonStyle style_;
  NodeId comma_, colon_, open_object_, close_object_, open_array_, close_array_, nothing_;
  std::map<Parts, NodeId> nodes_;
  std::deque<Parts> queue_;
};

}  // namespace

Result<NodeId> JsonSchemaNode(GrammarBuilder* builder, const Json& schema, const JsonStyle& style) {
  LODE_ASSIGN(const SchemaSource source, SchemaSource::Open(schema));
  return NodeMaker(&source, builder, style).Make(schema);
}

ElementTags ElementTags::Xml() {
  return {.before_key = "<parameter=",
          .after_key = ">\n",
          .after_value = "\n</parameter>\n",
          .value_end = "</parameter>"};
}

Result<NodeId> ArgumentElements(GrammarBuilder* builder, const Json& schema,
                                const ElementTags& tags, const JsonStyle& style) {
  LODE_ASSIGN(const SchemaSource source, SchemaSource::Open(schema));
  return NodeMaker(&source, builder, style, true).MakeElements(schema, tags);
}

Result<std::shared_ptr<const Grammar>> CompileJsonSchema(const Json& schema, const JsonStyle& style,
                                                         const CompileLimits& limits) {
  GrammarBuilder builder(limits.grammar);
  LODE_ASSIGN(const NodeId root, JsonSchemaNode(&builder, schema, style));
  auto grammar = builder.Finish(root);
  if (!grammar.ok() && grammar.error().code() == Code::kBadInput)
    return Error(Code::kBadInput, "no value fits the schema",
                 "look for bounds that exclude each other and required properties that are false");
  return grammar;
}

Result<std::shared_ptr<const Grammar>> CompileAnyJson(bool object, const JsonStyle& style) {
  Json schema = Json::object();
  if (object) schema["type"] = "object";
  return CompileJsonSchema(schema, style);
}

}  // namespace lode::text::grammar
