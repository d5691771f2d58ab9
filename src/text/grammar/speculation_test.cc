// Speculation tries tokens and takes them back. A state is a number that stays valid, so whatever
// was tried in between, a state's mask and what follows it are the same; and behind every token
// that a mask allows the text can be brought to an end.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "text/grammar/compile.h"
#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

const TokenTrie& Tokens() {
  static const TokenTrie trie = [] {
    std::vector<std::string> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
    std::mt19937 random(11);
    const std::string letters = "\"\\{}[],:abnu019-. \xC3\xA4";
    for (int i = 0; i < 1500; ++i) {
      std::string token;
      for (size_t n = 2 + random() % 4; n > 0; --n) token += letters[random() % letters.size()];
      tokens.push_back(token);
    }
    const std::vector<std::string_view> views(tokens.begin(), tokens.end());
    return TokenTrie(views);
  }();
  return trie;
}

std::vector<std::pair<std::string, std::shared_ptr<const Grammar>>> Sample() {
  std::vector<std::pair<std::string, std::shared_ptr<const Grammar>>> sample;
  const auto add = [&](const std::string& name, auto grammar) {
    ASSERT_TRUE(grammar.ok()) << name << ": " << grammar.error().ToString();
    sample.emplace_back(name, *grammar);
  };
  const std::string person =
      R"({"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":9},
          "age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","maxItems":3,
          "items":{"enum":["a","ab","b\"c"]}},"id":{"type":"string","pattern":"^[a-b]{2}-\\d+$",
          "maxLength":8}},"required":["name","id"],"additionalProperties":{"type":"null"}})";
  const std::string tree =
      R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"number"},
          "next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"],
          "additionalProperties":false}}})";
  for (const std::string& text :
       {std::string("{}"), person, tree,
        std::string(R"({"type":"array","items":{"multipleOf":7,"type":"integer"},"minItems":2})"),
        std::string(R"({"oneOf":[{"type":"integer","minimum":0},
                                 {"type":"number","maximum":9.5}]})"),
        std::string(R"({"type":"string","format":"date-time"})"),
        std::string(R"({"type":"string","not":{"enum":["a","ab","b"]},"maxLength":4})")}) {
    const auto schema = ParseJson(text);
    const JsonStyle free{.space = JsonStyle::Space::kRuns, .run_max = 3, .any_order = true};
    for (const JsonStyle& style : {JsonStyle{}, free})
      add(text, CompileJsonSchema(*schema, style));
  }
  for (const char* pattern : {"(a|ab)*b{2,5}", "(?=.*1)[ab01]{3,7}", "[^a]*a"})
    add(pattern, CompileRegex(pattern));
  for (const char* text : {"root ::= \"a\" root \"b\" | \"[\" root \"]\" | \"0\"",
                           "root ::= item (\",\" item)*\nitem ::= [ab]+ | \"{\" root \"}\""})
    add(text, CompileGbnf(text));
  return sample;
}

std::vector<uint32_t> Allowed(Matcher* matcher, MatchState state) {
  std::vector<uint64_t> words(Tokens().words());
  matcher->Mask(state, words);
  std::vector<uint32_t> tokens;
  for (uint32_t token = 0; token < Tokens().vocabulary(); ++token)
    if (words[token / 64] >> (token % 64) & 1) tokens.push_back(token);
  return tokens;
}

