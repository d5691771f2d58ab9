#include "text/grammar/token_trie.h"

#include <algorithm>
#include <numeric>

namespace lode::text::grammar {
namespace {

constexpr size_t kTokenMax = 4096;  // bytes

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

TokenScan TokenTrie::Scan(Automata* automata, Automata::State start, bool counted) const {
  TokenScan scan;
  scan.inside.resize(words());
  struct Place {
    Automata::State state;
    uint32_t ticks;
  };
  std::vector<Place> places(kTokenMax + 2);
  places[0] = {start, 0};
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
    const uint32_t ticks = before.ticks + (next != state);
    places[node.depth] = {state, ticks};
    for (uint32_t i = node.first_token; i < nodes_[at + 1].first_token; ++i) {
      const uint32_t token = tokens_[i];
      if (counted && automata->final(state)) {
        scan.closing.push_back({token, ticks});
        continue;
      }
      scan.inside[token / 64] |= uint64_t{1} << (token % 64);
      if (counted) scan.by_ticks.push_back({token, ticks});
    }
    if (automata->accepting(state) && node.end > at + 1) scan.exits.push_back({at, ticks});
    ++at;
  }
  std::sort(scan.by_ticks.begin(), scan.by_ticks.end(),
            [](const TokenScan::Counted& a, const TokenScan::Counted& b) {
              return a.ticks != b.ticks ? a.ticks > b.ticks : a.token < b.token;
            });
  if (!scan.by_ticks.empty()) scan.ticks_max = scan.by_ticks[0].ticks;
  return scan;
}

}  // namespace lode::text::grammar
