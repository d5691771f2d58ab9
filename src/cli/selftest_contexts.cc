#include "cli/selftest_contexts.h"

#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include "api/contexts.h"
#include "base/text.h"
#include "cli/console.h"
#include "runtime/saved/saved_context.h"

namespace lode::cli {
namespace {

using runtime::Request;
using runtime::RequestId;

constexpr int64_t kAnswer = 12;  // tokens drawn
constexpr int64_t kDrafts = 3;

enum class History { kCold, kCached, kForked, kRestored, kCompany, kSpeculated, kInterrupted };
constexpr std::pair<History, const char*> kHistories[] = {
    {History::kCold, "cold"},
    {History::kCached, "cached: its beginning was computed before"},
    {History::kForked, "forked: another goes on from the same beginning"},
    {History::kRestored, "restored: its beginning comes from a file"},
    {History::kCompany, "in company: three others in every step"},
    {History::kSpeculated, "speculated: some guesses stand, some fall"},
    {History::kInterrupted, "interrupted: cancelled half-way, asked again"},
};

struct Machine {
  int threads;
  int64_t chunk;  // rows of a prompt's step; 0: the whole
};

// What the answer is, and the logits that each of its tokens and the one after it are drawn from.
struct Truth {
  runtime::SamplingOptions sampling;
  std::vector<int32_t> prompt, answer;
  std::vector<std::vector<float>> rows;
};

runtime::EngineOptions OptionsFor(const api::Running& running, int threads, int64_t rows,
                                  int64_t tokens) {
  runtime::EngineOptions options = running.options;
  options.threads = threads;
  options.rows_max = rows;
  options.sequences_max = 8;
  options.context_tokens = 8 * (tokens + kAnswer) + 1024;
  options.sequence_tokens_max = 0;
  options.trial_rows_max = 1 + kDrafts;
  options.cache_bytes = 0;
  return options;
}

Result<Truth> Cold(const api::Running& running, const std::vector<int32_t>& prompt) {
  Truth truth;
  truth.prompt = prompt;
  truth.sampling.temperature = 0.8;
  truth.sampling.seed = 1;
  const auto length = static_cast<int64_t>(prompt.size());
  runtime::EngineOptions options = OptionsFor(running, 1, 1, length);
  options.fault = runtime::Fault::kNone;  // a test plants them in what is compared
  runtime::Engine engine(*running.model, options);
  LODE_ASSIGN(runtime::Sequence sequence, engine.NewSequence());
  std::vector<float> logits(static_cast<size_t>(engine.vocabulary()));
  for (int64_t at = 0; at < length + kAnswer; ++at) {
    const int32_t token = at < length ? prompt[static_cast<size_t>(at)] : truth.answer.back();
    const runtime::StepItem item = {&sequence, {&token, 1}};
    LODE_TRY(engine.Step({&item, 1}, logits.data()));
    if (Interrupted()) return InterruptedError();
    if (at < length - 1) continue;
    truth.rows.push_back(logits);
    truth.answer.push_back(
        runtime::Sample(logits, truth.sampling, static_cast<uint64_t>(at + 1)));
  }
  truth.answer.resize(static_cast<size_t>(kAnswer));
  return truth;
}

// Knows the answer, and is wrong about every third token.
class KnowingDrafter : public runtime::Drafter {
 public:
  explicit KnowingDrafter(const Truth* truth) : truth_(*truth) {}
  int64_t Propose(std::span<const int32_t> history, std::span<int32_t> drafts) override {
    const size_t done = history.size() - truth_.prompt.size();
    size_t count = 0;
    while (count < drafts.size() && done + count < truth_.answer.size()) {
      const int32_t right = truth_.answer[done + count];
      drafts[count++] = ++proposed_ % 3 == 0 ? (right == 0 ? 1 : right - 1) : right;
    }
    return static_cast<int64_t>(count);
  }

