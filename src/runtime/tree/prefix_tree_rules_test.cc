// R1-R10 of what stays and what goes; where states are taken; who waits for whom.
#include <gtest/gtest.h>

#include "runtime/tree/fake_sequences.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::runtime {
namespace {

using World = FakeWorld;
const auto Text = FakeWorld::Text;
constexpr uint64_t kPage = FakeWorld::kPage;
constexpr uint64_t kSlot = FakeWorld::kSlot;

int64_t Resume(const World& world, const std::vector<Token>& prompt) {
  return world.tree->Lookup(world.root, prompt + Text(99, 2)).resume;
}

TEST(Rules, R1PagesWithoutAPointBehindThemGoAtOnce) {
  World world;
  world.Run(Text(1, 1000));
  EXPECT_EQ(world.pool->used(), 0u);
  world.Run(Text(2, 1000), {{200, PointRole::kSystem}});
  EXPECT_EQ(world.pool->used(), kSlot + 2 * kPage);
}

TEST(Rules, R3AnInteriorPointFreesItsStateOnlyTheDeepestItsPagesToo) {
  World world;
  world.Run(Text(1, 1280), {{256, PointRole::kSystem},
                            {640, PointRole::kTurn},
                            {1280, PointRole::kHint}});
  EXPECT_EQ(world.pool->used(), 3 * kSlot + 10 * kPage);
  // The interior one at 640 is worth least: an old turn, near to the one above.
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, (1 << 20) / kSlot - 4).ok());
  world.tree->Check();
  EXPECT_EQ(world.pool->used(), 2 * kSlot + 10 * kPage);
  EXPECT_EQ(Resume(world, Text(1, 1280)), 1280);
  EXPECT_EQ(Resume(world, Text(1, 1000)), 256);
  // With the one at 256 reused, the deepest goes: its pages down to the next point above too.
  for (int i = 0; i < 3; ++i) world.Run(Text(1, 256) + Text(2 + i, 10));
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, (1 << 20) / kSlot - 3).ok());
  world.tree->Check();
  EXPECT_EQ(world.pool->used(), kSlot + 2 * kPage);
  EXPECT_EQ(Resume(world, Text(1, 1280)), 256);
}

TEST(Rules, R4AndR5TheCheapestToLosePerByteGoesNotTheOldest) {
  TreeOptions options = World::Quiet();
  options.cost.per_token_squared = 1e-3;
  World world(64 * kSlot, options);
  world.Run(Text(1, 4096), {{4096, PointRole::kHint}});  // the oldest, and the dearest
  world.Run(Text(2, 256), {{256, PointRole::kHint}});
  world.Run(Text(3, 2048), {{2048, PointRole::kHint}});
  const auto used = world.pool->used();
  const int64_t free_slots = static_cast<int64_t>((64 * kSlot - used) / kSlot);
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, free_slots + 1).ok());
  EXPECT_EQ(Resume(world, Text(2, 256)), 0);
  EXPECT_EQ(Resume(world, Text(1, 4096)), 4096);
  EXPECT_EQ(Resume(world, Text(3, 2048)), 2048);
}

TEST(Rules, R5WhatIsNotTouchedAgesOut) {
  World world(40 * kSlot);
  // A large prompt that nobody asks for again, against small ones that come back.
  world.Run(Text(1, 6000), {{6000, PointRole::kHint}});
  int round = 0;
  while (Resume(world, Text(1, 6000)) > 0 && round < 200) {
    for (int again = 0; again < 2; ++again) {
      world.Run(Text(100 + round, 1000) + Text(50 + again, 10), {{1000, PointRole::kHint}});
    }
    ++round;
  }
  EXPECT_LT(round, 200);
  EXPECT_GT(round, 10) << "but not as if it were the least recently used";
}

TEST(Rules, R6TheFinishReasonSaysWhatIsHot) {
  const std::vector<Probe> probes = {{800, PointRole::kNextUser}, {990, PointRole::kNextTool}};
  const auto classes = [&](FinishReason reason) {
    World world;
    world.Run(Text(1, 1000), probes, Text(2, 50), reason, true);
    return world.tree->counts().points_by_class;
  };
  const auto count = [](const auto& classes, PointClass point_class) {
    return classes[static_cast<size_t>(point_class)];
  };
  const auto stop = classes(FinishReason::kStop);
  EXPECT_EQ(count(stop, PointClass::kHot), 1);   // next user
  EXPECT_EQ(count(stop, PointClass::kCold), 2);  // tool, end
  const auto tool = classes(FinishReason::kToolCall);
  EXPECT_EQ(count(tool, PointClass::kHot), 1);   // end
  EXPECT_EQ(count(tool, PointClass::kWarm), 2);  // both others
}

