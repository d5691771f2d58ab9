// Saved contexts: what comes back, and what is said when it may not be used.
#include "runtime/saved/context_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "base/file.h"
#include "runtime/saved/context_codec.h"
#include "runtime/saved/context_format.h"
#include "tests/support/contexts.h"

namespace lode::runtime {
namespace {

TEST_F(ContextTest, ComesBackWithEveryOption) {
  const auto sealer = MakeAesGcmSealer(TestKey(1));
  for (const bool smooth : {false, true}) {
    const TestContext context(SomeTokens(45), {8, 21, 45}, {.smooth = smooth});
    for (const int level : {0, 1, 9}) {
      for (const Sealer* seal :
           {static_cast<const Sealer*>(nullptr), (const Sealer*)sealer.get()}) {
        for (const bool map : {true, false}) {
          ContextSaveOptions options;
          options.zstd_level = level;
          options.sealer = seal;
          options.created = 1234;
          auto report = Open().Save("a", context.image, options);
          ASSERT_TRUE(report.ok()) << report.error().ToString();
          auto file = Open().OpenContext("a", {.sealer = seal, .map = map});
          ASSERT_TRUE(file.ok()) << file.error().ToString();
          context.ExpectWhole(**file);
          EXPECT_EQ((*file)->file_bytes(), report->file_bytes);
          EXPECT_EQ((*file)->digest(), report->digest);
          EXPECT_EQ((*file)->created(), 1234);
          EXPECT_EQ((*file)->sealed(), seal != nullptr);
          EXPECT_EQ((*file)->compressed(), level != 0);
          EXPECT_EQ(DumpJson((*file)->meta()), "{\"marks\":{\"start\":1},\"name\":\"a\"}");
          EXPECT_EQ((*file)->geometry(), context.image.geometry);
          EXPECT_EQ((*file)->fingerprints().model.label, "tiny");
          EXPECT_EQ((*file)->Points(), (std::vector<int64_t>{8, 21, 45}));
          EXPECT_EQ((*file)->Page(0).ok(), seal == nullptr && map && (level == 0 || !smooth));
        }
      }
    }
  }
}

TEST_F(ContextTest, ComesBackForEveryNumberOfTokensAroundAPage) {
  for (const int64_t tokens : {0, 1, 7, 8, 9, 16, 17}) {
    std::vector<int64_t> offsets;
    for (int64_t p = 1; p <= tokens; p += 3) offsets.push_back(p);
    const TestContext context(SomeTokens(tokens), offsets);
    ASSERT_TRUE(Open().Save("a", context.image).ok());
    auto file = Open().OpenContext("a");
    ASSERT_TRUE(file.ok()) << file.error().ToString();
    context.ExpectWhole(**file);
    EXPECT_EQ((*file)->pages(), (tokens + 7) / 8);
  }
}

TEST_F(ContextTest, ModelsWithoutPagesOrWithoutStatesOrWithNeitherComeBack) {
  for (const uint64_t page_bytes : {0, 640}) {
    for (const uint64_t slot_bytes : {0, 1000}) {
      const TestContext context(
          SomeTokens(20), {8, 20},
          {.page_bytes = page_bytes, .slot_bytes = slot_bytes, .mtp_page_bytes = 0});
      ASSERT_TRUE(Open().Save("a", context.image).ok());
      auto file = Open().OpenContext("a");
      ASSERT_TRUE(file.ok()) << file.error().ToString();
      context.ExpectWhole(**file);
      EXPECT_EQ((*file)->Points(), (std::vector<int64_t>{8, 20}));
    }
  }
}

TEST_F(ContextTest, PayloadsStandAtPageBordersAndLargeStatesAtHugeOnes) {
  const TestContext context(SomeTokens(17), {8, 17},
                            {.page_bytes = 5000, .slot_bytes = kStateAlign + 4});
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  auto file = Open().OpenContext("a");
  ASSERT_TRUE(file.ok());
  context.ExpectWhole(**file);
  const auto offset = [&](std::span<const std::byte> span) {
    return reinterpret_cast<uintptr_t>(span.data());
  };
  EXPECT_EQ(offset((*file)->Page(1).value()) % kPayloadAlign, 0u);
  const uintptr_t distance = offset((*file)->State(17).value()) - offset((*file)->State(8).value());
  EXPECT_EQ(distance % kStateAlign, 0u);
  struct stat info;
  ASSERT_EQ(::stat(Path("a.lctx").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  // Holes in front of the states take no room.
  EXPECT_LT(static_cast<uint64_t>(info.st_blocks) * 512, 2 * kStateAlign + (uint64_t{1} << 20));
  EXPECT_GT((*file)->file_bytes(), 3 * kStateAlign);
}

// Bytes of private memory that this process may write.
uint64_t PrivateBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  uint64_t kilobytes = 0;
  while (status >> word) {
    if (word == "VmData:") status >> kilobytes;
  }
  return kilobytes << 10;
}

TEST_F(ContextTest, AReadTakesNoMemoryBesideItsTarget) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the sanitizer needs memory of its own";
#endif
  const uint64_t kBytes = uint64_t{48} << 20, kBeside = uint64_t{8} << 20;
  const auto sealer = MakeAesGcmSealer(TestKey(1));
  const TestContext context(SomeTokens(8), {8}, {.slot_bytes = kBytes, .smooth = true});
  for (const int level : {0, 1}) {
    for (const bool seal : {false, true}) {
      const Sealer* key = seal ? sealer.get() : nullptr;
      ContextSaveOptions options;
      options.zstd_level = level;
      options.sealer = key;
      ASSERT_TRUE(Open().Save("a", context.image, options).ok());
      auto file = Open().OpenContext("a", {.sealer = key});
      ASSERT_TRUE(file.ok());
      ASSERT_EQ((*file)->compressed(), level != 0);
      Bytes target(kBytes);
      const pid_t child = ::fork();
      if (child == 0) {
        const rlim_t limit = PrivateBytes() + kBeside;
        const rlimit limits = {limit, limit};
        if (::setrlimit(RLIMIT_DATA, &limits) != 0) ::_exit(2);
        if (!(*file)->ReadState(8, target).ok()) ::_exit(3);
        if (target != context.states.at(8)) ::_exit(4);
        ::_exit(0);
      }
      int status = -1;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_EQ(status, 0) << "level " << level << (seal ? ", sealed" : "");
    }
  }
}

TEST_F(ContextTest, RunsAreKeptAndChangeTheChain) {
  const std::vector<int32_t> tokens = SomeTokens(30);
  TestContext plain(tokens, {30});
  TestContext mixed(tokens, {30});
  mixed.image.runs = {{0, ContextRun::Kind::kPrefill, {}},
                      {11, ContextRun::Kind::kDecode, {}},
                      {24, ContextRun::Kind::kDecode, DigestOf("adapter")}};
  ASSERT_TRUE(Open().Save("plain", plain.image).ok());
  ASSERT_TRUE(Open().Save("mixed", mixed.image).ok());
  const auto a = std::move(Open().OpenContext("plain")).value();
  const auto b = std::move(Open().OpenContext("mixed")).value();
  EXPECT_EQ(b->runs(), mixed.image.runs);
  mixed.ExpectWhole(*b);
  EXPECT_EQ(a->chain()[0], b->chain()[0]);
  for (size_t i = 1; i < 4; ++i) EXPECT_NE(a->chain()[i], b->chain()[i]) << i;
  EXPECT_EQ(SharedTokens(a->tokens(), a->runs(), b->tokens(), b->runs()), 11);
  EXPECT_EQ(SharedTokens(b->tokens(), b->runs(), b->tokens(), b->runs()), 30);
}

TEST_F(ContextTest, TheChainNamesTokensModelAndNumerics) {
  const std::vector<int32_t> tokens = SomeTokens(20);
  const auto chain = [&](const std::vector<int32_t>& ids, const char* model, const char* numerics) {
    return ChainTokens(DigestOf(model), DigestOf(numerics), 8, ids, {});
  };
  const auto base = chain(tokens, "m", "n");
  ASSERT_EQ(base.size(), 3u);
  EXPECT_EQ(chain(tokens, "m", "n"), base);
  EXPECT_NE(chain(tokens, "m2", "n")[0], base[0]);
  EXPECT_NE(chain(tokens, "m", "n2")[0], base[0]);
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::vector<int32_t> other = tokens;
    other[i] ^= 1;
    const auto changed = chain(other, "m", "n");
    for (size_t block = 0; block < 3; ++block) {
      EXPECT_EQ(changed[block] == base[block], block < i / 8) << i << " " << block;
    }
  }
  const std::vector<int32_t> shorter(tokens.begin(), tokens.begin() + 19);
  EXPECT_NE(chain(shorter, "m", "n")[2], base[2]);
}

TEST_F(ContextTest, MissingPagesLimitThePoints) {
  TestContext context(SomeTokens(40), {8, 16, 24, 40});
  context.image.pages[2] = {};
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  auto file = Open().OpenContext("a");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file)->Points(), (std::vector<int64_t>{8, 16}));
  EXPECT_EQ((*file)->DeepestSound(), 16);
  EXPECT_EQ((*file)->DeepestSound(15), 8);
  EXPECT_EQ((*file)->DeepestSound(7), 0);
  EXPECT_EQ((*file)->Page(2).error().code(), Code::kNotFound);
  context.ExpectNeverWrong(**file);
}

