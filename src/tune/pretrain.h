// Pretraining: a model learns to go on with plain text, from nothing or from a checkpoint. One
// object is one run: Open reads and checks everything and takes all memory, Run trains.
//
// A run is a function of its settings and data alone: the same bits on any number of threads, and
// whether or not it was stopped and taken up again in between.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "model/bind.h"
#include "tensor/source.h"
#include "train/trainer.h"
#include "tune/checkpoints.h"
#include "tune/corpus.h"
#include "tune/metrics.h"
#include "tune/pretrain_config.h"
#include "tune/progress.h"
#include "tune/record.h"
#include "tune/weights.h"

namespace lode::tune {

// What a run takes and has, before its first step.
struct PretrainPlan {
  int64_t parameters = 0, training_tokens = 0, held_out_tokens = 0, documents = 0;
  int32_t vocabulary = 0;
  int threads = 0;
  std::string layers;                                    // in the family's letters
  double flops_per_step = 0.0;                           // by arithmetic
  std::vector<std::pair<std::string, uint64_t>> memory;  // bytes, what for
  uint64_t bytes() const;
};

struct PretrainReport {
  RunState state;
  bool stopped = false;        // by the user: a checkpoint was written
  bool stopped_early = false;  // by train.patience
  double loss = 0.0;           // held out, at the end
  std::string model;           // the folder of the final model; empty when stopped
};

// Threads: one owner. Life: the config's Keys() point into this.
class Pretraining {
 public:
  // Errors: those of config, data and model; kNoSpace when the plan does not fit the memory.
  static Result<std::unique_ptr<Pretraining>> Open(const PretrainConfig& config);

  const PretrainPlan& plan() const { return plan_; }
  const PretrainConfig& config() const { return config_; }

  // Seconds of a step, measured on `steps` of them after one more; weights are as new afterwards
  // only for who throws this away.
  double MeasureStep(int64_t steps);

  // All steps, or the rest of them with `resume`. `folder` is made where it is not there. Errors:
  // a folder with another run in it, data or settings that are not the run's, a full disk, too many
  // skipped steps; the last checkpoint is intact then.
  Result<PretrainReport> Run(const std::string& folder, bool resume, const Watcher& watcher);

 private:
  Pretraining() = default;
  Result<void> OpenModel();
  Result<void> OpenCorpus();
  Result<void> Plan(const model::ModelSpec& spec);
  Result<void> Begin(const std::string& folder, bool resume, const Watcher& watcher);
  Result<void> Resume(const Watcher& watcher);
  StepMetrics Step();
  void Count(const StepMetrics& metrics);
  Result<void> Report(const StepMetrics& metrics, const Watcher& watcher);
  Result<void> Evaluate(int64_t sequences_max, const Watcher& watcher);
  Result<void> Sample(const Watcher& watcher);
  Result<void> Save();
  Result<PretrainReport> Finish(bool stopped, const Watcher& watcher);
  Result<void> WriteModel(const std::string& path);
  RunIdentity Identity();
  double Imbalance() const;

  PretrainConfig config_;
  Fields fields_;
  train::Schedule schedule_;
  PretrainPlan plan_;
  std::unique_ptr<ThreadPool> pool_;
  std::shared_ptr<const tensor::TensorSource> source_;  // of model.from
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<train::Trainer> trainer_;
  std::unique_ptr<WeightList> weights_;
  double peak_flops_ = 0.0;

  std::string folder_;
  int lock_ = -1;
  RunState state_;
  double loss_ = 0.0;  // of the last evaluation
  std::unique_ptr<Record> record_;
  std::unique_ptr<Checkpoints> checkpoints_;

 public:
  ~Pretraining();
};

}  // namespace lode::tune
