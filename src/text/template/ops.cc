#include "text/template/ops.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/utf8.h"
#include "text/template/format.h"
#include "text/template/methods.h"
#include "text/template/text_ops.h"
#include "text/template/unicode.h"

namespace lode::text::jinja {
namespace {


bool FailOperands(Context* context, const char* op, const Value& a, const Value& b) {
  if (a.undefined()) return FailUndefined(context, a);
  if (b.undefined()) return FailUndefined(context, b);
  return context->Fail(std::string("unsupported operand type(s) for ") + op + ": '" + TypeName(a) +
                       "' and '" + TypeName(b) + "'");
}

bool FailTooLarge(Context* context) {
  return context->Fail("a whole number is too large (more than 127 bits)", Failure::kLimit);
}

bool IsIntegral(const Value& value) { return value.is(Type::kInt) || value.is(Type::kBool); }

// Numbers compare exactly, also a 128-bit integer with a double. -1, 0, 1; 2 when one is NaN.
int CompareNumbers(const Value& a, const Value& b) {
  if (IsIntegral(a) && IsIntegral(b)) {
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  }
  if (!IsIntegral(a) && !IsIntegral(b)) {
    const double x = a.real();
    const double y = b.real();
    if (std::isnan(x) || std::isnan(y)) return 2;
    return x < y ? -1 : x > y;
  }
  if (!IsIntegral(a)) {
    const int flipped = CompareNumbers(b, a);
    return flipped == 2 ? 2 : -flipped;
  }
  const double y = b.real();
  if (std::isnan(y)) return 2;
  if (y >= 0x1p126) return -1;
  if (y <= -0x1p126) return 1;
  const double floor = std::floor(y);
  const Int whole = static_cast<Int>(floor);
  if (a.integer() != whole) return a.integer() < whole ? -1 : 1;
  return floor < y ? -1 : 0;
}

bool EqualItems(Context* context, const std::vector<Value>& a, const std::vector<Value>& b,
                bool* result) {
  *result = false;
  if (a.size() != b.size()) return true;
  for (size_t i = 0; i < a.size(); ++i) {
    bool same = false;
    if (!Equals(context, a[i], b[i], &same)) return false;
    if (!same) return true;
  }
  *result = true;
  return true;
}

bool EqualDicts(Context* context, const Dict& a, const Dict& b, bool* result) {
  *result = false;
  if (a.items.size() != b.items.size()) return true;
  for (const auto& [key, value] : a.items) {
    size_t hash = 0;
    if (!Hash(context, key, &hash)) return false;
    const int64_t at = b.Find(key, hash);
    if (at < 0) return true;
    bool same = false;
    if (!Equals(context, value, b.items[at].second, &same)) return false;
    if (!same) return true;
  }
  *result = true;
  return true;
}

bool SameRange(const Range& a, const Range& b) {
  if (a.count != b.count) return false;
  if (a.count == 0) return true;
  if (a.start != b.start) return false;
  return a.count == 1 || a.step == b.step;
}

// <0, 0, >0 through *order.
bool Order(Context* context, const char* op, const Value& a, const Value& b, int* order) {
  if (!context->Step() || !context->CheckStack()) return false;
  if (a.number() && b.number()) {
    *order = CompareNumbers(a, b);
    return true;
  }
  if (a.string() && b.string()) {
    if (!context->Step(std::min(a.text().size(), b.text().size()))) return false;
    // UTF-8 sorts as its code points do.
    const int raw = a.text().compare(b.text());
    *order = raw < 0 ? -1 : raw > 0;
    return true;
  }
  const bool lists = a.is(Type::kList) && b.is(Type::kList);
  if (lists || (a.is(Type::kTuple) && b.is(Type::kTuple))) {
    const auto& x = a.list().items;
    const auto& y = b.list().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      bool same = false;
      if (!Equals(context, x[i], y[i], &same)) return false;
      if (!same) return Order(context, op, x[i], y[i], order);
    }
    *order = x.size() < y.size() ? -1 : x.size() > y.size();
    return true;
  }
  if (a.undefined()) return FailUndefined(context, a);
  if (b.undefined()) return FailUndefined(context, b);
  return context->Fail(std::string("'") + op + "' not supported between instances of '" +
                       TypeName(a) + "' and '" + TypeName(b) + "'");
}

// --- iterators ---

class ItemIterator final : public Iterator {
 public:
  ItemIterator(std::vector<Value> items, const char* type_name)
      : items_(std::move(items)), type_name_(type_name) {}
  bool Next(Context*, Value* item, bool* more) override {
    *more = at_ < items_.size();
    if (*more) *item = items_[at_++];
    return true;
  }
  const char* type_name() const override { return type_name_; }

 private:
  std::vector<Value> items_;
  const char* type_name_;
  size_t at_ = 0;
};

class ListIterator final : public Iterator {
 public:
  explicit ListIterator(Value list) : list_(std::move(list)) {}
  bool Next(Context*, Value* item, bool* more) override {
    *more = at_ < list_.list().items.size();
    if (*more) *item = list_.list().items[at_++];
    return true;
  }

