#include "formats/gguf.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstring>

#include "formats/gguf_writer.h"
#include "formats/test_files.h"
#include "tests/support/shared.h"

namespace lode::formats {
namespace {

using testing::Bytes;
using testing::GgufStart;
using testing::Pieces;
using testing::TemporaryFolder;

constexpr uint32_t kString = 8, kArray = 9, kU32 = 4, kI32 = 5, kBool = 7, kF32Value = 6;

std::string ErrorOf(const std::string& file) {
  const auto opened = GgufFile::FromMemory(Bytes(file), "m.gguf");
  return opened.ok() ? "" : opened.error().ToString();
}

// Every message names the file and what is wrong in it.
void ExpectRefused(const std::string& file, std::initializer_list<const char*> words) {
  const std::string message = ErrorOf(file);
  ASSERT_FALSE(message.empty()) << "was opened";
  EXPECT_NE(message.find("m.gguf"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (const char* word : words) EXPECT_NE(message.find(word), std::string::npos) << message;
}

// One tensor entry: dimensions innermost first, as in the file.
Pieces& AddTensor(Pieces& file, std::string_view name, std::vector<uint64_t> ne, uint32_t type,
                  uint64_t offset) {
  file.String(name).Add(static_cast<uint32_t>(ne.size()));
  for (const uint64_t size : ne) file.Add(size);
  return file.Add(type).Add(offset);
}

std::string SmallFile() {
  Pieces file = GgufStart(2, 4);
  file.String("general.architecture").Add(kString).String("x");
  file.String("x.list").Add(kArray).Add(kI32).Add(uint64_t{2}).Add(int32_t{-1}).Add(int32_t{7});
  file.String("x.names").Add(kArray).Add(kString).Add(uint64_t{2}).String("a").String("bc");
  file.String("x.flag").Add(kBool).Add(uint8_t{1});
  AddTensor(file, "a", {3, 2}, 0, 0);
  AddTensor(file, "b", {32}, 8, 32);
  file.PadTo(32);
  for (int i = 0; i < 6; ++i) file.Add(static_cast<float>(i));
  file.PadTo(32).Zeros(34);
  return file.str();
}

TEST(Gguf, ReadsMetadataAndTensors) {
  const std::string bytes = SmallFile();
  const auto file = GgufFile::FromMemory(Bytes(bytes), "m.gguf");
  ASSERT_TRUE(file.ok()) << file.error().ToString();
  const GgufFile& gguf = **file;
  EXPECT_EQ(gguf.naming(), tensor::Naming::kGguf);
  EXPECT_EQ(gguf.GetString("general.architecture").value(), "x");
  EXPECT_EQ(gguf.GetInts("x.list").value(), (std::vector<int64_t>{-1, 7}));
  EXPECT_EQ(gguf.GetStrings("x.names").value(), (std::vector<std::string_view>{"a", "bc"}));
  EXPECT_TRUE(gguf.GetBool("x.flag").value());
  EXPECT_EQ(DumpJson(gguf.config()),
            R"({"general.architecture":"x","x.list":[-1,7],"x.names":["a","bc"],"x.flag":true})");
  ASSERT_EQ(gguf.tensors().size(), 2u);
  const tensor::TensorInfo* a = gguf.Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->shape, (tensor::Shape{2, 3}));  // outermost first
  const tensor::TensorView view = gguf.View(*a);
  ASSERT_EQ(view.bytes.size(), 24u);
  float last = 0;
  std::memcpy(&last, view.bytes.data() + 20, 4);
  EXPECT_EQ(last, 5.0f);
  EXPECT_EQ(gguf.Find("c"), nullptr);
}

TEST(Gguf, TypedReadsTakeEveryWidthAndNameTheKeyOtherwise) {
  Pieces file = GgufStart(0, 8);
  file.String("u8").Add(uint32_t{0}).Add(uint8_t{200});
  file.String("i16").Add(uint32_t{3}).Add(int16_t{-300});
  file.String("u64").Add(uint32_t{10}).Add(uint64_t{1} << 40);
  file.String("huge").Add(uint32_t{10}).Add(~uint64_t{0});
  file.String("f32").Add(kF32Value).Add(1.5f);
  file.String("f64").Add(uint32_t{12}).Add(2.5);
  file.String("text").Add(kString).String("t");
  file.String("floats").Add(kArray).Add(uint32_t{12}).Add(uint64_t{1}).Add(0.25);
  const auto opened = GgufFile::FromMemory(Bytes(file.str()), "m.gguf");
  ASSERT_TRUE(opened.ok()) << opened.error().ToString();
  const GgufFile& gguf = **opened;
  EXPECT_EQ(gguf.GetInt("u8").value(), 200);
  EXPECT_EQ(gguf.GetInt("i16").value(), -300);
  EXPECT_EQ(gguf.GetInt("u64").value(), int64_t{1} << 40);
  EXPECT_EQ(gguf.GetFloat("huge").value(), 0x1p64);
  EXPECT_EQ(gguf.GetFloat("f32").value(), 1.5);
  EXPECT_EQ(gguf.GetFloat("f64").value(), 2.5);
  EXPECT_EQ(gguf.GetFloat("i16").value(), -300.0);
  EXPECT_EQ(gguf.GetFloats("floats").value(), std::vector<float>{0.25f});
  for (const Error& error :
       {gguf.GetInt("huge").error(), gguf.GetInt("f32").error(), gguf.GetInt("text").error(),
        gguf.GetFloat("text").error(), gguf.GetBool("u8").error(), gguf.GetString("u8").error(),
        gguf.GetStrings("floats").error(), gguf.GetInts("floats").error(),
        gguf.GetFloats("u8").error(), gguf.GetInt("absent").error()}) {
    EXPECT_NE(error.ToString().find("'m.gguf'"), std::string::npos) << error.ToString();
    EXPECT_NE(error.ToString().find("key '"), std::string::npos) << error.ToString();
  }
  EXPECT_EQ(gguf.GetInt("absent").error().code(), Code::kNotFound);
}

TEST(Gguf, LargeArraysStayOutOfTheConfig) {
  const std::vector<int32_t> at_limit(GgufFile::kConfigArrayMax), above(GgufFile::kConfigArrayMax + 1);
  TemporaryFolder folder;
  GgufWriter writer;
  writer.SetI32s("at_limit", at_limit);
  writer.SetI32s("above", above);
  ASSERT_TRUE(writer.Begin(folder.File("m.gguf")).ok());
  ASSERT_TRUE(writer.Finish().ok());
  const auto file = GgufFile::Open(folder.File("m.gguf"));
  ASSERT_TRUE(file.ok()) << file.error().ToString();
  EXPECT_NE(FindKey((*file)->config(), "at_limit"), nullptr);
  EXPECT_EQ(FindKey((*file)->config(), "above"), nullptr);
  EXPECT_EQ((*file)->GetInts("above").value().size(), above.size());
}

TEST(Gguf, InvalidUtf8StaysAsItIsInStringsAndIsReplacedInTheConfig) {
  Pieces file = GgufStart(0, 1);
  file.String("name").Add(kString).String("a\xff");
  const auto opened = GgufFile::FromMemory(Bytes(file.str()), "m.gguf");
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ((*opened)->GetString("name").value(), "a\xff");
  EXPECT_EQ(GetString((*opened)->config(), "name"), "a\xEF\xBF\xBD");
}

TEST(Gguf, RefusesWhatIsNoGguf) {
  ExpectRefused("", {"empty"});
  ExpectRefused("GGU", {"not a GGUF"});
  ExpectRefused("version https://git-lfs.github.com/spec/v1\noid", {"Git LFS"});
  ExpectRefused("<!DOCTYPE html>", {"web page"});
  ExpectRefused(std::string("PK\x03\x04zzzzzz"), {"pickle"});
  ExpectRefused("GGUF", {"header"});
  ExpectRefused(GgufStart(0, 0, 1).str(), {"version 1"});
  ExpectRefused(GgufStart(0, 0, 4).str(), {"version 4"});
  ExpectRefused(GgufStart(0, 0, 0x03000000).str(), {"big-endian"});
  EXPECT_EQ(ErrorOf(GgufStart(0, 0, 2).str()), "");
}

TEST(Gguf, ChecksCountsBeforeItAllocates) {
  ExpectRefused(GgufStart(uint64_t{1} << 62, 0).str(), {"tensors do not fit"});
  ExpectRefused(GgufStart(0, ~uint64_t{0}).str(), {"entries do not fit"});
  const auto array = [](uint32_t type, uint64_t count) {
    Pieces file = GgufStart(0, 1);
    return file.String("k").Add(kArray).Add(type).Add(count).Zeros(64).str();
  };
  ExpectRefused(array(kString, uint64_t{1} << 60), {"'k'", "strings"});
  ExpectRefused(array(kU32, uint64_t{1} << 62), {"'k'", "end of the file"});
  ExpectRefused(array(12, (uint64_t{1} << 61) + 1), {"'k'", "end of the file"});  // * 8 wraps
  Pieces file = GgufStart(0, 1);
  ExpectRefused(file.Add(~uint64_t{0}).Raw("key").Zeros(32).str(), {"key 0"});
  Pieces text = GgufStart(0, 1);
  ExpectRefused(text.String("k").Add(kString).Add(uint64_t{1} << 40).Zeros(32).str(), {"'k'"});
}

TEST(Gguf, RefusesBadMetadata) {
  const auto one = [](const auto& fill) {
    Pieces file = GgufStart(0, 1);
    fill(file);
    return file.Zeros(32).str();
  };
  ExpectRefused(one([](Pieces& f) { f.String("").Add(kU32).Add(1); }), {"key 0"});
  ExpectRefused(one([](Pieces& f) { f.String("a b").Add(kU32).Add(1); }), {"key 0"});
  ExpectRefused(one([](Pieces& f) { f.String(std::string(65536, 'a')).Add(kU32).Add(1); }), {"key 0"});
  ExpectRefused(one([](Pieces& f) { f.String("k").Add(uint32_t{13}); }), {"'k'", "type 13"});
  ExpectRefused(one([](Pieces& f) { f.String("k").Add(kBool).Add(uint8_t{2}); }), {"'k'", "bool"});
  ExpectRefused(one([](Pieces& f) {
                  f.String("k").Add(kArray).Add(kBool).Add(uint64_t{2}).Raw(std::string("\1\3", 2));
                }), {"'k'", "bool"});
  ExpectRefused(one([](Pieces& f) { f.String("k").Add(kArray).Add(kArray).Add(uint64_t{1}); }),
                {"'k'", "arrays of arrays"});
  ExpectRefused(one([](Pieces& f) { f.String("k").Add(kArray).Add(uint32_t{77}).Add(uint64_t{1}); }),
                {"'k'", "type 77"});
  Pieces twice = GgufStart(0, 2);
  ExpectRefused(twice.String("k").Add(kU32).Add(1).String("k").Add(kU32).Add(1).Zeros(32).str(),
                {"'k'", "twice"});
}

TEST(Gguf, RefusesABadAlignment) {
  const auto with = [](uint32_t type, uint32_t alignment) {
    return GgufStart(0, 1).String("general.alignment").Add(type).Add(alignment).str();
  };
  ExpectRefused(with(kU32, 0), {"general.alignment", "power of two"});
  ExpectRefused(with(kU32, 48), {"general.alignment", "power of two"});
  ExpectRefused(with(kI32, 32), {"general.alignment", "not u32"});
  EXPECT_EQ(ErrorOf(with(kU32, 1u << 31)), "");
}

TEST(Gguf, RefusesBadTensorsByName) {
  const auto one = [](std::vector<uint64_t> ne, uint32_t type, uint64_t offset, size_t data = 64) {
    Pieces file = GgufStart(1, 0);
    return AddTensor(file, "blk.0.w", std::move(ne), type, offset).PadTo(32).Zeros(data).str();
  };
  EXPECT_EQ(ErrorOf(one({16}, 0, 0)), "");
  EXPECT_EQ(ErrorOf(one({0, 16}, 0, 1 << 20)), "");  // an empty tensor may stand anywhere
  ExpectRefused(one({16}, 0, 0, 63), {"'blk.0.w'", "end of the file"});
  ExpectRefused(one({16}, 0, 16), {"'blk.0.w'", "alignment"});
  ExpectRefused(one({16}, 0, 32), {"'blk.0.w'", "end of the file"});
  ExpectRefused(one({16}, 0, ~uint64_t{0} - 31), {"'blk.0.w'"});
  ExpectRefused(one({uint64_t{1} << 62, 8}, 0, 0), {"'blk.0.w'", "too large"});
  ExpectRefused(one({uint64_t{1} << 61}, 0, 0), {"'blk.0.w'"});  // * 4 bytes wraps
  ExpectRefused(one({uint64_t{1} << 63}, 0, 0), {"'blk.0.w'", "negative"});
  ExpectRefused(one({1, 1, 1, 1, 1}, 0, 0), {"'blk.0.w'", "5 dimensions"});
  ExpectRefused(one({33}, 2, 0), {"'blk.0.w'", "q4_0 blocks"});
  ExpectRefused(one({}, 2, 0), {"'blk.0.w'", "q4_0 blocks"});
  ExpectRefused(one({256}, 16, 0), {"'blk.0.w'", "IQ2_XXS"});
  ExpectRefused(one({256}, 4, 0), {"'blk.0.w'", "type 4"});

  Pieces unnamed = GgufStart(1, 0);
  ExpectRefused(AddTensor(unnamed, "", {1}, 0, 0).PadTo(32).Zeros(32).str(), {"tensor 0"});
  Pieces twice = GgufStart(2, 0);
  AddTensor(twice, "w", {1}, 0, 0);
  ExpectRefused(AddTensor(twice, "w", {1}, 0, 32).PadTo(32).Zeros(64).str(), {"'w'", "twice"});
  Pieces overlap = GgufStart(2, 0);
  AddTensor(overlap, "late", {8}, 0, 32);
  ExpectRefused(AddTensor(overlap, "early", {9}, 0, 0).PadTo(32).Zeros(64).str(),
                {"'late'", "'early'", "overlap"});
}

TEST(Gguf, ThePadAfterTheLastTensorMayBeAbsent) {
  Pieces file = GgufStart(1, 0);
  EXPECT_EQ(ErrorOf(AddTensor(file, "w", {1}, 0, 0).PadTo(32).Zeros(4).str()), "");
}

TEST(Gguf, ThePartsOfAVocabularyMustAgree) {
  const auto vocabulary = [](const auto& more) {
    Pieces file = GgufStart(0, 2);
    file.String("tokenizer.ggml.tokens").Add(kArray).Add(kString).Add(uint64_t{2}).String("a").String("b");
    more(file);
    return file.str();
  };
  EXPECT_EQ(ErrorOf(vocabulary([](Pieces& f) { f.String("tokenizer.ggml.bos_token_id").Add(kU32).Add(1); })), "");
  ExpectRefused(vocabulary([](Pieces& f) { f.String("tokenizer.ggml.bos_token_id").Add(kU32).Add(2); }),
                {"bos_token_id"});
  ExpectRefused(vocabulary([](Pieces& f) { f.String("tokenizer.ggml.eos_token_id").Add(kI32).Add(-1); }),
                {"eos_token_id"});
  ExpectRefused(vocabulary([](Pieces& f) {
                  f.String("tokenizer.ggml.scores").Add(kArray).Add(kF32Value).Add(uint64_t{1}).Add(1.0f);
                }), {"tokenizer.ggml.scores"});
  ExpectRefused(vocabulary([](Pieces& f) {
                  f.String("tokenizer.ggml.token_type").Add(kArray).Add(kI32).Add(uint64_t{3}).Zeros(12);
                }), {"tokenizer.ggml.token_type"});
}

// Reads all that an opened file offers; the sanitizers see what lies outside.
void Exercise(const GgufFile& gguf) {
  for (const GgufEntry& entry : gguf.entries()) {
    (void)gguf.GetString(entry.key).ok();
    (void)gguf.GetInts(entry.key).ok();
    (void)gguf.GetStrings(entry.key).ok();
  }
  unsigned sum = 0;
  for (const tensor::TensorInfo& info : gguf.tensors()) {
    for (const std::byte value : gguf.View(info).bytes) sum += std::to_integer<unsigned>(value);
  }
  volatile unsigned sink = sum;
  (void)sink;
}

TEST(Gguf, AFileCutAnywhereIsRefused) {
  const std::string whole = SmallFile();
  for (size_t size = 0; size < whole.size(); ++size) {
    // A copy of exactly that size, so that a read behind it is seen.
    const std::vector<std::byte> cut(Bytes(whole).begin(), Bytes(whole).begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(GgufFile::FromMemory(cut, "m.gguf").ok()) << size;
  }
}

TEST(Gguf, AFlippedBitNeverCrashes) {
  const std::string whole = SmallFile();
  int opened = 0, refused = 0;
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto file = GgufFile::FromMemory(Bytes(flipped), "m.gguf");
    if (file.ok()) {
      ++opened;
      Exercise(**file);
    } else {
      ++refused;
      EXPECT_NE(file.error().code(), Code::kInternal);
    }
  }
  EXPECT_GT(opened, 0);
  EXPECT_GT(refused, 100);
}

TEST(Gguf, WhatIsWrittenIsReadBack) {
  TemporaryFolder folder;
  const std::string path = folder.File("m.gguf");
  GgufWriter writer;
  writer.SetString("general.architecture", "nemotron_h");
  writer.SetU32("a", 7);
  writer.SetI32("b", -7);
  writer.SetU64("c", uint64_t{1} << 50);
  writer.SetF32("d", 1.25f);
  writer.SetBool("e", true);
  writer.SetU16("f", 9);
  const std::vector<std::string> names = {"x", "", "\xff"};
  writer.SetStrings("g", names);
  const std::vector<float> floats = {0.5f, -1.0f};
  writer.SetF32s("h", floats);
  const std::vector<uint32_t> counts = {1, 2};
  writer.SetU32s("i", counts);
  writer.SetU32("a", 8);  // replaces
  writer.AddTensor("one", tensor::DType::kF32, {3});
  writer.AddTensor("none", tensor::DType::kF32, {0, 4});
  writer.AddTensor("two", tensor::DType::kQ8_0, {2, 32});
  ASSERT_TRUE(writer.Begin(path).ok());
  std::vector<std::byte> data(12 + 68);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  for (size_t at = 0; at < data.size(); at += 7) {  // pieces that cross tensors
    ASSERT_TRUE(writer.Write(std::span(data).subspan(at, std::min<size_t>(7, data.size() - at))).ok());
  }
  EXPECT_FALSE(std::filesystem::exists(path));  // not before it is whole
  ASSERT_TRUE(writer.Finish().ok());

  const auto file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.error().ToString();
  EXPECT_EQ((*file)->entries().front().key, "general.architecture");
  EXPECT_EQ((*file)->GetInt("a").value(), 8);
  EXPECT_EQ((*file)->GetInt("b").value(), -7);
  EXPECT_EQ((*file)->GetInt("c").value(), int64_t{1} << 50);
  EXPECT_EQ((*file)->GetFloat("d").value(), 1.25);
  EXPECT_TRUE((*file)->GetBool("e").value());
  EXPECT_EQ((*file)->GetStrings("g").value().at(2), "\xff");
  EXPECT_EQ((*file)->GetFloats("h").value(), floats);
  EXPECT_EQ((*file)->GetInts("i").value(), (std::vector<int64_t>{1, 2}));
  const tensor::TensorInfo* two = (*file)->Find("two");
  ASSERT_NE(two, nullptr);
  EXPECT_EQ(two->shape, (tensor::Shape{2, 32}));
  EXPECT_EQ(two->file_offset % 32, 0u);
  EXPECT_EQ(std::memcmp((*file)->View(*two).bytes.data(), data.data() + 12, 68), 0);
  EXPECT_EQ((*file)->View(*(*file)->Find("none")).bytes.size(), 0u);
}

TEST(Gguf, MetadataOfAnotherFileAreCopiedByteForByte) {
  const std::string source = SmallFile();
  const auto from = GgufFile::FromMemory(Bytes(source), "m.gguf");
  ASSERT_TRUE(from.ok());
  TemporaryFolder folder;
  GgufWriter writer;
  for (const GgufEntry& entry : (*from)->entries()) writer.Set(entry);
  ASSERT_TRUE(writer.Begin(folder.File("c.gguf")).ok());
  ASSERT_TRUE(writer.Finish().ok());
  const auto copy = GgufFile::Open(folder.File("c.gguf"));
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ((*copy)->config(), (*from)->config());
}

void WriteSplit(const std::string& path) {
  GgufWriter writer;
  writer.SetString("general.architecture", "x");
  for (int i = 0; i < 5; ++i) writer.AddTensor("t" + std::to_string(i), tensor::DType::kF32, {8});
  ASSERT_TRUE(writer.Begin(path, 64).ok());
  for (int i = 0; i < 5 * 8; ++i) {
    const float value = static_cast<float>(i);
    ASSERT_TRUE(writer.Write(std::as_bytes(std::span(&value, 1))).ok());
  }
  ASSERT_TRUE(writer.Finish().ok());
  ASSERT_EQ(writer.paths().size(), 3u);
}

TEST(Gguf, SplitFilesAreWrittenAndReadAsOne) {
  TemporaryFolder folder;
  WriteSplit(folder.File("m.gguf"));
  const auto file = GgufFile::Open(folder.File("m-00001-of-00003.gguf"));
  ASSERT_TRUE(file.ok()) << file.error().ToString();
  EXPECT_EQ((*file)->shards(), 3);
  ASSERT_EQ((*file)->tensors().size(), 5u);
  for (int i = 0; i < 5; ++i) {
    const tensor::TensorInfo* info = (*file)->Find("t" + std::to_string(i));
    ASSERT_NE(info, nullptr);
    float first = -1;
    std::memcpy(&first, (*file)->View(*info).bytes.data(), 4);
    EXPECT_EQ(first, static_cast<float>(8 * i));
  }
}

TEST(Gguf, ASplitModelIsOpenedAtItsFirstShardAndNeedsAllOfThem) {
  TemporaryFolder folder;
  WriteSplit(folder.File("m.gguf"));
  const auto later = GgufFile::Open(folder.File("m-00002-of-00003.gguf"));
  ASSERT_FALSE(later.ok());
  EXPECT_NE(later.error().ToString().find("m-00001-of-00003.gguf"), std::string::npos);

  std::filesystem::copy_file(folder.File("m-00001-of-00003.gguf"), folder.File("renamed.gguf"));
  EXPECT_FALSE(GgufFile::Open(folder.File("renamed.gguf")).ok());

  // A shard in the wrong place.
  std::filesystem::rename(folder.File("m-00002-of-00003.gguf"), folder.File("kept"));
  std::filesystem::copy_file(folder.File("m-00003-of-00003.gguf"), folder.File("m-00002-of-00003.gguf"));
  EXPECT_FALSE(GgufFile::Open(folder.File("m-00001-of-00003.gguf")).ok());

  std::filesystem::remove(folder.File("m-00002-of-00003.gguf"));
  std::filesystem::remove(folder.File("m-00003-of-00003.gguf"));
  const auto missing = GgufFile::Open(folder.File("m-00001-of-00003.gguf"));
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_NE(missing.error().ToString().find("m-00002-of-00003.gguf"), std::string::npos);
  EXPECT_NE(missing.error().ToString().find("m-00003-of-00003.gguf"), std::string::npos);
}

TEST(Gguf, TheWriterRefusesWhatAReaderWould) {
  TemporaryFolder folder;
  const auto begin = [&](const std::string& name, tensor::DType dtype, tensor::Shape shape) {
    GgufWriter writer;
    writer.AddTensor(name, dtype, shape);
    const Result<void> begun = writer.Begin(folder.File("m.gguf"));
    return begun.ok() ? "" : begun.error().ToString();
  };
  EXPECT_NE(begin(std::string(64, 'n'), tensor::DType::kF32, {1}), "");
  EXPECT_NE(begin("w", tensor::DType::kF8E4M3, {1}).find("f8_e4m3"), std::string::npos);
  EXPECT_NE(begin("w", tensor::DType::kQ4_0, {33}), "");
  EXPECT_NE(begin("w", tensor::DType::kF32, {1, 1, 1, 1, 1}), "");
  GgufWriter short_one;
  short_one.AddTensor("w", tensor::DType::kF32, {2});
  ASSERT_TRUE(short_one.Begin(folder.File("s.gguf")).ok());
  const float value = 0;
  ASSERT_TRUE(short_one.Write(std::as_bytes(std::span(&value, 1))).ok());
  EXPECT_FALSE(short_one.Finish().ok());
  const float more[2] = {};
  EXPECT_FALSE(short_one.Write(std::as_bytes(std::span(more))).ok());
  EXPECT_FALSE(std::filesystem::exists(folder.File("s.gguf")));
}

TEST(Gguf, AFailedWriteIsAnErrorThatNamesThePathAndLeavesNothing) {
  GgufWriter nowhere;
  const Result<void> begun = nowhere.Begin("/nonexistent-folder/m.gguf");
  ASSERT_FALSE(begun.ok());
  EXPECT_NE(begun.error().ToString().find("/nonexistent-folder/m.gguf"), std::string::npos);

  // A limit on file sizes stands for a full disk: write(2) fails in the middle of the weights.
  TemporaryFolder folder;
  rlimit old;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small = {size_t{1} << 20, old.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  Result<void> written;
  {
    GgufWriter writer;
    writer.AddTensor("w", tensor::DType::kF32, {1 << 20});
    const std::vector<std::byte> data(4 << 20);
    written = writer.Begin(folder.File("m.gguf"));
    if (written.ok()) written = writer.Write(data);
    if (written.ok()) written = writer.Finish();
  }
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(written.ok());
  EXPECT_NE(written.error().ToString().find("m.gguf"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Gguf, ALargeVocabularyOpensAtOnce) {
  TemporaryFolder folder;
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> types(131072, 1);
  for (int i = 0; i < 131072; ++i) tokens.push_back("token" + std::to_string(i));
  for (int i = 0; i < 269443; ++i) merges.push_back("a" + std::to_string(i) + " b");
  GgufWriter writer;
  writer.SetStrings("tokenizer.ggml.tokens", tokens);
  writer.SetI32s("tokenizer.ggml.token_type", types);
  writer.SetStrings("tokenizer.ggml.merges", merges);
  ASSERT_TRUE(writer.Begin(folder.File("v.gguf")).ok());
  ASSERT_TRUE(writer.Finish().ok());
  double best_ms = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto file = GgufFile::Open(folder.File("v.gguf"));
    ASSERT_TRUE(file.ok()) << file.error().ToString();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    best_ms = std::min(best_ms, took.count());
    EXPECT_EQ((*file)->GetStrings("tokenizer.ggml.tokens").value().size(), tokens.size());
  }
  RecordProperty("best_ms", std::to_string(best_ms));
  EXPECT_LT(best_ms, 500);  // measured 1 ms; the bound only catches a quadratic step
}

TEST(Gguf, TheProjectsOwnFilesOpen) {
  for (const char* name : {"f32-dense", "f32-latent-mtp", "mix-4bit", "mix-k", "mix-legacy", "moe-k",
                           "split-00001-of-00004"}) {
    const auto file =
        GgufFile::Open(lode::testing::TestFile(std::string("golden/gguf/") + name + ".gguf"));
    ASSERT_TRUE(file.ok()) << file.error().ToString();
    EXPECT_GT((*file)->tensors().size(), 10u) << name;
    Exercise(**file);
  }
}

TEST(Gguf, TheOraclesFilesOpen) {
  LODE_NEEDS_SHARED(dense, "oracle/open-dense.gguf");
  const auto file = GgufFile::Open(dense);
  ASSERT_TRUE(file.ok()) << file.error().ToString();
  EXPECT_EQ((*file)->GetString("general.architecture").value(), "nemotron_h");
  Exercise(**file);
}

}  // namespace
}  // namespace lode::formats
