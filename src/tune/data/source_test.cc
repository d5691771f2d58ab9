#include "tune/data/source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>

#include "tests/support/training_text.h"
#include "tune/data/order.h"
#include "tune/data/stream.h"

namespace lode::tune {
namespace {

TEST(Order, APermutationVisitsEverythingOnceAndDependsOnItsKey) {
  for (const uint64_t count : {1, 2, 3, 5, 16, 17, 1000, 4097}) {
    const Permutation order(count, 7), other(count, 8);
    std::set<uint64_t> seen;
    uint64_t same = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t at = order.At(i);
      EXPECT_LT(at, count);
      seen.insert(at);
      same += at == other.At(i) ? 1 : 0;
    }
    EXPECT_EQ(seen.size(), count);
    if (count >= 1000) {
      EXPECT_LT(same, 12u) << count;
    }
  }
}

TEST(Order, APermutationLeavesNoTraceOfTheOldOrder) {
  constexpr uint64_t kCount = 10000;
  const Permutation order(kCount, 3);
  double product = 0, distance = 0;
  for (uint64_t i = 0; i < kCount; ++i) {
    product +=
        (static_cast<double>(i) / kCount - 0.5) * (static_cast<double>(order.At(i)) / kCount - 0.5);
    distance += std::abs(static_cast<double>(order.At(i)) - static_cast<double>(i));
  }
  EXPECT_LT(std::abs(product * 12 / kCount), 0.04);        // correlation: 4 standard errors
  EXPECT_NEAR(distance / kCount / kCount, 1.0 / 3, 0.01);  // mean distance of a random one
}

int64_t Sum(const std::vector<int64_t>& rows, const std::vector<int64_t>& bin) {
  int64_t sum = 0;
  for (const int64_t item : bin) sum += rows[static_cast<size_t>(item)];
  return sum;
}

// First fit without a tree.
std::vector<std::vector<int64_t>> PlainFirstFit(const std::vector<int64_t>& rows,
                                                int64_t capacity) {
  std::vector<std::vector<int64_t>> bins;
  for (size_t item = 0; item < rows.size(); ++item) {
    auto bin = std::find_if(bins.begin(), bins.end(),
                            [&](const auto& b) { return Sum(rows, b) + rows[item] <= capacity; });
    if (bin == bins.end()) bin = bins.emplace(bins.end());
    bin->push_back(static_cast<int64_t>(item));
  }
  return bins;
}

std::vector<int64_t> RandomRows(size_t count, int64_t capacity, uint64_t seed) {
  std::vector<int64_t> rows;
  for (size_t i = 0; i < count; ++i) {
    rows.push_back(1 + static_cast<int64_t>(Mix(seed, i) % static_cast<uint64_t>(capacity)));
  }
  return rows;
}

TEST(Pack, FirstFitIsFirstFitAndDecreasingOrderPacksTighter) {
  double shuffled = 0, decreasing = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto rows = RandomRows(300, 64, seed);
    const auto bins = PackFirstFit(rows, 64, PackOrder::kShuffled);
    EXPECT_EQ(bins, PlainFirstFit(rows, 64));
    const auto tight = PackFirstFit(rows, 64, PackOrder::kDecreasing);
    std::multiset<int64_t> items;
    for (const auto& bin : tight) {
      EXPECT_LE(Sum(rows, bin), 64);
      items.insert(bin.begin(), bin.end());
    }
    EXPECT_EQ(items.size(), rows.size());
    EXPECT_EQ(*items.rbegin(), 299);
    shuffled += static_cast<double>(bins.size());
    decreasing += static_cast<double>(tight.size());
  }
  EXPECT_LT(decreasing, shuffled);
}

std::vector<Example> ManyExamples(int32_t count, int64_t rows_max) {
  std::vector<Example> examples;
  const auto rows = RandomRows(static_cast<size_t>(count), rows_max, 5);
  for (int32_t i = 0; i < count; ++i) {
    Example example;
    example.tokens.assign(static_cast<size_t>(rows[static_cast<size_t>(i)] + 1), i);
    example.weights.assign(example.tokens.size(), 1.0f);
    examples.push_back(std::move(example));
  }
  return examples;
}

std::unique_ptr<DataSource> Packed(const PackOptions& options) {
  auto source = MakePacked(ManyExamples(500, 40), options);
  EXPECT_TRUE(source.ok());
  return *std::move(source);
}

