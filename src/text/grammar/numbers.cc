#include "text/grammar/numbers.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace lode::text::grammar {
namespace {

constexpr int kDigitsMax = 400;
constexpr uint64_t kModulusMax = 1000;

int CompareDigits(const std::string& a, const std::string& b) {  // whole numbers
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  const int compared = a.compare(b);
  return compared < 0 ? -1 : compared > 0;
}

class Digits {
 public:
  explicit Digits(Terms* terms) : terms_(*terms) {
    digit_ = Range('0', '9');
    many_ = terms_.Star(digit_);
    fraction_ = terms_.Optional(terms_.Concat({Char('.'), digit_, many_}));
    whole_ = terms_.Alt({Char('0'), terms_.Concat(Range('1', '9'), many_)});
  }

  TermId Char(char c) { return terms_.Byte(static_cast<uint8_t>(c)); }
  TermId Range(char first, char last) {
    return first > last ? Terms::kNothing : terms_.Bytes(ByteSet::Range(first, last));
  }
  TermId whole() const { return whole_; }
  TermId fraction() const { return fraction_; }
  TermId digit() const { return digit_; }
  TermId many() const { return many_; }
  // A fraction that is not zero.
  TermId some_fraction() {
    return terms_.Concat({Char('.'), many_, Range('1', '9'), many_});
  }
  TermId zero_fraction() {
    return terms_.Optional(terms_.Concat({Char('.'), Char('0'), terms_.Star(Char('0'))}));
  }

  // Whole numbers above, or below, `bound`.
  TermId Above(const std::string& bound) {
    std::vector<TermId> parts;
    const auto size = static_cast<uint32_t>(bound.size());
    for (uint32_t i = 0; i < size; ++i)
      parts.push_back(terms_.Concat({terms_.Literal(bound.substr(0, i)),
                                     Range(static_cast<char>(bound[i] + 1), '9'),
                                     terms_.Repeat(digit_, size - i - 1, size - i - 1)}));
    parts.push_back(terms_.Concat(Range('1', '9'), terms_.Repeat(digit_, size, kUnbounded)));
    return terms_.Alt(std::move(parts));
  }
  TermId Below(const std::string& bound) {
    std::vector<TermId> parts;
    const auto size = static_cast<uint32_t>(bound.size());
    for (uint32_t i = 0; i < size; ++i) {
      const char lowest = i == 0 && size > 1 ? '1' : '0';
      parts.push_back(terms_.Concat({terms_.Literal(bound.substr(0, i)),
                                     Range(lowest, static_cast<char>(bound[i] - 1)),
                                     terms_.Repeat(digit_, size - i - 1, size - i - 1)}));
    }
    if (size > 1) {
      parts.push_back(Char('0'));
      parts.push_back(terms_.Concat(Range('1', '9'), terms_.Repeat(digit_, 0, size - 2)));
    }
    return terms_.Alt(std::move(parts));
  }

  // Numbers without a sign, with or without a fraction, from a bound up, or up to it.
  TermId AtLeast(const Decimal& bound, bool strict, bool whole) {
    if (whole) {
      const bool above = strict || !bound.fraction.empty();
      const TermId more = Above(bound.integer);
      return above ? more : terms_.Alt({more, terms_.Literal(bound.integer)});
    }
    TermId rest;
    const std::string& f = bound.fraction;
    if (f.empty()) {
      rest = strict ? some_fraction() : fraction_;
    } else {
      std::vector<TermId> parts;
      for (size_t i = 0; i < f.size(); ++i)
        parts.push_back(terms_.Concat({terms_.Literal(f.substr(0, i)),
                                       Range(static_cast<char>(f[i] + 1), '9'), many_}));
      parts.push_back(strict ? terms_.Concat({terms_.Literal(f), many_, Range('1', '9'), many_})
                             : terms_.Concat(terms_.Literal(f), many_));
      rest = terms_.Concat(Char('.'), terms_.Alt(std::move(parts)));
    }
    return terms_.Alt({terms_.Concat(Above(bound.integer), fraction_),
                       terms_.Concat(terms_.Literal(bound.integer), rest)});
  }
  TermId AtMost(const Decimal& bound, bool strict, bool whole) {
    const std::string& f = bound.fraction;
    if (whole) {
      const TermId less = Below(bound.integer);
      const bool below = strict && f.empty();
      return below ? less : terms_.Alt({less, terms_.Literal(bound.integer)});
    }
    TermId rest;
    if (f.empty()) {
      rest = strict ? Terms::kNothing : zero_fraction();
    } else {
      std::vector<TermId> parts;
      for (size_t i = 0; i < f.size(); ++i) {
        parts.push_back(terms_.Concat({terms_.Literal(f.substr(0, i)),
                                       Range('0', static_cast<char>(f[i] - 1)), many_}));
        if (i > 0) parts.push_back(terms_.Literal(f.substr(0, i)));
      }
      if (!strict) parts.push_back(terms_.Concat(terms_.Literal(f), terms_.Star(Char('0'))));
      rest = terms_.Optional(terms_.Concat(Char('.'), terms_.Alt(std::move(parts))));
    }
    return terms_.Alt({terms_.Concat(Below(bound.integer), fraction_),
                       terms_.Concat(terms_.Literal(bound.integer), rest)});
  }

