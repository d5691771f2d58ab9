#include "tune/rl/grpo.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/text.h"

namespace lode::tune {
namespace {

// What is trained of one batch of answers.
class Lesson {
 public:
  Lesson(std::span<const std::vector<int32_t>> prompts, std::span<const Rollout> answers,
         std::span<const Verdict> verdicts, const GrpoOptions& options)
      : prompts_(prompts), answers_(answers), options_(options) {
    counts_.resize(answers.size(), false);
    advantages_.resize(answers.size(), 0.0);
    before_.resize(answers.size());
    for (size_t i = 0; i < answers.size(); ++i) {
      counts_[i] = verdicts[i].valid && !(options.skip_cut_off && !answers[i].ended);
      if (counts_[i]) tokens_ += std::ssize(answers[i].tokens);
    }
    const auto each = static_cast<size_t>(options.answers);
    for (size_t begin = 0; begin < answers.size(); begin += each) Group(begin, each, verdicts);
  }

  // Gradients of all that counts, in as many passes as it takes. The first pass over the answers of
  // these weights says what the later ones are compared with.
  Result<void> Gather(train::Trainer* trainer, bool first, GrpoReport* report) {
    train::PackedBatch batch;
    std::vector<size_t> own;
    for (size_t i = 0; i <= answers_.size(); ++i) {
      const bool flush = i == answers_.size() || !Fits(batch, i);
      if (flush && !own.empty()) {
        Pass(trainer, first, own, &batch, report);
        own.clear();
        batch.Clear();
      }
      // An answer without an advantage moves nothing.
      if (i == answers_.size() || !counts_[i] || advantages_[i] == 0.0) continue;
      if (Rows(i) > options_.rows_max) {
        return Error(
            Code::kBadInput,
            Format("a prompt with its answer has %lld tokens, and a pass takes %lld",
                   static_cast<long long>(Rows(i)), static_cast<long long>(options_.rows_max)),
            "shorter answers, or more rows");
      }
      Add(i, &batch);
      own.push_back(i);
    }
    return {};
  }
  int64_t flat_groups() const { return flat_groups_; }
  int64_t trained_tokens() const { return trained_tokens_; }
  int64_t clipped_tokens() const { return clipped_tokens_; }

 private:
  void Group(size_t begin, size_t each, std::span<const Verdict> verdicts) {
    std::vector<double> rewards;
    for (size_t i = begin; i < begin + each; ++i) {
      if (counts_[i]) rewards.push_back(verdicts[i].reward);
    }
    const std::vector<double> advantages = Advantages(rewards, options_.policy);
    size_t next = 0;
    bool flat = true;
    for (size_t i = begin; i < begin + each; ++i) {
      if (!counts_[i]) continue;
      advantages_[i] = advantages[next++];
      flat = flat && advantages_[i] == 0.0;
    }
    flat_groups_ += flat ? 1 : 0;
  }

  std::span<const int32_t> Prompt(size_t i) const {
    return prompts_[static_cast<size_t>(answers_[i].prompt)];
  }
  int64_t Rows(size_t i) const {
    return std::ssize(Prompt(i)) + std::ssize(answers_[i].tokens) - 1;
  }
  bool Fits(const train::PackedBatch& batch, size_t i) const {
    return std::ssize(batch.tokens) + Rows(i) <= options_.rows_max &&
           std::ssize(batch.lengths) < options_.sequences_max;
  }

  // Rows of the prompt and the answer; the labels of the answer's tokens count for now 1 each.
  void Add(size_t i, train::PackedBatch* batch) const {
    std::vector<int32_t> all(Prompt(i).begin(), Prompt(i).end());
    all.insert(all.end(), answers_[i].tokens.begin(), answers_[i].tokens.end());
    const std::span<const int32_t> tokens(all);
    std::vector<float> coefficients(all.size() - 1, 0.0f);
    std::fill(coefficients.begin() + std::ssize(Prompt(i)) - 1, coefficients.end(), 1.0f);
    batch->Add(tokens.first(all.size() - 1), tokens.subspan(1), coefficients);
  }

