// The grid of contexts: whatever was cached, shared, evicted, preempted, cancelled or computed beside
// it, every row of logits that a token is drawn from has the bits of a cold run, token by token, alone,
// on one thread. And each planted fault turns it red.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "formats/open.h"
#include "model/bind.h"
#include "runtime/saved_context.h"
#include "runtime/scheduler.h"

namespace lode::runtime {
namespace {

std::string Golden(const std::string& name) {
  return std::string(LODE_SOURCE_DIR) + "/tests/golden/" + name;
}

std::unique_ptr<model::Model> Load(const std::string& path) {
  auto source = formats::OpenSource(path);
  EXPECT_TRUE(source.ok()) << path;
  if (!source.ok()) return nullptr;
  auto model = model::Bind(std::shared_ptr<const tensor::TensorSource>(std::move(*source)));
  EXPECT_TRUE(model.ok()) << path;
  return model.ok() ? std::move(*model) : nullptr;
}

struct Numerics {
  const char* name;
  model::Activations activations;
  kernels::KvType kv;
};
constexpr Numerics kF32 = {"f32", model::Activations::kF32, kernels::KvType::kF32};
constexpr Numerics kNative = {"native", model::Activations::kNative, kernels::KvType::kBF16};
constexpr Numerics kInt8 = {"native, int8 KV", model::Activations::kNative, kernels::KvType::kInt8};

EngineOptions Options(const Numerics& numerics) {
  EngineOptions options;
  options.numerics.activations = numerics.activations;
  options.numerics.kv = numerics.kv;
  return options;
}

// The oracle: logits after every prefix, from cold runs of one token a step.
class Oracle {
 public:
  Oracle(const model::Model& model, const Numerics& numerics) {
    EngineOptions options = Options(numerics);
    options.rows_max = 1;
    options.context_tokens = kRuns * 1024;
    options.sequences_max = kRuns;
    engine_ = std::make_unique<Engine>(model, options);
  }
  const std::vector<float>& After(const std::vector<Token>& tokens) {
    std::vector<float>& logits = known_[tokens];
    if (!logits.empty()) return logits;
    Run& run = RunFor(tokens);
    std::vector<float> row(static_cast<size_t>(engine_->vocabulary()));
    for (size_t i = run.tokens.size(); i < tokens.size(); ++i) {
      const StepItem item = {&*run.sequence, {&tokens[i], 1}};
      EXPECT_TRUE(engine_->Step({&item, 1}, row.data()).ok());
      run.tokens.push_back(tokens[i]);
    }
    return logits = row;
  }

 private:
  static constexpr size_t kRuns = 8;
  struct Run {
    std::optional<Sequence> sequence;
    std::vector<Token> tokens;
  };
  // One that these tokens go on from, else a cold one in the place of the oldest.
  Run& RunFor(const std::vector<Token>& tokens) {
    Run* best = nullptr;
    for (Run& run : runs_) {
      if (run.tokens.size() < tokens.size() &&
          std::equal(run.tokens.begin(), run.tokens.end(), tokens.begin()) &&
          (best == nullptr || run.tokens.size() > best->tokens.size())) {
        best = &run;
      }
    }
    if (best != nullptr && best->sequence) return *best;
    Run& run = runs_[next_++ % kRuns];
    run = {};
    auto fresh = engine_->NewSequence();
    EXPECT_TRUE(fresh.ok());
    run.sequence = std::move(*fresh);
    return run;
  }

  std::unique_ptr<Engine> engine_;
  Run runs_[kRuns];
  size_t next_ = 0;
  std::map<std::vector<Token>, std::vector<float>> known_;
};

// Guesses what will be drawn, and is wrong once in three times.
class TrueDrafter : public Drafter {
 public:
  TrueDrafter(Oracle* oracle, const SamplingOptions& sampling)
      : oracle_(*oracle), sampling_(sampling), random_(static_cast<uint32_t>(sampling.seed)) {}

