#include "tune/data/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>

#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/tokenizer.h"
#include "tune/data/order.h"

namespace lode::tune {
namespace {

BpeOptions Options(int64_t vocabulary) {
  return {.vocabulary = vocabulary,
          .count_min = 1,
          .regex = R"(\S+)",
          .special = {"<|end|>", "<|start|>"},
          .eos = "<|end|>"};
}

std::string RandomWords(uint64_t seed, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    const uint64_t dice = Mix(seed, static_cast<uint64_t>(i));
    for (uint64_t k = 0; k < 1 + dice % 7; ++k) {
      text += static_cast<char>('a' + Mix(dice, k) % 4);
    }
    text += ' ';
  }
  return text;
}

// Counts everything anew for each merge.
std::vector<std::pair<std::string, std::string>> PlainMerges(const std::string& text, int count) {
  std::map<std::string, int64_t> words;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find(' ', at);
    ++words[text.substr(at, end - at)];
    ++words[" "];
    at = end + 1;
  }
  std::map<std::string, int32_t> ids;  // letters by code point, then tokens as they come
  for (int c = 0; c < 256; ++c) ids[std::string(1, static_cast<char>(c))] = c;
  std::vector<std::pair<std::vector<std::string>, int64_t>> pieces;
  for (const auto& [word, n] : words) {
    auto& piece = pieces.emplace_back();
    for (const char c : word) piece.first.emplace_back(1, c);
    piece.second = n;
  }
  std::vector<std::pair<std::string, std::string>> merges;
  while (static_cast<int>(merges.size()) < count) {
    std::map<std::pair<int32_t, int32_t>, std::pair<int64_t, std::pair<std::string, std::string>>>
        all;
    for (const auto& [tokens, n] : pieces) {
      for (size_t i = 0; i + 1 < tokens.size(); ++i) {
        auto& entry = all[{ids[tokens[i]], ids[tokens[i + 1]]}];
        entry.first += n;
        entry.second = {tokens[i], tokens[i + 1]};
      }
    }
    if (all.empty()) break;
    const auto* best = &all.begin()->second;
    for (const auto& [key, entry] : all) {
      if (entry.first > best->first) best = &entry;
    }
    const auto pair = best->second;
    merges.push_back(pair);
    ids.emplace(pair.first + pair.second, 256 + static_cast<int32_t>(ids.size()));
    for (auto& [tokens, n] : pieces) {
      for (size_t i = 0; i + 1 < tokens.size(); ++i) {
        if (tokens[i] != pair.first || tokens[i + 1] != pair.second) continue;
        tokens[i] += tokens[i + 1];
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

std::vector<std::pair<std::string, std::string>> MergesOf(const BpeVocabulary& vocabulary) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (const auto& [a, b] : vocabulary.merges) {
    std::string left, right;
    EXPECT_TRUE(text::LettersToBytes(vocabulary.tokens[static_cast<size_t>(a)], &left));
    EXPECT_TRUE(text::LettersToBytes(vocabulary.tokens[static_cast<size_t>(b)], &right));
    merges.emplace_back(left, right);
  }
  return merges;
}

TEST(BpeTrainer, LearnsWhatCountingAnewLearns) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const std::string text = RandomWords(seed, 200);
    auto trainer = BpeTrainer::Make(Options(258 + 60));
    ASSERT_TRUE(trainer.ok());
    ASSERT_TRUE(trainer->Add(text).ok());
    const auto vocabulary = trainer->Train(nullptr);
    ASSERT_TRUE(vocabulary.ok());
    const auto merges = MergesOf(*vocabulary);
    const auto plain = PlainMerges(text, static_cast<int>(merges.size()));
    ASSERT_GE(merges.size(), 60u);
    EXPECT_EQ(merges, plain) << seed;
  }
}

TEST(BpeTrainer, TheOrderOfTextsDoesNotMatter) {
  std::vector<Json> made;
  for (const bool turned : {false, true}) {
    auto trainer = BpeTrainer::Make(Options(400));
    ASSERT_TRUE(trainer.ok());
    for (const uint64_t seed : {turned ? 2 : 1, turned ? 1 : 2}) {
      ASSERT_TRUE(trainer->Add(RandomWords(seed, 100)).ok());
    }
    made.push_back(trainer->TokenizerJson(*trainer->Train(nullptr)));
  }
  EXPECT_EQ(made[0], made[1]);
}

TEST(BpeTrainer, OurTokenizerLoadsItAndGivesEveryTextBack) {
  BpeOptions options = Options(300);
  options.regex.clear();
  options.count_min = 2;
  auto trainer = BpeTrainer::Make(options);
  ASSERT_TRUE(trainer.ok());
  const std::string text = "the cat, the hat; the théâtre \xE2\x9C\x93 costs 1234 euros\n\nthe end";
  ASSERT_TRUE(trainer->Add(text).ok());
  const auto vocabulary = trainer->Train(nullptr);
  ASSERT_TRUE(vocabulary.ok());
  const auto tokenizer = text::Tokenizer::FromHuggingFace(
      DumpJson(trainer->TokenizerJson(*vocabulary)), DumpJson(trainer->ConfigJson(*vocabulary)));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().ToString();
  EXPECT_EQ((*tokenizer)->eos_id(), 0);
  EXPECT_EQ((*tokenizer)->vocab_size(), static_cast<int32_t>(vocabulary->tokens.size()));
  for (const std::string& sample :
       {text, std::string("\x01 other \xF0\x9F\x98\x80 words<|end|>")}) {
    const auto ids = (*tokenizer)->Encode(sample);
    ASSERT_TRUE(ids.ok());
    EXPECT_EQ(*(*tokenizer)->Decode(*ids), sample);
  }
  EXPECT_LT((*tokenizer)->Encode(text)->size(), text.size() * 3 / 4);
  EXPECT_EQ((*tokenizer)->Encode("the<|end|>")->back(), 0);
}

TEST(BpeTrainer, RarePairsAreNotLearnt) {
  BpeOptions options = Options(300);
  options.count_min = 3;
  auto trainer = BpeTrainer::Make(options);
  ASSERT_TRUE(trainer->Add("ab ab cd cd cd").ok());
  const auto vocabulary = trainer->Train(nullptr);
  ASSERT_EQ(vocabulary->merges.size(), 1u);
  EXPECT_EQ(vocabulary->tokens.back(), "cd");
}

TEST(BpeTrainer, BadOptionsAreNamed) {
  BpeOptions small = Options(257);
  EXPECT_FALSE(BpeTrainer::Make(small).ok());
  BpeOptions twice = Options(400);
  twice.special.push_back("<|end|>");
  EXPECT_FALSE(BpeTrainer::Make(twice).ok());
  BpeOptions eos = Options(400);
  eos.eos = "</s>";
  EXPECT_NE(BpeTrainer::Make(eos).error().ToString().find("</s>"), std::string::npos);
  BpeOptions regex = Options(400);
  regex.regex = "(";
  EXPECT_FALSE(BpeTrainer::Make(regex).ok());
}

TEST(BpeTrainer, StopsWhenAsked) {
  auto trainer = BpeTrainer::Make(Options(400));
  ASSERT_TRUE(trainer->Add(RandomWords(1, 100)).ok());
  const auto stopped = trainer->Train([](int64_t tokens) { return tokens < 270; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code(), Code::kCancelled);
}

}  // namespace
}  // namespace lode::tune
