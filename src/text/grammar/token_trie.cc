#include "text/grammar/token_trie.h"

#include <algorithm>
#include <array>
#include <numeric>

namespace lode::text::grammar {
namespace {

constexpr size_t kTokenMax = 4096;  // bytes
constexpr uint32_t kLoopWorth = 200;  // nodes for which a state is looked at

}  // namespace

TokenTrie::TokenTrie(std::span<const std::string_view> tokens, int64_t vocabulary)
    : vocabulary_(std::max(vocabulary, static_cast<int64_t>(tokens.size()))) {
  offsets_.push_back(0);
  for (const std::string_view token : tokens) {
    if (token.size() <= kTokenMax) text_ += token;
    offsets_.push_back(static_cast<uint32_t>(text_.size()));
  }
  std::vector<uint32_t> order(tokens.size());
  std::iota(order.begin(), order.end(), 0u);
  std::erase_if(order, [&](uint32_t id) { return bytes_of(id).empty(); });
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const int compared = bytes_of(a).compare(bytes_of(b));  // as unsigned bytes
    return compared != 0 ? compared < 0 : a < b;
  });
  nodes_.push_back({.end = 0, .first_token = 0, .depth = 0, .byte = 0});
  std::vector<uint32_t> path{0};
  std::string_view last;
  for (const uint32_t id : order) {
    const std::string_view bytes = bytes_of(id);
    size_t common = 0;
    while (common < bytes.size() && common < last.size() && bytes[common] == last[common]) ++common;
    for (; path.size() > common + 1; path.pop_back())
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
    for (size_t depth = common; depth < bytes.size(); ++depth) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.end = 0,
                        .first_token = static_cast<uint32_t>(tokens_.size()),
                        .depth = static_cast<uint16_t>(depth + 1),
                        .byte = static_cast<uint8_t>(bytes[depth])});
    }
    tokens_.push_back(id);
    last = bytes;
  }
  for (; !path.empty(); path.pop_back())
    nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back({.end = static_cast<uint32_t>(nodes_.size() + 1),
                    .first_token = static_cast<uint32_t>(tokens_.size()),
                    .depth = 0,
                    .byte = 0});
  int single = 0;
  for (uint32_t at = 1; at < nodes_[0].end; at = nodes_[at].end)
    single += nodes_[at + 1].first_token > nodes_[at].first_token;
  covers_ = single == 256;
  Summarize();
  Automata automata;
  const StandardTerms& standard = automata.standard();
  const auto inside = [&](TermId string, Counting counting) {
    return automata.Next(automata.Start(string, counting), '"') & ~Automata::kTick;
  };
  free_rest_ = Scan(&automata, automata.Start(standard.free_rest, Counting::kNone), false);
  plain_rest_ = Scan(&automata, automata.Start(standard.plain_rest, Counting::kNone), false);
  counted_rest_ = Scan(&automata, inside(standard.free_string, Counting::kJsonString), true);
}

const TokenScan* TokenTrie::Standard(const StandardTerms& standard, TermId term,
                                     bool counted) const {
  if (counted) return term == standard.free_rest ? &counted_rest_ : nullptr;
  if (term == standard.free_rest) return &free_rest_;
  if (term == standard.plain_rest) return &plain_rest_;
  return nullptr;
}

void TokenTrie::Summarize() {
  // Places inside of a character, as one reads from the root: 0 at its beginning; what may follow
  // otherwise. 255: no UTF-8.
  const auto step = [](uint8_t place, uint8_t byte) -> uint8_t {
    enum : uint8_t { kBegin, kLast, kTwo, kThree, kE0, kEd, kF0, kF4, kWrong = 255 };
    const bool more = byte >= 0x80 && byte < 0xC0;
    switch (place) {
      case kBegin:
        if (byte < 0x80) return kBegin;
        if (byte < 0xC2 || byte > 0xF4) return kWrong;
        if (byte < 0xE0) return kLast;
        if (byte < 0xF0) return byte == 0xE0 ? kE0 : byte == 0xED ? kEd : kTwo;
        return byte == 0xF0 ? kF0 : byte == 0xF4 ? kF4 : kThree;
      case kLast: return more ? kBegin : kWrong;
      case kTwo: return more ? kLast : kWrong;
      case kThree: return more ? kTwo : kWrong;
      case kE0: return more && byte >= 0xA0 ? kLast : kWrong;
      case kEd: return more && byte < 0xA0 ? kLast : kWrong;
      case kF0: return more && byte >= 0x90 ? kTwo : kWrong;
      case kF4: return more && byte < 0x90 ? kTwo : kWrong;
      default: return kWrong;
    }
  };
  const uint32_t count = nodes_[0].end;
  below_.resize(count);
  std::vector<uint32_t> parents(count), path(kTokenMax + 2);
  std::vector<uint8_t> places(count);
  for (uint32_t at = 1; at < count; ++at) {
    parents[at] = path[nodes_[at].depth - 1u];
    path[nodes_[at].depth] = at;
    places[at] = step(places[parents[at]], nodes_[at].byte);
  }
  for (uint32_t at = count; at-- > 1;) {  // children before parents
    Below& above = below_[parents[at]];
    const uint8_t byte = nodes_[at].byte;
    if (byte < 0x80) {
      above.ascii[byte >> 6] |= uint64_t{1} << (byte & 63);
    } else {
      above.high = true;
    }
    above.ascii[0] |= below_[at].ascii[0];
    above.ascii[1] |= below_[at].ascii[1];
    above.high |= below_[at].high;
    above.valid &= below_[at].valid && places[at] != 255;
  }
  for (uint32_t at = 0; at < count; ++at) below_[at].valid &= places[at] == 0;
  characters_.resize(tokens_.size());
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view bytes = bytes_of(tokens_[i]);
    for (const char c : bytes) characters_[i] += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  }
}

