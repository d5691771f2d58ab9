// Reinforcement: tasks are answered by the model itself, environments judge, and what was better
// than the rest of its group becomes likelier (rl/grpo.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tune/data/dataset.h"
#include "tune/lesson.h"
#include "tune/rl/grpo.h"
#include "tune/run_text.h"
#include "tune/share.h"

namespace lode::tune {

struct RewardOptions : RecordsOptions {
  std::string environment;   // of tasks that name none
  int64_t answer_max = 128;  // tokens of an answer
  int64_t together = 64;     // answers that are drawn at once
  GrpoOptions grpo;
};

class RewardLesson final : public Lesson {
 public:
  // Errors: those of the data; a task without an environment, or that does not say what judging it
  // takes; a prompt that leaves no room for an answer.
  static Result<std::unique_ptr<RewardLesson>> Open(RunText text, const RewardOptions& options);

  const text::Tokenizer& tokenizer() const override { return *text_.tokenizer; }
  const TextFiles& files() const override { return text_.files; }
  std::string Summary() const override;
  uint64_t digest() const override { return digest_; }
  uint64_t Bytes(const model::ModelSpec& spec, int threads) const override;

  Result<void> Begin(const model::Model& model, train::Trainer* trainer, int threads) override;
  Result<void> Step(StepMetrics* metrics) override;
  Result<bool> Evaluate(int64_t most, EvaluationMetrics* metrics) override;

 private:
  struct Judged {
    Task task;
    const Environment* environment;
  };

  explicit RewardLesson(RunText text, const RewardOptions& options)
      : text_(std::move(text)), options_(options) {}
  Result<void> Read();
  Result<std::vector<Judged>> ReadTasks(const std::vector<std::string>& paths,
                                        const Encoder& encoder);
  RolloutOptions Rollouts(int threads) const;
  std::vector<Verdict> Judge(std::span<const Rollout> answers,
                             std::span<const Judged* const> tasks) const;

  RunText text_;
  RewardOptions options_;
  std::vector<Judged> training_, held_out_;
  int64_t prompt_max_ = 0;
  uint64_t digest_ = 0;
  train::Trainer* trainer_ = nullptr;
  std::unique_ptr<Sampling> sampling_;
};

}  // namespace lode::tune
