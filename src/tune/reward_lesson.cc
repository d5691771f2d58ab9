#include "tune/reward_lesson.h"

#include <algorithm>

#include "base/text.h"

namespace lode::tune {
namespace {

constexpr uint64_t kHeldOutKey = 0x4A756467;         // apart from every other use of the seed
constexpr uint64_t kEvaluation = uint64_t{1} << 62;  // a round that is no step

uint64_t Digest(std::string_view text, uint64_t digest) {
  for (const char c : text) digest = Mix(digest, static_cast<unsigned char>(c));
  return digest;
}

std::string TextOf(const text::Tokenizer& tokenizer, std::span<const int32_t> tokens) {
  text::StreamDecoder decoder(tokenizer, /*skip_special=*/true);
  std::string text;
  for (const int32_t token : tokens) text += decoder.Push(token);
  return text + decoder.Flush();
}

}  // namespace

Result<std::unique_ptr<RewardLesson>> RewardLesson::Open(RunText text,
                                                         const RewardOptions& options) {
  std::unique_ptr<RewardLesson> lesson(new RewardLesson(std::move(text), options));
  LODE_TRY(lesson->Read());
  return lesson;
}

Result<std::vector<RewardLesson::Judged>> RewardLesson::ReadTasks(
    const std::vector<std::string>& paths, const Encoder& encoder) {
  std::vector<Judged> tasks;
  Report report;
  const auto take = [&](const Place& place, Encoded encoded) -> Result<void> {
    if (!encoded.task) {
      report.AddError(place, Error(Code::kBadInput, std::string("a record of kind ") +
                                                        Name(encoded.kind) + " is no task"));
      return {};
    }
    Task& task = *encoded.task;
    const std::string& name = task.environment.empty() ? options_.environment : task.environment;
    auto environment = FindEnvironment(name);
    if (!environment.ok()) {
      report.AddError(place, name.empty() ? Error(Code::kBadInput, "nobody judges this task",
                                                  "set \"environment\" in it, or rl.environment")
                                          : environment.error());
      return {};
    }
    const auto checked = (*environment)->Check(task.task);
    const int64_t room = options_.sequence - std::ssize(task.prompt);
    if (!checked.ok()) {
      report.AddError(place, checked.error());
    } else if (room < options_.answer_max) {
      report.AddError(
          place, Error(Code::kBadInput,
                       Format("the prompt has %zu tokens, and an answer may have %lld: "
                              "more than train.sequence",
                              task.prompt.size(), static_cast<long long>(options_.answer_max))));
    } else {
      prompt_max_ = std::max(prompt_max_, std::ssize(task.prompt));
      tasks.push_back({std::move(task), *environment});
    }
    return {};
  };
  LODE_TRY(ReadData(paths, encoder, {.record = {.as = RecordKind::kTask}}, &report, take));
  LODE_TRY(report.Verdict(options_.strict));
  return tasks;
}

Result<void> RewardLesson::Read() {
  LODE_ASSIGN(const Encoder encoder, Encoder::Make(text_.side(), options_.encoder));
  LODE_ASSIGN(training_, ReadTasks(options_.training, encoder));
  if (!options_.held_out.empty()) {
    LODE_ASSIGN(held_out_, ReadTasks(options_.held_out, encoder));
  } else {
    held_out_ = TakeShare(Mix(options_.seed, kHeldOutKey), options_.held_out_share, &training_);
  }
  if (training_.empty()) return Error(Code::kBadInput, "there is no task to learn from");
  for (const auto* tasks : {&training_, &held_out_}) {
    digest_ = Mix(digest_, tasks->size());
    for (const Judged& judged : *tasks) {
      for (const int32_t token : judged.task.prompt) {
        digest_ = Mix(digest_, static_cast<uint64_t>(token));
      }
      digest_ = Digest(DumpJson(judged.task.task), digest_);
    }
  }
  return {};
}

RolloutOptions RewardLesson::Rollouts(int threads) const {
  RolloutOptions options;
  options.answers = options_.grpo.answers;
  options.tokens_max = options_.answer_max;
  options.prompt_max = prompt_max_;
  options.together = options_.together;
  options.stop_ids = text_.stop_ids;
  options.seed = options_.seed;
  options.threads = threads;
  return options;
}

std::string RewardLesson::Summary() const {
  const auto count = [](int64_t number) { return WithThousands(static_cast<uint64_t>(number)); };
  return count(std::ssize(training_)) + " tasks, " + count(std::ssize(held_out_)) +
         " held out; a step draws " + count(options_.grpo.answers) + " answers to each of " +
         count(options_.batch);
}

uint64_t RewardLesson::Bytes(const model::ModelSpec& spec, int threads) const {
  return Sampling::Bytes(spec, Rollouts(threads));
}

Result<void> RewardLesson::Begin(const model::Model& model, train::Trainer* trainer, int threads) {
  trainer_ = trainer;
  sampling_ = std::make_unique<Sampling>(model, Rollouts(threads));
  return {};
}

std::vector<Verdict> RewardLesson::Judge(std::span<const Rollout> answers,
                                         std::span<const Judged* const> tasks) const {
  std::vector<Verdict> verdicts;
  for (const Rollout& answer : answers) {
    const Judged& judged = *tasks[static_cast<size_t>(answer.prompt)];
    verdicts.push_back(
        judged.environment->Judge(judged.task.task, TextOf(*text_.tokenizer, answer.tokens)));
  }
  return verdicts;
}

Result<void> RewardLesson::Step(StepMetrics* metrics) {
  std::vector<const Judged*> tasks;
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t i = 0; i < options_.batch; ++i) {
    const auto at = static_cast<uint64_t>((metrics->step - 1) * options_.batch + i);
    tasks.push_back(&training_[AtOfEpochs(at, training_.size(), options_.seed)]);
    prompts.push_back(tasks.back()->task.prompt);
  }
  const auto judge = [&](std::span<const Rollout> answers) -> Result<std::vector<Verdict>> {
    return Judge(answers, tasks);
  };
  const auto round = static_cast<uint64_t>(metrics->step);
  LODE_ASSIGN(const GrpoReport report, GrpoStep(trainer_, sampling_.get(), prompts, judge,
                                                options_.grpo, round, metrics->rate));
  metrics->loss = report.loss;
  metrics->norm = report.norm;
  metrics->skipped = report.skipped;
  metrics->imbalance = report.imbalance;
  metrics->tokens = report.tokens;
  metrics->rows = report.rows;
  metrics->more = {
      {"reward", report.reward},       {"reward_deviation", report.reward_deviation},
      {"solved", report.solved},       {"flat_groups", report.flat_groups},
      {"entropy", report.entropy},     {"answer_tokens", report.length},
      {"cut_off", report.cut_off},     {"clipped", report.clipped},
      {"drift_max", report.drift_max}, {"not_judged", static_cast<double>(report.invalid)}};
  return {};
}

// One answer to each, at temperature 1, with the same noise every time.
Result<bool> RewardLesson::Evaluate(int64_t most, EvaluationMetrics* metrics) {
  const int64_t all = std::ssize(held_out_);
  if (all == 0) return false;
  const int64_t count = most > 0 ? std::min(most, all) : all;
  std::vector<const Judged*> tasks;
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t i = 0; i < count; ++i) {
    tasks.push_back(&held_out_[static_cast<size_t>(i * all / count)]);
    prompts.push_back(tasks.back()->task.prompt);
  }
  LODE_ASSIGN(const std::vector<Rollout> answers, sampling_->Run(prompts, 1, kEvaluation));
  const std::vector<Verdict> verdicts = Judge(answers, tasks);
  double reward = 0.0, valid = 0.0;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    metrics->tokens += std::ssize(answers[i].tokens);
    if (!verdicts[i].valid) continue;
    reward += verdicts[i].reward;
    valid += 1.0;
  }
  metrics->reward = valid > 0.0 ? reward / valid : 0.0;
  return true;
}

}  // namespace lode::tune
