// Whole runs of pretraining on a tiny hybrid with every kind of block: they learn, they go on to
// the bit after whatever stopped them, they refuse what is not theirs, and what they write is a
// model.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "api/open.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "formats/hf_checkpoint.h"
#include "tune/run.h"

namespace lode {
namespace {

namespace fs = std::filesystem;
using tune::RunConfig;
using tune::RunReport;
using tune::TrainingRun;

Json TinyConfig() {
  return {{"model_type", "nemotron_h"},
          {"hybrid_override_pattern", "ME*-"},
          {"hidden_size", 32},
          {"mamba_num_heads", 2},
          {"mamba_head_dim", 16},
          {"n_groups", 1},
          {"ssm_state_size", 8},
          {"conv_kernel", 4},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 16},
          {"intermediate_size", 32},
          {"n_routed_experts", 4},
          {"num_experts_per_tok", 2},
          {"moe_intermediate_size", 16},
          {"n_shared_experts", 1},
          {"moe_shared_expert_intermediate_size", 16},
          {"routed_scaling_factor", 2.5}};
}

class TrainRun : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "train_run_test";
    fs::remove_all(folder_);
    ASSERT_TRUE(MakeFolders(folder_).ok());
    std::string text;
    for (int i = 0; i < 300; ++i) text += Format("%d sheep, %d dogs. ", i % 7, i % 5);
    ASSERT_TRUE(WriteFileAtomic(folder_ + "/text.txt", text).ok());
    config_.model = TinyConfig();
    config_.training.all = {folder_ + "/text.txt"};
    config_.steps = 20;
    config_.batch = 4;
    config_.sequence = 24;
    config_.accumulate = 2;
    config_.peak = 1e-2;
    config_.threads = 1;
    config_.sample_every = 0;
    config_.evaluate_every = 5;
    config_.checkpoint_every = 5;
    config_.keep = 10;
  }
  void TearDown() override { fs::remove_all(folder_); }

  // A run in `name`; stopped by the user after step `stop` (0: never).
  Result<RunReport> Run(const std::string& name, bool resume = false, int64_t stop = 0) {
    notes_.clear();
    LODE_ASSIGN(const auto run, TrainingRun::Open(config_));
    int64_t step = 0;
    tune::Watcher watcher;
    watcher.step = [&](const tune::StepProgress& p) { step = p.metrics.step; };
    watcher.evaluation = [](const tune::EvaluationMetrics&) {};
    watcher.sample = [&](int64_t, const std::string& text) { samples_.push_back(text); };
    watcher.note = [&](const std::string& note) { notes_.push_back(note); };
    watcher.stopped = [&] { return stop > 0 && step >= stop; };
    return run->Run(folder_ + "/" + name, resume, watcher);
  }
  std::string ErrorOf(const std::string& name, bool resume = true) {
    const auto report = Run(name, resume);
    return report.ok() ? "" : report.error().ToString();
  }
  std::string Bytes(const std::string& path) { return *ReadFile(folder_ + "/" + path); }
  // The metrics without what a clock says.
  std::vector<std::string> Losses(const std::string& name) {
    std::vector<std::string> lines;
    for (const std::string& text : Split(Bytes(name + "/metrics.jsonl"), '\n')) {
      if (text.empty()) continue;
      Json line = *ParseJson(text);
      line.erase("seconds");
      line.erase("tokens_per_second");
      lines.push_back(DumpJson(line));
    }
    return lines;
  }
  void ExpectSame(const std::string& a, const std::string& b) {
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      const std::string path = std::string("/checkpoints/step-20/") + file;
      EXPECT_EQ(Bytes(a + path), Bytes(b + path)) << file;
    }
    EXPECT_EQ(Bytes(a + "/model/model.safetensors"), Bytes(b + "/model/model.safetensors"));
    EXPECT_EQ(Losses(a), Losses(b));
  }

  std::string folder_;
  RunConfig config_;
  std::vector<std::string> notes_, samples_;
};

