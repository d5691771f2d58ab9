// A run of training: a lesson (lesson.h) step by step, judged, written down and kept. One object is
// one run: Open reads and checks everything and takes all memory, Run trains.
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
#include "tune/lesson.h"
#include "tune/metrics.h"
#include "tune/progress.h"
#include "tune/record.h"
#include "tune/run_config.h"
#include "tune/weights.h"

namespace lode::tune {

// What a run takes and has, before its first step.
struct RunPlan {
  int64_t parameters = 0;
  int32_t vocabulary = 0;
  int threads = 0;
  std::string lesson;                                    // Lesson::Summary
  std::string layers;                                    // in the family's letters
  double flops_per_row = 0.0;                            // by arithmetic, of full sequences
  std::vector<std::pair<std::string, uint64_t>> memory;  // bytes, what for
  uint64_t bytes() const;
};

struct RunReport {
  RunState state;
  bool stopped = false;        // by the user: a checkpoint was written
  bool stopped_early = false;  // by train.patience
  EvaluationMetrics last;      // held out, at the end
  std::string model;           // the folder of the final model; empty when stopped
};

// Threads: one owner. Life: the config's Keys() point into this.
class TrainingRun {
 public:
  // Errors: those of config, data and model; kNoSpace when the plan does not fit the memory.
  static Result<std::unique_ptr<TrainingRun>> Open(const RunConfig& config);

  const RunPlan& plan() const { return plan_; }
  const RunConfig& config() const { return config_; }

  // Seconds of a step, measured on `steps` of them after one more; weights are as new afterwards
  // only for who throws this away.
  Result<double> MeasureStep(int64_t steps);

  // All steps, or the rest of them with `resume`. `folder` is made where it is not there. Errors:
  // a folder with another run in it, data or settings that are not the run's, a full disk, too many
  // skipped steps; the last checkpoint is intact then.
  Result<RunReport> Run(const std::string& folder, bool resume, const Watcher& watcher);

 private:
  TrainingRun() = default;
  Result<void> OpenModel();
  Result<void> OpenLesson();
  Result<void> Plan(const model::ModelSpec& spec);
  Result<void> Begin(const std::string& folder, bool resume, const Watcher& watcher);
  Result<void> Resume(const Watcher& watcher);
  Result<StepMetrics> Step();
  void Count(const StepMetrics& metrics);
  Result<void> Report(const StepMetrics& metrics, const Watcher& watcher);
  Result<void> Evaluate(int64_t sequences_max, const Watcher& watcher);
  Result<void> Sample(const Watcher& watcher);
  Result<void> Save();
  Result<RunReport> Finish(bool stopped, const Watcher& watcher);
  Result<void> WriteModel(const std::string& path);
  RunIdentity Identity();

  RunConfig config_;
  Fields fields_;
  train::Schedule schedule_;
  RunPlan plan_;
  std::unique_ptr<ThreadPool> pool_;
  std::shared_ptr<const tensor::TensorSource> source_;  // of model.from
  std::unique_ptr<Lesson> lesson_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<train::Trainer> trainer_;
  std::unique_ptr<WeightList> weights_;
  double peak_flops_ = 0.0;

  std::string folder_;
  int lock_ = -1;
  RunState state_;
  EvaluationMetrics last_;
  std::unique_ptr<Record> record_;
  std::unique_ptr<Checkpoints> checkpoints_;

 public:
  ~TrainingRun();
};

}  // namespace lode::tune
