#include "text/grammar/terms.h"

#include <algorithm>

namespace lode::text::grammar {
namespace {

constexpr size_t kWidthMax = 20000;  // alternatives in one term
constexpr size_t kSpineMax = 24;     // parts that are put in front of another
constexpr int kDepthMax = 2000;      // nesting of terms: derivatives recurse

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9E3779B97F4A7C15 + (hash << 6) + (hash >> 2);
  return hash * 0xD6E8FEB86659FD93;
}

uint64_t HashOf(const Term& term, std::span<const TermId> list, const ByteSet* set) {
  uint64_t hash = Mix(static_cast<uint64_t>(term.kind) + 1, uint64_t{term.min} << 32 | term.max);
  if (set != nullptr) {
    for (const uint64_t word : set->words) hash = Mix(hash, word);
  } else if (term.kind == TermKind::kAlt || term.kind == TermKind::kAnd) {
    for (const TermId part : list) hash = Mix(hash, part);
  } else {
    hash = Mix(hash, uint64_t{term.a} << 32 | term.b);
  }
  return hash ^ hash >> 29;
}

bool IsList(TermKind kind) { return kind == TermKind::kAlt || kind == TermKind::kAnd; }

const ByteSet& SafeAscii() {
  static const ByteSet safe = [] {
    ByteSet set = ByteSet::Range(0x20, 0x7F);
    set.Remove('"');
    set.Remove('\\');
    return set;
  }();
  return safe;
}

}  // namespace

Terms::Terms(size_t terms_max, size_t work_max) : terms_max_(terms_max), work_max_(work_max) {
  table_.resize(256);
  Intern({.kind = TermKind::kNothing}, {});
  Intern({.kind = TermKind::kEmpty}, {});
}

size_t Terms::bytes() const {
  return terms_.size() * sizeof(Term) + lists_.size() * sizeof(TermId) +
         sets_.size() * sizeof(ByteSet) + table_.size() * sizeof(uint32_t);
}

void Terms::DescribeJoin(Term* term, std::span<const TermId> list) const {
  const bool all = term->kind == TermKind::kAnd;
  term->nullable = all;
  term->finite = !all;
  term->json = term->raw = !all;
  int growing = 0, others = 0;
  for (const TermId id : list) {
    const Term& part = terms_[id];
    if (all) {
      term->nullable &= part.nullable;
      term->finite |= part.finite;
      term->json |= part.json;
      term->raw |= part.raw;
      if (part.kind == TermKind::kNot && terms_[part.a].finite) continue;
      ++(part.infinite ? growing : others);
    } else {
      term->nullable |= part.nullable;
      term->finite &= part.finite;
      term->json &= part.json;
      term->raw &= part.raw;
      term->sure |= part.sure;
      term->infinite |= part.infinite;
    }
  }
  // What is endless, less finitely many strings, is endless.
  if (all) term->infinite = growing == 1 && others == 0;
  term->sure |= term->infinite || term->nullable;
}

void Terms::Describe(Term* term, std::span<const TermId> list) const {
  term->nullable = term->sure = term->infinite = term->finite = term->json = term->raw = false;
  const auto a = [&]() -> const Term& { return terms_[term->a]; };
  const auto b = [&]() -> const Term& { return terms_[term->b]; };
  switch (term->kind) {
    case TermKind::kNothing:
      term->finite = term->json = term->raw = true;
      break;
    case TermKind::kEmpty:
      term->nullable = term->sure = term->finite = term->json = term->raw = true;
      break;
    case TermKind::kBytes:
      term->sure = term->finite = true;
      term->json = sets_[term->a].Within(SafeAscii());
      term->raw = (sets_[term->a].words[2] | sets_[term->a].words[3]) == 0;
      break;
    case TermKind::kConcat:
      term->nullable = a().nullable && b().nullable;
      term->sure = a().sure && b().sure;
      term->infinite = term->sure && (a().infinite || b().infinite);
      term->finite = a().finite && b().finite;
      term->json = a().json && b().json;
      term->raw = a().raw && b().raw;
      break;
    case TermKind::kAlt:
    case TermKind::kAnd:
      DescribeJoin(term, list);
      break;
    case TermKind::kNot:
      term->nullable = !a().nullable;
      term->sure = term->nullable || a().finite;
      term->infinite = a().finite;
      break;
    case TermKind::kRepeat:
      term->nullable = term->min == 0 || a().nullable;
      term->sure = term->nullable || a().sure;
      term->infinite =
          a().infinite || (a().sure && !a().nullable && term->max == kUnbounded);
      term->finite = term->max != kUnbounded && a().finite;
      term->json = a().json;
      term->raw = a().raw;
      break;
    case TermKind::kMod:
      term->nullable = term->b == 0;
      term->sure = term->infinite = true;
      break;
  }
}

