// Numbers as JSON writes them, by value: ranges and multiples as terms over digits.
//
// A number that is bounded, or must be a multiple of something, is written without an exponent, and
// "-0" only where nothing is asked of a number. Exponents have at most two digits, so that whoever
// reads a number as a double can. Bounds are the decimals that the schema's text
// rounds to.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/grammar/terms.h"

namespace lode::text::grammar {

// +-integer.fraction, exactly; without leading zeros ("0" for none) and without trailing ones.
struct Decimal {
  bool negative = false;
  std::string integer = "0", fraction;

  bool zero() const { return integer == "0" && fraction.empty(); }
  bool whole() const { return fraction.empty(); }
  bool operator==(const Decimal&) const = default;
};

// -1, 0, 1 as a < b, a = b, a > b.
int Compare(const Decimal& a, const Decimal& b);
// Errors: what is no number, or has more than 400 digits.
Result<Decimal> ToDecimal(const Json& number);

struct NumberRange {
  struct Bound {
    Decimal value;
    bool strict = false;  // the value itself is excluded
  };
  std::optional<Bound> low, high;
  std::vector<Decimal> multiples;  // of each of these

  bool any() const { return !low && !high && multiples.empty(); }
  bool empty() const;  // no number lies between the bounds
  void RaiseLow(const Bound& bound);
  void LowerHigh(const Bound& bound);
  // Errors: kUnsupported for multiples that are too large to decide.
  Result<bool> Has(const Decimal& value) const;
};

enum class NumberKind { kInteger, kFraction, kBoth };

// All numbers of a kind in `range`. Errors: kUnsupported for multiples that would need too many
// states.
Result<TermId> NumberTerm(Terms* terms, const NumberRange& range, NumberKind kind);

}  // namespace lode::text::grammar