TEST(Rules, R6APointWhoseConversationWentOnIsOld) {
  World world;
  world.Run(Text(1, 1000), {{1000, PointRole::kNextUser}});
  world.Run(Text(1, 1000) + Text(2, 500), {{1500, PointRole::kNextUser}});
  const auto classes = world.tree->counts().points_by_class;
  EXPECT_EQ(classes[static_cast<size_t>(PointClass::kHot)], 1);
  EXPECT_EQ(classes[static_cast<size_t>(PointClass::kOld)], 1);
}

TEST(Rules, R7LeasedAndPinnedPointsStayAndQuotasAreRefusedWhenAskedFor) {
  World world(20 * kSlot);
  world.Run(Text(1, 1280), {{1280, PointRole::kHint}});
  auto pinned = world.tree->Pin(world.root, Text(1, 1280), 1280);
  ASSERT_TRUE(pinned.ok());
  EXPECT_EQ(pinned->bytes, kSlot + 10 * kPage);
  EXPECT_EQ(world.tree->pinned_bytes(world.tenant), kSlot + 10 * kPage);
  auto again = world.tree->Pin(world.root, Text(1, 1280), 2000);
  EXPECT_EQ(again->bytes, 0u);
  auto room = world.tree->MakeRoom(world.root, 0, 20);
  ASSERT_FALSE(room.ok());
  EXPECT_EQ(room.error().code(), Code::kNoSpace);
  EXPECT_EQ(Resume(world, Text(1, 1280)), 1280);
  world.tree->Unpin(pinned->pin);
  world.tree->Check();
  EXPECT_FALSE(world.tree->MakeRoom(world.root, 0, 20).ok()) << "the second pin holds";
  world.tree->Unpin(again->pin);
  EXPECT_TRUE(world.tree->MakeRoom(world.root, 0, 20).ok());
  world.tree->Check();
  EXPECT_FALSE(world.tree->Pin(world.root, Text(1, 1280), 1280).ok()) << "nothing is there";

  TenantOptions small;
  small.pin_bytes_max = 2 * kSlot;
  const TenantId tenant = world.tree->AddTenant(small).value();
  const RootId root = world.tree->OpenRoot(tenant, RootKey{}).value();
  world.RunAt(root, Text(1, 1280), {{128, PointRole::kHint}, {1280, PointRole::kHint}});
  auto refused = world.tree->Pin(root, Text(1, 1280), 1280);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kNoSpace);
  EXPECT_TRUE(world.tree->Pin(root, Text(1, 1280), 500).ok()) << "the one at 128 fits";
}

TEST(Rules, R7WhatIsBeingReadOrSavedIsNoVictim) {
  World world(20 * kSlot);
  world.Run(Text(1, 640), {{640, PointRole::kTurn}});
  world.Run(Text(2, 1280), {{1280, PointRole::kHint}});
  const auto saved = world.tree->LeaseAt(world.root, Text(1, 640));
  ASSERT_TRUE(saved.has_value());
  EXPECT_EQ(saved->pages.size(), 5u);
  EXPECT_FALSE(world.tree->LeaseAt(world.root, Text(1, 639)).has_value());
  EXPECT_FALSE(world.tree->MakeRoom(world.root, 0, 20).ok());
  EXPECT_EQ(Resume(world, Text(1, 640)), 640);
  EXPECT_EQ(Resume(world, Text(2, 1280)), 0) << "the dearer one had to go instead";
  for (const PageId page : saved->pages) world.pool->pages().Unlease(page);
  world.pool->slots().Unlease(saved->slot);
  EXPECT_TRUE(world.tree->MakeRoom(world.root, 0, 20).ok());
  world.tree->Check();
}

