#include "tune/settings.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "tune/run_config.h"

namespace lode::tune {
namespace {

// What settings do to a config of pretraining: the error, or nothing.
std::string Fill(RunConfig* config, std::string_view text,
                 const std::vector<std::string>& sets = {}) {
  const auto settings = Settings::Parse(text, "runs/a.toml", sets);
  if (!settings.ok()) return settings.error().ToString();
  const Result<void> filled = config->Keys().Fill(*settings);
  return filled.ok() ? "" : filled.error().ToString();
}
std::string ErrorOf(std::string_view text, const std::vector<std::string>& sets = {}) {
  RunConfig config;
  return Fill(&config, text, sets);
}

TEST(Settings, ReachTheConfigAndTheCommandLineGoesBeforeTheFile) {
  RunConfig config;
  EXPECT_EQ(Fill(&config,
                 "[model]\nhidden_size = 64\nhybrid_override_pattern = 'ME'\n"
                 "[data]\ntraining = ['a.txt', '/b']\n[train]\nsteps = 1_000\nrecompute = true\n"
                 "[schedule]\npeak = 3e-3\nform = 'cosine'\n",
                 {"train.steps=7", "data.held_out=c.txt", "schedule.lowest=0"}),
            "");
  EXPECT_EQ(config.steps, 7);
  EXPECT_TRUE(config.recompute);
  EXPECT_EQ(config.peak, 3e-3);
  EXPECT_EQ(config.lowest, 0.0);
  EXPECT_EQ(config.form, "cosine");
  EXPECT_EQ(GetInt(config.model, "hidden_size"), 64);
  // A path in the file is relative to it, one of the command line to where we stand.
  EXPECT_EQ(config.training.all, (std::vector<std::string>{"runs/a.txt", "/b"}));
  EXPECT_EQ(config.held_out.all, std::vector<std::string>{"c.txt"});
}

TEST(Settings, NameTheNearestKeyAndTheLineOfAWrongOne) {
  EXPECT_EQ(ErrorOf("[train]\nsteps = 1\nsequense = 3\n"),
            "runs/a.toml, line 3: there is no key 'train.sequense'; did you mean "
            "'train.sequence'?");
  EXPECT_EQ(ErrorOf("[model]\nhidden_sise = 64\n"),
            "runs/a.toml, line 2: there is no key 'model.hidden_sise'; did you mean "
            "'model.hidden_size'?");
  EXPECT_EQ(ErrorOf("peak = 1\n"),
            "runs/a.toml, line 1: there is no key 'peak'; did you mean 'schedule.peak'?");
  EXPECT_EQ(ErrorOf("", {"train.stepps=1"}),
            "--set: there is no key 'train.stepps'; did you mean 'train.steps'?");
  EXPECT_EQ(ErrorOf("", {"train.steps"}),
            "--set 'train.steps' is no KEY=VALUE; write it as --set train.steps=10");
  EXPECT_EQ(ErrorOf("xyzzy = 1\n"),
            "runs/a.toml, line 1: there is no key 'xyzzy'; docs/training.md lists all keys");
}

TEST(Settings, RefuseWrongTypesAndRanges) {
  EXPECT_EQ(ErrorOf("train.steps = 0\n"),
            "runs/a.toml, line 1: train.steps = 0 must be a whole number from 1 to 1000000000");
  EXPECT_NE(ErrorOf("train.steps = 1.5\n"), "");
  EXPECT_NE(ErrorOf("train.steps = 'many'\n"), "");
  EXPECT_NE(ErrorOf("train.seed = -1\n"), "");
  EXPECT_EQ(ErrorOf("optimizer.beta1 = 1.0\n"),
            "runs/a.toml, line 1: optimizer.beta1 = 1.0 must be a number from 0 to 0.99999");
  EXPECT_EQ(ErrorOf("optimizer.norm_max = -1\n"),
            "runs/a.toml, line 1: optimizer.norm_max = -1 must be a number of at least 0");
  EXPECT_EQ(ErrorOf("train.recompute = 1\n"),
            "runs/a.toml, line 1: train.recompute = 1 must be true or false");
  EXPECT_EQ(ErrorOf("schedule.form = 'cosin'\n"),
            "runs/a.toml, line 1: schedule.form = 'cosin' is none of none, linear, cosine, "
            "minus-sqrt; did you mean 'cosine'?");
  EXPECT_NE(ErrorOf("data.training = [1]\n"), "");
  EXPECT_NE(ErrorOf("train.sample_prompt = 3\n"), "");
}

TEST(Settings, SayWhereAFileIsNoToml) {
  EXPECT_TRUE(ErrorOf("[train\nsteps = 1\n").starts_with("runs/a.toml: line 1, column 7: "))
      << ErrorOf("[train\nsteps = 1\n");
  EXPECT_NE(ErrorOf("a = nan\n"), "");
  EXPECT_NE(ErrorOf("a = 2020-01-01\n"), "");
  EXPECT_NE(ErrorOf("a = 1\na = 2\n"), "");
}

TEST(Settings, KnowWhatDiffersFromARunBefore) {
  RunConfig before, now;
  now.threads = 3;
  now.recompute = true;
  EXPECT_TRUE(Differences(now.Keys(), before.Keys().Values()).empty());
  now.batch = 32;
  now.model["hidden_size"] = 64;
  const auto differences = Differences(now.Keys(), before.Keys().Values());
  ASSERT_EQ(differences.size(), 2u);
  EXPECT_EQ(differences[0].key, "model.hidden_size");
  EXPECT_EQ(differences[1].key, "train.batch");
  EXPECT_EQ(differences[1].before, "16");
  EXPECT_EQ(differences[1].now, "32");
}

TEST(Settings, ContradictionsAreSentences) {
  RunConfig config;
  EXPECT_FALSE(config.Check().ok());  // no text
  config.training.all = {"a.txt"};
  EXPECT_FALSE(config.Check().ok());  // no model
  config.model["hidden_size"] = 64;
  EXPECT_TRUE(config.Check().ok());
  config.accumulate = 3;
  EXPECT_EQ(config.Check().error().ToString(),
            "train.accumulate = 3 does not divide train.batch = 16");
  config.accumulate = 4;
  config.warmup = 500;
  config.decay = 501;
  EXPECT_FALSE(config.Check().ok());
  config.decay = 500;
  EXPECT_TRUE(config.Check().ok());
  config.from.all = {"model"};
  EXPECT_FALSE(config.Check().ok());  // and a config
}

TEST(Settings, AreAllInTheDocument) {
  const auto document = ReadFile(LODE_SOURCE_DIR "/docs/training.md");
  ASSERT_TRUE(document.ok());
  RunConfig config;
  const std::string table = config.Keys().Markdown();
  EXPECT_NE(document->find(table), std::string::npos) << table;
  for (const char* recipe : {"sft", "dpo", "grpo"}) {
    const auto settings = Settings::Parse(Format("recipe = \"%s\"\n", recipe), "run.toml", {});
    ASSERT_TRUE(settings.ok());
    RunConfig other;
    other.ChooseRecipe(*settings);
    for (const std::string& row : Split(other.Keys().Markdown(), '\n')) {
      EXPECT_NE(document->find(row), std::string::npos) << row;
    }
  }
}

TEST(Settings, ARecipeHasKeysOfItsOwn) {
  const auto fill = [](const char* text) {
    const auto settings = Settings::Parse(text, "run.toml", {});
    EXPECT_TRUE(settings.ok());
    RunConfig config;
    config.ChooseRecipe(*settings);
    return config.Keys().Fill(*settings);
  };
  EXPECT_TRUE(fill("recipe = \"grpo\"\nrl.answers = 4").ok());
  EXPECT_FALSE(fill("rl.answers = 4").ok());
  EXPECT_FALSE(fill("recipe = \"grpo\"\nrl.answers = 1").ok());
  EXPECT_TRUE(fill("recipe = \"sft\"\ndata.supervise = \"all\"").ok());
  EXPECT_FALSE(fill("recipe = \"grpo\"\ndata.supervise = \"all\"").ok());
  EXPECT_FALSE(fill("recipe = \"golf\"").ok());
}

}  // namespace
}  // namespace lode::tune
