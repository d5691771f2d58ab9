#include "chat/answer_constraint.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include "text/grammar/matcher.h"
#include "text/parsers/lookahead.h"

namespace lode::chat {
namespace {

using runtime::ConstraintState;
using runtime::TokenMask;
using text::grammar::Grammar;
using text::grammar::Matcher;
using text::grammar::MatchState;

constexpr size_t kKeptBytesMax = size_t{64} << 20;
constexpr size_t kIdleBytesMax = size_t{64} << 20;     // of all idle matchers
constexpr size_t kMatcherBytesMax = size_t{16} << 20;  // of one, to be worth keeping

// What a state's numbers mean.
struct Place {
  MatchState match = 0;
  bool ended = false;
  bool thinking = false;
  uint32_t tag = 0;        // bytes of the closing tag that have been written
  uint32_t character = 0;  // bytes that the open character still needs
  bool header = false;     // of a message, where there are channels
  uint32_t forced = 0;     // tokens of the forced end that have been written
  uint32_t tokens = 0;     // of the trace: of all its messages

  static Place Of(const ConstraintState& state) {
    Place place;
    place.match = static_cast<MatchState>(state.bits[0]);
    place.ended = (state.bits[0] >> 32 & 1) != 0;
    place.thinking = (state.bits[0] >> 33 & 1) != 0;
    place.tag = static_cast<uint32_t>(state.bits[0] >> 34 & 0xFF);
    place.character = static_cast<uint32_t>(state.bits[0] >> 42 & 3);
    place.header = (state.bits[0] >> 44 & 1) != 0;
    place.forced = static_cast<uint32_t>(state.bits[1] >> 32);
    place.tokens = static_cast<uint32_t>(state.bits[1]);
    return place;
  }
  ConstraintState state() const {
    return {{uint64_t{match} | uint64_t{ended} << 32 | uint64_t{thinking} << 33 |
                 uint64_t{tag} << 34 | uint64_t{character} << 42 |
                 uint64_t{header} << 44,
             uint64_t{forced} << 32 | tokens}};
  }
};

// Bytes that follow `lead` in its character.
uint32_t CharacterRest(uint8_t lead) {
  if (lead < 0xC0) return 0;
  return lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
}

class AnswerConstraint : public runtime::Constraint {
 public:
  struct Parts {
    const text::Tokenizer* tokenizer = nullptr;
    std::vector<int32_t> stop_ids;
    std::vector<int32_t> banned;
    bool channels = false;
    int32_t thought = -1;  // the token that names the channel of thoughts; below 0: there is none
    std::string close;  // of a trace that is open at the beginning; empty: none is
    int64_t thinking_tokens_max = -1;
    std::vector<int32_t> forced;  // how a trace that is too long ends
  };

  AnswerConstraint(Parts parts, std::unique_ptr<Matcher> matcher,
                   std::shared_ptr<IdleMatchers> idle)
      : parts_(std::move(parts)), matcher_(std::move(matcher)), idle_(std::move(idle)) {}
  ~AnswerConstraint() override {
    if (matcher_ != nullptr) idle_->GiveBack(std::move(matcher_));
  }

  ConstraintState Start() const override {
    Place place;
    if (matcher_ != nullptr) place.match = matcher_->Start();
    place.thinking = !parts_.close.empty();
    place.header = parts_.channels;
    return place.state();
  }

  void Mask(ConstraintState state, TokenMask* mask) override {
    const Place place = Place::Of(state);
    if (place.ended) {
      mask->ForbidAll();
      AllowStops(mask);
      return;
    }
    if (MustClose(place)) {
      mask->ForbidAll();
      mask->Allow(parts_.forced[place.forced]);
      return;
    }
    if (matcher_ != nullptr) {
      matcher_->Mask(place.match, mask->words());
      for (const int32_t id : parts_.stop_ids) mask->Forbid(id);
      if (matcher_->CanEnd(place.match)) AllowStops(mask);
    } else {
      mask->AllowAll();
    }
    for (const int32_t id : parts_.banned) mask->Forbid(id);
    if (NoMoreThoughts(place)) mask->Forbid(parts_.thought);
  }

