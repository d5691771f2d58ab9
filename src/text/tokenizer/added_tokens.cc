#include "text/tokenizer/added_tokens.h"

#include <algorithm>

#include "base/text.h"
#include "text/tokenizer/unicode.h"

namespace lode::text {
namespace {

// Matching costs up to this much per character of text; real added tokens have a few dozen bytes.
constexpr size_t kContentBytesMax = 1024;

uint64_t EdgeHash(uint64_t key) { return (key * 0x9E3779B97F4A7C15) >> 24; }

}  // namespace

uint32_t AddedMatcher::Child(uint32_t node, unsigned char byte) const {
  const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
  const size_t mask = edges_.size() - 1;
  for (size_t slot = EdgeHash(key) & mask;; slot = (slot + 1) & mask) {
    if (edges_[slot].child == 0) return 0;
    if (edges_[slot].key == key) return edges_[slot].child;
  }
}

uint32_t AddedMatcher::AddChild(uint32_t node, unsigned char byte) {
  const auto insert = [](std::vector<Edge>* edges, const Edge& edge) {
    const size_t mask = edges->size() - 1;
    size_t slot = EdgeHash(edge.key) & mask;
    while ((*edges)[slot].child != 0) slot = (slot + 1) & mask;
    (*edges)[slot] = edge;
  };
  if (++edge_count_ * 2 > edges_.size()) {
    std::vector<Edge> larger(edges_.size() * 2);
    for (const Edge& edge : edges_) {
      if (edge.child != 0) insert(&larger, edge);
    }
    edges_ = std::move(larger);
  }
  const auto child = static_cast<uint32_t>(token_of_node_.size());
  token_of_node_.push_back(-1);
  insert(&edges_, {static_cast<uint64_t>(node) << 8 | byte, child});
  return child;
}

Result<void> AddedMatcher::Add(std::string_view text, const AddedToken& token) {
  if (text.empty()) return {};  // matches nothing, as in Hugging Face's tokenizers
  if (text.size() > kContentBytesMax) {
    return Error(Code::kBadInput, Format("added token %s has %zu bytes; more than %zu are not allowed",
                                         Quote(text).c_str(), text.size(), kContentBytesMax));
  }
  uint32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const uint32_t child = Child(node, byte);
    node = child != 0 ? child : AddChild(node, byte);
  }
  first_[static_cast<unsigned char>(text[0])] = true;
  token_of_node_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back({token.id, token.single_word, token.lstrip, token.rstrip, token.special});
  return {};
}

int32_t AddedMatcher::LongestAt(std::string_view text, size_t at, size_t* end) const {
  int32_t longest = -1;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    node = Child(node, static_cast<unsigned char>(text[i]));
    if (node == 0) break;
    if (token_of_node_[node] >= 0) {
      longest = token_of_node_[node];
      *end = i + 1;
    }
  }
  return longest;
}

void AddedMatcher::Split(std::string_view text, bool recognise_special,
                         std::vector<AddedSpan>* spans) const {
  spans->clear();
  size_t plain_begin = 0;
  for (size_t at = 0; !tokens_.empty() && at < text.size();) {
    size_t end = 0;
    const int32_t found =
        first_[static_cast<unsigned char>(text[at])] ? LongestAt(text, at, &end) : -1;
    if (found < 0) {
      ++at;
      continue;
    }
    const Flags& token = tokens_[found];
    size_t begin = at;
    at = end;  // a match that does not count is not searched for shorter ones
    if (token.special && !recognise_special) continue;
    if (token.single_word) {
      const bool word_before =
          begin > 0 && IsWordChar(CharAt(text, CharBefore(text, begin)).code_point);
      const bool word_behind = end < text.size() && IsWordChar(CharAt(text, end).code_point);
      if (word_before || word_behind) continue;
    }
    if (token.lstrip) {
      while (begin > plain_begin) {
        const size_t before = CharBefore(text, begin);
        if ((CharAt(text, before).char_class & kSpace) == 0) break;
        begin = before;
      }
      begin = std::max(begin, plain_begin);
    }
    if (token.rstrip) {
      for (Char c = CharAt(text, end); (c.char_class & kSpace) != 0; c = CharAt(text, end)) {
        end += c.bytes;
      }
    }
    if (plain_begin < begin) spans->push_back({plain_begin, begin, -1});
    spans->push_back({begin, end, token.id});
    plain_begin = end;
  }
  if (plain_begin < text.size()) spans->push_back({plain_begin, text.size(), -1});
}

}  // namespace lode::text
