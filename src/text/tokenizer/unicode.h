// What Unicode says about a character, as far as tokenizers ask: general categories, white space,
// word characters, normal forms, lower case. Data: utf8proc (Unicode 15 in Debian 12); characters
// assigned later count as unassigned here.
// It is no UTF-8 checker: text handed to these functions is valid UTF-8 (base/utf8.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lode::text {

// Bits of ClassOf. A character has at most one of the first five.
enum CharClass : uint8_t {
  kUpper = 1,        // Lu, Lt
  kLower = 2,        // Ll
  kOtherLetter = 4,  // Lm, Lo
  kMark = 8,         // Mn, Mc, Me
  kNumber = 16,      // Nd, Nl, No
  kSpace = 32,       // White_Space
  kLineEnd = 64,     // CR and LF only
  kLetter = kUpper | kLower | kOtherLetter,
};

// A table of the basic plane is filled at first use (about 0.4 ms).
uint8_t ClassOf(char32_t c);

struct Char {
  char32_t code_point;
  uint8_t bytes;
  uint8_t char_class;
};
inline constexpr std::array<uint8_t, 128> kAsciiClasses = [] {
  std::array<uint8_t, 128> classes{};
  for (int c = 'a'; c <= 'z'; ++c) classes[c] = kLower;
  for (int c = 'A'; c <= 'Z'; ++c) classes[c] = kUpper;
  for (int c = '0'; c <= '9'; ++c) classes[c] = kNumber;
  for (const int c : {'\t', '\v', '\f', ' '}) classes[c] = kSpace;
  for (const int c : {'\r', '\n'}) classes[c] = kSpace | kLineEnd;
  return classes;
}();
Char CharAtBeyondAscii(std::string_view text, size_t at);
// The character at text[at] of valid UTF-8; at the end: {0, 0, 0}, which is in no class.
inline Char CharAt(std::string_view text, size_t at) {
  if (at >= text.size()) return {0, 0, 0};
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {lead, 1, kAsciiClasses[lead]};
  return CharAtBeyondAscii(text, at);
}
// Where the character that ends before text[end] begins; end > 0.
size_t CharBefore(std::string_view text, size_t end);

// \w as Rust's regex crate and Oniguruma have it: alphabetic, mark, decimal number, connector
// punctuation, join control.
bool IsWordChar(char32_t c);
// General category P*, or one of the 32 ASCII punctuation characters (some of which are symbols).
bool IsPunctuation(char32_t c);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
std::string Normalize(NormalForm form, std::string_view text);
// Character by character, without context (a final sigma stays an ordinary one).
std::string ToLower(std::string_view text);

}  // namespace lode::text