  int64_t Propose(std::span<const int32_t> history, std::span<int32_t> drafts) override {
    std::vector<Token> text(history.begin(), history.end());
    for (int32_t& draft : drafts) {
      draft = Sample(oracle_.After(text), sampling_, text.size());
      if (random_() % 3 == 0) draft = draft == 0 ? 1 : draft - 1;
      text.push_back(draft);
    }
    return static_cast<int64_t>(drafts.size());
  }

 private:
  Oracle& oracle_;
  SamplingOptions sampling_;
  std::mt19937 random_;
};

// Prompts that share beginnings, cut anywhere: at and beside the edges of pages as well.
class Prompts {
 public:
  Prompts(uint32_t seed, int64_t vocabulary) : random_(seed) {
    for (auto& text : texts_) {
      for (int i = 0; i < 400; ++i) text.push_back(Any(static_cast<int32_t>(vocabulary)));
    }
    vocabulary_ = static_cast<int32_t>(vocabulary);
  }
  int32_t Any(int32_t below) {
    return static_cast<int32_t>(random_() % static_cast<uint32_t>(below));
  }
  std::vector<Token> Next() {
    constexpr int kCuts[] = {1, 2, 3, 63, 64, 126, 127, 128, 129, 130, 200, 255, 256, 257};
    const auto& text = texts_[random_() % std::size(texts_)];
    const size_t cut = random_() % 2 == 0 ? static_cast<size_t>(kCuts[Any(std::size(kCuts))])
                                          : 1 + random_() % 260;
    std::vector<Token> prompt(text.begin(), text.begin() + static_cast<int64_t>(cut));
    const uint32_t more = random_() % 4 == 0 ? 0 : random_() % 40;
    // Few values, so that ends are shared, too.
    for (uint32_t i = 0; i < more; ++i) prompt.push_back(Any(std::min(3, vocabulary_)));
    return prompt;
  }
  bool Chance(uint32_t one_in) { return random_() % one_in == 0; }

 private:
  std::mt19937 random_;
  std::vector<Token> texts_[2];
  int32_t vocabulary_;
};

struct Setting {
  int64_t chunk_rows = 0, rows_max = 64, running_max = 4;
  int threads = 2;
  int64_t pages = 40, slots = 12;  // of the budget
  int requests = 16;
  size_t prompt_max = 1000;
  int answer = 0;  // tokens of each; 0: below 12
  bool cancels = false;
  int64_t drafts = 0;
  bool scripted = true;  // guesses are right twice in three times; else as the scheduler has them
  Fault fault = Fault::kNone;
};

struct Tally {
  int64_t rows = 0, wrong = 0, failed = 0;
  int64_t drafted = 0, accepted = 0;
  int64_t cached = 0, preempted = 0, evicted = 0, cancelled = 0;
};

class Walk {
 public:
  Walk(const model::Model& model, const Numerics& numerics, const Setting& setting, uint32_t seed,
       Oracle* oracle)
      : oracle_(oracle), prompts_(seed, model.spec.vocabulary), setting_(setting) {
    EngineOptions options = Options(numerics);
    options.threads = setting.threads;
    options.rows_max = setting.rows_max;
    options.sequences_max = setting.slots;
    options.context_tokens =
        std::max<int64_t>(1, setting.pages - setting.slots + 1) * kernels::kPageTokens;
    options.fault = setting.fault;
    if (setting.drafts > 0) options.trial_rows_max = setting.drafts + 1;
    engine_ = std::make_unique<Engine>(model, options);
    SchedulerOptions scheduling;
    scheduling.running_max = setting.running_max;
    scheduling.chunk_rows = setting.chunk_rows;
    scheduling.answer_tokens = 2;  // little is promised, so requests get into one another's way
    scheduling.tree.divergence_tokens_min = 8;
    scheduling.tree.spare_tokens = 32;
    scheduling.tree.rolling_tokens = 48;
    scheduling.tree.ladder_first = 64;
    scheduling.tree.compare_published = setting.fault == Fault::kNone ? 1 : 0;
    scheduling.drafts_max = scheduling.drafts_fixed = setting.drafts;
    if (setting.scripted) {
      scheduling.drafter = [oracle](const Request& request) {
        return std::make_unique<TrueDrafter>(oracle, request.sampling);
      };
    }
    scheduling.milliseconds = [this] { return clock_ += 1.0; };
    scheduling.on_logits = [this](RequestId id, int64_t position, std::span<const float> logits) {
      Compare(id, position, logits);
    };
    scheduler_ = std::make_unique<Scheduler>(engine_.get(), scheduling);
  }

