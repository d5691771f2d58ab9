// Holds an answer to its form while it is sampled (runtime/sampling/constraint.h): the one state
// machine of thinking, calls and answer, with a budget for the thinking.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "chat/answer_grammar.h"
#include "runtime/sampling/constraint.h"
#include "text/grammar/token_trie.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::chat {

struct AnswerLimits {
  // Tokens of a trace after which it is closed; below 0: it may be as long as it likes.
  int64_t thinking_tokens_max = -1;
  std::string thinking_end;  // what the trace then ends with, before its closing tag
};

// Makes the constraints of one model's answers; what was compiled is kept, the least recently used
// goes first. Life: the tokenizer outlives it and all that it made, and so does it.
// Threads: free for all.
class AnswerForms {
 public:
  // `vocabulary`: rows of the model's head. `stop_ids`: what ends an answer.
  AnswerForms(const text::Tokenizer* tokenizer, int64_t vocabulary, std::vector<int32_t> stop_ids);

  // nullptr: nothing is to be held. Errors: CompileAnswer's.
  Result<std::shared_ptr<runtime::Constraint>> Make(const AnswerForm& form,
                                                    const AnswerLimits& limits = {});

 private:
  struct Kept {
    std::string key;
    std::shared_ptr<const text::grammar::Grammar> grammar;
    size_t bytes = 0;
  };
  Result<std::shared_ptr<const text::grammar::Grammar>> Compile(const AnswerForm& form);

  const text::Tokenizer* tokenizer_;
  const int64_t vocabulary_;
  const std::vector<int32_t> stop_ids_;
  std::unique_ptr<const text::grammar::TokenTrie> trie_;
  std::mutex mutex_;
  std::list<Kept> kept_;  // newest first
  size_t kept_bytes_ = 0;
};

}  // namespace lode::chat