void Terms::GrowTable() {
  std::vector<uint32_t> larger(table_.size() * 2);
  for (const uint32_t entry : table_) {
    if (entry == 0) continue;
    const Term& term = terms_[entry - 1];
    const ByteSet* set = term.kind == TermKind::kBytes ? &sets_[term.a] : nullptr;
    const auto parts = IsList(term.kind) ? list(term) : std::span<const TermId>();
    size_t at = HashOf(term, parts, set) & (larger.size() - 1);
    while (larger[at] != 0) at = (at + 1) & (larger.size() - 1);
    larger[at] = entry;
  }
  table_.swap(larger);
}

TermId Terms::Intern(Term term, std::span<const TermId> parts) {
  if (terms_.size() * 2 >= table_.size()) GrowTable();
  // A set of bytes was appended by the caller, and goes again if it is known.
  const bool is_set = term.kind == TermKind::kBytes;
  const ByteSet* set = is_set ? &sets_[term.a] : nullptr;
  size_t at = HashOf(term, parts, set) & (table_.size() - 1);
  for (; table_[at] != 0; at = (at + 1) & (table_.size() - 1)) {
    const Term& other = terms_[table_[at] - 1];
    if (other.kind != term.kind || other.min != term.min || other.max != term.max) continue;
    bool equal;
    if (is_set) {
      equal = sets_[other.a] == *set;
    } else if (IsList(term.kind)) {
      const auto theirs = list(other);
      equal = std::equal(theirs.begin(), theirs.end(), parts.begin(), parts.end());
    } else {
      equal = other.a == term.a && other.b == term.b;
    }
    if (!equal) continue;
    if (is_set) sets_.pop_back();
    return table_[at] - 1;
  }
  if (terms_.size() >= terms_max_ || parts.size() > kWidthMax ||
      lists_.size() > terms_max_ * 16) {
    overflowed_ = true;
    if (is_set) sets_.pop_back();
    return kNothing;
  }
  Describe(&term, parts);
  if (IsList(term.kind)) {
    term.a = static_cast<uint32_t>(lists_.size());
    term.b = static_cast<uint32_t>(parts.size());
    lists_.insert(lists_.end(), parts.begin(), parts.end());
  }
  terms_.push_back(term);
  table_[at] = static_cast<uint32_t>(terms_.size());
  return table_[at] - 1;
}

TermId Terms::Bytes(const ByteSet& set) {
  if (set.empty()) return kNothing;
  sets_.push_back(set);
  return Intern({.kind = TermKind::kBytes, .a = static_cast<uint32_t>(sets_.size() - 1)}, {});
}

TermId Terms::Literal(std::string_view bytes) {
  TermId term = kEmpty;
  for (size_t i = bytes.size(); i-- > 0;) term = Concat(Byte(static_cast<uint8_t>(bytes[i])), term);
  return term;
}

TermId Terms::Concat(TermId a, TermId b) {
  if (a == kNothing || b == kNothing) return kNothing;
  if (a == kEmpty) return b;
  if (b == kEmpty) return a;
  // To the right, so that equal rests are one term; a long one stays as it is, which costs nothing.
  const TermId whole = a;
  std::vector<TermId> parts;
  while (terms_[a].kind == TermKind::kConcat) {
    parts.push_back(terms_[a].a);
    a = terms_[a].b;
    if (parts.size() > kSpineMax)
      return Intern({.kind = TermKind::kConcat, .a = whole, .b = b}, {});
  }
  parts.push_back(a);
  for (size_t i = parts.size(); i-- > 0;)
    b = Intern({.kind = TermKind::kConcat, .a = parts[i], .b = b}, {});
  return b;
}