  Tally Run() {
    const auto on_event = [this](const Event& event) { See(event); };
    int submitted = 0;
    while (true) {
      while (submitted < setting_.requests && (submitted == 0 || prompts_.Chance(3))) {
        Submit();
        ++submitted;
      }
      const bool stepped = scheduler_->Step(on_event);
      if (setting_.fault == Fault::kNone) {
        scheduler_->tree().Check();
        engine_->frames().Check();
      }
      if (!stepped && submitted == setting_.requests) break;
      if (setting_.cancels && prompts_.Chance(10) && !texts_.empty()) {
        scheduler_->Cancel(std::next(texts_.begin(), prompts_.Any(static_cast<int32_t>(
                                                         texts_.size())))->first);
      }
    }
    EXPECT_TRUE(texts_.empty()) << "requests without an end";
    tally_.preempted = scheduler_->preemptions();
    tally_.drafted = scheduler_->drafted();
    tally_.accepted = scheduler_->accepted();
    tally_.evicted = scheduler_->tree().counts().evicted;
    return tally_;
  }

 private:
  void Submit() {
    Request request;
    request.prompt = prompts_.Next();
    request.prompt.resize(std::min(request.prompt.size(), setting_.prompt_max));
    request.tokens_max = setting_.answer > 0 ? setting_.answer : prompts_.Any(12);
    request.root = scheduler_->default_root();
    request.sampling.temperature = prompts_.Chance(2) ? 0.0 : 1.0;
    request.sampling.seed = static_cast<uint64_t>(prompts_.Any(1000));
    request.use_cache = !prompts_.Chance(8);
    const std::vector<Token> prompt = request.prompt;
    const auto id = scheduler_->Submit(std::move(request));
    ASSERT_TRUE(id.ok()) << id.error().ToString();
    texts_[*id] = prompt;
  }
  void Compare(RequestId id, int64_t position, std::span<const float> logits) {
    const std::vector<Token>& text = texts_.at(id);
    ++tally_.rows;
    if (position != static_cast<int64_t>(text.size())) {
      ++tally_.wrong;
      return;
    }
    const std::vector<float>& want = oracle_->After(text);
    if (std::memcmp(want.data(), logits.data(), want.size() * sizeof(float)) != 0) ++tally_.wrong;
  }
  void See(const Event& event) {
    switch (event.kind) {
      case Event::Kind::kStarted:
        tally_.cached += event.match.resume;
        // Every token that is computed although it was known has a reason.
        EXPECT_TRUE(event.match.lost() == 0 || event.match.lost_reason != Reason::kComplete);
        return;
      case Event::Kind::kProgress:
        return;
      case Event::Kind::kToken:
        texts_.at(event.request).push_back(event.sampled.token);
        return;
      case Event::Kind::kFailed:
        ++tally_.failed;
        ADD_FAILURE() << event.error->ToString();
        texts_.erase(event.request);
        return;
      case Event::Kind::kFinished:
        if (event.stop == StopReason::kCancelled) ++tally_.cancelled;
        texts_.erase(event.request);
        return;
    }
  }

