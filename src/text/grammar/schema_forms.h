// From JSON Schema's keywords to Forms (schema_form.h): references followed, allOf merged, anyOf
// and oneOf spread out, not pushed down to single keywords. oneOf becomes a plain choice where the
// alternatives are shown to exclude each other, and otherwise each without the others.
//
// Keywords that cannot be enforced exactly are collected (refusals()); unknown ones are
// annotations, as the drafts say. Threads: one.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "text/grammar/grammar.h"
#include "text/grammar/schema_form.h"
#include "text/grammar/schema_source.h"

namespace lode::text::grammar {

class SchemaForms {
 public:
  // `raw`: strings are described as plain text, too (StringForm::raw).
  SchemaForms(const SchemaSource* source, GrammarBuilder* builder, bool raw = false);

  Parts PartsOf(const Json& schema, bool negated = false);
  // Of which one must hold. The pointer stays valid. Errors: a schema that is none, or too large;
  // one that refers to itself without going into a value.
  Result<const Forms*> Expand(const Parts& parts);
  Result<bool> Fits(const Json& value, const Parts& parts);
  Result<bool> FitsForm(const Json& value, const Form& form);
  // "#/properties/a/uniqueItems": what stays unenforced.
  const std::set<std::string>& refusals() const { return refusals_; }
  void Refuse(const Json& schema, std::string_view keyword);
  void Refuse(const std::string& path) { refusals_.insert(path); }
  // Whether the text, as the inside of a JSON string, is in `term`.
  bool Matches(TermId term, const std::string& text);
  // The strings of a form, lengths aside: kEmpty list of terms gives kNothing and false.
  bool StringTerm(const Form& form, TermId* term);
  // Where the parts come from, for messages.
  std::string PathOf(const Parts& parts) const;

 private:
  struct Part {
    const Json* schema = nullptr;
    bool negated = false;
    bool open = false;
    bool known = false;
    Forms forms;
  };

  // schema_forms.cc: combining
  Result<Forms> FormsOf(uint32_t part);
  Result<Forms> FormsOf(const Parts& parts);
  Result<Forms> Both(const Forms& a, const Forms& b);
  Result<bool> Merge(const Form& a, const Form& b, Form* both);
  Result<bool> MergeObjects(const ObjectForm& a, const ObjectForm& b, ObjectForm* both);
  bool MergeValues(const Form& a, const Form& b, Form* both);
  Result<bool> IsEmpty(const Form& form, int depth);
  bool IsEmptyType(const Form& form, uint8_t type, int depth);
  bool IsEmptyParts(const Parts& parts, int depth);
  const Parts* ClassOf(const ObjectForm& object, const std::string& name);
  Result<void> Narrow(Form* form);

  // schema_keywords.cc: one schema
  Result<Forms> Positive(const Json& schema);
  Result<Forms> Applicators(const Json& schema, Forms forms);
  Result<Forms> OneOf(const Json& schema, const Json& list);
  Result<Forms> Dependencies(const Json& schema, Forms forms);
  Result<Forms> Conditional(const Json& schema, Forms forms);
  Result<void> Local(const Json& schema, Form* form);
  Result<void> TypeKeywords(const Json& schema, Form* form);
  Result<void> NumberKeywords(const Json& schema, Form* form);
  Result<void> StringKeywords(const Json& schema, Form* form);
  Result<void> ArrayKeywords(const Json& schema, Form* form);
  Result<void> ObjectKeywords(const Json& schema, Form* form);
  Result<void> NameClasses(const Json& schema, Form* form);
  Result<void> PropertyNames(const Json& schema, Form* form);
  Result<void> Unevaluated(const Json& schema, Forms* forms);
  Result<uint32_t> Count(const Json& schema, const char* keyword, uint32_t fallback);
  Result<std::optional<NumberRange::Bound>> Bound(const Json& schema, const char* keyword);
  Error Bad(const Json& schema, std::string_view keyword, const std::string& what) const;

  // schema_negation.cc
  Result<Forms> Negative(const Json& schema);
  Result<bool> NegateKeyword(const Json& schema, const std::string& key, const Json& value,
                             Forms* forms);
  Result<bool> NegateNumber(const Json& schema, const std::string& key, Forms* forms);
  Result<bool> NegateCount(const Json& schema, const std::string& key, Forms* forms);
  Result<bool> NegateChildren(const Json& schema, const std::string& key, const Json& value,
                              Forms* forms);

  Form Anything() const;
  Form Only(uint8_t types) const;

  // Adds what `pattern` matches, or what it does not, to a string's demands.
  Result<void> AddPattern(const std::string& pattern, bool whole, bool negated, StringForm* string);

  const SchemaSource* source_;
  GrammarBuilder* builder_;
  bool raw_;
  std::vector<Part> parts_;
  std::map<std::pair<const Json*, bool>, uint32_t> part_of_;
  std::map<Parts, Forms> expanded_;
  std::set<std::string> refusals_;
  int depth_ = 0;
  size_t merges_ = 0;
};

}  // namespace lode::text::grammar
