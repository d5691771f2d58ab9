// What may go wrong with saved contexts, at every place where it can: death at each call, failing
// calls, changed and missing bytes, records of other files. Never wrong bits, a crash or a hang.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/text.h"
#include "runtime/saved/context_format.h"
#include "tests/support/contexts.h"

namespace lode::runtime {
namespace {

class ContextFaultTest : public ContextTest {
 protected:
  ContextFaultTest()
      : old_(SomeTokens(20, 3), {10, 20}, {.smooth = true}),
        new_(Diverge(old_.tokens, 18, 45), {10, 18, 30, 45}, {.smooth = true}),
        sealer_(MakeAesGcmSealer(TestKey(1))) {
    plain_.created = 1;
    delta_ = packed_ = plain_;
    delta_.parent = "a";
    packed_.zstd_level = 1;
    packed_.sealer = sealer_.get();
  }

  // The bytes that an undisturbed save leaves.
  Bytes Reference(const ContextImage& image, const ContextSaveOptions& options) {
    EXPECT_TRUE(Open().Save("a", image, options).ok());
    return ReadBytes(Path("a.lctx"));
  }
  // In a child that dies at the n-th call. True: it did; false: it came to the end.
  bool SaveAndDie(const ContextSaveOptions& options, int at, bool inside) {
    const pid_t child = ::fork();
    if (child == 0) {
      FaultyDisk disk;
      disk.fault = FaultyDisk::Fault::kKill;
      disk.at = at;
      disk.die_inside = inside;
      auto store = ContextStore::Open(folder_, &disk);
      ::_exit(store.ok() && store->Save("a", new_.image, options).ok() ? 0 : 1);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
    }
    return WIFSIGNALED(status);
  }
  // Either the old context or the new one is there, whole.
  bool ExpectOldOrNew() {
    auto file = Open().OpenContext("a", {.sealer = sealer_.get()});
    EXPECT_TRUE(file.ok()) << file.error().ToString();
    if (!file.ok()) return false;
    const bool is_new = (*file)->tokens().size() == new_.tokens.size();
    (is_new ? new_ : old_).ExpectWhole(**file);
    return is_new;
  }
  void Clear() {
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      std::filesystem::remove(entry.path());
    }
  }

