// The settings of a run: every key, its default, its meaning (docs/training.md has the table
// that this one makes).
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "train/schedule.h"
#include "train/trainer.h"
#include "tune/example_lesson.h"
#include "tune/preference_lesson.h"
#include "tune/reward_lesson.h"
#include "tune/settings.h"

namespace lode::tune {

struct RunConfig {
  std::string recipe = "pretrain";

  Json model = Json::object();  // a Hugging Face config, where the model is new
  Paths from;                   // or the checkpoint to go on from
  Paths training, held_out;
  double held_out_share = 0.1;
  std::string tokenizer = "auto";
  Paths tokenizer_folder;
  std::string supervise = "auto", loss_mean = "token";  // of examples
  bool mask_thinking = false, strict = false;

  // Of the recipe dpo.
  double beta = 0.1, imitate = 0.0;

  // Of the recipe grpo.
  std::string environment;
  int64_t answers = 8, answer_tokens = 128, together = 64;
  GrpoOptions grpo;
  std::string baseline = "others";
  bool router_frozen = true;

  std::string optimizer = "adamw";
  train::AdamOptions adam;
  double momentum = 0.95;
  double peak = 1e-3, lowest = 1e-5, warmup = 0.02, decay = 0.2;
  std::string form = "minus-sqrt";

  int64_t steps = 1000, batch = 16, sequence = 256, accumulate = 1;
  int64_t seed = 1, threads = 0;
  bool recompute = false;
  double balance = 1e-4, bias_rate = 1e-3;
  int64_t skips_max = 10;
  int64_t evaluate_every = 100, evaluate_sequences = 0, patience = 0;
  int64_t sample_every = 500, sample_tokens = 200;
  std::string sample_prompt = "\n";
  double sample_temperature = 0.8;
  int64_t checkpoint_every = 500, keep = 2;

  Paths out;
  std::string type = "f32";

  // What of these settings a file's `recipe` has: to be called before Keys.
  void ChooseRecipe(const Settings& settings);
  // The keys of the recipe, pointing into this object.
  Fields Keys();
  // Errors: those of the keys; values that contradict one another.
  Result<void> Check() const;

  train::Schedule Schedule() const;
  train::TrainerOptions TrainerOptions() const;
  int64_t batch_each() const { return batch / accumulate; }
  int64_t rows_each() const;
  ExampleOptions Examples() const;
  PreferenceOptions Preferences() const;
  RewardOptions Rewards() const;

 private:
  Result<void> CheckData() const;
  void AddDataKeys(Fields* fields);
  void FillRecords(RecordsOptions* options) const;
  void AddExampleKeys(Fields* fields);
  void AddPreferenceKeys(Fields* fields);
  void AddRewardKeys(Fields* fields);
  void AddOptimizerKeys(Fields* fields);
  void AddTrainKeys(Fields* fields);
  void AddWatchKeys(Fields* fields);
};

}  // namespace lode::tune
