// A grammar (text/grammar) as the runtime's Constraint: which token ids may come next, the stop
// tokens among them where the answer may end. After a stop token nothing but stop tokens follows.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/sampling/constraint.h"
#include "text/grammar/matcher.h"
#include "text/grammar/token_trie.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::chat {

// The vocabulary of `tokenizer` as grammars see it. Control tokens are left out, but those of
// `named` ("<tool_call>", "</think>") stand for their own text. `vocabulary`: rows of the model's
// logits, at least the tokenizer's; what is more is never allowed. Costs some tenths of a second;
// once a model.
std::shared_ptr<const text::grammar::TokenTrie> MakeTokenTrie(
    const text::Tokenizer& tokenizer, int64_t vocabulary, std::span<const std::string> named = {});

// Life: keeps the grammar and the trie. Threads: one at a time.
class GrammarConstraint : public runtime::Constraint {
 public:
  GrammarConstraint(std::shared_ptr<const text::grammar::Grammar> grammar,
                    std::shared_ptr<const text::grammar::TokenTrie> trie,
                    std::vector<int32_t> stop_ids, text::grammar::MatcherLimits limits = {});

  runtime::ConstraintState Start() const override;
  void Mask(runtime::ConstraintState state, runtime::TokenMask* mask) override;
  Result<runtime::ConstraintState> Advance(runtime::ConstraintState state, int32_t token) override;

  // The text that must follow, empty where there is a choice.
  std::string Forced(runtime::ConstraintState state);
  bool CanEnd(runtime::ConstraintState state) const;

 private:
  std::shared_ptr<const text::grammar::TokenTrie> trie_;
  std::vector<int32_t> stop_ids_;
  text::grammar::Matcher matcher_;
};

}  // namespace lode::chat
