#include "text/template/json_value.h"

#include "base/utf8.h"
#include "text/template/from_json.h"
#include "text/template/ops.h"

namespace lode::text::jinja {
namespace {

bool FromString(Context* context, const std::string& text, bool input, Value* out) {
  std::string bytes = IsValidUtf8(text) ? text : ReplaceInvalidUtf8(text);
  std::vector<ByteSpan> spans;
  if (input && !bytes.empty()) spans.push_back({0, bytes.size()});
  return context->Make(std::move(bytes), std::move(spans), false, out);
}

bool FromArray(Context* context, const Json& json, bool input, Value* out) {
  std::vector<Value> items;
  items.reserve(json.size());
  for (const auto& each : json) {
    items.emplace_back();
    if (!FromJson(context, each, input, &items.back())) return false;
  }
  return context->MakeList(std::move(items), out);
}

bool FromObject(Context* context, const Json& json, bool input, Value* out) {
  Ref<Dict> dict(new Dict);
  dict->items.reserve(json.size());
  for (const auto& [name, each] : json.items()) {
    Value key;
    Value value;
    size_t hash = 0;
    if (!FromString(context, name, input, &key) || !FromJson(context, each, input, &value) ||
        !Hash(context, key, &hash)) {
      return false;
    }
    dict->Insert(std::move(key), hash, std::move(value));
  }
  return context->MakeDict(dict, out);
}

}  // namespace

bool FromJson(Context* context, const Json& json, bool input, Value* out) {
  if (!context->CheckStack()) return false;
  switch (json.type()) {
    case Json::value_t::boolean:
      *out = Value::Bool(json.get<bool>(), input);
      return true;
    case Json::value_t::number_integer:
      *out = Value::OfInt(json.get<int64_t>(), input);
      return true;
    case Json::value_t::number_unsigned:
      *out = Value::OfInt(json.get<uint64_t>(), input);
      return true;
    case Json::value_t::number_float:
      *out = Value::Float(json.get<double>(), input);
      return true;
    case Json::value_t::string:
      return FromString(context, json.get_ref<const std::string&>(), input, out);
    case Json::value_t::array:
      return FromArray(context, json, input, out);
    case Json::value_t::object:
      return FromObject(context, json, input, out);
    default:
      *out = Value::None(input);
      return true;
  }
}

bool ParseJsonText(Context* context, const Str& text, Value* out) {
  if (!context->Step(text.bytes.size())) return false;
  const Result<Json> json = ParseJson(text.bytes);
  if (!json.ok()) return context->Fail("from_json: " + json.error().message());
  return FromJson(context, *json, !text.input.empty(), out);
}

}  // namespace lode::text::jinja
