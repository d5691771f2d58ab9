#include "text/template/lexer.h"

#include <algorithm>
#include <charconv>
#include <cctype>
#include <cstdlib>
#include <memory>

#include "base/text.h"
#include "base/utf8.h"
#include "text/template/unicode.h"

namespace lode::text::jinja {
namespace {

constexpr size_t kNone = std::string_view::npos;

bool IsDigitByte(char c) { return c >= '0' && c <= '9'; }

// Newlines become \n, and one at the very end goes.
std::string Normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  Result<std::vector<Token>> Run() {
    while (at_ < source_.size()) {
      const size_t begin = FindTag(at_);
      if (begin == kNone) {
        AddText(at_, source_.size());
        at_ = source_.size();
        break;
      }
      if (!Tag(begin)) return *error_;
    }
    Add(TokenKind::kEnd, source_.size());
    return std::move(tokens_);
  }

 private:
  bool Fail(size_t at, std::string message) {
    CountLines(at);
    error_ = std::make_unique<Error>(Code::kBadInput,
                                     "template line " + std::to_string(line_) + ": " + message);
    return false;
  }

  // Lines are counted as the lexer moves on; `at` never goes back.
  void CountLines(size_t at) {
    for (; counted_ < at && counted_ < source_.size(); ++counted_) {
      line_ += source_[counted_] == '\n';
    }
  }

  Token& Add(TokenKind kind, size_t at) {
    CountLines(at);
    Token token;
    token.kind = kind;
    token.line = line_;
    tokens_.push_back(std::move(token));
    return tokens_.back();
  }

  void AddText(size_t begin, size_t end) {
    if (begin < end) Add(TokenKind::kText, begin).text = source_.substr(begin, end - begin);
  }

  char At(size_t i) const { return i < source_.size() ? source_[i] : '\0'; }
  bool Has(size_t i, std::string_view text) const {
    return source_.compare(i, text.size(), text) == 0;
  }

  size_t FindTag(size_t from) const {
    for (size_t at = source_.find('{', from); at != kNone; at = source_.find('{', at + 1)) {
      const char next = At(at + 1);
      if (next == '{' || next == '%' || next == '#') return at;
    }
    return kNone;
  }

  size_t SkipSpace(size_t at) const {
    while (at < source_.size()) {
      const DecodedChar c = DecodeUtf8(source_, at);
      if (!IsSpace(c.code_point)) break;
      at += c.bytes;
    }
    return at;
  }

  // Removes white space before a tag that begins at `end`, as its sign says: '-' all of it; else
  // blanks of the tag's own line, unless '+' or the tag is an output.
  size_t StripBefore(size_t begin, size_t end, char sign, bool output) const {
    const std::string_view text(source_.data() + begin, end - begin);
    if (sign == '-') {
      size_t keep = text.size();
      while (keep > 0) {
        size_t last = keep - 1;
        while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
        if (!IsSpace(DecodeUtf8(text, last).code_point)) break;
        keep = last;
      }
      return begin + keep;
    }
    if (sign == '+' || output) return end;
    const size_t newline = text.rfind('\n');
    const size_t line_begin = newline == kNone ? 0 : newline + 1;
    if (newline == kNone && !line_starting_) return end;
    if (SkipSpace(begin + line_begin) < end) return end;
    return begin + line_begin;
  }

  // Moves behind the end of a tag that was closed at `at` (after its "%}").
  size_t TrimNewline(size_t at) const { return At(at) == '\n' ? at + 1 : at; }

  void Arrive(size_t at) {
    at_ = at;
    line_starting_ = at > 0 && source_[at - 1] == '\n';
  }

  bool Tag(size_t begin) {
    const char kind = source_[begin + 1];
    size_t raw_end = 0;
    const char sign_char = At(begin + 2);
    const char sign = sign_char == '-' || sign_char == '+' ? sign_char : '\0';
    AddText(at_, StripBefore(at_, begin, sign, kind == '{'));
    const size_t inside = begin + 2 + (sign != '\0');
    if (kind == '#') return Comment(begin, inside);
    if (kind == '%' && IsRaw(inside, &raw_end)) return Raw(begin, raw_end);
    Add(kind == '{' ? TokenKind::kOutputBegin : TokenKind::kBlockBegin, begin);
    Arrive(inside);
    return Inside(kind == '{');
  }

