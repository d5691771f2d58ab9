#include "train/trainer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace lode::train {

using model::BlockKind;

namespace {

int64_t PagesOf(int64_t tokens) {
  return (tokens + kernels::kPageTokens - 1) / kernels::kPageTokens;
}

}  // namespace

void PackedBatch::Clear() {
  tokens.clear();
  targets.clear();
  coefficients.clear();
  lengths.clear();
  share = 1.0;
}

void PackedBatch::Add(std::span<const int32_t> own, std::span<const int32_t> followers,
                      std::span<const float> counts) {
  LODE_CHECK(own.size() == followers.size());
  LODE_CHECK(own.size() == counts.size());
  tokens.insert(tokens.end(), own.begin(), own.end());
  targets.insert(targets.end(), followers.begin(), followers.end());
  coefficients.insert(coefficients.end(), counts.begin(), counts.end());
  lengths.push_back(std::ssize(own));
}

Trainer::Trainer(model::Model* model, ThreadPool* pool, const TrainerOptions& options)
    : model_(model),
      options_(options),
      runner_(std::make_unique<model::Runner>(*model, model::Numerics(), pool, options.rows_max)),
      loads_(model->layers.size()) {
  for (size_t i = 0; i < loads_.size(); ++i) {
    if (model->layers[i].spec.kind == BlockKind::kMoe) {
      loads_[i].resize(static_cast<size_t>(model->layers[i].spec.moe.experts));
    }
  }
}

Result<std::unique_ptr<Trainer>> Trainer::Make(model::Model* model, ThreadPool* pool,
                                               const TrainerOptions& options) {
  std::unique_ptr<Trainer> trainer(new Trainer(model, pool, options));
  LODE_ASSIGN(trainer->parameters_, Parameters::Make(model, &trainer->runner_->kernels()));
  trainer->tape_ =
      std::make_unique<model::Tape>(trainer->runner_.get(), options.rows_max, options.recompute);
  trainer->backward_ = std::make_unique<model::Backward>(trainer->runner_.get(), options.rows_max,
                                                         options.sequences_max);
  AdamOptions adam = options.adam;
  adam.moves_matrices = !options.use_muon;
  trainer->optimizer_ = std::make_unique<AdamW>(trainer->parameters_.get(), pool, adam);
  if (options.use_muon) {
    trainer->muon_ = std::make_unique<Muon>(trainer->parameters_->all(), pool,
                                            trainer->optimizer_->first(), options.muon);
  }
  return trainer;
}

// Room for the states of a batch's sequences.
void Trainer::Lay(const PackedBatch& batch) {
  const model::StateLayout& layout = runner_->layout();
  const size_t sequences = batch.lengths.size();
  int64_t pages = 0;
  for (const int64_t length : batch.lengths) pages += PagesOf(length);
  const auto grow = [](std::vector<std::byte>* memory, size_t bytes) {
    if (memory->size() < bytes) memory->resize(bytes);
  };
  grow(&empty_slot_, layout.slot_bytes);
  grow(&slots_, sequences * layout.slot_bytes);
  grow(&pages_, static_cast<size_t>(pages) * layout.page_bytes);
  page_lists_.clear();
  for (int64_t i = 0; i < pages; ++i) {
    page_lists_.push_back(pages_.data() + static_cast<size_t>(i) * layout.page_bytes);
  }
  views_.clear();
  int64_t first = 0, page = 0;
  for (size_t i = 0; i < sequences; ++i) {
    model::SequenceView view;
    view.rows = {first, batch.lengths[i]};
    view.pages = page_lists_.data() + page;
    view.slot_source = empty_slot_.data();
    view.slot_target = slots_.data() + i * layout.slot_bytes;
    views_.push_back(view);
    first += batch.lengths[i];
    page += PagesOf(batch.lengths[i]);
  }
}

void Trainer::Forward(const PackedBatch& batch) {
  const int64_t rows = std::ssize(batch.tokens);
  LODE_CHECK(rows <= options_.rows_max);
  LODE_CHECK(std::ssize(batch.lengths) <= options_.sequences_max);
  Lay(batch);
  rows_.clear();
  targets_.clear();
  coefficients_.clear();
  for (int64_t t = 0; t < rows; ++t) {
    const auto at = static_cast<size_t>(t);
    if (batch.coefficients[at] == 0.0f) continue;
    rows_.push_back(static_cast<int32_t>(t));
    targets_.push_back(batch.targets[at]);
    coefficients_.push_back(batch.coefficients[at]);
  }
  tape_->Begin(rows);
  runner_->Forward({batch.tokens, views_, {}, nullptr});
}