TEST_F(ContextTest, ImagesThatContradictThemselvesAreRefusedWithOneSentence) {
  const auto expect_refused = [&](const std::function<void(TestContext*)>& change) {
    TestContext context(SomeTokens(20), {8, 20});
    change(&context);
    const auto report = Open().Save("a", context.image);
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().code(), Code::kBadInput);
    EXPECT_NE(report.error().message().find("cannot be saved"), std::string::npos);
    EXPECT_EQ(FilesBeginningWith("a"), 0);
  };
  expect_refused([](auto* c) { c->image.snapshots[1].offset = 21; });
  expect_refused([](auto* c) { c->image.snapshots[0].offset = 20; });
  expect_refused([](auto* c) { c->image.snapshots[0].offset = 0; });
  expect_refused([](auto* c) { c->image.snapshots[0].state = c->pages[0]; });
  expect_refused([](auto* c) { c->image.snapshots[0].hidden = c->pages[0]; });
  expect_refused([](auto* c) { c->image.pages[0] = c->mtp_pages[0]; });
  expect_refused([](auto* c) { c->image.pages.push_back(c->pages[0]); });
  expect_refused([](auto* c) { c->image.mtp_tokens = 21; });
  expect_refused([](auto* c) { c->image.mtp_tokens = 8; });
  expect_refused([](auto* c) { c->image.runs = {{1, ContextRun::Kind::kPrefill, {}}}; });
  expect_refused([](auto* c) { c->image.geometry.page_tokens = 0; });
  expect_refused([](auto* c) { c->image.meta = Json::array(); });
  expect_refused([](auto* c) {
    c->tokens[3] = -1;
    c->image.tokens = c->tokens;
  });
}