  bool Comment(size_t begin, size_t inside) {
    for (size_t at = inside;; ++at) {
      at = source_.find('#', at);
      if (at == kNone) return Fail(begin, "the comment has no end");
      if (At(at + 1) != '}') continue;
      // The sign before "#}" must lie inside the comment.
      const char sign = at > inside ? source_[at - 1] : '\0';
      if (sign == '-') {
        Arrive(SkipSpace(at + 2));
      } else {
        Arrive(sign == '+' ? at + 2 : TrimNewline(at + 2));
      }
      return true;
    }
  }

  // "{% raw %}": at the word; *end is behind the tag.
  bool IsRaw(size_t at, size_t* end) const {
    at = SkipSpace(at);
    if (!Has(at, "raw")) return false;
    at = SkipSpace(at + 3);
    if (Has(at, "-%}")) {
      *end = SkipSpace(at + 3);
      return true;
    }
    *end = at + 2;
    return Has(at, "%}");
  }

  bool Raw(size_t begin, size_t inside) {
    Arrive(inside);
    for (size_t at = source_.find("{%", inside); at != kNone; at = source_.find("{%", at + 1)) {
      // A sign directly before a second tag opener cannot be: each "{%" is tried on its own.
      const char sign_char = At(at + 2);
      const char sign = sign_char == '-' || sign_char == '+' ? sign_char : '\0';
      size_t word = SkipSpace(at + 2 + (sign != '\0'));
      if (!Has(word, "endraw")) continue;
      word = SkipSpace(word + 6);
      size_t end = 0;
      if (Has(word, "-%}")) {
        end = SkipSpace(word + 3);
      } else if (Has(word, "+%}")) {
        end = word + 3;
      } else if (Has(word, "%}")) {
        end = TrimNewline(word + 2);
      } else {
        continue;
      }
      AddText(inside, StripBefore(inside, at, sign, false));
      Arrive(end);
      return true;
    }
    return Fail(begin, "the raw block has no end");
  }

  // The tokens of one tag, its end included.
  bool Inside(bool output) {
    std::string open;  // brackets that wait for their partner
    while (true) {
      if (at_ >= source_.size()) return true;  // the parser says what is missing
      if (open.empty() && Close(output)) return true;
      const DecodedChar c = DecodeUtf8(source_, at_);
      if (IsSpace(c.code_point)) {
        at_ += c.bytes;
      } else if (IsDigitByte(source_[at_])) {
        if (!Number()) return false;
      } else if (c.code_point == '_' || IsWord(c.code_point)) {
        if (!Name()) return false;
      } else if (source_[at_] == '\'' || source_[at_] == '"') {
        if (!String()) return false;
      } else if (!Operator(&open)) {
        return false;
      }
    }
  }

  bool Close(bool output) {
    const size_t at = at_;
    if (output) {
      const bool strip = Has(at, "-}}");
      if (!strip && !Has(at, "}}")) return false;
      Add(TokenKind::kOutputEnd, at);
      Arrive(strip ? SkipSpace(at + 3) : at + 2);
      return true;
    }
    if (Has(at, "-%}")) {
      Add(TokenKind::kBlockEnd, at);
      Arrive(SkipSpace(at + 3));
    } else if (Has(at, "+%}")) {
      Add(TokenKind::kBlockEnd, at);
      Arrive(at + 3);
    } else if (Has(at, "%}")) {
      Add(TokenKind::kBlockEnd, at);
      Arrive(TrimNewline(at + 2));
    } else {
      return false;
    }
    return true;
  }

  // Digits with single underscores between them; returns the end, or `at` when there is none.
  size_t DigitRun(size_t at, bool (*digit)(char)) const {
    size_t end = at;
    while (digit(At(end)) || (At(end) == '_' && end > at && digit(At(end + 1)))) ++end;
    return end;
  }