  const TestContext old_, new_;
  std::unique_ptr<Sealer> sealer_;
  ContextSaveOptions plain_, delta_, packed_;
};

TEST_F(ContextFaultTest, KilledAtEveryCallLeavesTheOldOrTheNewAndAPartThatGoesOn) {
  for (const ContextSaveOptions* options : {&plain_, &delta_, &packed_}) {
    for (const bool inside : {false, true}) {
      Clear();
      ASSERT_TRUE(Open().Save("a", old_.image, plain_).ok());
      const Bytes reference = Reference(new_.image, *options);
      uint64_t kept = 0;
      int at = 1;
      for (;; ++at) {
        Clear();
        ASSERT_TRUE(Open().Save("a", old_.image, plain_).ok());
        const bool died = SaveAndDie(*options, at, inside);
        const bool is_new = ExpectOldOrNew();
        EXPECT_TRUE(died || is_new);
        if (!is_new) {
          const auto report = Open().Save("a", new_.image, *options);
          ASSERT_TRUE(report.ok()) << report.error().ToString();
          kept = std::max(kept, report->kept_bytes);
          EXPECT_EQ(ReadBytes(Path("a.lctx")), reference) << at;
        }
        EXPECT_TRUE(ExpectOldOrNew());
        if (!died) break;
        EXPECT_TRUE(Open().Sweep().ok());
        EXPECT_EQ(FilesBeginningWith(".a.part"), 0);
      }
      EXPECT_GT(at, 18);
      EXPECT_GT(kept, 4000u);  // the last record was there, so all were kept
    }
  }
}

TEST_F(ContextFaultTest, AFailingCallIsASentenceAndTheOldFileStays) {
  for (const int error_number : {EIO, ENOSPC, EDQUOT, EROFS}) {
    for (const auto fault : {FaultyDisk::Fault::kOnce, FaultyDisk::Fault::kForever}) {
      for (int at = 1;; ++at) {
        Clear();
        ASSERT_TRUE(Open().Save("a", old_.image, plain_).ok());
        FaultyDisk disk;
        disk.fault = fault;
        disk.at = at;
        disk.error_number = error_number;
        const auto report = Open(&disk).Save("a", new_.image, delta_);
        const int calls = disk.calls;
        if (!report.ok()) {
          EXPECT_NE(report.error().code(), Code::kInternal);
          EXPECT_NE(report.error().message().find(std::strerror(error_number)), std::string::npos)
              << report.error().ToString();
        }
        // A failing sync of the folder comes after the rename; a failing link only costs the delta.
        const bool is_new = ExpectOldOrNew();
        EXPECT_TRUE(is_new || !report.ok());
        ASSERT_TRUE(Open().Save("a", new_.image, delta_).ok());
        EXPECT_TRUE(ExpectOldOrNew());
        if (calls < at) break;
      }
    }
  }
}

TEST_F(ContextFaultTest, AnInterruptedOrShortWriteGoesOn) {
  const Bytes reference = Reference(new_.image, plain_);
  for (const auto& [fault, error_number] :
       {std::pair(FaultyDisk::Fault::kShort, 0), std::pair(FaultyDisk::Fault::kOnce, EINTR)}) {
    for (int at = 1;; ++at) {
      Clear();
      FaultyDisk disk;
      disk.fault = fault;
      disk.at = at;
      disk.error_number = error_number;
      const auto report = Open(&disk).Save("a", new_.image, plain_);
      ASSERT_TRUE(report.ok()) << at << " " << report.error().ToString();
      EXPECT_EQ(ReadBytes(Path("a.lctx")), reference) << at;
      if (disk.calls < at) break;
    }
  }
}

TEST_F(ContextFaultTest, NothingOfALongerPartIsLeftInTheFile) {
  ContextSaveOptions options = plain_;
  options.zstd_level = 1;
  const TestContext noisy(new_.tokens, {10, 18, 30, 45});
  FaultyDisk disk;
  disk.keeps_log = true;
  ASSERT_TRUE(Open(&disk).Save("a", noisy.image, options).ok());
  const Bytes reference = Reference(new_.image, options);
  Clear();
  disk.calls = 0;
  disk.fault = FaultyDisk::Fault::kOnce;
  disk.at = static_cast<int>(disk.log.find('R')) + 1;  // all is written, but the name
  ASSERT_FALSE(Open(&disk).Save("a", noisy.image, options).ok());
  ASSERT_GT(std::filesystem::file_size(Path(".a.part")), reference.size());
  const auto report = Open().Save("a", new_.image, options);
  ASSERT_TRUE(report.ok());
  EXPECT_GT(report->kept_bytes, 0u);
  EXPECT_EQ(ReadBytes(Path("a.lctx")), reference);
}

TEST_F(ContextFaultTest, TheDataIsOnTheDiskBeforeTheFooterAndAllOfItBeforeTheName) {
  disk_.keeps_log = true;
  ASSERT_TRUE(Open().Save("a", old_.image, plain_).ok());
  EXPECT_EQ(disk_.log.substr(disk_.log.find_first_not_of("TW")), "DWSRS");
  // The parent's second name is there for good before the delta takes the first.
  disk_.log.clear();
  ASSERT_TRUE(Open().Save("a", new_.image, delta_).ok());
  EXPECT_EQ(disk_.log.substr(0, 7), "ULRUSTW");
  EXPECT_EQ(disk_.log.substr(disk_.log.size() - 6), "WDWSRS");
}

TEST_F(ContextFaultTest, AFullDiskNamesTheBytesNeededAndFree) {
  ASSERT_TRUE(Open().Save("a", old_.image, plain_).ok());
  FaultyDisk disk;
  disk.free_bytes = 20000;
  const auto report = Open(&disk).Save("a", new_.image, plain_);
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), Code::kNoSpace);
  EXPECT_NE(report.error().message().find("20.0 KB are free"), std::string::npos)
      << report.error().ToString();
  EXPECT_EQ(FilesBeginningWith(".a.part"), 0);
  EXPECT_FALSE(ExpectOldOrNew());
}

