// What the fuzzers of grammars do with a grammar that compiles: walk it with the input's bytes, and
// stop if a promise is broken (what is begun can be finished; masks are what steps allow).
#pragma once

#include <string_view>
#include <vector>

#include "text/grammar/matcher.h"

namespace lode::text::grammar {

inline const TokenTrie& FuzzTrie() {
  static const TokenTrie trie = [] {
    std::vector<std::string> bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
    for (const char* longer : {"\":", "\",\"", "aa", "a\"", "{\"", "10", "]]", "\\u00", "},"})
      bytes.emplace_back(longer);
    const std::vector<std::string_view> views(bytes.begin(), bytes.end());
    return TokenTrie(views);
  }();
  return trie;
}

inline void WalkGrammar(const std::shared_ptr<const Grammar>& grammar, std::string_view choices) {
  const TokenTrie& trie = FuzzTrie();
  Matcher matcher(grammar, &trie, {.bytes_max = size_t{32} << 20, .work_max = 2000000});
  std::vector<uint64_t> words(trie.words());
  MatchState state = matcher.Start();
  for (const char choice : choices.substr(0, 200)) {
    matcher.Mask(state, words);
    std::vector<uint32_t> allowed;
    for (uint32_t token = 0; token < trie.vocabulary(); ++token) {
      const bool in_mask = words[token / 64] >> (token % 64) & 1;
      const bool steps = matcher.StepAll(state, trie.bytes_of(token)) != kNoMatch;
      if (matcher.limit_reached()) return;
      LODE_CHECK(in_mask == steps);
      if (steps) allowed.push_back(token);
    }
    LODE_CHECK(!allowed.empty() || matcher.CanEnd(state));
    if (allowed.empty()) return;
    const uint32_t token = allowed[static_cast<uint8_t>(choice) % allowed.size()];
    const auto next = matcher.Advance(state, token);
    if (!next.ok()) return;
    state = *next;
  }
}

}  // namespace lode::text::grammar