 private:
  Value list_;
  size_t at_ = 0;
};

class TextIterator final : public Iterator {
 public:
  explicit TextIterator(Value text) : text_(std::move(text)) {}
  bool Next(Context* context, Value* item, bool* more) override {
    const Str& str = text_.str();
    *more = at_ < str.bytes.size();
    if (!*more) return true;
    const size_t begin = at_;
    at_ += DecodeUtf8(str.bytes, at_).bytes;
    Builder builder(context);
    builder.Append(str, begin, at_);
    return builder.Finish(item, false);  // iterating Markup gives plain characters
  }

 private:
  Value text_;
  size_t at_ = 0;
};

bool DictPart(Context* context, const Dict& dict, View::Part part, size_t at, Value* item) {
  const auto& [key, value] = dict.items[at];
  switch (part) {
    case View::Part::kKeys:
      *item = key;
      return true;
    case View::Part::kValues:
      *item = value;
      return true;
    case View::Part::kItems:
      return context->MakeList({key, value}, item, Type::kTuple);
  }
  return true;
}

class DictIterator final : public Iterator {
 public:
  DictIterator(Value holder, const Dict* dict, View::Part part)
      : holder_(std::move(holder)), dict_(dict), part_(part) {}
  bool Next(Context* context, Value* item, bool* more) override {
    *more = at_ < dict_->items.size();
    return !*more || DictPart(context, *dict_, part_, at_++, item);
  }

 private:
  Value holder_;  // keeps the dict alive
  const Dict* dict_;
  View::Part part_;
  size_t at_ = 0;
};

class RangeIterator final : public Iterator {
 public:
  explicit RangeIterator(Value range) : range_(std::move(range)) {}
  bool Next(Context*, Value* item, bool* more) override {
    *more = at_ < range_.range().count;
    if (*more) *item = Value::OfInt(range_.range().At(at_++));
    return true;
  }

 private:
  Value range_;
  int64_t at_ = 0;
};

// --- arithmetic ---

bool AddInts(Int a, Int b, Int* out) { return !__builtin_add_overflow(a, b, out); }
bool SubInts(Int a, Int b, Int* out) { return !__builtin_sub_overflow(a, b, out); }
bool MulInts(Int a, Int b, Int* out) { return !__builtin_mul_overflow(a, b, out); }

bool PowInts(Int base, Int exponent, Int* out) {
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && !MulInts(result, base, &result)) return false;
    exponent >>= 1;
    if (exponent > 0 && !MulInts(base, base, &base)) return false;
  }
  *out = result;
  return true;
}

double FloorMod(double a, double b) {
  double mod = std::fmod(a, b);
  if (mod != 0) {
    if ((b < 0) != (mod < 0)) mod += b;
  } else {
    mod = std::copysign(0.0, b);
  }
  return mod;
}

