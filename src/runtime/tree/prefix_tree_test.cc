// What is found again, and what is said about the rest.
#include "runtime/tree/prefix_tree.h"

#include <gtest/gtest.h>

#include "runtime/tree/fake_sequences.h"

namespace lode::runtime {
namespace {

using World = FakeWorld;
const auto Text = FakeWorld::Text;

TEST(PrefixTree, APromptIsResumedAtTheDeepestStateWithAllItsPages) {
  World world;
  const auto prompt = Text(1, 1000);
  EXPECT_EQ(world.Run(prompt, {{300, PointRole::kSystem}, {900, PointRole::kNextUser}}).resume, 0);
  const Match whole = world.tree->Lookup(world.root, prompt + Text(2, 50));
  EXPECT_EQ(whole.known, 1000);
  EXPECT_EQ(whole.resume, 900);
  EXPECT_EQ(whole.resident, 900) << "pages behind the last state served nobody and are gone";
  EXPECT_EQ(whole.role, PointRole::kNextUser);
  EXPECT_EQ(world.Run(Text(1, 400) + Text(3, 100)).resume, 300);
  EXPECT_EQ(world.tree->counts().points, 3) << "the second parted at 400, and left a state";
}

TEST(PrefixTree, AStateAtTheVeryEndNeedsItsHiddenRow) {
  World world;
  const auto prompt = Text(1, 256);
  FakeSequence s = world.engine->Announce(world.root, prompt);
  ASSERT_TRUE(world.engine->Admit(&s));
  ASSERT_TRUE(world.engine->RunTo(&s, 256));
  world.engine->Freeze(&s, PointRole::kHint, false);
  EXPECT_EQ(world.tree->Lookup(world.root, prompt).resume, 0);
  EXPECT_EQ(world.tree->Lookup(world.root, prompt, false).resume, 256);
  world.engine->Finish(&s, FinishReason::kStop);

  s = world.engine->Announce(world.root, Text(2, 256));
  ASSERT_TRUE(world.engine->Admit(&s));
  ASSERT_TRUE(world.engine->RunTo(&s, 256));
  world.engine->Freeze(&s, PointRole::kHint, true);
  world.engine->Finish(&s, FinishReason::kStop);
  const Match match = world.tree->Lookup(world.root, Text(2, 256));
  EXPECT_EQ(match.resume, 256);
  EXPECT_TRUE(match.hidden);
  EXPECT_EQ(match.reason, Reason::kComplete);
}

TEST(PrefixTree, TwoRootsWithTheSamePromptsNeverMeet) {
  World world;
  RootKey salted{};
  salted[15] = std::byte{1};
  const RootId other = world.tree->OpenRoot(world.tenant, salted).value();
  const TenantId stranger = world.tree->AddTenant({}).value();
  const RootId foreign = world.tree->OpenRoot(stranger, RootKey{}).value();
  EXPECT_NE(foreign, world.root) << "the same key of another tenant is another root";
  const auto prompt = Text(1, 700);
  world.Run(prompt, {{600, PointRole::kNextUser}});
  for (const RootId root : {other, foreign}) {
    const Match match = world.tree->Lookup(root, prompt);
    EXPECT_EQ(match.known, 0);
    EXPECT_EQ(match.resume, 0);
    EXPECT_EQ(match.reason, Reason::kNewPrefix);
    EXPECT_EQ(world.RunAt(root, prompt, {{600, PointRole::kNextUser}}).resume, 0);
  }
  EXPECT_EQ(world.tree->Lookup(world.root, prompt).resume, 600);
}

TEST(PrefixTree, AMillionTokensOnOneEdge) {
  World world(16 << 20);
  const auto prompt = Text(0, 1 << 20);
  world.Run(prompt, {{(1 << 20) - 1, PointRole::kNextUser}});
  EXPECT_EQ(world.tree->Lookup(world.root, prompt).resume, (1 << 20) - 1);
  auto changed = prompt;
  changed[777777] = -5;
  const Match match = world.tree->Lookup(world.root, changed);
  EXPECT_EQ(match.divergence, 777777);
  EXPECT_EQ(match.now, -5);
  EXPECT_EQ(match.was, 777777);
  EXPECT_EQ(match.lost(), 777777);
  EXPECT_EQ(match.reason, Reason::kNoPointBeforeDivergence);
}

TEST(PrefixTree, PagesThatAreThereAlreadyTakeThePlaceOfTheSecond) {
  World world;
  const auto prompt = Text(1, 640);
  std::vector<FakeSequence> twins;
  for (int i = 0; i < 2; ++i) twins.push_back(world.engine->Announce(world.root, prompt));
  for (FakeSequence& twin : twins) ASSERT_TRUE(world.engine->Admit(&twin));
  for (FakeSequence& twin : twins) {
    ASSERT_TRUE(world.engine->RunTo(&twin, 600));
    world.engine->Freeze(&twin, PointRole::kHint);
    world.tree->Check();
  }
  EXPECT_EQ(world.tree->counts().deduplicated_pages, 4);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(twins[0].table[i], twins[1].table[i]);
  EXPECT_NE(twins[0].table[4], twins[1].table[4]) << "both go on writing into this one";
  EXPECT_EQ(world.pool->pages().leased_frames(), 6);
  for (FakeSequence& twin : twins) world.engine->Finish(&twin, FinishReason::kStop);
  world.tree->Check();
  EXPECT_EQ(world.pool->pages().cached_frames(), 5);
}

TEST(PrefixTree, BytesOfPublishedTwinsAreCompared) {
  FramePoolOptions frames;
  frames.page_bytes = 4096;
  frames.slot_bytes = 4096;
  frames.budget_bytes = 1 << 20;
  auto pool = FramePool::Make(frames).value();
  TreeOptions options = World::Quiet();
  options.compare_published = 1;
  PrefixTree tree(pool.get(), options);
  const RootId root = tree.OpenRoot(tree.AddTenant({}).value(), RootKey{}).value();
  const auto prompt = Text(1, 256);
  std::vector<std::vector<PageId>> tables;
  std::vector<LiveId> lives;
  for (int i = 0; i < 2; ++i) {
    lives.push_back(tree.Announce(root, prompt, {}));
    tree.Admit(lives.back());
    auto& table = tables.emplace_back();
    for (int page = 0; page < 2; ++page) table.push_back(pool->pages().Take(tree.owner(root)));
    pool->pages().data(table[1])[100] = std::byte(i);  // an error in the second page
    tree.Publish(lives.back(), 256, table);
  }
  EXPECT_EQ(tree.counts().compared_pages, 2);
  EXPECT_EQ(tree.counts().mismatched_pages, 1);
  for (int i = 0; i < 2; ++i) {
    tree.Finish(lives[i], FinishReason::kStop);
    for (const PageId page : tables[i]) pool->pages().Unlease(page);
  }
  tree.Check();
}

TEST(PrefixTree, AForkSharesAllPagesAndThenGoesItsOwnWay) {
  World world;
  FakeSequence s = world.engine->Announce(world.root, Text(1, 500));
  ASSERT_TRUE(world.engine->Admit(&s));
  ASSERT_TRUE(world.engine->RunTo(&s, 500));
  FakeSequence child;
  ASSERT_TRUE(world.engine->Fork(s, &child));
  EXPECT_EQ(world.pool->pages().leased_frames(), 5) << "one page was copied";
  ASSERT_TRUE(world.engine->Decode(&s, Text(2, 100)));
  ASSERT_TRUE(world.engine->Decode(&child, Text(3, 100)));
  world.engine->Finish(&s, FinishReason::kStop, true);
  world.tree->Check();
  world.engine->Finish(&child, FinishReason::kStop, true);
  world.tree->Check();
  EXPECT_EQ(world.Run(Text(1, 500) + Text(2, 100) + Text(4, 9)).resume, 600);
  EXPECT_EQ(world.Run(Text(1, 500) + Text(3, 100) + Text(5, 9)).resume, 600);
}

TEST(PrefixTree, WithoutRecurrentLayersAnyOffsetIsAPlaceToResume) {
  TreeOptions options = World::Quiet();
  options.recurrent = false;
  World world(1 << 20, options);
  world.Run(Text(1, 1000), {}, Text(2, 100), FinishReason::kStop, true);
  EXPECT_EQ(world.Run(Text(1, 777) + Text(3, 100), {}, {}, FinishReason::kStop, true).resume, 777);
  EXPECT_EQ(world.Run(Text(1, 1000)).resume, 999);
  const int64_t points = world.tree->counts().points;
  world.Run(Text(1, 1000) + Text(2, 100) + Text(4, 50), {}, {}, FinishReason::kStop, true);
  EXPECT_EQ(world.tree->counts().points, points) << "the deeper one keeps all that the other kept";
  EXPECT_FALSE(world.tree->NextTap(world.engine->Announce(world.root, Text(1, 800)).live, 0));
}

TEST(PrefixTree, WithoutRecurrentLayersPublishedPagesStay) {
  TreeOptions options = World::Quiet();
  options.recurrent = false;
  World world(1 << 20, options);
  FakeSequence s = world.engine->Announce(world.root, Text(1, 500));
  ASSERT_TRUE(world.engine->Admit(&s));
  ASSERT_TRUE(world.engine->RunTo(&s, 400));
  world.tree->Publish(s.live, 400, s.table);
  world.engine->Finish(&s, FinishReason::kCancelled);
  world.tree->Check();
  EXPECT_EQ(world.Run(Text(1, 1000)).resume, 400);
}

TEST(PrefixTree, WithoutAttentionLayersStatesAreAllThereIs) {
  World world(20 * FakeWorld::kSlot, World::Quiet(), false);
  world.Run(Text(1, 1000), {{900, PointRole::kNextUser}});
  EXPECT_EQ(world.pool->used(), FakeWorld::kSlot);
  EXPECT_EQ(world.Run(Text(1, 950) + Text(2, 100)).resume, 900);
}

TEST(PrefixTree, APreemptedPromptGoesOnWhereItWas) {
  World world;
  FakeSequence s = world.engine->Announce(world.root, Text(1, 1000));
  ASSERT_TRUE(world.engine->Admit(&s));
  ASSERT_TRUE(world.engine->RunTo(&s, 300));
  world.engine->Finish(&s, FinishReason::kPreempted, true);
  const Match match = world.tree->Lookup(world.root, Text(1, 1000));
  EXPECT_EQ(match.resume, 300);
  EXPECT_EQ(match.point_class, PointClass::kHot);
}

TEST(PrefixTree, ARequestMayAskNotToBeCached) {
  World world;
  world.Run(Text(1, 500), {{400, PointRole::kNextUser}});
  AnnounceOptions options;
  options.use_cache = false;
  FakeSequence s = world.engine->Announce(world.root, Text(1, 500), options);
  ASSERT_TRUE(world.engine->Admit(&s));
  EXPECT_EQ(s.resume, 0);
  EXPECT_EQ(s.match.reason, Reason::kCacheDisabled);
  ASSERT_TRUE(world.engine->RunTo(&s, 500));
  ASSERT_TRUE(world.engine->Decode(&s, Text(7, 20)));
  EXPECT_EQ(world.tree->Tokens(s.live), s.tokens);
  world.engine->Finish(&s, FinishReason::kStop, true);
  world.tree->Check();
  EXPECT_EQ(world.tree->Lookup(world.root, Text(1, 500) + Text(7, 20)).known, 500);
}

TEST(PrefixTree, EachTokenThatIsComputedHasItsReason) {
  World world(FakeWorld::kSlot * 3 + FakeWorld::kPage * 40);
  const auto reason = [&](const std::vector<Token>& prompt) {
    return world.tree->Lookup(world.root, prompt).reason;
  };
  EXPECT_EQ(reason(Text(1, 100)), Reason::kNewPrefix);
  world.Run(Text(1, 1000), {{900, PointRole::kNextUser}});
  EXPECT_EQ(reason(Text(1, 500) + Text(2, 80)), Reason::kNoPointBeforeDivergence);
  EXPECT_EQ(reason(Text(1, 900) + Text(2, 80)), Reason::kDiverged);
  world.Run(Text(1, 900) + Text(2, 80), {{980, PointRole::kNextUser}});
  EXPECT_EQ(reason(Text(1, 900) + Text(2, 80) + Text(3, 9)), Reason::kComplete) << "it goes on";
  ASSERT_TRUE(world.tree->MakeRoom(world.root, 0, 8).ok());
  world.tree->Check();
  const Match match = world.tree->Lookup(world.root, Text(1, 900) + Text(2, 80));
  EXPECT_GT(match.lost(), 0);
  EXPECT_EQ(match.reason, Reason::kEvictedKv);
}

TEST(PrefixTree, ExplainSaysWhatDiffersAndWhatMovingItWouldSave) {
  TreeOptions options = World::Quiet();
  options.cost.per_token = 0.01;
  World world(1 << 22, options);
  auto prompt = Text(1, 5000);
  world.Run(prompt, {{4990, PointRole::kNextUser}, {256, PointRole::kSystem}});
  prompt[400] = -7;  // the clock
  const Explanation why = world.tree->Explain(world.root, prompt + Text(2, 30));
  EXPECT_EQ(why.match.divergence, 400);
  EXPECT_EQ(why.match.resume, 256);
  EXPECT_EQ(why.differing, 1);
  EXPECT_EQ(why.same_after, 4599);
  EXPECT_EQ(why.cost_if_moved, 31);
  const std::string text = ToText(why, "Time: 14:02", "Time: 14:03");
  EXPECT_NE(text.find("prompt 5,030   cached 256   computed 4,774   lost 144"), std::string::npos)
      << text;
  EXPECT_NE(text.find("first difference: token 400, was \"Time: 14:02\"  now \"Time: 14:03\""),
            std::string::npos);
  EXPECT_NE(text.find("4,599 tokens after it are the same as last time."), std::string::npos);
  EXPECT_NE(text.find("31 tokens instead of 4,774"), std::string::npos);
  EXPECT_NE(text.find("| 0-256  system 2 points"), std::string::npos) << text;
  EXPECT_NE(text.find("instead: 400-4,990  "), std::string::npos) << text;
}

TEST(PrefixTree, DroppedRootsKeepOnlyWhatRuns) {
  World world;
  world.Run(Text(1, 500), {{400, PointRole::kNextUser}});
  FakeSequence s = world.engine->Announce(world.root, Text(1, 700));
  ASSERT_TRUE(world.engine->Admit(&s));
  EXPECT_EQ(s.resume, 400);
  world.tree->DropRoot(world.root);
  world.tree->Check();
  ASSERT_TRUE(world.engine->RunTo(&s, 700));
  world.engine->Finish(&s, FinishReason::kStop);
  world.tree->Check();
  EXPECT_EQ(world.pool->used(), 0u);
  EXPECT_EQ(world.tree->Lookup(world.root, Text(1, 500)).resume, 0);
}

TEST(PrefixTree, IdleRootsMakePlaceForNewOnes) {
  FramePoolOptions frames;
  frames.page_bytes = 1024;
  frames.slot_bytes = 1024;
  frames.budget_bytes = 1 << 20;
  frames.owners_max = 4;
  frames.with_memory = false;
  auto pool = FramePool::Make(frames).value();
  PrefixTree tree(pool.get(), World::Quiet());
  const TenantId tenant = tree.AddTenant({}).value();
  RootKey key{};
  std::vector<LiveId> lives;
  for (int i = 0; i < 4; ++i) {
    key[0] = std::byte(i);
    const RootId root = tree.OpenRoot(tenant, key).value();
    lives.push_back(tree.Announce(root, Text(i, 10), {}));
  }
  key[0] = std::byte{9};
  EXPECT_FALSE(tree.OpenRoot(tenant, key).ok()) << "all are in use";
  tree.Finish(lives[2], FinishReason::kCancelled);
  EXPECT_TRUE(tree.OpenRoot(tenant, key).ok());
  tree.Check();
}

}  // namespace
}  // namespace lode::runtime
