#include "tune/data/shard.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/file.h"

namespace lode::tune {
namespace {

Example Document(const std::vector<int32_t>& tokens, const std::vector<float>& weights) {
  return {tokens, weights};
}

std::vector<int32_t> ReadAll(const TokenShard& shard) {
  std::vector<int32_t> ids(static_cast<size_t>(shard.tokens()));
  shard.Read(0, ids);
  return ids;
}

template <typename T>
void Put(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

Result<std::unique_ptr<TokenShard>> FromText(const std::string& bytes,
                                             const std::string& index = "") {
  return TokenShard::FromMemory(std::as_bytes(std::span(bytes)), std::as_bytes(std::span(index)),
                                "s");
}

class ShardTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) {
    const std::string folder = ::testing::TempDir() + "lode_shard_test";
    EXPECT_TRUE(MakeFolders(folder).ok());
    return folder + "/" + name;
  }
};

TEST_F(ShardTest, WhatIsWrittenIsRead) {
  for (const int64_t vocabulary : {65536, 65537, 131072}) {
    ShardWriter writer(vocabulary, 77);
    ASSERT_TRUE(writer.Add(Document({1, 65535, 3}, {0, 1, 0})).ok());
    ASSERT_TRUE(writer.Add(Document({}, {})).ok());
    ASSERT_TRUE(writer.Add(Document({static_cast<int32_t>(vocabulary - 1), 5}, {0, 1})).ok());
    ASSERT_TRUE(writer.Write(Path("a.tokens")).ok());
    const auto shard = TokenShard::Open(Path("a.tokens"));
    ASSERT_TRUE(shard.ok()) << shard.error().ToString();
    EXPECT_EQ(ReadAll(**shard),
              (std::vector<int32_t>{1, 65535, 3, static_cast<int32_t>(vocabulary - 1), 5}));
    EXPECT_EQ((*shard)->documents(), 3);
    EXPECT_EQ((*shard)->DocumentBegin(1), 3);
    EXPECT_EQ((*shard)->DocumentBegin(3), 5);
    EXPECT_EQ((*shard)->NextDocument(0), 1);
    EXPECT_EQ((*shard)->NextDocument(3), 3);
    EXPECT_TRUE((*shard)->has_weights());
    EXPECT_EQ((*shard)->Weight(1), 1);
    EXPECT_EQ((*shard)->Weight(2), 0);
    EXPECT_EQ((*shard)->vocabulary(), vocabulary);
    EXPECT_EQ((*shard)->tokenizer_hash(), 77u);
    EXPECT_TRUE((*shard)->CheckIds(vocabulary).ok());
    EXPECT_FALSE((*shard)->CheckIds(vocabulary - 1).ok());
  }
}

TEST_F(ShardTest, DocumentsThatAreTaughtWholeNeedNoWeights) {
  ShardWriter writer(10, 1);
  ASSERT_TRUE(writer.Add(Document({1, 2, 3}, {0, 1, 1})).ok());
  const auto shard = writer.Finish("memory");
  EXPECT_FALSE(shard->has_weights());
  EXPECT_EQ(shard->Weight(0), 1);
}

TEST_F(ShardTest, WhatAShardCannotHoldIsRefused) {
  ShardWriter writer(10, 1);
  EXPECT_FALSE(writer.Add(Document({10}, {0})).ok());
  EXPECT_FALSE(writer.Add(Document({1, 2}, {0, 0.5f})).ok());
}

TEST_F(ShardTest, EveryTruncatedOrLyingShardIsRefused) {
  ShardWriter writer(10, 1);
  ASSERT_TRUE(writer.Add(Document({1, 2, 3}, {0, 1, 0})).ok());
  ASSERT_TRUE(writer.Add(Document({4, 5}, {0, 1})).ok());
  ASSERT_TRUE(writer.Write(Path("b.tokens")).ok());
  const std::string whole = *ReadFile(Path("b.tokens"));
  ASSERT_TRUE(FromText(whole).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(FromText(whole.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(FromText(whole + "x").ok());
  const std::pair<size_t, uint64_t> kLies[] = {
      {8, 2}, {12, 3}, {16, 2}, {24, 1u << 30}, {24, ~uint64_t{0}}, {32, 1}, {32, ~uint64_t{0}}};
  for (const auto& [offset, value] : kLies) {
    std::string lie = whole;
    std::memcpy(lie.data() + offset, &value, offset < 24 ? 4 : 8);
    EXPECT_FALSE(FromText(lie).ok()) << offset;
  }
  std::string offsets = whole;
  offsets[1024 + 16 + 8] = 6;  // the second document begins behind the end
  EXPECT_FALSE(FromText(offsets).ok());
}

std::string LlmC(int32_t magic, int32_t version, int32_t tokens) {
  std::string bytes;
  Put(magic, &bytes);
  Put(version, &bytes);
  Put(tokens, &bytes);
  bytes.resize(1024);
  return bytes;
}

TEST_F(ShardTest, FilesOfLlmCAreRead) {
  std::string narrow = LlmC(20240520, 1, 3), wide = LlmC(20240801, 7, 3);
  for (const int32_t id : {5, 50256, 7}) {
    Put(static_cast<uint16_t>(id), &narrow);
    Put(static_cast<uint32_t>(id), &wide);
  }
  for (const std::string* bytes : {&narrow, &wide}) {
    const auto shard = FromText(*bytes);
    ASSERT_TRUE(shard.ok()) << shard.error().ToString();
    EXPECT_EQ(ReadAll(**shard), (std::vector<int32_t>{5, 50256, 7}));
    EXPECT_EQ((*shard)->documents(), 1);
    EXPECT_FALSE((*shard)->vocabulary().has_value());
  }
  EXPECT_FALSE(FromText(narrow + "x").ok());
  EXPECT_FALSE(FromText(LlmC(20240520, 2, 0)).ok());
  EXPECT_FALSE(FromText(LlmC(20240520, 1, -1)).ok());
}

struct Pair {
  std::string bin, idx;
};

// As Megatron writes them: sequences {1, 2}, {3}, {4, 5}; documents of two and of one.
Pair Megatron(uint8_t type) {
  Pair pair;
  const size_t width = type == 8 ? 2 : 4;
  for (const int32_t id : {1, 2, 3, 4, 5}) {
    pair.bin.append(reinterpret_cast<const char*>(&id), width);
  }
  pair.idx.assign("MMIDIDX\0\0", 9);
  Put(uint64_t{1}, &pair.idx);
  Put(type, &pair.idx);
  Put(uint64_t{3}, &pair.idx);
  Put(uint64_t{3}, &pair.idx);
  for (const int32_t length : {2, 1, 2}) Put(length, &pair.idx);
  for (const size_t at : {0, 2, 3}) Put(static_cast<int64_t>(at * width), &pair.idx);
  for (const int64_t document : {0, 2, 3}) Put(document, &pair.idx);
  return pair;
}

TEST_F(ShardTest, PairsOfMegatronAreReadByEitherName) {
  for (const uint8_t type : {8, 4}) {
    const Pair pair = Megatron(type);
    ASSERT_TRUE(WriteFileAtomic(Path("m.bin"), pair.bin).ok());
    ASSERT_TRUE(WriteFileAtomic(Path("m.idx"), pair.idx).ok());
    for (const char* name : {"m.bin", "m.idx"}) {
      const auto shard = TokenShard::Open(Path(name));
      ASSERT_TRUE(shard.ok()) << shard.error().ToString();
      EXPECT_EQ(ReadAll(**shard), (std::vector<int32_t>{1, 2, 3, 4, 5}));
      EXPECT_EQ((*shard)->documents(), 2);
      EXPECT_EQ((*shard)->DocumentBegin(1), 3);
    }
  }
}

TEST_F(ShardTest, BrokenPairsOfMegatronAreRefused) {
  const Pair pair = Megatron(8);
  for (size_t size = 1; size < pair.idx.size(); ++size) {
    EXPECT_FALSE(FromText(pair.bin, pair.idx.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(FromText(pair.bin + "xx", pair.idx).ok());
  Pair type = Megatron(8);
  type.idx[17] = 6;
  EXPECT_FALSE(FromText(type.bin, type.idx).ok());
  Pair many = Megatron(8);
  std::memset(many.idx.data() + 18, 0xFF, 16);
  EXPECT_FALSE(FromText(many.bin, many.idx).ok());
}

TEST_F(ShardTest, AnythingElseIsNoShard) {
  EXPECT_FALSE(FromText("hello, world").ok());
  EXPECT_FALSE(TokenShard::Open(Path("nothing")).ok());
}

}  // namespace
}  // namespace lode::tune
