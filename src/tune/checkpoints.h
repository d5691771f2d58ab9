// The checkpoints of a run, each a folder that is also a model:
//   step-500/  model.safetensors (f32), config.json, the tokenizer's files: what `lode chat` opens
//              optimizer.safetensors: both moments, in the order of the parameters
//              run.json: where the run stood, its settings, and a digest of all numbers
// They are copied between two steps and written beside the next ones by a thread of its own; a
// folder has its name only when everything in it is on the disk.
//
// Surprising policy: a checkpoint that cannot be read is named and the one before it is used; a
// checkpoint of another run is refused.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "train/optimizer.h"
#include "tune/plain_vocabulary.h"
#include "tune/weights.h"

namespace lode::tune {

// What a run needs to go on beside weights and moments.
struct RunState {
  int64_t step = 0;   // updates tried
  int64_t skips = 0;  // of these, without effect
  int64_t skips_in_row = 0;
  double smooth_loss = 0.0;
  double best_loss = std::numeric_limits<double>::infinity();  // held out
  int64_t best_step = 0;
  int64_t since_best = 0;    // evaluations
  int64_t judged_step = -1;  // the last that all of the held-out data judged
  double seconds = 0.0;      // spent in steps
  uint64_t metrics_bytes = 0;
  Json cursor;  // of the lesson
};

// What makes a run this one: settings (Fields::Values), the model's config, a digest of its data.
struct RunIdentity {
  Json settings, model;
  uint64_t data = 0;
};

// Life: what it is made of outlives it. Threads: one owner, and its own.
class Checkpoints {
 public:
  Checkpoints(std::string folder, WeightList* weights, train::AdamW* optimizer, TextFiles files,
              RunIdentity identity, int64_t keep);
  ~Checkpoints();

  // Copies everything, then writes in the background. Errors: of the writing before this one.
  Result<void> Save(const RunState& state);
  // Until all is written. Errors: of that.
  Result<void> Wait();

  // Loads the newest that can be read into weights and optimizer; nothing when there is none.
  // `check` sees what was saved of the run's identity before anything is loaded; its error is
  // final.
  // Others become `notes`, a sentence each. Errors: when none of those that are there can be read.
  Result<std::optional<RunState>> Restore(
      const std::function<Result<void>(const RunIdentity& saved)>& check,
      std::vector<std::string>* notes);

  // Steps of those that are there, ascending.
  static std::vector<int64_t> Steps(const std::string& folder);
  static std::string PathOf(const std::string& folder, int64_t step);

  // What a copy takes.
  uint64_t Bytes() const;

 private:
  Result<void> Write(const RunState& state);
  Result<RunState> Read(int64_t step,
                        const std::function<Result<void>(const RunIdentity& saved)>& check,
                        bool* refused);
  void Prune(const RunState& state);
  uint64_t DigestOfCopy() const;

  std::string folder_;
  WeightList* weights_;
  train::AdamW* optimizer_;
  TextFiles files_;
  RunIdentity identity_;
  int64_t keep_;
  // The copy, which the thread reads.
  std::vector<float> values_, first_, second_;
  int64_t updates_ = 0;
  std::thread thread_;
  Result<void> written_;
};

}  // namespace lode::tune