double FloorDivide(double a, double b) {
  const double mod = std::fmod(a, b);
  double div = (a - mod) / b;
  if (mod != 0 && (b < 0) != (mod < 0)) div -= 1.0;
  if (div == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(div);
  return div - floor > 0.5 ? floor + 1.0 : floor;
}

bool CalculateInts(Context* context, Arithmetic op, Int a, Int b, bool input, Value* result) {
  Int out = 0;
  switch (op) {
    case Arithmetic::kAdd:
      if (!AddInts(a, b, &out)) return FailTooLarge(context);
      break;
    case Arithmetic::kSub:
      if (!SubInts(a, b, &out)) return FailTooLarge(context);
      break;
    case Arithmetic::kMul:
      if (!MulInts(a, b, &out)) return FailTooLarge(context);
      break;
    case Arithmetic::kDiv:
      if (b == 0) return context->Fail("division by zero");
      *result = Value::Float(static_cast<double>(a) / static_cast<double>(b), input);
      return true;
    case Arithmetic::kFloorDiv:
    case Arithmetic::kMod: {
      const bool divide = op == Arithmetic::kFloorDiv;
      if (b == 0) return context->Fail("integer division or modulo by zero");
      if (b == -1) {  // the only quotient that can overflow
        if (!SubInts(0, a, &out)) return FailTooLarge(context);
        out = divide ? out : 0;
        break;
      }
      const Int quotient = a / b;
      const Int rest = a % b;
      const bool adjust = rest != 0 && (rest < 0) != (b < 0);
      out = divide ? quotient - adjust : rest + (adjust ? b : 0);
      break;
    }
    case Arithmetic::kPow:
      if (b < 0) {
        if (a == 0) return context->Fail("0.0 cannot be raised to a negative power");
        *result =
            Value::Float(std::pow(static_cast<double>(a), static_cast<double>(b)), input);
        return true;
      }
      if (!PowInts(a, b, &out)) return FailTooLarge(context);
      break;
  }
  *result = Value::OfInt(out, input);
  return true;
}

bool CalculateFloats(Context* context, Arithmetic op, double a, double b, bool input,
                     Value* result) {
  double out = 0;
  switch (op) {
    case Arithmetic::kAdd:
      out = a + b;
      break;
    case Arithmetic::kSub:
      out = a - b;
      break;
    case Arithmetic::kMul:
      out = a * b;
      break;
    case Arithmetic::kDiv:
      if (b == 0) return context->Fail("float division by zero");
      out = a / b;
      break;
    case Arithmetic::kFloorDiv:
      if (b == 0) return context->Fail("float floor division by zero");
      out = FloorDivide(a, b);
      break;
    case Arithmetic::kMod:
      if (b == 0) return context->Fail("float modulo");
      out = FloorMod(a, b);
      break;
    case Arithmetic::kPow:
      if (a == 0 && b < 0) return context->Fail("0.0 cannot be raised to a negative power");
      if (a < 0 && b != std::floor(b) && std::isfinite(b)) {
        return context->Fail("a power of a negative number is not a real number");
      }
      out = std::pow(a, b);
      if (std::isinf(out) && std::isfinite(a) && std::isfinite(b)) {
        return context->Fail("(34, 'Numerical result out of range')");
      }
      break;
  }
  *result = Value::Float(out, input);
  return true;
}

bool Concatenate(Context* context, const Value& a, const Value& b, Value* result) {
  Value left = a;
  Value right = b;
  const bool safe = a.str().safe || b.str().safe;
  if (safe && (!Escape(context, a, &left) || !Escape(context, b, &right))) return false;
  Builder builder(context);
  builder.Append(left.str());
  builder.Append(right.str());
  return builder.Finish(result, safe);
}

bool RepeatText(Context* context, const Str& text, Int times, Value* result) {
  Builder builder(context);
  if (!text.bytes.empty()) {
    for (Int i = 0; i < times && !builder.overflow(); ++i) builder.Append(text);
  }
  return builder.Finish(result, text.safe);
}

bool RepeatList(Context* context, const Value& list, Int times, Value* result) {
  const auto& items = list.list().items;
  std::vector<Value> out;
  if (times > 0 && !items.empty()) {
    Int total = 0;
    if (!MulInts(static_cast<Int>(items.size()), times, &total) || total > (1 << 26) ||
        !context->HasMemory(static_cast<size_t>(total) * sizeof(Value))) {
      return context->Fail("the template needs too much memory", Failure::kLimit);
    }
    if (!context->Step(static_cast<size_t>(total))) return false;
    out.reserve(static_cast<size_t>(total));
    for (Int i = 0; i < times; ++i) out.insert(out.end(), items.begin(), items.end());
  }
  return context->MakeList(std::move(out), result, list.type());
}

const char* Symbol(Arithmetic op) {
  static constexpr const char* kSymbols[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
  return kSymbols[static_cast<int>(op)];
}

// Resolves Python's slice over `length` items to first, step and count.
struct Cut {
  int64_t first = 0;
  int64_t step = 1;
  int64_t count = 0;
};

bool SliceIndex(Context* context, const Value& value, int64_t fallback, int64_t* out) {
  if (value.none() || value.missing()) {
    *out = fallback;
    return true;
  }
  if (value.undefined()) return FailUndefined(context, value);
  if (!IsIntegral(value)) {
    return context->Fail(
        "slice indices must be integers or None or have an __index__ method");
  }
  constexpr Int kFar = Int{1} << 62;
  *out = static_cast<int64_t>(std::clamp(value.integer(), -kFar, kFar));
  return true;
}

bool MakeCut(Context* context, const Value& start, const Value& stop, const Value& step,
             int64_t length, Cut* cut) {
  if (!SliceIndex(context, step, 1, &cut->step)) return false;
  if (cut->step == 0) return context->Fail("slice step cannot be zero");
  const bool down = cut->step < 0;
  const int64_t low = down ? -1 : 0;
  const int64_t high = down ? length - 1 : length;
  const auto place = [&](int64_t index) {
    if (index < 0) index += length;
    return std::clamp(index, low, high);
  };
  int64_t first = 0;
  int64_t last = 0;
  const bool open_start = start.none() || start.missing();
  const bool open_stop = stop.none() || stop.missing();
  if (!SliceIndex(context, start, 0, &first) || !SliceIndex(context, stop, 0, &last)) return false;
  first = open_start ? (down ? high : low) : place(first);
  last = open_stop ? (down ? low : high) : place(last);
  cut->first = first;
  if (down) {
    cut->count = last < first ? (first - last - 1) / -cut->step + 1 : 0;
  } else {
    cut->count = first < last ? (last - first - 1) / cut->step + 1 : 0;
  }
  return true;
}

bool SliceText(Context* context, const Str& text, const Cut& cut, Value* out) {
  Builder builder(context);
  if (cut.count > 0 && cut.step == 1) {
    const size_t begin = text.ascii() ? static_cast<size_t>(cut.first)
                                      : OffsetOf(text.bytes, cut.first);
    const auto rest = std::string_view(text.bytes).substr(begin);
    const size_t size = text.ascii() ? static_cast<size_t>(cut.count) : OffsetOf(rest, cut.count);
    builder.Append(text, begin, begin + size);
  } else if (cut.count > 0) {
    if (!context->Step(text.bytes.size())) return false;
    std::vector<size_t> offsets;  // of every character, and the end
    if (!context->HasMemory(text.bytes.size() * sizeof(size_t))) return false;
    offsets.reserve(static_cast<size_t>(text.length) + 1);
    for (size_t at = 0; at < text.bytes.size(); at += DecodeUtf8(text.bytes, at).bytes) {
      offsets.push_back(at);
    }
    offsets.push_back(text.bytes.size());
    int64_t at = cut.first;
    for (int64_t i = 0; i < cut.count; ++i, at += cut.step) {
      builder.Append(text, offsets[at], offsets[at + 1]);
    }
  }
  return builder.Finish(out, text.safe);
}

bool ReprItems(Context* context, const std::vector<Value>& items, Builder* out) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out->Literal(", ");
    if (!ToRepr(context, items[i], out)) return false;
  }
  return true;
}

