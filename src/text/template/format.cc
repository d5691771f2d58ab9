#include "text/template/format.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/text.h"
#include "base/utf8.h"
#include "text/template/ops.h"
#include "text/template/text_ops.h"

namespace lode::text::jinja {
namespace {

// A width or precision beyond this is an attack, not a layout.
constexpr int64_t kFieldMax = 1'000'000;
// A double has at most 309 digits before the point; more behind it than this says nothing.
constexpr int64_t kPrecisionMax = 1000;

// What the two mini-languages describe in common.
struct Spec {
  std::string fill = " ";
  char align = 0;  // '<', '>', '^', '='; 0 is the type's own
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  int64_t width = 0;
  char grouping = 0;
  int64_t precision = -1;
  char type = 0;
};

std::string Digits(Int value, int base, bool upper) {
  unsigned __int128 rest = value < 0 ? -static_cast<unsigned __int128>(value)
                                     : static_cast<unsigned __int128>(value);
  std::string out;
  do {
    const int digit = static_cast<int>(rest % base);
    out += static_cast<char>(digit < 10 ? '0' + digit : (upper ? 'A' : 'a') + digit - 10);
    rest /= base;
  } while (rest != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

// |value| as printf would write it for one of the types e, f, g (either case).
std::string FloatDigits(double value, char type, int64_t precision, bool alternate) {
  value = std::fabs(value);
  const bool upper = type == 'E' || type == 'F' || type == 'G';
  if (std::isnan(value)) return upper ? "NAN" : "nan";
  if (std::isinf(value)) return upper ? "INF" : "inf";
  const std::string format = std::string("%") + (alternate ? "#" : "") + ".*" + type;
  char small[512];
  const int digits = static_cast<int>(std::min(precision, kPrecisionMax));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const int size = std::snprintf(small, sizeof small, format.c_str(), digits, value);
  if (size < static_cast<int>(sizeof small)) return std::string(small, size);
  std::string large(size + 1, '\0');
  std::snprintf(large.data(), large.size(), format.c_str(), digits, value);
#pragma GCC diagnostic pop
  large.pop_back();
  return large;
}

// Puts separators into the whole part of `digits`.
std::string Group(const std::string& digits, char separator, int every) {
  size_t whole = 0;
  while (whole < digits.size() && std::isxdigit(static_cast<unsigned char>(digits[whole]))) {
    if (every == 3 && !std::isdigit(static_cast<unsigned char>(digits[whole]))) break;
    ++whole;
  }
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % every == 0) out += separator;
    out += digits[i];
  }
  return out + digits.substr(whole);
}

// Writes sign, prefix and digits padded to the spec's width.
void PutNumber(const Spec& spec, bool negative, const std::string& prefix, std::string digits,
               bool input, Builder* out) {
  std::string sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  const std::string head = sign + prefix;
  const char align = spec.align != 0 ? spec.align : (spec.zero ? '=' : '>');
  const std::string fill = spec.zero && spec.align == 0 ? "0" : spec.fill;
  if (spec.grouping != 0) {
    const bool decimal = prefix.empty();
    const int every = spec.type != 0 && std::string_view("boxX").find(spec.type) !=
                                            std::string_view::npos
                          ? 4
                          : 3;
    std::string grouped = Group(digits, spec.grouping, every);
    // Zero padding counts the separators it needs.
    if (decimal && fill == "0" && align == '=') {
      while (static_cast<int64_t>(head.size() + grouped.size()) < spec.width) {
        digits.insert(digits.begin(), '0');
        grouped = Group(digits, spec.grouping, every);
        if (static_cast<int64_t>(digits.size()) > spec.width) break;
      }
    }
    digits = grouped;
  }
  const auto size = static_cast<int64_t>(head.size() + digits.size());
  const int64_t missing = std::max<int64_t>(0, spec.width - size);
  const int64_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  const auto blanks = [&](int64_t count) {
    for (int64_t i = 0; i < count; ++i) out->Literal(fill);
  };
  blanks(left);
  out->Literal(head, input);
  if (align == '=') blanks(missing);
  out->Literal(digits, input);
  if (align == '<' || align == '^') blanks(missing - left);
}

void PutInt(const Spec& spec, Int value, bool input, Builder* out) {
  const int base = spec.type == 'x' || spec.type == 'X' ? 16
                   : spec.type == 'o'                   ? 8
                   : spec.type == 'b'                   ? 2
                                                        : 10;
  std::string prefix;
  if (spec.alternate && base != 10) prefix = std::string("0") + spec.type;
  std::string digits = Digits(value, base, spec.type == 'X');
  const auto precision = static_cast<size_t>(std::max<int64_t>(0, spec.precision));
  if (digits.size() < precision) digits.insert(0, precision - digits.size(), '0');
  PutNumber(spec, value < 0, prefix, std::move(digits), input, out);
}

void PutFloat(const Spec& spec, double value, bool input, Builder* out) {
  std::string digits;
  if (spec.type == '%') {
    digits = FloatDigits(value * 100, 'f', spec.precision < 0 ? 6 : spec.precision,
                         spec.alternate) + "%";
  } else if (spec.type == 0 && spec.precision < 0) {
    digits = FloatText(std::fabs(value));
  } else {
    const char type = spec.type == 0 || spec.type == 'n' ? 'g' : spec.type;
    int64_t precision = spec.precision < 0 ? 6 : spec.precision;
    if ((type == 'g' || type == 'G') && precision == 0) precision = 1;
    digits = FloatDigits(value, type, precision, spec.alternate);
    if (spec.type == 0 && std::isfinite(value) &&
        digits.find_first_of(".e") == std::string::npos) {
      digits += ".0";
    }
  }
  PutNumber(spec, std::signbit(value) && !std::isnan(value), "", std::move(digits), input, out);
}

void PutText(const Spec& spec, const Str& text, Builder* out) {
  size_t end = text.bytes.size();
  int64_t length = text.length;
  if (spec.precision >= 0 && spec.precision < length) {
    end = OffsetOf(text.bytes, spec.precision);
    length = spec.precision;
  }
  const int64_t missing = std::max<int64_t>(0, spec.width - length);
  const char align = spec.align == 0 ? '<' : spec.align;
  const int64_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  for (int64_t i = 0; i < left; ++i) out->Literal(spec.fill);
  out->Append(text, 0, end);
  for (int64_t i = left; i < missing; ++i) out->Literal(spec.fill);
}

// --- "%s" % x ---

class PercentFormatter {
 public:
  PercentFormatter(Context* context, const Str& format, const Value& arguments)
      : context_(context), format_(format), arguments_(arguments), out_(context) {
    keyed_ = arguments.is(Type::kDict) || arguments.is(Type::kList) || arguments.undefined();
  }

