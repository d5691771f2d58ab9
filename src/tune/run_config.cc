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

}  // namespace

Fields RunConfig::Keys() {
  Fields fields;
  fields.open = {{"model", &model, KnownModelKeys()}};
  fields.Add("recipe", &recipe, "what the run does").OneOf({"pretrain"});
  AddDataKeys(&fields);
  AddOptimizerKeys(&fields);
  AddTrainKeys(&fields);
  AddWatchKeys(&fields);
  return fields;
}

// Paths may change, for what they lead to is compared.
void RunConfig::AddDataKeys(Fields* f) {
  f->Add("model.from", &from, "a Hugging Face folder to go on from, instead of a new model")
      .MayChange();
  f->Add("data.training", &training, "text files, or folders of .txt and .md files").MayChange();
  f->Add("data.held_out", &held_out, "the same, to judge by; none: the end of the training text")
      .MayChange();
  f->Add("data.held_out_share", &held_out_share, "how much that end is, of the text's bytes")
      .Range(0, 0.9);
  f->Add("data.tokenizer", &tokenizer,
         "how text is cut; `auto`: as the model of `model.from` does, else characters")
      .OneOf({"auto", "chars", "bytes", "model"});
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
  f->Add("train.batch", &batch, "sequences of an update").Range(1, 1 << 20);
  f->Add("train.sequence", &sequence, "tokens of a sequence").Range(1, 1 << 24);
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

Result<void> RunConfig::Check() const {
  const auto bad = [](const std::string& message, const std::string& hint = "") {
    return Error(Code::kBadInput, message, hint);
  };
  if (training.all.empty()) return bad("data.training names no text to learn from");
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
  options.rows_max = batch_each() * sequence;
  options.sequences_max = batch_each();
  options.sequence_max = sequence;
  options.recompute = recompute;
  options.balance = balance;
  options.bias_rate = bias_rate;
  options.adam = adam;
  options.use_muon = optimizer == "muon";
  options.muon = {momentum, adam.weight_decay};
  return options;
}

}  // namespace lode::tune
