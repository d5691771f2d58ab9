// Tenants through the scheduler: what keeps them apart, what they may have, and who goes first.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/support/serving.h"

namespace lode::runtime {
namespace {

const model::Model& SmallModel() {
  static const std::unique_ptr<model::Model> model = LoadGolden("moe-nano");
  return *model;
}

Serving Small(SchedulerOptions options = {}, int64_t context_tokens = 64 * 128) {
  EngineOptions engine;
  engine.rows_max = 64;
  engine.sequences_max = 32;
  engine.context_tokens = context_tokens;
  options.tree.divergence_tokens_min = 4;
  options.tree.spare_tokens = 16;
  return {SmallModel(), engine, options};
}

std::vector<Token> Text(uint32_t seed, size_t length) {
  std::mt19937 random(seed);
  std::vector<Token> text;
  while (text.size() < length) text.push_back(static_cast<Token>(random() % 288));
  return text;
}

Request Ask(RootId root, std::vector<Token> prompt, int64_t answer = 1, int32_t priority = 0) {
  Request request;
  request.root = root;
  request.prompt = std::move(prompt);
  request.tokens_max = answer;
  request.priority = priority;
  return request;
}

// The root of a tenant of its own.
RootId NewTenant(Scheduler* scheduler, const TenantLimits& limits = {}) {
  return scheduler->OpenRoot(scheduler->AddTenant(limits).value(), "").value();
}

// Different prompts.
void AskMany(Scheduler* scheduler, RootId root, uint32_t count, size_t prompt, int64_t answer = 1) {
  for (uint32_t i = 0; i < count; ++i) {
    EXPECT_TRUE(scheduler->Submit(Ask(root, Text(i, prompt), answer)).ok());
  }
}

// Until all have ended: in which order.
std::vector<RequestId> RunToEnd(Serving* serving, const std::function<void()>& after_step = {}) {
  std::vector<RequestId> ended;
  while (serving->Step([&](const Event& event) {
    if (event.kind == Event::Kind::kFinished) ended.push_back(event.request);
  })) {
    if (after_step) after_step();
  }
  return ended;
}

// --- Apart ---------------------------------------------------------------------------------------

std::string FuzzedSalt(std::mt19937* random, const std::vector<std::string>& before) {
  std::string salt;
  const uint32_t kind = (*random)() % 4;
  if (kind == 0 && !before.empty()) salt = before[(*random)() % before.size()];  // a longer one
  const uint32_t more = kind == 1 ? 0 : 1 + (*random)() % 40;
  for (uint32_t i = 0; i < more; ++i) salt.push_back(static_cast<char>((*random)() % 256));
  if (kind == 2) salt.push_back('\0');
  return salt;
}

struct Crossing {
  int64_t requests = 0, reused = 0;  // tokens, within a root
  int64_t hits = 0;                  // requests that reused or were told what is another's
};

// Two tenants, all their roots, the same few prompts again and again. With `one_root` the salts are
// not heeded, as a scheduler with a fault would have it.
Crossing Cross(uint32_t seed, bool one_root) {
  std::mt19937 random(seed);
  SchedulerOptions options;
  options.running_max = 6;
  Serving serving = Small(options);
  Scheduler& scheduler = *serving.scheduler;
  struct Own {
    RootId root;
    std::vector<std::vector<Token>> texts;  // that were asked or answered there
  };
  std::vector<Own> roots;
  std::vector<std::string> salts;
  for (int i = 0; i < 6; ++i) salts.push_back(FuzzedSalt(&random, salts));
  std::sort(salts.begin(), salts.end());
  salts.erase(std::unique(salts.begin(), salts.end()), salts.end());
  RootId only = kNone;
  for (int tenant = 0; tenant < 2; ++tenant) {
    const TenantId id = scheduler.AddTenant({}).value();
    for (const std::string& salt : salts) {
      const RootId root = scheduler.OpenRoot(id, salt).value();
      if (only == kNone) only = root;
      roots.push_back({one_root ? only : root, {}});
    }
  }
  Crossing crossing;
  std::map<RequestId, Own*> asked;
  std::map<RequestId, std::vector<Token>> texts;
  const auto on_event = [&](const Event& event) {
    if (event.kind == Event::Kind::kToken) {
      texts.at(event.request).push_back(event.sampled.token);
      asked.at(event.request)->texts.push_back(texts.at(event.request));
    }
    if (event.kind != Event::Kind::kStarted) return;
    Own& own = *asked.at(event.request);
    size_t known = 0;
    const std::vector<Token>& text = texts.at(event.request);
    const Match& match = event.match;
    bool told = match.was != -1;  // what stood there instead, and in no text of its own
    for (const auto& other : own.texts) {
      known = std::max(known, CommonPrefix(text, other));
      const auto at = static_cast<size_t>(match.divergence);
      if (match.was != -1 && at < other.size() && other[at] == match.was) told = false;
    }
    if (own.texts.empty()) told = match.divergence >= 0 || match.reason != Reason::kNewPrefix;
    own.texts.push_back(text);
    ++crossing.requests;
    crossing.reused += match.resume;
    crossing.hits += match.known > static_cast<int64_t>(known) || told;
  };
  for (int i = 0; i < 60; ++i) {
    Own& own = roots[random() % roots.size()];
    std::vector<Token> prompt = Text(random() % 3, 30 + random() % 100);
    const auto id = scheduler.Submit(Ask(own.root, prompt, 1 + random() % 3));
    EXPECT_TRUE(id.ok());
    asked[*id] = &own;
    texts[*id] = prompt;
    while (random() % 3 > 0) serving.Step(on_event);
  }
  while (serving.Step(on_event)) {
  }
  return crossing;
}

TEST(Tenants, TheSamePromptsInOtherRootsAreNeverFound) {
  Crossing all;
  for (const uint32_t seed : Seeds(12)) {
    const Replayable replay(seed);
    const Crossing crossing = Cross(seed, false);
    EXPECT_EQ(crossing.hits, 0);
    all.requests += crossing.requests;
    all.reused += crossing.reused;
  }
  EXPECT_GT(all.reused, all.requests);  // within a root they are
}

TEST(Tenants, ASchedulerThatForgetsSaltsIsSeen) {
  int64_t hits = 0;
  for (const uint32_t seed : Seeds(3)) hits += Cross(seed, true).hits;
  EXPECT_GT(hits, 0);
}

TEST(Tenants, SaltsAndTenantsAndModelsMakeRootsAndNothingElseDoes) {
  Serving serving = Small();
  Scheduler& scheduler = *serving.scheduler;
  const TenantId a = scheduler.AddTenant({}).value();
  const TenantId b = scheduler.AddTenant({}).value();
  EXPECT_EQ(scheduler.OpenRoot(a, "salt").value(), scheduler.OpenRoot(a, "salt").value());
  EXPECT_NE(scheduler.OpenRoot(a, "salt").value(), scheduler.OpenRoot(b, "salt").value());
  EXPECT_NE(scheduler.OpenRoot(a, "salt").value(), scheduler.OpenRoot(a, "Salt").value());
  EXPECT_EQ(scheduler.OpenRoot(9, "salt").error().code(), Code::kNotFound);
}

TEST(Tenants, AForeignPromptInMemoryTakesAsManyStepsAndRowsAsAnUnknownOne) {
  std::vector<int64_t> costs;
  for (const bool known_to_other : {false, true}) {
    Serving serving = Small();
    Scheduler& scheduler = *serving.scheduler;
    const RootId a = NewTenant(&scheduler);
    const RootId b = NewTenant(&scheduler);
    EXPECT_TRUE(scheduler.Submit(Ask(a, Text(known_to_other ? 7 : 8, 300), 3)).ok());
    RunToEnd(&serving);
    const int64_t before = scheduler.rows();
    const double clock = serving.clock;
    const Explanation silent = scheduler.tree().Explain(b, Text(7, 300));
    EXPECT_TRUE(silent.nodes.empty());
    EXPECT_EQ(silent.match.reason, Reason::kNewPrefix);
    EXPECT_TRUE(scheduler.Submit(Ask(b, Text(7, 300), 3)).ok());
    RunToEnd(&serving);
    costs.push_back(scheduler.rows() - before);
    costs.push_back(static_cast<int64_t>(serving.clock - clock));
  }
  EXPECT_EQ(costs[0], costs[2]);
  EXPECT_EQ(costs[1], costs[3]);
}

TEST(Tenants, NobodyWaitsForALeaderOfAnotherRoot) {
  SchedulerOptions options;
  options.running_max = 4;
  options.chunk_rows = 8;
  Serving serving = Small(options);
  Scheduler& scheduler = *serving.scheduler;
  const RootId a = NewTenant(&scheduler);
  const RootId b = NewTenant(&scheduler);
  for (const RootId root : {a, a, b}) {
    EXPECT_TRUE(scheduler.Submit(Ask(root, Text(1, 200))).ok());
  }
  serving.Step([](const Event&) {});
  EXPECT_EQ(scheduler.running(), 2);  // the second one of `a` is parked
  EXPECT_EQ(scheduler.waiting(), 1);
  RunToEnd(&serving);
  serving.ExpectNothingLeft();
}

// --- Limits --------------------------------------------------------------------------------------

TEST(Tenants, ATenantHasNoMoreSequencesThanItMayAndOthersPassIt) {
  SchedulerOptions options;
  options.running_max = 4;
  Serving serving = Small(options);
  Scheduler& scheduler = *serving.scheduler;
  TenantLimits limits;
  limits.running_max = 1;
  const TenantId small = scheduler.AddTenant(limits).value();
  const TenantId other = scheduler.AddTenant({}).value();
  const RootId small_root = scheduler.OpenRoot(small, "").value();
  const RootId other_root = scheduler.OpenRoot(other, "").value();
  AskMany(&scheduler, small_root, 4, 40, 4);
  EXPECT_TRUE(scheduler.Submit(Ask(other_root, Text(9, 40), 4)).ok());
  serving.Step([](const Event&) {});
  EXPECT_EQ(scheduler.use(small).running, 1);
  EXPECT_EQ(scheduler.use(small).waiting, 3);
  EXPECT_EQ(scheduler.use(other).running, 1);
  const auto ended = RunToEnd(&serving, [&] { EXPECT_LE(scheduler.use(small).running, 1); });
  EXPECT_EQ(ended.size(), 5u);
}

TEST(Tenants, AFullQueueSaysHowFastItDrains) {
  SchedulerOptions options;
  options.queue_max = 3;
  Serving serving = Small(options);
  Scheduler& scheduler = *serving.scheduler;
  const RootId root = scheduler.default_root();
  uint32_t texts = 0;
  while (scheduler.waiting() < 3) {
    EXPECT_TRUE(scheduler.Submit(Ask(root, Text(texts++, 20))).ok());
  }
  auto refused = scheduler.Submit(Ask(root, Text(texts, 20)));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kNoSpace);
  EXPECT_NE(refused.error().ToString().find("3 requests wait already"), std::string::npos);
  RunToEnd(&serving);
  while (scheduler.waiting() < 3) {
    EXPECT_TRUE(scheduler.Submit(Ask(root, Text(texts++, 20))).ok());
  }
  refused = scheduler.Submit(Ask(root, Text(texts, 20)));
  ASSERT_FALSE(refused.ok());
  // 20 rows a request, one after another, in two steps: 2 * 20 ms + 20 * 5 ms.
  EXPECT_NE(refused.error().ToString().find("one ends every 0.1 s"), std::string::npos)
      << refused.error().ToString();
  EXPECT_NEAR(scheduler.QueueMilliseconds(), 140.0, 1e-6);
}

TEST(Tenants, AFullQueueOfOneTenantIsNotAnothers) {
  Serving serving = Small();
  Scheduler& scheduler = *serving.scheduler;
  TenantLimits limits;
  limits.queue_max = 2;
  const RootId small = NewTenant(&scheduler, limits);
  const RootId other = NewTenant(&scheduler);
  EXPECT_TRUE(scheduler.Submit(Ask(small, Text(1, 20))).ok());
  EXPECT_TRUE(scheduler.Submit(Ask(small, Text(2, 20))).ok());
  const auto refused = scheduler.Submit(Ask(small, Text(3, 20)));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().ToString().find("2 requests of this tenant wait"), std::string::npos);
  EXPECT_TRUE(scheduler.Submit(Ask(other, Text(3, 20))).ok());
}

