#include "tune/record.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/text.h"

namespace lode::tune {
namespace {

// A reader of event files, from the formats' descriptions alone.
struct Event {
  int64_t step = 0;
  std::string version;
  bool start = false;
  std::map<std::string, float> scalars;
};

class Bytes {
 public:
  explicit Bytes(std::string_view left) : left_(left) {}
  bool empty() const { return left_.empty(); }
  std::string_view Take(size_t count) {
    EXPECT_LE(count, left_.size());
    const std::string_view taken = left_.substr(0, count);
    left_.remove_prefix(taken.size());
    return taken;
  }
  template <typename T>
  T Fixed() {
    T value = {};
    const std::string_view bytes = Take(sizeof(T));
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = Fixed<uint8_t>();
      value |= uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) break;
    }
    return value;
  }
  // The next field of a message: its number; bytes or number.
  uint64_t Field(uint64_t* number, std::string_view* bytes) {
    const uint64_t key = Varint();
    if ((key & 7) == 0) *number = Varint();
    if ((key & 7) == 1) *number = Fixed<uint64_t>();
    if ((key & 7) == 2) *bytes = Take(Varint());
    if ((key & 7) == 5) *number = Fixed<uint32_t>();
    return key >> 3;
  }

 private:
  std::string_view left_;
};