TEST_F(TrainRun, LearnsAndWritesAModelThatOpens) {
  config_.steps = 150;
  config_.sample_every = 150;
  config_.sample_tokens = 40;
  const auto report = Run("a");
  ASSERT_TRUE(report.ok()) << report.error().ToString();
  EXPECT_LT(report->last.loss, 0.6);  // of about 3 before
  ASSERT_EQ(samples_.size(), 1u);
  EXPECT_NE(samples_[0].find("sheep"), std::string::npos) << samples_[0];
  auto source = api::OpenSource(report->model);
  ASSERT_TRUE(source.ok()) << source.error().ToString();
  const auto text = api::OpenText(**source);
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text->chat_template, nullptr);
  const auto running = api::Run(*source, {});
  ASSERT_TRUE(running.ok()) << running.error().ToString();
  // It predicts as the trainer does.
  const auto tokens = text->tokenizer->Encode("3 sheep, 3 do");
  std::vector<float> logits(static_cast<size_t>(running->engine->vocabulary()));
  auto sequence = running->engine->NewSequence();
  ASSERT_TRUE(running->engine->Append(*sequence, *tokens, logits.data()).ok());
  const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  EXPECT_EQ(text->tokenizer->TokenText(static_cast<int32_t>(best)), "g");
}

TEST_F(TrainRun, GoesOnToTheBitOnOtherThreadsAndWithRecomputation) {
  ASSERT_TRUE(Run("whole").ok());
  EXPECT_EQ(Losses("whole").size(), 20u + 4u);
  const auto stopped = Run("parts", false, 10);
  ASSERT_TRUE(stopped.ok()) << stopped.error().ToString();
  EXPECT_TRUE(stopped->stopped);
  EXPECT_EQ(stopped->state.step, 10);
  EXPECT_FALSE(IsFolder(folder_ + "/parts/model"));
  config_.threads = 3;
  config_.recompute = true;
  ASSERT_TRUE(Run("parts", true, 13)->stopped);  // between two checkpoints
  config_.threads = 2;
  config_.recompute = false;
  ASSERT_TRUE(Run("parts", true).ok());
  ExpectSame("whole", "parts");
}

TEST_F(TrainRun, GoesOnToTheBitWithMuon) {
  config_.optimizer = "muon";
  ASSERT_TRUE(Run("whole").ok());
  ASSERT_TRUE(Run("parts", false, 7)->stopped);
  config_.threads = 3;
  ASSERT_TRUE(Run("parts", true).ok());
  ExpectSame("whole", "parts");
  config_.optimizer = "adamw";
  EXPECT_NE(ErrorOf("parts").find("was made with optimizer.kind = \"muon\", not \"adamw\""),
            std::string::npos);
}

// Questions about one number, as examples and as tasks.
class TrainRecipe : public TrainRun {
 protected:
  void SetUp() override {
    TrainRun::SetUp();
    std::string examples, tasks, pairs;
    for (int i = 0; i < 60; ++i) {
      const std::string prompt = Format("%d>", i % 10), answer = Format("%d", (i + 1) % 10);
      examples += DumpJson({{"prompt", prompt}, {"completion", answer}}) + "\n";
      tasks +=
          DumpJson({{"prompt", prompt}, {"environment", "math"}, {"expected_answer", answer}}) +
          "\n";
    }
    for (int i = 0; i < 60; ++i) {
      pairs += DumpJson({{"prompt", Format("%d>", i % 10)},
                         {"chosen", Format("%d", (i + 1) % 10)},
                         {"rejected", Format("%d", (i + 4) % 10)}}) +
               "\n";
    }
    Write("pairs.jsonl", pairs);
    Write("examples.jsonl", examples);
    Write("tasks.jsonl", tasks);
    config_.recipe = "sft";
    config_.training.all = {folder_ + "/examples.jsonl"};
    config_.held_out_share = 0.2;
    config_.batch = 2;
  }
  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFileAtomic(folder_ + "/" + name, text).ok());
  }
  // From examples a little, so that some answers are right.
  void Reward() {
    config_.steps = 15;
    ASSERT_TRUE(Run("sft").ok());
    config_.recipe = "grpo";
    config_.peak = 2e-3;
    config_.form = "none";
    config_.model = Json::object();
    config_.from.all = {folder_ + "/sft/model"};
    config_.training.all = {folder_ + "/tasks.jsonl"};
    config_.accumulate = 1;
    config_.steps = 20;
    config_.batch = 20;
    config_.answers = 8;
    config_.answer_tokens = 2;
  }
};

TEST_F(TrainRecipe, ExamplesAreLearntAndGoOnToTheBit) {
  config_.steps = 100;
  const auto report = Run("learnt");
  ASSERT_TRUE(report.ok()) << report.error().ToString();
  EXPECT_LT(report->last.loss, 0.3);
  config_.steps = 20;
  ASSERT_TRUE(Run("whole").ok());
  ASSERT_TRUE(Run("parts", false, 7)->stopped);  // within an epoch
  config_.threads = 3;
  ASSERT_TRUE(Run("parts", true, 13)->stopped);
  ASSERT_TRUE(Run("parts", true).ok());
  ExpectSame("whole", "parts");
  Write("examples.jsonl", "{\"prompt\": \"1\", \"completion\": \"2\"}\n");
  config_.held_out_share = 0.0;
  EXPECT_FALSE(Run("parts", true).ok());
}