TEST_F(ContextTest, WhatDiffersIsNamedAndSoIsWhatCanStillBeDone) {
  const TestContext context(SomeTokens(20), {20});
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  const auto file = std::move(Open().OpenContext("a")).value();
  using Use = ContextMatch::Use;
  const auto match =
      [&](const std::function<void(ContextGeometry*, ContextFingerprints*)>& change) {
        ContextGeometry geometry = context.image.geometry;
        ContextFingerprints fingerprints = context.image.fingerprints;
        change(&geometry, &fingerprints);
        return file->Match(geometry, fingerprints);
      };
  const auto same = match([](auto*, auto*) {});
  EXPECT_EQ(same.use, Use::kExact);
  EXPECT_TRUE(same.text_continues && same.differing.empty() && same.sentence.empty());
  EXPECT_TRUE(same.Require(Use::kExact).ok());

  const auto model = match([](auto*, auto* f) { f->model = {DigestOf("other"), "huge"}; });
  EXPECT_EQ(model.use, Use::kTokensOnly);
  EXPECT_EQ(model.differing, std::vector<std::string>{"model"});
  EXPECT_NE(model.sentence.find("the model ('tiny' "), std::string::npos) << model.sentence;
  EXPECT_NE(model.sentence.find("here 'huge' "), std::string::npos);
  EXPECT_NE(model.hint.find("20 token ids"), std::string::npos);
  EXPECT_FALSE(model.Require(Use::kForeign).ok());
  EXPECT_TRUE(model.Require(Use::kTokensOnly).ok());

  const auto numerics = match([](auto*, auto* f) { f->numerics.digest = DigestOf("avx"); });
  EXPECT_EQ(numerics.use, Use::kForeign);
  EXPECT_NE(numerics.sentence.find("numerics"), std::string::npos);
  EXPECT_EQ(numerics.Require(Use::kExact).error().code(), Code::kBadInput);

  for (const bool tokenizer : {true, false}) {
    const auto text = match([&](auto*, auto* f) {
      (tokenizer ? f->tokenizer : f->chat_template).digest = DigestOf("x");
    });
    EXPECT_EQ(text.use, Use::kExact);
    EXPECT_FALSE(text.text_continues);
    EXPECT_EQ(text.differing, std::vector<std::string>{tokenizer ? "tokenizer" : "template"});
    EXPECT_NE(text.hint.find("new text cannot be added"), std::string::npos);
  }
  const std::vector<std::pair<std::string, std::function<void(ContextGeometry*)>>> fields = {
      {"page_tokens", [](auto* g) { g->page_tokens = 16; }},
      {"page_bytes", [](auto* g) { g->page_bytes = 1; }},
      {"slot_bytes", [](auto* g) { g->slot_bytes = 1; }},
      {"layout", [](auto* g) { g->layout = "bf16"; }}};
  for (const auto& [name, change] : fields) {
    const auto geometry = match([&](auto* g, auto*) { change(g); });
    EXPECT_EQ(geometry.use, Use::kTokensOnly) << name;
    EXPECT_EQ(geometry.differing, std::vector<std::string>{name});
  }
}