bool ReprDict(Context* context, const Dict& dict, Builder* out) {
  out->Literal("{");
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) out->Literal(", ");
    if (!ToRepr(context, dict.items[i].first, out)) return false;
    out->Literal(": ");
    if (!ToRepr(context, dict.items[i].second, out)) return false;
  }
  out->Literal("}");
  return true;
}

bool ReprView(Context* context, const Value& value, Builder* out) {
  const View& view = value.view();
  out->Literal(TypeName(value));
  out->Literal("([");
  for (size_t i = 0; i < view.dict->items.size(); ++i) {
    if (i > 0) out->Literal(", ");
    Value item;
    if (!DictPart(context, *view.dict, view.part, i, &item)) return false;
    if (!ToRepr(context, item, out)) return false;
  }
  out->Literal("])");
  return true;
}

bool ReprNamespace(Context* context, const Namespace& object, Builder* out) {
  out->Literal("<Namespace {");
  bool first = true;
  for (const auto& [name, value] : object.attributes) {
    if (!first) out->Literal(", ");
    first = false;
    Value key = context->Text(name);
    ReprText(key.str(), out);
    out->Literal(": ");
    if (!ToRepr(context, value, out)) return false;
  }
  out->Literal("}>");
  return true;
}

// The next iteration's work is bounded by Step in the callers of Next.
bool NextItem(Context* context, Iterator* iterator, Value* item, bool* more) {
  return context->Step() && iterator->Next(context, item, more);
}

}  // namespace

bool FailUndefined(Context* context, const Value& value) {
  return context->Fail(value.missing() ? "a value is missing" : value.undefined_info().Message());
}

std::string IntText(Int value) {
  unsigned __int128 rest = value < 0 ? -static_cast<unsigned __int128>(value)
                                     : static_cast<unsigned __int128>(value);
  std::string digits;
  do {
    digits += static_cast<char>('0' + static_cast<int>(rest % 10));
    rest /= 10;
  } while (rest != 0);
  if (value < 0) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 std::chars_format::scientific).ptr;
  std::string_view text(buffer, end - buffer);
  std::string out;
  if (text[0] == '-') {
    out = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  int exponent = 0;
  const size_t sign = text[e + 1] == '+' ? 1 : 0;  // from_chars takes no '+'
  std::from_chars(text.data() + e + 1 + sign, text.data() + text.size(), exponent);
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  const int count = static_cast<int>(digits.size());
  // The bounds of Python's repr between plain and scientific notation.
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1) out += "." + digits.substr(1);
    out += exponent < 0 ? "e-" : "e+";
    const std::string power = std::to_string(std::abs(exponent));
    return out + (power.size() < 2 ? "0" : "") + power;
  }
  if (exponent < 0) return out + "0." + std::string(-exponent - 1, '0') + digits;
  if (count <= exponent + 1) return out + digits + std::string(exponent + 1 - count, '0') + ".0";
  return out + digits.substr(0, exponent + 1) + "." + digits.substr(exponent + 1);
}

bool Truth(const Value& value) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kBool:
    case Type::kInt:
      return value.integer() != 0;
    case Type::kFloat:
      return value.real() != 0;
    case Type::kString:
      return !value.text().empty();
    case Type::kList:
    case Type::kTuple:
      return !value.list().items.empty();
    case Type::kDict:
      return !value.dict().items.empty();
    case Type::kView:
      return !value.view().dict->items.empty();
    case Type::kRange:
      return value.range().count > 0;
    case Type::kIterator:
    case Type::kObject:
      return true;
  }
  return true;
}

