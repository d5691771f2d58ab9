// Who waits, and whose turn it is to start.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/text.h"
#include "runtime/fairness/context_root_key.h"
#include "runtime/scheduler.h"
#include "runtime/scheduler_task.h"

namespace lode::runtime {
namespace {

// Until steps were measured.
constexpr double kRowMillisecondsGuess = 1.0;

std::string Duration(double milliseconds) {
  const double seconds = milliseconds * 1e-3;
  if (seconds < 10.0) return Format("%.1f s", seconds);
  return seconds < 600.0 ? Format("%.0f s", seconds) : Format("%.0f min", seconds / 60.0);
}

}  // namespace

// --- Tenants -------------------------------------------------------------------------------------

Result<TenantId> Scheduler::AddTenant(const TenantLimits& limits) {
  if (!(limits.weight > 0.0) || !std::isfinite(limits.weight)) {
    return Error(Code::kBadInput, Format("a tenant's weight must be above 0, and this one is %g",
                                         limits.weight));
  }
  // The last group of frames is the engine's own.
  const auto most = static_cast<size_t>(engine_->frames().groups_max() - 1);
  if (tenants_.size() >= most) {
    return Error(Code::kNoSpace, Format("no more than %zu tenants can be told apart", most));
  }
  LODE_ASSIGN(const TenantId id, tree_.AddTenant({limits.weight, limits.pin_bytes_max}));
  LODE_CHECK(id == tenants_.size());
  tenants_.push_back(limits);
  if (limits.secret.empty()) tenants_.back().secret = RandomSecret();
  fair_.Add(limits.weight);
  denied_.push_back(0);
  return id;
}

Result<RootId> Scheduler::OpenRoot(TenantId tenant, std::string_view salt) {
  if (tenant >= tenants_.size()) return Error(Code::kNotFound, "there is no such tenant");
  const std::string& secret = tenants_[tenant].secret;
  const RootKey key = DeriveRootKey(std::as_bytes(std::span(secret)), salt, options_.model_id,
                                    options_.numerics_id);
  LODE_ASSIGN(const RootId root, tree_.OpenRoot(tenant, key));
  tree_.KeepRoot(root, +1);
  opened_.resize(std::max<size_t>(opened_.size(), root + 1));
  opened_[root].tenant = tenant;
  ++opened_[root].times;
  return root;
}

void Scheduler::CloseRoot(RootId root) {
  LODE_CHECK(root < opened_.size());
  LODE_CHECK(opened_[root].times > 0);
  --opened_[root].times;
  tree_.KeepRoot(root, -1);
}

TenantUse Scheduler::use(TenantId tenant) const {
  TenantUse use;
  use.running = RunningOf(tenant);
  use.waiting = std::count_if(queue_.begin(), queue_.end(),
                              [&](const auto& task) { return task->tenant == tenant; });
  use.milliseconds = fair_.milliseconds(tenant);
  return use;
}

int64_t Scheduler::RunningOf(TenantId tenant) const {
  return std::count_if(running_.begin(), running_.end(),
                       [&](const auto& task) { return task->tenant == tenant; });
}

int64_t Scheduler::RunningMax(TenantId tenant) const {
  const int64_t most = tenants_[tenant].running_max;
  return most > 0 ? std::min(most, options_.running_max) : options_.running_max;
}

// --- Coming --------------------------------------------------------------------------------------

Result<void> Scheduler::CheckQueue(TenantId tenant) const {
  const int64_t own = tenants_[tenant].queue_max;
  std::vector<int64_t> lengths(tenants_.size());
  for (const auto& task : queue_) ++lengths[task->tenant];
  const int64_t here = lengths[tenant];
  const bool own_full = own > 0 && here >= own;
  if (!own_full) {
    if (waiting() < options_.queue_max) return {};
    // Full of others' requests: who has less than its part of the queue may still come.
    double weights = 0.0;
    for (TenantId id = 0; id < tenants_.size(); ++id) {
      if (lengths[id] > 0 || id == tenant) weights += tenants_[id].weight;
    }
    const double part = tenants_[tenant].weight / weights;
    if (static_cast<double>(here + 1) <= part * static_cast<double>(options_.queue_max)) return {};
  }
  const double interval = drain_.Interval();
  std::string hint = "try again later";
  if (interval > 0.0) hint = "try again in " + Duration(interval);
  return Error(Code::kNoSpace,
               Format("%lld requests%s wait already%s",
                      static_cast<long long>(own_full ? own : options_.queue_max),
                      own_full ? " of this tenant" : "",
                      interval > 0.0 ? (", and one ends every " + Duration(interval)).c_str() : ""),
               hint);
}

Result<RequestId> Scheduler::Submit(Request request) {
  if (request.prompt.empty()) return Error(Code::kBadInput, "the prompt is empty");
  LODE_TRY(ValidateSampling(request.sampling, engine_->vocabulary()));
  LODE_TRY(engine_->CheckTokens(request.prompt));
  if (request.prompt_logprobs > kLogprobsMax) {
    return Error(Code::kBadInput, Format("prompt_logprobs is %lld, it must be at most %lld",
                                         static_cast<long long>(request.prompt_logprobs),
                                         static_cast<long long>(kLogprobsMax)));
  }
  if (request.root >= opened_.size() || opened_[request.root].times == 0) {
    return Error(Code::kNotFound, "the root of this request is not open");
  }
  const TenantId tenant = opened_[request.root].tenant;
  LODE_TRY(CheckQueue(tenant));
  LODE_TRY(CheckFits(static_cast<int64_t>(request.prompt.size())));
  auto task = std::make_unique<Task>();
  task->id = next_id_;
  task->request = std::move(request);
  task->tenant = tenant;
  task->tokens = task->request.prompt;
  task->judged = std::max<int64_t>(1, task->request.prompt_logprobs_from);
  if (options_.drafts_max > 0) {
    if (options_.drafter) {
      task->drafter = options_.drafter(task->request);
    } else if (!mtp_) {
      task->drafter = std::make_unique<NgramDrafter>();
    }
    task->length.emplace(options_.drafts_max);
  }
  const Request& asked = task->request;
  if (asked.constraint || asked.tokens_min > 0) {
    task->mask.emplace(AnswerRules{asked.constraint.get(), asked.stop_ids, asked.tokens_min},
                       engine_->vocabulary(), options_.drafts_max);
  }
  Announce(task.get());
  queue_.push_back(std::move(task));
  return next_id_++;
}

// Its tokens so far enter the tree: it waits.
void Scheduler::Announce(Task* task) {
  AnnounceOptions options;
  options.probes = task->request.probes;
  options.family = task->request.family;
  options.use_cache = task->request.use_cache;
  options.reuse_max = ReuseMax(*task);
  task->live = tree_.Announce(task->request.root, task->tokens, options);
}

void Scheduler::Cancel(RequestId request) {
  for (auto& task : queue_) {
    if (task->id == request) task->cancelled = true;
  }
  for (auto& task : running_) {
    if (task->id == request) task->cancelled = true;
  }
}

void Scheduler::DropCancelled(const Emit& emit) {
  for (size_t i = 0; i < queue_.size();) {
    if (!queue_[i]->cancelled) {
      ++i;
      continue;
    }
    const std::unique_ptr<Task> gone = std::move(queue_[i]);
    queue_.erase(queue_.begin() + static_cast<int64_t>(i));
    promotions_.Leave(gone->live);
    tree_.Finish(gone->live, FinishReason::kCancelled);
    emit({.kind = Event::Kind::kFinished, .request = gone->id, .stop = StopReason::kCancelled});
  }
}

// --- Starting ------------------------------------------------------------------------------------

// The tenant's first in line that nobody computes something for; null: none.
Scheduler::Task* Scheduler::FirstOf(TenantId tenant) const {
  std::vector<Task*> line;
  for (const auto& task : queue_) {
    if (task->tenant == tenant && !task->cancelled) line.push_back(task.get());
  }
  std::sort(line.begin(), line.end(), [](const Task* a, const Task* b) {
    if (a->request.priority != b->request.priority) {
      return a->request.priority > b->request.priority;
    }
    return a->id < b->id;
  });
  // Somebody computes or reads what this one needs: it waits for that, and lets others pass.
  const auto first = std::find_if(line.begin(), line.end(), [&](const Task* task) {
    return tree_.Advise(task->live).leader == kNone && !promotions_.Waiting(task->live);
  });
  return first == line.end() ? nullptr : *first;
}

// What a running request will take of the machine's time until it ends, as far as can be known.
double Scheduler::MillisecondsLeft(const Task& task) const {
  const int64_t most = cost_.rows_measured();
  const double row = most > 0 ? cost_.Milliseconds(most) / static_cast<double>(most)
                              : kRowMillisecondsGuess;
  const int64_t answer = task.request.tokens_max < 0
                             ? options_.answer_tokens
                             : std::min(task.request.tokens_max - task.answer,
                                        options_.answer_tokens);
  return static_cast<double>(task.left() + std::max<int64_t>(0, answer)) * row;
}

std::vector<double> Scheduler::PromisedTime() const {
  std::vector<double> promised(tenants_.size());
  for (const auto& task : running_) {
    if (!task->done) promised[task->tenant] += MillisecondsLeft(*task);
  }
  return promised;
}

void Scheduler::AdmitWaiting(const Emit& emit) {
  DropCancelled(emit);
  denied_.assign(tenants_.size(), 0);
  if (queue_.empty()) return;
  std::vector<Task*> first(tenants_.size());
  std::vector<uint8_t> wants(tenants_.size());
  // Who is parked, or has all the places that its tenant may have, holds no turn.
  const auto look = [&](TenantId tenant) {
    const bool full = RunningOf(tenant) >= RunningMax(tenant);
    first[tenant] = full ? nullptr : FirstOf(tenant);
    wants[tenant] = first[tenant] != nullptr;
  };
  for (TenantId tenant = 0; tenant < first.size() && !queue_.empty(); ++tenant) look(tenant);
  while (true) {
    const int64_t next = fair_.Next(wants, PromisedTime());
    if (next < 0) return;
    Task* task = first[static_cast<size_t>(next)];
    // Whoever is alone may try: then its promise is more than it may need.
    const auto place = [&] {
      return running() < options_.running_max && (running_.empty() || Fits(*task));
    };
    while (!place()) {
      if (MakePlace(*task)) continue;
      std::copy(wants.begin(), wants.end(), denied_.begin());
      return;
    }
    if (!promotions_.Begin(task->live, task->request.root)) Start(task, emit);
    if (first.size() < tenants_.size()) {  // the event brought another one
      first.resize(tenants_.size());
      wants.resize(tenants_.size());
    }
    look(task->tenant);  // who shares a beginning with it is now parked
  }
}

// A tenant with fewer places than its part of those in use, and less time for its weight, takes one
// from a tenant that has more, of a request that has come on for a while. False: nobody has to give
// way.
bool Scheduler::MakePlace(const Task& task) {
  double weights = 0.0;
  std::vector<int64_t> places(tenants_.size());
  for (TenantId tenant = 0; tenant < tenants_.size(); ++tenant) {
    places[tenant] = RunningOf(tenant);
    if (places[tenant] > 0 || tenant == task.tenant) weights += tenants_[tenant].weight;
  }
  const auto part = [&](TenantId tenant) {
    return static_cast<double>(running()) * tenants_[tenant].weight / weights;
  };
  if (static_cast<double>(places[task.tenant] + 1) > part(task.tenant)) return false;
  const Task* eldest = Eldest();
  Task* victim = nullptr;
  for (const auto& other : running_) {
    if (other.get() == eldest || other->done || other->progress() < options_.progress_min) continue;
    if (static_cast<double>(places[other->tenant] - 1) < part(other->tenant)) continue;
    if (fair_.Had(other->tenant) < fair_.Had(task.tenant)) continue;
    if (victim == nullptr || GivesWayBefore(*other, *victim)) victim = other.get();
  }
  if (victim != nullptr) Preempt(victim);
  return victim != nullptr;
}

void Scheduler::Start(Task* waiting, const Emit& emit) {
  const auto at = std::find_if(queue_.begin(), queue_.end(),
                               [&](const auto& task) { return task.get() == waiting; });
  std::unique_ptr<Task> task = std::move(*at);
  queue_.erase(at);
  Admission admission = tree_.Admit(task->live);
  Match& match = admission.match;
  const Promotions::Restored restored = promotions_.RestoredFor(task->live);
  match.restored_bytes = restored.bytes;
  match.restored_seconds = restored.seconds;
  promotions_.Leave(task->live);
  int64_t resume = match.resume;
  if (options_.fault == SchedulerFault::kResumeTooDeep && resume > 0) {
    resume = std::min(resume + kTokensPerPage, static_cast<int64_t>(task->tokens.size()) - 1);
  }
  task->sequence = engine_->NewSequence(tree_.owner(task->request.root), resume,
                                        std::move(admission.pages), match.slot);
  task->stay_from = match.resume;
  task->hidden_at = match.hidden ? match.resume : -1;
  task->passed_over = 0;
  running_.push_back(std::move(task));
  emit({.kind = Event::Kind::kStarted,
        .request = waiting->id,
        .tokens = match.resume,
        .match = match,
        .again = ++waiting->stays > 1});
}

}  // namespace lode::runtime
