// The values of the template engine: what Python objects are to Jinja2, as far as a sandboxed
// template can tell. Internal to src/text/template; the public header is chat_template.h.
//
// Surprising policy 1: a string knows which of its bytes came from the request ("input") and which
// from the template, and every operation keeps that, so that a rendered prompt can tell a control
// token written by the template from the same characters written by a user.
// Surprising policy 2: a function that can fail returns false and leaves the sentence in
// Context::error. Result<Value> would cost more than most of the operations.
// Surprising policy 3: containers never change after they were made (the sandbox forbids mutation),
// so cycles exist only through namespaces and closures; Context takes those apart at its end.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/template/span.h"

namespace lode::text::jinja {

class Context;
class Value;

// Python's int is unbounded; 128 bits hold every 64-bit number of a JSON file exactly, and what does
// not fit is an error, never a wrong number.
__extension__ typedef __int128 Int;

// Counted bytes of live values; one per render.
struct Budget {
  size_t used = 0;
  size_t limit = 0;
};

// Base of everything on the heap. Counted intrusively and atomically: the constants of a parsed
// template are shared by all threads that render it.
class Object {
 public:
  Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() {
    if (budget_ != nullptr) budget_->used -= charged_;
  }
  void Retain() const { references_.fetch_add(1, std::memory_order_relaxed); }
  void Release() const {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  void Charge(Budget* budget, size_t bytes) {
    budget_ = budget;
    charged_ += bytes;
    budget->used += bytes;
  }
  bool IsShared() const { return references_.load(std::memory_order_relaxed) > 1; }
  // Levels of values inside; bounds every recursion over a value, its destruction included.
  int depth = 0;

 private:
  mutable std::atomic<int> references_{0};
  Budget* budget_ = nullptr;
  size_t charged_ = 0;
};

template <typename T>
class Ref {
 public:
  Ref() = default;
  Ref(T* object) : object_(object) {  // NOLINT: implicit
    if (object_ != nullptr) object_->Retain();
  }
  Ref(const Ref& other) : Ref(other.object_) {}
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr) object_->Release();
  }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  T* object_ = nullptr;
};

// Text: UTF-8 that was checked when it entered the engine. Indices of templates count characters.
class Str final : public Object {
 public:
  std::string bytes;
  std::vector<ByteSpan> input;  // sorted, apart from each other, not empty
  int64_t length = 0;           // in characters
  bool safe = false;            // Python's Markup: '+' escapes the other side

  bool ascii() const { return length == static_cast<int64_t>(bytes.size()); }
};

enum class Type : uint8_t {
  kMissing,  // no value at all: a variable before its first set, an argument that was not given
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kView,      // of a dict: keys, values or items
  kRange,
  kIterator,  // can be walked once
  kObject,    // namespaces, functions, macros, loops
};

class List;
class Dict;
class View;
class Range;
class Iterator;
class Opaque;
class UndefinedInfo;

class Value {
 public:
  Value() : type_(Type::kMissing) { scalar_.integer = 0; }
  Value(const Value& other) : type_(other.type_), input_(other.input_), scalar_(other.scalar_) {
    if (on_heap()) scalar_.object->Retain();
  }
  Value(Value&& other) noexcept
      : type_(other.type_), input_(other.input_), scalar_(other.scalar_) {
    other.type_ = Type::kMissing;
  }
  Value& operator=(Value other) noexcept {
    std::swap(type_, other.type_);
    std::swap(input_, other.input_);
    std::swap(scalar_, other.scalar_);
    return *this;
  }
  ~Value() {
    if (on_heap()) scalar_.object->Release();
  }

  static Value None(bool input = false) { return Scalar(Type::kNone, 0, input); }
  static Value Bool(bool value, bool input = false) { return Scalar(Type::kBool, value, input); }
  static Value OfInt(Int value, bool input = false) { return Scalar(Type::kInt, value, input); }
  static Value Float(double value, bool input = false);
  // Takes any object of the type.
  static Value Of(Type type, Object* object);

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool missing() const { return type_ == Type::kMissing; }
  bool undefined() const { return type_ == Type::kUndefined; }
  bool none() const { return type_ == Type::kNone; }
  bool string() const { return type_ == Type::kString; }
  bool number() const {
    return type_ == Type::kInt || type_ == Type::kBool || type_ == Type::kFloat;
  }
  // A scalar that came from the request; strings answer by byte instead.
  bool input() const { return input_; }

  // The pair below needs the type to be right (a bool counts as the integer 0 or 1).
  Int integer() const { return scalar_.integer; }
  bool boolean() const { return scalar_.integer != 0; }
  double real() const { return scalar_.real; }
  // Any number as a double.
  double AsDouble() const {
    return type_ == Type::kFloat ? scalar_.real : static_cast<double>(scalar_.integer);
  }
  Object* object() const { return scalar_.object; }
  const Str& str() const { return *static_cast<const Str*>(scalar_.object); }
  std::string_view text() const { return str().bytes; }
  const List& list() const;  // kList and kTuple
  const Dict& dict() const;
  const View& view() const;
  const Range& range() const;
  Iterator& iterator() const;
  Opaque& opaque() const;
  const UndefinedInfo& undefined_info() const;

