#include "base/result.h"

namespace lode {

std::string Error::ToString() const {
  std::string text = message_;
  if (!hint_.empty()) text += "; " + hint_;
  // Hostile files choose some of these bytes (names, strings): keep a terminal and a log line whole.
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '\n' || byte == '\t') {
      out += ' ';
    } else if (byte < 0x20 || byte == 0x7F) {
      static const char* kHex = "0123456789ABCDEF";
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out;
}

int ExitCode(const Error& error) {
  switch (error.code()) {
    case Code::kCancelled:
      return 130;
    case Code::kInternal:
      return 1;
    default:
      return 2;
  }
}

}  // namespace lode