TEST_F(ContextFaultTest, AReadOnlyFolderIsReadAndNotWritten) {
  ASSERT_TRUE(Open().Save("a", old_.image, plain_).ok());
  ASSERT_EQ(::chmod(folder_.c_str(), 0500), 0);
  if (::geteuid() != 0) {  // root may write anywhere
    EXPECT_FALSE(Open().Save("b", new_.image, plain_).ok());
  }
  EXPECT_FALSE(ExpectOldOrNew());
  ASSERT_EQ(::chmod(folder_.c_str(), 0700), 0);
}

// Where records stand in a file.
struct Frame {
  std::vector<uint64_t> headers;
  std::vector<ContextRecord> records;
  uint64_t index = 0;
};

Frame FrameOf(const Bytes& bytes) {
  Frame frame;
  const ContextSuperblock superblock = DecodeSuperblock(bytes).value();
  uint64_t end = kSuperblockBytes;
  for (uint32_t i = 0; i < superblock.records; ++i) {
    ContextRecord record;
    frame.headers.push_back(HeaderOffset(end));
    EXPECT_TRUE(DecodeHeader(std::span(bytes).subspan(HeaderOffset(end), kHeaderBytes),
                             superblock.salt, &record));
    record.payload_offset = PayloadOffset(end, record);
    end = record.end();
    frame.records.push_back(record);
  }
  frame.index = HeaderOffset(end);
  return frame;
}

class ContextDamageTest : public ContextFaultTest {
 protected:
  // Opens what has become of a file; whatever it gives must be right. How many pieces it gave.
  int Probe(const Bytes& bytes, bool* refused = nullptr) { return Probe(new_, bytes, refused); }
  int Probe(const TestContext& context, const Bytes& bytes, bool* refused = nullptr) {
    auto file = ContextFile::FromMemory(bytes, "damaged", {.sealer = sealer_.get()});
    if (refused != nullptr) *refused = !file.ok();
    if (!file.ok()) {
      EXPECT_NE(file.error().code(), Code::kInternal);
      return 0;
    }
    EXPECT_TRUE((*file)->VerifyAll().ok());
    return context.ExpectNeverWrong(**file);
  }
};

TEST_F(ContextDamageTest, AFlippedByteAnywhereIsNeverBelieved) {
  for (const ContextSaveOptions* options : {&plain_, &packed_}) {
    Bytes bytes = Reference(old_.image, *options);
    const Frame frame = FrameOf(bytes);
    const int whole = Probe(old_, bytes);
    std::vector<uint64_t> places;
    for (uint64_t i = 0; i < kSuperblockBytes; ++i) {
      const bool zeros = i >= kFactsBytes && i < kSuperblockBytes - kFactsBytes;
      if (!zeros || i % 64 == 0) places.push_back(i);
    }
    for (const uint64_t header : frame.headers) {
      for (uint64_t i = 0; i < kHeaderBytes; ++i) places.push_back(header + i);
    }
    for (const ContextRecord& record : frame.records) {
      for (uint64_t i = 0; i < record.stored_bytes; i += 64) {
        places.push_back(record.payload_offset + i);
      }
    }
    for (uint64_t i = frame.index; i < bytes.size(); ++i) places.push_back(i);
    for (size_t i = 0; i < places.size(); ++i) {
      const std::byte bit{static_cast<unsigned char>(1u << (i % 8))};
      bytes[places[i]] ^= bit;
      const int given = Probe(old_, bytes);
      EXPECT_LE(given, whole);
      // Head, headers and footer exist twice: nothing is lost with one of them.
      const bool frame_only = places[i] < kSuperblockBytes || places[i] >= frame.index;
      if (frame_only) {
        EXPECT_EQ(given, whole) << places[i];
      }
      bytes[places[i]] ^= bit;
    }
  }
}