TEST(Tenants, ARequestOfAClosedRootIsRefused) {
  Serving serving = Small();
  Scheduler& scheduler = *serving.scheduler;
  const RootId root = NewTenant(&scheduler);
  EXPECT_TRUE(scheduler.Submit(Ask(root, Text(1, 20))).ok());
  scheduler.CloseRoot(root);
  EXPECT_EQ(scheduler.Submit(Ask(root, Text(1, 20))).error().code(), Code::kNotFound);
  EXPECT_EQ(scheduler.Submit(Ask(77, Text(1, 20))).error().code(), Code::kNotFound);
  EXPECT_EQ(RunToEnd(&serving).size(), 1u);  // who was there before still ends
}

TEST(Tenants, AsManyTenantsAsGroupsOfFramesButOne) {
  Serving serving = Small();
  int64_t added = 1;  // the default one
  while (serving.scheduler->AddTenant({}).ok()) ++added;
  EXPECT_EQ(added, serving.engine->frames().groups_max() - 1);
  TenantLimits nothing;
  nothing.weight = 0.0;
  EXPECT_EQ(Small().scheduler->AddTenant(nothing).error().code(), Code::kBadInput);
}

TEST(Tenants, WhoRunsGoesBeforeWhatOthersHaveKept) {
  EngineOptions engine;
  engine.rows_max = 64;
  engine.sequences_max = 5;
  engine.context_tokens = 1;  // with the above, five pages and five states
  SchedulerOptions options;
  options.tree.spare_tokens = 0;
  Serving serving(SmallModel(), engine, options);
  Scheduler& scheduler = *serving.scheduler;
  TenantLimits large;
  large.weight = 100.0;  // its share is nearly everything
  const TenantId keeper = scheduler.AddTenant(large).value();
  const RootId kept = scheduler.OpenRoot(keeper, "").value();
  AskMany(&scheduler, kept, 4, 120);
  RunToEnd(&serving);
  const uint64_t before = scheduler.tree().used_bytes(keeper);
  EXPECT_LT(before, scheduler.tree().share_bytes(keeper));
  EXPECT_TRUE(scheduler.Submit(Ask(scheduler.default_root(), Text(99, 100), 400)).ok());
  int64_t tokens = 0;
  while (serving.Step([&](const Event& event) {
    EXPECT_NE(event.kind, Event::Kind::kFailed);
    tokens += event.kind == Event::Kind::kToken;
  })) {
  }
  EXPECT_EQ(tokens, 400);
  EXPECT_LT(scheduler.tree().used_bytes(keeper), before);
}

