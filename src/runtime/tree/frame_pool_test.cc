#include "runtime/tree/frame_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace lode::runtime {
namespace {

std::unique_ptr<FramePool> Pool(uint64_t page, uint64_t slot, uint64_t budget, bool memory) {
  FramePoolOptions options;
  options.page_bytes = page;
  options.slot_bytes = slot;
  options.budget_bytes = budget;
  options.with_memory = memory;
  auto pool = FramePool::Make(options);
  EXPECT_TRUE(pool.ok());
  return std::move(pool).value();
}

TEST(FramePool, BytesOfBothKindsShareOneBudgetToTheByte) {
  auto pool = Pool(100, 1000, 2050, false);
  const OwnerId owner = pool->AddOwner(3);
  const SlotId a = pool->slots().Take(owner);
  const SlotId b = pool->slots().Take(owner);
  EXPECT_NE(b, kNoFrame);
  EXPECT_EQ(pool->slots().Take(owner), kNoFrame);
  EXPECT_EQ(pool->pages().Take(owner), kNoFrame) << "50 bytes are left";
  EXPECT_EQ(pool->used(), 2000u);
  EXPECT_EQ(pool->used_by_group(3), 2000u);
  pool->slots().Unlease(a);
  EXPECT_EQ(pool->committed(), 2000u) << "free, but not given back yet";
  for (int i = 0; i < 10; ++i) EXPECT_NE(pool->pages().Take(owner), kNoFrame);
  EXPECT_EQ(pool->pages().Take(owner), kNoFrame);
  EXPECT_EQ(pool->committed(), 2000u) << "the free slot's bytes became pages";
  EXPECT_EQ(pool->slots().committed_frames(), 1);
  pool->Check();
}

TEST(FramePool, AFrameIsFreeWhenNeitherLeasedNorHeld) {
  auto pool = Pool(100, 1000, 5000, false);
  const OwnerId owner = pool->AddOwner(0);
  const PageId page = pool->pages().Take(owner);
  EXPECT_EQ(pool->pages().leased_frames(), 1);
  pool->pages().Hold(page);
  pool->pages().Lease(page);
  pool->pages().Unlease(page);
  EXPECT_EQ(pool->pages().leased_frames(), 1);
  pool->pages().Unlease(page);
  EXPECT_EQ(pool->pages().leased_frames(), 0);
  EXPECT_EQ(pool->pages().cached_frames(), 1);
  EXPECT_EQ(pool->used(), 100u);
  pool->pages().Unhold(page);
  EXPECT_EQ(pool->pages().free_frames(), 1);
  EXPECT_EQ(pool->used(), 0u);
  pool->Check();
}

TEST(FramePool, ABudgetThatHoldsNoStateIsRefusedWithTheSum) {
  FramePoolOptions options;
  options.page_bytes = 100;
  options.slot_bytes = 1000;
  options.budget_bytes = 1099;
  options.with_memory = false;
  auto pool = FramePool::Make(options);
  ASSERT_FALSE(pool.ok());
  EXPECT_EQ(pool.error().code(), Code::kNoSpace);
  EXPECT_NE(pool.error().message().find("1100"), std::string::npos);
}

TEST(FramePool, BytesAreZeroedBeforeTheyChangeOwner) {
  auto pool = Pool(5000, 70000, 90000, true);
  const OwnerId mine = pool->AddOwner(0);
  const SlotId slot = pool->slots().Take(mine);
  std::memset(pool->slots().data(slot), 7, 70000);
  pool->slots().Unlease(slot);
  OwnerId other = pool->AddOwner(0);
  const SlotId again = pool->slots().Take(other);
  ASSERT_EQ(again, slot) << "there is room for one only";
  for (int i = 0; i < 70000; ++i) ASSERT_EQ(pool->slots().data(again)[i], std::byte{0});
  std::memset(pool->slots().data(again), 9, 70000);
  pool->slots().Unlease(again);
  // The same id, but another identity.
  pool->RemoveOwner(other);
  other = pool->AddOwner(0);
  const SlotId third = pool->slots().Take(other);
  EXPECT_EQ(pool->slots().data(third)[69999], std::byte{0});
  pool->slots().Unlease(third);
  pool->Check();
}

TEST(FramePool, ZeroedPagesAreZeroForTheirOwnerToo) {
  auto pool = Pool(5000, 5000, 8192 * 2, true);
  const OwnerId owner = pool->AddOwner(0);
  const PageId page = pool->pages().Take(owner);
  std::memset(pool->pages().data(page), 7, 5000);
  pool->pages().Unlease(page);
  const PageId again = pool->pages().Take(owner, true);
  ASSERT_EQ(again, page);
  EXPECT_EQ(pool->pages().data(again)[4999], std::byte{0});
  pool->pages().Unlease(again);
}

TEST(FramePool, LargeSlotsLieOnHugePages) {
  const uint64_t unit = uint64_t{2} << 20;
  auto pool = Pool(4096, 47 * (unit / 2), 60 * unit, true);
  const OwnerId owner = pool->AddOwner(0);
  for (int i = 0; i < 2; ++i) {
    const SlotId slot = pool->slots().Take(owner);
    ASSERT_NE(slot, kNoFrame);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(pool->slots().data(slot)) % unit, 0u);
    EXPECT_EQ(pool->slots().stride(), 24 * unit);
    pool->slots().data(slot)[47 * (unit / 2) - 1] = std::byte{1};
  }
  EXPECT_EQ(pool->slots().Take(owner), kNoFrame);
}

TEST(FramePool, AFullPoolOfPagesTurnsIntoSlotsAndBackUnderRandomUse) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    auto pool = Pool(4096, 4096 * 5, 4096 * 64, seed % 2 == 0);
    const OwnerId owners[] = {pool->AddOwner(0), pool->AddOwner(1)};
    std::vector<std::pair<FrameArena*, uint32_t>> taken;
    for (int step = 0; step < 2000; ++step) {
      FrameArena* arena = random() % 2 == 0 ? &pool->pages() : &pool->slots();
      if (random() % 100 < (step / 200 % 2 == 0 ? 60 : 40)) {
        const bool slot = arena == &pool->slots();
        const bool can = pool->CanTake(slot ? 0 : 1, slot ? 1 : 0);
        const uint32_t id = arena->Take(owners[random() % 2]);
        ASSERT_EQ(can, id != kNoFrame);
        if (can) taken.emplace_back(arena, id);
      } else if (!taken.empty()) {
        std::swap(taken[random() % taken.size()], taken.back());
        taken.back().first->Unlease(taken.back().second);
        taken.pop_back();
      }
      pool->Check();
    }
  }
}

}  // namespace
}  // namespace lode::runtime