  bool Number() {
    const size_t begin = at_;
    const size_t whole = DigitRun(begin, IsDigitByte);
    const bool after_dot = begin > 0 && source_[begin - 1] == '.';
    size_t fraction = whole;
    if (At(whole) == '.') {
      const size_t end = DigitRun(whole + 1, IsDigitByte);
      if (end > whole + 1) fraction = end;
    }
    size_t exponent = fraction;
    if ((At(fraction) | 0x20) == 'e') {
      const size_t sign = At(fraction + 1) == '+' || At(fraction + 1) == '-' ? 1 : 0;
      const size_t end = DigitRun(fraction + 1 + sign, IsDigitByte);
      if (end > fraction + 1 + sign) exponent = end;
    }
    if (exponent > whole && !after_dot) return FloatToken(begin, exponent);
    return IntegerToken(begin);
  }

  std::string Plain(size_t begin, size_t end) const {
    std::string text = source_.substr(begin, end - begin);
    text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
    return text;
  }

  bool FloatToken(size_t begin, size_t end) {
    const std::string text = Plain(begin, end);
    double value = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec == std::errc::result_out_of_range) value = std::strtod(text.c_str(), nullptr);
    Token& token = Add(TokenKind::kFloat, begin);
    token.text = text;
    token.real = value;
    at_ = end;
    return true;
  }

  bool IntegerToken(size_t begin) {
    const auto hex = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
    const auto octal = [](char c) { return c >= '0' && c <= '7'; };
    const auto binary = [](char c) { return c == '0' || c == '1'; };
    int base = 10;
    size_t digits = begin;
    size_t end = begin;
    const char mark = source_[begin] == '0' ? static_cast<char>(At(begin + 1) | 0x20) : '\0';
    if (mark == 'x' || mark == 'o' || mark == 'b') {
      // An underscore may follow the mark.
      digits = begin + 2 + (At(begin + 2) == '_');
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : 2;
      end = mark == 'x'   ? DigitRun(digits, hex)
            : mark == 'o' ? DigitRun(digits, octal)
                          : DigitRun(digits, binary);
    }
    if (end <= digits) {
      base = 10;
      digits = begin;
      // A number that begins with 0 consists of zeros.
      end = source_[begin] == '0' ? DigitRun(begin, [](char c) { return c == '0'; })
                                  : DigitRun(begin, IsDigitByte);
    }
    Int value = 0;
    for (const char c : Plain(digits, end)) {
      const int digit = IsDigitByte(c) ? c - '0' : (c | 0x20) - 'a' + 10;
      if (__builtin_mul_overflow(value, static_cast<Int>(base), &value) ||
          __builtin_add_overflow(value, static_cast<Int>(digit), &value)) {
        return Fail(begin, "the number is too large");
      }
    }
    Token& token = Add(TokenKind::kInteger, begin);
    token.text = source_.substr(begin, std::min<size_t>(end - begin, 40));
    token.integer = value;
    at_ = end;
    return true;
  }

  bool Name() {
    const size_t begin = at_;
    bool good = IsIdentifierStart(DecodeUtf8(source_, begin).code_point);
    while (at_ < source_.size()) {
      const DecodedChar c = DecodeUtf8(source_, at_);
      if (!IsWord(c.code_point) && !IsIdentifierPart(c.code_point)) break;
      good = good && IsIdentifierPart(c.code_point);
      at_ += c.bytes;
    }
    if (!good) return Fail(begin, "invalid character in a name");
    Add(TokenKind::kName, begin).text = source_.substr(begin, at_ - begin);
    return true;
  }

  bool String() {
    const size_t begin = at_;
    const char quote = source_[begin];
    std::string value;
    for (size_t at = begin + 1; at < source_.size();) {
      const char c = source_[at];
      if (c == quote) {
        Add(TokenKind::kString, begin).text = std::move(value);
        at_ = at + 1;
        return true;
      }
      if (c != '\\') {
        value += c;
        ++at;
      } else if (!Unescape(begin, &at, &value)) {
        return false;
      }
    }
    return Fail(begin, "unexpected char " + Quote(std::string(1, quote)) +
                           " (a string that does not end)");
  }