TEST_F(ContextTest, AnotherTenantsContextIsAsIfItWereNotThere) {
  TestContext context(SomeTokens(20), {20});
  context.image.tenant = DigestOf("alice");
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  EXPECT_TRUE(Open().OpenContext("a", {.tenant = DigestOf("alice")}).ok());
  const auto foreign = Open().OpenContext("a", {.tenant = DigestOf("bob")});
  const auto absent = Open().OpenContext("b", {.tenant = DigestOf("bob")});
  ASSERT_FALSE(foreign.ok() || absent.ok());
  EXPECT_EQ(foreign.error().code(), Code::kNotFound);
  std::string expected = absent.error().ToString();
  expected.replace(expected.find("'b'"), 3, "'a'");
  EXPECT_EQ(foreign.error().ToString(), expected);
  const auto named = Open().OpenContext("a", {.tenant = DigestOf("bob"), .name_foreign = true});
  EXPECT_NE(named.error().message().find("another tenant"), std::string::npos);

  EXPECT_TRUE(Open().List(DigestOf("bob"))->empty());
  EXPECT_EQ(Open().List(DigestOf("alice"))->size(), 1u);
  EXPECT_EQ(Open().Remove("a", DigestOf("bob")).error().code(), Code::kNotFound);
  context.image.tenant = DigestOf("bob");
  EXPECT_FALSE(Open().Save("a", context.image).ok());
  EXPECT_TRUE(Open().OpenContext("a", {.tenant = DigestOf("alice")}).ok());
}