  Result<ConstraintState> Advance(ConstraintState state, int32_t token) override {
    Place place = Place::Of(state);
    const auto refuse = [&] {
      return Error(Code::kBadInput, "token " + std::to_string(token) + " does not follow here");
    };
    const bool stop = Has(parts_.stop_ids, token);
    if (place.ended && stop) return state;
    if (place.ended) return refuse();
    if (MustClose(place)) {
      if (token != parts_.forced[place.forced]) return refuse();
      ++place.forced;
    } else if (stop) {
      if (matcher_ != nullptr && !matcher_->CanEnd(place.match)) return refuse();
      place.ended = true;
      return place.state();
    }
    if (Has(parts_.banned, token)) return refuse();
    if (token == parts_.thought && NoMoreThoughts(place)) return refuse();
    if (matcher_ != nullptr) {
      LODE_ASSIGN(place.match, matcher_->Advance(place.match, static_cast<uint32_t>(token)));
    }
    if (place.thinking) Think(parts_.tokenizer->TokenBytes(token), &place);
    return place.state();
  }

 private:
  static bool Has(const std::vector<int32_t>& list, int32_t token) {
    return std::find(list.begin(), list.end(), token) != list.end();
  }
  void AllowStops(TokenMask* mask) const {
    for (const int32_t id : parts_.stop_ids) mask->Allow(id);
  }

  // The budget is used up; a character that is being written is finished first.
  bool MustClose(const Place& place) const {
    if (!place.thinking || place.header || parts_.forced.empty()) return false;
    if (place.forced > 0) return place.forced < parts_.forced.size();
    return place.tokens >= parts_.thinking_tokens_max && place.character == 0;
  }

  // The budget is used up: the next message is none of thoughts.
  bool NoMoreThoughts(const Place& place) const {
    return place.thinking && place.header && parts_.thought >= 0 &&
           parts_.thinking_tokens_max >= 0 && place.tokens >= parts_.thinking_tokens_max;
  }

  void Think(std::string_view bytes, Place* place) const {
    if (place->header) {
      if (bytes == "<|message|>") place->header = false;
      if (bytes == "final" || bytes == "commentary" || bytes == " to") {
        place->thinking = place->header = false;  // not a message of thoughts
        place->tokens = 0;
      }
      return;
    }
    ++place->tokens;
    for (const char c : bytes) {
      const uint8_t byte = static_cast<uint8_t>(c);
      const bool rest = (byte & 0xC0) == 0x80 && place->character > 0;
      place->character = rest ? place->character - 1 : CharacterRest(byte);
      // A tag begins with a byte that is nowhere else in it.
      if (parts_.close[place->tag] == c) {
        ++place->tag;
      } else {
        place->tag = parts_.close[0] == c ? 1 : 0;
      }
      if (place->tag == parts_.close.size()) {
        // Behind a message of thoughts another one may come, on the same budget.
        place->thinking = place->header = parts_.channels;
        place->tag = 0;
        if (!parts_.channels) place->tokens = 0;
        place->forced = 0;
        place->character = 0;
        return;
      }
    }
    // Without a budget the number says nothing, and equal states should be equal.
    if (parts_.thinking_tokens_max < 0) place->tokens = 0;
  }

  const Parts parts_;
  std::unique_ptr<Matcher> matcher_;
  std::shared_ptr<IdleMatchers> idle_;
};

// The text of tokens that grammars ask for, control tokens among them; of others no text.
std::unique_ptr<const text::grammar::TokenTrie> MakeTrie(const text::Tokenizer& tokenizer,
                                                         int64_t vocabulary,
                                                         const std::vector<int32_t>& stop_ids) {
  constexpr std::array<std::string_view, 14> kAsked = {
      text::kThinkOpen,      text::kThinkClose, text::kCallOpen, text::kCallClose,
      text::kCallListOpen,   text::kCallListClose, text::kFunctionClose, text::kParameterClose,
      "<|start|>",           "<|end|>",         "<|message|>",   "<|channel|>",
      "<|constrain|>",       text::kPythonTag};
  std::vector<std::string_view> tokens(static_cast<size_t>(tokenizer.vocab_size()));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const bool stop = std::find(stop_ids.begin(), stop_ids.end(), id) != stop_ids.end();
    if (stop || id >= vocabulary || !tokenizer.Has(id)) continue;
    const std::string_view bytes = tokenizer.TokenBytes(id);
    const bool asked = std::find(kAsked.begin(), kAsked.end(), bytes) != kAsked.end();
    if (!tokenizer.IsSpecial(id) || asked) tokens[static_cast<size_t>(id)] = bytes;
  }
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(vocabulary)));
  return std::make_unique<const text::grammar::TokenTrie>(tokens, vocabulary);
}

std::vector<int32_t> Within(std::vector<int32_t> ids, int64_t vocabulary) {
  std::erase_if(ids, [&](int32_t id) { return id < 0 || id >= vocabulary; });
  return ids;
}

}  // namespace

