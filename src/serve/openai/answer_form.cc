#include "serve/openai/answer_form.h"

#include <string>
#include <utility>

#include "base/text.h"

namespace lode::serve {
namespace {

bool IsSchema(const Json* json) {
  return json != nullptr && (json->is_object() || json->is_boolean());
}

Json SchemaForm(Json schema) {
  return {{"type", "json_schema"},
          {"json_schema", {{"name", "answer"}, {"schema", std::move(schema)}}}};
}

// A schema as JSON, or as the text of it.
Result<Json> ReadSchema(const Fields& fields, const char* name) {
  const Json* given = fields.Find(name);
  if (IsSchema(given)) return *given;
  if (!given->is_string()) return fields.Bad(name, "must be a JSON schema");
  auto schema = ParseJson(given->get_ref<const std::string&>());
  if (!schema.ok() || !IsSchema(&*schema)) return fields.Bad(name, "is not the text of a schema");
  return schema;
}

// "json", "regex", "choice" or "grammar" under `name`. null: it is not there.
Result<Json> ReadForm(const Fields& fields, const std::string& name, std::string_view kind) {
  const char* field = name.c_str();
  if (fields.Find(field) == nullptr) return Json();
  if (kind == "json") {
    LODE_ASSIGN(Json schema, ReadSchema(fields, field));
    return SchemaForm(std::move(schema));
  }
  if (kind == "choice") {
    LODE_ASSIGN(const Json* list, fields.Array(field));
    if (list->empty()) return fields.Bad(field, "is empty");
    for (const Json& one : *list) {
      if (!one.is_string()) return fields.Bad(field, "must be a list of strings");
    }
    return Json{{"type", "choice"}, {"choices", *list}};
  }
  LODE_ASSIGN(const auto given, fields.String(field));
  const std::string text = given.value_or("");
  if (text.empty()) return Json();  // none, as some clients say it
  if (kind == "regex") return Json{{"type", "regex"}, {"pattern", text}};
  return Json{{"type", "grammar"}, {"grammar", text}};
}

// Of several forms one may be given.
class OneForm {
 public:
  Result<void> Take(Json form, const Fields& fields, const std::string& name) {
    if (form.is_null()) return {};
    if (!form_.is_null()) return fields.Bad(name, "and " + path_ + " cannot both be held");
    form_ = std::move(form);
    form_["path"] = path_ = fields.Path(name);
    return {};
  }
  Json form() && { return std::move(form_); }

 private:
  Json form_;
  std::string path_;
};

Result<Json> ReadResponseFormat(const Fields& fields) {
  LODE_ASSIGN(const Json* format, fields.Object("response_format"));
  if (format == nullptr) return Json();
  const Fields inner(*format, fields.Path("response_format"));
  LODE_ASSIGN(const auto type, inner.String("type"));
  if (!type) return inner.Bad("type", "is missing");
  if (*type == "text") return Json();
  if (*type == "json_object") {
    // llama.cpp's form has a schema here.
    const Json* schema = inner.Find("schema");
    if (schema != nullptr && !IsSchema(schema)) return inner.Bad("schema", "must be a JSON schema");
    return *format;
  }
  if (*type == "structural_tag") return *format;
  if (*type != "json_schema") {
    return inner.Bad("type", "may be text, json_object, json_schema or structural_tag");
  }
  LODE_ASSIGN(const Json* schema, inner.Object("json_schema"));
  const Json* own = schema == nullptr ? inner.Find("schema") : FindKey(*schema, "schema");
  if (!IsSchema(own)) return inner.Bad("json_schema", "has no schema");
  return *format;
}

Result<void> ReadStructuredOutputs(const Fields& fields, OneForm* form) {
  LODE_ASSIGN(const Json* outputs, fields.Object("structured_outputs"));
  if (outputs == nullptr) return {};
  const Fields inner(*outputs, fields.Path("structured_outputs"));
  for (const char* kind : {"json", "regex", "choice", "grammar"}) {
    LODE_ASSIGN(Json own, ReadForm(inner, kind, kind));
    LODE_TRY(form->Take(std::move(own), inner, kind));
  }
  LODE_ASSIGN(const auto any, inner.Bool("json_object"));
  if (any.value_or(false)) {
    LODE_TRY(form->Take({{"type", "json_object"}}, inner, "json_object"));
  }
  if (const Json* tag = inner.Find("structural_tag"); tag != nullptr) {
    Json own = *tag;
    if (own.is_string()) {
      LODE_ASSIGN(own, ParseJson(own.get_ref<const std::string&>()));
    }
    if (!own.is_object()) return inner.Bad("structural_tag", "must be an object");
    if (!own.contains("format")) own = {{"format", own}};
    own["type"] = "structural_tag";
    LODE_TRY(form->Take(std::move(own), inner, "structural_tag"));
  }
  if (inner.Find("whitespace_pattern") != nullptr) {
    return Error(Code::kUnsupported, inner.Path("whitespace_pattern") +
                                         ": the white space of JSON is ours to choose");
  }
  return {};
}

}  // namespace

Result<Json> ReadAnswerForm(const Fields& fields) {
  OneForm form;
  LODE_ASSIGN(Json format, ReadResponseFormat(fields));
  LODE_TRY(form.Take(std::move(format), fields, "response_format"));
  LODE_TRY(ReadStructuredOutputs(fields, &form));
  for (const char* kind : {"json", "regex", "choice", "grammar"}) {
    const std::string name = std::string("guided_") + kind;
    LODE_ASSIGN(Json own, ReadForm(fields, name, kind));
    LODE_TRY(form.Take(std::move(own), fields, name));
  }
  LODE_ASSIGN(Json schema, ReadForm(fields, "json_schema", "json"));
  LODE_TRY(form.Take(std::move(schema), fields, "json_schema"));
  LODE_ASSIGN(Json grammar, ReadForm(fields, "grammar", "grammar"));
  LODE_TRY(form.Take(std::move(grammar), fields, "grammar"));
  if (fields.Find("guided_whitespace_pattern") != nullptr) {
    return Error(Code::kUnsupported,
                 "guided_whitespace_pattern: the white space of JSON is ours to choose");
  }
  return std::move(form).form();
}

}  // namespace lode::serve