// --- Order ---------------------------------------------------------------------------------------

std::vector<RequestId> StartOrder(Serving* serving) {
  std::vector<RequestId> order;
  while (serving->Step([&](const Event& event) {
    if (event.kind == Event::Kind::kStarted) order.push_back(event.request);
  })) {
  }
  return order;
}

// With room for a single state, what it goes on from is given up when nothing else is left.
TEST(Tenants, OneStateIsEnoughToGoOnFromAKeptOne) {
  const auto model = LoadGolden("moe-nano");
  EngineOptions engine_options;
  engine_options.context_tokens = 640;
  Serving serving(*model, engine_options, {});
  std::vector<Token> prompt;
  for (int i = 0; i < 200; ++i) prompt.push_back((3 * i + 1) % 50);
  for (const int64_t more : {0, 40, 80}) {
    Request request;
    for (int64_t i = 0; i < more; ++i) prompt.push_back(static_cast<Token>((i + more) % 50));
    request.prompt = prompt;
    request.tokens_max = 3;
    request.root = serving.scheduler->default_root();
    ASSERT_TRUE(serving.scheduler->Submit(std::move(request)).ok());
    int64_t resumed = -1;
    bool ended = false;
    while (serving.Step([&](const Event& event) {
      if (event.kind == Event::Kind::kStarted) resumed = event.match.resume;
      if (event.kind == Event::Kind::kToken) prompt.push_back(event.sampled.token);
      if (event.kind == Event::Kind::kFailed) ADD_FAILURE() << event.error->ToString();
      ended |= event.kind == Event::Kind::kFinished && event.stop == StopReason::kLength;
    })) {
    }
    EXPECT_TRUE(ended) << more;
    EXPECT_EQ(resumed > 0, more > 0) << more;
  }
  serving.ExpectNothingLeft();
}

