// The public interface in include/lode alone: several threads, forks, truncation, pins, tenants,
// and what it says when something is not as it should be.
#include <gtest/gtest.h>
#include <lode/context.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <optional>
#include <thread>

#include "tests/support/contexts_api.h"

namespace lode::v1 {
namespace {

TEST_F(ContextsApi, GenerateGoesOnFromWhatWasAppended) {
  Engine engine = Open();
  Context context = New(engine);
  const auto prompt = SomeTokens(300, 1);
  const Appended appended = Append(context, prompt);
  EXPECT_EQ(appended.tokens, 300);
  EXPECT_EQ(appended.reuse.cached, 0);
  EXPECT_EQ(appended.reuse.reason, "new_prefix");
  Reuse reuse;
  const auto drawn = Draw(context, 20, 7, &reuse);
  EXPECT_EQ(reuse.computed, 1);  // the newest token, whose logits nobody had asked for
  ASSERT_EQ(drawn.size(), 20u);
  EXPECT_EQ(context.size(), 320);
  auto all = prompt;
  all.insert(all.end(), drawn.begin(), drawn.end());
  EXPECT_EQ(context.tokens(), all);
  EXPECT_EQ(drawn, Cold(prompt, 20, 7));
  // The rest of a longer answer is the answer to the longer text.
  EXPECT_EQ(Draw(context, 10, 7), [&] {
    const auto longer = Cold(prompt, 30, 7);
    return std::vector<Token>(longer.begin() + 20, longer.end());
  }());
}

TEST_F(ContextsApi, EventsTellOfReuseProgressAndTokens) {
  Engine engine = Open();
  Context context = New(engine);
  Append(context, SomeTokens(100, 1));
  std::map<Event::Kind, int> kinds;
  GenerateOptions options;
  options.tokens_max = 5;
  options.model_stops = false;
  options.logprobs = true;
  const auto generated = context.Generate(options, [&](const Event& event) {
    ++kinds[event.kind];
    if (event.kind == Event::Kind::kToken) EXPECT_LT(event.logprob, 0.0);
    return true;
  });
  ASSERT_TRUE(generated.ok());
  EXPECT_EQ(kinds[Event::Kind::kStarted], 1);
  EXPECT_EQ(kinds[Event::Kind::kToken], 5);
  EXPECT_EQ(generated->stop, Stop::kLength);
}

TEST_F(ContextsApi, ForksShareTheBeginningAndComputeOnlyTheirOwn) {
  Engine engine = Open();
  Context context = New(engine);
  const auto shared = SomeTokens(1000, 2);
  Append(context, shared);
  auto forks = context.Fork(3);
  ASSERT_TRUE(forks.ok());
  ASSERT_EQ(forks->size(), 3u);
  for (size_t i = 0; i < forks->size(); ++i) {
    Context& fork = (*forks)[i];
    const auto own = SomeTokens(20, 100 + static_cast<uint32_t>(i));
    const Appended appended = Append(fork, own);
    // All but the newest token of the shared part was computed before.
    EXPECT_EQ(appended.reuse.cached, 999);
    EXPECT_LE(appended.reuse.lost, 1);
    auto all = shared;
    all.insert(all.end(), own.begin(), own.end());
    EXPECT_EQ(Draw(fork, 8), Cold(all, 8));
  }
  EXPECT_EQ(context.size(), 1000);
}

TEST_F(ContextsApi, AForkAtATokenIsAsIfTheRestHadNeverBeen) {
  Engine engine = Open();
  Context context = New(engine);
  const auto tokens = SomeTokens(400, 3);
  Append(context, {tokens.begin(), tokens.begin() + 150}, "middle");
  Append(context, {tokens.begin() + 150, tokens.end()});
  const auto at = context.MarkedAt("middle");
  ASSERT_TRUE(at.ok());
  EXPECT_EQ(*at, 150);
  auto forks = context.Fork(1, *at);
  ASSERT_TRUE(forks.ok());
  Context& fork = forks->front();
  EXPECT_EQ(fork.size(), 150);
  EXPECT_EQ(*fork.Chain(), *context.Fork(1, 150).value().front().Chain());
  EXPECT_NE(*fork.Chain(), *context.Chain());
  Reuse reuse;
  EXPECT_EQ(Draw(fork, 8, 5, &reuse), Cold({tokens.begin(), tokens.begin() + 150}, 8, 5));
  EXPECT_EQ(reuse.computed, 1);  // a state was kept at the mark
  EXPECT_FALSE(context.Fork(1, 401).ok());
  EXPECT_FALSE(context.MarkedAt("midle").ok());
  EXPECT_NE(context.MarkedAt("midle").error().hint.find("middle"), std::string::npos);
}

TEST_F(ContextsApi, AForkOfALongContextCopiesNothing) {
  EngineOptions options = Options();
  options.context_tokens = 20'100;
  options.rows_max = 512;
  Engine engine = OpenModel(options);
  Context context = New(engine);
  Append(context, SomeTokens(20'000, 4));
  // Without a clock: a fork that copied ids or waited for the engine could not be made ten thousand
  // times over while a step of it runs.
  auto forks = context.Fork(10'000);
  ASSERT_TRUE(forks.ok());
  EXPECT_EQ(forks->size(), 10'000u);
  Context& last = forks->back();
  EXPECT_EQ(last.size(), 20'000);
  const Appended appended = Append(last, {1, 2, 3});
  EXPECT_EQ(appended.reuse.computed, 3);
}

TEST_F(ContextsApi, TruncationDropsTheTailAndExplainSaysWhatItCosts) {
  Engine engine = Open();
  Context context = New(engine);
  const auto tokens = SomeTokens(500, 5);
  Append(context, tokens, "end");
  ASSERT_TRUE(context.Truncate(200).ok());
  EXPECT_EQ(context.size(), 200);
  EXPECT_FALSE(context.MarkedAt("end").ok());
  EXPECT_FALSE(context.Truncate(201).ok());
  const auto explained = context.Explain();
  ASSERT_TRUE(explained.ok());
  EXPECT_EQ(explained->reuse.prompt, 200);
  EXPECT_EQ(explained->reuse.cached + explained->reuse.computed, 200);
  EXPECT_NE(explained->text.find("prompt 200"), std::string::npos);
  EXPECT_FALSE(explained->tree.empty());
  EXPECT_EQ(Draw(context, 8), Cold({tokens.begin(), tokens.begin() + 200}, 8));
}

TEST_F(ContextsApi, ExplainIsADryRunThatNamesTheFirstDifference) {
  Engine engine = Open();
  Context context = New(engine);
  auto tokens = SomeTokens(400, 6);
  Append(context, tokens);
  tokens[250] = (tokens[250] + 1) % 97;
  const auto before = context.Explain(tokens);
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->reuse.divergence, 250);
  EXPECT_EQ(before->reuse.now, tokens[250]);
  EXPECT_GT(before->same_after, 100);
  const auto again = context.Explain(tokens);  // nothing was computed or remembered
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->text, before->text);
}

TEST_F(ContextsApi, ARunningContextRefusesASecondWriterAndForksMeanwhile) {
  Engine engine = Open();
  Context context = New(engine);
  Append(context, SomeTokens(50, 7));
  GenerateOptions options;
  options.model_stops = false;  // until it is cancelled, or the context is full
  auto stream = context.Start(options);
  ASSERT_TRUE(stream.ok());
  const auto refused = context.Append(SomeTokens(3, 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kBusy);
  EXPECT_NE(refused.error().hint.find("fork it instead"), std::string::npos);
  EXPECT_FALSE(context.Truncate(10).ok());
  EXPECT_TRUE(context.info().running);
  auto forks = context.Fork(1);
  ASSERT_TRUE(forks.ok());
  Append(forks->front(), SomeTokens(3, 1));
  while (const auto event = stream->Next()) {
    if (event->kind == Event::Kind::kToken) break;
  }
  stream->Cancel();
  const auto generated = stream->Finish();
  ASSERT_TRUE(generated.ok());
  EXPECT_EQ(generated->stop, Stop::kCancelled);
  EXPECT_EQ(context.size(), 50 + std::ssize(generated->tokens));
  EXPECT_GT(generated->tokens.size(), 0u);
  Append(context, SomeTokens(3, 1));  // it is nobody's now
}

TEST_F(ContextsApi, AStreamThatGoesAwayCancels) {
  Engine engine = Open();
  Context context = New(engine);
  Append(context, SomeTokens(50, 7));
  GenerateOptions options;
  options.model_stops = false;
  ASSERT_TRUE(context.Start(options).ok());  // and is gone
  while (context.info().running) std::this_thread::yield();
  EXPECT_LT(context.size(), 4096);
}

TEST_F(ContextsApi, WhatThreadsGetDoesNotDependOnOneAnother) {
  std::map<int, std::vector<Token>> alone;
  const auto shared = SomeTokens(256, 8);
  const auto prompt = [&](int i) {
    auto tokens = shared;
    const auto own = SomeTokens(30 + i, static_cast<uint32_t>(i));
    tokens.insert(tokens.end(), own.begin(), own.end());
    return tokens;
  };
  for (int i = 0; i < 6; ++i) alone[i] = Cold(prompt(i), 24, static_cast<uint64_t>(i));
  Engine engine = Open();
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 3; ++round) {
        Context context = New(engine);
        Append(context, prompt(i));
        auto forks = context.Fork(2);
        for (Context& fork : *forks) {
          wrong += Draw(fork, 24, static_cast<uint64_t>(i)) != alone[i];
        }
        wrong += !context.Explain().ok();
        wrong += !context.Truncate(100).ok();
        wrong += Draw(context, 3).size() != 3;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(ContextsApi, TenantsWithTheSamePromptsNeverHitOneAnother) {
  EngineOptions options = Options();
  options.tenants = {{.name = "red", .secret = "r"}, {.name = "blue", .secret = "b"}};
  Engine engine = OpenModel(options);
  const auto tokens = SomeTokens(300, 17);
  const std::pair<std::string, std::string> owners[] = {
      {"red", ""}, {"blue", ""}, {"red", "salt"}, {"red", "pepper"}, {"", ""}, {"blue", "salt"}};
  for (const auto& [tenant, salt] : owners) {
    Context context = New(engine, {.tenant = tenant, .salt = salt});
    const auto explained = context.Explain(tokens);
    ASSERT_TRUE(explained.ok());
    EXPECT_EQ(explained->reuse.cached, 0);
    EXPECT_EQ(explained->reuse.divergence, -1);
    const Appended appended = Append(context, tokens);
    EXPECT_EQ(appended.reuse.cached, 0) << tenant << "/" << salt;
    EXPECT_EQ(appended.reuse.reason, "new_prefix");
  }
  // Its own it finds.
  Context again = New(engine, {.tenant = "red", .salt = "salt"});
  EXPECT_EQ(Append(again, tokens).reuse.computed, 0);
  // Nor by files.
  ASSERT_TRUE(again.Save("mine").ok());
  const auto other = engine.Restore("mine", {.tenant = "blue"});
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, Code::kNotFound);
  EXPECT_TRUE(engine.Restore("mine", {.tenant = "red"}).ok());
  EXPECT_FALSE(engine.NewContext({.tenant = "green"}).ok());
}

TEST_F(ContextsApi, APinOverTheQuotaIsRefusedWhenItIsAskedFor) {
  EngineOptions options = Options();
  options.tenants = {{.name = "small", .secret = "s", .pin_bytes_max = 400'000}};
  Engine engine = OpenModel(options);
  Context first = New(engine, {.tenant = "small"});
  Append(first, SomeTokens(300, 18));
  ASSERT_TRUE(first.SetPin(Pin::kMemory).ok());
  const uint64_t pinned = engine.pinned_bytes("small");
  EXPECT_GT(pinned, 0u);
  // It moves along.
  Append(first, SomeTokens(200, 19));
  EXPECT_GT(engine.pinned_bytes("small"), pinned);
  std::vector<Context> more;
  bool refused = false;
  for (uint32_t i = 0; i < 50 && !refused; ++i) {
    more.push_back(New(engine, {.tenant = "small"}));
    Append(more.back(), SomeTokens(300, 200 + i));
    const auto status = more.back().SetPin(Pin::kMemory);
    refused = !status.ok();
    if (!refused) continue;
    EXPECT_EQ(status.error().code, Code::kNoSpace);
    EXPECT_NE(status.error().message.find("MiB"), std::string::npos);
    EXPECT_EQ(more.back().info().pin, Pin::kNone);
    EXPECT_EQ(more.back().size(), 300);
  }
  EXPECT_TRUE(refused);
  EXPECT_LE(engine.pinned_bytes("small"), 400'000u);
  ASSERT_TRUE(first.SetPin(Pin::kNone).ok());
  more.clear();
  EXPECT_EQ(engine.pinned_bytes("small"), 0u);
}

TEST_F(ContextsApi, PinnedStatesStayWhateverComes) {
  EngineOptions options = Options();
  options.cache_bytes = 1 << 20;
  options.context_tokens = 1024;
  Engine engine = OpenModel(options);
  Context pinned = New(engine, {.pin = Pin::kMemory});
  Append(pinned, SomeTokens(500, 20));
  for (uint32_t i = 0; i < 30; ++i) {
    Context other = New(engine);
    Append(other, SomeTokens(700, 300 + i));
  }
  Reuse reuse;
  Draw(pinned, 2, 1, &reuse);
  EXPECT_EQ(reuse.computed, 1);
}

TEST_F(ContextsApi, StatesThatLeaveMemoryComeBackFromTheDisk) {
  EngineOptions options = Options();
  options.cache_bytes = 1 << 20;
  options.context_tokens = 1024;
  options.cache_disk_bytes = 64 << 20;
  options.cache_folder = folder_ + "/cache";
  Engine engine = OpenModel(options);
  const auto tokens = SomeTokens(500, 20);
  Context first = New(engine);
  Append(first, tokens);
  std::vector<Context> others;
  for (uint32_t i = 0; i < 30; ++i) {
    others.push_back(New(engine));
    Append(others.back(), SomeTokens(700, 300 + i));
  }
  Reuse reuse;
  EXPECT_EQ(Draw(first, 8, 1, &reuse), Cold(tokens, 8));
  EXPECT_EQ(reuse.computed, 1);
  EXPECT_FALSE(Engine::Open(Golden("moe-nano"), options).ok());  // the folder is in use
}

TEST_F(ContextsApi, WhatCannotFitIsRefusedWithTheSum) {
  Engine engine = Open();
  Context context = New(engine);
  const auto refused = context.Append(SomeTokens(5000, 22));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kNoSpace);
  EXPECT_NE(refused.error().message.find("5000 tokens takes"), std::string::npos);
  EXPECT_EQ(context.size(), 0);
  EXPECT_FALSE(context.info().running);
  const auto unknown = context.Append(std::vector<Token>{1, 100'000});
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, Code::kBadInput);
  EXPECT_FALSE(context.Generate({.tokens_max = 1}).ok());  // it is empty
  Append(context, SomeTokens(5, 1));
  EXPECT_FALSE(context.Generate({.sampling = {.temperature = -1.0}}).ok());
  EXPECT_EQ(context.size(), 5);
}

TEST_F(ContextsApi, AnswersEndWhereTheContextIsFull) {
  EngineOptions options = Options();
  options.context_tokens = 128;
  Engine engine = OpenModel(options);
  Context context = New(engine);
  Append(context, SomeTokens(100, 23));
  const auto generated = context.Generate({.model_stops = false});
  ASSERT_TRUE(generated.ok()) << generated.error().ToString();
  EXPECT_EQ(generated->stop, Stop::kContextFull);
  EXPECT_LE(context.size(), 129);
}

TEST_F(ContextsApi, AnEngineThatGoesAwayRefusesWhatIsLeft) {
  std::optional<Engine> engine = Open();
  Context context = New(*engine);
  Append(context, SomeTokens(50, 24));
  Context waiting = New(*engine);
  GenerateOptions options;
  options.model_stops = false;
  auto stream = context.Start(options);
  ASSERT_TRUE(stream.ok());
  ASSERT_TRUE(stream->Next().has_value());
  std::atomic<bool> appended = false;
  std::thread other([&] {
    for (uint32_t i = 0; waiting.Append(SomeTokens(20, i)).ok(); ++i) appended = true;
  });
  std::atomic<bool> saved = false;
  std::thread saver([&] {
    Context fork = std::move(context.Fork(1).value().front());
    while (fork.Save("again").ok()) saved = true;
    saved = true;
  });
  while (!appended || !saved) std::this_thread::yield();
  engine.reset();
  saver.join();
  const auto generated = stream->Finish();
  ASSERT_FALSE(generated.ok());
  EXPECT_EQ(generated.error().code, Code::kCancelled);
  other.join();
  EXPECT_EQ(context.Append(SomeTokens(3, 1)).error().code, Code::kCancelled);
  EXPECT_GT(context.size(), 50);  // its ids are still there
  EXPECT_TRUE(context.Fork(1).ok());
}

TEST_F(ContextsApi, AnUnusedContextExpiresUnlessItIsPinned) {
  Engine engine = Open();
  Context brief = New(engine, {.ttl_seconds = 3600});
  Context pinned = New(engine, {.pin = Pin::kMemory, .ttl_seconds = 0.05});
  Context lasting = New(engine);
  for (Context* context : {&brief, &pinned, &lasting}) Append(*context, SomeTokens(40, 31));
  auto forks = brief.Fork(1);  // a fork is a thing of its own
  ASSERT_TRUE(forks.ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double idle = brief.info().idle_seconds;  // to look at it is no use of it
  EXPECT_GT(idle, 0.19);
  EXPECT_GT(brief.info().idle_seconds, idle);
  bool began_anew = false;  // at once, unless this machine is very busy
  for (int i = 0; i < 50 && !began_anew; ++i) {
    Append(brief, SomeTokens(1, 32));
    began_anew = brief.info().idle_seconds < idle;
  }
  EXPECT_TRUE(began_anew);
  EXPECT_FALSE(brief.info().expired);
  brief.SetTtl(0.05);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_TRUE(brief.info().expired);
  EXPECT_EQ(brief.size(), 0);
  const auto refused = brief.Append(SomeTokens(1, 33));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kNotFound);
  EXPECT_FALSE(brief.Fork(1).ok());
  EXPECT_FALSE(brief.Save("brief").ok());
  EXPECT_FALSE(brief.SetPin(Pin::kMemory).ok());
  EXPECT_EQ(pinned.size(), 40);
  EXPECT_EQ(lasting.size(), 40);
  EXPECT_EQ(forks->front().size(), 40);
}

TEST_F(ContextsApi, WhatIsPublishedIsComputedOnceAndCopiedToWhoeverBeginsWithIt) {
  EngineOptions options = Options();
  options.tenants = {{.name = "a"}, {.name = "b"}};
  Engine engine = OpenModel(options);
  const auto beginning = SomeTokens(700, 34);
  ASSERT_TRUE(engine.Publish(beginning).ok());
  const auto pinned = engine.pinned_bytes();
  EXPECT_GT(pinned, 0u);
  std::vector<Token> whole = beginning;
  for (const Token token : SomeTokens(20, 35)) whole.push_back(token);
  const std::vector<Token> wanted = Cold(whole, 12);
  for (const std::string tenant : {"a", "b", ""}) {
    Context context = New(engine, {.tenant = tenant, .salt = tenant + "'s"});
    const Appended appended = Append(context, whole);
    EXPECT_EQ(appended.reuse.cached, 699);
    EXPECT_EQ(Draw(context, 12), wanted);
    // What a tenant adds stays its own: only the published beginning is there for others.
    Context other = New(engine, {.tenant = tenant, .salt = "another"});
    EXPECT_EQ(Append(other, whole).reuse.cached, 699);
  }
  // What only looks like it is computed.
  std::vector<Token> edited = whole;
  edited[300] = edited[300] == 0 ? 1 : 0;
  Context context = New(engine, {.tenant = "a", .salt = "third"});
  EXPECT_EQ(Append(context, edited).reuse.cached, 0);
  EXPECT_EQ(Draw(context, 5), Cold(edited, 5));
  EXPECT_EQ(engine.pinned_bytes(), pinned);
  EXPECT_FALSE(engine.Publish(SomeTokens(1, 1)).ok());
}

TEST_F(ContextsApi, OnlyWhatIsAllowedIsDrawn) {
  Engine engine = Open();
  Context context = New(engine);
  Append(context, SomeTokens(60, 36));
  GenerateOptions options;
  options.tokens_max = 40;
  options.sampling = {.temperature = 2.0, .seed = 4};
  options.model_stops = false;
  options.allowed = {11, 12, 40};
  const auto drawn = context.Fork(1)->front().Generate(options);
  ASSERT_TRUE(drawn.ok()) << drawn.error().ToString();
  ASSERT_EQ(drawn->tokens.size(), 40u);
  std::map<Token, int> seen;
  for (const Token token : drawn->tokens) ++seen[token];
  EXPECT_EQ(seen.size(), 3u);
  for (const auto& [token, times] : seen) {
    EXPECT_EQ(std::count(options.allowed.begin(), options.allowed.end(), token), 1) << token;
  }
  options.stop_ids = {5};  // what ends it may always come, but not too early
  options.allowed = {11};
  options.tokens_min = 8;
  options.sampling.temperature = 50.0;
  options.tokens_max = 1000;
  const auto stopped = context.Fork(1)->front().Generate(options);
  ASSERT_TRUE(stopped.ok()) << stopped.error().ToString();
  EXPECT_EQ(stopped->stop, Stop::kStopToken);
  EXPECT_GE(stopped->tokens.size(), 8u);
  options.allowed = {100'000};
  const auto refused = context.Generate(options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kBadInput);
  EXPECT_FALSE(context.info().running);
}

TEST_F(ContextsApi, AnAdapterThatIsNotThereIsASentence) {
  Engine engine = Open();
  const auto refused = engine.NewContext({.adapter = "pirate"});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kUnsupported);
  EXPECT_NE(refused.error().message.find("pirate"), std::string::npos);
}

TEST_F(ContextsApi, NoModelIsASentence) {
  const auto engine = Engine::Open("/nonexistent/model.gguf");
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code, Code::kNotFound);
  EXPECT_FALSE(engine.error().hint.empty());
}

TEST_F(ContextsApi, TextBecomesTokensAndBack) {
  Engine engine = Open();
  const auto tokens = engine.Tokenize("hello");
  ASSERT_TRUE(tokens.ok()) << tokens.error().ToString();
  EXPECT_EQ(engine.Text(*tokens), "hello");
}

}  // namespace
}  // namespace lode::v1
