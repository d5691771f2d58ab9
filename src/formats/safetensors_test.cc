#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/file.h"
#include "base/json.h"
#include "formats/safetensors_writer.h"
#include "formats/test_files.h"
#include "tests/support/shared.h"

namespace lode::formats {
namespace {

using testing::Bytes;
using testing::Pieces;
using testing::SafetensorsBytes;
using testing::TemporaryFolder;

void ExpectRefused(const std::string& file, std::initializer_list<const char*> words) {
  const auto parsed = ParseSafetensors(Bytes(file), "m.safetensors");
  ASSERT_FALSE(parsed.ok()) << "was read";
  const std::string message = parsed.error().ToString();
  EXPECT_NE(message.find("'m.safetensors'"), std::string::npos) << message;
  EXPECT_NE(parsed.error().code(), Code::kInternal);
  for (const char* word : words) EXPECT_NE(message.find(word), std::string::npos) << message;
}

// {"t": {...}} with a tensor of `fields` and `data_bytes` of data.
std::string OneTensor(const std::string& fields, size_t data_bytes) {
  return SafetensorsBytes("{\"t\":{" + fields + "}}", std::string(data_bytes, '\0'));
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  const std::string file = SafetensorsBytes(
      R"({"b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},)"
      R"("__metadata__":{"format":"pt"},)"
      R"("a":{"shape":[2,3],"dtype":"F32","data_offsets":[0,24]},)"
      R"("none":{"dtype":"I64","shape":[0,3],"data_offsets":[26,26]}}   )",
      std::string(26, '\0'));
  const auto parsed = ParseSafetensors(Bytes(file), "m.safetensors");
  ASSERT_TRUE(parsed.ok()) << parsed.error().ToString();
  ASSERT_EQ(parsed->tensors.size(), 3u);
  EXPECT_EQ(parsed->tensors[0].name, "a");
  EXPECT_EQ(parsed->tensors[0].shape, (tensor::Shape{2, 3}));
  EXPECT_EQ(parsed->tensors[0].file_offset, file.size() - 26);
  EXPECT_EQ(parsed->tensors[1].dtype, tensor::DType::kBF16);
  EXPECT_EQ(parsed->tensors[1].bytes, 2u);
  EXPECT_EQ(parsed->tensors[2].bytes, 0u);
  EXPECT_EQ(parsed->metadata.at(0), (std::pair<std::string, std::string>("format", "pt")));
}

TEST(Safetensors, AnUnknownDtypeIsOnlyNoted) {
  const std::string file = SafetensorsBytes(
      R"({"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},)"
      R"("b":{"dtype":"Q9","shape":[4],"data_offsets":[2,5]},)"
      R"("c":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})",
      "123456");
  const auto parsed = ParseSafetensors(Bytes(file), "m.safetensors");
  ASSERT_TRUE(parsed.ok()) << parsed.error().ToString();
  EXPECT_EQ(parsed->tensors.size(), 1u);
  ASSERT_EQ(parsed->unreadable.size(), 2u);
  EXPECT_EQ(parsed->unreadable[0].second, "F4");
}

TEST(Safetensors, RefusesLiesOfTheHeader) {
  ExpectRefused("", {"too short"});
  ExpectRefused("1234567", {"too short"});
  ExpectRefused(Pieces().Add(uint64_t{100'000'001}).Raw("{}").str(), {"100,000,000"});
  ExpectRefused(Pieces().Add(~uint64_t{0}).Raw("{}").str(), {"header"});
  ExpectRefused(Pieces().Add(uint64_t{3}).Raw("{}").str(), {"header"});
  ExpectRefused(SafetensorsBytes(" {}", ""), {"no JSON object"});
  ExpectRefused(SafetensorsBytes("", ""), {"no JSON object"});
  ExpectRefused(SafetensorsBytes("{", ""), {"line 1"});
  ExpectRefused(SafetensorsBytes("{}x", ""), {"line 1"});
  ExpectRefused(SafetensorsBytes("{\"\xff\":1}", ""), {"line 1"});
  ExpectRefused(SafetensorsBytes("{\"a\":" + std::string(1000, '['), ""), {"deeper"});
  ExpectRefused("version https://git-lfs.github.com/spec/v1\n", {"Git LFS"});
}