  bool Run(Value* result) {
    const std::string& bytes = format_.bytes;
    while (at_ < bytes.size()) {
      const size_t percent = std::min(bytes.find('%', at_), bytes.size());
      out_.Append(format_, at_, percent);
      at_ = percent + 1;
      if (percent < bytes.size() && !Directive()) return false;
    }
    const bool tuple = arguments_.is(Type::kTuple);
    const size_t given = tuple ? arguments_.list().items.size() : 1;
    if (!keyed_ && used_ < given) {
      return context_->Fail("not all arguments converted during string formatting");
    }
    return out_.Finish(result, format_.safe);
  }

 private:
  bool Directive() {
    const std::string& bytes = format_.bytes;
    Value keyed;
    if (Peek() == '(' && !Key(&keyed)) return false;
    Spec spec;
    bool left = false;
    for (; at_ < bytes.size(); ++at_) {
      const char c = bytes[at_];
      if (c == '-') {
        left = true;
      } else if (c == '+') {
        spec.sign = '+';
      } else if (c == ' ') {
        if (spec.sign != '+') spec.sign = ' ';
      } else if (c == '#') {
        spec.alternate = true;
      } else if (c == '0') {
        spec.zero = true;
      } else {
        break;
      }
    }
    if (!Number(&spec.width)) return false;
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (Peek() == '.') {
      ++at_;
      spec.precision = 0;
      if (!Number(&spec.precision)) return false;
      spec.precision = std::max<int64_t>(0, spec.precision);
    }
    while (Peek() == 'h' || Peek() == 'l' || Peek() == 'L') ++at_;
    if (at_ >= bytes.size()) return context_->Fail("incomplete format");
    const char type = bytes[at_++];
    if (type == '%') {
      out_.Literal("%");
      return true;
    }
    if (left) {
      spec.align = '<';
      spec.zero = false;
    }
    Value value = keyed;
    if (value.missing() && !NextArgument(&value)) return false;
    return Put(type, spec, value);
  }

