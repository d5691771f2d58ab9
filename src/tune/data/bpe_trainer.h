// Learns a byte-level BPE vocabulary from text: pieces as the pre-tokenizer's expression cuts them,
// counted; then the most frequent pair of neighbours becomes a token, until there are enough. Equal
// counts go to the pair with the smaller ids, as in Hugging Face's `tokenizers`, so both learn the
// same merges from the same pieces, and nothing depends on the order of the texts.
// Source: Sennrich et al. 2016; counts are kept up to date by pair instead of counted anew.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/tokenizer/pretokenizer.h"
#include "tune/data/record.h"

namespace lode::tune {

struct BpeOptions {
  int64_t vocabulary = 8192;         // tokens, special ones and the 256 bytes included
  int64_t count_min = 2;             // a pair must occur so often
  std::string regex;                 // empty: the default, which keeps digits apart
  std::vector<std::string> special;  // get the first ids
  std::string eos;                   // one of `special`
};

// Ids: special tokens, then bytes in the order of their letters, then merges.
struct BpeVocabulary {
  std::vector<std::string> special;
  std::vector<std::pair<int32_t, int32_t>> merges;
  std::vector<std::string>
      tokens;  // all of them; but for special ones in letters (byte_alphabet.h)
};

class BpeTrainer {
 public:
  // Errors: an expression that does not compile, a vocabulary without room for the bytes, special
  // tokens that are empty, repeated, or do not have `eos`.
  static Result<BpeTrainer> Make(const BpeOptions& options);

  // Counts the pieces of a text. Errors: those of the expression.
  Result<void> Add(std::string_view text);
  // Everything that somebody says in the record.
  Result<void> AddRecord(const DataRecord& record);

  // `progress` is told the tokens there are; false stops with kCancelled. Learns fewer than asked
  // for when no pair is left that is frequent enough.
  Result<BpeVocabulary> Train(const std::function<bool(int64_t tokens)>& progress) const;

  // tokenizer.json and tokenizer_config.json.
  Json TokenizerJson(const BpeVocabulary& vocabulary) const;
  Json ConfigJson(const BpeVocabulary& vocabulary) const;

  int64_t pieces() const { return pieces_; }
  int64_t different_pieces() const { return static_cast<int64_t>(counts_.size()); }

 private:
  BpeTrainer() = default;

  BpeOptions options_;
  Json pre_tokenizer_json_;
  text::PreTokenizer pre_tokenizer_;
  std::unordered_map<std::string, int64_t> counts_;
  int64_t pieces_ = 0;
};

}  // namespace lode::tune