void ReprText(const Str& text, Builder* out) {
  const bool single = text.bytes.find('\'') != std::string::npos;
  const bool twice = text.bytes.find('"') != std::string::npos;
  const char quote = single && !twice ? '"' : '\'';
  if (text.safe) out->Literal("Markup(");
  out->Literal({&quote, 1});
  size_t plain = 0;  // start of the run that needs no escape
  for (size_t at = 0; at < text.bytes.size() && !out->overflow();) {
    const DecodedChar decoded = DecodeUtf8(text.bytes, at);
    const char32_t c = decoded.code_point;
    const bool special = c == '\\' || c == static_cast<char32_t>(quote) || !IsPrintable(c);
    if (!special) {
      at += decoded.bytes;
      continue;
    }
    out->Append(text, plain, at);
    char escape[16];
    if (c == '\\' || c == static_cast<char32_t>(quote)) {
      std::snprintf(escape, sizeof escape, "\\%c", static_cast<char>(c));
    } else if (c == '\n' || c == '\r' || c == '\t') {
      std::snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    } else if (c < 0x100) {
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(c));
    } else if (c < 0x10000) {
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
    } else {
      std::snprintf(escape, sizeof escape, "\\U%08x", static_cast<unsigned>(c));
    }
    out->Literal(escape, IsInput(text, at));
    at += decoded.bytes;
    plain = at;
  }
  out->Append(text, plain, text.bytes.size());
  out->Literal({&quote, 1});
  if (text.safe) out->Literal(")");
}

bool ToText(Context* context, const Value& value, Builder* out) {
  if (value.string()) {
    out->Append(value.str());
    return true;
  }
  if (value.undefined() || value.missing()) return true;
  return ToRepr(context, value, out);
}

bool ToRepr(Context* context, const Value& value, Builder* out) {
  if (!context->Step() || !context->CheckStack()) return false;
  if (out->overflow()) return true;  // Finish reports it
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      out->Literal("Undefined");
      return true;
    case Type::kNone:
      out->Literal("None", value.input());
      return true;
    case Type::kBool:
      out->Literal(value.boolean() ? "True" : "False", value.input());
      return true;
    case Type::kInt:
      out->Literal(IntText(value.integer()), value.input());
      return true;
    case Type::kFloat:
      out->Literal(FloatText(value.real()), value.input());
      return true;
    case Type::kString:
      if (!context->Step(value.text().size())) return false;
      ReprText(value.str(), out);
      return true;
    case Type::kList:
      out->Literal("[");
      if (!ReprItems(context, value.list().items, out)) return false;
      out->Literal("]");
      return true;
    case Type::kTuple:
      out->Literal("(");
      if (!ReprItems(context, value.list().items, out)) return false;
      out->Literal(value.list().items.size() == 1 ? ",)" : ")");
      return true;
    case Type::kDict:
      return ReprDict(context, value.dict(), out);
    case Type::kView:
      return ReprView(context, value, out);
    case Type::kRange: {
      const Range& range = value.range();
      out->Literal("range(" + IntText(range.start) + ", " + IntText(range.stop));
      if (range.step != 1) out->Literal(", " + IntText(range.step));
      out->Literal(")");
      return true;
    }
    case Type::kIterator:
      out->Literal(std::string("<") + value.iterator().type_name() + " object>");
      return true;
    case Type::kObject:
      if (const auto* space = value.opaque().AsNamespace()) {
        return ReprNamespace(context, *space, out);
      }
      out->Literal(value.opaque().Describe());
      return true;
  }
  return true;
}

bool ToStr(Context* context, const Value& value, Value* out) {
  if (value.string() && !value.str().safe) {
    *out = value;
    return true;
  }
  Builder builder(context);
  return ToText(context, value, &builder) && builder.Finish(out);
}

bool SoftStr(Context* context, const Value& value, Value* out) {
  if (value.string()) {
    *out = value;
    return true;
  }
  return ToStr(context, value, out);
}

bool Escape(Context* context, const Value& value, Value* out) {
  if (value.string() && value.str().safe) {
    *out = value;
    return true;
  }
  Value text;
  if (!ToStr(context, value, &text)) return false;
  const Str& str = text.str();
  Builder builder(context);
  size_t plain = 0;
  for (size_t at = 0; at < str.bytes.size(); ++at) {
    const char* entity = nullptr;
    switch (str.bytes[at]) {
      case '&':
        entity = "&amp;";
        break;
      case '<':
        entity = "&lt;";
        break;
      case '>':
        entity = "&gt;";
        break;
      case '"':
        entity = "&#34;";
        break;
      case '\'':
        entity = "&#39;";
        break;
      default:
        continue;
    }
    builder.Append(str, plain, at);
    builder.Literal(entity, IsInput(str, at));
    plain = at + 1;
  }
  builder.Append(str, plain, str.bytes.size());
  return builder.Finish(out, true);
}

bool Equals(Context* context, const Value& a, const Value& b, bool* result) {
  if (!context->Step() || !context->CheckStack()) return false;
  *result = false;
  if (a.number() && b.number()) {
    *result = CompareNumbers(a, b) == 0;
    return true;
  }
  if (a.type() != b.type()) return true;
  switch (a.type()) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      *result = true;
      return true;
    case Type::kString:
      *result = a.text() == b.text();
      return !*result || context->Step(a.text().size());
    case Type::kList:
    case Type::kTuple:
      if (a.object() == b.object()) {
        *result = true;
        return true;
      }
      return EqualItems(context, a.list().items, b.list().items, result);
    case Type::kDict:
      if (a.object() == b.object()) {
        *result = true;
        return true;
      }
      return EqualDicts(context, a.dict(), b.dict(), result);
    case Type::kRange:
      *result = SameRange(a.range(), b.range());
      return true;
    default:
      *result = a.object() == b.object();
      return true;
  }
}

