#include "tune/run_config.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/text.h"
#include "model/arch/arch.h"

namespace lode::tune {
namespace {

// What a config.json may say of a model: all that the tables of families read or check.
std::vector<std::string> KnownModelKeys() {
  std::set<std::string> keys = {"architectures", "model_type",   "initializer_range",
                                "bos_token_id",  "eos_token_id", "pad_token_id"};
  for (const model::ArchDef* arch : model::AllArchs()) {
    for (const model::Field& field : arch->fields) {
      keys.insert(field.hugging_face.begin(), field.hugging_face.end());
    }
    for (const model::Refusal& refusal : arch->refusals) keys.insert(refusal.key);
    keys.insert(arch->pattern_keys.begin(), arch->pattern_keys.end());
    keys.insert(arch->pattern_list_keys.begin(), arch->pattern_list_keys.end());
  }
  return {keys.begin(), keys.end()};
}

// A part of the run below 1, else a number of steps.
int64_t StepsOf(double part, int64_t steps) {
  return std::llround(part < 1.0 ? part * static_cast<double>(steps) : part);
}

constexpr double kMany = 1e9;
// Of one pass, where sequences have lengths of their own.
constexpr int64_t kSequencesEach = 256, kRowsEach = 4096;

}  // namespace

void RunConfig::ChooseRecipe(const Settings& settings) {
  const Setting* chosen = settings.Find("recipe");
  if (chosen != nullptr && chosen->value.is_string()) recipe = chosen->value.get<std::string>();
  if (recipe == "sft") peak = 1e-4;
  if (recipe == "dpo") {
    peak = lowest = 1e-5;
    adam.weight_decay = 0.0;
  }
  if (recipe != "grpo") return;
  // What published recipes have, but for the rate, which is for models a thousand times smaller.
  peak = lowest = 1e-5;
  adam.beta2 = 0.999;
  adam.weight_decay = 0.0;
  balance = 0.0;
  form = "none";
  sequence = 1024;
}

Fields RunConfig::Keys() {
  Fields fields;
  fields.open = {{"model", &model, KnownModelKeys()}};
  fields.Add("recipe", &recipe, "what the run does").OneOf({"pretrain", "sft", "dpo", "grpo"});
  AddDataKeys(&fields);
  if (recipe != "pretrain") AddExampleKeys(&fields);
  if (recipe == "dpo") AddPreferenceKeys(&fields);
  if (recipe == "grpo") AddRewardKeys(&fields);
  AddOptimizerKeys(&fields);
  AddTrainKeys(&fields);
  AddWatchKeys(&fields);
  return fields;
}

// Paths may change, for what they lead to is compared.
void RunConfig::AddDataKeys(Fields* f) {
  f->Add("model.from", &from, "a Hugging Face folder to go on from, instead of a new model")
      .MayChange();
  const bool text = recipe == "pretrain";
  f->Add("data.training", &training,
         text ? "text files, folders of .txt and .md files, or .bin shards of tokens"
              : "files of records, or folders of them (docs/training-data.md)")
      .MayChange();
  f->Add("data.held_out", &held_out,
         text ? "the same, to judge by; none: the end of the training text"
              : "the same, to judge by; none: some of the training records")
      .MayChange();
  f->Add("data.held_out_share", &held_out_share,
         text ? "how much that end is, of the text's bytes"
              : "how many records are held out where none are named")
      .Range(0, 0.9);
  f->Add("data.tokenizer", &tokenizer,
         "how text is cut; `auto`: as the model of `model.from` does, else characters")
      .OneOf({"auto", "chars", "bytes", "model"});
  f->Add("data.tokenizer_folder", &tokenizer_folder,
         "or as tokenizer.json in this folder says; its chat template becomes the model's")
      .MayChange();
}

void RunConfig::AddExampleKeys(Fields* f) {
  f->Add("data.strict", &strict, "what is odd about the data is an error").MayChange();
  f->Add("data.mask_thinking", &mask_thinking, "traces are read, not taught");
  if (recipe != "sft") return;
  f->Add("data.supervise", &supervise, "what of a record is taught (docs/training-data.md)")
      .OneOf({"auto", "all", "completion", "assistant", "last-assistant"});
  f->Add("data.loss_mean", &loss_mean,
         "`token`: every taught token counts the same; `sample`: every example")
      .OneOf({"token", "sample"});
}

void RunConfig::AddPreferenceKeys(Fields* f) {
  f->Add("dpo.beta", &beta, "how closely the model is held to the one the run begins with")
      .Range(1e-6, 100);
  f->Add("dpo.imitate", &imitate, "weight of the chosen answers' own loss beside it").Range(0, 100);
}

void RunConfig::AddRewardKeys(Fields* f) {
  f->Add("rl.environment", &environment, "who judges answers to tasks that name nobody");
  f->Add("rl.answers", &answers, "to each task: a group").Range(2, 4096);
  f->Add("rl.answer_tokens", &answer_tokens, "of an answer, at most").Range(1, 1 << 20);
  f->Add("rl.together", &together, "answers that are drawn at once").Range(1, 4096).MayChange();
  f->Add("rl.updates", &grpo.updates, "of the weights for one batch of answers").Range(1, 64);
  f->Add("rl.baseline", &baseline,
         "what an answer is measured by: the mean of the `others` or of `all`")
      .OneOf({"others", "all"});
  f->Add("rl.divide_by_deviation", &grpo.policy.divide_by_deviation,
         "advantages are divided by their group's deviation");
  f->Add("rl.advantage_max", &grpo.policy.advantage_max, "of their size; 0: any");
  f->Add("rl.clip_low", &grpo.policy.clip_low, "how far a token's ratio may fall").Range(0, 1);
  f->Add("rl.clip_high", &grpo.policy.clip_high, "how far it may rise").Range(0, 100);
  f->Add("rl.skip_cut_off", &grpo.skip_cut_off, "answers that reached the limit teach nothing");
  f->Add("rl.router_frozen", &router_frozen,
         "routers keep their weights; their biases still move (train.bias_rate)");
}

void RunConfig::AddOptimizerKeys(Fields* f) {
  f->Add("optimizer.kind", &optimizer,
         "`muon` moves the matrices between layers along their momentum made orthogonal, and the "
         "rest as `adamw` does; both at the same rate")
      .OneOf({"adamw", "muon"});
  f->Add("optimizer.momentum", &momentum, "of muon").Range(0, 0.99999);
  f->Add("optimizer.beta1", &adam.beta1, "decay of the mean of gradients").Range(0, 0.99999);
  f->Add("optimizer.beta2", &adam.beta2, "decay of the mean of their squares").Range(0, 0.9999999);
  f->Add("optimizer.epsilon", &adam.epsilon, "added to the root of that mean").Range(0, 1);
  f->Add("optimizer.weight_decay", &adam.weight_decay,
         "of matrices, but not of the embedding; times the rate, each step")
      .Range(0, 10);
  f->Add("optimizer.norm_max", &adam.norm_max,
         "gradients with a larger norm are scaled down to it; 0: never");
  f->Add("schedule.peak", &peak, "the highest learning rate").Range(0, 10);
  f->Add("schedule.lowest", &lowest, "that of the last step").Range(0, 10);
  f->Add("schedule.warmup", &warmup, "steps that rise to the peak; below 1: a part of the run");
  f->Add("schedule.decay", &decay, "steps that fall at the end; below 1: a part of the run");
  f->Add("schedule.form", &form, "how it falls").OneOf({"none", "linear", "cosine", "minus-sqrt"});
}

void RunConfig::AddTrainKeys(Fields* f) {
  f->Add("train.steps", &steps, "updates of the weights").Range(1, kMany);
  f->Add("train.batch", &batch,
         recipe == "grpo"  ? "tasks of an update"
         : recipe == "dpo" ? "pairs of an update"
                           : "sequences of an update")
      .Range(1, 1 << 20);
  f->Add("train.sequence", &sequence,
         recipe == "grpo" || recipe == "dpo" ? "tokens of a prompt with its answer, at most"
                                             : "tokens of a sequence")
      .Range(1, 1 << 24);
  f->Add("train.accumulate", &accumulate,
         "pieces that a batch is computed in, to save memory; must divide it")
      .Range(1, 1 << 20);
  f->Add("train.seed", &seed, "of the new weights, the order of the data and the samples");
  f->Add("train.threads", &threads, "0: all cores").Range(0, 1024).MayChange();
  f->Add("train.recompute", &recompute,
         "keep only what goes from layer to layer, and compute the rest twice: less memory, a "
         "third slower")
      .MayChange();
  f->Add("train.balance", &balance, "weight of the routers' balancing loss").Range(0, 10);
  f->Add("train.bias_rate", &bias_rate, "by which a router's biases move after each step")
      .Range(0, 1);
  f->Add("train.skips_max", &skips_max,
         "so many steps in a row whose loss or gradient is no number end the run")
      .Range(1, kMany)
      .MayChange();
}

void RunConfig::AddWatchKeys(Fields* f) {
  f->Add("train.evaluate_every", &evaluate_every, "steps between evaluations; 0: only at the end")
      .MayChange();
  f->Add("train.evaluate_sequences", &evaluate_sequences,
         "held-out sequences of an evaluation, but of the last; 0: all")
      .MayChange();
  f->Add("train.patience", &patience, "stop after so many evaluations without a new best; 0: never")
      .MayChange();
  f->Add("train.sample_every", &sample_every, "steps between samples of text; 0: none").MayChange();
  f->Add("train.sample_tokens", &sample_tokens, "tokens of a sample").Range(1, 1 << 20).MayChange();
  f->Add("train.sample_prompt", &sample_prompt, "what a sample goes on from").MayChange();
  f->Add("train.sample_temperature", &sample_temperature, "of samples; 0: the likeliest token")
      .Range(0, 100)
      .MayChange();
  f->Add("train.checkpoint_every", &checkpoint_every,
         "steps between checkpoints; 0: only at the end or when the run is stopped")
      .MayChange();
  f->Add("train.keep", &keep, "newest checkpoints that are kept, beside the best one")
      .Range(1, kMany)
      .MayChange();
  f->Add("output.folder", &out, "where the run writes; `--out` goes before it").MayChange();
  f->Add("output.type", &type, "type of the final model's weights")
      .OneOf({"f32", "bf16"})
      .MayChange();
}

Result<void> RunConfig::CheckData() const {
  if (training.all.empty()) {
    return Error(Code::kBadInput, recipe == "pretrain" ? "data.training names no text to learn from"
                                                       : "data.training names no records");
  }
  if ((recipe == "grpo" || recipe == "dpo") && from.all.empty()) {
    return Error(Code::kBadInput,
                 "a model that knows nothing has no answers to " +
                     std::string(recipe == "dpo" ? "compare" : "judge"),
                 "fine-tune one first, and name it in model.from");
  }
  return {};
}

Result<void> RunConfig::Check() const {
  const auto bad = [](const std::string& message, const std::string& hint = "") {
    return Error(Code::kBadInput, message, hint);
  };
  LODE_TRY(CheckData());
  if (from.all.size() > 1 || out.all.size() > 1) {
    return bad(from.all.size() > 1 ? "model.from names more than one model"
                                   : "output.folder names more than one folder");
  }
  if (from.all.empty() && model.empty()) {
    return bad("there is no model: [model] holds neither a config nor 'from'",
               "docs/training.md has an example");
  }
  if (!from.all.empty() && !model.empty()) {
    return bad("[model] has 'from' and " + Quote(model.begin().key()) +
                   ", but a checkpoint brings its own config",
               "leave one of them out");
  }
  if (!tokenizer_folder.all.empty() && (tokenizer != "auto" || !from.all.empty())) {
    return bad("data.tokenizer_folder goes with neither data.tokenizer nor model.from");
  }
  if (tokenizer == "model" && from.all.empty()) {
    return bad("data.tokenizer = \"model\" needs model.from");
  }
  if (!from.all.empty() && tokenizer != "auto" && tokenizer != "model") {
    return bad("data.tokenizer = " + Quote(tokenizer) +
                   " is not how the model of model.from cuts "
                   "text",
               "leave it out");
  }
  if (batch % accumulate != 0) {
    return bad(Format("train.accumulate = %lld does not divide train.batch = %lld",
                      static_cast<long long>(accumulate), static_cast<long long>(batch)));
  }
  if (lowest > peak) return bad("schedule.lowest is above schedule.peak");
  if (StepsOf(warmup, steps) + StepsOf(decay, steps) > steps) {
    return bad("schedule.warmup and schedule.decay together are longer than train.steps");
  }
  return {};
}

train::Schedule RunConfig::Schedule() const {
  train::Schedule schedule;
  schedule.peak = peak;
  schedule.lowest = lowest;
  schedule.steps = steps;
  schedule.warmup = StepsOf(warmup, steps);
  schedule.decay = StepsOf(decay, steps);
  schedule.form = form == "none"     ? train::Decay::kNone
                  : form == "linear" ? train::Decay::kLinear
                  : form == "cosine" ? train::Decay::kCosine
                                     : train::Decay::kMinusSqrt;
  return schedule;
}

train::TrainerOptions RunConfig::TrainerOptions() const {
  train::TrainerOptions options;
  options.rows_max = rows_each();
  options.sequences_max = recipe == "pretrain" ? batch_each() : kSequencesEach;
  options.sequence_max = sequence;
  options.recompute = recompute;
  options.balance = balance;
  options.bias_rate = bias_rate;
  options.router_frozen = recipe == "grpo" && router_frozen;
  options.adam = adam;
  options.use_muon = optimizer == "muon";
  options.muon = {momentum, adam.weight_decay};
  return options;
}

int64_t RunConfig::rows_each() const {
  if (recipe != "grpo" && recipe != "dpo") return batch_each() * sequence;
  // As many answers as a pass of the usual size has room for.
  const int64_t all = batch_each() * (recipe == "dpo" ? 2 : answers);
  return std::max(sequence, std::min(all * sequence, kRowsEach));
}

void RunConfig::FillRecords(RecordsOptions* options) const {
  options->training = training.all;
  options->held_out = held_out.all;
  options->held_out_share = held_out_share;
  options->encoder.mask_thinking = mask_thinking;
  options->strict = strict;
  options->batch = batch;
  options->sequence = sequence;
  options->each_rows = rows_each();
  options->each_sequences = kSequencesEach;
  options->seed = static_cast<uint64_t>(seed);
}

ExampleOptions RunConfig::Examples() const {
  ExampleOptions options;
  FillRecords(&options);
  options.encoder.supervise = *ParseSupervise(supervise);
  options.mean = *ParseLossMean(loss_mean);
  return options;
}

PreferenceOptions RunConfig::Preferences() const {
  PreferenceOptions options;
  FillRecords(&options);
  options.beta = beta;
  options.imitate = imitate;
  return options;
}

RewardOptions RunConfig::Rewards() const {
  RewardOptions options;
  FillRecords(&options);
  options.environment = environment;
  options.answer_max = answer_tokens;
  options.together = together;
  options.grpo = grpo;
  options.grpo.answers = answers;
  options.grpo.rows_max = options.each_rows;
  options.grpo.sequences_max = options.each_sequences;
  options.grpo.policy.baseline = baseline == "all" ? Baseline::kMean : Baseline::kLeaveOneOut;
  return options;
}

}  // namespace lode::tune