struct Disk : DemotionHook {
  uint64_t Demote(const Demotion& demotion) override {
    records.push_back({demotion.offset, demotion.point_class});
    LODE_CHECK(static_cast<int64_t>(demotion.tokens.size()) == demotion.offset);
    LODE_CHECK(demotion.pages.size() == static_cast<size_t>((demotion.offset + 127) / 128));
    return records.size();
  }
  void Forget(uint64_t) override { ++forgotten; }
  std::vector<std::pair<int64_t, PointClass>> records;
  int forgotten = 0;
};

TEST(Rules, R8WarmPointsThatAreDearGoToDiskAndComeBack) {
  Disk disk;
  TreeOptions options = World::Quiet();
  options.cost.per_token = 0.01;
  options.disk_bytes_per_second = 1e6;
  options.demotion = &disk;
  World world(20 * kSlot, options);
  world.Run(Text(1, 1000), {{900, PointRole::kNextUser}});
  world.Run(Text(2, 1000), {{900, PointRole::kTurn}});  // not warm
  world.Run(Text(3, 4), {{3, PointRole::kHint}});       // hot, but cheap to compute
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, 20).ok());
  world.tree->Check();
  ASSERT_EQ(disk.records.size(), 1u);
  EXPECT_EQ(disk.records[0].first, 900);
  const Match match = world.tree->Lookup(world.root, Text(1, 1000));
  EXPECT_EQ(match.resume, 0);
  EXPECT_EQ(match.disk_offset, 900);
  EXPECT_EQ(match.disk_handle, 1u);
  // Read back for a queued request, before it is admitted.
  FakeSequence s = world.engine->Announce(world.root, Text(1, 1000));
  std::vector<PageId> table;
  const OwnerId owner = world.tree->owner(world.root);
  for (int i = 0; i < 8; ++i) table.push_back(world.pool->pages().Take(owner));
  const SlotId slot = world.pool->slots().Take(owner);
  world.tree->AddSnapshot(s.live, 900, slot, PointRole::kNextUser, table);
  for (const PageId page : table) world.pool->pages().Unlease(page);
  world.pool->slots().Unlease(slot);
  world.tree->Check();
  EXPECT_EQ(world.tree->Advise(s.live).match.resume, 900);
  world.tree->Finish(s.live, FinishReason::kCancelled);
  // It is still on disk: no second writing.
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, 20).ok());
  EXPECT_EQ(disk.records.size(), 1u);
  world.tree->ForgetDisk(1, true);
  world.tree->Check();
  EXPECT_EQ(world.tree->Lookup(world.root, Text(1, 1000)).reason, Reason::kCorruptRecord);
}

TEST(Rules, R8PagesThatAreStillHereNeedNotBeReadAgain) {
  World world(20 * kSlot);
  world.Run(Text(1, 1000), {{600, PointRole::kHint}});
  FakeSequence s = world.engine->Announce(world.root, Text(1, 1000));
  std::vector<PageId> table = world.tree->LeasePages(s.live);
  ASSERT_EQ(table.size(), 5u);
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, 19).ok());  // meanwhile the state went
  EXPECT_EQ(world.tree->Advise(s.live).match.resident, 0);
  const OwnerId owner = world.tree->owner(world.root);
  world.pool->pages().Unlease(table.back());  // it was not full: that page is read
  table.pop_back();
  while (table.size() < 8) table.push_back(world.pool->pages().Take(owner));
  const SlotId slot = world.pool->slots().Take(owner);
  world.tree->AddSnapshot(s.live, 900, slot, PointRole::kNextUser, table);
  world.tree->Check();
  EXPECT_EQ(world.tree->Advise(s.live).match.resume, 900);
}

TEST(Rules, R9NobodyIsFlushedBelowTheShare) {
  World world(40 * kSlot);
  const TenantId flood = world.tree->AddTenant({}).value();
  const RootId root = world.tree->OpenRoot(flood, RootKey{}).value();
  for (int i = 0; i < 6; ++i) world.Run(Text(i, 1024), {{1024, PointRole::kTurn}});
  EXPECT_LT(world.tree->used_bytes(world.tenant), world.tree->share_bytes(world.tenant));
  for (int i = 0; i < 100; ++i) {
    world.RunAt(root, Text(i, 2048), {{2048, PointRole::kHint}});  // dearer, all of them
  }
  for (int i = 0; i < 6; ++i) EXPECT_EQ(Resume(world, Text(i, 1024)), 1024);
  EXPECT_GT(world.tree->used_bytes(flood), world.tree->share_bytes(flood)) << "idle room is used";
}

