// The byte-level alphabet: every byte has a printable character that stands for it in vocabularies
// (space is U+0120, "Ġ"). Bytes 21-7E, A1-AC and AE-FF stand for themselves; the other 68 get, in
// increasing order, U+0100 and on. Source: GPT-2's bytes_to_unicode.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace lode::text {

// The UTF-8 of the character of each byte.
const std::array<std::string, 256>& ByteLetters();
// Appends the characters of `bytes`.
void BytesToLetters(std::string_view bytes, std::string* out);
// Appends the bytes that `letters` stand for; false (and nothing appended) when a character is not of
// the alphabet.
bool LettersToBytes(std::string_view letters, std::string* out);

}  // namespace lode::text
