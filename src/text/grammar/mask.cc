// The part of Matcher that says which tokens may come next. Lexemes in progress are looked at one
// by one: a walk over the trie within the lexeme's automaton alone, and from where it may end a
// walk over states, which only few tokens reach.
#include <algorithm>

#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

constexpr size_t kScanKeep = 1500;  // nodes; a shorter scan is made anew each time

}  // namespace

void Matcher::AllowAt(uint32_t node, std::span<uint64_t> words) const {
  const auto nodes = trie_->nodes();
  for (uint32_t i = nodes[node].first_token; i < nodes[node + 1].first_token; ++i) {
    const uint32_t token = trie_->tokens()[i];
    words[token / 64] |= uint64_t{1} << (token % 64);
  }
}

void Matcher::WalkBelow(uint32_t root, MatchState state, std::span<uint64_t> words) {
  if (state == kNoMatch) return;
  const auto nodes = trie_->nodes();
  const uint32_t end = nodes[root].end;
  const size_t base = nodes[root].depth;
  walk_.resize(std::max(walk_.size(), size_t{4200}));
  walk_[0] = state;
  for (uint32_t at = root + 1; at < end;) {
    const TokenTrie::Node& node = nodes[at];
    const MatchState next = Step(walk_[node.depth - base - 1], node.byte);
    if (next == kNoMatch) {
      at = node.end;
      continue;
    }
    walk_[node.depth - base] = next;
    AllowAt(at, words);
    ++at;
  }
}

void Matcher::MaskLiteral(const Config& config, std::span<uint64_t> words) {
  const auto nodes = trie_->nodes();
  uint32_t node = 0;
  for (uint32_t at = config.head & ~kLiteralHead;; ++at) {
    if (grammar_->ends_literal(at)) {
      if (nodes[node].end > node + 1) WalkBelow(node, After(config.returns), words);
      return;
    }
    const uint8_t byte = grammar_->literal_byte(at);
    const uint32_t end = nodes[node].end;
    uint32_t child = node + 1;
    while (child < end && nodes[child].byte < byte) child = nodes[child].end;
    if (child >= end || nodes[child].byte != byte) return;
    node = child;
    AllowAt(node, words);
  }
}

const TokenScan& Matcher::ScanOf(const Config& config, bool counted, bool exits,
                                 TokenScan* scratch) {
  const TokenScan* standard =
      trie_->Standard(automata_.standard(), automata_.term(config.head), counted);
  if (standard != nullptr) return *standard;
  const uint64_t key = uint64_t{config.head} << 1 | exits;
  const auto known = scans_.find(key);
  if (known != scans_.end()) return known->second;
  *scratch = trie_->Scan(&automata_, config.head, counted, exits);
  if (scratch->visited < kScanKeep) return *scratch;
  if (scans_bytes_ > limits_.masks_bytes_max) {
    scans_.clear();
    scans_bytes_ = 0;
  }
  scans_bytes_ += scratch->bytes();
  return scans_[key] = std::move(*scratch);
}

void Matcher::MaskAutomaton(const Config& config, std::span<uint64_t> words) {
  TokenScan scratch;
  const MatchState after = After(config.returns);
  const bool exits = !OnlyEnds(after);
  if (config.lexeme != kNoLexeme)
    return MaskCounted(config, ScanOf(config, true, exits, &scratch), words);
  const TokenScan& scan = ScanOf(config, false, exits, &scratch);
  for (size_t i = 0; i < words.size(); ++i) words[i] |= scan.inside[i];
  if (!exits) return;
  for (const TokenScan::Exit& exit : scan.exits) WalkBelow(exit.node, after, words);
}

// Any characters, only so many: what is inside is allowed up to the number that is left.
void Matcher::MaskInside(const Config& config, const TokenScan& scan, std::span<uint64_t> words) {
  const Lexeme& lexeme = grammar_->lexeme(config.lexeme);
  const uint32_t left = lexeme.max == kUnbounded ? kUnbounded : lexeme.max - config.count;
  if (left >= scan.ticks_max) {
    for (size_t i = 0; i < words.size(); ++i) words[i] |= scan.inside[i];
    return;
  }
  for (size_t i = scan.by_ticks.size(); i-- > 0 && scan.by_ticks[i].ticks <= left;) {
    const uint32_t token = scan.by_ticks[i].token;
    words[token / 64] |= uint64_t{1} << (token % 64);
  }
}