  char Peek() const { return at_ < format_.bytes.size() ? format_.bytes[at_] : '\0'; }

  bool Key(Value* value) {
    if (!keyed_) return context_->Fail("format requires a mapping");
    int nesting = 1;
    const size_t begin = ++at_;
    for (; at_ < format_.bytes.size() && nesting > 0; ++at_) {
      if (format_.bytes[at_] == '(') ++nesting;
      if (format_.bytes[at_] == ')') --nesting;
    }
    if (nesting > 0) return context_->Fail("incomplete format key");
    Value key;
    if (!context_->Make(format_.bytes.substr(begin, at_ - 1 - begin), {}, false, &key)) {
      return false;
    }
    if (!arguments_.is(Type::kDict)) return context_->Fail("format requires a mapping");
    const Value* found = arguments_.dict().FindText(key.text());
    if (found == nullptr) return context_->Fail("KeyError: " + Quote(key.text()));
    *value = *found;
    return true;
  }

  // A number, or '*' for the next argument.
  bool Number(int64_t* out) {
    if (Peek() == '*') {
      ++at_;
      Value value;
      if (!NextArgument(&value)) return false;
      if (!value.is(Type::kInt)) return context_->Fail("* wants int");
      if (value.integer() > kFieldMax || value.integer() < -kFieldMax) return FailWidth();
      *out = static_cast<int64_t>(value.integer());
      return true;
    }
    int64_t number = 0;
    bool any = false;
    for (; Peek() >= '0' && Peek() <= '9'; ++at_, any = true) {
      number = number * 10 + (Peek() - '0');
      if (number > kFieldMax) return FailWidth();
    }
    if (any) *out = number;
    return true;
  }

  bool FailWidth() {
    return context_->Fail("a field of a format is too wide", Failure::kLimit);
  }

  bool NextArgument(Value* value) {
    const bool tuple = arguments_.is(Type::kTuple);
    const size_t given = tuple ? arguments_.list().items.size() : 1;
    if (used_ >= given) return context_->Fail("not enough arguments for format string");
    *value = tuple ? arguments_.list().items[used_] : arguments_;
    ++used_;
    return true;
  }

  bool Put(char type, Spec spec, const Value& value) {
    switch (type) {
      case 's':
      case 'r':
      case 'a':
        return PutString(type, spec, value);
      case 'c':
        return PutChar(spec, value);
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o': {
        spec.type = type == 'i' || type == 'u' ? 'd' : type;
        const bool hex = spec.type != 'd';
        if (value.undefined()) return FailUndefined(context_, value);
        if (!value.number() || (hex && value.is(Type::kFloat))) {
          return context_->Fail(std::string("%") + type + " format: a number is required, not " +
                                TypeName(value));
        }
        Int number = value.is(Type::kFloat) ? 0 : value.integer();
        if (value.is(Type::kFloat)) {
          if (!std::isfinite(value.real()) || std::fabs(value.real()) >= 0x1p126) {
            return context_->Fail("cannot convert this float to integer");
          }
          number = static_cast<Int>(value.real());
        }
        PutInt(spec, number, value.input(), &out_);
        return true;
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (value.undefined()) return FailUndefined(context_, value);
        if (!value.number()) {
          return context_->Fail(std::string("must be real number, not ") + TypeName(value));
        }
        spec.type = type;
        if (spec.precision < 0) spec.precision = 6;
        PutFloat(spec, value.AsDouble(), value.input(), &out_);
        return true;
      default:
        return context_->Fail(std::string("unsupported format character ") +
                              Quote(std::string(1, type)));
    }
  }

