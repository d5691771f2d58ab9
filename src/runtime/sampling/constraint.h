// What an answer must look like, as far as the runtime can know: which token ids may come next.
// What ids mean (a grammar over text, a schema) is the business of whoever implements Constraint.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace lode::runtime {

// A set of token ids, a bit each. Bits behind the vocabulary are always 0.
class TokenMask {
 public:
  // Empty, or of all tokens.
  explicit TokenMask(int64_t vocabulary, bool all = false)
      : vocabulary_(vocabulary), words_(static_cast<size_t>((vocabulary + 63) / 64)) {
    if (all) AllowAll();
  }

  int64_t vocabulary() const { return vocabulary_; }
  bool allowed(int32_t token) const { return words_[Word(token)] & Bit(token); }
  void Allow(int32_t token) { words_[Word(token)] |= Bit(token); }
  void Forbid(int32_t token) { words_[Word(token)] &= ~Bit(token); }
  void ForbidAll() { words_.assign(words_.size(), 0); }
  void AllowAll() {
    words_.assign(words_.size(), ~uint64_t{0});
    TrimTail();
  }
  // Keeps what is in both. The vocabularies must be the same.
  void Intersect(const TokenMask& other) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= other.words_[i];
  }
  int64_t count() const {
    int64_t count = 0;
    for (const uint64_t word : words_) count += std::popcount(word);
    return count;
  }
  // The only token in the set; -1 if there are none or several.
  int32_t only() const {
    int32_t found = -1;
    for (size_t i = 0; i < words_.size(); ++i) {
      if (words_[i] == 0) continue;
      if (found >= 0 || !std::has_single_bit(words_[i])) return -1;
      found = static_cast<int32_t>(i * 64) + std::countr_zero(words_[i]);
    }
    return found;
  }
  // Token 64 i + b is bit b of word i. Whoever writes words whole sets no bit behind the vocabulary
  // that TrimTail would not clear.
  std::span<uint64_t> words() { return words_; }
  std::span<const uint64_t> words() const { return words_; }
  void TrimTail() {
    if (vocabulary_ % 64 != 0) words_.back() &= (uint64_t{1} << (vocabulary_ % 64)) - 1;
  }
  bool operator==(const TokenMask&) const = default;

 private:
  static size_t Word(int32_t token) { return static_cast<size_t>(token) / 64; }
  static uint64_t Bit(int32_t token) { return uint64_t{1} << (static_cast<uint32_t>(token) % 64); }

  int64_t vocabulary_;
  std::vector<uint64_t> words_;
};

// Where in its constraint an answer stands: a value, so that speculation copies it and forgets the
// copies that led nowhere. What the numbers say only the constraint knows; a deeper state (a stack)
// lies interned in the constraint and is named by them. Equal states allow the same continuations.
struct ConstraintState {
  uint64_t bits[2] = {0, 0};
  bool operator==(const ConstraintState&) const = default;
};

// Life: as long as the request whose states it hands out; what it interns goes with it.
// Threads: one at a time calls it.
class Constraint {
 public:
  virtual ~Constraint() = default;
  virtual ConstraintState Start() const = 0;
  // This state's mask may be asked for, at the earliest when the step has run that the state is
  // known before, else soon. Called as soon as a state is known, a prompt or a step of the model
  // before its Mask where that can be: a constraint with threads of its own begins to compute here,
  // and its Mask waits for that.
  virtual void Prefetch(ConstraintState) {}
  // Sets `mask` to what may come next, stop tokens among it where the answer may end.
  virtual void Mask(ConstraintState state, TokenMask* mask) = 0;
  // The state after `token`. Errors: kBadInput for a token that Mask does not allow there; kNoSpace
  // when a limit of the constraint is reached.
  virtual Result<ConstraintState> Advance(ConstraintState state, int32_t token) = 0;
};

// Only tokens of a set, everywhere.
class AllowList : public Constraint {
 public:
  explicit AllowList(TokenMask allowed) : allowed_(std::move(allowed)) {}
  ConstraintState Start() const override { return {}; }
  void Mask(ConstraintState, TokenMask* mask) override { *mask = allowed_; }
  Result<ConstraintState> Advance(ConstraintState state, int32_t token) override {
    if (token < 0 || token >= allowed_.vocabulary() || !allowed_.allowed(token))
      return Error(Code::kBadInput, "token " + std::to_string(token) + " is not in the list");
    return state;
  }

 private:
  TokenMask allowed_;
};

// One given text, and after it only `stop`.
class FixedSequence : public Constraint {
 public:
  FixedSequence(std::vector<int32_t> tokens, int32_t stop)
      : tokens_(std::move(tokens)), stop_(stop) {}
  ConstraintState Start() const override { return {}; }
  void Mask(ConstraintState state, TokenMask* mask) override {
    mask->ForbidAll();
    mask->Allow(At(state));
  }
  Result<ConstraintState> Advance(ConstraintState state, int32_t token) override {
    if (token != At(state))
      return Error(Code::kBadInput, "token " + std::to_string(token) + " does not follow here");
    ++state.bits[0];
    return state;
  }

 private:
  int32_t At(ConstraintState state) const {
    return state.bits[0] < tokens_.size() ? tokens_[state.bits[0]] : stop_;
  }

  std::vector<int32_t> tokens_;
  int32_t stop_;
};

}  // namespace lode::runtime
