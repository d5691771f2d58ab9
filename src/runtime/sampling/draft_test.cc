#include "runtime/sampling/draft.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace lode::runtime {
namespace {

constexpr int64_t kVocabulary = 97;

// A model of two lines: logits that depend on the last three tokens and nothing else.
std::vector<float> ToyLogits(std::span<const int32_t> tokens) {
  uint64_t hash = 7;
  for (size_t i = tokens.size() > 3 ? tokens.size() - 3 : 0; i < tokens.size(); ++i)
    hash = (hash ^ static_cast<uint64_t>(tokens[i])) * 0x9E3779B97F4A7C15u;
  std::mt19937_64 random(hash);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> logits(static_cast<size_t>(kVocabulary));
  for (float& x : logits) x = std::round(normal(random) * 4) / 4;  // with ties
  return logits;
}

// Every n-th token is of one remainder: a state that moves with each token.
class Rhythm : public Constraint {
 public:
  ConstraintState Start() const override { return {}; }
  void Mask(ConstraintState state, TokenMask* mask) override {
    mask->ForbidAll();
    for (int32_t i = 0; i < kVocabulary; ++i) {
      if (Allows(state, i)) mask->Allow(i);
    }
  }
  Result<ConstraintState> Advance(ConstraintState state, int32_t token) override {
    if (!Allows(state, token)) return Error(Code::kBadInput, "off the beat");
    state.bits[0] = (state.bits[0] + static_cast<uint64_t>(token)) % 5;
    return state;
  }