  bool PutString(char type, Spec spec, const Value& value) {
    Builder builder(context_);
    if (type == 's' ? !ToText(context_, value, &builder) : !ToRepr(context_, value, &builder)) {
      return false;
    }
    Value text;
    const bool was_safe = type == 's' && value.string() && value.str().safe;
    if (!builder.Finish(&text, was_safe)) return false;
    if (format_.safe && !Escape(context_, text, &text)) return false;
    if (spec.align == 0) spec.align = '>';
    PutText(spec, text.str(), &out_);
    return true;
  }

  bool PutChar(Spec spec, const Value& value) {
    Value text;
    if (value.is(Type::kInt) || value.is(Type::kBool)) {
      const Int c = value.integer();
      if (c < 0 || c > 0x10FFFF) return context_->Fail("%c arg not in range(0x110000)");
      Builder builder(context_);
      builder.Char(static_cast<char32_t>(c), value.input());
      if (!builder.Finish(&text)) return false;
    } else if (value.string() && value.str().length == 1) {
      text = value;
    } else {
      return context_->Fail("%c requires int or char");
    }
    if (spec.align == 0) spec.align = '>';
    spec.precision = -1;
    PutText(spec, text.str(), &out_);
    return true;
  }

  Context* context_;
  const Str& format_;
  const Value& arguments_;
  Builder out_;
  bool keyed_;
  size_t at_ = 0;
  size_t used_ = 0;
};

// --- "{}".format(x) ---

class BraceFormatter {
 public:
  BraceFormatter(Context* context, const Str& format, const Arguments& arguments)
      : context_(context), format_(format), arguments_(arguments) {}

  bool Run(Value* result) {
    Builder out(context_);
    return Walk(0, format_.bytes.size(), 2, &out) && out.Finish(result, format_.safe);
  }

 private:
  // Formats format_[begin, end); a spec may hold fields itself, one level deep.
  bool Walk(size_t begin, size_t end, int levels, Builder* out) {
    if (levels == 0) return context_->Fail("Max string recursion exceeded");
    const std::string& bytes = format_.bytes;
    for (size_t at = begin; at < end;) {
      const char c = bytes[at];
      if (c == '}') {
        if (at + 1 >= end || bytes[at + 1] != '}') {
          return context_->Fail("Single '}' encountered in format string");
        }
        out->Append(format_, at, at + 1);
        at += 2;
      } else if (c == '{' && at + 1 < end && bytes[at + 1] == '{') {
        out->Append(format_, at, at + 1);
        at += 2;
      } else if (c == '{') {
        int nesting = 1;
        size_t close = at + 1;
        for (; close < end; ++close) {
          if (bytes[close] == '{') ++nesting;
          if (bytes[close] == '}' && --nesting == 0) break;
        }
        if (nesting != 0) return context_->Fail("expected '}' before end of string");
        if (!Field(at + 1, close, levels, out)) return false;
        at = close + 1;
      } else {
        const size_t next = std::min(bytes.find_first_of("{}", at), end);
        out->Append(format_, at, next);
        at = next;
      }
    }
    return true;
  }