AnswerForms::AnswerForms(const text::Tokenizer* tokenizer, int64_t vocabulary,
                         std::vector<int32_t> stop_ids)
    : tokenizer_(tokenizer),
      vocabulary_(vocabulary),
      stop_ids_(Within(std::move(stop_ids), vocabulary)),
      building_(std::async(std::launch::async, [this] {
        return MakeTrie(*tokenizer_, vocabulary_, stop_ids_);
      })) {}

const text::grammar::TokenTrie* AnswerForms::Trie() {
  std::call_once(built_, [this] { trie_ = building_.get(); });
  return trie_.get();
}

std::unique_ptr<Matcher> IdleMatchers::Take(const Grammar* grammar) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto it = idle_.begin(); it != idle_.end(); ++it) {
    if (&it->matcher->grammar() != grammar) continue;
    std::unique_ptr<Matcher> matcher = std::move(it->matcher);
    bytes_ -= it->bytes;
    idle_.erase(it);
    return matcher;
  }
  return nullptr;
}

void IdleMatchers::GiveBack(std::unique_ptr<Matcher> matcher) {
  const size_t bytes = matcher->bytes();
  if (bytes > kMatcherBytesMax || matcher->limit_reached()) return;
  matcher->Renew();
  std::list<Idle> gone;  // ends without the lock
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_front({std::move(matcher), bytes});
  bytes_ += bytes;
  while (bytes_ > kIdleBytesMax) {
    bytes_ -= idle_.back().bytes;
    gone.splice(gone.begin(), idle_, std::prev(idle_.end()));
  }
}

Result<std::shared_ptr<const Grammar>> AnswerForms::Compile(const AnswerForm& form) {
  const std::string key =
      DumpJson(Json{{"format", static_cast<int>(form.format)},
                    {"thinking", form.thinking},
                    {"tools", form.tools},
                    {"calls", static_cast<int>(form.calls)},
                    {"named", form.named},
                    {"parallel", form.parallel},
                    {"limited", form.limited},
                    {"plain", form.plain},
                    {"strict", form.strict},
                    {"response_format", form.response_format}});
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = kept_.begin(); it != kept_.end(); ++it) {
      if (it->key != key) continue;
      kept_.splice(kept_.begin(), kept_, it);
      return kept_.front().grammar;
    }
  }
  LODE_ASSIGN(std::shared_ptr<const Grammar> grammar, CompileAnswer(form));
  if (grammar == nullptr) return grammar;
  const std::lock_guard<std::mutex> lock(mutex_);
  const size_t bytes = key.size() + grammar->bytes();
  kept_.push_front({key, grammar, bytes});
  kept_bytes_ += bytes;
  while (kept_bytes_ > kKeptBytesMax && kept_.size() > 1) {
    kept_bytes_ -= kept_.back().bytes;
    kept_.pop_back();
  }
  return grammar;
}

Result<std::shared_ptr<runtime::Constraint>> AnswerForms::Make(const AnswerForm& form,
                                                               const AnswerLimits& limits) {
  LODE_ASSIGN(const std::shared_ptr<const Grammar> grammar, Compile(form));
  AnswerConstraint::Parts parts;
  parts.tokenizer = tokenizer_;
  parts.stop_ids = stop_ids_;
  const bool harmony = form.format == text::OutputFormat::kHarmony;
  const bool budget = limits.thinking_tokens_max >= 0 && (form.thinking || harmony);
  if (budget) {
    parts.close = harmony ? "<|end|>" : text::kThinkClose;
    parts.channels = harmony;
    if (harmony) parts.thought = tokenizer_->TokenToId("analysis").value_or(-1);
    parts.thinking_tokens_max = limits.thinking_tokens_max;
    std::string end = limits.thinking_end;
    if (!harmony && limits.thinking_tokens_max > 0) end += "\n";
    LODE_ASSIGN(parts.forced, tokenizer_->Encode(end + parts.close));
  }
  if (form.calls == AnswerForm::Calls::kNone && grammar == nullptr) {
    const std::string_view trigger = CallTrigger(form.format);
    const auto id = trigger.empty() ? std::nullopt : tokenizer_->TokenToId(trigger);
    if (id.has_value() && *id < vocabulary_) parts.banned.push_back(*id);
  }
  if (grammar == nullptr && !budget && parts.banned.empty()) {
    return std::shared_ptr<runtime::Constraint>();
  }
  std::unique_ptr<Matcher> matcher;
  if (grammar != nullptr) {
    matcher = idle_->Take(grammar.get());
    if (matcher == nullptr) matcher = std::make_unique<Matcher>(grammar, Trie());
  }
  return std::shared_ptr<runtime::Constraint>(
      std::make_shared<AnswerConstraint>(std::move(parts), std::move(matcher), idle_));
}

}  // namespace lode::chat