TEST_F(ContextTest, ASealedContextNeedsItsKeyAndSaysWhich) {
  const TestContext context(SomeTokens(20), {20});
  const auto right = MakeAesGcmSealer(TestKey(1));
  const auto wrong = MakeAesGcmSealer(TestKey(2));
  ContextSaveOptions options;
  options.sealer = right.get();
  ASSERT_TRUE(Open().Save("a", context.image, options).ok());
  const auto none = Open().OpenContext("a");
  EXPECT_NE(none.error().message().find("no key was given"), std::string::npos);
  const auto other = Open().OpenContext("a", {.sealer = wrong.get()});
  EXPECT_NE(other.error().message().find("the key given is"), std::string::npos);
  EXPECT_NE(other.error().message().find(DigestText(right->key_id(), 12)), std::string::npos);
  // Nothing of the contents shows.
  const Bytes bytes = ReadBytes(Path("a.lctx"));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_EQ(text.find("marks"), std::string_view::npos);
  const std::string_view ids(reinterpret_cast<const char*>(context.tokens.data()), 16);
  EXPECT_EQ(text.find(ids), std::string_view::npos);
}

TEST_F(ContextTest, ANewerFormatIsRefusedWithTheVersionNeeded) {
  const TestContext context(SomeTokens(20), {20});
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  Bytes bytes = ReadBytes(Path("a.lctx"));
  ContextSuperblock superblock = DecodeSuperblock(bytes).value();
  superblock.major = kContextMajor + 1;
  const Bytes head = EncodeSuperblock(superblock);
  std::copy(head.begin(), head.end(), bytes.begin());
  WriteBytes(Path("a.lctx"), bytes);
  const auto file = Open().OpenContext("a");
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().code(), Code::kUnsupported);
  EXPECT_NE(file.error().message().find("version 2.0"), std::string::npos);
}

TEST_F(ContextTest, RecordsOfANewerMinorVersionAreSkipped) {
  const TestContext context(SomeTokens(20), {20});
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  const Bytes old = ReadBytes(Path("a.lctx"));
  ContextSuperblock superblock = DecodeSuperblock(old).value();
  superblock.minor += 1;
  superblock.records += 1;
  ContextTail tail;
  ASSERT_TRUE(DecodeTail(std::span(old).last(kTailBytes), old.size(), &tail));
  Bytes index(old.begin() + static_cast<ptrdiff_t>(tail.index_offset),
              old.end() - static_cast<ptrdiff_t>(kTailBytes));
  Bytes bytes(old.begin(), old.begin() + static_cast<ptrdiff_t>(tail.index_offset));
  ContextRecord record;
  record.type = static_cast<RecordType>(99);
  record.sequence = superblock.records - 1;
  record.raw_bytes = record.stored_bytes = 3;
  record.hash = HashPayload(Bytes(3));
  record.payload_offset = PayloadOffset(bytes.size(), record);
  const HeaderBytes header = EncodeHeader(record, superblock.salt);
  const uint64_t at = HeaderOffset(bytes.size());
  bytes.resize(record.end());
  std::copy(header.begin(), header.end(), bytes.begin() + static_cast<ptrdiff_t>(at));
  index.insert(index.end(), header.begin(), header.end());
  const Bytes head = EncodeSuperblock(superblock);
  std::copy(head.begin(), head.end(), bytes.begin());
  tail.index_offset = HeaderOffset(bytes.size());
  tail.records = superblock.records;
  tail.file_bytes = tail.index_offset + index.size() + kTailBytes;
  tail.digest = FileDigest(EncodeFacts(superblock), index);
  bytes.resize(tail.index_offset);
  bytes.insert(bytes.end(), index.begin(), index.end());
  const auto tail_bytes = EncodeTail(tail, superblock.salt, index);
  bytes.insert(bytes.end(), tail_bytes.begin(), tail_bytes.end());
  const auto file = ContextFile::FromMemory(bytes, "newer", {});
  ASSERT_TRUE(file.ok()) << file.error().ToString();
  context.ExpectWhole(**file);
}

TEST_F(ContextTest, AFileOutsideOfAStoreIsOpenedByItsPath) {
  const TestContext context(SomeTokens(20), {20});
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  for (const bool map : {true, false}) {
    auto file = ContextFile::OpenPath(Path("a.lctx"), {.map = map});
    ASSERT_TRUE(file.ok());
    context.ExpectWhole(**file);
  }
  EXPECT_EQ(ContextFile::OpenPath(Path("none"), {}).error().code(), Code::kNotFound);
  EXPECT_FALSE(ContextFile::OpenPath(folder_, {}).ok());
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(ContextFile::OpenPath(Path("pipe"), {}).ok());  // and does not wait
  WriteBytes(Path("short"), Bytes(100));
  EXPECT_NE(ContextFile::OpenPath(Path("short"), {}).error().message().find("too short"),
            std::string::npos);
  WriteBytes(Path("other"), Bytes(10000));
  EXPECT_NE(ContextFile::OpenPath(Path("other"), {}).error().message().find("no saved context"),
            std::string::npos);
}