 private:
  const Truth& truth_;
  int64_t proposed_ = 0;
};

// A folder that goes with this.
class Folder {
 public:
  Folder() {
    std::error_code error;
    path_ = (std::filesystem::temp_directory_path(error) / "lode-selftest-XXXXXX").string();
    if (error || ::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Run {
 public:
  Run(const api::Running& running, const Truth& truth, History history, const Machine& machine)
      : running_(running), truth_(truth), history_(history), machine_(machine) {}

  Result<HistoryCell> Compare() {
    Open();
    LODE_TRY(Prepare());
    ours_ = 0;
    // Behind its siblings it waits for the one that computes what they share.
    if (history_ == History::kForked || history_ == History::kCompany) LODE_TRY(AddOthers());
    LODE_ASSIGN(ours_, Submit(truth_.prompt, kAnswer));
    LODE_TRY(Finish(-1));
    if (failed_) return Error(Code::kInternal, "a request failed: " + failure_);
    // A row that never came is as wrong as one with other bits.
    cell_.different += static_cast<int64_t>(truth_.rows.size()) - 1 - cell_.rows;
    return cell_;
  }

 private:
  void Open() {
    scheduler_.reset();
    const auto length = static_cast<int64_t>(truth_.prompt.size());
    const int64_t rows = (machine_.chunk == 0 ? length : machine_.chunk) + 8 * (1 + kDrafts);
    engine_ = std::make_unique<runtime::Engine>(
        *running_.model, OptionsFor(running_, machine_.threads, rows, length));
    runtime::SchedulerOptions options;
    options.running_max = 4;
    options.chunk_rows = machine_.chunk;
    options.tree.spare_tokens = 32;
    options.tree.divergence_tokens_min = 1;
    if (history_ == History::kSpeculated) {
      options.drafts_max = options.drafts_fixed = kDrafts;
      options.drafter = [this](const Request&) {
        return std::make_unique<KnowingDrafter>(&truth_);
      };
    }
    options.on_logits = [this](RequestId id, int64_t position, std::span<const float> logits) {
      if (id != ours_) return;
      const auto row = static_cast<size_t>(position) - truth_.prompt.size();
      const bool same = row < truth_.rows.size() &&
                        std::memcmp(truth_.rows[row].data(), logits.data(),
                                    logits.size() * sizeof(float)) == 0;
      ++cell_.rows;
      cell_.different += same ? 0 : 1;
    };
    scheduler_ = std::make_unique<runtime::Scheduler>(engine_.get(), options);
  }

  // What was there before the request that is looked at.
  Result<void> Prepare() {
    const auto half = std::span(truth_.prompt).first(truth_.prompt.size() / 2 + 1);
    std::vector<int32_t> beginning(half.begin(), half.end());
    if (history_ == History::kCached) {
      beginning.push_back(beginning[0]);
      LODE_TRY(Submit(beginning, 2));
      return Finish(-1);
    }
    if (history_ == History::kInterrupted) {
      LODE_ASSIGN(const RequestId first, Submit(truth_.prompt, kAnswer));
      LODE_TRY(Finish(3));
      scheduler_->Cancel(first);
      return Finish(-1);
    }
    if (history_ != History::kRestored) return {};
    LODE_TRY(Submit(beginning, 0));
    LODE_TRY(Finish(-1));
    const Folder folder;
    if (folder.path().empty()) return Error(Code::kNoSpace, "there is no temporary folder");
    LODE_ASSIGN(runtime::ContextStore store, runtime::ContextStore::Open(folder.path()));
    LODE_TRY(runtime::SaveContext(scheduler_.get(), &store, "half", beginning, {}, Json::object()));
    Open();
    LODE_ASSIGN(const auto file, store.OpenContext("half"));
    LODE_TRY(runtime::RestoreContext(scheduler_.get(), *file, {}));
    return {};
  }

  Result<void> AddOthers() {
    const size_t length = truth_.prompt.size();
    for (size_t i = 1; i <= 3; ++i) {
      // A fork's sibling has the same beginning; company has nothing in common with us.
      std::vector<int32_t> other(truth_.prompt.begin() + static_cast<int64_t>(i),
                                 truth_.prompt.end());
      if (history_ == History::kForked) {
        other.assign(truth_.prompt.begin(),
                     truth_.prompt.begin() + static_cast<int64_t>(length * 3 / 4));
        other.push_back(static_cast<int32_t>(i));
      }
      LODE_TRY(Submit(other, kAnswer + static_cast<int64_t>(i)));
    }
    return {};
  }

  Result<RequestId> Submit(const std::vector<int32_t>& prompt, int64_t tokens) {
    Request request;
    request.prompt = prompt;
    request.sampling = truth_.sampling;
    request.tokens_max = tokens;
    request.root = scheduler_->default_root();
    return scheduler_->Submit(std::move(request));
  }

  // Steps until nothing is left, or so many tokens were drawn (-1: no limit).
  Result<void> Finish(int64_t tokens) {
    int64_t drawn = 0;
    const auto on_event = [&](const runtime::Event& event) {
      using Kind = runtime::Event::Kind;
      if (event.kind == Kind::kToken) ++drawn;
      if (event.kind == Kind::kStarted && event.request == ours_) cell_.reused = event.match.resume;
      if (event.kind == Kind::kFailed) {
        failed_ = true;
        failure_ = event.error->ToString();
      }
    };
    while ((tokens < 0 || drawn < tokens) && scheduler_->Step(on_event)) {
      if (Interrupted()) return InterruptedError();
    }
    return {};
  }

  const api::Running& running_;
  const Truth& truth_;
  History history_;
  Machine machine_;
  std::unique_ptr<runtime::Engine> engine_;
  std::unique_ptr<runtime::Scheduler> scheduler_;
  RequestId ours_ = 0;
  HistoryCell cell_;
  bool failed_ = false;
  std::string failure_;
};

}  // namespace

std::vector<std::string> HistoryNames() {
  std::vector<std::string> names;
  for (const auto& [history, name] : kHistories) names.push_back(name);
  return names;
}

Result<std::vector<HistoryCell>> CompareHistories(
    const api::Running& running, const std::vector<int32_t>& prompt, int threads,
    const std::function<bool(const HistoryCell&)>& on_cell) {
  LODE_ASSIGN(const Truth truth, Cold(running, prompt));
  std::vector<HistoryCell> cells;
  for (const auto& [history, name] : kHistories) {
    for (const Machine& machine : {Machine{1, 7}, Machine{threads, 0}}) {
      Run run(running, truth, history, machine);
      LODE_ASSIGN(HistoryCell cell, run.Compare());
      cell.history = name;
      cell.machine = machine.chunk == 0 ? Format("%d threads, whole", machine.threads)
                                        : Format("1 thread, chunks of %lld",
                                                 static_cast<long long>(machine.chunk));
      cells.push_back(cell);
      if (!on_cell(cell)) return InterruptedError();
    }
  }
  return cells;
}

}  // namespace lode::cli
