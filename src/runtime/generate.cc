#include "runtime/generate.h"

#include <algorithm>
#include <chrono>

namespace lode::runtime {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<GenerateReport> Conversation::Generate(std::span<const int32_t> prompt,
                                              const GenerateOptions& options,
                                              const std::function<bool(int32_t)>& on_token) {
  if (prompt.empty()) return Error(Code::kBadInput, "the prompt is empty");
  GenerateReport report;
  report.prompt_tokens = static_cast<int64_t>(prompt.size());
  const auto cancelled = [&] {
    return options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed);
  };
  const double start = Now();
  // At least one token must run to have logits.
  const bool continues = sequence_.has_value() && tokens_.size() < prompt.size() &&
                         std::equal(tokens_.begin(), tokens_.end(), prompt.begin());
  if (!continues) {
    sequence_.reset();
    tokens_.clear();
    LODE_ASSIGN(Sequence fresh, engine_->NewSequence());
    sequence_ = std::move(fresh);
  }
  report.reused_tokens = static_cast<int64_t>(tokens_.size());
  const auto rest = prompt.subspan(tokens_.size());
  std::vector<float> logits(static_cast<size_t>(engine_->vocabulary()));
  const auto stepped = engine_->Append(*sequence_, rest, logits.data(), false, options.chunk,
                                       [&](int64_t done) {
                                         if (options.prompt_progress) options.prompt_progress(done);
                                         return !cancelled();
                                       });
  if (!stepped.ok()) {
    sequence_.reset();  // it holds a part of the prompt that we do not account for
    tokens_.clear();
    if (stepped.error().code() != Code::kCancelled) return stepped.error();
    report.reason = StopReason::kCancelled;
    report.prompt_seconds = Now() - start;
    return report;
  }
  tokens_.insert(tokens_.end(), rest.begin(), rest.end());
  const double prompt_done = Now();
  report.prompt_seconds = prompt_done - start;

  report.reason = StopReason::kLength;
  while (options.tokens_max < 0 || report.new_tokens < options.tokens_max) {
    if (cancelled()) {
      report.reason = StopReason::kCancelled;
      break;
    }
    const int32_t token = Sample(logits, options.sampling, static_cast<uint64_t>(tokens_.size()));
    if (std::find(options.stop_ids.begin(), options.stop_ids.end(), token) !=
        options.stop_ids.end()) {
      report.reason = StopReason::kStopToken;
      break;
    }
    ++report.new_tokens;
    if (!on_token(token)) {
      report.reason = StopReason::kCancelled;
      break;
    }
    if (report.new_tokens == options.tokens_max) break;  // its logits would not be looked at
    const StepItem item = {&*sequence_, {&token, 1}};
    const auto step = engine_->Step({&item, 1}, logits.data());
    if (!step.ok()) {
      if (step.error().code() != Code::kNoSpace) return step.error();
      report.reason = StopReason::kContextFull;
      break;
    }
    tokens_.push_back(token);
  }
  report.generate_seconds = Now() - prompt_done;
  return report;
}

}  // namespace lode::runtime
