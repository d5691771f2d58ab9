// The beginning of a run: what is opened, what it will take, where it goes on.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "api/bench_cost.h"
#include "api/bench_limits.h"
#include "api/open.h"
#include "base/file.h"
#include "base/text.h"
#include "base/topology.h"
#include "kernels/isa.h"
#include "model/config.h"
#include "runtime/engine.h"
#include "runtime/sampling/sampler.h"
#include "train/config_source.h"
#include "train/fresh.h"
#include "tune/atomic_folder.h"
#include "tune/run.h"
#include "tune/text_lesson.h"

namespace lode::tune {
namespace {

// What follows from the rest of an inline config.
void Complete(int32_t vocabulary, int64_t sequence, const text::Tokenizer& tokenizer,
              Json* config) {
  const auto set = [&](const char* key, const Json& value) {
    if (FindKey(*config, key) == nullptr) (*config)[key] = value;
  };
  set("vocab_size", vocabulary);
  set("max_position_embeddings", std::max<int64_t>(sequence, 4096));
  set("tie_word_embeddings", false);
  if (tokenizer.eos_id()) set("eos_token_id", *tokenizer.eos_id());
}

}  // namespace

uint64_t RunPlan::bytes() const {
  uint64_t all = 0;
  for (const auto& [what, bytes] : memory) all += bytes;
  return all;
}

TrainingRun::~TrainingRun() {
  if (lock_ >= 0) close(lock_);
}

Result<std::unique_ptr<TrainingRun>> TrainingRun::Open(const RunConfig& config) {
  LODE_TRY(config.Check());
  std::unique_ptr<TrainingRun> run(new TrainingRun());
  run->config_ = config;
  run->fields_ = run->config_.Keys();
  run->schedule_ = config.Schedule();
  if (!config.from.all.empty()) {
    LODE_ASSIGN(run->source_, api::OpenSource(config.from.all.front()));
  }
  LODE_TRY(run->OpenLesson());
  LODE_TRY(run->OpenModel());
  return run;
}

Result<void> TrainingRun::OpenLesson() {
  const std::string kind = source_ != nullptr            ? "model"
                           : config_.tokenizer == "auto" ? "chars"
                                                         : config_.tokenizer;
  if (config_.recipe != "pretrain") {
    std::vector<std::string> texts;
    if (kind == "chars" && config_.tokenizer_folder.all.empty()) {
      std::vector<std::string> paths = config_.training.all;
      paths.insert(paths.end(), config_.held_out.all.begin(), config_.held_out.all.end());
      LODE_ASSIGN(texts, TextsOf(paths));
    }
    const std::vector<std::string>& folder = config_.tokenizer_folder.all;
    LODE_ASSIGN(RunText text, folder.empty() ? MakeRunText(kind, source_.get(), texts)
                                             : ReadRunText(folder.front()));
    if (config_.recipe == "sft") {
      LODE_ASSIGN(lesson_, ExampleLesson::Open(std::move(text), config_.Examples()));
    } else if (config_.recipe == "dpo") {
      LODE_ASSIGN(lesson_, PreferenceLesson::Open(std::move(text), config_.Preferences()));
    } else {
      LODE_ASSIGN(lesson_, RewardLesson::Open(std::move(text), config_.Rewards()));
    }
    return {};
  }
  CorpusOptions options;
  options.training = config_.training.all;
  options.held_out = config_.held_out.all;
  options.held_out_share = config_.held_out_share;
  options.tokenizer = kind;
  if (!config_.tokenizer_folder.all.empty()) {
    options.tokenizer_folder = config_.tokenizer_folder.all.front();
  }
  options.checkpoint = source_.get();
  options.sequence = config_.sequence;
  options.seed = static_cast<uint64_t>(config_.seed);
  LODE_ASSIGN(auto corpus, Corpus::Read(options));
  lesson_ = std::make_unique<TextLesson>(
      std::move(corpus), TextLessonOptions{config_.batch, config_.sequence, config_.batch_each()});
  return {};
}

Result<void> TrainingRun::OpenModel() {
  Json config = source_ != nullptr ? source_->config() : config_.model;
  const std::string name = source_ != nullptr ? source_->path() : "[model]";
  if (source_ == nullptr) {
    Complete(lesson_->tokenizer().vocab_size(), config_.sequence, lesson_->tokenizer(), &config);
  }
  // What is left of a source when the weights are masters.
  auto light = std::make_shared<train::ConfigSource>(name, config);
  LODE_ASSIGN(const model::ModelSpec spec, model::ReadSpec(*light));
  if (spec.vocabulary < lesson_->tokenizer().vocab_size()) {
    return Error(Code::kBadInput,
                 Format("the model has %lld tokens, but its text needs %d",
                        static_cast<long long>(spec.vocabulary), lesson_->tokenizer().vocab_size()),
                 "leave model.vocab_size out");
  }
  plan_.layers = model::PatternOf(spec);
  const int cores = static_cast<int>(config_.threads);
  pool_ = std::make_unique<ThreadPool>(cores > 0 ? cores : UsableCores(ThisTopology()));
  plan_.threads = pool_->threads();
  LODE_TRY(Plan(spec));
  if (source_ != nullptr) {
    LODE_ASSIGN(model_, model::Bind(source_));
  } else {
    LODE_ASSIGN(model_, train::FreshModel(config, {static_cast<uint64_t>(config_.seed),
                                                   GetDouble(config, "initializer_range", 0.02)}));
  }
  LODE_ASSIGN(trainer_, train::Trainer::Make(model_.get(), pool_.get(), config_.TrainerOptions()));
  // The masters are the weights now.
  model_->source = light;
  source_ = nullptr;
  weights_ = std::make_unique<WeightList>(model_.get(), &trainer_->parameters());
  const api::CostModel cost(*model_, model::Numerics());
  // Forward once, back twice.
  plan_.flops_per_row = 3.0 * cost.Step(1, config_.sequence, 0, config_.sequence).flops() /
                        static_cast<double>(config_.sequence);
  return lesson_->Begin(*model_, trainer_.get(), plan_.threads);
}

Result<void> TrainingRun::Plan(const model::ModelSpec& spec) {
  const train::TrainerOptions options = config_.TrainerOptions();
  plan_.parameters = train::Parameters::Count(spec);
  plan_.vocabulary = lesson_->tokenizer().vocab_size();
  plan_.lesson = lesson_->Summary();
  const uint64_t weights = train::Parameters::Bytes(spec);
  const uint64_t moments = train::AdamW::Bytes(plan_.parameters);
  const uint64_t tape = model::Tape::Bytes(spec, options.rows_max, options.recompute);
  const uint64_t trainer = train::Trainer::Bytes(spec, options, plan_.threads);
  plan_.memory = {{"weights, gradients and their panels", weights},
                  {"moments of the optimizer", moments},
                  {"activations kept for the way back", tape},
                  {"activations at work, states", trainer - weights - moments - tape},
                  {"the copy that a checkpoint is written from",
                   3 * static_cast<uint64_t>(plan_.parameters) * sizeof(float)},
                  {"what is learnt from", lesson_->Bytes(spec, plan_.threads)}};
  if (config_.sample_every > 0) {
    runtime::EngineOptions engine;
    engine.threads = plan_.threads;
    engine.context_tokens = std::ssize(config_.sample_prompt) + config_.sample_tokens;
    engine.rows_max = 64;
    plan_.memory.emplace_back(
        "samples", runtime::Engine::Bytes(spec, engine) + runtime::Sampler::Bytes(spec.vocabulary));
  }
  const uint64_t there = AvailableMemoryBytes();
  if (plan_.bytes() <= there) return {};
  return Error(Code::kNoSpace,
               "the run needs " + HumanBytesBinary(plan_.bytes()) + " of memory, and " +
                   HumanBytesBinary(there) + " are free",
               options.recompute ? "raise train.accumulate, or take a smaller model or batch"
                                 : "set train.recompute, or raise train.accumulate");
}

RunIdentity TrainingRun::Identity() {
  return {fields_.Values(), model_->source->config(), lesson_->digest()};
}

Result<void> TrainingRun::Begin(const std::string& folder, bool resume, const Watcher& watcher) {
  folder_ = folder;
  const std::string checkpoints = folder + "/checkpoints", metrics = folder + "/metrics.jsonl";
  if (!resume && (FileExists(metrics) || !Checkpoints::Steps(checkpoints).empty())) {
    return Error(Code::kBadInput, folder + ": there is a run in it already",
                 "go on with it by --resume " + folder + ", or name another folder");
  }
  if (resume && !FileExists(metrics)) {
    return Error(Code::kNotFound, folder + ": there is no run to go on with");
  }
  LODE_TRY(MakeFolders(folder));
  const std::string lock = folder + "/.lock";
  lock_ = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0) return SystemError("cannot open", lock, errno);
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    return Error(Code::kBadInput, folder + ": another run is at work in it");
  }
  RemoveUnfinished(folder);
  RemoveUnfinished(checkpoints);
  checkpoints_ = std::make_unique<Checkpoints>(checkpoints, weights_.get(), &trainer_->optimizer(),
                                               lesson_->files(), Identity(), config_.keep);
  if (resume) LODE_TRY(Resume(watcher));
  LODE_ASSIGN(record_, Record::Open(folder, state_.step, state_.metrics_bytes));
  peak_flops_ = api::MeasurePeak(pool_.get(), kernels::ActiveIsa(), kernels::Peak::kF32);
  return {};
}

