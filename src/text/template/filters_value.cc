// Filters on single values: numbers, defaults, JSON, attributes.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/text.h"
#include "text/template/bind.h"
#include "text/template/filters.h"
#include "text/template/from_json.h"
#include "text/template/json_dump.h"
#include "text/template/methods.h"
#include "text/template/ops.h"
#include "text/template/text_ops.h"

namespace lode::text::jinja {
namespace {

bool DefaultFilter(Context* context, const Value& value, const Arguments& arguments,
                   Value* result) {
  Value bound[2];
  if (!Bind(context, "default", arguments, {"default_value", "boolean"}, 0, bound)) return false;
  const bool replace =
      value.undefined() || value.missing() || (Truth(bound[1]) && !Truth(value));
  if (!replace) {
    *result = value;
  } else {
    *result = bound[0].missing() ? context->Text("") : bound[0];
  }
  return true;
}

bool AbsFilter(Context* context, const Value& value, const Arguments& arguments, Value* result) {
  if (!Bind(context, "abs", arguments, {}, 0, nullptr)) return false;
  if (value.undefined()) return FailUndefined(context, value);
  if (value.is(Type::kFloat)) {
    *result = Value::Float(std::fabs(value.real()), value.input());
    return true;
  }
  if (!value.number()) {
    return context->Fail(std::string("bad operand type for abs(): '") + TypeName(value) + "'");
  }
  return Negate(context, value, value.integer() < 0, result);
}

// Python's int(text, base); false when it is none. Too large is "none" as well, with *large set.
bool ParseInteger(Context* context, const Value& text, int64_t base, Int* out, bool* large) {
  Value stripped;
  if (!Strip(context, text.str(), nullptr, true, true, &stripped)) return false;
  std::string_view rest = stripped.text();
  bool negative = false;
  if (!rest.empty() && (rest[0] == '+' || rest[0] == '-')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  bool prefixed = false;
  if (rest.size() > 2 && rest[0] == '0') {
    const char mark = static_cast<char>(rest[1] | 0x20);
    const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked != 0 && (base == marked || base == 0)) {
      base = marked;
      rest.remove_prefix(2);
      prefixed = true;
    }
  }
  if (base == 0) base = 10;
  Int value = 0;
  bool digit_before = prefixed;  // "0x_1" is a number
  bool any = false;
  for (const char c : rest) {
    if (c == '_' && digit_before) {
      digit_before = false;
      continue;
    }
    const int digit = c >= '0' && c <= '9'                   ? c - '0'
                      : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10
                                                               : 99;
    if (digit >= base) return false;
    if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
      *large = true;
      return false;
    }
    digit_before = any = true;
  }
  if (!any || !digit_before) return false;
  *out = negative ? -value : value;
  return true;
}

// Python's float(text).
bool ParseFloat(Context* context, const Value& text, double* out) {
  Value stripped;
  if (!Strip(context, text.str(), nullptr, true, true, &stripped)) return false;
  std::string plain;
  const std::string_view source = stripped.text();
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '_') {
      const auto digit = [&](size_t at) { return at < source.size() && std::isdigit(source[at]); };
      if (i == 0 || !digit(i - 1) || !digit(i + 1)) return false;
      continue;
    }
    plain += source[i];
  }
  // What strtod takes and Python does not: hex floats and "nan(...)".
  if (plain.empty() || plain.find_first_of("xX(") != std::string::npos ||
      std::isspace(static_cast<unsigned char>(plain[0]))) {
    return false;
  }
  char* end = nullptr;
  *out = std::strtod(plain.c_str(), &end);
  return end == plain.c_str() + plain.size();
}

bool FromFloat(Context* context, double real, bool input, bool* fits, Value* result) {
  *fits = std::isfinite(real);
  if (!*fits) return true;
  if (std::fabs(real) >= 0x1p126) {
    return context->Fail("a whole number is too large (more than 127 bits)", Failure::kLimit);
  }
  *result = Value::OfInt(static_cast<Int>(real), input);
  return true;
}

