#include "base/utf8.h"

namespace lode {
namespace {

// Length of the character that lead byte `b` starts, and the range its second byte must lie in
// (Unicode 15, table 3-7); 0 for a byte that cannot start one.
struct Lead {
  int length;
  unsigned char second_min;
  unsigned char second_max;
};

Lead LeadOf(unsigned char b) {
  if (b < 0x80) return {1, 0, 0};
  if (b >= 0xC2 && b <= 0xDF) return {2, 0x80, 0xBF};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};
  if (b >= 0xE1 && b <= 0xEF) return {3, 0x80, 0xBF};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b >= 0xF1 && b <= 0xF3) return {4, 0x80, 0xBF};
  if (b == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// How many bytes from `at` on belong to the character (or its valid beginning).
int ValidBytes(std::string_view text, size_t at, const Lead& lead) {
  int count = 1;
  while (count < lead.length && at + count < text.size()) {
    const auto b = static_cast<unsigned char>(text[at + count]);
    const bool good = count == 1 ? b >= lead.second_min && b <= lead.second_max
                                 : b >= 0x80 && b <= 0xBF;
    if (!good) break;
    ++count;
  }
  return count;
}

}  // namespace

DecodedChar DecodeUtf8(std::string_view text, size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) return {first, 1, true};
  const Lead lead = LeadOf(first);
  if (lead.length == 0) return {kReplacementCharacter, 1, false};
  const int count = ValidBytes(text, at, lead);
  if (count < lead.length) return {kReplacementCharacter, count, false};
  char32_t code_point = first & (0xFF >> (lead.length + 1));
  for (int i = 1; i < lead.length; ++i) {
    code_point = code_point << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3F);
  }
  return {code_point, lead.length, true};
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = kReplacementCharacter;
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xC0 | c >> 6);
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xE0 | c >> 12);
    *out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *out += static_cast<char>(0xF0 | c >> 18);
    *out += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    *out += static_cast<char>(0x80 | (c >> 6 & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

bool IsValidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const DecodedChar c = DecodeUtf8(text, at);
    if (!c.valid) return false;
    at += c.bytes;
  }
  return true;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const DecodedChar c = DecodeUtf8(text, at);
    if (c.valid) {
      out.append(text.substr(at, c.bytes));
    } else {
      AppendUtf8(kReplacementCharacter, &out);
    }
    at += c.bytes;
  }
  return out;
}

size_t IncompleteUtf8Suffix(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const size_t at = text.size() - back;
    const auto b = static_cast<unsigned char>(text[at]);
    if ((b & 0xC0) == 0x80) continue;  // a continuation byte: look for its lead
    const Lead lead = LeadOf(b);
    if (lead.length > static_cast<int>(back) &&
        ValidBytes(text, at, lead) == static_cast<int>(back)) {
      return back;
    }
    return 0;
  }
  return 0;
}

}  // namespace lode