 private:
  static bool Allows(ConstraintState state, int32_t token) {
    return static_cast<uint64_t>(token) % 3 != state.bits[0] % 3;
  }
};

struct Setting {
  SamplingOptions options;
  bool constrained = false;
  bool counted = false;
};

struct Text {
  std::vector<int32_t> tokens;  // prompt and answer
  TokenMask next{kVocabulary};  // what its constraint allows then
  std::vector<int64_t> counts;  // of accepted drafts by step
  std::vector<double> logprobs;
};

const std::vector<int32_t> kPrompt = {5, 9, 5, 9, 33};

// `length` tokens with up to `width` drafts in a step; 0: plain decoding.
Text Decode(const Setting& setting, Drafter* drafter, size_t width, size_t length) {
  Sampler sampler(kVocabulary);
  TokenCounts counts(kVocabulary);
  Rhythm rhythm;
  AnswerMask mask({.constraint = &rhythm}, kVocabulary, static_cast<int64_t>(width));
  Text text;
  text.tokens = kPrompt;
  DrawState state;
  state.position = kPrompt.size();
  state.history = &text.tokens;
  state.answer_begin = kPrompt.size();
  if (setting.counted) {
    counts.Assign({text.tokens, kPrompt.size()}, setting.options.penalty_window);
    state.counts = &counts;
  }
  if (setting.constrained) state.mask = &mask;
  const size_t end = kPrompt.size() + length;
  while (text.tokens.size() < end) {
    std::vector<int32_t> drafts(width);
    if (drafter != nullptr)
      drafts.resize(static_cast<size_t>(drafter->Propose(text.tokens, drafts)));
    std::vector<float> logits;
    std::vector<int32_t> row = text.tokens;
    for (size_t i = 0; i <= drafts.size(); ++i) {
      const auto one = ToyLogits(row);
      logits.insert(logits.end(), one.begin(), one.end());
      if (i < drafts.size()) row.push_back(drafts[i]);
    }
    const size_t before = text.tokens.size();
    const auto accepted =
        AcceptDrafts(sampler, logits.data(), drafts, setting.options, &state,
                     [&](const Sampled& sampled) {
                       text.logprobs.push_back(sampled.logprob);
                       return kPrompt.size() + text.logprobs.size() < end;
                     });
    EXPECT_TRUE(accepted.ok());
    EXPECT_EQ(text.tokens.size(), before + static_cast<size_t>(accepted->count) + 1);
    EXPECT_EQ(text.tokens.back(), accepted->next);
    EXPECT_EQ(state.position, text.tokens.size());
    EXPECT_EQ(accepted->ended, text.tokens.size() == end);
    text.counts.push_back(accepted->count);
    if (drafter != nullptr)
      drafter->Observe(static_cast<int64_t>(drafts.size()), accepted->count);
  }
  if (setting.constrained) text.next = *mask.At(0);
  if (setting.counted) {
    TokenCounts anew(kVocabulary);
    anew.Assign({text.tokens, kPrompt.size()}, setting.options.penalty_window);
    for (int32_t i = 0; i < kVocabulary; ++i) EXPECT_EQ(counts.count(i), anew.count(i));
  }
  return text;
}

std::vector<Setting> Settings() {
  std::vector<Setting> settings;
  for (const double temperature : {0.0, 0.3, 1.0, 2.5}) {
    for (const bool constrained : {false, true}) {
      for (const int penalties : {0, 1, 2}) {
        Setting s;
        s.options.temperature = temperature;
        s.options.top_p = temperature == 1.0 ? 0.9 : 1.0;
        s.options.seed = 11;
        s.options.logprobs = 0;
        if (penalties > 0) {
          s.options.repetition_penalty = 1.3;
          s.options.frequency_penalty = 0.2;
          s.options.presence_penalty = 0.4;
          s.options.penalty_window = penalties == 1 ? 0 : 6;
        }
        s.constrained = constrained;
        s.counted = penalties > 0 && temperature != 0.3;
        settings.push_back(s);
      }
    }
  }
  return settings;
}

TEST(AcceptDrafts, TheTextIsTheUnspeculatedTextForEveryAcceptCount) {
  constexpr size_t kLength = 40;
  for (const Setting& setting : Settings()) {
    const Text plain = Decode(setting, nullptr, 0, kLength);
    // The same without AcceptDrafts, spelled out.
    {
      Sampler sampler(kVocabulary);
      Rhythm rhythm;
      ConstraintState state;
      TokenMask mask(kVocabulary);
      std::vector<int32_t> tokens = kPrompt;
      for (size_t i = 0; i < kLength; ++i) {
        rhythm.Mask(state, &mask);
        const auto sampled =
            sampler.Sample(ToyLogits(tokens), setting.options, tokens.size(),
                           {.history = {tokens, kPrompt.size()},
                            .mask = setting.constrained ? &mask : nullptr});
        ASSERT_TRUE(sampled.ok());
        tokens.push_back(sampled->token);
        if (setting.constrained) state = *rhythm.Advance(state, sampled->token);
      }
      ASSERT_EQ(tokens, plain.tokens);
    }
    for (size_t width = 1; width <= 6; ++width) {
      std::vector<std::vector<int64_t>> scripts;
      for (int64_t count = 0; count <= static_cast<int64_t>(width); ++count)
        scripts.push_back({count});
      scripts.push_back({0, 3, 1, 6, 2});
      for (const auto& script : scripts) {
        // Behind the end it is right, too, so that drafts are cut by the end alone.
        ScriptedDrafter drafter(Decode(setting, nullptr, 0, kLength + 8).tokens, script,
                                kVocabulary);
        const Text text = Decode(setting, &drafter, width, kLength);
        ASSERT_EQ(text.tokens, plain.tokens);
        EXPECT_EQ(text.next, plain.next);
        EXPECT_EQ(text.logprobs, plain.logprobs);
        for (size_t step = 0; step + 1 < text.counts.size(); ++step) {
          EXPECT_EQ(text.counts[step],
                    std::min(script[step % script.size()], static_cast<int64_t>(width)));
        }
      }
    }
  }
}

TEST(AcceptDrafts, ADrafterThatLooksThingsUpChangesNoToken) {
  for (const Setting& setting : Settings()) {
    NgramDrafter drafter({.shortest = 1, .longest = 3, .tokens_max = 500});
    EXPECT_EQ(Decode(setting, &drafter, 4, 200).tokens, Decode(setting, nullptr, 0, 200).tokens);
  }
}

TEST(DrawDraft, AHeadThatKnowsTheModelIsAlwaysRightAndLeavesNoTrace) {
  for (const Setting& setting : Settings()) {
    Sampler sampler(kVocabulary);
    TokenCounts counts(kVocabulary);
    Rhythm rhythm;
    AnswerMask mask({.constraint = &rhythm}, kVocabulary, 5);
    std::vector<int32_t> tokens = kPrompt;
    DrawState state;
    state.position = tokens.size();
    state.history = &tokens;
    state.answer_begin = kPrompt.size();
    counts.Assign({tokens, kPrompt.size()}, setting.options.penalty_window);
    if (setting.counted) state.counts = &counts;
    if (setting.constrained) state.mask = &mask;
    for (int step = 0; step < 10; ++step) {
      const auto before = tokens;
      std::vector<int32_t> drafts, all = tokens;
      std::vector<float> logits = ToyLogits(all);
      for (int i = 0; i < 5; ++i) {
        const auto draft = DrawDraft(sampler, std::span(logits).last(kVocabulary), drafts,
                                     setting.options, &state);
        ASSERT_TRUE(draft.ok());
        drafts.push_back(*draft);
        all.push_back(*draft);
        const auto next = ToyLogits(all);
        logits.insert(logits.end(), next.begin(), next.end());
        ASSERT_EQ(tokens, before);
      }
      const auto accepted = AcceptDrafts(sampler, logits.data(), drafts, setting.options, &state);
      ASSERT_TRUE(accepted.ok());
      EXPECT_EQ(accepted->count, 5);
    }
    EXPECT_EQ(tokens, Decode(setting, nullptr, 0, 60).tokens);
  }
}

TEST(AcceptDrafts, AnErrorComesAtItsTokenWithThoseBeforeHandedOver) {
  Sampler sampler(kVocabulary);
  FixedSequence fixed({8, 9, 10}, 1);
  AnswerMask mask({.constraint = &fixed}, kVocabulary, 3);
  DrawState state;
  state.mask = &mask;
  std::vector<float> logits(4 * kVocabulary, 0.0f);
  logits[2 * kVocabulary + 10] = -INFINITY;  // row 2 cannot give what must come
  std::vector<int32_t> seen;
  const auto accepted = AcceptDrafts(sampler, logits.data(), std::vector<int32_t>{8, 9, 10}, {},
                                     &state, [&](const Sampled& sampled) {
                                       seen.push_back(sampled.token);
                                       return true;
                                     });
  ASSERT_FALSE(accepted.ok());
  EXPECT_EQ(accepted.error().message(),
            "the constraint and the logits leave no token at position 2");
  EXPECT_EQ(seen, (std::vector<int32_t>{8, 9}));
}

// The obvious lookup.
std::vector<int32_t> LookUp(const std::vector<int32_t>& text, size_t shortest, size_t longest,
                            size_t count) {
  for (size_t length = longest; length >= shortest; --length) {
    if (text.size() <= length) continue;
    for (size_t end = text.size() - 1; end >= length; --end) {
      if (!std::equal(text.end() - static_cast<int64_t>(length), text.end(),
                      text.begin() + static_cast<int64_t>(end - length)))
        continue;
      std::vector<int32_t> all = text;
      for (size_t i = 0; i < count; ++i) all.push_back(all[end + i]);
      return {all.end() - static_cast<int64_t>(count), all.end()};
    }
  }
  return {};
}

TEST(NgramDrafter, FindsTheLongestAndOfTheseTheNewestMatch) {
  std::mt19937 random(4);
  for (const uint32_t symbols : {2, 4, 10, 40}) {
    NgramDrafter drafter({.tokens_max = 4096});
    std::vector<int32_t> text;
    int found = 0;
    for (int i = 0; i < 1500; ++i) {
      text.push_back(static_cast<int32_t>(random() % symbols));
      if (random() % 3 == 0) continue;  // not asked at every token
      std::vector<int32_t> drafts(6);
      drafts.resize(static_cast<size_t>(drafter.Propose(text, drafts)));
      ASSERT_EQ(drafts, LookUp(text, 2, 4, 6)) << "after " << text.size() << " tokens";
      found += !drafts.empty();
    }
    EXPECT_GT(found, 300);
  }
}

TEST(NgramDrafter, GoesOnWithAPeriod) {
  NgramDrafter drafter;
  std::vector<int32_t> drafts(5);
  EXPECT_EQ(drafter.Propose(std::vector<int32_t>{1, 2, 3, 1, 2, 3}, drafts), 5);
  EXPECT_EQ(drafts, (std::vector<int32_t>{1, 2, 3, 1, 2}));
  EXPECT_EQ(drafter.matched(), 3);
}

TEST(NgramDrafter, ATextThatWasCutOrExchangedProposesOnlyWhatStandsThere) {
  std::mt19937 random(6);
  NgramDrafter drafter({.tokens_max = 256});
  std::vector<int32_t> text;
  for (int round = 0; round < 300; ++round) {
    text.resize(random() % (text.size() + 1));
    for (size_t i = random() % 200; i > 0; --i)
      text.push_back(static_cast<int32_t>(random() % 3 + static_cast<uint32_t>(round) / 100));
    std::vector<int32_t> drafts(4);
    if (drafter.Propose(text, drafts) == 0) continue;
    // What was proposed follows an earlier occurrence of the last tokens.
    std::vector<int32_t> gram(text.end() - drafter.matched(), text.end());
    gram.push_back(drafts[0]);
    EXPECT_NE(std::search(text.begin(), text.end(), gram.begin(), gram.end()), text.end());
  }
}

TEST(NgramDrafter, WhatIsLeftOfALongTextThatWasCutDoesNotCrowdOutTheNew) {
  std::mt19937 random(7);
  const auto text_of = [&](size_t length, uint32_t symbols) {
    std::vector<int32_t> text(length);
    for (int32_t& token : text) token = static_cast<int32_t>(random() % symbols);
    return text;
  };
  NgramDrafter drafter({.tokens_max = 256});
  std::vector<int32_t> drafts(3);
  for (size_t length = 256; length <= 10240; length += 256)
    drafter.Read(text_of(length, 100000));
  const auto all = text_of(256, 12);
  int missed = 0, found = 0;
  for (size_t length = 1; length <= all.size(); ++length) {
    const std::vector<int32_t> text(all.begin(), all.begin() + static_cast<int64_t>(length));
    const bool any = drafter.Propose(text, drafts) > 0;
    found += any;
    missed += !any && !LookUp(text, 2, 4, 3).empty();
  }
  EXPECT_GT(found, 100);
  EXPECT_LT(missed, 5);
}

TEST(NgramDrafter, OfALongTextTheNewestPartIsRemembered) {
  NgramDrafter drafter({.tokens_max = 1000});
  std::vector<int32_t> text(50000);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<int32_t>(i);
  const auto proposes = [&](size_t at) {
    auto asked = text;
    asked.insert(asked.end(), text.begin() + static_cast<int64_t>(at),
                 text.begin() + static_cast<int64_t>(at) + 4);
    std::vector<int32_t> drafts(1);
    NgramDrafter fresh({.tokens_max = 1000});
    return fresh.Propose(asked, drafts) == 1 && drafts[0] == text[at + 4];
  };
  EXPECT_TRUE(proposes(49500));
  EXPECT_FALSE(proposes(100));
}

}  // namespace
}  // namespace lode::runtime
