// The folder of saved contexts: deltas, names, locks, listing, removing, sweeping.
#include "runtime/saved/context_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <ctime>
#include <thread>

#include "base/text.h"
#include "runtime/saved/context_format.h"
#include "tests/support/contexts.h"

namespace lode::runtime {
namespace {

ContextSaveOptions DeltaOf(const std::string& parent) {
  ContextSaveOptions options;
  options.parent = parent;
  return options;
}

TEST_F(ContextTest, ADeltaHoldsOnlyWhatItsParentDoesNot) {
  const std::vector<int32_t> tokens = SomeTokens(100);
  const TestContext parent(tokens, {40, 80, 100});
  const TestContext child(Diverge(tokens, 83, 120), {40, 80, 83, 120});
  ASSERT_TRUE(Open().Save("parent", parent.image).ok());
  const auto report = Open().Save("child", child.image, DeltaOf("parent"));
  ASSERT_TRUE(report.ok()) << report.error().ToString();
  EXPECT_TRUE(report->delta);
  EXPECT_EQ(report->pages_inherited, 10);  // tokens 0..79; the page of token 83 differs
  EXPECT_EQ(report->pages_written, 5);
  EXPECT_EQ(report->states_inherited, 2);
  EXPECT_EQ(report->states_written, 2);
  const auto file = std::move(Open().OpenContext("child")).value();
  child.ExpectWhole(*file);
  EXPECT_TRUE(file->is_delta());
  ASSERT_NE(file->parent(), nullptr);
  EXPECT_EQ(file->parent()->name(), "parent");
  EXPECT_EQ(file->shared_tokens(), 83);
  EXPECT_FALSE(file->HasState(100));  // the parent's, beyond the fork
  EXPECT_EQ(file->Points(), (std::vector<int64_t>{40, 80, 83, 120}));
  // Nothing is copied on the way through a parent.
  EXPECT_EQ(file->Page(3)->data(), file->parent()->Page(3)->data());
}

TEST_F(ContextTest, ADeltaIsRightWhereverItParts) {
  const std::vector<int32_t> tokens = SomeTokens(40);
  const TestContext parent(tokens, {16, 23, 24, 25, 40});
  ASSERT_TRUE(Open().Save("parent", parent.image).ok());
  for (int64_t same = 14; same <= 40; ++same) {
    std::vector<int64_t> offsets = {16, same};
    if (same <= 16) offsets = {same};
    const TestContext child(Diverge(tokens, same, 48), offsets);
    ASSERT_TRUE(Open().Save("child", child.image, DeltaOf("parent")).ok());
    const auto file = std::move(Open().OpenContext("child")).value();
    child.ExpectWhole(*file);
    for (const int64_t point : file->Points()) EXPECT_LE(point, same);
  }
}

TEST_F(ContextTest, ADeltaThatCutsAPageOfItsParentReadsTheParentsPage) {
  const std::vector<int32_t> tokens = SomeTokens(100);
  const TestContext parent(tokens, {40, 100});
  ASSERT_TRUE(Open().Save("parent", parent.image).ok());
  const std::vector<int32_t> shorter(tokens.begin(), tokens.begin() + 43);
  TestContext child(shorter, {40, 43});
  ASSERT_TRUE(Open().Save("child", child.image, DeltaOf("parent")).ok());
  const auto file = std::move(Open().OpenContext("child")).value();
  EXPECT_EQ(file->DeepestSound(), 43);
  EXPECT_TRUE(file->Page(5).ok());
  EXPECT_EQ(file->Page(6).error().code(), Code::kNotFound);
}

TEST_F(ContextTest, SavingUnderTheParentsOwnNameAgainAndAgainKeepsTheChainShort) {
  std::vector<int32_t> tokens = SomeTokens(20);
  ContextSaveOptions options = DeltaOf("chat");
  options.chain_max = 4;
  int deltas = 0;
  for (int turn = 0; turn < 12; ++turn) {
    const TestContext context(tokens, {static_cast<int64_t>(tokens.size())});
    const auto report = Open().Save("chat", context.image, options);
    ASSERT_TRUE(report.ok()) << report.error().ToString();
    deltas += report->delta ? 1 : 0;
    EXPECT_EQ(report->delta, turn % 5 != 0) << turn;
    if (report->delta) {
      EXPECT_LE(report->pages_written, 3);
    }
    const auto file = std::move(Open().OpenContext("chat")).value();
    context.ExpectWhole(*file);
    EXPECT_LE(FilesBeginningWith(".base-"), 4);
    tokens = Diverge(tokens, static_cast<int64_t>(tokens.size()), turn * 8 + 31);
  }
  EXPECT_EQ(deltas, 9);
  EXPECT_EQ(FilesBeginningWith(".base-"), 1);  // turn 10 was whole, turn 11 leans on it
}

TEST_F(ContextTest, AParentMayBeRemovedOrReplacedWithoutHarmToItsDeltas) {
  const std::vector<int32_t> tokens = SomeTokens(60);
  const TestContext parent(tokens, {60}), other(SomeTokens(30, 5), {30});
  const TestContext child(Diverge(tokens, 60, 75), {60, 75});
  const TestContext grandchild(Diverge(child.tokens, 75, 90), {75, 90});
  ASSERT_TRUE(Open().Save("parent", parent.image).ok());
  ASSERT_TRUE(Open().Save("child", child.image, DeltaOf("parent")).ok());
  ASSERT_TRUE(Open().Save("grandchild", grandchild.image, DeltaOf("child")).ok());
  ASSERT_TRUE(Open().Save("parent", other.image).ok());
  ASSERT_TRUE(Open().Remove("child").ok());
  grandchild.ExpectWhole(**Open().OpenContext("grandchild"));
  other.ExpectWhole(**Open().OpenContext("parent"));
  EXPECT_EQ(FilesBeginningWith(".base-"), 2);
  ASSERT_TRUE(Open().Remove("grandchild").ok());
  EXPECT_EQ(FilesBeginningWith(".base-"), 0);
  EXPECT_EQ(Open().List()->size(), 1u);
}

TEST_F(ContextTest, FlattenMakesADeltaSelfContainedAndChangesTheOptions) {
  const auto sealer = MakeAesGcmSealer(TestKey(1));
  const std::vector<int32_t> tokens = SomeTokens(60);
  const TestContext parent(tokens, {60}, {.smooth = true});
  const TestContext child(Diverge(tokens, 60, 75), {60, 75}, {.smooth = true});
  ASSERT_TRUE(Open().Save("parent", parent.image).ok());
  ASSERT_TRUE(Open().Save("child", child.image, DeltaOf("parent")).ok());
  ContextSaveOptions packed;
  packed.zstd_level = 3;
  packed.sealer = sealer.get();
  ASSERT_TRUE(Open().Flatten("child", "packed", packed).ok());
  ASSERT_TRUE(Open().Flatten("child", "child", {}).ok());
  ASSERT_TRUE(Open().Remove("parent").ok());
  EXPECT_EQ(FilesBeginningWith(".base-"), 0);
  const auto file = std::move(Open().OpenContext("child")).value();
  EXPECT_FALSE(file->is_delta());
  child.ExpectWhole(*file);
  ContextOpenOptions open;
  open.sealer = sealer.get();
  child.ExpectWhole(**Open().OpenContext("packed", open));
  ASSERT_TRUE(Open().Flatten("packed", "plain", {}, open).ok());
  child.ExpectWhole(**Open().OpenContext("plain"));
}

TEST_F(ContextTest, AParentThatDoesNotFitIsNotLeantOn) {
  const std::vector<int32_t> tokens = SomeTokens(60);
  const TestContext parent(tokens, {60});
  ASSERT_TRUE(Open().Save("parent", parent.image).ok());
  const auto is_delta = [&](const std::function<void(TestContext*)>& change,
                            ContextSaveOptions options) {
    TestContext child(Diverge(tokens, 60, 75), {60, 75});
    change(&child);
    const auto report = Open().Save("child", child.image, options);
    EXPECT_TRUE(report.ok()) << report.error().ToString();
    EXPECT_TRUE(
        Open().OpenContext("child", {.tenant = child.image.tenant, .sealer = options.sealer}).ok());
    EXPECT_TRUE(Open().Remove("child", child.image.tenant).ok());
    return report->delta;
  };
  const auto sealer = MakeAesGcmSealer(TestKey(1));
  ContextSaveOptions sealed = DeltaOf("parent");
  sealed.sealer = sealer.get();
  EXPECT_TRUE(is_delta([](auto*) {}, DeltaOf("parent")));
  EXPECT_FALSE(is_delta([](auto*) {}, DeltaOf("absent")));
  EXPECT_FALSE(is_delta([](auto*) {}, sealed));
  EXPECT_FALSE(is_delta([](auto* c) { c->image.tenant = DigestOf("bob"); }, DeltaOf("parent")));
  EXPECT_FALSE(
      is_delta([](auto* c) { c->image.fingerprints.model.digest = {}; }, DeltaOf("parent")));
  EXPECT_FALSE(
      is_delta([](auto* c) { c->image.fingerprints.numerics.digest = {}; }, DeltaOf("parent")));
  EXPECT_FALSE(is_delta([](auto* c) { c->image.geometry.layout = "x"; }, DeltaOf("parent")));
}

TEST_F(ContextTest, AMissingParentCostsOnlyThePointsThatNeedIt) {
  const std::vector<int32_t> tokens = SomeTokens(60);
  const TestContext parent(tokens, {60}), child(Diverge(tokens, 60, 75), {60, 75});
  ASSERT_TRUE(Open().Save("parent", parent.image).ok());
  ASSERT_TRUE(Open().Save("child", child.image, DeltaOf("parent")).ok());
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    if (entry.path().filename().string().rfind(".base-", 0) == 0) {
      std::filesystem::remove(entry.path());
    }
  }
  child.ExpectWhole(**Open().OpenContext("child"));  // found by its name
  std::filesystem::remove(Path("parent.lctx"));
  const auto file = std::move(Open().OpenContext("child")).value();
  EXPECT_EQ(file->DeepestSound(), 0);
  EXPECT_TRUE(file->Points().empty());
  ASSERT_EQ(file->damage().size(), 1u);
  EXPECT_EQ(file->damage()[0].what, "the parent 'parent'");
  child.ExpectNeverWrong(*file);
  EXPECT_FALSE(Open().Flatten("child", "flat", {}).ok());
  // Another context of that name is no parent.
  ASSERT_TRUE(Open().Save("parent", TestContext(SomeTokens(60), {50}).image).ok());
  EXPECT_EQ(Open().OpenContext("child").value()->DeepestSound(), 0);
}

TEST_F(ContextTest, NamesAreNamesAndNeverPaths) {
  for (const char* good : {"a", "A.b-c_9", "0", "chat..x"}) {
    EXPECT_TRUE(ContextStore::CheckName(good).ok()) << good;
  }
  const TestContext context(SomeTokens(5), {5});
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string(".a"), std::string("-a"),
        std::string("a/b"), std::string("../a"), std::string("/a"), std::string("a b"),
        std::string("a\n"), std::string("\xC3\xA4"), std::string("a\0b", 3),
        std::string(101, 'a')}) {
    EXPECT_FALSE(ContextStore::CheckName(bad).ok()) << bad;
    EXPECT_EQ(Open().Save(bad, context.image).error().code(), Code::kBadInput);
    EXPECT_EQ(Open().OpenContext(bad).error().code(), Code::kBadInput);
    EXPECT_EQ(Open().Remove(bad).error().code(), Code::kBadInput);
    EXPECT_EQ(Open().Flatten("a", bad, {}).error().code(), Code::kBadInput);
  }
  EXPECT_TRUE(Open().Save(std::string(100, 'a'), context.image).ok());
}

