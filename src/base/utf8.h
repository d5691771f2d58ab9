// UTF-8: decoding, checking, repairing, and finding an unfinished character at the end of a stream.
// Invalid input becomes U+FFFD once per maximal subpart, as the Unicode standard (3.9, U+FFFD
// Substitution of Maximal Subparts) and Python's "replace" do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lode {

constexpr char32_t kReplacementCharacter = 0xFFFD;

struct DecodedChar {
  char32_t code_point;  // kReplacementCharacter when the bytes are invalid
  int bytes;            // consumed, at least 1
  bool valid;
};

// The character at text[at]; `at` must be inside.
DecodedChar DecodeUtf8(std::string_view text, size_t at);
void AppendUtf8(char32_t code_point, std::string* out);
bool IsValidUtf8(std::string_view text);
// The same text with every invalid part replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view text);
// How many bytes at the end are the valid beginning of a character that is not complete yet (0..3).
size_t IncompleteUtf8Suffix(std::string_view text);

}  // namespace lode