TEST(Safetensors, RefusesBadEntries) {
  const std::string good = R"("dtype":"U8","shape":[1],"data_offsets":[0,1])";
  EXPECT_TRUE(ParseSafetensors(Bytes(OneTensor(good, 1)), "m").ok());
  for (const char* fields : {
           R"("dtype":"U8","shape":[1])",                                              // no offsets
           R"("dtype":"U8","data_offsets":[0,1])",                                     // no shape
           R"("shape":[1],"data_offsets":[0,1])",                                      // no dtype
           R"("dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1])",            // twice
           R"("dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1])",
           R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1])",
           R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1)",
           R"("dtype":8,"shape":[1],"data_offsets":[0,1])",
           R"("dtype":"U8","shape":1,"data_offsets":[0,1])",
           R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])",
           R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])",
           R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])",
           R"("dtype":"U8","shape":[[1]],"data_offsets":[0,1])",
           R"("dtype":"U8","shape":[1],"data_offsets":[0])",
           R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])",
           R"("dtype":"U8","shape":[1],"data_offsets":[-0,1])",
           R"("dtype":"U8","shape":[1],"data_offsets":[0,1e0])",
           R"("dtype":"U8","shape":[1],"data_offsets":[1,0])",
           R"("dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615])",
           R"("dtype":"U8","shape":[1],"data_offsets":[0,99999999999999999999])",
           R"("dtype":"U8","shape":[2],"data_offsets":[0,1])",                         // size
           R"("dtype":"F4","shape":[1],"data_offsets":[0,1])",                         // half a byte
           R"("dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0])",      // * 4 wraps
           R"("dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0])",    // product wraps
           R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])",
       }) {
    EXPECT_FALSE(ParseSafetensors(Bytes(OneTensor(fields, 1)), "m").ok()) << fields;
  }
  ExpectRefused(OneTensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,3])", 3),
                {"'t'", "[1]", "F32"});
  ExpectRefused(SafetensorsBytes(R"({"t":1})", ""), {"'t'"});
  ExpectRefused(SafetensorsBytes(R"({"__metadata__":{"a":1}})", ""), {"'a'", "string"});
  ExpectRefused(SafetensorsBytes(R"({"__metadata__":{"a":"1","a":"2"}})", ""), {"'a'", "twice"});
  ExpectRefused(SafetensorsBytes(R"({"__metadata__":{},"__metadata__":{}})", ""), {"twice"});
  ExpectRefused(SafetensorsBytes(R"({"t":{)" + good + R"(},"t":{)" + good + "}}", "1"),
                {"'t'", "twice"});
  // The same name written in two ways.
  ExpectRefused(SafetensorsBytes(R"({"t":{)" + good + R"(},"\u0074":{)" + good + "}}", "1"),
                {"'t'", "twice"});
}

TEST(Safetensors, TensorsMustTileTheData) {
  const auto two = [](int a0, int a1, int b0, int b1, size_t data) {
    const auto entry = [](int begin, int end) {
      return "{\"dtype\":\"U8\",\"shape\":[" + std::to_string(end - begin) + "],\"data_offsets\":[" +
             std::to_string(begin) + "," + std::to_string(end) + "]}";
    };
    return SafetensorsBytes("{\"a\":" + entry(a0, a1) + ",\"b\":" + entry(b0, b1) + "}",
                            std::string(data, 'x'));
  };
  EXPECT_TRUE(ParseSafetensors(Bytes(two(0, 2, 2, 4, 4)), "m").ok());
  EXPECT_TRUE(ParseSafetensors(Bytes(two(2, 4, 0, 2, 4)), "m").ok());
  ExpectRefused(two(0, 2, 3, 4, 4), {"'b'", "hole"});
  ExpectRefused(two(1, 2, 2, 4, 4), {"'a'", "hole"});
  ExpectRefused(two(0, 2, 1, 4, 4), {"'b'", "overlaps"});
  ExpectRefused(two(0, 2, 0, 2, 2), {"overlaps"});
  ExpectRefused(two(0, 2, 2, 4, 3), {"'b'", "end of the file"});
  ExpectRefused(two(0, 2, 2, 4, 5), {"5 of data"});
}