TEST_F(TrainRecipe, RewardsAreLearntFromAndGoOnToTheBit) {
  Reward();
  ASSERT_TRUE(Run("whole").ok());
  ASSERT_TRUE(Run("parts", false, 7)->stopped);
  config_.threads = 3;
  ASSERT_TRUE(Run("parts", true).ok());
  ExpectSame("whole", "parts");
  double first = 0.0, last = 0.0, drift = 0.0;
  int64_t step = 0;
  for (const std::string& line : Losses("whole")) {
    const Json metrics = *ParseJson(line);
    if (FindKey(metrics, "reward") == nullptr) continue;
    ++step;
    if (step <= 4) first += GetDouble(metrics, "reward") / 4;
    if (step > 16) last += GetDouble(metrics, "reward") / 4;
    drift = std::max(drift, GetDouble(metrics, "drift_max", 1.0));
  }
  EXPECT_EQ(step, 20);
  EXPECT_EQ(drift, 0.0);
  EXPECT_GT(last, first + 0.1);
}

TEST_F(TrainRecipe, PreferencesAreLearntAndGoOnToTheBit) {
  config_.steps = 5;
  ASSERT_TRUE(Run("sft").ok());
  config_.recipe = "dpo";
  config_.model = Json::object();
  config_.from.all = {folder_ + "/sft/model"};
  config_.training.all = {folder_ + "/pairs.jsonl"};
  config_.steps = 20;
  config_.batch = 8;
  const auto whole = Run("whole");
  ASSERT_TRUE(whole.ok()) << whole.error().ToString();
  EXPECT_EQ(whole->last.reward, 1.0);
  // Nothing is preferred before the first step: softplus(0), and half a chance.
  const Json first = *ParseJson(Losses("whole").front());
  EXPECT_NEAR(GetDouble(first, "loss"), std::log(2.0), 1e-9);
  EXPECT_EQ(GetDouble(first, "margin", 1.0), 0.0);
  ASSERT_TRUE(Run("parts", false, 7)->stopped);
  config_.threads = 3;
  ASSERT_TRUE(Run("parts", true).ok());  // compared with the first model still
  ExpectSame("whole", "parts");
  config_.training.all = {folder_ + "/tasks.jsonl"};
  EXPECT_NE(ErrorOf("never", false).find("is not what this run learns from"), std::string::npos);
}

