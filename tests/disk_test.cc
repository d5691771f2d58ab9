// States that were evicted to disk and came back, in a model that runs: every row of logits that a
// token is drawn from has the bits of a cold run, whatever happens to the disk.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "formats/open.h"
#include "model/bind.h"
#include "runtime/scheduler.h"
#include "runtime/tier/disk_tier.h"
#include "tests/support/contexts.h"

namespace lode::runtime {
namespace {

std::unique_ptr<model::Model> Load(const std::string& name) {
  auto source = formats::OpenSource(std::string(LODE_SOURCE_DIR) + "/tests/golden/" + name);
  EXPECT_TRUE(source.ok()) << name;
  if (!source.ok()) return nullptr;
  auto model = model::Bind(std::shared_ptr<const tensor::TensorSource>(std::move(*source)));
  EXPECT_TRUE(model.ok()) << name;
  return model.ok() ? std::move(*model) : nullptr;
}

// Logits after each prefix, computed cold.
class Cold {
 public:
  explicit Cold(const model::Model& model) {
    EngineOptions options;
    options.context_tokens = 1024;
    engine_ = std::make_unique<Engine>(model, options);
  }
  const std::vector<float>& After(const std::vector<Token>& tokens) {
    std::vector<float>& logits = known_[tokens];
    if (!logits.empty()) return logits;
    logits.resize(static_cast<size_t>(engine_->vocabulary()));
    auto sequence = engine_->NewSequence();
    EXPECT_TRUE(sequence.ok());
    EXPECT_TRUE(engine_->Append(*sequence, tokens, logits.data()).ok());
    return logits;
  }

 private:
  std::unique_ptr<Engine> engine_;
  std::map<std::vector<Token>, std::vector<float>> known_;
};

struct Tally {
  int64_t rows = 0, wrong = 0, failed = 0, unexplained = 0;
  int64_t promoted = 0, damaged = 0, restored_bytes = 0;
};

struct Setting {
  int64_t pages = 5, slots = 3, running_max = 2;
  int requests = 40;
  bool cancels = false;
  uint32_t faults = 0;  // one call in so many fails
  bool damages = false;
};

// Conversations that take turns, in room for about one of them.
class Conversations {
 public:
  Conversations(const model::Model& model, const Setting& setting, const std::string& folder,
                uint32_t seed, Cold* cold)
      : setting_(setting), folder_(folder), random_(seed), cold_(*cold) {
    EngineOptions options;
    options.rows_max = 64;
    options.threads = 2;
    options.sequences_max = setting.slots;
    options.context_tokens = (setting.pages - setting.slots + 1) * kTokensPerPage;
    engine_ = std::make_unique<Engine>(model, options);
    DiskTierOptions tier;
    tier.folder = folder;
    tier.budget_bytes = uint64_t{1} << 30;
    tier.free_bytes_min = 0;
    tier.disk = &disk_;
    tier_ = DiskTier::Make(&engine_->frames(), tier).value();
    SchedulerOptions scheduling;
    scheduling.disk = tier_.get();
    scheduling.running_max = setting.running_max;
    scheduling.answer_tokens = 2;
    scheduling.tree.spare_tokens = 0;
    scheduling.tree.divergence_tokens_min = 8;
    scheduling.milliseconds = [this] { return clock_ += 100.0; };  // a slow machine: disk pays
    scheduling.on_logits = [this](RequestId id, int64_t, std::span<const float> logits) {
      ++tally_.rows;
      const std::vector<float>& want = cold_.After(texts_.at(id));
      if (std::memcmp(want.data(), logits.data(), logits.size_bytes()) != 0) ++tally_.wrong;
    };
    scheduler_ = std::make_unique<Scheduler>(engine_.get(), scheduling);
    for (auto& text : conversations_) {
      for (uint32_t i = 0; i < 40 + random_() % 100; ++i) text.push_back(Any());
    }
  }

  Tally Run() {
    const auto on_event = [this](const Event& event) { See(event); };
    for (int submitted = 0; true;) {
      while (submitted < setting_.requests && (submitted == 0 || random_() % 3 == 0)) {
        Submit();
        ++submitted;
      }
      Interfere();
      const bool stepped = scheduler_->Step(on_event);
      scheduler_->tree().Check();
      engine_->frames().Check();
      if (!stepped && submitted == setting_.requests) break;
    }
    EXPECT_TRUE(texts_.empty()) << "requests without an end";
    tier_->Check();
    tally_.promoted = tier_->counts().promoted;
    tally_.damaged = tier_->counts().damaged;
    scheduler_.reset();
    EXPECT_EQ(engine_->frames().used(), 0u);
    return tally_;
  }

