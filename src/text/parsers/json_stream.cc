#include "text/parsers/json_stream.h"

#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "base/text.h"
#include "text/parsers/argument_value.h"
#include "text/parsers/lookahead.h"

namespace lode::text {
namespace {

bool IsWordByte(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '-' || c == '.' ||
         c == '_';
}

// Strict JSON for a word that stands where a value should.
std::string WordToJson(const std::string& word) {
  if (std::optional<std::string> json = CompactJson(word)) return *std::move(json);
  if (std::optional<std::string> python = CompactPython(word)) return *std::move(python);
  return QuoteJson(word);
}

constexpr char kReplacementEscape[] = "\\ufffd";

}  // namespace

JsonStream::Status JsonStream::Push(std::string_view text, std::string* out, size_t* consumed) {
  size_t at = 0;
  while (at < text.size()) {
    if (state_ == State::kString && !key_ && high_ == 0) {  // the plain run of a string at once
      const size_t start = at;
      while (at < text.size() && text[at] != quote_ && text[at] != '"' && text[at] != '\\' &&
             static_cast<unsigned char>(text[at]) >= 0x20) {
        ++at;
      }
      out->append(text.substr(start, at - start));
      if (at == text.size()) break;
    }
    bool again = false;
    if (!Step(text[at], out, &again) || pending_bytes() > kWordBytesMax + 2) {
      *consumed = at;
      return Status::kBroken;
    }
    if (!again) ++at;
    if (done_) {
      *consumed = at;
      return Status::kDone;
    }
  }
  *consumed = at;
  return Status::kMore;
}

bool JsonStream::Close(std::string* out) {
  if (done_) return true;
  const bool whole = state_ == State::kWord && stack_.empty();
  if (whole) {
    EndWord(out);
    return true;
  }
  const bool in_string =
      state_ == State::kString || state_ == State::kEscape || state_ == State::kHex;
  if (in_string && !key_) {
    Lone(out);
    *out += '"';
  }
  while (!stack_.empty()) {
    *out += stack_.back() == '{' ? '}' : ']';
    stack_.pop_back();
  }
  pending_.clear();
  word_.clear();
  done_ = true;
  return false;
}

bool JsonStream::Step(char c, std::string* out, bool* again) {
  switch (state_) {
    case State::kString:
      return StringByte(c, out, again);
    case State::kEscape:
      return EscapeByte(c, out);
    case State::kHex:
      return HexByte(c, out, again);
    case State::kWord:
      if (IsWordByte(c)) {
        word_ += c;
        return true;
      }
      EndWord(out);
      *again = true;
      return true;
    case State::kValue:
    case State::kValueOrEnd:
    case State::kKeyOrEnd:
    case State::kColon:
    case State::kAfter:
      break;
  }
  if (IsSpace(c)) return true;
  if (c == ']' || c == '}') return CloseContainer(c, out);
  if (state_ == State::kColon) {
    pending_ += ':';
    state_ = State::kValue;
    return c == ':';
  }
  if (state_ == State::kAfter) {
    pending_.assign(1, ',');
    state_ = stack_.back() == '{' ? State::kKeyOrEnd : State::kValueOrEnd;
    return c == ',';
  }
  if (state_ == State::kKeyOrEnd) {
    if (c != '"' && c != '\'') return false;
    key_ = true;
    quote_ = c;
    pending_ += '"';
    state_ = State::kString;
    return true;
  }
  return BeginValue(c, out);
}

bool JsonStream::BeginValue(char c, std::string* out) {
  if (c == '{' || c == '[') {
    if (stack_.size() >= static_cast<size_t>(kArgumentDepthMax)) return false;
    Commit(std::string_view(&c, 1), out);
    stack_ += c;
    state_ = c == '{' ? State::kKeyOrEnd : State::kValueOrEnd;
    return true;
  }
  if (c == '"' || c == '\'') {
    key_ = false;
    quote_ = c;
    Commit("\"", out);
    state_ = State::kString;
    return true;
  }
  if (!IsWordByte(c)) return false;
  word_ = c;
  state_ = State::kWord;
  return true;
}

bool JsonStream::CloseContainer(char c, std::string* out) {
  const bool object = c == '}';
  if (stack_.empty() || (stack_.back() == '{') != object) return false;
  const State empty = object ? State::kKeyOrEnd : State::kValueOrEnd;
  if (state_ != State::kAfter && state_ != empty) return false;
  pending_.clear();  // a comma before the end
  *out += c;
  stack_.pop_back();
  EndValue();
  return true;
}

bool JsonStream::StringByte(char c, std::string* out, bool* again) {
  if (high_ != 0 && c != '\\') {
    Lone(out);
    *again = true;
    return true;
  }
  std::string& sink = key_ ? pending_ : *out;
  if (c == '\\') {
    state_ = State::kEscape;
  } else if (c == quote_) {
    sink += '"';
    if (key_) {
      state_ = State::kColon;
    } else {
      EndValue();
    }
  } else {
    if (key_ && static_cast<unsigned char>(c) < 0x20) return false;  // a key ends on its line
    AppendEscaped(std::string_view(&c, 1), &sink);
  }
  return true;
}

bool JsonStream::EscapeByte(char c, std::string* out) {
  if (c == 'u') {
    word_.clear();
    state_ = State::kHex;
    return true;
  }
  Lone(out);
  std::string& sink = key_ ? pending_ : *out;
  state_ = State::kString;
  if (std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos) {
    sink += '\\';
    sink += c;
    return true;
  }
  if (c == '\'') {
    sink += c;
    return true;
  }
  sink += "\\\\";  // no escape of JSON's: the backslash was meant as one
  AppendEscaped(std::string_view(&c, 1), &sink);
  return true;
}

bool JsonStream::HexByte(char c, std::string* out, bool* again) {
  std::string& sink = key_ ? pending_ : *out;
  if (std::isxdigit(static_cast<unsigned char>(c)) == 0) {
    Lone(out);
    sink += "\\\\u" + word_;
    word_.clear();
    state_ = State::kString;
    *again = true;
    return true;
  }
  word_ += c;
  if (word_.size() < 4) return true;
  const uint32_t unit = static_cast<uint32_t>(std::strtoul(word_.c_str(), nullptr, 16));
  const bool low = unit >= 0xDC00 && unit <= 0xDFFF;
  state_ = State::kString;
  if (low && high_ != 0) {
    sink += Format("\\u%04x\\u%04x", high_, unit);
    high_ = 0;
  } else {
    Lone(out);
    if (unit >= 0xD800 && unit <= 0xDBFF) {
      high_ = unit;
    } else {
      sink += low ? std::string(kReplacementEscape) : "\\u" + word_;
    }
  }
  word_.clear();
  return true;
}

void JsonStream::EndWord(std::string* out) {
  Commit(WordToJson(word_), out);
  word_.clear();
  EndValue();
}

void JsonStream::Commit(std::string_view text, std::string* out) {
  *out += pending_;
  *out += text;
  pending_.clear();
  begun_ = true;
}

void JsonStream::Lone(std::string* out) {
  if (high_ == 0) return;
  (key_ ? pending_ : *out) += kReplacementEscape;
  high_ = 0;
}

void JsonStream::EndValue() {
  state_ = State::kAfter;
  done_ = stack_.empty();
}

}  // namespace lode::text
