// The tests of Jinja: what may follow "is". (Not tests of this program; those end in _test.cc.)
#include <iterator>

#include "text/template/bind.h"
#include "text/template/filters.h"
#include "text/template/ops.h"
#include "text/template/text_ops.h"

namespace lode::text::jinja {
namespace {

bool NoArguments(Context* context, const Arguments& arguments) {
  return Bind(context, "the test", arguments, {}, 0, nullptr);
}

// Tests of a value by itself.
template <bool (*kTest)(const Value&)>
bool Plain(Context* context, const Value& value, const Arguments& arguments, bool* result) {
  *result = kTest(value);
  return NoArguments(context, arguments);
}

bool IsDefined(const Value& value) { return !value.undefined() && !value.missing(); }
bool IsUndefined(const Value& value) { return !IsDefined(value); }
bool IsNone(const Value& value) { return value.none(); }
bool IsBoolean(const Value& value) { return value.is(Type::kBool); }
bool IsTrue(const Value& value) { return value.is(Type::kBool) && value.boolean(); }
bool IsFalse(const Value& value) { return value.is(Type::kBool) && !value.boolean(); }
bool IsInteger(const Value& value) { return value.is(Type::kInt); }
bool IsFloat(const Value& value) { return value.is(Type::kFloat); }
bool IsNumber(const Value& value) { return value.number(); }
bool IsString(const Value& value) { return value.string(); }
bool IsMapping(const Value& value) { return value.is(Type::kDict); }
bool IsSequence(const Value& value) {
  switch (value.type()) {
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kRange:
    case Type::kUndefined:  // it has a length and items, in its way
      return true;
    default:
      return false;
  }
}
bool IsIterable(const Value& value) {
  switch (value.type()) {
    case Type::kNone:
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
      return false;
    case Type::kObject:
      return value.opaque().AsIterator() != nullptr;
    default:
      return true;
  }
}
bool IsCallable(const Value& value) {
  return value.undefined() || (value.is(Type::kObject) && value.opaque().callable());
}
bool IsEscaped(const Value& value) { return value.string() && value.str().safe; }

template <bool kUpper>
bool CaseTest(Context* context, const Value& value, const Arguments& arguments, bool* result) {
  Value text;
  if (!NoArguments(context, arguments) || !ToStr(context, value, &text)) return false;
  *result = HasCase(text.str(), kUpper);
  return true;
}

// value % divisor == rest.
bool Remainder(Context* context, const Value& value, const Value& divisor, int rest,
               bool* result) {
  Value mod;
  return Calculate(context, Arithmetic::kMod, value, divisor, &mod) &&
         Equals(context, mod, Value::OfInt(rest), result);
}
template <int kRest>
bool Parity(Context* context, const Value& value, const Arguments& arguments, bool* result) {
  return NoArguments(context, arguments) &&
         Remainder(context, value, Value::OfInt(2), kRest, result);
}
bool DivisibleBy(Context* context, const Value& value, const Arguments& arguments,
                 bool* result) {
  Value divisor;
  return Bind(context, "divisibleby", arguments, {"num"}, 1, &divisor) &&
         Remainder(context, value, divisor, 0, result);
}

template <Compare kOp>
bool Comparing(Context* context, const Value& value, const Arguments& arguments, bool* result) {
  Value other;
  return Bind(context, "the test", arguments, {""}, 1, &other) &&
         CompareValues(context, kOp, value, other, result);
}

bool InTest(Context* context, const Value& value, const Arguments& arguments, bool* result) {
  Value container;
  return Bind(context, "in", arguments, {"seq"}, 1, &container) &&
         Contains(context, container, value, result);
}

// Python's `is`: the same object. Small integers and the empty string are one object each.
bool SameAs(Context* context, const Value& value, const Arguments& arguments, bool* result) {
  Value other;
  if (!Bind(context, "sameas", arguments, {"other"}, 1, &other)) return false;
  *result = false;
  if (value.type() != other.type()) return true;
  switch (value.type()) {
    case Type::kNone:
      *result = true;
      return true;
    case Type::kBool:
      *result = value.boolean() == other.boolean();
      return true;
    case Type::kInt:
      *result = value.integer() == other.integer() && value.integer() >= -5 &&
                value.integer() <= 256;
      return true;
    case Type::kFloat:
      return true;
    case Type::kString:
      *result = value.object() == other.object() || (value.text() == other.text() &&
                                                     value.str().length <= 1);
      return true;
    default:
      *result = value.object() == other.object();
      return true;
  }
}

bool FilterExists(Context* context, const Value& value, const Arguments& arguments,
                  bool* result) {
  *result = value.string() && FindFilter(value.text()) != nullptr;
  return NoArguments(context, arguments);
}
bool TestExists(Context* context, const Value& value, const Arguments& arguments, bool* result) {
  *result = value.string() && FindTest(value.text()) != nullptr;
  return NoArguments(context, arguments);
}

constexpr TestDef kTests[] = {
    {"defined", Plain<IsDefined>},
    {"string", Plain<IsString>},
    {"none", Plain<IsNone>},
    {"mapping", Plain<IsMapping>},
    {"iterable", Plain<IsIterable>},
    {"sequence", Plain<IsSequence>},
    {"false", Plain<IsFalse>},
    {"true", Plain<IsTrue>},
    {"undefined", Plain<IsUndefined>},
    {"boolean", Plain<IsBoolean>},
    {"number", Plain<IsNumber>},
    {"integer", Plain<IsInteger>},
    {"float", Plain<IsFloat>},
    {"callable", Plain<IsCallable>},
    {"escaped", Plain<IsEscaped>},
    {"odd", Parity<1>},
    {"even", Parity<0>},
    {"divisibleby", DivisibleBy},
    {"lower", CaseTest<false>},
    {"upper", CaseTest<true>},
    {"in", InTest},
    {"sameas", SameAs},
    {"filter", FilterExists},
    {"test", TestExists},
    {"==", Comparing<Compare::kEq>},
    {"eq", Comparing<Compare::kEq>},
    {"equalto", Comparing<Compare::kEq>},
    {"!=", Comparing<Compare::kNe>},
    {"ne", Comparing<Compare::kNe>},
    {">", Comparing<Compare::kGt>},
    {"gt", Comparing<Compare::kGt>},
    {"greaterthan", Comparing<Compare::kGt>},
    {">=", Comparing<Compare::kGe>},
    {"ge", Comparing<Compare::kGe>},
    {"<", Comparing<Compare::kLt>},
    {"lt", Comparing<Compare::kLt>},
    {"lessthan", Comparing<Compare::kLt>},
    {"<=", Comparing<Compare::kLe>},
    {"le", Comparing<Compare::kLe>},
};

}  // namespace

const TestDef* FindTest(std::string_view name) {
  for (const TestDef& test : kTests) {
    if (test.name == name) return &test;
  }
  return nullptr;
}

}  // namespace lode::text::jinja
