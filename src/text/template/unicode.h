// What Python's str knows about characters: white space, classes, full case mapping, printability.
// Classes come from utf8proc (Unicode 15; Python 3.11 has 14); mappings to several characters, which
// utf8proc lacks, from a table of our own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lode::text::jinja {

bool IsSpace(char32_t c);
bool IsPrintable(char32_t c);  // repr() escapes what is not
bool IsAlpha(char32_t c);
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsTitle(char32_t c);
inline bool IsCased(char32_t c) { return IsUpper(c) || IsLower(c) || IsTitle(c); }
bool IsCaseIgnorable(char32_t c);
bool IsWord(char32_t c);  // \w of a regular expression
bool IsIdentifierStart(char32_t c);
bool IsIdentifierPart(char32_t c);
inline bool IsAlnum(char32_t c) {
  return IsAlpha(c) || IsDecimal(c) || IsDigit(c) || IsNumeric(c);
}
// str.splitlines() breaks here.
bool IsLineBreak(char32_t c);

enum class Case { kUpper, kLower, kTitle, kFold };
// Writes the mapping of `c` (up to three characters) and returns how many. The final sigma is the
// caller's business, because it depends on the neighbours.
int MapCase(char32_t c, Case to, char32_t out[3]);

// Byte offset of character `index` (0..length) in valid UTF-8.
size_t OffsetOf(std::string_view text, int64_t index);
int64_t CountChars(std::string_view text);

}  // namespace lode::text::jinja