TEST(Tenants, APriorityPassesOthersOfItsTenantAndEqualsGoAsTheyCame) {
  Serving serving = Small();
  Scheduler& scheduler = *serving.scheduler;
  const RootId root = scheduler.default_root();
  const int32_t priorities[] = {0, 0, 5, -1, 5, 0};
  std::vector<RequestId> ids;
  for (uint32_t i = 0; i < std::size(priorities); ++i) {
    ids.push_back(scheduler.Submit(Ask(root, Text(i, 30), 1, priorities[i])).value());
  }
  const std::vector<RequestId> want = {ids[2], ids[4], ids[0], ids[1], ids[5], ids[3]};
  EXPECT_EQ(StartOrder(&serving), want);
}

TEST(Tenants, ALongQueueOfOneTenantDoesNotHoldUpAnother) {
  Serving serving = Small();
  Scheduler& scheduler = *serving.scheduler;
  const RootId busy = NewTenant(&scheduler);
  const RootId other = NewTenant(&scheduler);
  AskMany(&scheduler, busy, 20, 30);
  serving.Step([](const Event&) {});
  const RequestId late = scheduler.Submit(Ask(other, Text(77, 30))).value();
  const std::vector<RequestId> order = StartOrder(&serving);
  ASSERT_FALSE(order.empty());
  EXPECT_EQ(order[0], late);
}