 private:
  Token Any() { return static_cast<Token>(random_() % 50); }
  void Submit() {
    auto& text = conversations_[random_() % std::size(conversations_)];
    for (uint32_t i = 0; i < 1 + random_() % 20; ++i) text.push_back(Any());
    if (text.size() > 350) text.resize(60);
    Request request;
    request.prompt = text;
    request.tokens_max = 1 + random_() % 4;
    request.root = scheduler_->default_root();
    // As a template would reveal it: the next turn parts from this one at its end.
    request.probes = {{std::ssize(text) - 1, PointRole::kNextUser}};
    const std::vector<Token> prompt = request.prompt;
    const auto id = scheduler_->Submit(std::move(request));
    ASSERT_TRUE(id.ok()) << id.error().ToString();
    texts_[*id] = prompt;
  }
  void Interfere() {
    disk_.fault = FaultyDisk::Fault::kNone;
    if (setting_.faults > 0 && random_() % setting_.faults == 0) {
      disk_.at = disk_.calls + 1;
      disk_.fault = FaultyDisk::Fault::kOnce;
    }
    if (setting_.cancels && !texts_.empty() && random_() % 6 == 0) {
      const auto count = static_cast<uint32_t>(texts_.size());
      scheduler_->Cancel(std::next(texts_.begin(), random_() % count)->first);
    }
    if (!setting_.damages || random_() % 10 != 0) return;
    tier_->Drain();
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (random_() % 4 != 0 || entry.file_size() == 0) continue;
      std::filesystem::resize_file(entry.path(), random_() % entry.file_size());
    }
  }
  void See(const Event& event) {
    switch (event.kind) {
      case Event::Kind::kStarted:
        tally_.restored_bytes += static_cast<int64_t>(event.match.restored_bytes);
        if (event.match.lost() > 0 && event.match.lost_reason == Reason::kComplete) {
          ++tally_.unexplained;
        }
        return;
      case Event::Kind::kProgress:
      case Event::Kind::kPromptToken:
      case Event::Kind::kPooled:
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
        texts_.erase(event.request);
        return;
    }
  }

  Setting setting_;
  std::string folder_;
  std::mt19937 random_;
  Cold& cold_;
  FaultyDisk disk_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<DiskTier> tier_;
  std::unique_ptr<Scheduler> scheduler_;
  double clock_ = 0.0;
  std::vector<Token> conversations_[6];
  std::map<RequestId, std::vector<Token>> texts_;
  Tally tally_;
};

class Disks : public ContextTest {};

TEST_F(Disks, WhatComesBackFromDiskHasTheBitsOfAColdRun) {
  Tally all;
  const Setting settings[] = {
      {},
      {.pages = 7, .running_max = 1, .cancels = true},
      {.faults = 4},
      {.cancels = true, .faults = 9, .damages = true},
  };
  uint32_t seed = 1;
  for (const char* name : {"moe-nano", "latent-super", "gguf/mix-4bit.gguf"}) {
    const auto model = Load(name);
    ASSERT_NE(model, nullptr);
    Cold cold(*model);
    for (const Setting& setting : settings) {
      SCOPED_TRACE(std::string(name) + ", seed " + std::to_string(seed));
      std::filesystem::remove_all(folder_);
      const Tally tally = Conversations(*model, setting, folder_, seed++, &cold).Run();
      EXPECT_EQ(tally.wrong, 0) << "of " << tally.rows;
      EXPECT_EQ(tally.failed, 0);
      EXPECT_EQ(tally.unexplained, 0);
      all.rows += tally.rows;
      all.promoted += tally.promoted;
      all.damaged += tally.damaged;
      all.restored_bytes += tally.restored_bytes;
    }
  }
  std::printf("    %lld rows, %lld states back from disk, %lld found damaged\n",
              static_cast<long long>(all.rows), static_cast<long long>(all.promoted),
              static_cast<long long>(all.damaged));
  EXPECT_GT(all.promoted, 50);
  EXPECT_GT(all.damaged, 2);
  EXPECT_GT(all.restored_bytes, 0);
}

TEST_F(Disks, TheNextProcessGoesOnFromWhatThisOneEvicted) {
  const auto model = Load("moe-nano");
  ASSERT_NE(model, nullptr);
  Cold cold(*model);
  std::vector<Token> text;
  for (int i = 0; i < 300; ++i) text.push_back(i % 43);
  for (const bool first : {true, false}) {
    EngineOptions options;
    options.context_tokens = 5 * kTokensPerPage;
    Engine engine(*model, options);
    DiskTierOptions tier_options;
    tier_options.folder = folder_;
    tier_options.disk = &disk_;
    const auto tier = DiskTier::Make(&engine.frames(), tier_options).value();
    SchedulerOptions scheduling;
    scheduling.disk = tier.get();
    double clock = 0.0;
    scheduling.milliseconds = [&clock] { return clock += 100.0; };
    int64_t wrong = 0, resumed = -1;
    std::vector<Token> now;
    scheduling.on_logits = [&](RequestId, int64_t, std::span<const float> logits) {
      wrong += std::memcmp(cold.After(now).data(), logits.data(), logits.size_bytes()) != 0;
    };
    Scheduler scheduler(&engine, scheduling);
    const auto ask = [&](const std::vector<Token>& prompt) {
      now = prompt;
      Request request;
      request.prompt = prompt;
      request.tokens_max = 1;
      request.root = scheduler.default_root();
      request.probes = {{std::ssize(prompt) - 1, PointRole::kNextUser}};
      ASSERT_TRUE(scheduler.Submit(std::move(request)).ok());
      while (scheduler.Step([&](const Event& event) {
        if (event.kind == Event::Kind::kStarted) resumed = event.match.resume;
      })) {
      }
    };
    if (first) {
      ask(text);
      for (int i = 0; i < 3; ++i) ask(std::vector<Token>(300, 44 + i));
    } else {
      text.push_back(7);
      ask(text);
      EXPECT_GE(resumed, 299);
    }
    EXPECT_EQ(wrong, 0);
  }
}

}  // namespace
}  // namespace lode::runtime
