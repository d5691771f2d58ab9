#include "text/tokenizer/json_scan.h"

#include "base/text.h"
#include "base/utf8.h"

namespace lode::text {

Error JsonScanner::Bad(const char* what) const {
  return Error(Code::kBadInput, Format("not valid JSON at byte %zu: expected %s", at_, what));
}

void JsonScanner::SkipSpace() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' ||
                                text_[at_] == '\t')) {
    ++at_;
  }
}

char JsonScanner::Peek() {
  SkipSpace();
  return at_ < text_.size() ? text_[at_] : '\0';
}

Result<void> JsonScanner::Expect(char c) {
  if (Peek() != c || at_ == text_.size()) return Bad(Format("'%c'", c).c_str());
  ++at_;
  return {};
}

Result<void> JsonScanner::ExpectEnd() {
  SkipSpace();
  if (at_ != text_.size()) return Bad("the end");
  return {};
}

Result<bool> JsonScanner::NextKey(bool first, std::string* key) {
  if (Peek() == '}') {
    ++at_;
    return false;
  }
  if (!first) LODE_TRY(Expect(','));
  LODE_TRY(ReadString(key));
  LODE_TRY(Expect(':'));
  return true;
}

Result<bool> JsonScanner::NextElement(bool first) {
  if (Peek() == ']') {
    ++at_;
    return false;
  }
  if (!first) LODE_TRY(Expect(','));
  return true;
}

Result<uint32_t> JsonScanner::ReadHex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return Bad("four hexadecimal digits");
    value = value << 4 | static_cast<uint32_t>(digit);
  }
  return value;
}

Result<void> JsonScanner::ReadString(std::string* out) {
  LODE_TRY(Expect('"'));
  out->clear();
  bool ascii = true;
  while (true) {
    size_t end = at_;
    while (end < text_.size() && text_[end] != '"' && text_[end] != '\\' &&
           static_cast<unsigned char>(text_[end]) >= 0x20) {
      ascii = ascii && static_cast<unsigned char>(text_[end]) < 0x80;
      ++end;
    }
    out->append(text_, at_, end - at_);
    at_ = end;
    if (at_ == text_.size() || static_cast<unsigned char>(text_[at_]) < 0x20) {
      return Bad("the end of a string");
    }
    if (text_[at_++] == '"') break;
    const char escape = at_ < text_.size() ? text_[at_++] : '\0';
    switch (escape) {
      case '"':
      case '\\':
      case '/':
        *out += escape;
        break;
      case 'b':
        *out += '\b';
        break;
      case 'f':
        *out += '\f';
        break;
      case 'n':
        *out += '\n';
        break;
      case 'r':
        *out += '\r';
        break;
      case 't':
        *out += '\t';
        break;
      case 'u': {
        LODE_ASSIGN(uint32_t c, ReadHex4());
        if (c >= 0xDC00 && c <= 0xDFFF) return Bad("a high surrogate");
        if (c >= 0xD800 && c <= 0xDBFF) {
          if (text_.substr(at_, 2) != "\\u") return Bad("a low surrogate");
          at_ += 2;
          LODE_ASSIGN(const uint32_t low, ReadHex4());
          if (low < 0xDC00 || low > 0xDFFF) return Bad("a low surrogate");
          c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        }
        AppendUtf8(c, out);
        break;
      }
      default:
        return Bad("an escape");
    }
  }
  if (!ascii && !IsValidUtf8(*out)) return Bad("valid UTF-8 before here");
  return {};
}

Result<int64_t> JsonScanner::ReadInteger() {
  SkipSpace();
  const size_t begin = at_;
  if (at_ < text_.size() && text_[at_] == '-') ++at_;
  while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
  int64_t value = 0;
  const std::string_view digits = text_.substr(begin, at_ - begin);
  const bool fraction = at_ < text_.size() &&
                        (text_[at_] == '.' || text_[at_] == 'e' || text_[at_] == 'E');
  if (fraction || digits.size() > 18 || !ParseInt64(digits, &value)) return Bad("an integer");
  return value;
}

Result<std::string_view> JsonScanner::ReadValue() {
  SkipSpace();
  const size_t begin = at_;
  size_t depth = 0;
  bool in_string = false;
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (in_string) {
      if (c == '\\') {
        ++at_;
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (depth == 0 && (c == ',' || c == '}' || c == ']')) break;
    if (c == '}' || c == ']') --depth;
  }
  if (at_ > text_.size()) at_ = text_.size();
  if (in_string || depth != 0 || at_ == begin) return Bad("a value");
  const size_t last = text_.find_last_not_of(" \n\r\t", at_ - 1);
  return text_.substr(begin, last + 1 - begin);
}

}  // namespace lode::text
