#include "chat/grammar_constraint.h"

#include <algorithm>

namespace lode::chat {

using runtime::ConstraintState;
using text::grammar::MatchState;
using text::grammar::TokenTrie;

std::shared_ptr<const TokenTrie> MakeTokenTrie(const text::Tokenizer& tokenizer, int64_t vocabulary,
                                               std::span<const std::string> named) {
  std::vector<std::string_view> tokens(static_cast<size_t>(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.Has(id)) continue;
    const bool wanted =
        !tokenizer.IsSpecial(id) ||
        std::find(named.begin(), named.end(), tokenizer.TokenText(id)) != named.end();
    if (wanted) tokens[static_cast<size_t>(id)] = tokenizer.TokenBytes(id);
  }
  return std::make_shared<const TokenTrie>(tokens, vocabulary);
}

GrammarConstraint::GrammarConstraint(std::shared_ptr<const text::grammar::Grammar> grammar,
                                     std::shared_ptr<const TokenTrie> trie,
                                     std::vector<int32_t> stop_ids,
                                     text::grammar::MatcherLimits limits)
    : trie_(std::move(trie)),
      stop_ids_(std::move(stop_ids)),
      matcher_(std::move(grammar), trie_.get(), limits) {}

// bits[0]: the matcher's state; bits[1]: 1 after a stop token.
ConstraintState GrammarConstraint::Start() const { return {{matcher_.Start(), 0}}; }

bool GrammarConstraint::CanEnd(ConstraintState state) const {
  return state.bits[1] != 0 || matcher_.CanEnd(static_cast<MatchState>(state.bits[0]));
}

void GrammarConstraint::Mask(ConstraintState state, runtime::TokenMask* mask) {
  mask->ForbidAll();
  if (state.bits[1] == 0) {
    LODE_CHECK(mask->words().size() == trie_->words());
    matcher_.Mask(static_cast<MatchState>(state.bits[0]), mask->words());
    for (const int32_t stop : stop_ids_) mask->Forbid(stop);
  }
  if (!CanEnd(state)) return;
  for (const int32_t stop : stop_ids_) mask->Allow(stop);
}

Result<ConstraintState> GrammarConstraint::Advance(ConstraintState state, int32_t token) {
  if (std::find(stop_ids_.begin(), stop_ids_.end(), token) != stop_ids_.end()) {
    if (!CanEnd(state))
      return Error(Code::kBadInput, "the answer may not end here");
    return ConstraintState{{state.bits[0], 1}};
  }
  if (state.bits[1] != 0 || token < 0)
    return Error(Code::kBadInput, "token " + std::to_string(token) + " comes after the end");
  LODE_ASSIGN(const MatchState next, matcher_.Advance(static_cast<MatchState>(state.bits[0]),
                                                      static_cast<uint32_t>(token)));
  return ConstraintState{{next, 0}};
}

std::string GrammarConstraint::Forced(ConstraintState state) {
  if (state.bits[1] != 0) return "";
  return matcher_.Forced(static_cast<MatchState>(state.bits[0]));
}

}  // namespace lode::chat