// Bit by bit, unlike the writer's.
uint32_t SlowCrc(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) {
    for (int i = 0; i < 8; ++i) {
      const uint32_t bit = ((static_cast<unsigned char>(c) >> i) ^ crc) & 1;
      crc = (crc >> 1) ^ (bit != 0 ? 0x82F63B78 : 0);
    }
  }
  return crc ^ 0xFFFFFFFF;
}
uint32_t Masked(std::string_view bytes) {
  const uint32_t crc = SlowCrc(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8;
}

Event ReadEvent(std::string_view message) {
  Event event;
  Bytes bytes(message);
  while (!bytes.empty()) {
    uint64_t number = 0;
    std::string_view text;
    const uint64_t field = bytes.Field(&number, &text);
    if (field == 1) {
      EXPECT_GT(std::bit_cast<double>(number), 1.6e9);  // after 2020
    }
    if (field == 2) event.step = static_cast<int64_t>(number);
    if (field == 3) event.version = text;
    if (field == 7) event.start = text == "\x08\x01";
    if (field != 5) continue;
    for (Bytes values(text); !values.empty();) {
      std::string_view value, tag;
      uint64_t real = 0;
      EXPECT_EQ(values.Field(&number, &value), 1u);
      for (Bytes parts(value); !parts.empty();) {
        if (parts.Field(&real, &text) == 1) tag = text;
      }
      event.scalars[std::string(tag)] = std::bit_cast<float>(static_cast<uint32_t>(real));
    }
  }
  return event;
}

std::vector<Event> ReadEvents(const std::string& path) {
  std::vector<Event> events;
  const std::string content = *ReadFile(path);
  for (Bytes bytes(content); !bytes.empty();) {
    const std::string_view length = bytes.Take(8);
    uint64_t size = 0;
    std::memcpy(&size, length.data(), 8);
    EXPECT_EQ(bytes.Fixed<uint32_t>(), Masked(length));
    const std::string_view message = bytes.Take(size);
    EXPECT_EQ(bytes.Fixed<uint32_t>(), Masked(message));
    events.push_back(ReadEvent(message));
  }
  return events;
}

class RecordTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "record_test";
    std::filesystem::remove_all(folder_);
    ASSERT_TRUE(MakeFolders(folder_).ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::unique_ptr<Record> Open(int64_t step, uint64_t bytes) {
    auto record = Record::Open(folder_, step, bytes);
    EXPECT_TRUE(record.ok()) << record.error().ToString();
    return std::move(*record);
  }
  std::string folder_;
};

StepMetrics At(int64_t step) {
  StepMetrics m;
  m.step = step;
  m.loss = 4.0 / static_cast<double>(step);
  m.norm = 0.5;
  m.rate = 1e-3;
  m.tokens_per_second = 1000.0 + static_cast<double>(step);
  return m;
}

TEST(Crc32c, HasThePublishedValues) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(Crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
}

TEST_F(RecordTest, WritesEventsThatAreReadBack) {
  const auto record = Open(0, 0);
  for (int64_t step = 1; step <= 300; ++step) ASSERT_TRUE(record->Add(At(step)).ok());
  EvaluationMetrics evaluation;
  evaluation.step = 300;
  evaluation.loss = 1.5;
  ASSERT_TRUE(record->Add(evaluation).ok());
  const auto names = *ListFolder(folder_ + "/tensorboard");
  ASSERT_EQ(names.size(), 1u);
  const std::vector<Event> events = ReadEvents(folder_ + "/tensorboard/" + names[0]);
  ASSERT_EQ(events.size(), 303u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_TRUE(events[1].start);
  EXPECT_EQ(events[1].step, 1);
  for (int64_t step = 1; step <= 300; ++step) {
    const Event& event = events[static_cast<size_t>(step) + 1];
    EXPECT_EQ(event.step, step);
    EXPECT_EQ(event.scalars.at("train/loss"), static_cast<float>(4.0 / static_cast<double>(step)));
    EXPECT_EQ(event.scalars.at("speed/tokens_per_second"), 1000.0f + static_cast<float>(step));
  }
  EXPECT_EQ(events.back().scalars.at("held_out/loss"), 1.5f);
}

TEST_F(RecordTest, GoesOnAsIfNothingHadHappened) {
  auto record = Open(0, 0);
  ASSERT_TRUE(record->Add(At(1)).ok());
  const uint64_t bytes = record->metrics_bytes();
  const std::string first = *ReadFile(folder_ + "/metrics.jsonl");
  ASSERT_TRUE(record->Add(At(2)).ok());  // after the checkpoint: lost
  record = nullptr;
  record = Open(1, bytes);
  EXPECT_EQ(*ReadFile(folder_ + "/metrics.jsonl"), first);
  ASSERT_TRUE(record->Add(At(2)).ok());
  EXPECT_EQ(Split(*ReadFile(folder_ + "/metrics.jsonl"), '\n').size(), 3u);
  // Its own event file says that what others have from step 2 on is void.
  const auto names = *ListFolder(folder_ + "/tensorboard");
  ASSERT_EQ(names.size(), 2u);
  const std::vector<Event> events = ReadEvents(folder_ + "/tensorboard/" + names[1]);
  EXPECT_TRUE(events[1].start);
  EXPECT_EQ(events[1].step, 2);
  const auto shorter = Record::Open(folder_, 9, 100000);
  ASSERT_FALSE(shorter.ok());
  EXPECT_NE(shorter.error().ToString().find("is shorter"), std::string::npos);
}

TEST_F(RecordTest, DrawsAPageThatNeedsNothingElse) {
  const auto record = Open(0, 0);
  for (int64_t step = 1; step <= 50; ++step) ASSERT_TRUE(record->Add(At(step)).ok());
  StepMetrics odd = At(51);
  odd.norm = std::nan("");
  ASSERT_TRUE(record->Add(odd).ok());
  ASSERT_TRUE(record->Draw().ok());
  const std::string page = *ReadFile(folder_ + "/curves.html");
  EXPECT_EQ(page.find("http"), std::string::npos);
  EXPECT_EQ(page.find("nan"), std::string::npos);
  EXPECT_NE(page.find("prefers-color-scheme: dark"), std::string::npos);
  const size_t line = page.find("<polyline");
  ASSERT_NE(line, std::string::npos);
  const std::string points = page.substr(line, page.find("/>", line) - line);
  EXPECT_EQ(Split(points, ',').size(), 52u);  // 51 points
}

TEST(Series, ThinsOutButKeepsItsSum) {
  Series series;
  const int64_t count = 1 << 15;
  for (int64_t i = 0; i < count; ++i)
    series.Add(static_cast<double>(i), static_cast<double>(i % 7));
  EXPECT_LT(series.points().size(), 1500u);
  EXPECT_GT(series.points().size(), 500u);
  for (size_t i = 1; i < series.points().size(); ++i) {
    EXPECT_GT(series.points()[i].step, series.points()[i - 1].step);
    EXPECT_NEAR(series.points()[i].value, 3.0, 0.4);
  }
}

}  // namespace
}  // namespace lode::tune