  // One escape of Python's string literals, at the backslash.
  bool Unescape(size_t begin, size_t* at, std::string* value) {
    if (*at + 1 >= source_.size()) {
      *at += 1;
      return true;  // the missing quote is reported
    }
    const char c = source_[*at + 1];
    static constexpr std::string_view kLetters = "\\'\"abfnrtv";
    static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    const size_t letter = kLetters.find(c);
    if (letter != kNone) {
      *value += kMeanings[letter];
      *at += 2;
    } else if (c == '\n') {
      *at += 2;  // a continued line
    } else if (c >= '0' && c <= '7') {
      char32_t code = 0;
      *at += 1;
      for (int i = 0; i < 3 && At(*at) >= '0' && At(*at) <= '7'; ++i) {
        code = code * 8 + static_cast<char32_t>(source_[(*at)++] - '0');
      }
      AppendUtf8(code, value);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      return UnescapeHex(begin, c == 'x' ? 2 : c == 'u' ? 4 : 8, at, value);
    } else if (c == 'N') {
      return Fail(begin, "character names (\\N{...}) are not supported; write \\u or \\U");
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      // Python reads the character after the backslash as its own escape: it stays spelled out.
      const DecodedChar next = DecodeUtf8(source_, *at + 1);
      const auto code = static_cast<unsigned>(next.code_point);
      *value += code < 0x100     ? Format("\\x%02x", code)
                : code < 0x10000 ? Format("\\u%04x", code)
                                 : Format("\\U%08x", code);
      *at += 1 + next.bytes;
    } else {
      *value += '\\';
      *value += c;
      *at += 2;
    }
    return true;
  }

  bool UnescapeHex(size_t begin, int digits, size_t* at, std::string* value) {
    char32_t code = 0;
    *at += 2;
    for (int i = 0; i < digits; ++i) {
      const char c = At(*at);
      if (!std::isxdigit(static_cast<unsigned char>(c))) {
        return Fail(begin, "a string has an unfinished \\x, \\u or \\U escape");
      }
      code = code * 16 + static_cast<char32_t>(IsDigitByte(c) ? c - '0' : (c | 0x20) - 'a' + 10);
      ++*at;
    }
    if (code > 0x10FFFF) return Fail(begin, "illegal Unicode character in a string");
    if (code >= 0xD800 && code < 0xE000) code = kReplacementCharacter;
    AppendUtf8(code, value);
    return true;
  }

  bool Operator(std::string* open) {
    static constexpr std::string_view kPairs[] = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kSingles = "+-/*%~[](){}><=.:|,;";
    std::string_view op;
    for (const auto pair : kPairs) {
      if (Has(at_, pair)) op = pair;
    }
    if (op.empty()) {
      const size_t index = kSingles.find(source_[at_]);
      if (index == kNone) {
        const DecodedChar c = DecodeUtf8(source_, at_);
        return Fail(at_, "unexpected char " + Quote(source_.substr(at_, c.bytes)));
      }
      op = kSingles.substr(index, 1);
    }
    if (op == "(" || op == "[" || op == "{") {
      open->push_back(op == "(" ? ')' : op == "[" ? ']' : '}');
    } else if (op == ")" || op == "]" || op == "}") {
      if (open->empty()) return Fail(at_, "unexpected '" + std::string(op) + "'");
      const char expected = open->back();
      open->pop_back();
      if (expected != op[0]) {
        return Fail(at_, "unexpected '" + std::string(op) + "', expected '" + expected + "'");
      }
    }
    Add(TokenKind::kOperator, at_).text = op;
    at_ += op.size();
    return true;
  }

  std::string source_;
  size_t at_ = 0;
  bool line_starting_ = true;
  size_t counted_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
  std::unique_ptr<Error> error_;
};

}  // namespace

Result<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(Normalize(source)).Run();
}

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kText:
      return "template data / text";
    case TokenKind::kOutputBegin:
      return "begin of print statement";
    case TokenKind::kOutputEnd:
      return "end of print statement";
    case TokenKind::kBlockBegin:
      return "begin of statement block";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kString:
      return "string";
    case TokenKind::kInteger:
      return "integer";
    case TokenKind::kFloat:
      return "float";
    case TokenKind::kEnd:
      return "end of template";
    case TokenKind::kName:
    case TokenKind::kOperator:
      break;
  }
  return token.text.substr(0, 80);
}

}  // namespace lode::text::jinja
