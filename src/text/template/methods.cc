#include "text/template/methods.h"

#include <algorithm>
#include <array>
#include <string>

#include "text/template/bind.h"
#include "text/template/ops.h"

namespace lode::text::jinja {
namespace {

class BoundMethod final : public Opaque {
 public:
  BoundMethod(Value self, Method method, std::string name)
      : self_(std::move(self)), method_(method), name_(std::move(name)) {}
  const char* type_name() const override { return "builtin_function_or_method"; }
  bool callable() const override { return true; }
  bool Call(Context* context, Arguments* arguments, Value* result) override {
    return method_(context, self_, *arguments, result);
  }
  std::string Describe() const override {
    return "<built-in method " + name_ + " of " + TypeName(self_) + " object>";
  }

 private:
  Value self_;
  Method method_;
  std::string name_;
};

bool Contained(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Methods that exist in Python but would change the container: the sandbox refuses them.
bool IsMutator(const Value& value, std::string_view name) {
  if (value.is(Type::kList)) {
    return Contained(name, {"append", "clear", "pop", "reverse", "insert", "sort", "extend",
                            "remove"});
  }
  if (value.is(Type::kDict)) {
    return Contained(name, {"clear", "pop", "popitem", "setdefault", "update"});
  }
  return false;
}

// --- dict ---

bool DictView(Context* context, const Value& self, const Arguments& arguments, View::Part part,
              Value* result) {
  if (!Bind(context, "items", arguments, {}, 0, nullptr)) return false;
  auto* view = new View;
  view->dict = Ref<Dict>(static_cast<Dict*>(self.object()));
  view->part = part;
  return context->Adopt(Type::kView, view, sizeof(View), self.depth() + 1, result);
}
bool DictItems(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  return DictView(context, self, arguments, View::Part::kItems, result);
}
bool DictKeys(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  return DictView(context, self, arguments, View::Part::kKeys, result);
}
bool DictValues(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  return DictView(context, self, arguments, View::Part::kValues, result);
}
bool DictGet(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound[2];
  if (!Bind(context, "get", arguments, {"", ""}, 1, bound)) return false;
  size_t hash = 0;
  if (!Hash(context, bound[0], &hash)) return false;
  const int64_t at = self.dict().Find(bound[0], hash);
  if (at >= 0) {
    *result = self.dict().items[at].second;
  } else {
    *result = bound[1].missing() ? Value::None() : bound[1];
  }
  return true;
}
bool Copy(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  if (!Bind(context, "copy", arguments, {}, 0, nullptr)) return false;
  *result = self;  // nothing can change it, so it is as good as a copy
  return true;
}

// --- list and tuple ---

bool ListCount(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value item;
  if (!Bind(context, "count", arguments, {""}, 1, &item)) return false;
  int64_t count = 0;
  for (const auto& each : self.list().items) {
    bool same = false;
    if (!Equals(context, each, item, &same)) return false;
    count += same;
  }
  *result = Value::OfInt(count);
  return true;
}
bool ListIndex(Context* context, const Value& self, const Arguments& arguments, Value* result) {
  Value bound[3];
  if (!Bind(context, "index", arguments, {"", "", ""}, 1, bound)) return false;
  const auto& items = self.list().items;
  const auto size = static_cast<int64_t>(items.size());
  int64_t begin = 0;
  int64_t end = 0;
  if (!BindInt(context, bound[1], 0, false, &begin)) return false;
  if (!BindInt(context, bound[2], size, false, &end)) return false;
  if (begin < 0) begin = std::max<int64_t>(0, begin + size);
  if (end < 0) end += size;
  for (int64_t i = begin; i < std::min(end, size); ++i) {
    bool same = false;
    if (!Equals(context, items[i], bound[0], &same)) return false;
    if (same) {
      *result = Value::OfInt(i);
      return true;
    }
  }
  return context->Fail("the value is not in the list");
}

bool FloatIsInteger(Context*, const Value& self, const Arguments&, Value* result) {
  const double real = self.real();
  *result = Value::Bool(real - real == 0 && real == static_cast<double>(__builtin_floor(real)));
  return true;
}

}  // namespace

Method LookUpMethod(const Value& value, std::string_view name) {
  switch (value.type()) {
    case Type::kString:
      return LookUpStrMethod(name);
    case Type::kDict:
      if (name == "items") return DictItems;
      if (name == "get") return DictGet;
      if (name == "keys") return DictKeys;
      if (name == "values") return DictValues;
      if (name == "copy") return Copy;
      return nullptr;
    case Type::kList:
      if (name == "copy") return Copy;
      [[fallthrough]];
    case Type::kTuple:
      if (name == "index") return ListIndex;
      if (name == "count") return ListCount;
      return nullptr;
    case Type::kFloat:
      return name == "is_integer" ? FloatIsInteger : nullptr;
    default:
      return nullptr;
  }
}

bool FindMethod(Context* context, const Value& value, std::string_view name, Value* out,
                bool* found) {
  *found = false;
  if (value.is(Type::kObject)) return value.opaque().Attribute(context, name, out, found);
  if (const Method method = LookUpMethod(value, name)) {
    *found = true;
    return context->Adopt(Type::kObject, new BoundMethod(value, method, std::string(name)),
                          sizeof(BoundMethod), value.depth() + 1, out);
  }
  if (value.is(Type::kTuple) && value.list().group && (name == "grouper" || name == "list")) {
    *found = true;
    *out = value.list().items[name == "list"];
    return true;
  }
  if (IsMutator(value, name)) {
    *found = true;
    *out = context->Refused(value, name);
  }
  return true;
}

}  // namespace lode::text::jinja