BatchReport Trainer::Report(const std::vector<float>& log_p) const {
  BatchReport report;
  report.supervised = std::ssize(rows_);
  for (size_t i = 0; i < log_p.size(); ++i) {
    report.loss -= static_cast<double>(coefficients_[i]) * log_p[i];
  }
  return report;
}

BatchReport Trainer::Gather(const PackedBatch& batch, std::vector<float>* log_probabilities) {
  Forward(batch);
  const int64_t rows = std::ssize(batch.tokens);
  std::vector<float> log_p(rows_.size());
  backward_->Loss(rows_, targets_.data(), coefficients_.data(), rows, &parameters_->grad(),
                  log_p.data(), nullptr);
  BatchReport report = Report(log_p);
  const double balance =
      options_.balance * batch.share / std::max<double>(1.0, static_cast<double>(views_.size()));
  report.balance = backward_->Run(batch.tokens, views_, tape_.get(),
                                  {balance, options_.router_frozen, &loads_}, &parameters_->grad());
  report.loss += report.balance;
  if (log_probabilities != nullptr) *log_probabilities = std::move(log_p);
  return report;
}

BatchReport Trainer::Evaluate(const PackedBatch& batch, std::vector<float>* log_probabilities) {
  Forward(batch);
  std::vector<float> log_p(rows_.size());
  backward_->LogProbabilities(rows_, targets_.data(), log_p.data());
  BatchReport report = Report(log_p);
  if (log_probabilities != nullptr) *log_probabilities = std::move(log_p);
  return report;
}

double Trainer::Imbalance() const {
  double worst = 0.0;
  for (const std::vector<int64_t>& loads : loads_) {
    int64_t all = 0, most = 0;
    for (const int64_t load : loads) {
      all += load;
      most = std::max(most, load);
    }
    if (all == 0) continue;
    const auto share = static_cast<double>(most * std::ssize(loads)) / static_cast<double>(all);
    worst = std::max(worst, share - 1.0);
  }
  return worst;
}

// b_e += rate sign(mean load - load_e): experts that got too little are chosen more readily.
void Trainer::MoveBiases() {
  for (size_t i = 0; i < loads_.size(); ++i) {
    std::vector<int64_t>& loads = loads_[i];
    if (loads.empty()) continue;
    int64_t all = 0;
    for (const int64_t load : loads) all += load;
    std::vector<float>& bias = model_->layers[i].moe.bias;
    for (size_t e = 0; e < loads.size() && options_.bias_rate > 0.0; ++e) {
      const int64_t gap = all - loads[e] * std::ssize(loads);
      bias[e] += static_cast<float>(gap > 0   ? options_.bias_rate
                                    : gap < 0 ? -options_.bias_rate
                                              : 0.0);
    }
  }
}

void Trainer::Discard() {
  parameters_->ClearGradients();
  for (std::vector<int64_t>& loads : loads_) std::fill(loads.begin(), loads.end(), 0);
}

UpdateReport Trainer::Update(double rate) {
  parameters_->FinishGradients();
  const UpdateReport report = optimizer_->Update(rate);
  if (!report.skipped) {
    if (muon_ != nullptr) muon_->Update(rate, report.scale);
    MoveBiases();
    parameters_->Publish();
  }
  Discard();
  return report;
}

uint64_t Trainer::Bytes(const model::ModelSpec& spec, const TrainerOptions& options, int threads) {
  const model::Numerics numerics;
  const model::StateLayout layout = model::MakeStateLayout(spec, numerics);
  const auto sequences = static_cast<uint64_t>(options.sequences_max);
  // Each sequence may begin a page.
  const uint64_t pages = static_cast<uint64_t>(PagesOf(options.rows_max)) + sequences;
  return model::Workspace::Bytes(spec, numerics, options.rows_max, threads) +
         model::Tape::Bytes(spec, options.rows_max, options.recompute) +
         model::Backward::Bytes(spec, options.rows_max, options.sequences_max, threads) +
         Parameters::Bytes(spec) + AdamW::Bytes(Parameters::Count(spec)) +
         (options.use_muon ? Muon::Bytes(spec, threads) : 0) + (sequences + 1) * layout.slot_bytes +
         pages * layout.page_bytes;
}

}  // namespace lode::train
