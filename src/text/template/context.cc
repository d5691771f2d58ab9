#include "text/template/context.h"

#include <algorithm>

#include "base/text.h"
#include "base/utf8.h"
#include "text/template/ops.h"
#include "text/template/unicode.h"

namespace lode::text::jinja {
namespace {

// Python's words for an object in "'dict object' has no attribute 'x'".
const char* OwnerName(const Value& value) {
  switch (value.type()) {
    case Type::kNone:
      return "None";
    case Type::kBool:
      return "bool object";
    case Type::kInt:
      return "int object";
    case Type::kFloat:
      return "float object";
    case Type::kString:
      return value.str().safe ? "markupsafe.Markup object" : "str object";
    case Type::kList:
      return "list object";
    case Type::kTuple:
      return "tuple object";
    case Type::kDict:
      return "dict object";
    case Type::kRange:
      return "range object";
    default:
      return "object";
  }
}

}  // namespace

Context::Context(const Limits& limits, const CivilTime& now)
    : limits_(limits), now_(now),
      stack_base_(static_cast<const char*>(__builtin_frame_address(0))) {
  budget_.limit = limits.memory_bytes_max;
}

Context::~Context() {
  // Kept objects hold each other; emptied one at a time, no destructor recurses far.
  for (const auto& object : namespaces_) {
    std::vector<std::pair<std::string, Value>> gone;
    gone.swap(object->attributes);
  }
  for (const auto& kept : scopes_) kept.empty(kept.object.get());
}

bool Context::Fail(std::string message, Failure kind) {
  if (!failed_) {
    failed_ = true;
    error_ = std::move(message);
    failure_ = kind;
  }
  return false;
}

bool Context::FailSteps() {
  return Fail("the template does not come to an end (it took " +
                  WithThousands(limits_.steps_max) + " steps)",
              Failure::kLimit);
}

bool Context::CheckStack() {
  const auto* here = static_cast<const char*>(__builtin_frame_address(0));
  const auto used = static_cast<size_t>(here < stack_base_ ? stack_base_ - here
                                                           : here - stack_base_);
  if (used < limits_.stack_bytes_max) return true;
  return Fail("the template is nested too deeply", Failure::kLimit);
}

bool Context::EnterCall() {
  if (++call_depth_ <= limits_.call_depth_max) return true;
  --call_depth_;
  return Fail(Format("the template calls itself too deeply (more than %d levels)",
                     limits_.call_depth_max),
              Failure::kLimit);
}

bool Context::HasMemory(size_t more) {
  if (more <= budget_.limit && budget_.used <= budget_.limit - more) return true;
  return Fail("the template needs more than " + HumanBytesBinary(budget_.limit) + " of memory",
              Failure::kLimit);
}

Value Context::Text(std::string_view text, bool input) {
  auto* str = new Str;
  str->bytes = text;
  str->length = CountChars(text);
  if (input && !text.empty()) str->input.push_back({0, text.size()});
  str->Charge(&budget_, text.size() + sizeof(Str));
  return Value::Of(Type::kString, str);
}

bool Context::Make(std::string bytes, std::vector<ByteSpan> input, bool safe, Value* out) {
  const size_t cost = bytes.size() + sizeof(Str) + input.size() * sizeof(ByteSpan);
  if (!Step(bytes.size()) || !HasMemory(cost)) return false;
  auto* str = new Str;
  str->bytes = std::move(bytes);
  str->input = std::move(input);
  str->length = CountChars(str->bytes);
  str->safe = safe;
  str->Charge(&budget_, cost);
  *out = Value::Of(Type::kString, str);
  return true;
}

bool Context::Adopt(Type type, Object* object, size_t bytes, int depth, Value* out) {
  Value value = Value::Of(type, object);  // owned before anything can fail
  if (!Step() || !HasMemory(bytes)) return false;
  object->Charge(&budget_, bytes);
  object->depth = depth;
  if (depth > limits_.value_depth_max) {
    return Fail("a value of the template is nested too deeply", Failure::kLimit);
  }
  *out = std::move(value);
  return true;
}

bool Context::MakeList(std::vector<Value> items, Value* out, Type type) {
  int depth = 0;
  for (const auto& item : items) depth = std::max(depth, item.depth());
  const size_t cost = items.size() * sizeof(Value) + sizeof(List);
  if (!Step(items.size())) return false;
  auto* list = new List;
  list->items = std::move(items);
  return Adopt(type, list, cost, depth + 1, out);
}

bool Context::MakeDict(Ref<Dict> dict, Value* out) {
  int depth = 0;
  for (const auto& [key, value] : dict->items) {
    depth = std::max({depth, key.depth(), value.depth()});
  }
  // An entry is two values, its hash, and (in large dicts) a node of the index.
  const size_t cost = dict->items.size() * (2 * sizeof(Value) + 48) + sizeof(Dict);
  if (!Step(dict->items.size())) return false;
  return Adopt(Type::kDict, dict.get(), cost, depth + 1, out);
}

Value Context::Undefined(std::string hint) {
  auto* info = new UndefinedInfo;
  info->hint = std::move(hint);
  info->Charge(&budget_, sizeof(UndefinedInfo));
  return Value::Of(Type::kUndefined, info);
}

Value Context::UndefinedName(std::string_view name) {
  auto* info = new UndefinedInfo;
  info->name = name;
  info->Charge(&budget_, sizeof(UndefinedInfo));
  return Value::Of(Type::kUndefined, info);
}

Value Context::NoAttribute(const Value& owner, std::string_view name) {
  auto* info = new UndefinedInfo;
  info->owner = OwnerName(owner);
  info->name = name.substr(0, 200);
  info->Charge(&budget_, sizeof(UndefinedInfo));
  return Value::Of(Type::kUndefined, info);
}

Value Context::NoItem(const Value& owner, const Value& key) {
  if (key.string()) return NoAttribute(owner, key.text());
  auto* info = new UndefinedInfo;
  info->owner = OwnerName(owner);
  info->name = key.is(Type::kInt) ? IntText(key.integer()) : TypeName(key);
  info->name_is_text = false;
  info->Charge(&budget_, sizeof(UndefinedInfo));
  return Value::Of(Type::kUndefined, info);
}

Value Context::Refused(const Value& owner, std::string_view name) {
  auto* info = new UndefinedInfo;
  info->hint = "access to attribute '" + std::string(name.substr(0, 200)) + "' of '" +
               TypeName(owner) + "' object is unsafe.";
  info->refused = true;
  info->Charge(&budget_, sizeof(UndefinedInfo) + info->hint.size());
  return Value::Of(Type::kUndefined, info);
}

void Builder::MarkInput(size_t begin, size_t end) {
  if (begin == end) return;
  if (!input_.empty() && input_.back().end == begin) {
    input_.back().end = end;
  } else {
    input_.push_back({begin, end});
  }
}

void Builder::Literal(std::string_view text, bool input) {
  if (overflow_ || text.size() > context_->limits().output_bytes_max - bytes_.size()) {
    overflow_ = true;
    return;
  }
  if (input) MarkInput(bytes_.size(), bytes_.size() + text.size());
  bytes_ += text;
}

void Builder::Append(const Str& piece, size_t begin, size_t end) {
  if (overflow_ || end - begin > context_->limits().output_bytes_max - bytes_.size()) {
    overflow_ = true;
    return;
  }
  const size_t base = bytes_.size();
  bytes_.append(piece.bytes, begin, end - begin);
  auto span = std::lower_bound(piece.input.begin(), piece.input.end(), begin,
                               [](const ByteSpan& s, size_t at) { return s.end <= at; });
  for (; span != piece.input.end() && span->begin < end; ++span) {
    MarkInput(base + std::max(span->begin, begin) - begin, base + std::min(span->end, end) - begin);
  }
}

void Builder::Char(char32_t code_point, bool input) {
  std::string bytes;
  AppendUtf8(code_point, &bytes);
  Literal(bytes, input);
}

bool Builder::Finish(Value* out, bool safe) {
  if (overflow_) {
    return context_->Fail("the template makes a text of more than " +
                              HumanBytesBinary(context_->limits().output_bytes_max),
                          Failure::kLimit);
  }
  return context_->Make(std::move(bytes_), std::move(input_), safe, out);
}

bool IsInput(const Str& text, size_t at) {
  const auto span = std::lower_bound(text.input.begin(), text.input.end(), at,
                                     [](const ByteSpan& s, size_t i) { return s.end <= i; });
  return span != text.input.end() && span->begin <= at;
}

}  // namespace lode::text::jinja