 private:
  Terms& terms_;
  TermId digit_, many_, fraction_, whole_;
};

Decimal Magnitude(Decimal value) {
  value.negative = false;
  return value;
}

// j / 10^scale = value, for values with few digits.
bool Ratio(const Decimal& value, uint64_t* j, uint32_t* scale) {
  const std::string digits = value.integer + value.fraction;
  if (digits.size() > 18) return false;
  *j = std::strtoull(digits.c_str(), nullptr, 10);
  *scale = static_cast<uint32_t>(value.fraction.size());
  return *j != 0;
}

// Numbers without a sign that are multiples of `value`.
Result<TermId> Multiples(Terms* terms, Digits* digits, const Decimal& value, bool whole) {
  uint64_t j = 0, power = 1;
  uint32_t scale = 0;
  const Error refused(Code::kUnsupported, "multipleOf is too large to be enforced",
                      "leave it out, or take a smaller one");
  if (!Ratio(value, &j, &scale) || scale > 9) return refused;
  for (uint32_t i = 0; i < scale; ++i) power *= 10;
  const uint64_t modulus = j / std::gcd(j, power);  // of the whole ones
  const auto multiples = [&](uint64_t of, TermId syntax) -> Result<TermId> {
    if (of == 1) return syntax;
    if (of > kModulusMax) return refused;
    return terms->And({syntax, terms->Mod(static_cast<uint32_t>(of), 0)});
  };
  uint64_t tens = modulus;
  uint32_t zeros = 0;
  for (; tens % 10 == 0; tens /= 10) ++zeros;
  TermId wholes;
  if (tens == 1 && zeros > 0) {
    wholes = terms->Alt({digits->Char('0'),
                         terms->Concat({digits->Range('1', '9'), digits->many(),
                                        terms->Repeat(digits->Char('0'), zeros, zeros)})});
  } else {
    LODE_ASSIGN(wholes, multiples(modulus, digits->whole()));
  }
  if (whole) return wholes;
  const TermId zero = digits->zero_fraction();
  std::vector<TermId> parts{terms->Concat(wholes, zero)};
  if (scale > 0 && j == 1) {
    parts.push_back(terms->Concat({digits->whole(), digits->Char('.'),
                                   terms->Repeat(digits->digit(), 1, scale),
                                   terms->Star(digits->Char('0'))}));
  } else if (scale > 0) {
    const TermId syntax = terms->Concat({digits->whole(), digits->Char('.'),
                                         terms->Repeat(digits->digit(), scale, scale)});
    LODE_ASSIGN(const TermId decimals, multiples(j, syntax));
    parts.push_back(decimals);
  }
  return terms->Alt(std::move(parts));
}

}  // namespace

int Compare(const Decimal& a, const Decimal& b) {
  const bool a_negative = a.negative && !a.zero(), b_negative = b.negative && !b.zero();
  if (a_negative != b_negative) return a_negative ? -1 : 1;
  int compared = CompareDigits(a.integer, b.integer);
  if (compared == 0) {
    const int fraction = a.fraction.compare(b.fraction);  // no trailing zeros: a prefix is smaller
    compared = fraction < 0 ? -1 : fraction > 0;
  }
  return a_negative ? -compared : compared;
}

Result<Decimal> ToDecimal(const Json& number) {
  if (!number.is_number()) return Error(Code::kBadInput, "is not a number");
  const std::string text = number.dump();
  Decimal decimal;
  size_t at = 0;
  if (text[at] == '-') {
    decimal.negative = true;
    ++at;
  }
  std::string digits;
  int point = -1, exponent = 0;
  for (; at < text.size(); ++at) {
    if (text[at] == '.') {
      point = static_cast<int>(digits.size());
    } else if (text[at] == 'e' || text[at] == 'E') {
      exponent = std::atoi(text.c_str() + at + 1);
      break;
    } else if (text[at] >= '0' && text[at] <= '9') {
      digits += text[at];
    } else {
      return Error(Code::kBadInput, "is not a finite number");
    }
  }
  if (point < 0) point = static_cast<int>(digits.size());
  point += exponent;
  if (std::abs(point) > kDigitsMax)
    return Error(Code::kUnsupported, "has too many digits to be enforced");
  if (point < 0) {
    digits.insert(0, static_cast<size_t>(-point), '0');
    point = 0;
  }
  if (static_cast<size_t>(point) > digits.size()) digits.resize(static_cast<size_t>(point), '0');
  decimal.integer = digits.substr(0, static_cast<size_t>(point));
  decimal.fraction = digits.substr(static_cast<size_t>(point));
  const size_t zeros = decimal.integer.find_first_not_of('0');
  decimal.integer.erase(0, std::min(zeros, decimal.integer.size()));
  if (decimal.integer.empty()) decimal.integer = "0";
  while (!decimal.fraction.empty() && decimal.fraction.back() == '0') decimal.fraction.pop_back();
  if (decimal.zero()) decimal.negative = false;
  return decimal;
}

