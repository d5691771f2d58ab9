// The disk tier with a tree and frames, and bytes that tell which tokens they are of in place of a
// model's: whatever comes back is right, whatever happens to the files.
#include "runtime/tier/disk_tier.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/text.h"
#include "runtime/tier/promotion.h"
#include "runtime/tree/prefix_tree_state.h"
#include "tests/support/contexts.h"

namespace lode::runtime {
namespace {

constexpr uint64_t kPage = 4096, kSlot = 8192;

std::vector<Token> Text(int text, int64_t count) {
  std::vector<Token> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(text * 100000 + static_cast<Token>(i));
  return tokens;
}

std::vector<Token> operator+(std::vector<Token> a, const std::vector<Token>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// What a frame holds after these tokens.
Bytes Content(uint64_t kind, std::span<const Token> tokens, uint64_t size) {
  uint64_t seed = kind;
  for (const Token token : tokens) seed = (seed ^ static_cast<uint32_t>(token)) * 0x100000001B3u;
  return Fill(size, seed);
}

// Frames for so many pages beside three slots, a tree, and the tier.
class World {
 public:
  struct Setting {
    int64_t pages = 12, slots = 3;
    bool recurrent = true;
  };
  World(const DiskTierOptions& options, const Setting& setting) {
    FramePoolOptions frames;
    frames.page_bytes = kPage;
    frames.slot_bytes = setting.recurrent ? kSlot : 0;
    frames.budget_bytes = static_cast<uint64_t>(setting.pages) * kPage +
                          static_cast<uint64_t>(setting.slots) * frames.slot_bytes;
    pool = FramePool::Make(frames).value();
    auto made = DiskTier::Make(pool.get(), options);
    EXPECT_TRUE(made.ok()) << made.error().ToString();
    tier = std::move(*made);
    TreeOptions tree_options;
    tree_options.recurrent = setting.recurrent;
    tree_options.ladder_first = tree_options.rolling_tokens = tree_options.spare_tokens = 0;
    tree_options.announced = tree_options.observed = false;
    tree_options.demotion = tier.get();
    tree = std::make_unique<PrefixTree>(pool.get(), tree_options);
    promotions = std::make_unique<Promotions>(pool.get(), tree.get(), tier.get());
    tenant = tree->AddTenant({}).value();
    root = tree->OpenRoot(tenant, RootKey{}).value();
  }
  // Computes a prompt and keeps the state at its end; what it goes on from is compared.
  Match Run(const std::vector<Token>& tokens) { return RunAt(root, tokens); }
  Match RunAt(RootId at, const std::vector<Token>& tokens) {
    const LiveId live = tree->Announce(at, tokens, {});
    while (promotions->Begin(live, at)) {
      promotions->Wait();
      promotions->Poll();
      tree->Check();
    }
    promotions->Leave(live);
    Admission admission = tree->Admit(live);
    Compare(tokens, admission, pool->slots().stride() > 0);
    Compute(at, live, tokens, &admission);
    tree->Check();
    pool->Check();
    return admission.match;
  }
  // Until nothing of it is in memory.
  void Push(const std::vector<Token>& tokens, int first_text = 50) {
    for (int text = first_text; tree->Lookup(root, tokens).resident > 0; ++text) {
      ASSERT_LT(text, first_text + 50);
      Run(Text(text, 128));
    }
  }

  std::unique_ptr<FramePool> pool;
  std::unique_ptr<DiskTier> tier;
  std::unique_ptr<PrefixTree> tree;
  std::unique_ptr<Promotions> promotions;
  TenantId tenant = 0;
  RootId root = 0;

 private:
  void Compare(const std::vector<Token>& tokens, const Admission& admission, bool recurrent) {
    const std::span<const Token> text = tokens;
    const auto resume = static_cast<size_t>(admission.match.resume);
    for (size_t i = 0; i < admission.pages.size(); ++i) {
      const size_t end = (i + 1) * kTokensPerPage;
      if (end > resume) break;  // it holds what others wrote behind as well
      const Bytes want = Content(1, text.first(end), kPage);
      EXPECT_EQ(std::memcmp(pool->pages().data(admission.pages[i]), want.data(), kPage), 0) << i;
    }
    if (resume == 0 || !recurrent) return;
    const Bytes want = Content(2, text.first(resume), kSlot);
    EXPECT_EQ(std::memcmp(pool->slots().data(admission.match.slot), want.data(), kSlot), 0);
  }

  void Compute(RootId at, LiveId live, const std::vector<Token>& tokens, Admission* admission) {
    const std::span<const Token> text = tokens;
    const bool recurrent = pool->slots().stride() > 0;
    std::vector<PageId>& table = admission->pages;
    const auto full = static_cast<size_t>(admission->match.resume / kTokensPerPage);
    while (table.size() > full) {
      pool->pages().Unlease(table.back());
      table.pop_back();
    }
    if (admission->match.slot != kNoFrame) pool->slots().Unlease(admission->match.slot);
    const auto count = PageCount(static_cast<int64_t>(tokens.size()));
    ASSERT_TRUE(tree->MakeRoom(at, count - std::ssize(table), recurrent ? 1 : 0).ok());
    for (size_t i = full; i < static_cast<size_t>(count); ++i) {
      table.push_back(pool->pages().Take(tree->owner(at)));
      const size_t end = std::min(tokens.size(), (i + 1) * kTokensPerPage);
      std::memcpy(pool->pages().data(table.back()), Content(1, text.first(end), kPage).data(),
                  kPage);
    }
    SlotId slot = kNoFrame;
    if (recurrent) {
      slot = pool->slots().Take(tree->owner(at));
      std::memcpy(pool->slots().data(slot), Content(2, tokens, kSlot).data(), kSlot);
    }
    tree->AddSnapshot(live, std::ssize(tokens), slot, PointRole::kEnd, table);
    tree->Finish(live, FinishReason::kToolCall);  // its end is what comes next
    for (const PageId page : table) pool->pages().Unlease(page);
    if (slot != kNoFrame) pool->slots().Unlease(slot);
  }
};

class DiskTierTest : public ContextTest {
 protected:
  DiskTierOptions Options() {
    DiskTierOptions options;
    options.folder = folder_;
    options.budget_bytes = 1 << 20;
    options.buffer_bytes = 1 << 20;
    options.free_bytes_min = 0;
    options.model = DigestOf("model");
    options.numerics = DigestOf("numerics");
    options.seconds = [this] { return seconds_; };
    options.disk = &disk_;
    return options;
  }
  // Bytes of the files, as the system says.
  uint64_t FileBytes() const {
    uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      bytes += entry.file_size();
    }
    return bytes;
  }
  std::vector<std::string> Files(const std::string& ending) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      if (name.ends_with(ending)) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  double seconds_ = 1e9;
};

const std::vector<Token> kPrompt = Text(1, 300);
const std::vector<Token> kNext = kPrompt + Text(2, 20);

TEST_F(DiskTierTest, AnEvictedStateComesBackAsItWas) {
  World world(Options(), {});
  world.Run(kPrompt);
  world.Push(kPrompt);
  EXPECT_GT(world.tier->counts().demoted, 0);
  const Match before = world.tree->Lookup(world.root, kNext);
  EXPECT_EQ(before.resume, 0);
  EXPECT_EQ(before.disk_offset, 300);
  const Match match = world.Run(kNext);
  EXPECT_EQ(match.resume, 300);
  EXPECT_EQ(match.lost(), 0);
  EXPECT_EQ(world.tier->counts().promoted, 1);
  world.tier->Check();
  EXPECT_EQ(FileBytes(), world.tier->counts().bytes);
}

TEST_F(DiskTierTest, WhatIsInMemoryIsNotReadAgain) {
  World world(Options(), {});
  world.Run(kPrompt);
  world.Push(kPrompt);
  world.Run(kNext);
  const uint64_t first = world.tier->counts().read_bytes;
  EXPECT_EQ(first, 3 * kPage + kSlot);
  // Its state goes and its pages stay, for a deeper one needs them.
  TreeState& state = world.tree->state();
  for (const auto& [handle, node] : state.by_disk) {
    if (state.at(node).end == 300 && state.at(node).has_point) state.DropPoint(node);
  }
  ASSERT_EQ(world.tree->Lookup(world.root, kPrompt + Text(7, 5)).resident, 300);
  EXPECT_EQ(world.Run(kPrompt + Text(7, 5)).resume, 300);
  EXPECT_EQ(world.tier->counts().read_bytes - first, kSlot);
}

TEST_F(DiskTierTest, APageThatTwoPointsShareIsWrittenOnce) {
  World world(Options(), {.pages = 20, .slots = 2});
  world.Run(kPrompt);
  world.Run(kNext);
  world.Run(kPrompt + Text(3, 200));
  world.Push(kPrompt);
  world.tier->Check();
  EXPECT_GE(world.tier->counts().shared_pages, 2);  // the two full ones of kPrompt
  EXPECT_EQ(FileBytes(), world.tier->counts().bytes);
  EXPECT_EQ(world.Run(kNext + Text(4, 9)).resume, 320);
  EXPECT_EQ(world.Run(kPrompt + Text(3, 200) + Text(4, 9)).resume, 500);
}

TEST_F(DiskTierTest, APointWithoutAStateNeedsOnlyItsPages) {
  World world(Options(), {.pages = 6, .slots = 0, .recurrent = false});
  world.Run(kPrompt);
  world.Push(kPrompt);
  EXPECT_EQ(world.Run(kNext).resume, 300);
  world.tier->Check();
}

TEST_F(DiskTierTest, TheBudgetHoldsToTheByte) {
  DiskTierOptions options = Options();
  options.budget_bytes = 100000;
  World world(options, {});
  for (int i = 0; i < 40; ++i) {
    world.Run(Text(i % 9, 100 + 37 * (i % 7)) + Text(20 + i, 30));
    world.tier->Check();
    EXPECT_LE(FileBytes(), options.budget_bytes);
    EXPECT_EQ(FileBytes(), world.tier->counts().bytes);
  }
  EXPECT_GT(world.tier->counts().removed, 5);
}

TEST_F(DiskTierTest, WhatIsLargerThanTheBudgetIsRefused) {
  DiskTierOptions options = Options();
  options.budget_bytes = 10000;
  World world(options, {});
  world.Run(kPrompt);
  world.Push(kPrompt);
  EXPECT_EQ(world.tier->counts().records, 0);
  EXPECT_GT(world.tier->counts().refused_full, 0);
  EXPECT_EQ(world.Run(kNext).reason, Reason::kEvictedKv);
}

TEST_F(DiskTierTest, ADaysBytesHaveABoundAndTheNextDayHasItsOwn) {
  DiskTierOptions options = Options();
  options.bytes_per_day = 3 * (kPage + kSlot + 4096);
  World world(options, {});
  const auto work = [&](int first) {
    for (int i = 0; i < 12; ++i) world.Run(Text(first + i, 128));
    world.tier->Drain();
  };
  work(10);
  EXPECT_EQ(world.tier->counts().demoted, 3);
  EXPECT_GT(world.tier->counts().refused_today, 0);
  EXPECT_LE(world.tier->counts().bytes_today, options.bytes_per_day);
  seconds_ += 86399;
  work(30);
  EXPECT_EQ(world.tier->counts().demoted, 3);
  seconds_ += 1;
  work(50);
  EXPECT_EQ(world.tier->counts().demoted, 6);
  seconds_ -= 1e6;  // a clock that jumps back gives nothing
  work(70);
  EXPECT_EQ(world.tier->counts().demoted, 6);
}

TEST_F(DiskTierTest, AFullBufferRefusesInsteadOfWaiting) {
  DiskTierOptions options = Options();
  options.buffer_bytes = kPage;
  World world(options, {});
  world.Run(kPrompt);
  world.Push(kPrompt);
  EXPECT_GT(world.tier->counts().refused_busy, 0);
  EXPECT_EQ(world.tier->counts().records, 0);
  EXPECT_EQ(FileBytes(), 0u);
}

TEST_F(DiskTierTest, TheRingOfTheBufferGoesRound) {
  DiskTierOptions options = Options();
  options.buffer_bytes = 5 * kPage;
  World world(options, {});
  for (int i = 0; i < 60; ++i) {
    world.Run(Text(i % 11, 200) + Text(30 + i % 5, 10 + i));
    if (i % 3 == 0) world.tier->Drain();
  }
  EXPECT_GT(world.tier->counts().demoted, 10);
  EXPECT_GT(world.tier->counts().promoted, 0);
}

TEST_F(DiskTierTest, ADiskWithoutRoomIsLeftAlone) {
  disk_.free_bytes = 5000;
  World world(Options(), {});
  world.Run(kPrompt);
  world.Push(kPrompt);
  EXPECT_GT(world.tier->counts().refused_disk, 0);
  EXPECT_EQ(world.tier->counts().records, 0);
}

TEST_F(DiskTierTest, FailuresOfTheDiskCostOnlyTheRecordsTheyHit) {
  for (const auto fault : {FaultyDisk::Fault::kOnce, FaultyDisk::Fault::kForever,
                           FaultyDisk::Fault::kShort}) {
    for (const int number : {ENOSPC, EIO}) {
      for (int at = 1; at <= 12; ++at) {
        SCOPED_TRACE(std::to_string(static_cast<int>(fault)) + " " + std::to_string(at));
        std::filesystem::remove_all(folder_);
        disk_.fault = FaultyDisk::Fault::kNone;
        World world(Options(), {});
        disk_.calls = 0;
        disk_.at = at;
        disk_.error_number = number;
        disk_.fault = fault;
        world.Run(kPrompt);
        world.Push(kPrompt);
        world.Run(kNext);
        world.Push(kNext, 120);
        world.tier->Drain();
        if (fault == FaultyDisk::Fault::kForever) {
          EXPECT_GT(world.tier->counts().failed, 0);
        }
        disk_.fault = FaultyDisk::Fault::kNone;
        world.Run(kNext + Text(3, 30));
        world.tier->Drain();
      }
    }
  }
}

// Something happens to a file while its state is away.
class Damage : public DiskTierTest {
 protected:
  template <typename F>
  void Try(const F& damage, int64_t resume, Reason reason) {
    std::filesystem::remove_all(folder_);
    World world(Options(), {});
    world.Run(kPrompt);
    world.Push(kPrompt);
    world.tier->Drain();
    const Match away = world.tree->Lookup(world.root, kNext);
    ASSERT_EQ(away.disk_offset, 300);
    record_ = Format("%016llx", static_cast<unsigned long long>(away.disk_handle));
    damage();
    const Match match = world.Run(kNext);  // which compares all bits
    EXPECT_EQ(match.resume, resume);
    EXPECT_EQ(match.reason, reason);
    world.tier->Drain();
  }
  std::string State() const { return Path(record_ + ".state"); }
  std::string Pages() const { return Path(record_ + ".pages"); }
  static void Flip(const std::string& path, size_t at) {
    Bytes bytes = ReadBytes(path);
    bytes.at(at) ^= std::byte{16};
    WriteBytes(path, bytes);
  }