bool CompareValues(Context* context, Compare op, const Value& a, const Value& b, bool* result) {
  if (op == Compare::kEq || op == Compare::kNe) {
    if (!Equals(context, a, b, result)) return false;
    if (op == Compare::kNe) *result = !*result;
    return true;
  }
  static constexpr const char* kSymbols[] = {"==", "!=", "<", "<=", ">", ">="};
  int order = 0;
  if (!Order(context, kSymbols[static_cast<int>(op)], a, b, &order)) return false;
  switch (op) {
    case Compare::kLt:
      *result = order == -1;
      break;
    case Compare::kLe:
      *result = order == -1 || order == 0;
      break;
    case Compare::kGt:
      *result = order == 1;
      break;
    default:
      *result = order == 1 || order == 0;
      break;
  }
  return true;
}

bool Contains(Context* context, const Value& container, const Value& item, bool* result) {
  *result = false;
  switch (container.type()) {
    case Type::kString:
      if (!item.string()) {
        return context->Fail(
            std::string("'in <string>' requires string as left operand, not ") + TypeName(item));
      }
      *result = FindBytes(container.text(), item.text()) != std::string_view::npos;
      return context->Step(container.text().size());
    case Type::kDict:
    case Type::kView: {
      const bool keys = container.is(Type::kDict) ||
                        container.view().part == View::Part::kKeys;
      if (!keys) break;
      const Dict& dict = container.is(Type::kDict) ? container.dict() : *container.view().dict;
      if (item.string()) {
        *result = dict.FindText(item.text()) != nullptr;
        return true;
      }
      size_t hash = 0;
      if (!Hash(context, item, &hash)) return false;
      *result = dict.Find(item, hash) >= 0;
      return true;
    }
    case Type::kMissing:
    case Type::kUndefined:
      return true;
    case Type::kNone:
    case Type::kBool:
    case Type::kInt:
    case Type::kFloat:
      return context->Fail(std::string("argument of type '") + TypeName(container) +
                           "' is not iterable");
    default:
      break;
  }
  Ref<Iterator> iterator;
  if (!Iterate(context, container, &iterator)) return false;
  for (;;) {
    Value each;
    bool more = false;
    if (!NextItem(context, iterator.get(), &each, &more)) return false;
    if (!more) return true;
    if (!Equals(context, each, item, result)) return false;
    if (*result) return true;
  }
}

bool Hash(Context* context, const Value& key, size_t* hash) {
  if (!context->Step() || !context->CheckStack()) return false;
  switch (key.type()) {
    case Type::kNone:
      *hash = 0x9E3779B9;
      return true;
    case Type::kBool:
    case Type::kInt:
      *hash = std::hash<int64_t>()(static_cast<int64_t>(key.integer()));
      return true;
    case Type::kFloat: {
      const double real = key.real();
      const bool whole = std::fabs(real) < 0x1p62 && real == std::floor(real);
      *hash = whole ? std::hash<int64_t>()(static_cast<int64_t>(real)) : std::hash<double>()(real);
      return true;
    }
    case Type::kString:
      *hash = std::hash<std::string_view>()(key.text());
      return true;
    case Type::kTuple:
      *hash = 0x345678;
      for (const auto& item : key.list().items) {
        size_t one = 0;
        if (!Hash(context, item, &one)) return false;
        *hash = *hash * 1000003 ^ one;
      }
      return true;
    case Type::kMissing:
    case Type::kUndefined:
      *hash = 0x5DEECE66;
      return true;
    case Type::kList:
    case Type::kDict:
    case Type::kView:
      return context->Fail(std::string("unhashable type: '") + TypeName(key) + "'");
    case Type::kRange:
      *hash = static_cast<size_t>(key.range().count);
      return true;
    case Type::kIterator:
    case Type::kObject:
      *hash = std::hash<const void*>()(key.object());
      return true;
  }
  return true;
}

bool SameKey(const Value& a, const Value& b) {
  if (a.number() && b.number()) return CompareNumbers(a, b) == 0;
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::kString:
      return a.text() == b.text();
    case Type::kTuple: {
      const auto& x = a.list().items;
      const auto& y = b.list().items;
      if (a.object() == b.object()) return true;
      if (x.size() != y.size()) return false;
      for (size_t i = 0; i < x.size(); ++i) {
        if (!SameKey(x[i], y[i])) return false;
      }
      return true;
    }
    case Type::kRange:
      return SameRange(a.range(), b.range());
    case Type::kIterator:
    case Type::kObject:
      return a.object() == b.object();
    default:
      return true;  // none, undefined
  }
}

