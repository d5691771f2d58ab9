#include "text/parsers/argument_value.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>

#include "base/json.h"
#include "base/utf8.h"
#include "text/parsers/lookahead.h"

namespace lode::text {
namespace {

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool EqualsIgnoringCase(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(text[i])) != lower[i]) return false;
  }
  return true;
}

// Whether a number in JSON's form is finite as a double: readers of JSON refuse others, 1e999 and
// integers of hundreds of digits.
bool IsFinite(std::string_view number) {
  return std::isfinite(std::strtod(std::string(number).c_str(), nullptr));
}

bool IsNull(std::string_view text) { return text == "null" || text == "None"; }

// One reader for JSON and for Python's literals: the two grammars differ in few places, and writing
// compact JSON while reading is the same work. Recursion is bounded by kArgumentDepthMax.
class LiteralReader {
 public:
  LiteralReader(std::string_view text, bool python) : text_(text), python_(python) {}

  std::optional<std::string> Read() {
    if (!Value(0)) return std::nullopt;
    SkipSpace();
    if (at_ != text_.size()) return std::nullopt;
    return std::move(out_);
  }

 private:
  bool More() const { return at_ < text_.size(); }
  char Here() const { return text_[at_]; }
  void SkipSpace() {
    while (More() && IsSpace(Here())) ++at_;
  }
  bool Take(char c) {
    if (!More() || Here() != c) return false;
    ++at_;
    return true;
  }
  bool Word(std::string_view word, std::string_view json) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    out_ += json;
    return true;
  }

  bool Value(int depth) {
    if (depth > kArgumentDepthMax) return false;
    SkipSpace();
    if (!More()) return false;
    const char c = Here();
    if (c == '{') return Object(depth);
    if (c == '[') return List(']', depth);
    if (c == '(' && python_) return List(')', depth);
    if (c == '"' || (c == '\'' && python_)) return String();
    if (c == '-' || IsDigit(c)) return Number();
    if (python_) {
      return Word("True", "true") || Word("False", "false") || Word("None", "null") ||
             Word("true", "true") || Word("false", "false") || Word("null", "null");
    }
    return Word("true", "true") || Word("false", "false") || Word("null", "null");
  }

  bool Object(int depth) {
    ++at_;
    out_ += '{';
    for (bool first = true;; first = false) {
      SkipSpace();
      if ((first || python_) && Take('}')) break;  // Python allows a comma before the end
      if (!first) out_ += ',';
      if (!Key()) return false;
      SkipSpace();
      if (!Take(':')) return false;
      out_ += ':';
      if (!Value(depth + 1)) return false;
      SkipSpace();
      if (Take(',')) continue;
      if (Take('}')) break;
      return false;
    }
    out_ += '}';
    return true;
  }

  // JSON's keys are strings; of Python's other keys only plain words and numbers are taken, quoted.
  bool Key() {
    if (!More()) return false;
    if (Here() == '"' || (Here() == '\'' && python_)) return String();
    if (!python_) return false;
    const size_t start = at_;
    while (More() && (std::isalnum(static_cast<unsigned char>(Here())) != 0 || Here() == '_'))
      ++at_;
    if (at_ == start) return false;
    out_ += QuoteJson(text_.substr(start, at_ - start));
    return true;
  }

  bool List(char close, int depth) {
    ++at_;
    out_ += '[';
    for (bool first = true;; first = false) {
      SkipSpace();
      if ((first || python_) && Take(close)) break;
      if (!first) out_ += ',';
      if (!Value(depth + 1)) return false;
      SkipSpace();
      if (Take(',')) continue;
      if (Take(close)) break;
      return false;
    }
    out_ += ']';
    return true;
  }

  bool Number() {
    const size_t start = at_;
    Take('-');
    if (!More() || !IsDigit(Here())) return false;
    if (!Take('0')) {
      while (More() && IsDigit(Here())) ++at_;
    }
    if (Take('.')) {
      if (!More() || !IsDigit(Here())) return false;
      while (More() && IsDigit(Here())) ++at_;
    }
    if (More() && (Here() == 'e' || Here() == 'E')) {
      ++at_;
      if (More() && (Here() == '+' || Here() == '-')) ++at_;
      if (!More() || !IsDigit(Here())) return false;
      while (More() && IsDigit(Here())) ++at_;
    }
    const std::string_view number = text_.substr(start, at_ - start);
    if (!IsFinite(number)) return false;
    out_ += number;
    return true;
  }

  bool String() {
    const char quote = Here();
    ++at_;
    out_ += '"';
    while (More() && Here() != quote) {
      const char c = Here();
      if (c == '\\') {
        if (!Escape()) return false;
        continue;
      }
      // JSON wants these escaped, models forget it in long texts: taken in the tolerant mode only.
      if (static_cast<unsigned char>(c) < 0x20 && !python_) return false;
      AppendEscaped(text_.substr(at_, 1), &out_);
      ++at_;
    }
    out_ += '"';
    return Take(quote);
  }

  bool Hex(int digits, char32_t* value) {
    *value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      if (!More() || std::isxdigit(static_cast<unsigned char>(Here())) == 0) return false;
      const char c = static_cast<char>(std::tolower(static_cast<unsigned char>(Here())));
      *value = *value * 16 + static_cast<char32_t>(IsDigit(c) ? c - '0' : c - 'a' + 10);
    }
    return true;
  }

  void AppendCodePoint(char32_t code_point) {
    std::string bytes;
    const bool valid = code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF);
    AppendUtf8(valid ? code_point : kReplacementCharacter, &bytes);
    AppendEscaped(bytes, &out_);
  }

  bool Escape() {
    ++at_;
    if (!More()) return false;
    const char c = Here();
    ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        AppendEscaped(std::string_view(&c, 1), &out_);
        return true;
      case 'b':
        out_ += "\\b";
        return true;
      case 'f':
        out_ += "\\f";
        return true;
      case 'n':
        out_ += "\\n";
        return true;
      case 'r':
        out_ += "\\r";
        return true;
      case 't':
        out_ += "\\t";
        return true;
      case 'u':
        return EscapeUtf16();
      default:
        return python_ && EscapePython(c);
    }
  }

  bool EscapeUtf16() {
    char32_t unit = 0;
    if (!Hex(4, &unit)) return false;
    if (unit >= 0xD800 && unit < 0xDC00 && text_.substr(at_, 2) == "\\u") {
      const size_t back = at_;
      at_ += 2;
      char32_t low = 0;
      if (!Hex(4, &low)) return false;
      if (low >= 0xDC00 && low <= 0xDFFF) {
        unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
      } else {
        at_ = back;  // a lone half; the second one is read on its own
      }
    }
    AppendCodePoint(unit);
    return true;
  }

  bool EscapePython(char c) {
    char32_t code_point = 0;
    if (c == 'x' || c == 'U') {
      if (!Hex(c == 'x' ? 2 : 8, &code_point)) return false;
      AppendCodePoint(code_point);
    } else if (c == '\'') {
      out_ += '\'';
    } else if (c != '\n') {  // a backslash before a newline joins the lines
      out_ += "\\\\";        // an unknown escape stands for itself
      AppendEscaped(std::string_view(&c, 1), &out_);
    }
    return true;
  }

  std::string_view text_;
  const bool python_;
  size_t at_ = 0;
  std::string out_;
};

