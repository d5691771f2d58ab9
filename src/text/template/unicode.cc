#include "text/template/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace lode::text::jinja {
namespace {

struct SpecialCase {
  char32_t from;
  char32_t upper[3];
  char32_t title[3];
  char32_t fold[3];
};
constexpr SpecialCase kSpecialCases[] = {
#include "text/template/case_table.inc"
};

struct CharRange {
  char32_t first;
  char32_t last;
};

// Numeric_Type=Digit without a decimal value: superscripts, circled digits.
constexpr CharRange kDigitRanges[] = {
    {0xB2, 0xB3},     {0xB9, 0xB9},     {0x1369, 0x1371},   {0x19DA, 0x19DA},   {0x2070, 0x2070},
    {0x2074, 0x2079}, {0x2080, 0x2089}, {0x2460, 0x2468},   {0x2474, 0x247C},   {0x2488, 0x2490},
    {0x24EA, 0x24EA}, {0x24F5, 0x24FD}, {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},
    {0x278A, 0x2792}, {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A},
    {0x1F100, 0x1F10A}};

// Other_Lowercase and Other_Uppercase: cased, but of another category than Ll and Lu.
constexpr CharRange kOtherLower[] = {
    {0xAA, 0xAA},       {0xBA, 0xBA},       {0x2B0, 0x2B8},     {0x2C0, 0x2C1},
    {0x2E0, 0x2E4},     {0x345, 0x345},     {0x37A, 0x37A},     {0x1D2C, 0x1D6A},
    {0x1D78, 0x1D78},   {0x1D9B, 0x1DBF},   {0x2071, 0x2071},   {0x207F, 0x207F},
    {0x2090, 0x209C},   {0x2170, 0x217F},   {0x24D0, 0x24E9},   {0x2C7C, 0x2C7D},
    {0xA69C, 0xA69D},   {0xA770, 0xA770},   {0xA7F8, 0xA7F9},   {0xAB5C, 0xAB5F},
    {0x10780, 0x10780}, {0x10783, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA}};
constexpr CharRange kOtherUpper[] = {{0x2160, 0x216F},
                                     {0x24B6, 0x24CF},
                                     {0x1F130, 0x1F149},
                                     {0x1F150, 0x1F169},
                                     {0x1F170, 0x1F189}};

template <size_t kCount>
bool InRanges(char32_t c, const CharRange (&ranges)[kCount]) {
  const auto* range = std::lower_bound(std::begin(ranges), std::end(ranges), c,
                                       [](const CharRange& r, char32_t at) { return r.last < at; });
  return range != std::end(ranges) && range->first <= c;
}

utf8proc_category_t Category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

char32_t SimpleUpper(char32_t c) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
char32_t SimpleLower(char32_t c) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

char32_t SimpleFold(char32_t c) {
  const bool cherokee = (c >= 0x13A0 && c <= 0x13FD) || (c >= 0xAB70 && c <= 0xABBF);
  if (cherokee) return SimpleUpper(c);
  const char32_t lower = SimpleLower(c);
  if (lower != c || c == 0x131) return lower;  // dotless i folds to itself
  return SimpleLower(SimpleUpper(c));
}

}  // namespace

bool IsSpace(char32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsLineBreak(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool IsPrintable(char32_t c) {
  if (c < 0x7F) return c >= 0x20;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

bool IsAlpha(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  const auto category = Category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsDecimal(char32_t c) {
  return c < 0x80 ? c >= '0' && c <= '9' : Category(c) == UTF8PROC_CATEGORY_ND;
}

bool IsDigit(char32_t c) { return IsDecimal(c) || (c >= 0x80 && InRanges(c, kDigitRanges)); }

bool IsNumeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  const auto category = Category(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool IsUpper(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z';
  return Category(c) == UTF8PROC_CATEGORY_LU || InRanges(c, kOtherUpper);
}

bool IsLower(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z';
  return Category(c) == UTF8PROC_CATEGORY_LL || InRanges(c, kOtherLower);
}

bool IsTitle(char32_t c) { return c >= 0x80 && Category(c) == UTF8PROC_CATEGORY_LT; }

bool IsCaseIgnorable(char32_t c) {
  if (c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2019) return true;
  switch (Category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return false;
  }
}

bool IsWord(char32_t c) { return c == '_' || IsAlnum(c); }

bool IsIdentifierStart(char32_t c) {
  return c == '_' || IsAlpha(c) || (c >= 0x80 && Category(c) == UTF8PROC_CATEGORY_NL);
}

bool IsIdentifierPart(char32_t c) {
  if (IsIdentifierStart(c) || IsDecimal(c)) return true;
  if (c < 0x80) return false;
  const auto category = Category(c);
  return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
         category == UTF8PROC_CATEGORY_PC;
}

int MapCase(char32_t c, Case to, char32_t out[3]) {
  if (c < 0x80) {
    const bool upper = to == Case::kUpper || to == Case::kTitle;
    if (upper && c >= 'a' && c <= 'z') c -= 0x20;
    if (!upper && c >= 'A' && c <= 'Z') c += 0x20;
    out[0] = c;
    return 1;
  }
  if (c == 0x130 && (to == Case::kLower || to == Case::kFold)) {  // capital I with dot
    out[0] = 'i';
    out[1] = 0x307;
    return 2;
  }
  const auto* special =
      std::lower_bound(std::begin(kSpecialCases), std::end(kSpecialCases), c,
                       [](const SpecialCase& row, char32_t at) { return row.from < at; });
  if (special != std::end(kSpecialCases) && special->from == c && to != Case::kLower) {
    const char32_t* row = to == Case::kUpper   ? special->upper
                          : to == Case::kTitle ? special->title
                                               : special->fold;
    int count = 0;
    while (count < 3 && row[count] != 0) {
      out[count] = row[count];
      ++count;
    }
    return count;
  }
  switch (to) {
    case Case::kUpper:
      out[0] = SimpleUpper(c);
      break;
    case Case::kLower:
      out[0] = SimpleLower(c);
      break;
    case Case::kTitle:
      out[0] = static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
      break;
    case Case::kFold:
      out[0] = SimpleFold(c);
      break;
  }
  return 1;
}

size_t OffsetOf(std::string_view text, int64_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
    --index;
  }
  return at;
}

int64_t CountChars(std::string_view text) {
  int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

}  // namespace lode::text::jinja