bool StableSort(Context* context, std::vector<Value>* items, const std::vector<Value>& keys,
                bool reverse) {
  std::vector<size_t> order(items->size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  // A merge sort of our own: a comparison may fail half-way, which std::stable_sort cannot bear.
  std::vector<size_t> merged(order.size());
  for (size_t width = 1; width < order.size(); width *= 2) {
    for (size_t begin = 0; begin < order.size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, order.size());
      const size_t end = std::min(begin + 2 * width, order.size());
      size_t left = begin;
      size_t right = middle;
      for (size_t at = begin; at < end; ++at) {
        bool take_right = left == middle;
        if (!take_right && right < end) {
          // Reversed, as Python's: equal items keep their order in both directions.
          const auto& a = keys[order[right]];
          const auto& b = keys[order[left]];
          if (!CompareValues(context, Compare::kLt, reverse ? b : a, reverse ? a : b,
                             &take_right)) {
            return false;
          }
        }
        merged[at] = take_right ? order[right++] : order[left++];
      }
    }
    order.swap(merged);
  }
  std::vector<Value> sorted;
  sorted.reserve(items->size());
  for (const size_t index : order) sorted.push_back((*items)[index]);
  items->swap(sorted);
  return true;
}

bool Calculate(Context* context, Arithmetic op, const Value& a, const Value& b, Value* result) {
  if (a.number() && b.number()) {
    const bool input = a.input() || b.input();
    if (IsIntegral(a) && IsIntegral(b)) {
      return CalculateInts(context, op, a.integer(), b.integer(), input, result);
    }
    return CalculateFloats(context, op, a.AsDouble(), b.AsDouble(), input, result);
  }
  if (op == Arithmetic::kMod && a.string()) {
    return PercentFormat(context, a.str(), b, result);
  }
  if (op == Arithmetic::kAdd) {
    if (a.string() && b.string()) return Concatenate(context, a, b, result);
    const bool lists = a.is(Type::kList) && b.is(Type::kList);
    if (lists || (a.is(Type::kTuple) && b.is(Type::kTuple))) {
      const auto& x = a.list().items;
      const auto& y = b.list().items;
      if (!context->HasMemory((x.size() + y.size()) * sizeof(Value))) return false;
      std::vector<Value> items;
      items.reserve(x.size() + y.size());
      items.insert(items.end(), x.begin(), x.end());
      items.insert(items.end(), y.begin(), y.end());
      return context->MakeList(std::move(items), result, a.type());
    }
    if (a.string() && !b.undefined()) {
      return context->Fail(std::string("can only concatenate str (not \"") + TypeName(b) +
                           "\") to str");
    }
  }
  if (op == Arithmetic::kMul) {
    const bool left = IsIntegral(a);
    const Value& times = left ? a : b;
    const Value& thing = left ? b : a;
    if (IsIntegral(times) && thing.string()) {
      return RepeatText(context, thing.str(), times.integer(), result);
    }
    if (IsIntegral(times) && (thing.is(Type::kList) || thing.is(Type::kTuple))) {
      return RepeatList(context, thing, times.integer(), result);
    }
  }
  return FailOperands(context, Symbol(op), a, b);
}

bool Negate(Context* context, const Value& a, bool minus, Value* result) {
  if (a.undefined()) return FailUndefined(context, a);
  if (IsIntegral(a)) {
    Int out = a.integer();
    if (minus && !SubInts(0, a.integer(), &out)) return FailTooLarge(context);
    *result = Value::OfInt(out, a.input());
    return true;
  }
  if (a.is(Type::kFloat)) {
    *result = Value::Float(minus ? -a.real() : a.real(), a.input());
    return true;
  }
  return context->Fail(std::string("bad operand type for unary ") + (minus ? "-" : "+") + ": '" +
                       TypeName(a) + "'");
}

Ref<Iterator> IterateItems(std::vector<Value> items, const char* type_name) {
  return Ref<Iterator>(new ItemIterator(std::move(items), type_name));
}

bool Iterate(Context* context, const Value& value, Ref<Iterator>* out) {
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      *out = IterateItems({});
      return true;
    case Type::kString:
      *out = Ref<Iterator>(new TextIterator(value));
      return true;
    case Type::kList:
    case Type::kTuple:
      *out = Ref<Iterator>(new ListIterator(value));
      return true;
    case Type::kDict:
      *out = Ref<Iterator>(new DictIterator(value, &value.dict(), View::Part::kKeys));
      return true;
    case Type::kView:
      *out = Ref<Iterator>(
          new DictIterator(value, value.view().dict.get(), value.view().part));
      return true;
    case Type::kRange:
      *out = Ref<Iterator>(new RangeIterator(value));
      return true;
    case Type::kIterator:
      *out = Ref<Iterator>(&value.iterator());
      return true;
    case Type::kObject:
      if (auto* iterator = value.opaque().AsIterator()) {
        *out = Ref<Iterator>(iterator);
        return true;
      }
      break;
    default:
      break;
  }
  return context->Fail(std::string("'") + TypeName(value) + "' object is not iterable");
}

bool Collect(Context* context, const Value& value, std::vector<Value>* out) {
  Ref<Iterator> iterator;
  if (!Iterate(context, value, &iterator)) return false;
  for (;;) {
    Value item;
    bool more = false;
    if (!NextItem(context, iterator.get(), &item, &more)) return false;
    if (!more) return true;
    if (out->size() % 4096 == 4095 && !context->HasMemory(out->size() * 2 * sizeof(Value))) {
      return false;
    }
    out->push_back(std::move(item));
  }
}

