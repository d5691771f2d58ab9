// For tests of saved contexts: small ones with bytes that tell where they belong, a folder of its
// own for each test, and a disk that fails on demand.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "runtime/saved/context_disk.h"
#include "runtime/saved/context_file.h"
#include "runtime/saved/context_seal.h"
#include "runtime/saved/context_store.h"

namespace lode::runtime {

using Bytes = std::vector<std::byte>;

inline ContextDigest DigestOf(const std::string& text) { return Sha256(text); }

// Bytes that depend on everything that went before: a pure function of the tokens, as a model's
// are.
inline Bytes Fill(size_t size, uint64_t seed, bool smooth = false) {
  Bytes bytes(size);
  uint64_t x = seed * 0x9E3779B97F4A7C15u + 1;
  for (size_t i = 0; i < size; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    bytes[i] = static_cast<std::byte>(smooth && i % 4 != 0 ? i % 4 : x >> 56);
  }
  return bytes;
}

struct TestShape {
  int64_t page_tokens = 8;
  uint64_t page_bytes = 640, slot_bytes = 1000, mtp_page_bytes = 192, hidden_bytes = 64;
  bool smooth = false;  // compresses well
};

// A context of so many tokens with states at the given offsets.
class TestContext {
 public:
  TestContext(std::vector<int32_t> tokens, std::vector<int64_t> offsets, TestShape shape = {})
      : tokens(std::move(tokens)), shape(shape) {
    image.geometry = {shape.page_tokens,    shape.page_bytes,   shape.slot_bytes,
                      shape.mtp_page_bytes, shape.hidden_bytes, "f32 pages of a test"};
    image.fingerprints = {{DigestOf("model"), "tiny"},
                          {DigestOf("tokenizer"), ""},
                          {DigestOf("template"), ""},
                          {DigestOf("numerics"), "f32"}};
    image.tokens = this->tokens;
    image.meta = {{"marks", {{"start", 1}}}};
    const int64_t count = static_cast<int64_t>(this->tokens.size());
    if (shape.page_bytes > 0) AddPages(count, shape.page_bytes, 1, &pages, &image.pages);
    if (shape.mtp_page_bytes > 0) {
      image.mtp_tokens = count;
      AddPages(count, shape.mtp_page_bytes, 2, &mtp_pages, &image.mtp_pages);
    }
    for (const int64_t offset : offsets) {
      states[offset] = Fill(shape.slot_bytes, Seed(3, offset), shape.smooth);
      hidden[offset] = Fill(shape.hidden_bytes, Seed(4, offset));
      image.snapshots.push_back(
          {offset, states[offset], hidden[offset], static_cast<uint32_t>(offset % 9)});
    }
  }
  TestContext(const TestContext&) = delete;
  TestContext& operator=(const TestContext&) = delete;

  // Whatever the file is willing to give is right. Returns how many pieces it gave.
  int ExpectNeverWrong(const ContextFile& file) const {
    int given = 0;
    EXPECT_EQ(std::vector<int32_t>(file.tokens().begin(), file.tokens().end()), tokens);
    EXPECT_EQ(file.geometry().page_bytes, shape.page_bytes);
    EXPECT_EQ(file.fingerprints().model.digest, DigestOf("model"));
    Bytes page(shape.page_bytes), mtp(shape.mtp_page_bytes), slot(shape.slot_bytes),
        row(shape.hidden_bytes);
    for (size_t i = 0; i < pages.size(); ++i) {
      const auto index = static_cast<int64_t>(i);
      if (file.ReadPage(index, page).ok()) given += Same(page, pages[i]);
      if (const auto view = file.Page(index); view.ok()) Same(*view, pages[i]);
    }
    for (size_t i = 0; i < mtp_pages.size(); ++i) {
      if (file.ReadMtpPage(static_cast<int64_t>(i), mtp).ok()) given += Same(mtp, mtp_pages[i]);
    }
    for (const auto& [offset, state] : states) {
      if (file.ReadState(offset, slot).ok()) {
        given += Same(slot, state);
        EXPECT_EQ(file.Tag(offset), static_cast<uint32_t>(offset % 9));
      }
      if (file.ReadHidden(offset, row).ok()) given += Same(row, hidden.at(offset));
    }
    const int64_t point = file.DeepestSound();
    EXPECT_TRUE(point == 0 || states.count(point) == 1) << point;
    if (point > 0) {
      EXPECT_TRUE(file.ReadState(point, slot).ok());
    }
    for (int64_t i = 0; point > 0 && !pages.empty() && i * shape.page_tokens < point; ++i) {
      EXPECT_TRUE(file.ReadPage(i, page).ok()) << "page " << i << " below " << point;
    }
    return given;
  }
  // All of it is there.
  void ExpectWhole(const ContextFile& file) const {
    ExpectNeverWrong(file);
    EXPECT_TRUE(file.VerifyAll().ok());
    for (const auto& damage : file.damage()) ADD_FAILURE() << damage.what << ": " << damage.reason;
    for (size_t i = 0; i < pages.size(); ++i) {
      EXPECT_TRUE(file.HasPage(static_cast<int64_t>(i))) << i;
    }
    for (const auto& [offset, state] : states) EXPECT_TRUE(file.HasState(offset)) << offset;
    if (!states.empty()) {
      EXPECT_EQ(file.DeepestSound(), states.rbegin()->first);
    }
  }

  std::vector<int32_t> tokens;
  TestShape shape;
  std::vector<Bytes> pages, mtp_pages;
  std::map<int64_t, Bytes> states, hidden;
  ContextImage image;

