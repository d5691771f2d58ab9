#include "text/grammar/characters.h"

#include <algorithm>

#include "base/utf8.h"

namespace lode::text::grammar {
namespace {

constexpr uint32_t kLast = 0x10FFFF;

// The bytes from `first` to `last`, both of `length` bytes in UTF-8, as terms: the classical split
// into pieces whose bytes are independent.
void AddUtf8(Terms* terms, uint32_t first, uint32_t last, int length, std::vector<TermId>* parts) {
  if (length == 1) {
    parts->push_back(terms->Bytes(ByteSet::Range(static_cast<int>(first), static_cast<int>(last))));
    return;
  }
  for (int level = 1; level < length; ++level) {
    const uint32_t low = (uint32_t{1} << (6 * level)) - 1;
    if ((first & ~low) == (last & ~low)) continue;
    if ((first & low) != 0) {
      AddUtf8(terms, first, first | low, length, parts);
      AddUtf8(terms, (first | low) + 1, last, length, parts);
      return;
    }
    if ((last & low) != low) {
      AddUtf8(terms, first, (last & ~low) - 1, length, parts);
      AddUtf8(terms, last & ~low, last, length, parts);
      return;
    }
  }
  TermId term = Terms::kEmpty;
  for (int i = 0; i < length; ++i) {  // from the last byte to the first
    const uint32_t shift = 6 * static_cast<uint32_t>(i);
    const uint32_t lead = i + 1 < length ? 0x80 : length == 2 ? 0xC0 : length == 3 ? 0xE0 : 0xF0;
    const uint32_t mask = i + 1 < length ? 0x3F : 0xFF;
    const int from = static_cast<int>(lead | (first >> shift & mask));
    const int to = static_cast<int>(lead | (last >> shift & mask));
    term = terms->Concat(terms->Bytes(ByteSet::Range(from, to)), term);
  }
  parts->push_back(term);
}

TermId Utf8Term(Terms* terms, const CodeSet& set) {
  static constexpr CodeRange kLengths[] = {{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF},
                                           {0xE000, 0xFFFF}, {0x10000, kLast}};
  static constexpr int kBytes[] = {1, 2, 3, 3, 4};
  std::vector<TermId> parts;
  for (const CodeRange& range : set.ranges()) {
    for (int i = 0; i < 5; ++i) {
      const uint32_t first = std::max(range.first, kLengths[i].first);
      const uint32_t last = std::min(range.last, kLengths[i].last);
      if (first <= last) AddUtf8(terms, first, last, kBytes[i], &parts);
    }
  }
  return terms->Alt(std::move(parts));
}

ByteSet HexDigit(uint32_t value) {
  const char* digits = "0123456789abcdef";
  ByteSet set = ByteSet::One(static_cast<uint8_t>(digits[value]));
  if (value >= 10) set.Add(static_cast<uint8_t>(digits[value] - 'a' + 'A'));
  return set;
}

ByteSet HexDigits(uint32_t first, uint32_t last) {
  ByteSet set;
  for (uint32_t value = first; value <= last; ++value) set |= HexDigit(value);
  return set;
}

struct Escape {
  uint32_t code;
  char letter;
};
constexpr Escape kEscapes[] = {{'"', '"'},  {'\\', '\\'}, {'/', '/'}, {8, 'b'},
                               {12, 'f'},   {10, 'n'},    {13, 'r'},  {9, 't'}};

TermId JsonTerm(Terms* terms, const CodeSet& set) {
  static const CodeSet plain{{0x20, 0x21}, {0x23, 0x5B}, {0x5D, kLast}};
  std::vector<TermId> parts{Utf8Term(terms, set.Intersect(plain))};
  ByteSet letters;
  for (const Escape& escape : kEscapes)
    if (set.has(escape.code)) letters.Add(static_cast<uint8_t>(escape.letter));
  std::vector<TermId> escaped{terms->Bytes(letters)};
  for (uint32_t code = 0; code < 0x20; ++code) {
    if (!set.has(code)) continue;
    escaped.push_back(terms->Concat({terms->Literal(code < 16 ? "u000" : "u001"),
                                     terms->Bytes(HexDigit(code & 15))}));
  }
  parts.push_back(terms->Concat(terms->Byte('\\'), terms->Alt(std::move(escaped))));
  return terms->Alt(std::move(parts));
}

}  // namespace

void CodeSet::Add(uint32_t first, uint32_t last) {
  last = std::min(last, kLast);
  if (first > last) return;
  std::vector<CodeRange> merged;
  merged.reserve(ranges_.size() + 1);
  size_t i = 0;
  for (; i < ranges_.size() && ranges_[i].last + 1 < first; ++i) merged.push_back(ranges_[i]);
  for (; i < ranges_.size() && ranges_[i].first <= last + 1; ++i) {
    first = std::min(first, ranges_[i].first);
    last = std::max(last, ranges_[i].last);
  }
  merged.push_back({first, last});
  merged.insert(merged.end(), ranges_.begin() + static_cast<std::ptrdiff_t>(i), ranges_.end());
  ranges_.swap(merged);
}

void CodeSet::Add(const CodeSet& other) {
  for (const CodeRange& range : other.ranges_) Add(range.first, range.last);
}

CodeSet CodeSet::Complement() const {
  CodeSet result;
  uint32_t next = 0;
  for (const CodeRange& range : ranges_) {
    if (range.first > next) result.ranges_.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLast) result.ranges_.push_back({next, kLast});
  return result;
}

CodeSet CodeSet::Intersect(const CodeSet& other) const {
  CodeSet result;
  for (size_t i = 0, j = 0; i < ranges_.size() && j < other.ranges_.size();) {
    const uint32_t first = std::max(ranges_[i].first, other.ranges_[j].first);
    const uint32_t last = std::min(ranges_[i].last, other.ranges_[j].last);
    if (first <= last) result.ranges_.push_back({first, last});
    if (ranges_[i].last < other.ranges_[j].last) {
      ++i;
    } else {
      ++j;
    }
  }
  return result;
}

bool CodeSet::has(uint32_t code) const {
  const auto it = std::upper_bound(ranges_.begin(), ranges_.end(), code,
                                   [](uint32_t c, const CodeRange& r) { return c < r.first; });
  return it != ranges_.begin() && std::prev(it)->last >= code;
}

TermId CharacterTerm(Terms* terms, const CodeSet& set, Spelling spelling) {
  const bool json = spelling == Spelling::kJson;
  const TermId term = json ? JsonTerm(terms, set) : Utf8Term(terms, set);
  terms->MarkCharacters(term, json);
  return term;
}

TermId TextTerm(Terms* terms, std::string_view text, Spelling spelling) {
  std::vector<uint32_t> codes;
  for (size_t at = 0; at < text.size();) {
    const DecodedChar character = DecodeUtf8(text, at);
    codes.push_back(static_cast<uint32_t>(character.code_point));
    at += static_cast<size_t>(character.bytes);
  }
  TermId term = Terms::kEmpty;
  for (size_t i = codes.size(); i-- > 0;)
    term = terms->Concat(CharacterTerm(terms, {{codes[i], codes[i]}}, spelling), term);
  return term;
}

TermId AnyText(Terms* terms, Spelling spelling) {
  const bool json = spelling == Spelling::kJson;
  const TermId known = json ? terms->json_star() : terms->raw_star();
  if (known != Terms::kNothing) return known;
  const TermId star = terms->Star(CharacterTerm(terms, CodeSet::All(), spelling));
  terms->SetUniverse(star, json);
  return star;
}

TermId FreeJsonText(Terms* terms) {
  const auto bytes = [&](uint32_t first, uint32_t last) {
    return terms->Bytes(HexDigits(first, last));
  };
  const TermId any = bytes(0, 15);
  const TermId plain = terms->Alt(
      {terms->Concat({terms->Bytes(HexDigits(0, 12)), any, any, any}),
       terms->Concat({bytes(13, 13), bytes(0, 7), any, any}),
       terms->Concat({bytes(14, 15), any, any, any})});
  const TermId pair = terms->Concat({bytes(13, 13), bytes(8, 11), any, any, terms->Literal("\\u"),
                                     bytes(13, 13), bytes(12, 15), any, any});
  const TermId escape = terms->Concat({terms->Literal("\\u"), terms->Alt({plain, pair})});
  return terms->Star(
      terms->Alt({CharacterTerm(terms, CodeSet::All(), Spelling::kJson), escape}));
}

}  // namespace lode::text::grammar
