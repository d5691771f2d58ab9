#include "text/tokenizer/pattern.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/tokenizer/unicode.h"

namespace lode::text {
namespace {

constexpr std::string_view kGpt2Regex =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35Regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kO200kRegex =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Other spellings that mean the same: possessive quantifiers that can never give anything back.
constexpr std::string_view kCl100kRegex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";
constexpr std::string_view kCl100kShortRegex =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)";

constexpr std::array<std::pair<std::string_view, Pattern>, 6> kSpellings = {{
    {kGpt2Regex, Pattern::kGpt2},
    {kLlama3Regex, Pattern::kLlama3},
    {kQwen2Regex, Pattern::kQwen2},
    {kQwen35Regex, Pattern::kQwen35},
    {kTekkenRegex, Pattern::kTekken},
    {kO200kRegex, Pattern::kO200k},
}};

// Runs ------------------------------------------------------------------------------------------

// The end of the run of characters from `at` on whose class meets `any` (none of it, if negated).
size_t RunEnd(std::string_view text, size_t at, uint8_t any) {
  for (Char c = CharAt(text, at); (c.char_class & any) != 0; c = CharAt(text, at)) at += c.bytes;
  return at;
}

size_t RunEndOfNone(std::string_view text, size_t at, uint8_t none) {
  for (Char c = CharAt(text, at); c.bytes > 0 && (c.char_class & none) == 0; c = CharAt(text, at)) {
    at += c.bytes;
  }
  return at;
}

// The end of 's 't 'm 'd 're 've 'll at `at`, or `at`. Ignoring case follows Unicode's folding, under
// which U+017F (long s) is an s.
size_t ContractionEnd(std::string_view text, size_t at, bool ignore_case) {
  if (at + 1 >= text.size() || text[at] != '\'') return at;
  const auto letter = [&](size_t i) -> char {
    if (i >= text.size()) return 0;
    const char c = text[i];
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  switch (letter(at + 1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return at + 2;
    case 'r':
    case 'v':
      return letter(at + 2) == 'e' ? at + 3 : at;
    case 'l':
      return letter(at + 2) == 'l' ? at + 3 : at;
    default:
      break;
  }
  return ignore_case && text.substr(at + 1, 2) == "\xC5\xBF" ? at + 3 : at;
}

// \s*[\r\n]+ | \s+(?!\S) | \s+ on the run of white space at `at`; GPT-2 lacks the first alternative.
size_t SpaceEnd(std::string_view text, size_t at, bool line_ends) {
  size_t end = at;
  size_t last = at;           // where the run's last character begins
  size_t after_line_end = 0;  // behind the last CR or LF of the run
  for (Char c = CharAt(text, at); (c.char_class & kSpace) != 0; c = CharAt(text, end)) {
    last = end;
    end += c.bytes;
    if ((c.char_class & kLineEnd) != 0) after_line_end = end;
  }
  if (line_ends && after_line_end > 0) return after_line_end;
  return end == text.size() || last == at ? end : last;
}

//  ?[^\s\p{L}\p{N}]+ with its tail of line ends (and slashes); `at` when it does not match.
size_t SymbolsEnd(std::string_view text, size_t at, uint8_t word, bool line_ends, bool slashes) {
  const size_t begin = text[at] == ' ' ? at + 1 : at;
  size_t end = RunEndOfNone(text, begin, kSpace | kNumber | word);
  if (end == begin) return at;
  while (line_ends && end < text.size() &&
         (text[end] == '\r' || text[end] == '\n' || (slashes && text[end] == '/'))) {
    ++end;
  }
  return end;
}

// Patterns --------------------------------------------------------------------------------------

size_t Gpt2End(std::string_view text, size_t at) {
  if (const size_t end = ContractionEnd(text, at, false); end > at) return end;
  const size_t begin = text[at] == ' ' ? at + 1 : at;
  if (const size_t end = RunEnd(text, begin, kLetter); end > begin) return end;
  if (const size_t end = RunEnd(text, begin, kNumber); end > begin) return end;
  if (const size_t end = SymbolsEnd(text, at, kLetter, false, false); end > at) return end;
  return SpaceEnd(text, at, false);
}

size_t NumberEnd(std::string_view text, size_t at, int count_max) {
  for (int i = 0; i < count_max; ++i) {
    const Char c = CharAt(text, at);
    if ((c.char_class & kNumber) == 0) break;
    at += c.bytes;
  }
  return at;
}

// Llama 3, and with other `word` classes and number lengths its descendants.
size_t Llama3End(std::string_view text, size_t at, uint8_t word, int numbers_max) {
  if (const size_t end = ContractionEnd(text, at, true); end > at) return end;
  const Char c = CharAt(text, at);
  if ((c.char_class & (kLetter | kNumber | kLineEnd)) == 0) {
    const size_t begin = at + c.bytes;
    if (const size_t end = RunEnd(text, begin, word); end > begin) return end;
  }
  if ((c.char_class & word) != 0) return RunEnd(text, at, word);
  if ((c.char_class & kNumber) != 0) return NumberEnd(text, at, numbers_max);
  if (const size_t end = SymbolsEnd(text, at, word, true, false); end > at) return end;
  return SpaceEnd(text, at, true);
}

constexpr uint8_t kUpperish = kUpper | kOtherLetter | kMark;
constexpr uint8_t kLowerish = kLower | kOtherLetter | kMark;

// [upperish]*[lowerish]+ from `at`, or `at`. The greedy upperish run gives characters back until one
// of them is lowerish too; then that one ends the match, for what follows it was not lowerish.
size_t MixedEnd(std::string_view text, size_t at) {
  size_t end = at;
  size_t after_lowerish = at;
  for (Char c = CharAt(text, at); (c.char_class & kUpperish) != 0; c = CharAt(text, end)) {
    end += c.bytes;
    if ((c.char_class & kLowerish) != 0) after_lowerish = end;
  }
  const size_t lower_end = RunEnd(text, end, kLowerish);
  return lower_end > end ? lower_end : after_lowerish;
}

// [upperish]+[lowerish]* from `at`, or `at`.
size_t UpperEnd(std::string_view text, size_t at) {
  const size_t end = RunEnd(text, at, kUpperish);
  return end > at ? RunEnd(text, end, kLowerish) : at;
}

// The two word alternatives of tekken and o200k, each with and without its optional first character.
size_t CasedWordEnd(std::string_view text, size_t at, const Char& c) {
  const size_t behind =
      (c.char_class & (kLetter | kNumber | kLineEnd)) == 0 ? at + c.bytes : text.size();
  if (const size_t end = MixedEnd(text, behind); end > behind) return end;
  if (const size_t end = MixedEnd(text, at); end > at) return end;
  if (const size_t end = UpperEnd(text, behind); end > behind) return end;
  return UpperEnd(text, at);
}

size_t CasedEnd(std::string_view text, size_t at, bool contractions, int numbers_max) {
  const Char c = CharAt(text, at);
  if (const size_t end = CasedWordEnd(text, at, c); end > at) {
    return contractions ? ContractionEnd(text, end, true) : end;
  }
  if ((c.char_class & kNumber) != 0) return NumberEnd(text, at, numbers_max);
  if (const size_t end = SymbolsEnd(text, at, kLetter, true, true); end > at) return end;
  return SpaceEnd(text, at, true);
}

}  // namespace

std::optional<Pattern> RecognisePattern(std::string_view regex) {
  for (const auto& [spelling, pattern] : kSpellings) {
    if (regex == spelling) return pattern;
  }
  if (regex == kCl100kRegex || regex == kCl100kShortRegex) return Pattern::kLlama3;
  return std::nullopt;
}

std::string_view PatternRegex(Pattern pattern) {
  return std::find_if(kSpellings.begin(), kSpellings.end(),
                      [&](const auto& spelling) { return spelling.second == pattern; })->first;
}

size_t MatchEnd(Pattern pattern, std::string_view text, size_t at) {
  switch (pattern) {
    case Pattern::kGpt2:
      return Gpt2End(text, at);
    case Pattern::kLlama3:
      return Llama3End(text, at, kLetter, 3);
    case Pattern::kQwen2:
      return Llama3End(text, at, kLetter, 1);
    case Pattern::kQwen35:
      return Llama3End(text, at, kLetter | kMark, 1);
    case Pattern::kTekken:
      return CasedEnd(text, at, false, 1);
    case Pattern::kO200k:
      return CasedEnd(text, at, true, 3);
  }
  return text.size();
}

}  // namespace lode::text