std::vector<std::vector<int32_t>> Firsts(DataSource* source, int64_t bins) {
  std::vector<std::vector<int32_t>> firsts;
  auto step = source->Next(bins);
  EXPECT_TRUE(step.ok());
  for (const Bin& bin : *step) {
    auto& of_bin = firsts.emplace_back();
    for (const Example& example : bin) of_bin.push_back(example.tokens[0]);
  }
  return firsts;
}

TEST(Pack, AnEpochHasEveryExampleOnceInAnOrderOfItsOwn) {
  const auto source = Packed({.rows = 64, .window = 128});
  std::vector<std::vector<std::vector<int32_t>>> epochs(2);
  for (auto& epoch : epochs) {
    const int64_t number = source->epoch();
    std::multiset<int32_t> seen;
    while (source->epoch() == number) {
      epoch.push_back(Firsts(source.get(), 1)[0]);
      seen.insert(epoch.back().begin(), epoch.back().end());
    }
    EXPECT_EQ(seen.size(), 500u);
    EXPECT_EQ(std::set<int32_t>(seen.begin(), seen.end()).size(), 500u);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_EQ(static_cast<int64_t>(epochs[0].size()), source->bins_per_epoch());
}

TEST(Pack, ACursorGoesOnExactlyHoweverStepsAreCut) {
  for (const PackOrder order : {PackOrder::kDecreasing, PackOrder::kShuffled}) {
    const PackOptions options = {.rows = 64, .order = order, .window = 100, .seed = 9};
    const auto unbroken = Packed(options);
    const auto all = Firsts(unbroken.get(), 700);
    for (const int64_t at : {0, 1, 37, 250, 512}) {
      const auto before = Packed(options);
      Firsts(before.get(), at);
      auto text = ParseJson(DumpJson(before->Save()));
      const auto after = Packed(options);
      ASSERT_TRUE(after->Restore(*text).ok());
      std::vector<std::vector<int32_t>> rest;
      while (rest.size() < 150) {
        for (auto& bin : Firsts(after.get(), 1 + static_cast<int64_t>(rest.size() % 3))) {
          rest.push_back(std::move(bin));
        }
      }
      rest.resize(150);
      EXPECT_TRUE(std::equal(rest.begin(), rest.end(), all.begin() + at)) << at;
    }
  }
}

TEST(Pack, OtherDataIsRefusedUnlessItIsMeant) {
  const auto source = Packed({.rows = 64, .seed = 1});
  const auto other = Packed({.rows = 64, .seed = 2});
  Firsts(source.get(), 3);
  EXPECT_FALSE(other->Restore(source->Save()).ok());
  EXPECT_TRUE(other->Restore(source->Save(), true).ok());
  Json far = source->Save();
  far["position"]["bin"] = 100000;
  EXPECT_FALSE(source->Restore(far).ok());
  EXPECT_FALSE(source->Restore(Json::object()).ok());
  EXPECT_FALSE(MakePacked({}, {}).ok());
  EXPECT_FALSE(MakePacked(ManyExamples(3, 40), {.rows = 2}).ok());
}

// --- Streams. -----------------------------------------------------------------------------------

std::shared_ptr<const TokenShard> Counting(int32_t first, const std::vector<int32_t>& documents) {
  ShardWriter writer(100000, 1);
  for (const int32_t length : documents) {
    Example document;
    for (int32_t t = 0; t < length; ++t) {
      document.tokens.push_back(first++);
      document.weights.push_back(1);
    }
    EXPECT_TRUE(writer.Add(document).ok());
  }
  return writer.Finish("counting");
}

std::unique_ptr<DataSource> Stream(std::vector<StreamPart> parts, const StreamOptions& options) {
  auto source = MakeStream(std::move(parts), options);
  EXPECT_TRUE(source.ok()) << (source.ok() ? "" : source.error().ToString());
  return *std::move(source);
}

TEST(Stream, AnEpochHasEveryLabelOnce) {
  const auto source = Stream({{"a", {Counting(0, {10, 23}), Counting(1000, {7})}}}, {.rows = 8});
  std::multiset<int32_t> labels;
  while (source->epoch() == 0) {
    const auto step = source->Next(1);
    for (const Example& example : (*step)[0]) {
      EXPECT_LE(CountRows(example), 8);
      labels.insert(example.tokens.begin() + 1, example.tokens.end());
    }
  }
  std::multiset<int32_t> expected;
  for (int32_t t = 1; t < 33; ++t) expected.insert(t);
  for (int32_t t = 1001; t < 1007; ++t) expected.insert(t);
  EXPECT_EQ(labels, expected);
}

TEST(Stream, DocumentsMayBeKeptApart) {
  const auto source = Stream({{"a", {Counting(0, {3, 6, 4})}}},
                             {.rows = 12, .shuffle = false, .reset_at_documents = true});
  const auto step = source->Next(1);
  ASSERT_TRUE(step.ok());
  ASSERT_EQ((*step)[0].size(), 3u);
  EXPECT_EQ((*step)[0][1].tokens, (std::vector<int32_t>{3, 4, 5, 6, 7, 8}));
  EXPECT_EQ((*step)[0][1].weights[0], 0);
}

TEST(Stream, WindowsWithoutARowArePassedOver) {
  const StreamOptions apart = {.rows = 2, .shuffle = false, .reset_at_documents = true};
  const auto source = Stream({{"a", {Counting(0, {1, 1, 1, 1, 1, 2, 1, 1})}}}, apart);
  for (int i = 0; i < 3; ++i) {
    const auto step = source->Next(1);
    ASSERT_EQ((*step)[0].size(), 1u);
    EXPECT_EQ((*step)[0][0].tokens, (std::vector<int32_t>{5, 6}));
  }
  EXPECT_FALSE(MakeStream({{"a", {Counting(0, {1, 1, 1})}}}, apart).ok());
  EXPECT_FALSE(MakeStream({{"a", {Counting(0, {1})}}}, {}).ok());
  EXPECT_FALSE(MakeStream({}, {}).ok());
}

TEST(Stream, AMixtureHoldsItsSharesAtEveryPrefix) {
  const auto source = Stream({{"a", {Counting(0, {801})}, 0.7},
                              {"b", {Counting(10000, {81})}, 0.2},
                              {"c", {Counting(20000, {161})}, 0.1}},
                             {.rows = 8});
  std::map<int32_t, double> drawn;
  for (int n = 1; n <= 500; ++n) {
    const auto step = source->Next(1);
    ++drawn[(*step)[0][0].tokens[0] / 10000];
    EXPECT_NEAR(drawn[0], 0.7 * n, 1.0);
    EXPECT_NEAR(drawn[1], 0.2 * n, 1.0);
    EXPECT_NEAR(drawn[2], 0.1 * n, 1.0);
  }
}

TEST(Stream, APartThatIsUsedUpLeavesTheMixture) {
  const auto source =
      Stream({{"a", {Counting(0, {17})}, 1, 2}, {"b", {Counting(10000, {81})}, 1, 1}}, {.rows = 8});
  const auto all = source->Next(4 + 10);
  ASSERT_TRUE(all.ok());
  const auto more = source->Next(1);
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().code(), Code::kNotFound);
}

