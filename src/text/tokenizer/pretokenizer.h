// Pre-tokenizers: text -> pieces, each of which the model encodes by itself. Built from the
// "pre_tokenizer" of a tokenizer.json, or from the name in a GGUF. Then read-only and free for all
// threads.
//
// The byte alphabet is not spelled out where it need not be: when the last step is ByteLevel, pieces
// stay raw bytes (pieces_are_bytes) and the model takes them so.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/tokenizer/pattern.h"

namespace lode::text {

class PreTokenizer {
 public:
  // `json` may be null: the whole text is one piece. Errors: kUnsupported naming the type.
  static Result<PreTokenizer> Create(const Json& json);
  PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // The pieces are raw bytes of the byte alphabet's vocabulary.
  bool pieces_are_bytes() const { return pieces_are_bytes_; }
  // Set when cutting by this one pattern is all there is to do (the fast path).
  std::optional<Pattern> only_pattern() const { return only_pattern_; }

  // Cuts valid UTF-8. `at_start`: the text begins where the whole input begins (Metaspace's "first").
  // Pieces point into `text` or into `storage`; none is empty.
  Result<void> Split(std::string_view text, bool at_start, std::deque<std::string>* storage,
                     std::vector<std::string_view>* pieces) const;

 private:
  struct Step;
  Result<void> Append(const Json& json);

  std::vector<Step> steps_;
  bool pieces_are_bytes_ = false;
  std::optional<Pattern> only_pattern_;
};

// The pre-tokenizer that a GGUF's tokenizer.ggml.pre names, spelled as tokenizer.json would.
// Errors: kUnsupported naming the name and the known ones.
Result<Json> PreTokenizerOfGguf(const std::string& pre);

}  // namespace lode::text
