// Regular expressions over bytes as interned terms, with intersection and complement, and their
// derivatives: the rest of the language after one byte. Equal terms have equal numbers, so a term
// is a state of a deterministic automaton that nobody had to build beforehand.
//
// Source: Brzozowski 1964, "Derivatives of Regular Expressions"; Owens, Reppy, Turon 2009.
// Limits: Terms holds at most `terms_max` terms and does a bounded amount of work. Beyond
// `overflowed()` is set for good and every result is meaningless: who uses one has to look.
// Threads: one. Copies are independent.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/grammar/byte_set.h"

namespace lode::text::grammar {

using TermId = uint32_t;

inline constexpr uint32_t kUnbounded = UINT32_MAX;

enum class TermKind : uint8_t {
  kNothing,  // no string at all
  kEmpty,    // the empty string
  kBytes,    // one byte of a set
  kConcat,   // a, then b
  kAlt,      // one of
  kAnd,      // all of
  kNot,      // any string of bytes but
  kRepeat,   // a, min to max times
  kMod,      // decimal digits whose number, appended to b, is a multiple of a; '.' is passed over
};

struct Term {
  TermKind kind;
  bool nullable : 1 = false;  // holds the empty string
  bool sure : 1 = false;      // holds some string for certain; others must be explored
  bool infinite : 1 = false;  // sure, and endless
  bool finite : 1 = false;    // for certain
  bool json : 1 = false;      // whole characters of a JSON string, as in json_star()
  bool raw : 1 = false;       // whole UTF-8 characters, and nothing else
  bool single : 1 = false;  // texts of one character, as MarkCharacters was told
  // Terms; offset and count of a list; index of a set; modulus and remainder.
  uint32_t a = 0, b = 0;
  uint32_t min = 0, max = 0;  // kRepeat
};

class Terms {
 public:
  static constexpr TermId kNothing = 0, kEmpty = 1;

  // `work_max`: terms looked at in all, some hundred nanoseconds each.
  explicit Terms(size_t terms_max = 400000, size_t work_max = 4000000);

  TermId Bytes(const ByteSet& set);
  TermId Byte(uint8_t byte) { return Bytes(ByteSet::One(byte)); }
  TermId Literal(std::string_view bytes);
  TermId Concat(TermId a, TermId b);
  TermId Concat(std::initializer_list<TermId> parts);
  TermId Alt(std::vector<TermId> parts);
  TermId And(std::vector<TermId> parts);
  TermId Not(TermId a);
  TermId Repeat(TermId a, uint32_t min, uint32_t max);
  TermId Star(TermId a) { return Repeat(a, 0, kUnbounded); }
  TermId Optional(TermId a) { return Repeat(a, 0, 1); }
  TermId Mod(uint32_t modulus, uint32_t remainder);
  TermId Everything() { return Not(kNothing); }

  // What is left of `term` after `byte`; *same receives bytes (this one among them) with that
  // result.
  TermId Derive(TermId term, uint8_t byte, ByteSet* same);

  const Term& operator[](TermId id) const { return terms_[id]; }
  const ByteSet& set(const Term& bytes) const { return sets_[bytes.a]; }
  std::span<const TermId> list(const Term& term) const {
    return {lists_.data() + term.a, term.b};
  }
  size_t size() const { return terms_.size(); }
  size_t bytes() const;
  bool overflowed() const { return overflowed_; }
  // Counts work that somebody does with terms.
  void Work(size_t amount) {
    work_ += amount;
    if (work_ > work_max_) overflowed_ = true;
  }

  // Whoever builds single characters says so; see Term::json, Term::raw, Term::single.
  void MarkCharacters(TermId term, bool json);
  // Any characters of a JSON string's inside (in the spelling of characters.h), any UTF-8 text.
  void SetUniverse(TermId star, bool json) { (json ? json_star_ : raw_star_) = star; }
  TermId json_star() const { return json_star_; }
  TermId raw_star() const { return raw_star_; }

 private:
  TermId Intern(Term term, std::span<const TermId> list);
  void Describe(Term* term, std::span<const TermId> list) const;
  void DescribeJoin(Term* term, std::span<const TermId> list) const;
  void GrowTable();
  // Flattens, sorts, drops what is neutral. True if the whole is decided and *whole holds it.
  void Flatten(TermKind kind, std::vector<TermId>* parts) const;
  TermId DeriveConcat(TermId term, uint8_t byte, ByteSet* same, int depth);
  TermId DeriveAt(TermId term, uint8_t byte, ByteSet* same, int depth);

  size_t terms_max_, work_max_;
  size_t work_ = 0;
  bool overflowed_ = false;
  TermId json_star_ = kNothing, raw_star_ = kNothing;
  std::vector<Term> terms_;
  std::vector<TermId> lists_;
  std::vector<ByteSet> sets_;
  std::vector<uint32_t> table_;  // open addressing over terms_, id + 1
};

}  // namespace lode::text::grammar
