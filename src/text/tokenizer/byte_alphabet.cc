#include "text/tokenizer/byte_alphabet.h"

#include "base/utf8.h"

namespace lode::text {
namespace {

constexpr char32_t kLetterEnd = 0x144;  // 0x100 + 68

constexpr bool IsOwnLetter(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) ||
         (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  std::array<std::string, 256> letters;
  std::array<int, kLetterEnd> bytes;  // of a code point; -1: not of the alphabet
  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const char32_t letter = IsOwnLetter(byte) ? static_cast<char32_t>(byte) : next++;
      AppendUtf8(letter, &letters[byte]);
      bytes[letter] = byte;
    }
  }
};

const Alphabet& TheAlphabet() {
  static const Alphabet alphabet;  // constant data
  return alphabet;
}

}  // namespace

const std::array<std::string, 256>& ByteLetters() { return TheAlphabet().letters; }

void BytesToLetters(std::string_view bytes, std::string* out) {
  const auto& letters = ByteLetters();
  for (const char c : bytes) *out += letters[static_cast<unsigned char>(c)];
}

bool LettersToBytes(std::string_view letters, std::string* out) {
  const Alphabet& alphabet = TheAlphabet();
  const size_t before = out->size();
  for (size_t at = 0; at < letters.size();) {
    const DecodedChar c = DecodeUtf8(letters, at);
    if (!c.valid || c.code_point >= kLetterEnd || alphabet.bytes[c.code_point] < 0) {
      out->resize(before);
      return false;
    }
    *out += static_cast<char>(alphabet.bytes[c.code_point]);
    at += c.bytes;
  }
  return true;
}

}  // namespace lode::text