TEST_F(ContextDamageTest, DamageCostsThePointsThatNeedTheRecordAndIsNamed) {
  const Bytes whole = Reference(new_.image, plain_);
  for (const ContextRecord& record : FrameOf(whole).records) {
    Bytes bytes = whole;
    bytes[record.payload_offset + record.stored_bytes / 2] ^= std::byte{8};
    auto file = ContextFile::FromMemory(bytes, "damaged", {});
    if (record.type == RecordType::kTokens) {
      ASSERT_FALSE(file.ok());
      EXPECT_NE(file.error().message().find("token ids"), std::string::npos);
      continue;
    }
    ASSERT_TRUE(file.ok()) << file.error().ToString();
    const int64_t first = static_cast<int64_t>(record.first_token);
    int64_t expected = 45;
    if (record.type == RecordType::kPage) {
      expected = 0;
      for (const auto& [offset, state] : new_.states)
        expected = offset <= first ? offset : expected;
    }
    if (record.type == RecordType::kState && first == 45) expected = 30;
    EXPECT_EQ((*file)->DeepestSound(), expected);
    ASSERT_TRUE((*file)->VerifyAll().ok());
    const auto damage = (*file)->damage();
    ASSERT_EQ(damage.size(), 1u);
    EXPECT_FALSE(damage[0].what.empty());
    if (record.type == RecordType::kPage) {
      EXPECT_EQ(damage[0].what, Format("page %d", static_cast<int>(first / 8)));
      EXPECT_NE((*file)->Page(first / 8).error().message().find("damaged"), std::string::npos);
    }
    if (record.type == RecordType::kState) {
      EXPECT_EQ(damage[0].what, Format("the state after %d tokens", static_cast<int>(first)));
    }
  }
}

TEST_F(ContextDamageTest, CutOffAtEveryRecordsEdgeOrBesideItIsResumedAboveTheCut) {
  for (const ContextSaveOptions* options : {&plain_, &packed_}) {
    const Bytes whole = Reference(new_.image, *options);
    const Frame frame = FrameOf(whole);
    std::vector<uint64_t> edges = {
        0, kFactsBytes, kSuperblockBytes, frame.index, whole.size() - kTailBytes, whole.size()};
    for (const uint64_t header : frame.headers) edges.push_back(header);
    for (const ContextRecord& record : frame.records) {
      edges.push_back(record.payload_offset);
      edges.push_back(record.end());
    }
    for (const uint64_t edge : edges) {
      for (const int64_t beside : {-1, 0, 1}) {
        const int64_t length = static_cast<int64_t>(edge) + beside;
        if (length < 0) continue;
        Bytes bytes = whole;
        bytes.resize(static_cast<size_t>(length));
        bool refused = false;
        const int given = Probe(bytes, &refused);
        // With its ids the file opens, and every record before the cut is there.
        const bool has_ids = static_cast<uint64_t>(length) >= frame.records[1].end();
        EXPECT_EQ(refused, !has_ids) << length;
        int expected = 0;
        for (const ContextRecord& record : frame.records) {
          expected +=
              record.type >= RecordType::kPage && record.end() <= static_cast<uint64_t>(length);
        }
        if (has_ids && options == &plain_) {
          EXPECT_EQ(given, expected) << length;
        }
      }
    }
  }
}

TEST_F(ContextDamageTest, RecordsOfAnotherFileOrAnotherPlaceAreNotTaken) {
  const Bytes mine = Reference(new_.image, plain_);
  disk_.random = 0x77;  // another salt
  TestContext other_context(Diverge(new_.tokens, 17, 45), {10, 18, 30, 45}, {.smooth = true});
  const Bytes other = Reference(other_context.image, plain_);
  const Frame frame = FrameOf(mine);
  ASSERT_EQ(mine.size(), other.size());
  const int whole = Probe(mine);
  for (size_t i = 0; i < frame.records.size(); ++i) {
    const auto begin = static_cast<ptrdiff_t>(frame.headers[i]);
    const auto end = static_cast<ptrdiff_t>(frame.records[i].end());
    const bool same = std::equal(mine.begin() + begin + kHeaderBytes, mine.begin() + end,
                                 other.begin() + begin + kHeaderBytes);
    Bytes bytes = mine;  // header and payload, with my footer
    std::copy(other.begin() + begin, other.begin() + end, bytes.begin() + begin);
    // Without its layout's description or notes it still gives all; without its ids nothing.
    EXPECT_EQ(Probe(bytes) == whole, same || i == 0 || i == 2) << i;
    bytes.resize(frame.index);  // and without
    Probe(bytes);
    bytes = mine;  // the footer as well
    bytes.resize(static_cast<size_t>(frame.index));
    bytes.insert(bytes.end(), other.begin() + static_cast<ptrdiff_t>(frame.index), other.end());
    EXPECT_EQ(Probe(bytes), whole);
  }
  // Two pages of one file, exchanged with their headers.
  Bytes bytes = mine;
  std::vector<size_t> pages;
  for (size_t i = 0; i < frame.records.size(); ++i) {
    if (frame.records[i].type == RecordType::kPage) pages.push_back(i);
  }
  for (uint64_t i = 0; i < frame.records[pages[0]].end() - frame.headers[pages[0]]; ++i) {
    std::swap(bytes[frame.headers[pages[0]] + i], bytes[frame.headers[pages[1]] + i]);
  }
  EXPECT_EQ(Probe(bytes), whole - 2);
}