TEST(Speculation, MasksAreTheSameWhateverWasTriedAndTakenBack) {
  for (const auto& [name, grammar] : Sample()) {
    std::mt19937 random(7);
    Matcher wild(grammar, &Tokens());  // goes back and forth
    Matcher straight(grammar, &Tokens());
    std::vector<uint32_t> text;  // what stands
    std::vector<MatchState> states{wild.Start()};
    std::map<MatchState, std::vector<uint32_t>> seen;
    for (int round = 0; round < 40; ++round) {
      const std::vector<uint32_t> allowed = Allowed(&wild, states.back());
      const auto [it, added] = seen.try_emplace(states.back(), allowed);
      ASSERT_EQ(it->second, allowed) << name;
      // Guesses, right and wrong, from here; then all but `kept` are taken back.
      std::vector<MatchState> guessed{states.back()};
      std::vector<uint32_t> tokens;
      for (int i = 0; i < 4; ++i) {
        const std::vector<uint32_t> next = Allowed(&wild, guessed.back());
        EXPECT_FALSE(wild.Advance(guessed.back(), 1u << 30).ok());
        if (next.empty()) break;
        tokens.push_back(next[random() % next.size()]);
        guessed.push_back(*wild.Advance(guessed.back(), tokens.back()));
      }
      const size_t kept = tokens.empty() ? 0 : random() % (tokens.size() + 1);
      text.insert(text.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(kept));
      states.insert(states.end(), guessed.begin() + 1,
                    guessed.begin() + 1 + static_cast<std::ptrdiff_t>(kept));
      if (kept == 0 && text.size() > 2 && random() % 2 == 0) {  // a step further back
        text.pop_back();
        states.pop_back();
      }
      MatchState state = straight.Start();
      for (const uint32_t token : text) {
        const auto next = straight.Advance(state, token);
        ASSERT_TRUE(next.ok()) << name;
        state = *next;
      }
      ASSERT_EQ(Allowed(&straight, state), Allowed(&wild, states.back())) << name;
      ASSERT_EQ(straight.CanEnd(state), wild.CanEnd(states.back())) << name;
    }
  }
}

// Depth first over bytes, what closes something first, and of others a few.
bool EndIsReachable(Matcher* matcher, MatchState start, size_t states_max) {
  std::vector<MatchState> stack{start};
  std::set<MatchState> seen{start};
  while (!stack.empty() && seen.size() < states_max) {
    const MatchState state = stack.back();
    stack.pop_back();
    if (matcher->CanEnd(state)) return true;
    const ByteSet next = matcher->NextBytes(state);
    std::vector<MatchState> after;
    const auto add = [&](int byte) {
      if (!next.has(static_cast<uint8_t>(byte))) return;
      const MatchState following = matcher->Step(state, static_cast<uint8_t>(byte));
      if (seen.insert(following).second) after.push_back(following);
    };
    static constexpr std::string_view kCloses = "b0:,\"}]";
    for (int byte = 0x80; byte < 0x100 && after.empty(); ++byte) add(byte);  // within a character
    for (int byte = 0x7F; byte >= 0 && after.size() < 12; --byte)
      if (kCloses.find(static_cast<char>(byte)) == std::string_view::npos) add(byte);
    for (const char byte : kCloses) add(byte);
    stack.insert(stack.end(), after.begin(), after.end());
  }
  return false;
}

TEST(Speculation, BehindEveryAllowedTokenAnEndCanBeReached) {
  for (const auto& [name, grammar] : Sample()) {
    std::mt19937 random(13);
    Matcher matcher(grammar, &Tokens());
    MatchState state = matcher.Start();
    for (int step = 0; step < 25; ++step) {
      const std::vector<uint32_t> allowed = Allowed(&matcher, state);
      if (allowed.empty()) {
        ASSERT_TRUE(matcher.CanEnd(state)) << name;
        state = matcher.Start();
        continue;
      }
      std::set<MatchState> after;
      for (const uint32_t token : allowed) {
        const auto next = matcher.Advance(state, token);
        ASSERT_TRUE(next.ok()) << name;
        after.insert(*next);
      }
      int looked = 0;
      for (const MatchState next : after) {
        if (++looked > 12) break;
        ASSERT_TRUE(EndIsReachable(&matcher, next, 4000)) << name;
      }
      state = *matcher.Advance(state, allowed[random() % allowed.size()]);
    }
  }
}

}  // namespace
}  // namespace lode::text::grammar