 private:
  template <typename A>
  static int Same(const A& got, const Bytes& wanted) {
    EXPECT_TRUE(std::equal(got.begin(), got.end(), wanted.begin(), wanted.end())) << "wrong bits";
    return 1;
  }
  // Of the first `offset` tokens.
  uint64_t Seed(uint64_t kind, int64_t offset) const {
    uint64_t seed = kind;
    for (int64_t i = 0; i < offset; ++i) {
      seed = (seed ^ static_cast<uint64_t>(tokens[static_cast<size_t>(i)])) * 0x100000001B3u;
    }
    return seed;
  }
  void AddPages(int64_t count, uint64_t bytes, uint64_t kind, std::vector<Bytes>* owned,
                std::vector<std::span<const std::byte>>* spans) {
    for (int64_t first = 0; first < count; first += shape.page_tokens) {
      const int64_t end = std::min(count, first + shape.page_tokens);
      // An MTP row depends on the token behind it.
      const int64_t depends = kind == 2 ? std::min(count, end + 1) : end;
      owned->push_back(Fill(bytes, Seed(kind, depends), shape.smooth));
    }
    for (const Bytes& page : *owned) spans->push_back(page);
  }
};

inline std::vector<int32_t> SomeTokens(int64_t count, int32_t seed = 1) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < count; ++i) tokens.push_back((i * 7919 + seed * 31) % 50000);
  return tokens;
}

// The first `same` tokens of `tokens`, then others.
inline std::vector<int32_t> Diverge(std::vector<int32_t> tokens, int64_t same, int64_t count) {
  tokens.resize(static_cast<size_t>(same));
  const std::vector<int32_t> more = SomeTokens(count - same, 77);
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

// Does what it is told at the n-th call that changes something.
class FaultyDisk : public Disk {
 public:
  enum class Fault { kNone, kKill, kOnce, kForever, kShort };
  Fault fault = Fault::kNone;
  int at = 0;  // the first such call is 1
  int error_number = EIO;
  bool sync = false;        // whether the disk is really waited for
  bool die_inside = false;  // kKill: after half of a write
  std::atomic<int> calls = 0;
  uint64_t free_bytes = UINT64_MAX;
  unsigned char random = 0x5A;
  std::string log;  // a letter for each call, if `keeps_log`
  bool keeps_log = false;

  ssize_t Write(int descriptor, const iovec* pieces, int count, off_t offset) override {
    const bool hit = Count('W');
    if (hit && (fault == Fault::kShort || (fault == Fault::kKill && die_inside))) {
      // Half of the first piece that has any.
      while (count > 1 && pieces->iov_len == 0) ++pieces, --count;
      iovec half = *pieces;
      half.iov_len = half.iov_len > 1 ? half.iov_len / 2 : half.iov_len;
      const ssize_t written = Disk::Write(descriptor, &half, 1, offset);
      if (fault == Fault::kKill) ::kill(::getpid(), SIGKILL);
      return written;
    }
    if (hit && Fails()) return -1;
    const ssize_t written = Disk::Write(descriptor, pieces, count, offset);
    DieAfter(hit);
    return written;
  }
  int Truncate(int descriptor, off_t bytes) override {
    return Do('T', [&] { return Disk::Truncate(descriptor, bytes); });
  }
  int SyncData(int descriptor) override {
    return Do('D', [&] { return sync ? Disk::SyncData(descriptor) : 0; });
  }
  int Sync(int descriptor) override {
    return Do('S', [&] { return sync ? Disk::Sync(descriptor) : 0; });
  }
  int Rename(int folder, const char* from, const char* to) override {
    return Do('R', [&] { return Disk::Rename(folder, from, to); });
  }
  int Link(int folder, const char* from, const char* to) override {
    Dawdle();
    const int result = Do('L', [&] { return Disk::Link(folder, from, to); });
    Dawdle();
    return result;
  }
  int Unlink(int folder, const char* name) override {
    return Do('U', [&] { return Disk::Unlink(folder, name); });
  }
  uint64_t FreeBytes(int) override { return free_bytes; }
  int Random(void* target, size_t bytes) override {
    std::memset(target, random, bytes);
    return 0;
  }

  bool dawdles = false;  // around calls where others may come in between

 private:
  void Dawdle() const {
    if (dawdles) ::usleep(500);
  }
  bool Count(char letter) {
    if (keeps_log) log += letter;
    const int call = ++calls;
    return fault == Fault::kForever ? call >= at : call == at;
  }
  bool Fails() {
    if (fault != Fault::kOnce && fault != Fault::kForever) return false;
    errno = error_number;
    return true;
  }
  void DieAfter(bool hit) {
    if (hit && fault == Fault::kKill) ::kill(::getpid(), SIGKILL);
  }
  template <typename F>
  int Do(char letter, const F& call) {
    const bool hit = Count(letter);
    if (hit && Fails()) return -1;
    const int result = call();
    DieAfter(hit);
    return result;
  }
};

class ContextTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "lode-context-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  ContextStore Open(Disk* disk) const {
    auto store = ContextStore::Open(folder_, disk);
    EXPECT_TRUE(store.ok());
    return std::move(store).value();
  }
  ContextStore Open() { return Open(&disk_); }

  static Bytes ReadBytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> text((std::istreambuf_iterator<char>(file)), {});
    Bytes bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
  }
  static void WriteBytes(const std::string& path, const Bytes& bytes) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  bool Exists(const std::string& name) const { return std::filesystem::exists(Path(name)); }
  int FilesBeginningWith(const std::string& beginning) const {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      count += entry.path().filename().string().rfind(beginning, 0) == 0 ? 1 : 0;
    }
    return count;
  }

  FaultyDisk disk_;  // without faults, and without waiting for the real one
  std::string folder_;
};

inline std::array<std::byte, 32> TestKey(uint8_t first) {
  std::array<std::byte, 32> key{};
  key[0] = std::byte{first};
  return key;
}

}  // namespace lode::runtime