// Somebody changes bytes and makes every checksum right again.
Bytes Forge(const Bytes& from, const std::function<void(ContextSuperblock*)>& change_head,
            const std::function<void(ContextRecord*, Bytes*)>& change_record) {
  Bytes bytes = from;
  ContextSuperblock superblock = DecodeSuperblock(bytes).value();
  const Frame frame = FrameOf(bytes);
  ContextTail tail;
  EXPECT_TRUE(DecodeTail(std::span(bytes).last(kTailBytes), bytes.size(), &tail));
  change_head(&superblock);
  const Bytes head = EncodeSuperblock(superblock);
  std::copy(head.begin(), head.end(), bytes.begin());
  Bytes index;
  for (size_t i = 0; i < frame.records.size(); ++i) {
    ContextRecord record = frame.records[i];
    change_record(&record, &bytes);
    record.hash = HashPayload(std::span(bytes).subspan(record.payload_offset, record.stored_bytes));
    const HeaderBytes header = EncodeHeader(record, superblock.salt);
    std::copy(header.begin(), header.end(),
              bytes.begin() + static_cast<ptrdiff_t>(frame.headers[i]));
    index.insert(index.end(), header.begin(), header.end());
  }
  tail.digest = FileDigest(EncodeFacts(superblock), index);
  const auto tail_bytes = EncodeTail(tail, superblock.salt, index);
  std::copy(index.begin(), index.end(), bytes.begin() + static_cast<ptrdiff_t>(frame.index));
  std::copy(tail_bytes.begin(), tail_bytes.end(), bytes.end() - kTailBytes);
  return bytes;
}

TEST_F(ContextDamageTest, ASealedFileWithForgedChecksumsIsNotBelieved) {
  const Bytes whole = Reference(new_.image, packed_);
  const auto no_head = [](ContextSuperblock*) {};
  const auto no_record = [](ContextRecord*, Bytes*) {};
  EXPECT_EQ(Probe(Forge(whole, no_head, no_record)), Probe(whole));
  const size_t records = FrameOf(whole).records.size();
  for (size_t victim = 0; victim < records; ++victim) {
    const Bytes bytes = Forge(whole, no_head, [&](ContextRecord* record, Bytes* all) {
      if (record->sequence == victim) (*all)[record->end() - 20] ^= std::byte{1};
    });
    EXPECT_LE(Probe(bytes), Probe(whole) - (victim > 2 ? 1 : 0)) << victim;
  }
  // Facts and headers are signed with each record.
  EXPECT_EQ(Probe(Forge(
                whole, [](auto* s) { s->numerics = DigestOf("forged"); }, no_record)),
            0);
  EXPECT_EQ(Probe(Forge(
                whole, [](auto* s) { s->salt[3] ^= std::byte{1}; }, no_record)),
            0);
  const Bytes tagged = Forge(whole, no_head, [&](ContextRecord* record, Bytes*) {
    if (record->type == RecordType::kState) record->rows ^= 1;
  });
  EXPECT_EQ(Probe(tagged), Probe(whole) - 4);
}