  bool Field(size_t begin, size_t end, int levels, Builder* out) {
    const std::string& bytes = format_.bytes;
    size_t at = begin;
    for (int bracket = 0; at < end; ++at) {
      if (bytes[at] == '[') ++bracket;
      if (bytes[at] == ']') bracket = 0;
      if (bracket == 0 && (bytes[at] == '!' || bytes[at] == ':')) break;
    }
    Value value;
    if (!Lookup(std::string_view(bytes).substr(begin, at - begin), &value)) return false;
    if (at < end && bytes[at] == '!') {
      if (at + 1 >= end || (at + 2 < end && bytes[at + 2] != ':')) {
        return context_->Fail("expected ':' after conversion specifier");
      }
      if (!Convert(bytes[at + 1], &value)) return false;
      at += 2;
    }
    Value spec;
    Builder spec_out(context_);
    if (at < end && !Walk(at + 1, end, levels - 1, &spec_out)) return false;
    if (!spec_out.Finish(&spec)) return false;
    return Put(value, spec.text(), out);
  }

  bool Convert(char kind, Value* value) {
    if (kind != 'r' && kind != 's' && kind != 'a') {
      return context_->Fail("unknown conversion specifier " + Quote(std::string(1, kind)));
    }
    Builder builder(context_);
    return (kind == 's' ? ToText(context_, *value, &builder)
                        : ToRepr(context_, *value, &builder)) &&
           builder.Finish(value);
  }

  bool Lookup(std::string_view path, Value* value) {
    const size_t name_end = std::min(path.find_first_of(".["), path.size());
    const std::string_view name = path.substr(0, name_end);
    int64_t index = -1;
    if (name.empty()) {
      if (automatic_ < 0) return FailNumbering();
      index = automatic_++;
    } else if (ParseInt64(name, &index)) {
      if (automatic_ > 0) return FailNumbering();
      automatic_ = -1;
    }
    if (name.empty() || index >= 0) {
      if (index >= static_cast<int64_t>(arguments_.positional.size())) {
        return context_->Fail("Replacement index " + std::to_string(index) +
                              " out of range for positional args tuple");
      }
      *value = arguments_.positional[index];
    } else {
      const auto found = std::find_if(arguments_.named.begin(), arguments_.named.end(),
                                      [&](const auto& pair) { return pair.first == name; });
      if (found == arguments_.named.end()) return context_->Fail("KeyError: " + Quote(name));
      *value = found->second;
    }
    return Follow(path.substr(name_end), value);
  }

  // ".attribute" and "[item]" behind the name.
  bool Follow(std::string_view rest, Value* value) {
    while (!rest.empty()) {
      const bool dot = rest[0] == '.';
      rest.remove_prefix(1);
      const size_t end = std::min(rest.find_first_of(dot ? ".[" : "]"), rest.size());
      if (!dot && end == rest.size()) return context_->Fail("Missing ']' in format string");
      const std::string_view part = rest.substr(0, end);
      if (part.empty()) return context_->Fail("Empty attribute in format string");
      rest.remove_prefix(dot ? end : end + 1);
      Value next;
      int64_t index = 0;
      if (dot) {
        if (!GetAttribute(context_, *value, part, &next)) return false;
      } else {
        const Value key = ParseInt64(part, &index) ? Value::OfInt(index) : context_->Text(part);
        if (!GetItem(context_, *value, key, &next)) return false;
      }
      *value = next;
    }
    return true;
  }

  bool FailNumbering() {
    return context_->Fail(
        "cannot switch between manual field specification and automatic field numbering");
  }

  bool ParseSpec(std::string_view text, Spec* spec) {
    size_t at = 0;
    const auto peek = [&] { return at < text.size() ? text[at] : '\0'; };
    const auto aligns = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
    if (!text.empty()) {
      const int first = DecodeUtf8(text, 0).bytes;
      if (static_cast<size_t>(first) < text.size() && aligns(text[first])) {
        spec->fill = text.substr(0, first);
        spec->align = text[first];
        at = first + 1;
      } else if (aligns(text[0])) {
        spec->align = text[0];
        at = 1;
      }
    }
    if (peek() == '+' || peek() == '-' || peek() == ' ') spec->sign = text[at++];
    if (peek() == '#') {
      spec->alternate = true;
      ++at;
    }
    if (peek() == '0') {
      spec->zero = true;
      ++at;
    }
    const auto number = [&](int64_t* out) {
      for (*out = 0; peek() >= '0' && peek() <= '9'; ++at) {
        *out = *out * 10 + (peek() - '0');
        if (*out > kFieldMax) return false;
      }
      return true;
    };
    if (!number(&spec->width)) return FailWidth();
    if (peek() == ',' || peek() == '_') spec->grouping = text[at++];
    if (peek() == '.') {
      ++at;
      if (peek() < '0' || peek() > '9') return context_->Fail("Format specifier missing precision");
      if (!number(&spec->precision)) return FailWidth();
    }
    if (at < text.size()) spec->type = text[at++];
    if (at < text.size()) return context_->Fail("Invalid format specifier");
    return true;
  }