TEST_F(TrainRecipe, TasksThatNobodyCanJudgeNeverStartARun) {
  Reward();
  const auto why = [&](const std::string& line) {
    Write("tasks.jsonl", line + "\n");
    return ErrorOf("never", false);
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(
      has(why(R"({"prompt": "1", "environment": "golf", "expected_answer": "2"})"), "golf"));
  EXPECT_TRUE(has(why(R"({"prompt": "1", "environment": "math", "expected_answer": "two"})"),
                  "is no number"));
  EXPECT_TRUE(has(why(R"({"prompt": "1", "environment": "math"})"), "expected_answer"));
  EXPECT_TRUE(has(why(R"({"prompt": "123456789012345678901234567890", "environment": "math",)"
                      R"( "expected_answer": "2"})"),
                  "train.sequence"));
  EXPECT_FALSE(IsFolder(folder_ + "/never/checkpoints"));
  config_.from.all.clear();
  config_.model = TinyConfig();
  EXPECT_TRUE(has(ErrorOf("never", false), "knows nothing"));
}

TEST_F(TrainRun, GoesOnFromTheCheckpointBeforeADamagedOne) {
  ASSERT_TRUE(Run("whole").ok());
  ASSERT_TRUE(Run("a", false, 15)->stopped);
  const std::string newest = folder_ + "/a/checkpoints/step-15/";
  // Half a file, a flipped bit, and no description: each of them falls back to step 10.
  fs::copy(folder_ + "/a", folder_ + "/b", fs::copy_options::recursive);
  fs::copy(folder_ + "/a", folder_ + "/c", fs::copy_options::recursive);
  fs::resize_file(newest + "optimizer.safetensors", 5000);
  std::string bytes = Bytes("b/checkpoints/step-15/model.safetensors");
  bytes[bytes.size() - 100] = static_cast<char>(bytes[bytes.size() - 100] ^ 1);
  ASSERT_TRUE(WriteFileAtomic(folder_ + "/b/checkpoints/step-15/model.safetensors", bytes).ok());
  fs::remove(folder_ + "/c/checkpoints/step-15/run.json");
  for (const char* name : {"a", "b", "c"}) {
    const auto report = Run(name, true);
    ASSERT_TRUE(report.ok()) << report.error().ToString();
    ASSERT_EQ(notes_.size(), 2u);
    EXPECT_NE(notes_[0].find("step-15"), std::string::npos) << notes_[0];
    EXPECT_EQ(notes_[1], "going on after step 10");
    ExpectSame("whole", name);
  }
  // When none is left, the run does not begin anew behind the user's back.
  for (const int64_t step : tune::Checkpoints::Steps(folder_ + "/a/checkpoints")) {
    fs::remove(folder_ + "/a/checkpoints/step-" + std::to_string(step) + "/config.json");
  }
  EXPECT_NE(ErrorOf("a").find("no checkpoint can be read"), std::string::npos) << ErrorOf("a");
}

TEST_F(TrainRun, RefusesWhatIsAnotherRun) {
  ASSERT_TRUE(Run("a", false, 5)->stopped);
  const std::string before = Bytes("a/checkpoints/step-5/run.json");
  EXPECT_NE(ErrorOf("a", false).find("there is a run in it already"), std::string::npos);
  EXPECT_NE(ErrorOf("none").find("there is no run to go on with"), std::string::npos);
  const RunConfig config = config_;
  config_.batch = 8;
  EXPECT_NE(ErrorOf("a").find("was made with train.batch = 4, not 8"), std::string::npos);
  config_ = config;
  config_.model["hidden_size"] = 48;
  EXPECT_NE(ErrorOf("a").find("was made with model.hidden_size = 32, not 48"), std::string::npos);
  config_ = config;
  ASSERT_TRUE(WriteFileAtomic(folder_ + "/text.txt", Bytes("text.txt") + "0").ok());
  EXPECT_NE(ErrorOf("a").find("was made with other text"), std::string::npos);
  EXPECT_EQ(Bytes("a/checkpoints/step-5/run.json"), before);
}

TEST_F(TrainRun, StopsWhenNothingIsANumberAndLeavesTheLastCheckpoint) {
  config_.skips_max = 3;
  config_.steps = 40;
  config_.checkpoint_every = 2;
  config_.evaluate_every = 0;
  config_.peak = 10.0;
  config_.warmup = 0;
  config_.adam.norm_max = 0.0;
  config_.adam.epsilon = 0.0;
  config_.adam.beta2 = 0.0;
  config_.model["initializer_range"] = 1e15;
  const std::string error = ErrorOf("a", false);
  EXPECT_NE(error.find("no number in 3 steps in a row, up to step 3"), std::string::npos) << error;
  EXPECT_EQ(Losses("a").size(), 3u);
  EXPECT_NE(Losses("a")[0].find("\"skipped\":true"), std::string::npos);
  EXPECT_EQ(tune::Checkpoints::Steps(folder_ + "/a/checkpoints"), std::vector<int64_t>{2});
}

TEST_F(TrainRun, KeepsTheNewestCheckpointsAndTheBest) {
  config_.keep = 2;
  config_.checkpoint_every = 3;
  config_.evaluate_every = 7;
  ASSERT_TRUE(Run("a").ok());
  const auto steps = tune::Checkpoints::Steps(folder_ + "/a/checkpoints");
  EXPECT_EQ(steps, (std::vector<int64_t>{15, 18, 20}));  // 20 is the best
}

TEST_F(TrainRun, LosesPatience) {
  config_.steps = 400;
  config_.evaluate_every = 2;
  config_.patience = 3;
  config_.peak = 0.5;  // too much: it soon gets no better
  const auto report = Run("a");
  ASSERT_TRUE(report.ok()) << report.error().ToString();
  EXPECT_TRUE(report->stopped_early);
  EXPECT_LT(report->state.step, 400);
  EXPECT_TRUE(
      IsFolder(tune::Checkpoints::PathOf(folder_ + "/a/checkpoints", report->state.best_step)));
}

TEST_F(TrainRun, GoesOnFromAModelOfItsOwn) {
  config_.steps = 60;
  const auto first = Run("a");
  ASSERT_TRUE(first.ok());
  config_.model = Json::object();
  config_.from.all = {first->model};
  config_.steps = 1;
  config_.peak = config_.lowest = 0.0;
  const auto second = Run("b");
  ASSERT_TRUE(second.ok()) << second.error().ToString();
  EXPECT_NEAR(second->last.loss, first->last.loss, 1e-5);
}

}  // namespace
}  // namespace lode