 private:
  std::string record_;  // its files' name
};

TEST_F(Damage, IsFoundAndNamedAndNeverBelieved) {
  for (const size_t at : {size_t{4096}, size_t{4096 + kSlot / 2}, size_t{4096 + kSlot - 1}}) {
    Try([&] { Flip(State(), at); }, 0, Reason::kCorruptRecord);
  }
  for (const size_t at : {size_t{0}, size_t{kPage}, size_t{3 * kPage - 1}}) {
    Try([&] { Flip(Pages(), at); }, 0, Reason::kCorruptRecord);
  }
  const auto shorten = [](const std::string& path, uint64_t by) {
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - by);
  };
  Try([&] { shorten(State(), 1); }, 0, Reason::kCorruptRecord);
  Try([&] { shorten(Pages(), 1); }, 0, Reason::kCorruptRecord);
  Try([&] { shorten(Pages(), kPage); }, 0, Reason::kCorruptRecord);
  Try([&] { std::filesystem::resize_file(State(), 0); }, 0, Reason::kCorruptRecord);
  Try([&] { std::filesystem::remove(State()); }, 0, Reason::kCorruptRecord);
  Try([&] { std::filesystem::remove(Pages()); }, 0, Reason::kCorruptRecord);
  // Memory has its own copy of the head.
  Try([&] { Flip(State(), 8); }, 300, Reason::kComplete);
  Try([] {}, 300, Reason::kComplete);
}

TEST_F(DiskTierTest, TwoRootsNeverShareAByte) {
  World world(Options(), {.pages = 9, .slots = 2});
  RootKey key{};
  key[0] = std::byte{1};
  const RootId salted = world.tree->OpenRoot(world.tenant, key).value();
  const TenantId other = world.tree->AddTenant({}).value();
  const RootId foreign = world.tree->OpenRoot(other, RootKey{}).value();
  const RootId roots[] = {world.root, salted, foreign};
  for (const RootId root : roots) {
    EXPECT_EQ(world.RunAt(root, kPrompt).known, 0);
    world.Push(kPrompt);
    for (const RootId mine : roots) {
      if (mine > root) {
        EXPECT_EQ(world.tree->Lookup(mine, kPrompt).disk_offset, 0);
      }
    }
  }
  EXPECT_EQ(world.tier->counts().shared_pages, 0);
  world.tier->Check();
}

TEST_F(DiskTierTest, ARootThatIsDroppedLeavesNothingOnDisk) {
  World world(Options(), {});
  world.Run(kPrompt);
  world.Push(kPrompt);
  world.tree->DropRoot(world.root);
  world.tier->Check();
  EXPECT_EQ(world.tier->counts().records, 0);
  EXPECT_EQ(FileBytes(), 0u);
}

TEST_F(DiskTierTest, TheNextRunFindsWhatThisOneLeft) {
  {
    World world(Options(), {});
    world.Run(kNext);
    world.Run(kPrompt + Text(3, 200));
    world.Push(kPrompt);
  }
  {
    World world(Options(), {});
    EXPECT_GE(world.tier->counts().found, 2);
    EXPECT_GT(world.tier->counts().bytes_today, 0u);
    world.tree->Check();
    world.tier->Check();
    EXPECT_EQ(FileBytes(), world.tier->counts().bytes);
    EXPECT_EQ(world.Run(kNext + Text(3, 8)).resume, 320);
    EXPECT_EQ(world.Run(kPrompt + Text(3, 200) + Text(4, 8)).resume, 500);
    const int64_t shared = world.tier->counts().shared_pages;
    world.Push(kPrompt);  // pages of an earlier run are shared as well
    EXPECT_GT(world.tier->counts().shared_pages, shared);
  }
  DiskTierOptions options = Options();
  options.model = DigestOf("another");
  World world(options, {});
  EXPECT_GE(world.tier->counts().found, 2);
  EXPECT_EQ(world.Run(kNext).known, 0);
}

TEST_F(DiskTierTest, WhatAnotherModelLeftGoesFirst) {
  {
    World world(Options(), {});
    world.Run(kPrompt);
    world.Push(kPrompt);
  }
  DiskTierOptions options = Options();
  options.model = DigestOf("another");
  options.budget_bytes = FileBytes() + 1000;
  World world(options, {});
  world.Run(Text(9, 400));
  world.Push(Text(9, 400), 10);
  world.tier->Check();
  EXPECT_EQ(FileBytes(), world.tier->counts().bytes);
  EXPECT_EQ(world.Run(Text(9, 400) + Text(1, 3)).resume, 400);
}

TEST_F(DiskTierTest, ASmallerBudgetAtTheStartIsKept) {
  {
    World world(Options(), {});
    for (int i = 0; i < 12; ++i) world.Run(Text(i, 200));
  }
  const uint64_t before = FileBytes();
  DiskTierOptions options = Options();
  options.budget_bytes = before / 2;
  World world(options, {});
  world.tier->Check();
  EXPECT_LE(FileBytes(), options.budget_bytes);
  EXPECT_GT(world.tier->counts().found, world.tier->counts().records);
  world.tree->Check();
}

TEST_F(DiskTierTest, TheStartSurvivesEveryDamagedFile) {
  {
    World world(Options(), {});
    world.Run(kNext);
    world.Run(kPrompt + Text(3, 200));
    world.Push(kPrompt);
  }
  std::mt19937 random(1);
  const std::string keep = folder_ + "-keep";
  std::filesystem::remove_all(keep);
  std::filesystem::copy(folder_, keep);
  for (int i = 0; i < 150; ++i) {
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(keep, folder_);
    for (int j = 0; j < 3; ++j) {
      const auto names = Files(random() % 2 == 0 ? ".state" : ".pages");
      if (names.empty()) continue;
      const std::string path = Path(names[random() % names.size()]);
      const uint64_t size = std::filesystem::file_size(path);
      switch (random() % 4) {
        case 0:
          std::filesystem::resize_file(path, random() % (size + 1));
          break;
        case 1:
          std::filesystem::remove(path);
          break;
        default:
          if (size > 0) {
            Bytes bytes = ReadBytes(path);
            bytes[random() % std::min<uint64_t>(size, 512)] ^= std::byte{1};
            WriteBytes(path, bytes);
          }
      }
    }
    WriteBytes(Path("0000000000000000.state"), Bytes(10));
    WriteBytes(Path("zz"), Bytes(10));
    World world(Options(), {});
    world.tree->Check();
    world.Run(kNext + Text(3, 8));
    world.Run(kPrompt + Text(3, 200) + Text(4, 8));
    world.tier->Drain();
  }
  std::filesystem::remove_all(keep);
}

TEST_F(DiskTierTest, ASecondProcessInTheSameFolderIsRefused) {
  const World world(Options(), {});
  EXPECT_FALSE(DiskTier::Make(world.pool.get(), Options()).ok());
}

TEST_F(DiskTierTest, ARequestThatLeavesWhileItsStateIsReadHarmsNobody) {
  World world(Options(), {});
  world.Run(kPrompt);
  world.Push(kPrompt);
  const LiveId live = world.tree->Announce(world.root, kNext, {});
  ASSERT_TRUE(world.promotions->Begin(live, world.root));
  EXPECT_TRUE(world.promotions->Waiting(live));
  const LiveId second = world.tree->Announce(world.root, kPrompt + Text(5, 5), {});
  EXPECT_TRUE(world.promotions->Waiting(second));  // the same record serves both
  world.promotions->Leave(live);
  world.tree->Finish(live, FinishReason::kCancelled);
  world.promotions->Wait();
  world.promotions->Poll();
  EXPECT_FALSE(world.promotions->Waiting(second));
  world.promotions->Leave(second);
  world.tree->Finish(second, FinishReason::kCancelled);
  world.tree->Check();
  world.pool->Check();
  EXPECT_EQ(world.pool->leased(), 0u);
  EXPECT_EQ(world.Run(kNext).resume, 300);
}

// Random texts that share beginnings, in little memory over a small disk that fails now and then.
TEST_F(DiskTierTest, RandomLoadsNeverSeeAWrongBit) {
  int64_t promoted = 0, removed = 0, failed = 0;
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    std::filesystem::remove_all(folder_);
    std::mt19937 random(seed);
    DiskTierOptions options = Options();
    options.budget_bytes = 60000 + random() % 200000;
    options.buffer_bytes = 30000 + random() % 100000;
    for (int run = 0; run < 2; ++run) {
      disk_.fault = FaultyDisk::Fault::kNone;
      World world(options, {.pages = 10 + static_cast<int64_t>(random() % 8),
                            .slots = 2 + static_cast<int64_t>(random() % 3)});
      for (int i = 0; i < 60; ++i) {
        disk_.calls = 0;
        disk_.at = 2;
        disk_.fault = random() % 8 == 0 ? FaultyDisk::Fault::kOnce : FaultyDisk::Fault::kNone;
        const auto base = static_cast<int>(random() % 4);
        world.Run(Text(base, 60 + 60 * static_cast<int64_t>(random() % 8)) +
                  Text(10 + static_cast<int>(random() % 3), 1 + random() % 150));
        if (random() % 4 == 0) world.tier->Drain();
        EXPECT_LE(world.tier->counts().bytes, options.budget_bytes);
      }
      promoted += world.tier->counts().promoted;
      removed += world.tier->counts().removed;
      failed += world.tier->counts().failed;
      EXPECT_EQ(world.tier->counts().damaged, 0);
    }
  }
  EXPECT_GT(promoted, 30);
  EXPECT_GT(removed, 50);
  EXPECT_GT(failed, 5);
}

}  // namespace
}  // namespace lode::runtime