TEST_F(ContextTest, LinksAreNotFollowedBeneathTheFolder) {
  const TestContext context(SomeTokens(5), {5});
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  const std::string outside = folder_ + "-outside";
  std::filesystem::copy_file(Path("a.lctx"), outside);
  std::filesystem::create_symlink(outside, Path("link.lctx"));
  std::filesystem::create_symlink(outside, Path(".b.part"));
  const auto file = Open().OpenContext("link");
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.error().message().find("is a link"), std::string::npos);
  EXPECT_FALSE(Open().Save("b", context.image).ok());
  const Bytes before = ReadBytes(outside);
  EXPECT_TRUE(Open().Save("link", context.image).ok());  // replaces the link itself
  EXPECT_FALSE(std::filesystem::is_symlink(Path("link.lctx")));
  EXPECT_EQ(ReadBytes(outside), before);
  ASSERT_EQ(::mkfifo(Path("pipe.lctx").c_str(), 0600), 0);
  EXPECT_FALSE(Open().OpenContext("pipe").ok());
  std::filesystem::remove(outside);
}

TEST_F(ContextTest, ListNamesWhatCannotBeOpenedToo) {
  const TestContext a(SomeTokens(20), {20});
  const TestContext b(Diverge(a.tokens, 20, 40), {40});
  ASSERT_TRUE(Open().Save("a", a.image).ok());
  ASSERT_TRUE(Open().Save("b", b.image, DeltaOf("a")).ok());
  WriteBytes(Path("broken.lctx"), Bytes(5000));
  WriteBytes(Path("notes.txt"), Bytes(10));
  const auto entries = Open().List().value();
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "a");
  EXPECT_EQ(entries[0].tokens, 20);
  EXPECT_TRUE(entries[0].trouble.empty());
  EXPECT_EQ(entries[1].parent, "a");
  EXPECT_TRUE(entries[1].delta);
  EXPECT_EQ(entries[2].name, "broken");
  EXPECT_FALSE(entries[2].trouble.empty());
  // The parent counts once although it has two names.
  const uint64_t bytes = Open().Bytes().value();
  EXPECT_GT(bytes, entries[0].bytes + entries[1].bytes);
  EXPECT_LT(bytes, 2 * entries[0].bytes + entries[1].bytes + 5000);
}

