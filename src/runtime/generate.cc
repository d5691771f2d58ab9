#include "runtime/generate.h"

#include <chrono>
#include <optional>

namespace lode::runtime {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<GenerateReport> Conversation::Generate(std::span<const int32_t> prompt,
                                              const GenerateOptions& options,
                                              const std::function<bool(int32_t)>& on_token) {
  Request request;
  request.prompt.assign(prompt.begin(), prompt.end());
  request.sampling = options.sampling;
  request.stop_ids = options.stop_ids;
  request.tokens_max = options.tokens_max;
  request.root = scheduler_.default_root();
  request.probes = options.probes;

  GenerateReport report;
  report.prompt_tokens = static_cast<int64_t>(prompt.size());
  const int64_t drafted = scheduler_.drafted(), accepted = scheduler_.accepted();
  const double start = Now();
  double first = 0.0;  // when the prompt was done
  std::optional<Error> failed;
  LODE_ASSIGN(const RequestId id, scheduler_.Submit(std::move(request)));
  const auto on_event = [&](const Event& event) {
    switch (event.kind) {
      case Event::Kind::kStarted:
        if (event.again) break;  // it is the request that reused, and what it lost since is no news
        report.match = event.match;
        report.reused_tokens = event.match.resume;
        break;
      case Event::Kind::kProgress:
        if (options.prompt_progress) options.prompt_progress(event.tokens - report.reused_tokens);
        if (event.tokens == report.prompt_tokens) first = Now();
        break;
      case Event::Kind::kPromptToken:
      case Event::Kind::kPooled:
        break;
      case Event::Kind::kToken:
        ++report.new_tokens;
        if (!on_token(event.sampled.token)) scheduler_.Cancel(id);
        break;
      case Event::Kind::kFinished:
        report.reason = event.stop;
        break;
      case Event::Kind::kFailed:
        failed = *event.error;
        break;
    }
  };
  do {
    if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed)) {
      scheduler_.Cancel(id);
    }
  } while (scheduler_.Step(on_event));
  if (failed) return *failed;
  const double end = Now();
  report.drafted_tokens = scheduler_.drafted() - drafted;
  report.accepted_tokens = scheduler_.accepted() - accepted;
  report.prompt_seconds = (first > 0.0 ? first : end) - start;
  report.generate_seconds = first > 0.0 ? end - first : 0.0;
  return report;
}

}  // namespace lode::runtime