  Oracle* oracle_;
  Prompts prompts_;
  Setting setting_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Scheduler> scheduler_;
  double clock_ = 0.0;
  std::map<RequestId, std::vector<Token>> texts_;
  Tally tally_;
};

struct Subject {
  const char* path;
  Numerics numerics;
};
const Subject kSubjects[] = {
    {"moe-nano", kF32},          {"moe-nano", kNative},       {"latent-super", kNative},
    {"dense-head80", kF32},      {"gguf/mix-legacy.gguf", kNative}, {"gguf/mix-4bit.gguf", kNative},
    {"gguf/moe-k.gguf", kNative}, {"nvfp4-nano", kInt8},
};

TEST(Contexts, EveryDrawnRowHasTheBitsOfAColdRun) {
  const Setting settings[] = {
      {.chunk_rows = 1},
      {.chunk_rows = 3, .threads = 1},
      {.chunk_rows = 17, .running_max = 7},
      {.chunk_rows = 127, .rows_max = 256},
      {.rows_max = 256, .running_max = 1},
      {.rows_max = 300, .threads = 3, .cancels = true},
      {.chunk_rows = 64, .pages = 24, .slots = 5, .cancels = true},
      {.chunk_rows = 33, .running_max = 8, .pages = 9, .slots = 3},  // all are in each other's way
      {.drafts = 1},
      {.chunk_rows = 50, .rows_max = 300, .drafts = 3},
      {.rows_max = 40, .pages = 24, .slots = 9, .cancels = true, .drafts = 5},
      {.chunk_rows = 29, .pages = 24, .slots = 7, .answer = 30, .drafts = 4, .scripted = false},
  };
  Tally all;
  for (const Subject& subject : kSubjects) {
    const auto model = Load(Golden(subject.path));
    ASSERT_NE(model, nullptr);
    Oracle oracle(*model, subject.numerics);
    uint32_t seed = static_cast<uint32_t>(&subject - kSubjects);
    for (const Setting& setting : settings) {
      SCOPED_TRACE(std::string(subject.path) + ", " + subject.numerics.name + ", seed " +
                   std::to_string(seed));
      const Tally tally = Walk(*model, subject.numerics, setting, seed++, &oracle).Run();
      EXPECT_EQ(tally.wrong, 0) << "of " << tally.rows;
      all.rows += tally.rows;
      all.cached += tally.cached;
      all.drafted += tally.drafted;
      all.accepted += tally.accepted;
      all.evicted += tally.evicted;
      all.cancelled += tally.cancelled;
      all.failed += tally.failed;
    }
  }
  std::printf("    %lld rows; %lld tokens reused, %lld evictions, %lld cancelled, %lld of %lld guesses "
              "stood\n",
              static_cast<long long>(all.rows), static_cast<long long>(all.cached),
              static_cast<long long>(all.evicted), static_cast<long long>(all.cancelled),
              static_cast<long long>(all.accepted), static_cast<long long>(all.drafted));
  // A grid that nothing happens in proves nothing.
  EXPECT_GT(all.cached, 5000);
  EXPECT_GT(all.evicted, 100);
  EXPECT_GT(all.cancelled, 10);
  EXPECT_GT(all.accepted, 300);
  EXPECT_GT(all.drafted, all.accepted + 200);
  EXPECT_EQ(all.failed, 0);  // nobody fails because another came
}

TEST(Contexts, PreemptedAnswersGoOnWithTheSameBits) {
  const auto model = Load(Golden("moe-nano"));
  ASSERT_NE(model, nullptr);
  Oracle oracle(*model, kF32);
  // Three answers grow to three pages each, where there are six.
  const Tally tally =
      Walk(*model, kF32, {.pages = 6, .slots = 4, .requests = 6, .prompt_max = 9, .answer = 290}, 5,
           &oracle)
          .Run();
  EXPECT_EQ(tally.wrong, 0);
  EXPECT_EQ(tally.failed, 0);
  EXPECT_GT(tally.preempted, 0);
}

TEST(Contexts, ARestoredContextGoesOnWithTheSameBits) {
  const std::string folder = ::testing::TempDir() + "lode_contexts_" + std::to_string(::getpid());
  for (const Subject& subject : kSubjects) {
    SCOPED_TRACE(subject.path);
    const auto model = Load(Golden(subject.path));
    ASSERT_NE(model, nullptr);
    Oracle oracle(*model, subject.numerics);
    ContextFingerprints prints;
    prints.model = {Sha256(std::string(subject.path)), subject.path};
    prints.numerics = {Sha256(std::string(subject.numerics.name)), subject.numerics.name};
    auto store = ContextStore::Open(folder);
    ASSERT_TRUE(store.ok()) << store.error().ToString();
    std::vector<Token> text;
    for (const size_t length : {1u, 127u, 128u, 129u, 300u}) {
      Prompts prompts(static_cast<uint32_t>(length), model->spec.vocabulary);
      // One process computes and saves; another restores and goes on with three tokens more.
      for (const bool first : {true, false}) {
        EngineOptions options = Options(subject.numerics);
        options.context_tokens = 1024;
        options.sequences_max = 4;
        Engine engine(*model, options);
        SchedulerOptions scheduling;
        int64_t wrong = 0;
        scheduling.on_logits = [&](RequestId, int64_t, std::span<const float> logits) {
          const std::vector<float>& want = oracle.After(text);
          wrong += std::memcmp(want.data(), logits.data(), want.size() * sizeof(float)) != 0;
        };
        Scheduler scheduler(&engine, scheduling);
        if (first) {
          text.clear();
          while (text.size() < length) text.push_back(prompts.Any(50));
        } else {
          auto file = store->OpenContext("walk");
          ASSERT_TRUE(file.ok()) << file.error().ToString();
          const auto restored = RestoreContext(&scheduler, **file, prints);
          ASSERT_TRUE(restored.ok()) << restored.error().ToString();
          EXPECT_EQ(*restored, static_cast<int64_t>(length));
          for (int i = 0; i < 3; ++i) text.push_back(prompts.Any(50));
          ContextFingerprints other = prints;
          other.model.digest[0] ^= std::byte{1};
          EXPECT_FALSE(RestoreContext(&scheduler, **file, other).ok());
        }
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
        if (!first) continue;
        const auto saved = SaveContext(&scheduler, &*store, "walk", text, prints, Json::object());
        ASSERT_TRUE(saved.ok()) << saved.error().ToString();
        EXPECT_EQ(saved->tokens, static_cast<int64_t>(length));
      }
    }
  }
  std::filesystem::remove_all(folder);
}

TEST(Contexts, EachPlantedFaultIsSeen) {
  const auto model = Load(Golden("moe-nano"));
  ASSERT_NE(model, nullptr);
  Oracle oracle(*model, kF32);
  for (const Fault fault :
       {Fault::kWriteSharedPage, Fault::kWriteSharedSlot, Fault::kReadTargetSlot,
        Fault::kKeepSlotDirty, Fault::kForgetNewSlot, Fault::kPositionTooSmall,
        Fault::kPositionTooLarge, Fault::kSwapPages, Fault::kStaleTail, Fault::kTrialInPlace,
        Fault::kSkipReplay, Fault::kMixSlots}) {
    const bool guessing = fault == Fault::kTrialInPlace || fault == Fault::kSkipReplay;
    Tally tally;
    for (uint32_t seed = 1; seed <= 4 && tally.wrong == 0; ++seed) {
      tally = Walk(*model, kF32, {.chunk_rows = 40,
                                    .requests = 24,
                                    .drafts = guessing ? 3 : 0,
                                    .fault = fault},
                   seed, &oracle)
                  .Run();
    }
    EXPECT_GT(tally.wrong, 0) << "fault " << static_cast<int>(fault);
  }
}

}  // namespace
}  // namespace lode::runtime
