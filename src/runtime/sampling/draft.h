// Speculation: cheap guesses of the next tokens, checked by one step of the model over all of them.
// A guess is kept if and only if it equals the token that the model's own draw gives with the same
// noise (sampler.h), so the text is the unspeculated text at any temperature, whoever guesses.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "runtime/sampling/answer_mask.h"
#include "runtime/sampling/sampler.h"

namespace lode::runtime {

// Who guesses. One for each sequence. Guesses cost or save time and nothing else.
class Drafter {
 public:
  virtual ~Drafter() = default;
  // Writes up to `drafts.size()` tokens that may follow `history` (the newest last, and not yet run
  // by the model); returns how many.
  virtual int64_t Propose(std::span<const int32_t> history, std::span<int32_t> drafts) = 0;
  // What became of the last proposal.
  virtual void Observe(int64_t proposed, int64_t accepted) {}
};

struct NgramOptions {
  int64_t shortest = 2;  // tokens of a match
  int64_t longest = 4;
  int64_t tokens_max = 65536;  // so many n-grams of each length are remembered at least
};

// Prompt lookup (Saxena 2023): finds the last tokens of the text earlier in it, the longest match
// first and of those the newest, and proposes what followed there; past the end it repeats its own
// proposal, as a period would. An index of hashes finds the place; the tokens themselves are
// compared, so a stale entry (of a text that was cut or exchanged) cannot propose what does not
// stand there. Memory: taken once; when it is full the oldest entries go.
class NgramDrafter : public Drafter {
 public:
  explicit NgramDrafter(const NgramOptions& options = {});
  static uint64_t Bytes(const NgramOptions& options);

  int64_t Propose(std::span<const int32_t> history, std::span<int32_t> drafts) override;
  // Does Propose's reading ahead of it, in portions: of `history`, what was not read yet.
  void Read(std::span<const int32_t> history);
  // Tokens that matched in the last proposal; 0: none did.
  int64_t matched() const { return matched_; }

 private:
  static constexpr size_t kWays = 4;
  struct Entry {
    uint32_t check = 0;  // the rest of the hash
    uint32_t end = 0;    // index behind the n-gram; 0: none
  };
  Entry* Bucket(std::span<const int32_t> gram, uint32_t* check);
  void Insert(std::span<const int32_t> history, int64_t length, size_t end);
  size_t Find(std::span<const int32_t> history, int64_t length);

  NgramOptions options_;
  std::vector<Entry> entries_;
  uint64_t bucket_mask_;
  size_t read_ = 0;  // n-grams that end at or before it are in the index
  int64_t matched_ = 0;
};

// For tests: knows the text and is right exactly as often as a script says, which begins anew at
// its end.
class ScriptedDrafter : public Drafter {
 public:
  // `text`: prompt and answer. `accepts`: of each proposal, how many drafts are right (all, when
  // fewer are asked for).
  ScriptedDrafter(std::vector<int32_t> text, std::vector<int64_t> accepts, int64_t vocabulary)
      : text_(std::move(text)), accepts_(std::move(accepts)), vocabulary_(vocabulary) {}

  int64_t Propose(std::span<const int32_t> history, std::span<int32_t> drafts) override;

 private:
  std::vector<int32_t> text_;
  std::vector<int64_t> accepts_;
  int64_t vocabulary_;
  size_t step_ = 0;
};

// What a sequence's choices depend on and change. The owner keeps it.
struct DrawState {
  uint64_t position = 0;  // of the next token to be chosen
  // For penalties: the tokens before (History), to which chosen ones are appended; reserve room.
  // May be null without penalties. `counts`: of it and the options' window; null: counted at every
  // token.
  std::vector<int32_t>* history = nullptr;
  size_t answer_begin = 0;
  TokenCounts* counts = nullptr;
  AnswerMask* mask = nullptr;  // may be null
};

// The token that follows `drafts` by a draft head's logits [V], drawn with the noise, penalties and
// mask that the model's own draw there will have, which makes it as likely as can be to be the same
// (Daliri et al. 2024). `state` is used and left as it was.
// Errors: those of the sampler and the constraint; they end the drafts, not the text.
Result<int32_t> DrawDraft(Sampler& sampler, std::span<const float> logits,
                          std::span<const int32_t> drafts, const SamplingOptions& options,
                          DrawState* state);

struct Accepted {
  int64_t count = 0;  // drafts that stand: the rows 0 .. count of the step are now the sequence's
  int32_t next = 0;   // the newest token, which no row has run yet
  bool ended = false;  // on_token said so, of `next`
};

// One token after another from `logits` [drafts + 1, V] (row 0 after the last true token, row i
// after draft i - 1) for as long as each equals its draft. Without drafts: plain decoding.
// `on_token` (may be empty) sees each token as it is chosen; false ends the answer with it.
// Errors: those of Sampler::Sample and AnswerMask::Take, at the token where unspeculated
// decoding meets them; the tokens before have been handed to on_token and stand in `state`.
Result<Accepted> AcceptDrafts(Sampler& sampler, const float* logits,
                              std::span<const int32_t> drafts, const SamplingOptions& options,
                              DrawState* state,
                              const std::function<bool(const Sampled&)>& on_token = nullptr);

}  // namespace lode::runtime