// A pattern and a number of characters: behind a token some number that fits must be possible.
void Matcher::MaskLengths(const Config& config, const TokenScan& scan, std::span<uint64_t> words) {
  constexpr size_t kCheckAllMax = 4000;  // states at numbers of characters
  const Lexeme& lexeme = grammar_->lexeme(config.lexeme);
  const Lengths& lengths = *lexeme.lengths;
  const auto possible = [&](uint32_t number, uint32_t ticks) {
    const uint64_t count = uint64_t{config.count} + ticks;
    if (number >= lengths.states() || count > lexeme.max) return false;
    return lengths.PossibleAt(number, count >= lexeme.min ? 0 : lexeme.min - count,
                              lexeme.max == kUnbounded ? UINT32_MAX : lexeme.max - count);
  };
  bool all = size_t{lengths.states()} * (scan.ticks_max + 1) <= kCheckAllMax;
  for (uint32_t ticks = 0; ticks <= scan.ticks_max && all; ++ticks)
    for (uint32_t number = 0; number < lengths.states() && all; ++number)
      all = possible(number, ticks);
  if (all) {
    for (size_t i = 0; i < words.size(); ++i) words[i] |= scan.inside[i];
    return;
  }
  enum : uint8_t { kUnknown, kNo, kYes };
  std::vector<uint8_t> known;
  uint32_t of_ticks = UINT32_MAX;
  for (const TokenScan::Counted& token : scan.by_ticks) {
    if (token.ticks != of_ticks) known.assign(lengths.states() + size_t{1}, kUnknown);
    of_ticks = token.ticks;
    const uint32_t number = std::min(lengths.NumberOf(token.state), lengths.states());
    if (known[number] == kUnknown) known[number] = possible(number, token.ticks) ? kYes : kNo;
    if (known[number] == kYes) words[token.token / 64] |= uint64_t{1} << (token.token % 64);
  }
}

void Matcher::MaskCounted(const Config& config, const TokenScan& scan, std::span<uint64_t> words) {
  const Lexeme& lexeme = grammar_->lexeme(config.lexeme);
  const uint32_t left = lexeme.max == kUnbounded ? kUnbounded : lexeme.max - config.count;
  if (lexeme.lengths != nullptr) {
    MaskLengths(config, scan, words);
  } else {
    MaskInside(config, scan, words);
  }
  for (const TokenScan::Counted& closing : scan.closing) {
    if (closing.ticks > left || uint64_t{config.count} + closing.ticks < lexeme.min) continue;
    words[closing.token / 64] |= uint64_t{1} << (closing.token % 64);
  }
  if (scan.exits.empty()) return;
  const MatchState after = After(config.returns);
  for (const TokenScan::Exit& exit : scan.exits) {
    const uint64_t count = uint64_t{config.count} + exit.ticks;
    if (exit.ticks <= left && count >= lexeme.min) WalkBelow(exit.node, after, words);
  }
}

void Matcher::ComputeMask(MatchState state, std::span<uint64_t> words) {
  std::fill(words.begin(), words.end(), 0);
  const size_t count = configs(state).size();
  for (size_t i = 0; i < count; ++i) {
    const Config config = configs(state)[i];
    if (config.head & kLiteralHead) {
      MaskLiteral(config, words);
    } else {
      MaskAutomaton(config, words);
    }
  }
}

void Matcher::Mask(MatchState state, std::span<uint64_t> words) {
  LODE_CHECK(words.size() == trie_->words());
  const auto known = mask_of_.find(state);
  if (known != mask_of_.end()) {
    masks_.splice(masks_.begin(), masks_, known->second);
    std::copy(known->second->words.begin(), known->second->words.end(), words.begin());
    return;
  }
  ComputeMask(state, words);
  if (limit_reached()) return;
  if ((masks_.size() + 1) * words.size_bytes() > limits_.masks_bytes_max && !masks_.empty()) {
    mask_of_.erase(masks_.back().state);
    masks_.splice(masks_.begin(), masks_, std::prev(masks_.end()));
  } else {
    masks_.push_front({});
  }
  masks_.front().state = state;
  masks_.front().words.assign(words.begin(), words.end());
  mask_of_[state] = masks_.begin();
}

ByteSet Matcher::NextBytes(MatchState state) {
  ByteSet bytes;
  const size_t count = configs(state).size();
  for (size_t i = 0; i < count; ++i) {
    const Config config = configs(state)[i];
    if (config.head & kLiteralHead) {
      bytes.Add(grammar_->literal_byte(config.head & ~kLiteralHead));
      continue;
    }
    for (int byte = 0; byte < 256; ++byte) {
      if (bytes.has(static_cast<uint8_t>(byte))) continue;
      const Moved moved = Move(config, static_cast<uint8_t>(byte));
      if (moved.alive || moved.accepts) bytes.Add(static_cast<uint8_t>(byte));
    }
  }
  return bytes;
}

std::string Matcher::Forced(MatchState state, size_t bytes_max) {
  std::string forced;
  while (forced.size() < bytes_max && !CanEnd(state)) {
    const ByteSet next = NextBytes(state);
    if (next.count() != 1) break;
    forced += static_cast<char>(next.first());
    state = Step(state, static_cast<uint8_t>(next.first()));
    if (state == kNoMatch) {
      forced.pop_back();
      break;
    }
  }
  return forced;
}

}  // namespace lode::text::grammar