TEST(Stream, ACursorGoesOnExactly) {
  const auto make = [] {
    return Stream({{"a", {Counting(0, {801})}, 3}, {"b", {Counting(10000, {400, 401})}, 1}},
                  {.rows = 8, .windows = 2, .seed = 4});
  };
  const auto unbroken = make();
  const auto all = Firsts(unbroken.get(), 200);
  for (const int64_t at : {0, 1, 99}) {
    const auto before = make();
    Firsts(before.get(), at);
    const auto after = make();
    ASSERT_TRUE(after->Restore(*ParseJson(DumpJson(before->Save()))).ok());
    const auto rest = Firsts(after.get(), 100);
    EXPECT_TRUE(std::equal(rest.begin(), rest.end(), all.begin() + at)) << at;
  }
}

TEST(Stream, TextsOfFilesBecomeOneShard) {
  const std::string folder = ::testing::TempDir() + "lode_stream_texts";
  std::filesystem::remove_all(folder);
  ASSERT_TRUE(MakeFolders(folder).ok());
  ASSERT_TRUE(WriteFileAtomic(folder + "/a.txt", "Once").ok());
  ASSERT_TRUE(
      WriteFileAtomic(folder + "/b.jsonl", "{\"text\": \"upon\"}\n{\"text\": \"a\"}\n").ok());
  const Encoder encoder = testing::MakeEncoder(nullptr);
  Report report;
  const auto shard = LoadTexts({folder}, encoder, true, &report);
  ASSERT_TRUE(shard.ok()) << shard.error().ToString();
  EXPECT_EQ((*shard)->documents(), 3);
  EXPECT_EQ((*shard)->tokens(), report.tokens());
  EXPECT_TRUE((*shard)->Check(encoder.tokenizer()).ok());
  ASSERT_TRUE(WriteFileAtomic(folder + "/c.jsonl", "{\"text\": 7}\n").ok());
  const auto bad = LoadTexts({folder}, encoder, true, &report);
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().ToString().find("c.jsonl:1"), std::string::npos);
}

}  // namespace
}  // namespace lode::tune