  void Pass(train::Trainer* trainer, bool first, const std::vector<size_t>& own,
            train::PackedBatch* batch, GrpoReport* report) {
    batch->share = static_cast<double>(own.size()) / static_cast<double>(answers_.size());
    std::vector<float> now;
    // On the weights that sampled, the ratio is one and every slope is known beforehand.
    if (!first) trainer->Evaluate(*batch, &now);
    size_t at = 0, row = 0;
    for (const size_t i : own) {
      row += Prompt(i).size() - 1;
      for (size_t t = 0; t < answers_[i].tokens.size(); ++t, ++row) {
        const double sampled = answers_[i].log_probabilities[t];
        const double before = first ? sampled : before_[i][t];
        const TokenLogProbs p = {first ? sampled : now[at++], before, sampled};
        const TokenLoss loss = PolicyLoss(p, advantages_[i], options_.policy);
        report->loss += loss.loss / static_cast<double>(tokens_);
        clipped_tokens_ += loss.clipped ? 1 : 0;
        // The trainer's loss is - sum coefficient log p.
        batch->coefficients[row] = static_cast<float>(-loss.slope / static_cast<double>(tokens_));
      }
    }
    trainer->Gather(*batch, &now);
    report->rows += std::ssize(batch->tokens);
    for (const size_t i : own) trained_tokens_ += std::ssize(answers_[i].tokens);
    if (first) Remember(own, now, report);
  }

  // What the trainer says of the tokens on the weights that sampled them: all of them counted.
  void Remember(const std::vector<size_t>& own, std::span<const float> log_p, GrpoReport* report) {
    for (const size_t i : own) {
      const size_t count = answers_[i].tokens.size();
      LODE_CHECK(log_p.size() >= count);
      before_[i].assign(log_p.begin(), log_p.begin() + static_cast<std::ptrdiff_t>(count));
      log_p = log_p.subspan(count);
      for (size_t t = 0; t < count; ++t) {
        const double drift = std::fabs(before_[i][t] - answers_[i].log_probabilities[t]);
        report->drift_max = std::max(report->drift_max, drift);
      }
    }
    LODE_CHECK(log_p.empty());
  }

  std::span<const std::vector<int32_t>> prompts_;
  std::span<const Rollout> answers_;
  const GrpoOptions& options_;
  std::vector<bool> counts_;
  std::vector<double> advantages_;
  std::vector<std::vector<float>> before_;
  int64_t tokens_ = 0;  // that count
  int64_t flat_groups_ = 0, trained_tokens_ = 0, clipped_tokens_ = 0;
};

void ReportAnswers(std::span<const Rollout> answers, std::span<const Verdict> verdicts,
                   GrpoReport* report) {
  double valid = 0.0, squares = 0.0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const auto all = static_cast<double>(answers.size());
    report->tokens += std::ssize(answers[i].tokens);
    report->entropy += answers[i].entropy / all;
    report->length += static_cast<double>(answers[i].tokens.size()) / all;
    report->cut_off += (answers[i].ended ? 0.0 : 1.0) / all;
    if (!verdicts[i].valid) {
      ++report->invalid;
      continue;
    }
    valid += 1.0;
    report->reward += verdicts[i].reward;
    squares += verdicts[i].reward * verdicts[i].reward;
    report->solved += verdicts[i].reward >= 1.0 ? 1.0 : 0.0;
  }
  if (valid == 0.0) return;
  report->reward /= valid;
  report->solved /= valid;
  report->reward_deviation =
      std::sqrt(std::max(0.0, squares / valid - report->reward * report->reward));
}

}  // namespace

Result<GrpoReport> GrpoStep(train::Trainer* trainer, Sampling* sampling,
                            std::span<const std::vector<int32_t>> prompts, const Judge& judge,
                            const GrpoOptions& options, uint64_t round, double rate) {
  if (options.policy.kl > 0.0) {
    return Error(Code::kUnsupported, "a distance to a reference model cannot be held yet",
                 "kl = 0 is what most recipes use");
  }
  GrpoReport report;
  LODE_ASSIGN(const std::vector<Rollout> answers, sampling->Run(prompts, options.answers, round));
  LODE_ASSIGN(const std::vector<Verdict> verdicts, judge(answers));
  ReportAnswers(answers, verdicts, &report);
  Lesson lesson(prompts, answers, verdicts, options);
  for (int64_t update = 0; update < options.updates; ++update) {
    LODE_TRY(lesson.Gather(trainer, update == 0, &report));
    report.imbalance = std::max(report.imbalance, trainer->Imbalance());
    const train::UpdateReport moved = trainer->Update(rate);
    report.norm = std::max(report.norm, moved.norm);
    report.skipped = report.skipped || moved.skipped;
  }
  report.loss /= static_cast<double>(options.updates);
  report.flat_groups =
      static_cast<double>(lesson.flat_groups()) / static_cast<double>(prompts.size());
  report.clipped = static_cast<double>(lesson.clipped_tokens()) /
                   static_cast<double>(std::max<int64_t>(1, lesson.trained_tokens()));
  return report;
}

}  // namespace lode::tune