bool NumberRange::empty() const {
  if (!low || !high) return false;
  const int compared = Compare(low->value, high->value);
  return compared > 0 || (compared == 0 && (low->strict || high->strict));
}

void NumberRange::RaiseLow(const Bound& bound) {
  const int compared = low ? Compare(bound.value, low->value) : 1;
  if (compared > 0 || (compared == 0 && bound.strict)) low = bound;
}

void NumberRange::LowerHigh(const Bound& bound) {
  const int compared = high ? Compare(bound.value, high->value) : -1;
  if (compared < 0 || (compared == 0 && bound.strict)) high = bound;
}

Result<bool> NumberRange::Has(const Decimal& value) const {
  if (low) {
    const int compared = Compare(value, low->value);
    if (compared < 0 || (compared == 0 && low->strict)) return false;
  }
  if (high) {
    const int compared = Compare(value, high->value);
    if (compared > 0 || (compared == 0 && high->strict)) return false;
  }
  for (const Decimal& multiple : multiples) {
    uint64_t of = 0, value_ratio = 0;
    uint32_t of_scale = 0, value_scale = 0;
    if (value.zero()) continue;
    if (!Ratio(multiple, &of, &of_scale) || !Ratio(value, &value_ratio, &value_scale) ||
        of_scale > 9 || value_scale > 9)
      return Error(Code::kUnsupported, "multipleOf is too large to be decided");
    unsigned __int128 left = value_ratio, right = of;
    for (uint32_t i = 0; i < of_scale; ++i) left *= 10;
    for (uint32_t i = 0; i < value_scale; ++i) right *= 10;
    if (left % right != 0) return false;
  }
  return true;
}

Result<TermId> NumberTerm(Terms* terms, const NumberRange& range, NumberKind kind) {
  Digits digits(terms);
  const bool whole = kind == NumberKind::kInteger;
  const TermId minus = digits.Char('-');
  if (range.any() && kind != NumberKind::kFraction) {
    TermId magnitude = digits.whole();
    if (!whole) {
      const TermId exponent = terms->Optional(terms->Concat(
          {terms->Bytes([] {
             ByteSet set = ByteSet::One('e');
             set.Add('E');
             return set;
           }()),
           terms->Optional(terms->Alt({digits.Char('+'), minus})),
           terms->Repeat(digits.digit(), 1, 2)}));
      magnitude = terms->Concat({magnitude, digits.fraction(), exponent});
    }
    return terms->Concat(terms->Optional(minus), magnitude);
  }
  if (range.empty()) return Terms::kNothing;
  std::vector<TermId> both;  // what holds on either side of zero
  if (kind == NumberKind::kFraction)
    both.push_back(terms->Concat(digits.whole(), digits.some_fraction()));
  for (const Decimal& multiple : range.multiples) {
    LODE_ASSIGN(const TermId term, Multiples(terms, &digits, multiple, whole));
    both.push_back(term);
  }
  const auto& low = range.low;
  const auto& high = range.high;
  const TermId plain = whole ? digits.whole() : terms->Concat(digits.whole(), digits.fraction());
  std::vector<TermId> sides;
  if (!high || !high->value.negative) {
    std::vector<TermId> parts = both;
    if (low && !low->value.negative)
      parts.push_back(digits.AtLeast(low->value, low->strict, whole));
    if (high) parts.push_back(digits.AtMost(high->value, high->strict, whole));
    if (parts.empty()) parts.push_back(plain);
    sides.push_back(terms->And(std::move(parts)));
  }
  if (!low || low->value.negative) {
    std::vector<TermId> parts = both;
    const bool below = high && high->value.negative;
    parts.push_back(below ? digits.AtLeast(Magnitude(high->value), high->strict, whole)
                          : digits.AtLeast(Decimal(), true, whole));
    if (low) parts.push_back(digits.AtMost(Magnitude(low->value), low->strict, whole));
    sides.push_back(terms->Concat(minus, terms->And(std::move(parts))));
  }
  return terms->Alt(std::move(sides));
}

}  // namespace lode::text::grammar
