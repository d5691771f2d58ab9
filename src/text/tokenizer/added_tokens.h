// Added tokens: texts that become one id before the model sees them (control tokens, mostly), found
// leftmost-longest in a text. A trie; not an automaton: the texts are short.
// Built once, then read-only and free for all threads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lode::text {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool single_word = false;  // only where both neighbours are no word characters
  bool lstrip = false;       // swallows white space on its left
  bool rstrip = false;       // and on its right
  bool normalized = false;   // looked for in normalized text
  bool special = false;      // a control token: dropped by skip_special, ignored in plain text
};

// A cut of a text: plain text (id -1) or an added token.
struct AddedSpan {
  size_t begin;
  size_t end;
  int32_t id;
};

class AddedMatcher {
 public:
  // `text`: what to look for (the token's content, or its normalized form). Errors: too long.
  Result<void> Add(std::string_view text, const AddedToken& token);
  bool empty() const { return tokens_.empty(); }

  // Cuts valid UTF-8 into added tokens and the text between; they tile the text, except where a
  // token swallowed white space twice. `recognise_special` false: special tokens are plain text.
  void Split(std::string_view text, bool recognise_special, std::vector<AddedSpan>* spans) const;

 private:
  // The index of the longest token at text[at], or -1.
  int32_t LongestAt(std::string_view text, size_t at, size_t* end) const;
  uint32_t Child(uint32_t node, unsigned char byte) const;
  uint32_t AddChild(uint32_t node, unsigned char byte);

  struct Flags {
    int32_t id;
    bool single_word, lstrip, rstrip, special;
  };
  std::vector<Flags> tokens_;
  std::vector<int32_t> token_of_node_ = {-1};
  // Edges: open addressing on node << 8 | byte; node 0 is the root and nobody's child.
  struct Edge {
    uint64_t key;
    uint32_t child;  // 0: empty
  };
  std::vector<Edge> edges_ = std::vector<Edge>(16);
  size_t edge_count_ = 0;
  bool first_[256] = {};
};

}  // namespace lode::text
