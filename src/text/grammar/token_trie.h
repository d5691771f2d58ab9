// A vocabulary as grammars see it: the bytes of every token as one trie, flat and in depth-first
// order. Built once for a tokenizer, then read-only and free for all threads.
//
// What is no text (control tokens) has no bytes here and is never allowed by a grammar, unless
// whoever builds the trie gives it the text by which a grammar asks for it ("<tool_call>").
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/grammar/automata.h"

namespace lode::text::grammar {

// Which tokens stay inside of an automaton when they begin in one of its states, and where others
// leave it: found by one walk over the trie, kept where the walk was long.
struct TokenScan {
  std::vector<uint64_t> inside;  // a bit for each token
  // Nodes of the trie at which the automaton may end while tokens go on, and the characters that
  // began before.
  struct Exit {
    uint32_t node;
    uint32_t ticks;
  };
  std::vector<Exit> exits;
  // Tokens inside, most characters first; only for counted automata.
  struct Counted {
    uint32_t token;
    uint32_t ticks;
    Automata::State state;  // behind it
  };
  std::vector<Counted> by_ticks;
  uint32_t ticks_max = 0;
  std::vector<Counted> closing;  // tokens that end it for good; only for counted automata
  size_t visited = 0;  // nodes

  size_t bytes() const {
    return inside.size() * 8 + exits.size() * sizeof(Exit) + by_ticks.size() * sizeof(Counted);
  }
};

class TokenTrie {
 public:
  struct Node {
    uint32_t end;          // one behind the last node below
    uint32_t first_token;  // its own: tokens()[first_token .. that of the next node)
    uint16_t depth;        // bytes
    uint8_t byte;
  };

  // `tokens[id]` are the bytes of token `id`; empty: it is never allowed. Tokens longer than 4096
  // bytes are not, either. `vocabulary`: number of ids that masks have; at least tokens.size().
  explicit TokenTrie(std::span<const std::string_view> tokens, int64_t vocabulary = 0);

  int64_t vocabulary() const { return vocabulary_; }
  size_t words() const { return static_cast<size_t>((vocabulary_ + 63) / 64); }
  // Node 0 is the root, without a byte; a last one stands behind all for its first_token.
  std::span<const Node> nodes() const { return nodes_; }
  std::span<const uint32_t> tokens() const { return tokens_; }
  std::string_view bytes_of(uint32_t token) const {
    if (token + size_t{1} >= offsets_.size()) return {};
    return std::string_view(text_).substr(offsets_[token], offsets_[token + 1] - offsets_[token]);
  }
  // Every byte is a token of its own, so whatever a grammar allows can be written.
  bool covers_all_bytes() const { return covers_; }

  // `counted`: with TokenScan::by_ticks. `exits`: with TokenScan::exits. Where an automaton soon is
  // in the states of one whose scan is known, as one of names that differ from a few is in that of
  // any text, only what differs is walked.
  TokenScan Scan(Automata* automata, Automata::State state, bool counted, bool exits = true) const;
  // Scans of what JSON is full of, by the terms of StandardTerms; null for others.
  const TokenScan* Standard(const StandardTerms& standard, TermId term, bool counted) const;

 private:
  // What the bytes below a node are: where an automaton passes them all and stays where it is,
  // nobody need look at them one by one.
  struct Below {
    uint64_t ascii[2] = {0, 0};
    bool high = false;   // bytes from 0x80 are among them
    bool valid = true;   // as UTF-8, when a character begins behind the node
  };
  // What leads from a state back to it.
  struct Loop {
    Automata::State state = Automata::kDead;
    uint64_t ascii[2] = {0, 0};
    bool characters = false;  // every character beyond ASCII
  };
  void Summarize();
  static Loop LoopOf(Automata* automata, Automata::State state);
  struct Walk;
  void WalkAll(Walk* walk) const;
  bool WalkDifference(Walk* walk) const;
  bool MostlyAlike(Walk* walk) const;
  bool Passes(const Loop& loop, uint32_t node) const {
    const Below& below = below_[node];
    return ((below.ascii[0] & ~loop.ascii[0]) | (below.ascii[1] & ~loop.ascii[1])) == 0 &&
           (!below.high || (loop.characters && below.valid));
  }
  void ScanTokens(uint32_t first, uint32_t last, uint32_t ticks, Automata::State state,
                  Walk* walk) const;
  void ForbidTokens(uint32_t first, uint32_t last, TokenScan* scan) const;
  static void SortByTicks(TokenScan* scan);

  int64_t vocabulary_;
  bool covers_ = false;
  std::vector<Below> below_;
  std::vector<uint16_t> characters_;  // of each of tokens_
  std::vector<Node> nodes_;
  std::vector<uint32_t> tokens_;
  std::string text_;
  std::vector<uint32_t> offsets_;
  TokenScan free_rest_, plain_rest_, counted_rest_;
};

}  // namespace lode::text::grammar