TEST_F(ContextDamageTest, AParentOfOtherRulesIsNotReadFrom) {
  ASSERT_TRUE(Open().Save("a", old_.image, plain_).ok());
  const Bytes whole = Reference(new_.image, delta_);
  const auto open = [&](const Bytes& bytes) {
    WriteBytes(Path("a.lctx"), bytes);
    return std::move(Open().OpenContext("a")).value();
  };
  EXPECT_NE(open(whole)->parent(), nullptr);
  const auto no_record = [](ContextRecord*, Bytes*) {};
  const auto layout = open(Forge(
      whole, [](auto* s) { s->layout[0] ^= std::byte{1}; }, no_record));
  EXPECT_EQ(layout->parent(), nullptr);
  EXPECT_FALSE(layout->HasPage(0));
  EXPECT_EQ(layout->DeepestSound(), 0);
  const auto digest = open(Forge(
      whole, [](auto* s) { s->parent[25] ^= std::byte{1}; }, no_record));
  EXPECT_EQ(digest->parent(), nullptr);
}

TEST_F(ContextDamageTest, LyingLengthsWithRightChecksumsAreRefused) {
  const Bytes whole = Reference(new_.image, plain_);
  const auto no_record = [](ContextRecord*, Bytes*) {};
  const std::vector<std::function<void(ContextSuperblock*)>> lies = {
      [](auto* s) { s->tokens += 1; },
      [](auto* s) { s->tokens = int64_t{1} << 31; },
      [](auto* s) { s->tokens = -1; },
      [](auto* s) { s->page_tokens = 0; },
      [](auto* s) { s->page_tokens = 16; },
      [](auto* s) { s->depth = 1; },
      [](auto* s) { s->depth = 300; },
      [](auto* s) { s->mtp_tokens = 1 << 20; },
      [](auto* s) { s->page_bytes = ~uint64_t{0}; }};
  for (size_t i = 0; i < lies.size(); ++i) {
    bool refused = false;
    Probe(Forge(whole, lies[i], no_record), &refused);
    EXPECT_TRUE(refused) << i;
  }
  const auto no_head = [](ContextSuperblock*) {};
  const std::vector<std::function<void(ContextRecord*)>> record_lies = {
      [](auto* r) { r->raw_bytes += 1; },
      [](auto* r) { r->raw_bytes = ~uint64_t{0}; },
      [](auto* r) { r->codec = RecordCodec::kZstd; },
      [](auto* r) { r->codec = static_cast<RecordCodec>(7); },
      [](auto* r) { r->sealed = true; },
      [](auto* r) { r->first_token += 1; },
      [](auto* r) { r->first_token = ~uint64_t{0} - 7; },
      [](auto* r) { r->rows = 9; },
      [](auto* r) { r->chain ^= 1; },
      [](auto* r) { r->type = RecordType::kTokens; },
      [](auto* r) { r->type = static_cast<RecordType>(0); }};
  for (size_t i = 0; i < record_lies.size(); ++i) {
    const Bytes bytes = Forge(whole, no_head, [&](ContextRecord* record, Bytes*) {
      if (record->type == RecordType::kPage && record->first_token == 16) record_lies[i](record);
    });
    auto file = ContextFile::FromMemory(bytes, "lie", {});
    ASSERT_TRUE(file.ok()) << i << " " << file.error().ToString();
    EXPECT_FALSE((*file)->HasPage(2)) << i;
    EXPECT_EQ((*file)->DeepestSound(), 10) << i;
    new_.ExpectNeverWrong(**file);
  }
}

TEST_F(ContextDamageTest, AFileThatBecomesShorterWhileOpenIsAnError) {
  Reference(new_.image, plain_);
  for (const bool map : {true, false}) {
    Reference(new_.image, plain_);
    auto file = std::move(Open().OpenContext("a", {.map = map})).value();
    ASSERT_EQ(::truncate(Path("a.lctx").c_str(), 8192), 0);
    Bytes page(640);
    EXPECT_FALSE(file->ReadPage(5, page).ok());
    EXPECT_FALSE(file->Page(4).ok());
  }
}

}  // namespace
}  // namespace lode::runtime