TEST(Rules, R10GhostsRememberAndAreBounded) {
  TreeOptions options = World::Quiet();
  options.ghost_tokens_max = 5000;
  World world(12 * kSlot, options);
  world.Run(Text(1, 1000), {{1000, PointRole::kHint}});
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, 12).ok());
  EXPECT_EQ(world.pool->used(), 0u);
  const Match match = world.tree->Lookup(world.root, Text(1, 700) + Text(2, 20));
  EXPECT_EQ(match.known, 700);
  EXPECT_EQ(match.divergence, 700);
  for (int i = 10; i < 60; ++i) {
    world.Run(Text(i, 900));
    EXPECT_LE(world.tree->counts().ghost_tokens, 5000);
  }
  EXPECT_EQ(world.tree->Lookup(world.root, Text(1, 700)).known, 0) << "the oldest is forgotten";
  EXPECT_EQ(world.tree->Lookup(world.root, Text(59, 700)).known, 699);
}

TEST(Taps, AnnouncedPromptsCostOnePrefillWhereverTheyPart) {
  World world(200 * kSlot);
  std::vector<FakeSequence> agents;
  for (int i = 0; i < 16; ++i) {
    agents.push_back(world.engine->Announce(world.root, Text(1, 3000) + Text(10 + i, 100)));
  }
  int64_t computed = 0;
  std::vector<FakeSequence*> waiting;
  for (FakeSequence& agent : agents) {
    const Advice advice = world.tree->Advise(agent.live);
    if (&agent == &agents[0]) {
      EXPECT_EQ(advice.leader, kNone);
      ASSERT_TRUE(world.engine->Admit(&agent));
    } else {
      EXPECT_EQ(advice.leader, agents[0].live);
      EXPECT_EQ(advice.wait_for, 3000);
      waiting.push_back(&agent);
    }
  }
  EXPECT_EQ(world.tree->NextTap(agents[0].live, 0)->offset, 3000);
  EXPECT_EQ(world.tree->NextTap(agents[0].live, 0)->role, PointRole::kDiverge);
  ASSERT_TRUE(world.engine->RunTo(&agents[0], 2900));
  EXPECT_EQ(world.tree->Advise(waiting[0]->live).leader, agents[0].live);
  ASSERT_TRUE(world.engine->RunTo(&agents[0], 3100));
  computed += 3100;
  for (FakeSequence* agent : waiting) {
    EXPECT_EQ(world.tree->Advise(agent->live).leader, kNone);
    ASSERT_TRUE(world.engine->Admit(agent));
    computed += agent->match.computed();
    ASSERT_TRUE(world.engine->RunTo(agent, 3100));
    world.tree->Check();
  }
  EXPECT_EQ(computed, 3000 + 16 * 100);
  for (FakeSequence& agent : agents) world.engine->Finish(&agent, FinishReason::kStop);
  world.tree->Check();
}

TEST(Taps, ACancelledLeaderSetsItsFollowersFree) {
  World world;
  FakeSequence leader = world.engine->Announce(world.root, Text(1, 3000) + Text(2, 10));
  FakeSequence follower = world.engine->Announce(world.root, Text(1, 3000) + Text(3, 10));
  ASSERT_TRUE(world.engine->Admit(&leader));
  ASSERT_TRUE(world.engine->RunTo(&leader, 1000));
  EXPECT_EQ(world.tree->Advise(follower.live).leader, leader.live);
  world.engine->Finish(&leader, FinishReason::kCancelled, true);
  world.tree->Check();
  const Advice advice = world.tree->Advise(follower.live);
  EXPECT_EQ(advice.leader, kNone);
  EXPECT_EQ(advice.match.resume, 1000) << "what the leader had done is there";
}

TEST(Taps, NobodyWaitsForALeaderThatIsPastThePlace) {
  World world;
  FakeSequence leader = world.engine->Announce(world.root, Text(1, 3000) + Text(2, 100));
  ASSERT_TRUE(world.engine->Admit(&leader));
  ASSERT_TRUE(world.engine->RunTo(&leader, 3000));
  FakeSequence late = world.engine->Announce(world.root, Text(1, 3000) + Text(3, 10));
  EXPECT_EQ(world.tree->Advise(late.live).leader, kNone);
  EXPECT_EQ(world.tree->Advise(late.live).match.resume, 0) << "no state was left there";
}

