// Holds an answer to its form while it is sampled (runtime/sampling/constraint.h): the one state
// machine of thinking, calls and answer, with a budget for the thinking.
#pragma once

#include <cstdint>
#include <future>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "chat/answer_grammar.h"
#include "runtime/sampling/constraint.h"
#include "text/grammar/matcher.h"
#include "text/grammar/token_trie.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::chat {

struct AnswerLimits {
  // Tokens of a trace after which it is closed; below 0: it may be as long as it likes.
  int64_t thinking_tokens_max = -1;
  std::string thinking_end;  // what the trace then ends with, before its closing tag
};

// Matchers that walked an answer and wait for the next one of the same grammar, with the states and
// masks that they know. Threads: free for all.
class IdleMatchers {
 public:
  // Null: none waits.
  std::unique_ptr<text::grammar::Matcher> Take(const text::grammar::Grammar* grammar);
  // It is kept while there is room, the longest idle goes first.
  void GiveBack(std::unique_ptr<text::grammar::Matcher> matcher);

 private:
  struct Idle {
    std::unique_ptr<text::grammar::Matcher> matcher;
    size_t bytes = 0;
  };
  std::mutex mutex_;
  std::list<Idle> idle_;  // newest first
  size_t bytes_ = 0;
};

// Makes the constraints of one model's answers; what was compiled is kept, the least recently used
// goes first. The trie of the vocabulary is built meanwhile. Life: the tokenizer outlives it all,
// and it all that it made.
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
  const text::grammar::TokenTrie* Trie();

  const text::Tokenizer* tokenizer_;
  const int64_t vocabulary_;
  const std::vector<int32_t> stop_ids_;
  std::future<std::unique_ptr<const text::grammar::TokenTrie>> building_;
  std::unique_ptr<const text::grammar::TokenTrie> trie_;  // Trie() knows when it is there
  std::once_flag built_;
  // Shared with the constraints, which may end later.
  std::shared_ptr<IdleMatchers> idle_ = std::make_shared<IdleMatchers>();
  std::mutex mutex_;
  std::list<Kept> kept_;  // newest first
  size_t kept_bytes_ = 0;
};

}  // namespace lode::chat
