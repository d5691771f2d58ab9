#include "tune/corpus.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "base/file.h"
#include "tune/data/shard.h"

namespace lode::tune {
namespace {

class CorpusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "corpus_test";
    std::filesystem::remove_all(folder_);
    ASSERT_TRUE(MakeFolders(folder_ + "/below").ok());
    options_.training = {folder_};
    options_.sequence = 4;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Put(const std::string& name, const std::string& content) {
    ASSERT_TRUE(WriteFileAtomic(folder_ + "/" + name, content).ok());
  }
  std::unique_ptr<Corpus> Read() {
    auto corpus = Corpus::Read(options_);
    EXPECT_TRUE(corpus.ok()) << corpus.error().ToString();
    return corpus.ok() ? std::move(*corpus) : nullptr;
  }
  static std::string TextOf(const Corpus& corpus, const train::PackedBatch& batch) {
    return *corpus.tokenizer().Decode(batch.tokens) + "|" +
           *corpus.tokenizer().Decode(batch.targets);
  }

  std::string folder_;
  CorpusOptions options_;
};

TEST_F(CorpusTest, GivesEveryCharacterAToken) {
  Put("a.txt", "abcdäöü€𝄞 abcdäöü€𝄞\nabcdäöü€𝄞\n");
  options_.held_out_share = 0.4;
  const auto corpus = Read();
  // 9 letters, space, new line, <unk>, </s>
  EXPECT_EQ(corpus->tokenizer().vocab_size(), 13);
  const std::string text = "€𝄞 ab\n";
  const auto ids = corpus->tokenizer().Encode(text);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), 6u);
  EXPECT_EQ(*corpus->tokenizer().Decode(*ids), text);
  EXPECT_EQ(corpus->BytesOf(ids->front()), 3);
  // What no text has is unknown, not an error.
  EXPECT_EQ(*corpus->tokenizer().Encode("z"), std::vector<int32_t>{0});
}

TEST_F(CorpusTest, GivesEveryByteAToken) {
  Put("a.txt", "abcdäöü€𝄞 abcdäöü€𝄞\nabcdäöü€𝄞\n");
  options_.held_out_share = 0.4;
  options_.tokenizer = "bytes";
  const auto corpus = Read();
  EXPECT_EQ(corpus->tokenizer().vocab_size(), 258);
  const std::string text = "€𝄞 zß\n";
  const auto ids = corpus->tokenizer().Encode(text);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->size(), text.size());
  EXPECT_EQ(*corpus->tokenizer().Decode(*ids), text);
  EXPECT_EQ(corpus->BytesOf(ids->front()), 1);
}

TEST_F(CorpusTest, HoldsTheEndOfTheTextOut) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>('a' + i % 26);
  Put("a.txt", text);
  const auto corpus = Read();
  EXPECT_EQ(corpus->training_tokens(), 900);
  EXPECT_EQ(corpus->held_out_tokens(), 100);
  EXPECT_EQ(corpus->held_out(), 24);  // 4 tokens and a follower each
  train::PackedBatch batch;
  corpus->AddHeldOut(0, 1.0f, &batch);
  EXPECT_EQ(TextOf(*corpus, batch), text.substr(900, 4) + "|" + text.substr(901, 4));
}

TEST_F(CorpusTest, JoinsTheDocumentsOfFoldersAndTakesOthersToJudgeBy) {
  Put("b.md", "second");
  Put("a.txt", "first");
  Put("below/c.txt", "third");
  Put("d.json", "not text");
  options_.held_out = {folder_ + "/b.md"};
  const auto corpus = Read();
  EXPECT_EQ(corpus->documents(), 3);
  EXPECT_EQ(corpus->training_tokens(), 5 + 1 + 6 + 1 + 5);
  EXPECT_EQ(corpus->held_out_tokens(), 6);
}

