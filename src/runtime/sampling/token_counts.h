// How often each token stands in the part of a text that penalties look at. A table is a function
// of that text: built at once by Assign or kept up token by token with Push and Pop, it is the
// same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lode::runtime {

// The tokens before a position, the newest last. With a window its last `window` + 1 are enough.
struct History {
  std::span<const int32_t> tokens;
  size_t answer_begin = 0;  // index of the first that the model wrote; those before are the prompt
};

// Memory: 16 bytes for each token of the vocabulary, taken once. Threads: one owner.
class TokenCounts {
 public:
  struct Count {
    uint32_t all = 0;     // in prompt and answer
    uint32_t answer = 0;  // in the answer
    bool operator==(const Count&) const = default;
  };

  explicit TokenCounts(int64_t vocabulary);
  static uint64_t Bytes(int64_t vocabulary);

  // Counts the last `window` tokens of `history` (0: all). Ids outside the vocabulary do not count.
  void Assign(const History& history, int64_t window);
  // The same for a history that was counted but for its last token.
  void Push(const History& history, int64_t window);
  // Takes the last token of a counted history back; it still stands in `history`.
  void Pop(const History& history, int64_t window);

  Count count(int32_t token) const { return counts_[static_cast<size_t>(token)]; }
  // Tokens with a count above 0, in no particular order.
  std::span<const int32_t> seen() const { return {seen_.data(), seen_.size()}; }

 private:
  void Add(const History& history, size_t index, bool enters);

  std::vector<Count> counts_;
  std::vector<int32_t> seen_;  // its capacity is the vocabulary
  std::vector<int32_t> place_;  // in seen_, of tokens with a count
};

}  // namespace lode::runtime