TEST(Safetensors, AFileCutAnywhereIsRefusedAndAFlippedBitNeverCrashes) {
  const std::string whole = SafetensorsBytes(
      R"({"__metadata__":{"f":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
      "0123456789a");
  ASSERT_TRUE(ParseSafetensors(Bytes(whole), "m").ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(ParseSafetensors(Bytes(whole.substr(0, size)), "m").ok()) << size;
  }
  int refused = 0;
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto parsed = ParseSafetensors(Bytes(flipped), "m");
    if (!parsed.ok()) {
      ++refused;
      continue;
    }
    for (const tensor::TensorInfo& info : parsed->tensors) {
      EXPECT_LE(info.file_offset + info.bytes, flipped.size());
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(Safetensors, WhatIsWrittenIsReadBackAndItsDataBeginsAligned) {
  TemporaryFolder folder;
  const std::string path = folder.File("m.safetensors");
  SafetensorsWriter writer;
  writer.SetMetadata("lode.note", "a \"quoted\" \xC3\xBC");
  writer.AddTensor("na\"me", tensor::DType::kBF16, {2, 2});
  writer.AddTensor("none", tensor::DType::kF32, {0});
  writer.AddTensor("scalar", tensor::DType::kF32, {});
  ASSERT_TRUE(writer.BeginFile(path).ok());
  const std::string data = "abcdefgh1234";
  ASSERT_TRUE(writer.Write(Bytes(data).subspan(0, 9)).ok());
  ASSERT_TRUE(writer.Write(Bytes(data).subspan(9)).ok());
  EXPECT_FALSE(writer.Write(Bytes(data)).ok());
  ASSERT_TRUE(writer.Finish().ok());
  const std::string file = ReadFile(path).value();
  const auto parsed = ParseSafetensors(Bytes(file), path);
  ASSERT_TRUE(parsed.ok()) << parsed.error().ToString();
  ASSERT_EQ(parsed->tensors.size(), 3u);
  EXPECT_EQ(parsed->tensors[0].name, "na\"me");
  EXPECT_EQ(parsed->tensors[0].file_offset % 8, 0u);
  EXPECT_EQ(file.substr(parsed->tensors[0].file_offset), data);
  EXPECT_EQ(parsed->metadata.at(0).second, "pt");
  EXPECT_EQ(parsed->metadata.at(1).second, "a \"quoted\" \xC3\xBC");
}

TEST(Safetensors, TheWriterRefusesWhatAReaderWould) {
  TemporaryFolder folder;
  const auto begin = [&](const std::string& name, tensor::DType dtype) {
    SafetensorsWriter writer;
    writer.AddTensor(name, dtype, {32});
    return writer.BeginFile(folder.File("m.safetensors")).ok();
  };
  EXPECT_TRUE(begin("w", tensor::DType::kF8E4M3));
  EXPECT_FALSE(begin("w", tensor::DType::kQ4_0));
  EXPECT_FALSE(begin("__metadata__", tensor::DType::kF32));
  EXPECT_FALSE(begin("\xff", tensor::DType::kF32));
  SafetensorsWriter twice;
  twice.AddTensor("w", tensor::DType::kF32, {1});
  twice.AddTensor("w", tensor::DType::kF32, {1});
  EXPECT_FALSE(twice.BeginFile(folder.File("m.safetensors")).ok());
  SafetensorsWriter incomplete;
  incomplete.AddTensor("w", tensor::DType::kF32, {1});
  ASSERT_TRUE(incomplete.BeginFile(folder.File("m.safetensors")).ok());
  EXPECT_FALSE(incomplete.Finish().ok());
  EXPECT_FALSE(FileExists(folder.File("m.safetensors")));
}

}  // namespace
}  // namespace lode::formats