// The number in `text` as JSON writes it, or nothing. Accepts what Python would.
std::optional<std::string> NormalizeNumber(std::string_view text) {
  std::string out;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    if (text[0] == '-') out += '-';
    text.remove_prefix(1);
  }
  const auto digits = [&](std::string* to) {
    size_t count = 0;
    while (!text.empty()) {
      const bool separator = text[0] == '_' && count > 0 && text.size() > 1 && IsDigit(text[1]);
      if (!separator && !IsDigit(text[0])) break;
      if (!separator) *to += text[0];
      text.remove_prefix(1);
      ++count;
    }
  };
  std::string whole;
  digits(&whole);
  std::string fraction;
  if (!text.empty() && text[0] == '.') {
    text.remove_prefix(1);
    digits(&fraction);
    if (whole.empty() && fraction.empty()) return std::nullopt;
    if (fraction.empty()) fraction = "0";
  }
  if (whole.empty() && fraction.empty()) return std::nullopt;
  whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
  out += whole.empty() ? "0" : whole;
  if (!fraction.empty()) out += "." + fraction;
  if (!text.empty() && (text[0] == 'e' || text[0] == 'E')) {
    text.remove_prefix(1);
    out += 'e';
    if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
      out += text[0];
      text.remove_prefix(1);
    }
    std::string exponent;
    digits(&exponent);
    if (exponent.empty()) return std::nullopt;
    out += exponent;
  }
  if (!text.empty() || !IsFinite(out)) return std::nullopt;
  return out;
}

std::optional<std::string> ConvertInteger(std::string_view text) {
  std::optional<std::string> number = NormalizeNumber(text);
  if (!number.has_value()) return std::nullopt;
  // 3.0 is the integer 3; 3.5 stays what it is.
  const size_t point = number->find('.');
  if (point != std::string::npos &&
      number->find_first_not_of('0', point + 1) == std::string::npos) {
    number->resize(point);
  }
  return number;
}

std::optional<std::string> ConvertContainer(std::string_view text) {
  const auto is_container = [](const std::optional<std::string>& json) {
    return json.has_value() && ((*json)[0] == '{' || (*json)[0] == '[');
  };
  std::optional<std::string> json = CompactJson(text);
  if (is_container(json)) return json;
  if (std::optional<std::string> python = CompactPython(text); is_container(python)) return python;
  if (json.has_value() && (*json)[0] == '"') {  // encoded twice
    const Result<Json> inner = ParseJson(*json);
    if (inner.ok() && inner->is_string()) {
      const std::string& inside = inner->get_ref<const std::string&>();
      if (auto once = CompactJson(Trim(inside)); is_container(once)) return once;
      if (auto once = CompactPython(Trim(inside)); is_container(once)) return once;
    }
    return std::nullopt;
  }
  return json;  // a scalar where a container should be: still what the model said
}

}  // namespace

std::string ConvertArgument(std::string_view text, const ParameterType& type) {
  const std::string_view trimmed = Trim(text);
  const bool string = type.kind == ValueKind::kString;
  if (IsNull(string ? text : trimmed) && (!string || type.nullable)) return "null";
  std::optional<std::string> json;
  switch (type.kind) {
    case ValueKind::kInteger:
      json = ConvertInteger(trimmed);
      break;
    case ValueKind::kNumber:
      json = NormalizeNumber(trimmed);
      break;
    case ValueKind::kBoolean:
      if (EqualsIgnoringCase(trimmed, "true")) json = "true";
      if (EqualsIgnoringCase(trimmed, "false")) json = "false";
      break;
    case ValueKind::kObject:
    case ValueKind::kArray:
      json = ConvertContainer(trimmed);
      break;
    case ValueKind::kString:
    case ValueKind::kNull:
      break;
  }
  return json.has_value() ? *std::move(json) : QuoteJson(text);
}

std::optional<std::string> CompactJson(std::string_view text) {
  return LiteralReader(text, /*python=*/false).Read();
}

std::optional<std::string> CompactPython(std::string_view text) {
  return LiteralReader(text, /*python=*/true).Read();
}

}  // namespace lode::text