Result<void> TrainingRun::Resume(const Watcher& watcher) {
  const auto check = [this](const RunIdentity& saved) -> Result<void> {
    const std::vector<Difference> differences = Differences(fields_, saved.settings);
    if (!differences.empty()) {
      const Difference& d = differences.front();
      return Error(Code::kBadInput, "was made with " + d.key + " = " + d.before + ", not " + d.now,
                   "go on with the same settings, or start a new run with model.from");
    }
    const RunIdentity now = Identity();
    for (const auto& [key, value] : now.model.items()) {
      const Json* before = FindKey(saved.model, key);
      if (before == nullptr || *before != value) {
        return Error(Code::kBadInput, "is of a model with " + Quote(key) + " = " +
                                          (before == nullptr ? "nothing" : DumpJson(*before)) +
                                          ", not " + DumpJson(value));
      }
    }
    if (saved.data == now.data) return {};
    return Error(Code::kBadInput, "was made with other text",
                 "a run goes on only with the text that it began with");
  };
  std::vector<std::string> notes;
  LODE_ASSIGN(const std::optional<RunState> state, checkpoints_->Restore(check, &notes));
  for (const std::string& note : notes) watcher.note("a checkpoint is left out: " + note);
  if (!state) {
    watcher.note("there is no checkpoint yet: the run begins anew");
    return {};
  }
  state_ = *state;
  LODE_TRY(lesson_->Seek(state_.cursor));
  watcher.note(Format("going on after step %lld", static_cast<long long>(state_.step)));
  return {};
}

}  // namespace lode::tune
