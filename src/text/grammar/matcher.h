// Walks a Grammar byte by byte and token by token, and says which tokens may come next.
//
// A state is a number: what it means (a set of lexemes in progress, each with everything it may
// return to) is interned here, so copying a state is free, going back is using an older number, and
// equal states are equal numbers. Returns are sets of frames that are shared, as in a GLR parser,
// so an ambiguous grammar costs its ambiguity once. Masks and steps are kept by state.
//
// Whatever Mask allows can be finished, as far as single bytes are tokens (TokenTrie::
// covers_all_bytes). When the limit of memory is reached, further states are refused (Advance says
// so, Mask allows only what is known): nothing wrong is ever allowed.
// Life: keeps the grammar, the trie outlives it. Threads: one at a time.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "text/grammar/grammar.h"
#include "text/grammar/interner.h"
#include "text/grammar/token_trie.h"

namespace lode::text::grammar {

struct MatcherLimits {
  size_t bytes_max = size_t{256} << 20;     // of everything that is interned and kept
  size_t masks_bytes_max = size_t{8} << 20;  // of masks and scans, each; older ones go
  size_t configs_max = 20000;               // lexemes in progress at once
  // Frames looked at: of one step, and in all. Only ambiguous grammars need many.
  size_t step_work_max = 200000, work_max = 100000000;
};

using MatchState = uint32_t;
inline constexpr MatchState kNoMatch = 0;

class Matcher {
 public:
  Matcher(std::shared_ptr<const Grammar> grammar, const TokenTrie* trie, MatcherLimits limits = {});

  MatchState Start() const { return start_; }
  // kNoMatch if `byte` may not follow, or a limit is reached.
  MatchState Step(MatchState state, uint8_t byte) {
    MatchState* known = steps_.Find(uint64_t{state} << 8 | byte);
    return known != nullptr ? *known : Compute(state, byte);
  }
  MatchState StepAll(MatchState state, std::string_view bytes);
  // Errors: kBadInput for a token that may not follow; kNoSpace at a limit.
  Result<MatchState> Advance(MatchState state, uint32_t token);
  // The text may end here.
  bool CanEnd(MatchState state) const { return flags_[state] & kMayEnd; }
  // Sets `words` (TokenTrie::words() of them) to the tokens that may come next.
  void Mask(MatchState state, std::span<uint64_t> words);
  // The bytes that must follow, at most `bytes_max`; empty where there is a choice or the end may
  // be.
  std::string Forced(MatchState state, size_t bytes_max = 4096);
  // The bytes that may follow.
  ByteSet NextBytes(MatchState state);

  // For another text: what is known stays, and the limit of work counts anew.
  void Renew() { work_ = 0; }
  bool limit_reached() const { return limit_reached_ || automata_.limit_reached(); }
  size_t bytes() const;
  const Grammar& grammar() const { return *grammar_; }

 private:
  static constexpr uint8_t kMayEnd = 1;
  static constexpr uint32_t kLiteralHead = 0x80000000;
  static constexpr uint32_t kNoLexeme = UINT32_MAX;
  // A lexeme in progress: kLiteralHead + place in the pool, or a state of the automata.
  struct Config {
    uint32_t head;
    uint32_t lexeme;   // of a counted automaton; otherwise kNoLexeme
    uint32_t count;    // its characters so far
    uint32_t returns;  // set of frames
    auto operator<=>(const Config&) const = default;
  };
  // What goes on when a lexeme or a node is done: `node`, from child or repetition `index` on. Of a
  // set `index` is a list in marks_: 2 * the others that were there, + 1 behind a separator; then
  // the parts that were, sorted.
  struct Frame {
    uint32_t node, index, returns;
  };
  struct Moved {
    Config config;
    bool alive;    // it may go on
    bool accepts;  // it may end here
  };

  // matcher.cc: states
  MatchState Compute(MatchState state, uint8_t byte);
  Moved Move(const Config& config, uint8_t byte);
  bool Accepts(const Lexeme& lexeme, uint32_t head, uint32_t count) const;
  std::span<const Config> configs(MatchState state) const {
    const auto data = states_.data(state);
    return {reinterpret_cast<const Config*>(data.data() + 1), (data.size() - 1) / 4};
  }
  uint32_t InternFrame(Frame frame);
  void Resume(std::span<const uint32_t> frames);
  void ResumeFrame(const Frame& frame);
  bool ResumeSet(const Frame& frame);
  void EnterParts(NodeId set, uint32_t marks, uint32_t returns);
  SetRule::Done DoneOf(const SetRule& rule, uint32_t marks) const;
  void Enter(NodeId node, std::span<const uint32_t> frames);
  void Enter(NodeId node, uint32_t frame) { Enter(node, std::span<const uint32_t>(&frame, 1)); }
  void ExpandAll();
  void Expand(NodeId node, uint32_t returns);
  void AddLexeme(NodeId node, uint32_t returns);
  MatchState Close();
  MatchState After(uint32_t returns);

  // mask.cc
  void ComputeMask(MatchState state, std::span<uint64_t> words);
  void MaskLiteral(const Config& config, std::span<uint64_t> words);
  void MaskAutomaton(const Config& config, std::span<uint64_t> words);
  void MaskCounted(const Config& config, const TokenScan& scan, std::span<uint64_t> words);
  void MaskInside(const Config& config, const TokenScan& scan, std::span<uint64_t> words);
  void MaskLengths(const Config& config, const TokenScan& scan, std::span<uint64_t> words);
  void WalkBelow(uint32_t node, MatchState state, std::span<uint64_t> words);
  const TokenScan& ScanOf(const Config& config, bool counted, bool exits, TokenScan* scratch);
  bool OnlyEnds(MatchState state) const { return states_.data(state).size() == 1; }
  void AllowAt(uint32_t node, std::span<uint64_t> words) const;

  std::shared_ptr<const Grammar> grammar_;
  const TokenTrie* trie_;
  MatcherLimits limits_;
  Automata automata_;
  bool limit_reached_ = false;
  MatchState start_ = kNoMatch;

  Interner frames_, returns_, states_, marks_;
  std::vector<uint8_t> flags_;
  FlatMap steps_;
  std::unordered_map<uint32_t, MatchState> after_;

  // Scratch of one closure.
  bool may_end_ = false;
  size_t work_ = 0, step_work_ = 0;
  uint32_t epoch_ = 0;
  std::vector<uint32_t> frame_seen_;         // epoch in which a frame was resumed
  std::vector<uint32_t> resuming_;
  std::vector<uint32_t> node_seen_;          // epoch in which a node was entered, and its
  std::vector<uint32_t> node_pending_;       // place in pending_
  std::vector<std::vector<uint32_t>> pending_;
  size_t pending_used_ = 0;
  std::vector<std::pair<uint32_t, NodeId>> heap_;
  std::vector<Config> configs_;

  // Masks and scans by least recent use.
  struct Kept {
    MatchState state;
    std::vector<uint64_t> words;
  };
  std::list<Kept> masks_;
  std::unordered_map<MatchState, std::list<Kept>::iterator> mask_of_;
  std::unordered_map<uint64_t, TokenScan> scans_;
  size_t scans_bytes_ = 0;
  std::vector<MatchState> walk_;
};

}  // namespace lode::text::grammar