TEST_F(ContextTest, TheSecondSaverOfANameGetsASentenceAndTheFirstIsUnharmed) {
  const TestContext context(SomeTokens(60), {60});
  ContextSaveOptions options;
  int refused = 0;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_LE(done, total);
    const auto second = Open().Save("a", context.image);
    refused += !second.ok() && second.error().message().find("under way") != std::string::npos;
    EXPECT_TRUE(Open().Save("b", context.image).ok());
    EXPECT_EQ(Open().Sweep()->busy, done < total ? 1 : Open().Sweep()->busy);
    return true;
  };
  ASSERT_TRUE(Open().Save("a", context.image, options).ok());
  EXPECT_GT(refused, 10);
  context.ExpectWhole(**Open().OpenContext("a"));
}

TEST_F(ContextTest, ManySaversAtOnceLeaveWholeFiles) {
  disk_.dawdles = true;
  std::vector<std::thread> threads;
  std::atomic<int> saved = 0;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      const std::string name(1, static_cast<char>('x' + t % 3));
      for (int i = 0; i < 15; ++i) {
        const TestContext context(SomeTokens(40 + i, i % 2), {40});
        saved += Open().Save(name, context.image, DeltaOf("x")).ok() ? 1 : 0;
        // Whoever saved it last: it is whole, with all of its parents.
        const auto file = Open().OpenContext(name);
        if (file.ok()) {
          EXPECT_EQ((*file)->DeepestSound(), 40);
          for (const auto& damage : (*file)->damage()) ADD_FAILURE() << damage.reason;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(saved, 0);
  EXPECT_EQ(Open().Sweep()->parts, 0);
}

TEST_F(ContextTest, ACancelledSaveGoesOnWhereItStopped) {
  const TestContext old(SomeTokens(10, 9), {10}), context(SomeTokens(60), {30, 60});
  ASSERT_TRUE(Open().Save("a", old.image).ok());
  ASSERT_TRUE(Open().Save("whole", context.image).ok());
  ContextSaveOptions options;
  int calls = 0;
  options.progress = [&](uint64_t, uint64_t) { return ++calls < 9; };
  EXPECT_EQ(Open().Save("a", context.image, options).error().code(), Code::kCancelled);
  old.ExpectWhole(**Open().OpenContext("a"));
  const auto report = Open().Save("a", context.image);
  ASSERT_TRUE(report.ok());
  EXPECT_GT(report->kept_bytes, 3000u);
  EXPECT_GT(report->written_bytes, 3000u);
  context.ExpectWhole(**Open().OpenContext("a"));
  // Asked not to, it begins anew.
  calls = 0;
  EXPECT_FALSE(Open().Save("a", old.image, options).ok());
  calls = 0;
  options.progress = nullptr;
  options.resume = false;
  EXPECT_EQ(Open().Save("a", old.image, options)->kept_bytes, 0u);
}

TEST_F(ContextTest, APartOfAnotherContextOfTheSameShapeIsNotTakenOver) {
  ContextSaveOptions stop;
  int calls = 0;
  stop.progress = [&](uint64_t, uint64_t) { return ++calls < 9; };
  const TestContext one(SomeTokens(60), {30, 60});
  for (const bool same_tokens : {false, true}) {
    calls = 0;
    ASSERT_FALSE(Open().Save("a", one.image, stop).ok());
    TestContext other(same_tokens ? one.tokens : SomeTokens(60, 2), {30, 60});
    other.pages[1][5] ^= std::byte{1};  // as by other arithmetic
    const auto report = Open().Save("a", other.image);
    ASSERT_TRUE(report.ok());
    EXPECT_EQ(report->kept_bytes > 640, same_tokens);  // what stands before the difference
    other.ExpectWhole(**Open().OpenContext("a"));
  }
}

TEST_F(ContextTest, SweepingRemovesOldPartsAndNothingElse) {
  const TestContext context(SomeTokens(60), {60});
  ASSERT_TRUE(Open().Save("a", context.image).ok());
  WriteBytes(Path(".a.part"), Bytes(9000));
  WriteBytes(Path(".b.part"), Bytes(0));
  EXPECT_EQ(Open().Sweep(3600)->parts, 0);
  const auto report = Open().Sweep();
  EXPECT_EQ(report->parts, 2);
  EXPECT_GE(report->bytes, 9000u);
  context.ExpectWhole(**Open().OpenContext("a"));
  EXPECT_EQ(FilesBeginningWith("."), 1);  // the lock
  // Of the next second: the clock of the files may be that much ahead.
  WriteBytes(Path(".a.part"), Bytes(9000));
  const std::time_t next = std::time(nullptr) + 2;
  timespec ahead[2] = {{next, 0}, {next, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, Path(".a.part").c_str(), ahead, 0), 0);
  EXPECT_EQ(Open().Sweep(3600)->parts, 0);
  // From the future, after a jump of the clock: stale all the same.
  timespec times[2] = {{4102444800, 0}, {4102444800, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, Path(".a.part").c_str(), times, 0), 0);
  EXPECT_EQ(Open().Sweep(3600)->parts, 1);
}

TEST_F(ContextTest, BasesStayWhileAFileThatCannotBeReadMayNeedThem) {
  const TestContext a(SomeTokens(20), {20}), b(Diverge(a.tokens, 20, 40), {40});
  ASSERT_TRUE(Open().Save("a", a.image).ok());
  ASSERT_TRUE(Open().Save("b", b.image, DeltaOf("a")).ok());
  ContextSuperblock newer = DecodeSuperblock(ReadBytes(Path("b.lctx"))).value();
  newer.major = kContextMajor + 1;
  WriteBytes(Path("newer.lctx"), EncodeSuperblock(newer));
  ASSERT_TRUE(Open().Remove("b").ok());
  EXPECT_EQ(FilesBeginningWith(".base-"), 1);
  // One that nobody will ever read needs nothing.
  WriteBytes(Path("newer.lctx"), Bytes(9000));
  WriteBytes(Path("short.lctx"), Bytes(9));
  EXPECT_EQ(Open().Sweep()->bases, 1);
  EXPECT_EQ(FilesBeginningWith(".base-"), 0);
}

TEST_F(ContextTest, AFolderThatCannotBeMadeOrReadIsASentence) {
  EXPECT_FALSE(ContextStore::Open("/proc/none/here").ok());
  WriteBytes(Path("file"), Bytes(1));
  EXPECT_FALSE(ContextStore::Open(Path("file")).ok());
  auto nested = ContextStore::Open(Path("a/b/c"));
  ASSERT_TRUE(nested.ok());
  struct stat info;
  ASSERT_EQ(::stat(Path("a/b/c").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  EXPECT_TRUE(nested->List()->empty());
  EXPECT_EQ(nested->Bytes().value(), 0u);
}

}  // namespace
}  // namespace lode::runtime