bool IntFilter(Context* context, const Value& value, const Arguments& arguments, Value* result) {
  Value bound[2];
  int64_t base = 10;
  if (!Bind(context, "int", arguments, {"default", "base"}, 0, bound) ||
      !BindInt(context, bound[1], 10, false, &base)) {
    return false;
  }
  const Value fallback = bound[0].missing() ? Value::OfInt(0) : bound[0];
  if (value.undefined()) return FailUndefined(context, value);
  bool fits = true;
  if (value.is(Type::kInt) || value.is(Type::kBool)) {
    *result = Value::OfInt(value.integer(), value.input());
    return true;
  }
  if (value.is(Type::kFloat)) {
    if (std::isinf(value.real())) return context->Fail("cannot convert float infinity to integer");
    if (!FromFloat(context, value.real(), value.input(), &fits, result)) return false;
    if (!fits) *result = fallback;
    return true;
  }
  *result = fallback;
  if (!value.string()) return true;
  Int integer = 0;
  bool large = false;
  const bool input = !value.str().input.empty();
  const bool valid_base = base == 0 || (base >= 2 && base <= 36);
  if (valid_base && ParseInteger(context, value, base, &integer, &large)) {
    *result = Value::OfInt(integer, input);
    return true;
  }
  if (context->failed()) return false;
  if (large) {
    return context->Fail("a whole number is too large (more than 127 bits)", Failure::kLimit);
  }
  double real = 0;
  if (!ParseFloat(context, value, &real)) return !context->failed();
  if (!FromFloat(context, real, input, &fits, result)) return false;
  if (!fits) *result = fallback;
  return true;
}

bool FloatFilter(Context* context, const Value& value, const Arguments& arguments,
                 Value* result) {
  Value fallback;
  if (!Bind(context, "float", arguments, {"default"}, 0, &fallback)) return false;
  if (fallback.missing()) fallback = Value::Float(0.0);
  if (value.undefined()) return FailUndefined(context, value);
  double real = 0;
  if (value.number()) {
    *result = Value::Float(value.AsDouble(), value.input());
  } else if (value.string() && ParseFloat(context, value, &real)) {
    *result = Value::Float(real, !value.str().input.empty());
  } else {
    *result = fallback;
  }
  return !context->failed();
}

// round-half-even on the exact decimal value, as printf does and Python's round too.
double RoundTo(double value, int64_t precision) {
  if (precision > 300) return value;
  if (precision >= 0) return std::strtod(Format("%.*f", static_cast<int>(precision), value).c_str(),
                                         nullptr);
  if (precision < -308) return std::copysign(0.0, value);
  const double scale = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(value / scale) * scale;
}

bool RoundFilter(Context* context, const Value& value, const Arguments& arguments,
                 Value* result) {
  Value bound[2];
  int64_t precision = 0;
  if (!Bind(context, "round", arguments, {"precision", "method"}, 0, bound) ||
      !BindInt(context, bound[0], 0, false, &precision)) {
    return false;
  }
  const std::string method =
      bound[1].missing() ? "common" : bound[1].string() ? std::string(bound[1].text()) : "";
  if (method != "common" && method != "ceil" && method != "floor") {
    return context->Fail("method must be common, ceil or floor");
  }
  if (value.undefined()) return FailUndefined(context, value);
  if (!value.number()) {
    return context->Fail(std::string("type ") + TypeName(value) +
                         " doesn't define __round__ method");
  }
  const bool input = value.input();
  if (method == "common") {
    if (value.is(Type::kFloat)) {
      const double real = value.real();
      *result = Value::Float(std::isfinite(real) ? RoundTo(real, precision) : real, input);
      return true;
    }
    if (precision >= 0) {
      *result = Value::OfInt(value.integer(), input);
      return true;
    }
    Int scale = 1;
    for (int64_t i = precision; i < 0; ++i) {
      if (__builtin_mul_overflow(scale, static_cast<Int>(10), &scale)) {
        *result = Value::OfInt(0, input);
        return true;
      }
    }
    Int rest = value.integer() % scale;
    if (rest < 0) rest += scale;
    const Int low = value.integer() - rest;
    const bool odd = (low / scale) % 2 != 0;
    const bool up = rest > scale - rest || (rest == scale - rest && odd);
    *result = Value::OfInt(up ? low + scale : low, input);
    return true;
  }
  if (precision > 300 || precision < -300) return context->Fail("round: the precision is too far");
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.AsDouble() * scale;
  if (!std::isfinite(scaled)) return context->Fail("cannot convert this float to integer");
  const double whole = method == "ceil" ? std::ceil(scaled) : std::floor(scaled);
  *result = Value::Float(whole / scale + 0.0, input);  // no negative zero: ceil gives an int
  return true;
}

