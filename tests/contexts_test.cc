// The grid of contexts: whatever was cached, shared, evicted, preempted, cancelled, saved, guessed
// or computed beside it, every row of logits that a token is drawn from, every draw and every state
// has the bits of a cold run, token by token, alone, on one thread. And each planted fault turns it
// red.
//
// LODE_GRID=1 contexts_test prints the matrix.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/grid.h"
#include "tests/support/serving.h"

namespace lode::runtime {
namespace {

void Say(const Tally& all) {
  std::printf("    %lld rows, %lld draws, %lld states; %lld tokens reused, %lld evictions, %lld "
              "preempted, %lld cancelled, %lld from disk, %lld of %lld guesses stood\n",
              static_cast<long long>(all.rows), static_cast<long long>(all.draws),
              static_cast<long long>(all.states), static_cast<long long>(all.cached),
              static_cast<long long>(all.evicted), static_cast<long long>(all.preempted),
              static_cast<long long>(all.cancelled), static_cast<long long>(all.promoted),
              static_cast<long long>(all.accepted), static_cast<long long>(all.drafted));
}

TEST(Contexts, ACoveringArrayHasAllItPromises) {
  const auto rows = CoveringArray(GridFactors(), 2, 1);
  EXPECT_TRUE(Covers(rows, GridFactors(), 2));
  auto fewer = rows;
  fewer.pop_back();
  EXPECT_FALSE(Covers(fewer, GridFactors(), 2));
  EXPECT_LT(rows.size(), 200u);
}

TEST(Contexts, EveryRowDrawAndStateHasTheBitsOfAColdRunInAnyTwoFactors) {
  const Tally all = RunGrid(CoveringArray(GridFactors(), 2, 1), 1);
  Say(all);
  // A grid that nothing happens in proves nothing.
  EXPECT_GT(all.states, 500);
  EXPECT_GT(all.cached, 5000);
  EXPECT_GT(all.evicted, 100);
  EXPECT_GT(all.cancelled, 10);
  EXPECT_GT(all.accepted, 300);
  EXPECT_GT(all.drafted, all.accepted + 200);
  EXPECT_GT(all.restored, 1000);
  EXPECT_GT(all.promoted, 5);
  EXPECT_GT(all.whole, 50);
  EXPECT_GT(all.constrained, 200);
  EXPECT_GT(all.stopped, 20);
  EXPECT_EQ(all.failed, 0);  // nobody fails because another came
  for (const PointRole role : {PointRole::kSystem, PointRole::kNextUser, PointRole::kNextTool,
                               PointRole::kRetry, PointRole::kTurn, PointRole::kHint,
                               PointRole::kEnd, PointRole::kDiverge, PointRole::kLadder}) {
    EXPECT_GT(all.resumed[static_cast<size_t>(role)], 0) << Name(role);
  }
  for (const int64_t resumed : all.offsets) EXPECT_GT(resumed, 0);
}

// Six requests had only begun and were not to give way, it was not the eldest's turn, and those
// whose turn it was found no room: nobody would ever have run again.
TEST(Contexts, RequestsThatWaitForOneAnotherEndAfterAll) {
  const char* levels[] = {"nvfp4-nano, native, int8 KV", "127",   "31 others", "3",
                          "the model's or n-grams",      "restored, mapped",   "tight",
                          "nobody",                      "33 rows"};
  std::vector<int> row;
  for (const Factor& factor : GridFactors()) {
    const auto at = std::find(factor.levels.begin(), factor.levels.end(), levels[row.size()]);
    ASSERT_NE(at, factor.levels.end()) << levels[row.size()];
    row.push_back(static_cast<int>(at - factor.levels.begin()));
  }
  EXPECT_EQ(RunGrid({row}, 1869).errors(), 0);
}

TEST(Contexts, PreemptedAnswersGoOnWithTheSameBits) {
  const auto model = LoadGolden("moe-nano");
  ASSERT_NE(model, nullptr);
  Oracle oracle(*model, kF32);
  // Three answers grow to three pages each, where there are six.
  for (const int64_t drafts : {0, 3}) {
    const Setting setting = {.pages = 6, .slots = 4, .requests = 4, .prompt_max = 9, .answer = 290,
                             .progress_min = 128, .constraints = false, .drafts = drafts};
    const Tally tally = Walk(*model, kF32, setting, 5, &oracle);
    EXPECT_EQ(tally.errors(), 0);
    EXPECT_EQ(tally.failed, 0);
    EXPECT_GT(tally.preempted, 0);
  }
}

// --- Guesses -------------------------------------------------------------------------------------

// Writes down what became of each proposal.
class Recorded : public Drafter {
 public:
  Recorded(ScriptedDrafter script, std::multiset<std::pair<int64_t, int64_t>>* seen)
      : script_(std::move(script)), seen_(*seen) {}
  int64_t Propose(std::span<const int32_t> history, std::span<int32_t> drafts) override {
    return script_.Propose(history, drafts);
  }
  void Observe(int64_t proposed, int64_t accepted) override { seen_.insert({proposed, accepted}); }