TermId Terms::Concat(std::initializer_list<TermId> parts) {
  TermId term = kEmpty;
  for (auto it = parts.end(); it != parts.begin();) term = Concat(*--it, term);
  return term;
}

void Terms::Flatten(TermKind kind, std::vector<TermId>* parts) const {
  std::vector<TermId> flat;
  flat.reserve(parts->size());
  for (const TermId part : *parts) {
    if (terms_[part].kind == kind) {
      const auto inner = list(terms_[part]);
      flat.insert(flat.end(), inner.begin(), inner.end());
    } else {
      flat.push_back(part);
    }
  }
  std::sort(flat.begin(), flat.end());
  flat.erase(std::unique(flat.begin(), flat.end()), flat.end());
  parts->swap(flat);
}

TermId Terms::Alt(std::vector<TermId> parts) {
  Work(parts.size());
  Flatten(TermKind::kAlt, &parts);
  Work(parts.size());
  bool has_json = false, has_raw = false;
  ByteSet merged;
  int sets = 0;
  for (const TermId part : parts) {
    const Term& term = terms_[part];
    if (term.kind == TermKind::kNot && term.a == kNothing) return part;  // everything
    if (part == json_star_ && part != kNothing) has_json = true;
    if (part == raw_star_ && part != kNothing) has_raw = true;
    if (term.kind == TermKind::kBytes) {
      merged |= sets_[term.a];
      ++sets;
    }
  }
  std::erase_if(parts, [&](TermId part) {
    const Term& term = terms_[part];
    if (part == kNothing) return true;
    if (has_json && term.json && part != json_star_) return true;
    if (has_raw && term.raw && part != raw_star_) return true;
    return sets > 1 && term.kind == TermKind::kBytes;
  });
  if (sets > 1 && !has_json && !has_raw) {
    parts.push_back(Bytes(merged));
    std::sort(parts.begin(), parts.end());
  } else if (sets > 1) {  // some may be outside of the universe
    const TermId set = Bytes(merged);
    if (!(has_json && terms_[set].json) && !(has_raw && terms_[set].raw)) {
      parts.push_back(set);
      std::sort(parts.begin(), parts.end());
    }
  }
  // What is nullable anyway needs no empty string beside it.
  if (!parts.empty() && parts[0] == kEmpty &&
      std::any_of(parts.begin() + 1, parts.end(), [&](TermId p) { return terms_[p].nullable; }))
    parts.erase(parts.begin());
  if (parts.empty()) return kNothing;
  if (parts.size() == 1) return parts[0];
  return Intern({.kind = TermKind::kAlt}, parts);
}

TermId Terms::And(std::vector<TermId> parts) {
  Work(parts.size());
  Flatten(TermKind::kAnd, &parts);
  Work(parts.size());
  bool nullable = true;
  ByteSet merged = ByteSet::All();
  int sets = 0;
  bool any_json = false, any_raw = false;
  for (const TermId part : parts) {
    const Term& term = terms_[part];
    if (part == kNothing) return kNothing;
    nullable &= term.nullable;
    any_json |= term.json && part != json_star_;
    any_raw |= term.raw && part != raw_star_;
    if (term.kind == TermKind::kBytes) {
      merged &= sets_[term.a];
      ++sets;
    }
  }
  if (std::find(parts.begin(), parts.end(), kEmpty) != parts.end())
    return nullable ? kEmpty : kNothing;
  std::erase_if(parts, [&](TermId part) {
    const Term& term = terms_[part];
    if (term.kind == TermKind::kNot && term.a == kNothing) return true;
    if (any_json && part == json_star_) return true;
    if (any_raw && part == raw_star_) return true;
    return sets > 1 && term.kind == TermKind::kBytes;
  });
  if (sets > 1) {
    const TermId set = Bytes(merged);
    if (set == kNothing) return kNothing;
    parts.push_back(set);
    std::sort(parts.begin(), parts.end());
  }
  // A term and its complement have nothing in common.
  for (const TermId part : parts)
    if (terms_[part].kind == TermKind::kNot &&
        std::binary_search(parts.begin(), parts.end(), terms_[part].a))
      return kNothing;
  if (parts.empty()) return Everything();
  if (parts.size() == 1) return parts[0];
  return Intern({.kind = TermKind::kAnd}, parts);
}