TEST(Taps, ASparePointNearbyDoesNotStandForAParting) {
  TreeOptions options = World::Quiet();
  options.spare_tokens = 512;
  World world(200 * kSlot, options);
  FakeSequence leader = world.engine->Announce(world.root, Text(1, 540) + Text(2, 100));
  FakeSequence follower = world.engine->Announce(world.root, Text(1, 540) + Text(3, 100));
  ASSERT_TRUE(world.engine->Admit(&leader));
  ASSERT_TRUE(world.engine->RunTo(&leader, 512));
  EXPECT_EQ(world.tree->counts().points, 1);
  EXPECT_EQ(world.tree->NextTap(leader.live, 512)->offset, 540);
  EXPECT_EQ(world.tree->Advise(follower.live).leader, kNone) << "for 28 tokens nobody waits";
  ASSERT_TRUE(world.engine->RunTo(&leader, 600));
  EXPECT_EQ(world.tree->Advise(follower.live).match.resume, 540);
}

TEST(Taps, IdenticalPromptsShareAllButTheLastToken) {
  World world;
  FakeSequence leader = world.engine->Announce(world.root, Text(1, 1000));
  FakeSequence follower = world.engine->Announce(world.root, Text(1, 1000));
  ASSERT_TRUE(world.engine->Admit(&leader));
  EXPECT_EQ(world.tree->Advise(follower.live).wait_for, 999);
  ASSERT_TRUE(world.engine->RunTo(&leader, 1000));
  ASSERT_TRUE(world.engine->Admit(&follower));
  EXPECT_EQ(follower.resume, 999);
}

TEST(Taps, TheSecondRequestPaysForADivergenceTheThirdIsCheap) {
  World world;
  EXPECT_EQ(world.Run(Text(1, 2000) + Text(2, 50)).resume, 0);
  EXPECT_EQ(world.Run(Text(1, 2000) + Text(3, 50)).resume, 0);
  EXPECT_EQ(world.Run(Text(1, 2000) + Text(4, 50)).resume, 2000);
  // Nearer than 64 tokens to what is there it is not worth a state.
  const int64_t points = world.tree->counts().points;
  world.Run(Text(1, 2000) + Text(4, 30) + Text(5, 50));
  EXPECT_EQ(world.tree->counts().points, points);
}

TEST(Taps, AnEvictedDivergenceIsHealedByWhoComesByNext) {
  World world(20 * kSlot);
  world.Run(Text(1, 2000) + Text(2, 50));
  world.Run(Text(1, 2000) + Text(3, 50));
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, 20).ok());
  EXPECT_EQ(world.Run(Text(1, 2000) + Text(3, 50) + Text(4, 50)).resume, 0);
  EXPECT_EQ(world.Run(Text(1, 2000) + Text(5, 50)).resume, 2000);
}

TEST(Taps, LadderRollingAndSparePointsHaveTheirPlaces) {
  TreeOptions options;
  options.ladder_first = 1024;
  options.rolling_tokens = 700;
  options.spare_tokens = 0;
  World world(100 * kSlot, options);
  FakeSequence s = world.engine->Announce(world.root, Text(1, 5000));
  ASSERT_TRUE(world.engine->Admit(&s));
  std::vector<std::pair<int64_t, PointRole>> taps;
  for (const Tap& tap : world.tree->Plan(s.live, 0)) taps.emplace_back(tap.offset, tap.role);
  using enum PointRole;
  const std::vector<std::pair<int64_t, PointRole>> expected = {
      {700, kRolling},  {1024, kLadder},  {1400, kRolling}, {2048, kLadder}, {2100, kRolling},
      {2800, kRolling}, {3500, kRolling}, {4096, kLadder},  {4200, kRolling}, {4900, kRolling}};
  EXPECT_EQ(taps, expected);
  ASSERT_TRUE(world.engine->RunTo(&s, 4999));
  EXPECT_EQ(world.tree->counts().points, 4) << "three rungs and one rolling point";
  world.tree->Check();
  ASSERT_TRUE(world.engine->RunTo(&s, 5000));
  world.engine->Finish(&s, FinishReason::kStop);
  world.tree->Check();
  EXPECT_EQ(world.tree->counts().points, 3) << "the rolling one goes with the prefill";
}