 private:
  ScriptedDrafter script_;
  std::multiset<std::pair<int64_t, int64_t>>& seen_;
};

TEST(Contexts, EveryNumberOfGuessesThatMayStandIsForcedForEveryWidth) {
  for (const GridSubject& subject : {kSubjects[0], kSubjects[2], kSubjects[4]}) {
    const auto model = LoadGolden(subject.path);
    ASSERT_NE(model, nullptr);
    Oracle oracle(*model, subject.numerics);
    // What will be said, cold.
    SamplingOptions sampling;
    sampling.temperature = 1.0;
    sampling.seed = 3;
    const std::vector<Token> prompt = [&] {
      std::vector<Token> trunk = Trunk(0, model->spec.vocabulary);
      trunk.resize(100);  // and over the edge of a page
      return trunk;
    }();
    std::vector<Token> text = prompt;
    while (text.size() < 180) {
      text.push_back(Sample(oracle.After(text).logits, sampling, text.size()));
    }
    for (int64_t width = 2; width <= 8; ++width) {
      SCOPED_TRACE(std::string(subject.path) + ", W = " + std::to_string(width));
      std::vector<int64_t> accepts;  // all, in an order in which each follows another
      for (int64_t i = 0; i < width; ++i) accepts.push_back(i * (width - 1) % width);
      for (int64_t i = 0; i < width; ++i) accepts.push_back(i);
      std::multiset<std::pair<int64_t, int64_t>> seen;
      EngineOptions options = OptionsOf(subject.numerics);
      options.sequences_max = 4;
      options.trial_rows_max = width;
      Engine engine(*model, options);
      SchedulerOptions scheduling;
      scheduling.drafts_max = scheduling.drafts_fixed = width - 1;
      scheduling.drafter = [&](const Request&) {
        return std::make_unique<Recorded>(
            ScriptedDrafter(text, accepts, model->spec.vocabulary), &seen);
      };
      std::vector<Token> said = prompt;
      int64_t wrong = 0;
      scheduling.on_logits = [&](RequestId, int64_t, std::span<const float> logits) {
        const std::vector<float>& want = oracle.After(said).logits;
        wrong += std::memcmp(want.data(), logits.data(), want.size() * sizeof(float)) != 0;
      };
      Scheduler scheduler(&engine, scheduling);
      Request request;
      request.prompt = prompt;
      request.sampling = sampling;
      request.tokens_max = 79;  // which may end inside the guesses
      request.root = scheduler.default_root();
      ASSERT_TRUE(scheduler.Submit(std::move(request)).ok());
      while (scheduler.Step([&](const Event& event) {
        if (event.kind == Event::Kind::kToken) said.push_back(event.sampled.token);
      })) {
        scheduler.tree().Check();
      }
      EXPECT_EQ(wrong, 0);
      EXPECT_EQ(said, std::vector<Token>(text.begin(), text.end() - 1));
      for (int64_t stand = 0; stand < width; ++stand) {
        EXPECT_GT(seen.count({width - 1, stand}), 0u) << stand << " of " << width - 1;
      }
    }
  }
}

TEST(Contexts, AStopInsideTheGuessesEndsTheTextThere) {
  const auto model = LoadGolden("moe-nano");
  ASSERT_NE(model, nullptr);
  Oracle oracle(*model, kF32);
  std::vector<Token> prompt = Trunk(1, model->spec.vocabulary);
  prompt.resize(20);
  std::vector<Token> text = prompt;
  while (text.size() < 60) text.push_back(Sample(oracle.After(text).logits, {}, text.size()));
  for (size_t end = 21; end < 40; ++end) {
    EngineOptions options = OptionsOf(kF32);
    options.sequences_max = 4;
    options.trial_rows_max = 8;
    Engine engine(*model, options);
    SchedulerOptions scheduling;
    scheduling.drafts_max = scheduling.drafts_fixed = 7;
    scheduling.drafter = [&](const Request&) {
      return std::make_unique<ScriptedDrafter>(text, std::vector<int64_t>{7}, 288);
    };
    Scheduler scheduler(&engine, scheduling);
    Request request;
    request.prompt = prompt;
    request.tokens_max = 39;
    request.stop_ids = {text[end]};
    request.root = scheduler.default_root();
    ASSERT_TRUE(scheduler.Submit(std::move(request)).ok());
    std::vector<Token> said = prompt;
    while (scheduler.Step([&](const Event& event) {
      if (event.kind == Event::Kind::kToken) said.push_back(event.sampled.token);
    })) {
    }
    const auto stop = std::find(text.begin() + 20, text.end(), text[end]);
    EXPECT_EQ(said, std::vector<Token>(text.begin(), stop)) << end;
  }
}

// --- Saved contexts ------------------------------------------------------------------------------

TEST(Contexts, ARestoredContextGoesOnWithTheSameBits) {
  const std::string folder = ::testing::TempDir() + "lode_contexts_" + std::to_string(::getpid());
  for (const GridSubject& subject : kSubjects) {
    SCOPED_TRACE(subject.path);
    const auto model = LoadGolden(subject.path);
    ASSERT_NE(model, nullptr);
    Oracle oracle(*model, subject.numerics);
    ContextFingerprints prints;
    prints.model = {Sha256(std::string(subject.path)), subject.path};
    prints.numerics = {Sha256(std::string(subject.numerics.name)), subject.numerics.name};
    auto store = ContextStore::Open(folder);
    ASSERT_TRUE(store.ok()) << store.error().ToString();
    std::vector<Token> text;
    for (const size_t length : {1u, 127u, 128u, 129u, 300u}) {
      std::mt19937 random(static_cast<uint32_t>(length));
      // One process computes and saves; another restores, answers the same once more without
      // computing it, and goes on with three tokens more.
      for (const bool first : {true, false}) {
        EngineOptions options = OptionsOf(subject.numerics);
        options.context_tokens = 1024;
        options.sequences_max = 4;
        Engine engine(*model, options);
        SchedulerOptions scheduling;
        int64_t wrong = 0;
        scheduling.on_logits = [&](RequestId, int64_t, std::span<const float> logits) {
          const std::vector<float>& want = oracle.After(text).logits;
          wrong += std::memcmp(want.data(), logits.data(), want.size() * sizeof(float)) != 0;
        };
        Scheduler scheduler(&engine, scheduling);
        if (first) {
          text.clear();
          while (text.size() < length) text.push_back(static_cast<Token>(random() % 50));
        } else {
          auto file = store->OpenContext("walk");
          ASSERT_TRUE(file.ok()) << file.error().ToString();
          const auto restored = RestoreContext(&scheduler, **file, prints);
          ASSERT_TRUE(restored.ok()) << restored.error().ToString();
          EXPECT_EQ(*restored, static_cast<int64_t>(length));
          ContextFingerprints other = prints;
          other.model.digest[0] ^= std::byte{1};
          EXPECT_FALSE(RestoreContext(&scheduler, **file, other).ok());
        }
        for (const int more : first ? std::vector<int>{0} : std::vector<int>{0, 3}) {
          for (int i = 0; i < more; ++i) text.push_back(static_cast<Token>(random() % 50));
          Request request;
          request.prompt = text;
          request.tokens_max = 1;
          request.root = scheduler.default_root();
          ASSERT_TRUE(scheduler.Submit(std::move(request)).ok());
          int64_t resumed = -1;
          while (scheduler.Step([&](const Event& event) {
            if (event.kind == Event::Kind::kStarted) resumed = event.match.resume;
          })) {
            scheduler.tree().Check();
          }
          EXPECT_EQ(wrong, 0) << length;
          EXPECT_EQ(resumed, first ? 0 : static_cast<int64_t>(length));
        }
        if (!first) continue;
        const auto saved = SaveContext(&scheduler, &*store, "walk", text, prints, Json::object());
        ASSERT_TRUE(saved.ok()) << saved.error().ToString();
        EXPECT_EQ(saved->tokens, static_cast<int64_t>(length));
      }
    }
  }
  std::filesystem::remove_all(folder);
}

// --- Faults --------------------------------------------------------------------------------------

TEST(Contexts, EachPlantedFaultIsSeen) {
  const auto model = LoadGolden("moe-nano");
  ASSERT_NE(model, nullptr);
  Oracle oracle(*model, kF32);
  std::vector<std::pair<std::string, Setting>> faulty;
  const Setting plain = {.chunk_rows = 40, .requests = 24};
  for (const Fault fault :
       {Fault::kWriteSharedPage, Fault::kWriteSharedSlot, Fault::kReadTargetSlot,
        Fault::kKeepSlotDirty, Fault::kForgetNewSlot, Fault::kPositionTooSmall,
        Fault::kPositionTooLarge, Fault::kSwapPages, Fault::kStaleTail, Fault::kTrialInPlace,
        Fault::kSkipReplay, Fault::kMixSlots}) {
    Setting setting = plain;
    setting.fault = fault;
    if (fault == Fault::kTrialInPlace || fault == Fault::kSkipReplay) setting.drafts = 3;
    faulty.push_back({"fault " + std::to_string(static_cast<int>(fault)), setting});
  }
  for (const SchedulerFault fault :
       {SchedulerFault::kSeedBySlot, SchedulerFault::kTapTooEarly, SchedulerFault::kFreezeLate,
        SchedulerFault::kResumeTooDeep, SchedulerFault::kTrustGuesses,
        SchedulerFault::kSkipToken, SchedulerFault::kHiddenOfAnother}) {
    Setting setting = plain;
    setting.scheduler_fault = fault;
    if (fault == SchedulerFault::kTrustGuesses) setting.drafts = 3;
    faulty.push_back({"scheduler fault " + std::to_string(static_cast<int>(fault)), setting});
  }
  EXPECT_GE(faulty.size(), 15u);
  for (const auto& [name, setting] : faulty) {
    Tally tally;
    for (uint32_t seed = 1; seed <= 6 && tally.errors() == 0; ++seed) {
      tally = Walk(*model, kF32, setting, seed, &oracle);
    }
    EXPECT_GT(tally.errors(), 0) << name;
  }
  // And without one the same walks are green.
  for (const int64_t drafts : {0, 3}) {
    Setting setting = plain;
    setting.drafts = drafts;
    for (uint32_t seed = 1; seed <= 3; ++seed) {
      EXPECT_EQ(Walk(*model, kF32, setting, seed, &oracle).errors(), 0);
    }
  }
}

}  // namespace
}  // namespace lode::runtime