TokenTrie::Loop TokenTrie::LoopOf(Automata* automata, Automata::State state) {
  const auto next = [&](Automata::State from, int byte) {
    return automata->Next(from, static_cast<uint8_t>(byte)) & ~Automata::kTick;
  };
  Loop loop{.state = state};
  for (int byte = 0; byte < 0x80; ++byte)
    if (next(state, byte) == state) loop.ascii[byte >> 6] |= uint64_t{1} << (byte & 63);
  // Whether `rest` further bytes, the first of `low` to `high`, always lead back to `state`.
  const auto leads_back = [&](const auto& self, Automata::State from, int low, int high,
                              int rest) -> bool {
    Automata::State last = Automata::kDead;
    for (int byte = low; byte <= high; ++byte) {
      const Automata::State to = next(from, byte);
      if (to == Automata::kDead) return false;
      if (rest == 1 && to != state) return false;
      if (rest > 1 && to != last && !self(self, to, 0x80, 0xBF, rest - 1)) return false;
      last = to;
    }
    return true;
  };
  loop.characters = true;
  Automata::State last = Automata::kDead;
  for (int byte = 0xC2; byte <= 0xF4 && loop.characters; ++byte) {
    const Automata::State to = next(state, byte);
    const int low = byte == 0xE0 ? 0xA0 : byte == 0xF0 ? 0x90 : 0x80;
    const int high = byte == 0xED ? 0x9F : byte == 0xF4 ? 0x8F : 0xBF;
    if (to == last && low == 0x80 && high == 0xBF) continue;
    const int rest = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    loop.characters = to != Automata::kDead && leads_back(leads_back, to, low, high, rest);
    last = low == 0x80 && high == 0xBF ? to : Automata::kDead;
  }
  return loop;
}

struct TokenTrie::Walk {
  Automata* automata;
  Automata::State start;
  bool counted, exits;
  TokenScan scan;
  const TokenScan* like = nullptr;  // the scan of
  Automata::State like_start = Automata::kDead;
  // Loops of states that were looked at, by their numbers.
  std::array<Loop, 16> loops;

  const Loop& LoopAt(Automata::State state) {
    Loop& loop = loops[state % loops.size()];
    if (loop.state != state) loop = LoopOf(automata, state);
    return loop;
  }
};

// Tokens first..last of tokens_, which lead to `state`, and of which what was read has `ticks` more
// characters begun than the part of the token that leads there.
void TokenTrie::ScanTokens(uint32_t first, uint32_t last, uint32_t ticks, Automata::State state,
                           Walk* walk) const {
  TokenScan& scan = walk->scan;
  const bool closing = walk->counted && walk->automata->final(state);
  for (uint32_t i = first; i < last; ++i) {
    const uint32_t token = tokens_[i];
    if (walk->counted) {
      auto& list = closing ? scan.closing : scan.by_ticks;
      list.push_back({token, ticks + characters_[i], state});
      if (closing) continue;
    }
    scan.inside[token / 64] |= uint64_t{1} << (token % 64);
  }
}

void TokenTrie::SortByTicks(TokenScan* scan) {
  for (const TokenScan::Counted& token : scan->by_ticks)
    scan->ticks_max = std::max(scan->ticks_max, token.ticks);
  std::vector<uint32_t> places(scan->ticks_max + 2);
  for (const TokenScan::Counted& token : scan->by_ticks)
    ++places[scan->ticks_max - token.ticks + 1];
  for (size_t i = 1; i < places.size(); ++i) places[i] += places[i - 1];
  std::vector<TokenScan::Counted> sorted(scan->by_ticks.size());
  for (const TokenScan::Counted& token : scan->by_ticks)
    sorted[places[scan->ticks_max - token.ticks]++] = token;
  scan->by_ticks.swap(sorted);
}