TEST(Taps, ARollingPointMovesOnWithoutPushingOthersOut) {
  TreeOptions options = World::Quiet();
  options.rolling_tokens = 500;
  World world(4 * kSlot + 31 * kPage, options);
  world.Run(Text(2, 256), {{256, PointRole::kTurn}});
  FakeSequence s = world.engine->Announce(world.root, Text(1, 3000));
  ASSERT_TRUE(world.engine->Admit(&s));
  ASSERT_TRUE(world.engine->RunTo(&s, 2900));
  EXPECT_EQ(world.tree->counts().points, 2);
  EXPECT_EQ(Resume(world, Text(2, 256)), 256) << "it was worth less than the rolling one";
  world.engine->Finish(&s, FinishReason::kCancelled);
  EXPECT_EQ(Resume(world, Text(1, 3000)), 2500);
  world.tree->Check();
}

TEST(Taps, SparePointsUseFreeRoomAndGoFirst) {
  TreeOptions options = World::Quiet();
  options.spare_tokens = 512;
  World world(12 * kSlot, options);
  world.Run(Text(1, 4096), {{4096, PointRole::kHint}});
  const TreeCounts counts = world.tree->counts();
  const int64_t spare = counts.points_by_class[static_cast<size_t>(PointClass::kSpare)];
  EXPECT_GT(spare, 2);
  EXPECT_LE(world.pool->used(), world.pool->budget());
  EXPECT_EQ(counts.evicted, 0) << "none of them pushed another out";
  EXPECT_EQ(Resume(world, Text(1, 1000)), 512);
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, 5).ok());
  EXPECT_EQ(Resume(world, Text(1, 4096)), 4096) << "the hinted one is still there";
  EXPECT_LT(world.tree->counts().points_by_class[static_cast<size_t>(PointClass::kSpare)], spare);
}

TEST(Taps, ProbesThatAreNearShareOneStateOfTheBetterClass) {
  World world;
  world.Run(Text(1, 1000), {{1000, PointRole::kNextUser},
                            {1000, PointRole::kNextTool},
                            {997, PointRole::kRetry},
                            {970, PointRole::kTurn}});
  EXPECT_EQ(world.tree->counts().points, 2);
  EXPECT_EQ(world.tree->counts().points_by_class[static_cast<size_t>(PointClass::kHot)], 1);
  EXPECT_EQ(Resume(world, Text(1, 1000)), 997);
}

TEST(Taps, OnAGridPointsLieOnItsMultiples) {
  TreeOptions options = World::Quiet();
  options.tap_grid = 128;
  World world(100 * kSlot, options);
  FakeSequence a = world.engine->Announce(world.root, Text(1, 1000) + Text(2, 100));
  FakeSequence b = world.engine->Announce(world.root, Text(1, 1000) + Text(3, 100));
  ASSERT_TRUE(world.engine->Admit(&a));
  EXPECT_EQ(world.tree->Advise(b.live).wait_for, 896);
  ASSERT_TRUE(world.engine->RunTo(&a, 1100));
  ASSERT_TRUE(world.engine->Admit(&b));
  EXPECT_EQ(b.resume, 896);
}

TEST(Taps, WhatIsWorthLessThanAllThatIsThereIsNotTaken) {
  World world(4 * kSlot + 30 * kPage);
  world.Run(Text(1, 1024), {{1024, PointRole::kHint}});
  world.Run(Text(2, 1024), {{1024, PointRole::kHint}});
  const int64_t evicted = world.tree->counts().evicted;
  const auto turn = PointRole::kTurn;
  world.Run(Text(3, 512), {{128, turn}, {256, turn}, {384, turn}});
  EXPECT_EQ(world.tree->counts().evicted, evicted);
  EXPECT_GT(world.tree->counts().refused, 0);
  EXPECT_EQ(Resume(world, Text(1, 1024)), 1024);
  EXPECT_EQ(Resume(world, Text(2, 1024)), 1024);
  const Match match = world.tree->Lookup(world.root, Text(3, 512));
  EXPECT_EQ(match.reason, Reason::kBudgetTooSmall);
}

}  // namespace
}  // namespace lode::runtime
