// One training step: batches go forward and back, gradients gather, the optimizer moves the
// masters, the model sees them. The model that is trained is one that runs: its weights are the
// masters.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/backward.h"
#include "train/muon.h"
#include "train/optimizer.h"
#include "train/parameters.h"

namespace lode::train {

// Sequences one after the other; nothing flows between them. What row t is to be followed by is
// targets[t], and it counts coefficients[t]: 1 over the number of supervised tokens of the whole
// step for their mean, 0 where nothing is taught. The loss is - sum coefficient log p(target).
struct PackedBatch {
  std::vector<int32_t> tokens, targets;
  std::vector<float> coefficients;
  std::vector<int64_t> lengths;

  // What part of the step's sequences these are: the balancing loss is their mean.
  double share = 1.0;

  void Clear();
  // A sequence: tokens, and for each what follows it.
  void Add(std::span<const int32_t> tokens, std::span<const int32_t> targets,
           std::span<const float> coefficients);
};

struct TrainerOptions {
  int64_t rows_max = 4096;      // of a batch
  int64_t sequences_max = 256;  // of a batch
  int64_t sequence_max = 4096;  // rows of one
  bool recompute = false;       // keep only the stream between layers (model/backward.h)
  double balance = 0.0;         // the weight of the routers' balancing loss
  double bias_rate = 0.0;       // by which routers' biases move after each step (Wang et al. 2024)
  bool router_frozen = false;
  AdamOptions adam;
  bool use_muon = false;  // for matrices between layers (muon.h)
  MuonOptions muon;
};

struct BatchReport {
  double loss = 0.0;     // with the coefficients
  double balance = 0.0;  // of it, the routers' part, already weighed
  int64_t supervised = 0;
};

// Life: model and pool outlive it. Threads: one owner.
class Trainer {
 public:
  // Errors: those of Parameters::Make.
  static Result<std::unique_ptr<Trainer>> Make(model::Model* model, ThreadPool* pool,
                                               const TrainerOptions& options);

  // Gradients of a batch, added to what has gathered. `log_probabilities`, if wanted: of every row
  // with a coefficient, in order.
  BatchReport Gather(const PackedBatch& batch, std::vector<float>* log_probabilities = nullptr);
  // The same without gradients: for evaluation.
  BatchReport Evaluate(const PackedBatch& batch, std::vector<float>* log_probabilities = nullptr);
  // Moves the parameters, and begins to gather anew.
  UpdateReport Update(double rate);
  // Forgets what has gathered instead.
  void Discard();

  Parameters& parameters() { return *parameters_; }
  AdamW& optimizer() { return *optimizer_; }
  model::Runner& runner() { return *runner_; }
  // Rows that each expert of each layer got since the last Update; empty for other layers.
  const std::vector<std::vector<int64_t>>& loads() const { return loads_; }
  // Of these, the fullest expert's rows over the mean of its layer, less 1; the worst layer's.
  double Imbalance() const;

  // All that it takes beside the model as it was bound.
  static uint64_t Bytes(const model::ModelSpec& spec, const TrainerOptions& options, int threads);

 private:
  Trainer(model::Model* model, ThreadPool* pool, const TrainerOptions& options);
  void Lay(const PackedBatch& batch);
  void Forward(const PackedBatch& batch);
  BatchReport Report(const std::vector<float>& log_p) const;
  void MoveBiases();

  model::Model* model_;
  TrainerOptions options_;
  std::unique_ptr<model::Runner> runner_;
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<model::Tape> tape_;
  std::unique_ptr<model::Backward> backward_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<Muon> muon_;  // whose momentum lies among the optimizer's first moments
  // States that sequences leave behind, and the empty one they begin with.
  std::vector<std::byte> pages_, slots_, empty_slot_;
  std::vector<std::byte*> page_lists_;
  std::vector<model::SequenceView> views_;
  // Rows with a coefficient, and their targets.
  std::vector<int32_t> rows_, targets_;
  std::vector<float> coefficients_;
  std::vector<std::vector<int64_t>> loads_;
};

}  // namespace lode::train