  bool on_heap() const {
    return type_ == Type::kUndefined || type_ >= Type::kString;
  }
  int depth() const { return on_heap() ? scalar_.object->depth : 0; }

 private:
  static Value Scalar(Type type, Int integer, bool input) {
    Value value;
    value.type_ = type;
    value.input_ = input;
    value.scalar_.integer = integer;
    return value;
  }

  Type type_;
  bool input_ = false;
  union {
    Int integer;
    double real;
    Object* object;
  } scalar_;
};

// Why a value is undefined; the sentence is only built when somebody uses the value.
class UndefinedInfo final : public Object {
 public:
  std::string hint;               // the whole sentence, when not empty
  bool refused = false;           // the sandbox's refusal, not an absence
  const char* owner = nullptr;    // "dict object": the value that lacks `name`; else a variable
  std::string name;
  bool name_is_text = true;
  std::string Message() const;
};

class List final : public Object {
 public:
  std::vector<Value> items;
  bool group = false;  // a tuple of groupby: has the attributes grouper and list
};

// Insertion-ordered. Keys are anything hashable; equal numbers are the same key, as in Python.
class Dict final : public Object {
 public:
  std::vector<std::pair<Value, Value>> items;

  const Value* FindText(std::string_view key) const;
  // Position or -1; the key must be hashable and `hash` its hash.
  int64_t Find(const Value& key, size_t hash) const;
  void Insert(Value key, size_t hash, Value value);  // replaces the value of an equal key

 private:
  std::vector<size_t> hashes_;
  std::unordered_multimap<size_t, size_t> index_;  // filled once a linear search would be slow
};

class View final : public Object {
 public:
  enum class Part { kKeys, kValues, kItems };
  Ref<Dict> dict;
  Part part = Part::kKeys;
};

class Range final : public Object {
 public:
  Int start = 0;
  Int stop = 0;  // as written; only repr shows it
  Int step = 1;
  int64_t count = 0;
  Int At(int64_t index) const { return start + step * index; }
};

class Iterator : public Object {
 public:
  // Sets *more to false at the end. False only for an error.
  virtual bool Next(Context* context, Value* item, bool* more) = 0;
  virtual const char* type_name() const { return "generator"; }
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

class Namespace;

// Namespaces, functions, bound methods, macros, loops, cyclers.
class Opaque : public Object {
 public:
  virtual const char* type_name() const = 0;
  virtual bool callable() const { return false; }
  virtual bool Call(Context* context, Arguments* arguments, Value* result);
  // Sets *found to false when there is no such attribute.
  virtual bool Attribute(Context* context, std::string_view name, Value* result, bool* found);
  virtual Namespace* AsNamespace() { return nullptr; }
  virtual Iterator* AsIterator() { return nullptr; }
  // len(), or -1 when the object has none.
  virtual bool Length(Context* context, int64_t* length) {
    *length = -1;
    return true;
  }
  virtual std::string Describe() const;
};

// Mutable by {% set ns.x = ... %} only.
class Namespace final : public Opaque {
 public:
  std::vector<std::pair<std::string, Value>> attributes;
  const char* type_name() const override { return "Namespace"; }
  bool Attribute(Context* context, std::string_view name, Value* result, bool* found) override;
  Namespace* AsNamespace() override { return this; }
  void Set(std::string_view name, Value value);
};

// A plain function object.
class Function final : public Opaque {
 public:
  using Body = bool (*)(Context*, Arguments*, Value*);
  Function(const char* name, Body body) : name_(name), body_(body) {}
  const char* type_name() const override { return "function"; }
  bool callable() const override { return true; }
  bool Call(Context* context, Arguments* arguments, Value* result) override {
    return body_(context, arguments, result);
  }
  std::string Describe() const override { return std::string("<function ") + name_ + ">"; }

 private:
  const char* name_;
  Body body_;
};

inline Value Value::Float(double real, bool input) {
  Value value = Scalar(Type::kFloat, 0, input);
  value.scalar_.real = real;
  return value;
}
inline Value Value::Of(Type type, Object* object) {
  Value value;
  value.type_ = type;
  value.scalar_.object = object;
  object->Retain();
  return value;
}
inline const List& Value::list() const { return *static_cast<const List*>(scalar_.object); }
inline const Dict& Value::dict() const { return *static_cast<const Dict*>(scalar_.object); }
inline const View& Value::view() const { return *static_cast<const View*>(scalar_.object); }
inline const Range& Value::range() const { return *static_cast<const Range*>(scalar_.object); }
inline Iterator& Value::iterator() const { return *static_cast<Iterator*>(scalar_.object); }
inline Opaque& Value::opaque() const { return *static_cast<Opaque*>(scalar_.object); }
inline const UndefinedInfo& Value::undefined_info() const {
  return *static_cast<const UndefinedInfo*>(scalar_.object);
}

// Python's name of the type: "str", "dict", "NoneType".
const char* TypeName(const Value& value);

}  // namespace lode::text::jinja