bool Length(Context* context, const Value& value, int64_t* out) {
  *out = 0;
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      return true;
    case Type::kString:
      *out = value.str().length;
      return true;
    case Type::kList:
    case Type::kTuple:
      *out = static_cast<int64_t>(value.list().items.size());
      return true;
    case Type::kDict:
      *out = static_cast<int64_t>(value.dict().items.size());
      return true;
    case Type::kView:
      *out = static_cast<int64_t>(value.view().dict->items.size());
      return true;
    case Type::kRange:
      *out = value.range().count;
      return true;
    case Type::kObject:
      if (!value.opaque().Length(context, out)) return false;
      if (*out >= 0) return true;
      break;
    default:
      break;
  }
  return context->Fail(std::string("object of type '") + TypeName(value) + "' has no len()");
}

bool CharAt(Context* context, const Str& text, int64_t index, Value* out) {
  Cut cut{index, 1, 1};
  return SliceText(context, text, cut, out);
}

bool GetAttribute(Context* context, const Value& value, std::string_view name, Value* out) {
  if (value.undefined() || value.missing()) return FailUndefined(context, value);
  bool found = false;
  if (!FindMethod(context, value, name, out, &found)) return false;
  if (found) return true;
  if (value.is(Type::kDict)) {
    if (const Value* item = value.dict().FindText(name)) {
      *out = *item;
      return true;
    }
  }
  *out = context->NoAttribute(value, name);
  return true;
}

bool GetItem(Context* context, const Value& value, const Value& key, Value* out) {
  if (value.undefined() || value.missing()) return FailUndefined(context, value);
  if (value.is(Type::kDict)) {
    if (key.string()) {
      if (const Value* item = value.dict().FindText(key.text())) {
        *out = *item;
        return true;
      }
    } else if (!key.is(Type::kList) && !key.is(Type::kDict) && !key.is(Type::kView)) {
      size_t hash = 0;
      if (!Hash(context, key, &hash)) return false;
      const int64_t at = value.dict().Find(key, hash);
      if (at >= 0) {
        *out = value.dict().items[at].second;
        return true;
      }
    }
  } else if (IsIntegral(key)) {
    int64_t length = -1;
    if (value.string()) length = value.str().length;
    if (value.is(Type::kList) || value.is(Type::kTuple)) {
      length = static_cast<int64_t>(value.list().items.size());
    }
    if (value.is(Type::kRange)) length = value.range().count;
    Int index = key.integer();
    if (index < 0) index += length;
    if (length >= 0 && index >= 0 && index < length) {
      const auto at = static_cast<int64_t>(index);
      if (value.string()) return CharAt(context, value.str(), at, out);
      *out = value.is(Type::kRange) ? Value::OfInt(value.range().At(at)) : value.list().items[at];
      return true;
    }
  }
  if (key.string()) {
    bool found = false;
    if (!FindMethod(context, value, key.text(), out, &found)) return false;
    if (found) return true;
  }
  *out = context->NoItem(value, key);
  return true;
}

bool GetSlice(Context* context, const Value& value, const Value& start, const Value& stop,
              const Value& step, Value* out) {
  if (value.undefined() || value.missing()) return FailUndefined(context, value);
  Cut cut;
  if (value.string()) {
    return MakeCut(context, start, stop, step, value.str().length, &cut) &&
           SliceText(context, value.str(), cut, out);
  }
  if (value.is(Type::kList) || value.is(Type::kTuple)) {
    const auto& items = value.list().items;
    if (!MakeCut(context, start, stop, step, static_cast<int64_t>(items.size()), &cut)) {
      return false;
    }
    std::vector<Value> taken;
    taken.reserve(static_cast<size_t>(cut.count));
    int64_t at = cut.first;
    for (int64_t i = 0; i < cut.count; ++i, at += cut.step) taken.push_back(items[at]);
    return context->MakeList(std::move(taken), out, value.type());
  }
  if (value.is(Type::kRange)) {
    if (!MakeCut(context, start, stop, step, value.range().count, &cut)) return false;
    auto* range = new Range;
    range->start = value.range().At(cut.first);
    range->step = value.range().step * cut.step;
    range->count = cut.count;
    range->stop = range->At(cut.count);
    return context->Adopt(Type::kRange, range, sizeof(Range), 0, out);
  }
  if (value.is(Type::kDict)) return context->Fail("unhashable type: 'slice'");
  return context->Fail(std::string("'") + TypeName(value) + "' object is not subscriptable");
}

bool CallValue(Context* context, const Value& callee, Arguments* arguments, Value* out) {
  if (callee.undefined() || callee.missing()) return FailUndefined(context, callee);
  if (!callee.is(Type::kObject)) {
    return context->Fail(std::string("'") + TypeName(callee) + "' object is not callable");
  }
  return context->Step(arguments->positional.size()) && context->CheckStack() &&
         callee.opaque().Call(context, arguments, out);
}

}  // namespace lode::text::jinja