TEST_F(CorpusTest, TakesShardsAndTheTokenizerOfAFolder) {
  const TextFiles files = ByteVocabulary();
  ASSERT_TRUE(MakeFolders(folder_ + "/tokenizer").ok());
  for (const auto& [name, content] : files) Put("tokenizer/" + name, content);
  const auto tokenizer = std::move(*text::Tokenizer::FromHuggingFace(files.at("tokenizer.json")));
  ShardWriter writer(tokenizer->vocab_size(), HashOf(*tokenizer));
  Example document;
  document.tokens = *tokenizer->Encode("a hundred sheep and a dog");
  document.weights.assign(document.tokens.size(), 1.0f);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(writer.Add(document).ok());
  ASSERT_TRUE(writer.Write(folder_ + "/a.bin").ok());
  options_.training = {folder_ + "/a.bin"};
  options_.tokenizer_folder = folder_ + "/tokenizer";
  const auto corpus = Read();
  EXPECT_EQ(corpus->documents(), 4);
  EXPECT_EQ(corpus->training_tokens(), 90);
  EXPECT_EQ(corpus->held_out_tokens(), 10);
  train::PackedBatch batch;
  corpus->AddHeldOut(0, 1.0f, &batch);
  EXPECT_EQ(TextOf(*corpus, batch), " and|and ");
  EXPECT_NE(corpus->files().find("chat_template.jinja"), corpus->files().end());
  // Tokens of another vocabulary are refused.
  options_.tokenizer_folder.clear();
  options_.held_out = {folder_ + "/b.txt"};
  Put("b.txt", "some other text");
  const auto other = Corpus::Read(options_);
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().ToString().find("a.bin"), std::string::npos) << other.error().ToString();
}

TEST_F(CorpusTest, WindowsAreFunctionsOfSeedStepAndRow) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>('a' + i * i % 26);
  Put("a.txt", text);
  const auto corpus = Read(), again = Read();
  options_.seed = 2;
  const auto other = Read();
  std::set<std::vector<int32_t>> seen;
  int same = 0;
  for (int64_t step = 0; step < 20; ++step) {
    for (int64_t row = 0; row < 5; ++row) {
      train::PackedBatch a, b, c;
      corpus->AddTraining(step, row, 0.5f, &a);
      again->AddTraining(step, row, 0.5f, &b);
      other->AddTraining(step, row, 0.5f, &c);
      EXPECT_EQ(a.tokens, b.tokens);
      EXPECT_EQ(a.targets, b.targets);
      EXPECT_EQ(a.coefficients, std::vector<float>(4, 0.5f));
      same += a.tokens == c.tokens ? 1 : 0;
      seen.insert(a.tokens);
      for (size_t i = 0; i + 1 < 4; ++i) EXPECT_EQ(a.tokens[i + 1], a.targets[i]);
    }
  }
  EXPECT_LT(same, 50);
  EXPECT_GT(seen.size(), 10u);
  EXPECT_EQ(corpus->digest(), again->digest());
  Put("a.txt", text + "a");
  EXPECT_NE(Read()->digest(), corpus->digest());
}

TEST_F(CorpusTest, SaysWhichFileIsWrong) {
  const auto error = [&] {
    const auto corpus = Corpus::Read(options_);
    return corpus.ok() ? "" : corpus.error().ToString();
  };
  EXPECT_EQ(error(), folder_ + ": the folder holds no .txt and no .md file");
  Put("a.txt", "ab\xFFzd and more text than one sequence");
  EXPECT_EQ(error(), folder_ +
                         "/a.txt: byte 2 is no UTF-8 text; convert the file to UTF-8, or "
                         "leave it out");
  Put("a.txt", "abc");
  EXPECT_NE(error().find("less than one sequence"), std::string::npos) << error();
  options_.training = {folder_ + "/none.txt"};
  EXPECT_NE(error().find("none.txt"), std::string::npos) << error();
}

}  // namespace
}  // namespace lode::tune