TermId Terms::Not(TermId a) {
  if (terms_[a].kind == TermKind::kNot) return terms_[a].a;
  return Intern({.kind = TermKind::kNot, .a = a}, {});
}

TermId Terms::Repeat(TermId a, uint32_t min, uint32_t max) {
  if (max == 0 || a == kEmpty) return kEmpty;
  if (a == kNothing) return min == 0 ? kEmpty : kNothing;
  if (min == 1 && max == 1) return a;
  if (terms_[a].nullable) min = 0;
  if (terms_[a].kind == TermKind::kRepeat && terms_[a].min == 0 && terms_[a].max == kUnbounded)
    return a;  // a star of a star
  return Intern({.kind = TermKind::kRepeat, .a = a, .min = min, .max = max}, {});
}

TermId Terms::Mod(uint32_t modulus, uint32_t remainder) {
  return Intern({.kind = TermKind::kMod, .a = modulus, .b = remainder}, {});
}

void Terms::MarkCharacters(TermId term, bool json) {
  terms_[term].single = true;
  if (json) {
    terms_[term].json = true;
  } else {
    terms_[term].raw = true;
  }
}

TermId Terms::Derive(TermId term, uint8_t byte, ByteSet* same) {
  *same = ByteSet::All();
  return DeriveAt(term, byte, same, 0);
}

TermId Terms::DeriveConcat(TermId id, uint8_t byte, ByteSet* same, int depth) {
  std::vector<TermId> parts;
  while (terms_[id].kind == TermKind::kConcat) {
    const Term term = terms_[id];
    const TermId head = DeriveAt(term.a, byte, same, depth + 1);
    parts.push_back(Concat(head, term.b));
    if (!terms_[term.a].nullable) return parts.size() == 1 ? parts[0] : Alt(std::move(parts));
    id = term.b;
  }
  parts.push_back(DeriveAt(id, byte, same, depth + 1));
  return Alt(std::move(parts));
}

TermId Terms::DeriveAt(TermId id, uint8_t byte, ByteSet* same, int depth) {
  Work(1);
  if (overflowed_ || depth > kDepthMax) {
    overflowed_ = true;
    return kNothing;
  }
  const Term term = terms_[id];  // a copy: what follows moves terms_
  switch (term.kind) {
    case TermKind::kNothing:
    case TermKind::kEmpty:
      return kNothing;
    case TermKind::kBytes: {
      const bool has = sets_[term.a].has(byte);
      *same &= has ? sets_[term.a] : ~sets_[term.a];
      return has ? kEmpty : kNothing;
    }
    case TermKind::kConcat:
      return DeriveConcat(id, byte, same, depth);
    case TermKind::kAlt:
    case TermKind::kAnd: {
      std::vector<TermId> parts(term.b);
      for (uint32_t i = 0; i < term.b; ++i)
        parts[i] = DeriveAt(lists_[term.a + i], byte, same, depth + 1);
      return term.kind == TermKind::kAlt ? Alt(std::move(parts)) : And(std::move(parts));
    }
    case TermKind::kNot:
      return Not(DeriveAt(term.a, byte, same, depth + 1));
    case TermKind::kRepeat: {
      const TermId head = DeriveAt(term.a, byte, same, depth + 1);
      if (head == kNothing) return kNothing;
      const uint32_t max = term.max == kUnbounded ? kUnbounded : term.max - 1;
      return Concat(head, Repeat(term.a, term.min == 0 ? 0 : term.min - 1, max));
    }
    case TermKind::kMod:
      if (byte == '.') {
        *same &= ByteSet::One('.');
        return id;
      }
      if (byte < '0' || byte > '9') {
        ByteSet others = ~ByteSet::Range('0', '9');
        others.Remove('.');
        *same &= others;
        return kNothing;
      }
      *same &= ByteSet::One(byte);
      return Mod(term.a, static_cast<uint32_t>((uint64_t{term.b} * 10 + (byte - '0')) % term.a));
  }
  return kNothing;
}

}  // namespace lode::text::grammar
