#include "text/template/value.h"

#include "text/template/context.h"
#include "text/template/ops.h"

namespace lode::text::jinja {
namespace {

// Above this many entries a dict keeps an index.
constexpr size_t kLinearSearchMax = 8;

}  // namespace

const char* TypeName(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      return "Undefined";
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return value.str().safe ? "Markup" : "str";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kDict:
      return "dict";
    case Type::kView:
      switch (value.view().part) {
        case View::Part::kKeys:
          return "dict_keys";
        case View::Part::kValues:
          return "dict_values";
        case View::Part::kItems:
          return "dict_items";
      }
      return "dict_keys";
    case Type::kRange:
      return "range";
    case Type::kIterator:
      return value.iterator().type_name();
    case Type::kObject:
      return value.opaque().type_name();
  }
  return "object";
}

std::string UndefinedInfo::Message() const {
  if (!hint.empty()) return hint;
  const std::string quoted = name_is_text ? "'" + name + "'" : name;
  if (owner == nullptr) return quoted + " is undefined";
  if (!name_is_text) return std::string(owner) + " has no element " + name;
  return "'" + std::string(owner) + "' has no attribute " + quoted;
}

const Value* Dict::FindText(std::string_view key) const {
  if (index_.empty()) {
    for (const auto& [name, value] : items) {
      if (name.string() && name.text() == key) return &value;
    }
    return nullptr;
  }
  const auto [first, last] = index_.equal_range(std::hash<std::string_view>()(key));
  for (auto it = first; it != last; ++it) {
    const auto& [name, value] = items[it->second];
    if (name.string() && name.text() == key) return &value;
  }
  return nullptr;
}

int64_t Dict::Find(const Value& key, size_t hash) const {
  if (index_.empty()) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (hashes_[i] == hash && SameKey(items[i].first, key)) return static_cast<int64_t>(i);
    }
    return -1;
  }
  const auto [first, last] = index_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    if (SameKey(items[it->second].first, key)) return static_cast<int64_t>(it->second);
  }
  return -1;
}

void Dict::Insert(Value key, size_t hash, Value value) {
  const int64_t at = Find(key, hash);
  if (at >= 0) {
    items[at].second = std::move(value);
    return;
  }
  items.emplace_back(std::move(key), std::move(value));
  hashes_.push_back(hash);
  if (!index_.empty()) {
    index_.emplace(hash, items.size() - 1);
  } else if (items.size() > kLinearSearchMax) {
    for (size_t i = 0; i < items.size(); ++i) index_.emplace(hashes_[i], i);
  }
}

bool Opaque::Call(Context* context, Arguments*, Value*) {
  return context->Fail(std::string("'") + type_name() + "' object is not callable");
}

bool Opaque::Attribute(Context*, std::string_view, Value*, bool* found) {
  *found = false;
  return true;
}

std::string Opaque::Describe() const { return std::string("<") + type_name() + ">"; }

bool Namespace::Attribute(Context*, std::string_view name, Value* result, bool* found) {
  for (const auto& [key, value] : attributes) {
    if (key == name) {
      *result = value;
      *found = true;
      return true;
    }
  }
  *found = false;
  return true;
}

void Namespace::Set(std::string_view name, Value value) {
  for (auto& [key, old] : attributes) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  attributes.emplace_back(std::string(name), std::move(value));
}

}  // namespace lode::text::jinja
