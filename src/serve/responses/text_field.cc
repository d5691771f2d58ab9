#include "serve/responses/text_field.h"

#include "base/json.h"

namespace lode::serve {
namespace {

constexpr size_t kUnit = 6;  // "\u1234"
constexpr const char* kReplacement = "\uFFFD";

bool IsHighSurrogate(std::string_view unit) {
  return (unit[2] | 32) == 'd' &&
         std::string_view("89abAB").find(unit[3]) != std::string_view::npos;
}

}  // namespace

std::string TextField::Push(std::string_view json) {
  std::string out;
  for (const char c : json) {
    if (place_ == Place::kBehind) break;
    if (place_ == Place::kInside) {
      Inside(c, &out);
    } else {
      Outside(c);
    }
  }
  return out;
}

void TextField::Outside(char c) {
  if (string_) {
    const bool plain = std::exchange(skip_, false);
    if (!plain && c == '\\') skip_ = true;
    if (!plain && c == '"') {
      string_ = false;
    } else if (depth_ == 1) {
      key_ += c;
    }
    return;
  }
  if (c == '"') {
    if (depth_ == 1 && value_ && key_ == name_) {
      place_ = Place::kInside;
    } else {
      string_ = true;
      key_.clear();
    }
  }
  depth_ += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
  if (depth_ == 1 && (c == ':' || c == ',')) value_ = c == ':';
}

void TextField::Inside(char c, std::string* out) {
  if (!escape_.empty()) return Escape(c, out);
  if (c == '\\') {
    escape_ = c;
  } else if (c == '"') {
    place_ = Place::kBehind;
  } else {
    *out += c;
  }
}

void TextField::Escape(char c, std::string* out) {
  escape_ += c;
  if (escape_[1] == 'u') {
    if (escape_.size() < kUnit) return;
    if (IsHighSurrogate(escape_) && escape_.size() < 2 * kUnit) {
      const std::string other = escape_.substr(kUnit);
      if (std::string_view("\\u").starts_with(other.substr(0, 2))) return;
      // The other half of the character does not follow.
      escape_.clear();
      *out += kReplacement;
      for (const char rest : other) Inside(rest, out);
      return;
    }
  }
  const auto decoded = ParseJson('"' + escape_ + '"');
  *out += decoded.ok() && decoded->is_string() ? decoded->get<std::string>() : kReplacement;
  escape_.clear();
}

}  // namespace lode::serve