bool ToJsonFilter(Context* context, const Value& value, const Arguments& arguments,
                  Value* result) {
  Value bound[4];
  if (!Bind(context, "tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"},
            0, bound)) {
    return false;
  }
  JsonStyle style;
  style.ascii_only = Truth(bound[0]);
  style.sort_keys = Truth(bound[3]);
  if (!bound[1].missing() && !bound[1].none()) {
    style.indented = true;
    if (bound[1].string()) {
      style.indent = bound[1].text();
    } else {
      int64_t width = 0;
      if (!BindInt(context, bound[1], 0, false, &width)) return false;
      if (width > static_cast<int64_t>(context->limits().output_bytes_max)) {
        return context->Fail("tojson: the indent is too wide", Failure::kLimit);
      }
      style.indent = std::string(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
    }
  }
  if (!bound[2].missing() && !bound[2].none()) {
    std::vector<Value> parts;
    if (!Collect(context, bound[2], &parts)) return false;
    if (parts.size() != 2 || !parts[0].string() || !parts[1].string()) {
      return context->Fail("tojson: separators must be two strings");
    }
    style.item_separator = parts[0];
    style.key_separator = parts[1];
  }
  return DumpValue(context, value, style, result);
}

bool FromJsonFilter(Context* context, const Value& value, const Arguments& arguments,
                    Value* result) {
  if (!Bind(context, "from_json", arguments, {}, 0, nullptr)) return false;
  if (value.undefined()) return FailUndefined(context, value);
  if (!value.string()) return context->Fail("from_json needs a str");
  return ParseJsonText(context, value.str(), result);
}

bool AttrFilter(Context* context, const Value& value, const Arguments& arguments,
                Value* result) {
  Value name;
  if (!Bind(context, "attr", arguments, {"name"}, 1, &name)) return false;
  if (!name.string()) return context->Fail("attr needs the name as a str");
  if (value.undefined()) return FailUndefined(context, value);
  bool found = false;
  if (!FindMethod(context, value, name.text(), result, &found)) return false;
  if (!found) *result = context->NoAttribute(value, name.text());
  return true;
}

bool Unsupported(Context* context, const Value&, const Arguments&, Value*) {
  return context->Fail("the filters pprint, random, urlize and wordwrap are not supported");
}

constexpr FilterDef kFilters[] = {
    {"abs", AbsFilter},        {"attr", AttrFilter},    {"d", DefaultFilter},
    {"default", DefaultFilter}, {"float", FloatFilter}, {"from_json", FromJsonFilter},
    {"int", IntFilter},        {"pprint", Unsupported}, {"random", Unsupported},
    {"round", RoundFilter},    {"tojson", ToJsonFilter}, {"urlize", Unsupported},
    {"wordwrap", Unsupported},
};

}  // namespace

FilterTable ValueFilters() { return {std::begin(kFilters), std::end(kFilters)}; }

}  // namespace lode::text::jinja