TEST_F(ContextTest, ReadingAsksForTheRightSize) {
  const TestContext context(SomeTokens(20), {20});
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  const auto file = std::move(Open().OpenContext("a")).value();
  Bytes target(641);
  EXPECT_EQ(file->ReadPage(0, target).error().code(), Code::kBadInput);
  EXPECT_EQ(file->ReadPage(3, std::span(target).first(640)).error().code(), Code::kNotFound);
  EXPECT_EQ(file->ReadPage(-1, std::span(target).first(640)).error().code(), Code::kNotFound);
  EXPECT_EQ(file->ReadState(19, target).error().code(), Code::kNotFound);
}

TEST(ContextCodecTest, PlanesComeBackAndHelp) {
  for (const size_t size : {0u, 1u, 3u, 4u, 1000u, 200001u}) {
    const Bytes raw = Fill(size, 5, /*smooth=*/true);
    const Compressed compressed = Compress(raw, 3);
    if (compressed.bytes.empty()) continue;
    Bytes back(size);
    ASSERT_TRUE(Decompress(compressed.bytes, compressed.planes, back).ok());
    EXPECT_EQ(back, raw);
    EXPECT_TRUE(CheckCompressed(compressed.bytes, size).ok());
    EXPECT_FALSE(CheckCompressed(compressed.bytes, size + 1).ok());
    EXPECT_FALSE(
        CheckCompressed(std::span(compressed.bytes).first(compressed.bytes.size() - 1), size).ok());
    EXPECT_FALSE(
        Decompress(compressed.bytes, compressed.planes, std::span(back).first(size / 2)).ok());
  }
  EXPECT_EQ(Compress(Fill(200001, 5, true), 3).planes, 4);  // one byte of four is noise
  EXPECT_LT(Compress(Fill(200001, 5, true), 3).bytes.size(), 60000u);
  EXPECT_TRUE(Compress(Fill(1000, 5), 3).bytes.empty());
}

TEST(ContextSealTest, NothingButTheSealedBytesOpens) {
  const auto sealer = MakeAesGcmSealer(TestKey(1));
  const Bytes plain = Fill(1000, 1);
  const Bytes header = Fill(64, 2);
  ContextSalt salt{};
  ContextNonce nonce{};
  Bytes sealed(plain.size() + sealer->overhead());
  Bytes back(plain.size());
  ASSERT_TRUE(sealer->Seal(salt, nonce, header, plain, sealed).ok());
  ASSERT_TRUE(sealer->Open(salt, nonce, header, sealed, back).ok());
  EXPECT_EQ(back, plain);
  for (size_t i = 0; i < sealed.size(); i += 37) {
    Bytes changed = sealed;
    changed[i] ^= std::byte{1};
    EXPECT_FALSE(sealer->Open(salt, nonce, header, changed, back).ok()) << i;
  }
  Bytes other_header = header;
  other_header[63] ^= std::byte{1};
  EXPECT_FALSE(sealer->Open(salt, nonce, other_header, sealed, back).ok());
  ContextNonce other_nonce = nonce;
  other_nonce[11] = std::byte{1};
  EXPECT_FALSE(sealer->Open(salt, other_nonce, header, sealed, back).ok());
  ContextSalt other_salt = salt;
  other_salt[0] = std::byte{1};
  EXPECT_FALSE(sealer->Open(other_salt, nonce, header, sealed, back).ok());
  EXPECT_FALSE(MakeAesGcmSealer(TestKey(2))->Open(salt, nonce, header, sealed, back).ok());
}

}  // namespace
}  // namespace lode::runtime