  bool FailWidth() {
    return context_->Fail("a field of a format is too wide", Failure::kLimit);
  }

  bool FailType(const Spec& spec, const Value& value) {
    return context_->Fail(std::string("Unknown format code '") + spec.type +
                          "' for object of type '" + TypeName(value) + "'");
  }

  bool Put(const Value& value, std::string_view text, Builder* out) {
    Spec spec;
    if (!ParseSpec(text, &spec)) return false;
    const bool plain = text.empty();
    if (value.number() && !plain && !(value.is(Type::kBool) && spec.type == 's')) {
      return PutSpecNumber(spec, value, out);
    }
    if (!plain && !value.string() && !value.is(Type::kBool)) {
      return context_->Fail(std::string("unsupported format string passed to ") +
                            TypeName(value) + ".__format__");
    }
    if (spec.type != 0 && spec.type != 's') return FailType(spec, value);
    Builder builder(context_);
    Value string;
    const bool was_safe = value.string() && value.str().safe;
    if (!ToText(context_, value, &builder) || !builder.Finish(&string, was_safe)) return false;
    if (spec.zero && spec.align == 0) spec.fill = "0";
    if (spec.align == '=') {
      return context_->Fail("'=' alignment not allowed in string format specifier");
    }
    if (format_.safe && !Escape(context_, string, &string)) return false;
    PutText(spec, string.str(), out);
    return true;
  }

  bool PutSpecNumber(Spec spec, const Value& value, Builder* out) {
    static constexpr std::string_view kIntTypes = "bdoxXn";
    static constexpr std::string_view kFloatTypes = "eEfFgG%n";
    const bool integral = !value.is(Type::kFloat);
    if (integral && spec.type == 'c') {
      if (value.integer() < 0 || value.integer() > 0x10FFFF) {
        return context_->Fail("%c arg not in range(0x110000)");
      }
      Builder one(context_);
      one.Char(static_cast<char32_t>(value.integer()), value.input());
      Value text;
      if (!one.Finish(&text)) return false;
      PutText(spec, text.str(), out);
      return true;
    }
    if (integral && (spec.type == 0 || kIntTypes.find(spec.type) != kIntTypes.npos)) {
      if (spec.precision >= 0) {
        return context_->Fail("Precision not allowed in integer format specifier");
      }
      PutInt(spec, value.integer(), value.input(), out);
      return true;
    }
    if (spec.type != 0 && kFloatTypes.find(spec.type) == kFloatTypes.npos) {
      return FailType(spec, value);
    }
    PutFloat(spec, value.AsDouble(), value.input(), out);
    return true;
  }

  Context* context_;
  const Str& format_;
  const Arguments& arguments_;
  int64_t automatic_ = 0;  // next number; -1 once numbers are written out
};

}  // namespace

bool PercentFormat(Context* context, const Str& format, const Value& arguments, Value* result) {
  return context->Step(format.bytes.size()) &&
         PercentFormatter(context, format, arguments).Run(result);
}

bool BraceFormat(Context* context, const Str& format, const Arguments& arguments,
                 Value* result) {
  return context->Step(format.bytes.size()) &&
         BraceFormatter(context, format, arguments).Run(result);
}

}  // namespace lode::text::jinja