TEST(Tenants, ATenantWithoutAPlaceGetsOneFromWhoHasTooManyAndAllEnd) {
  SchedulerOptions options;
  options.running_max = 4;
  options.progress_min = 16;
  Serving serving = Small(options);
  Scheduler& scheduler = *serving.scheduler;
  const RootId busy = NewTenant(&scheduler), other = NewTenant(&scheduler);
  AskMany(&scheduler, busy, 4, 20, 300);
  for (int i = 0; i < 10; ++i) serving.Step([](const Event&) {});
  const RequestId late = scheduler.Submit(Ask(other, Text(9, 20), 5)).value();
  const auto ended = RunToEnd(&serving);
  ASSERT_EQ(ended.size(), 5u);
  EXPECT_EQ(ended[0], late);  // long before the answers that were there
  EXPECT_EQ(scheduler.preemptions(), 1);
}

TEST(Tenants, TheEldestEndsThoughNobodyElseHasComeOnFarEnoughToGiveWay) {
  SchedulerOptions options;
  options.running_max = 4;
  options.answer_tokens = 2;  // little is promised, and each wants five pages in the end
  options.progress_min = 1 << 20;
  EngineOptions engine;
  engine.rows_max = 64;
  engine.sequences_max = 5;
  engine.context_tokens = 1;  // with the above, five pages and five states
  engine.sequence_tokens_max = 600;
  Serving serving(SmallModel(), engine, options);
  std::vector<RequestId> ids;
  for (uint32_t i = 0; i < 4; ++i) {  // the eldest is behind the others
    const RootId root = serving.scheduler->default_root();
    ids.push_back(serving.scheduler->Submit(Ask(root, Text(i, i == 0 ? 9 : 200), -1)).value());
  }
  std::vector<RequestId> ended;
  std::map<RequestId, int64_t> tokens;
  int64_t starts = 0, again = 0, steps = 0;
  while (++steps < 5000 && serving.Step([&](const Event& event) {
    tokens[event.request] += event.kind == Event::Kind::kToken;
    if (event.kind == Event::Kind::kFinished) ended.push_back(event.request);
    if (event.kind != Event::Kind::kStarted) return;
    ++(event.again ? again : starts);
  })) {
  }
  EXPECT_EQ(ended.size(), ids.size());
  for (const RequestId id : ids) EXPECT_EQ(tokens[id], id == ids[0] ? 592 : 401);
  EXPECT_EQ(starts, 4);
  EXPECT_EQ(again, serving.scheduler->preemptions());
  EXPECT_GT(again, 0);
}

TEST(Tenants, WhatWasEvictedIsRememberedInAShareOfTheBudget) {
  EXPECT_EQ(GhostTokensMax(0), 1 << 18);
  EXPECT_EQ(GhostTokensMax(uint64_t{1} << 30), 16 << 20);
  SchedulerOptions options;
  options.tree.ghost_tokens_max = 5000;
  Serving serving = Small(options, 16 * 128);
  Scheduler& scheduler = *serving.scheduler;
  const RootId root = NewTenant(&scheduler);
  int64_t largest = 0;
  for (uint32_t i = 0; i < 200; ++i) {
    ASSERT_TRUE(scheduler.Submit(Ask(root, Text(1000 + i, 150), 4)).ok());
    RunToEnd(&serving);
    const int64_t remembered = scheduler.tree().counts().ghost_tokens;
    ASSERT_LE(remembered, 5000) << i;
    largest = std::max(largest, remembered);
  }
  EXPECT_GT(largest, 2500);  // more came than may be remembered
}

}  // namespace
}  // namespace lode::runtime