void TokenTrie::WalkAll(Walk* walk) const {
  Automata* automata = walk->automata;
  TokenScan& scan = walk->scan;
  scan.inside.assign(words(), 0);
  struct Place {
    Automata::State state;
    uint32_t ticks;
    uint32_t characters;  // of the part of the tokens that was read
  };
  std::vector<Place> places(kTokenMax + 2);
  places[0] = {walk->start, 0, 0};
  const uint32_t end = nodes_[0].end;
  for (uint32_t at = 1; at < end;) {
    const Node& node = nodes_[at];
    const Place& before = places[node.depth - 1u];
    ++scan.visited;
    const uint32_t next = automata->Next(before.state, node.byte);
    const Automata::State state = next & ~Automata::kTick;
    if (state == Automata::kDead) {
      at = node.end;
      continue;
    }
    const Place place{state, before.ticks + (next != state),
                      before.characters + ((node.byte & 0xC0) != 0x80)};
    // Counts wrap around: fewer characters may have begun than the token's own bytes say.
    const uint32_t ticks = place.ticks - place.characters;
    const bool accepting = automata->accepting(state);
    const uint32_t below = node.end - at - 1;
    const bool may_pass = state == before.state || below > kLoopWorth ||
                          walk->loops[state % walk->loops.size()].state == state;
    if (may_pass && below > 0 && !(accepting && walk->exits) &&
        Passes(walk->LoopAt(state), at)) {
      ScanTokens(node.first_token, nodes_[node.end].first_token, ticks, state, walk);
      at = node.end;
      continue;
    }
    places[node.depth] = place;
    ScanTokens(node.first_token, nodes_[at + 1].first_token, ticks, state, walk);
    if (walk->exits && accepting && node.end > at + 1) scan.exits.push_back({at, place.ticks});
    ++at;
  }
  if (walk->counted) SortByTicks(&scan);
}

void TokenTrie::ForbidTokens(uint32_t first, uint32_t last, TokenScan* scan) const {
  for (uint32_t i = first; i < last; ++i)
    scan->inside[tokens_[i] / 64] &= ~(uint64_t{1} << (tokens_[i] % 64));
}

// Whether after one byte most tokens are where the other automaton is.
bool TokenTrie::MostlyAlike(Walk* walk) const {
  uint64_t alike = 0;
  for (uint32_t at = 1; at < nodes_[0].end; at = nodes_[at].end)
    if (walk->automata->Next(walk->start, nodes_[at].byte) ==
        walk->automata->Next(walk->like_start, nodes_[at].byte))
      alike += nodes_[at].end - at;
  return alike * 2 > nodes_[0].end;
}

// Begins with the other's tokens and walks where the two automata are in different states. False:
// they differ nearly everywhere.
bool TokenTrie::WalkDifference(Walk* walk) const {
  if (!MostlyAlike(walk)) return false;
  Automata* automata = walk->automata;
  TokenScan& scan = walk->scan;
  scan.inside = walk->like->inside;
  struct Place {
    Automata::State state, like;
  };
  std::vector<Place> places(kTokenMax + 2);
  places[0] = {walk->start, walk->like_start};
  size_t exit = 0;
  const auto& exits = walk->like->exits;
  for (uint32_t at = 1; at < nodes_[0].end;) {
    const Node& node = nodes_[at];
    const Place& before = places[node.depth - 1u];
    ++scan.visited;
    const Place place{automata->Next(before.state, node.byte) & ~Automata::kTick,
                      before.like == Automata::kDead
                          ? before.like
                          : automata->Next(before.like, node.byte) & ~Automata::kTick};
    if (place.state == place.like) {
      for (; walk->exits && exit < exits.size() && exits[exit].node < node.end; ++exit)
        if (exits[exit].node >= at) scan.exits.push_back(exits[exit]);
      at = node.end;
      continue;
    }
    if (place.state == Automata::kDead) {
      ForbidTokens(node.first_token, nodes_[node.end].first_token, &scan);
      at = node.end;
      continue;
    }
    places[node.depth] = place;
    ScanTokens(node.first_token, nodes_[at + 1].first_token, 0, place.state, walk);
    if (walk->exits && automata->accepting(place.state) && node.end > at + 1)
      scan.exits.push_back({at, 0});
    ++at;
  }
  return true;
}

TokenScan TokenTrie::Scan(Automata* automata, Automata::State start, bool counted,
                          bool exits) const {
  Walk walk{.automata = automata, .start = start, .counted = counted, .exits = exits, .scan = {},
            .loops = {}};
  const StandardTerms& standard = automata->standard();
  if (!counted && !free_rest_.inside.empty() && !plain_rest_.inside.empty()) {
    for (const bool free : {false, true}) {
      walk.like = free ? &free_rest_ : &plain_rest_;
      walk.like_start = automata->Start(free ? standard.free_rest : standard.plain_rest,
                                        Counting::kNone);
      if (walk.like_start != Automata::kDead && WalkDifference(&walk))
        return std::move(walk.scan);
    }
  }
  WalkAll(&walk);
  return std::move(walk.scan);
}

}  // namespace lode::text::grammar
