// The scheduler under load, on a virtual clock: seeded arrivals of several tenants, prompts that
// share beginnings, cancels, pools too small for all, twice the load that the machine can take.
// After every step everything is recounted; at the end all have ended and nothing is left over.
//
// A failure prints its seed: LODE_SEED=17 scheduler_sim_test --gtest_filter=... runs it again.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "tests/support/serving.h"

namespace lode::runtime {
namespace {

const model::Model& SmallModel() {
  static const std::unique_ptr<model::Model> model = LoadGolden("moe-nano");
  return *model;
}

// --- Load ----------------------------------------------------------------------------------------

struct LoadTenant {
  double weight = 1.0;
  double per_second = 1.0;  // requests that come
  int64_t answer_max = 16;
  int64_t running_max = 0, queue_max = 0;
};

struct Scenario {
  std::vector<LoadTenant> tenants;
  double seconds = 60.0;
  int64_t rows_max = 64, running_max = 8;
  int64_t pages = 80, slots = 40;  // of the budget
  int64_t queue_max = 1024;
  double cancelled = 0.0;          // part of the requests
  bool alike = true;               // many prompts begin alike
  int64_t progress_min = 256, answer_tokens = 1024;
};

struct Outcome {
  int64_t submitted = 0, ended = 0, failed = 0, refused = 0, cancelled = 0;
  int64_t preempted = 0, parked = 0, evicted = 0, reused = 0;
  int64_t overtaken = 0;     // starts that came before somebody who was first in line
  int64_t longest_pass = 0;  // steps in a row without a row for a request that ran
  int64_t longest_idle = 0;  // steps in a row that ran no row at all
  std::vector<double> milliseconds;  // of each tenant, in the last three quarters of the load
  std::vector<int64_t> served;       // requests that ended meanwhile
};

class Simulation {
 public:
  Simulation(const Scenario& scenario, uint32_t seed)
      : scenario_(scenario), random_(seed), serving_(SmallModel(), Engines(), Schedulers()) {
    for (auto& text : texts_) {
      while (text.size() < 300) text.push_back(Below(288));
    }
    for (const LoadTenant& tenant : scenario.tenants) {
      TenantLimits limits;
      limits.weight = tenant.weight;
      limits.running_max = tenant.running_max;
      limits.queue_max = tenant.queue_max;
      ids_.push_back(scheduler().AddTenant(limits).value());
      roots_.push_back({scheduler().OpenRoot(ids_.back(), "a").value(),
                        scheduler().OpenRoot(ids_.back(), "b").value()});
      next_.push_back(Pause(tenant));
    }
  }

  Outcome Run() {
    const double end = scenario_.seconds * 1e3;
    bool settled = false, over = false;
    int64_t idle = 0;
    while (true) {
      Arrive(end);
      const int64_t before = scheduler().rows();
      const bool stepped = serving_.Step([this](const Event& event) { See(event); });
      ++step_;
      idle = stepped && scheduler().rows() == before ? idle + 1 : 0;
      outcome_.longest_idle = std::max(outcome_.longest_idle, idle);
      if (idle > 1000) break;  // it would never end
      LookForThePassedOver();
      if (!settled && serving_.clock >= end / 4) {
        settled = true;
        for (const TenantId id : ids_) before_.push_back(scheduler().use(id).milliseconds);
      }
      if (!over && serving_.clock >= end) {
        over = true;
        for (size_t i = 0; i < ids_.size(); ++i) {
          outcome_.milliseconds.push_back(scheduler().use(ids_[i]).milliseconds - before_[i]);
        }
        outcome_.served = served_;
      }
      if (stepped) continue;
      const double next = *std::min_element(next_.begin(), next_.end());
      if (next >= end) break;
      serving_.clock = std::max(serving_.clock, next);
    }
    EXPECT_TRUE(asked_.empty()) << asked_.size() << " requests without an end";
    serving_.ExpectNothingLeft();
    outcome_.preempted = scheduler().preemptions();
    outcome_.evicted = scheduler().tree().counts().evicted;
    return outcome_;
  }

 private:
  struct Asked {
    size_t tenant = 0;
    RootId root = 0;
    int32_t priority = 0;
    std::vector<Token> text;
    bool started = false, cancelled = false;
    int64_t seen = 0;  // the last step that had rows for it
  };

  EngineOptions Engines() const {
    EngineOptions options;
    options.rows_max = scenario_.rows_max;
    options.sequences_max = scenario_.slots;
    options.context_tokens =
        std::max<int64_t>(1, scenario_.pages - scenario_.slots + 1) * kTokensPerPage;
    return options;
  }
  SchedulerOptions Schedulers() const {
    SchedulerOptions options;
    options.running_max = scenario_.running_max;
    options.queue_max = scenario_.queue_max;
    options.progress_min = scenario_.progress_min;
    options.answer_tokens = scenario_.answer_tokens;
    options.stall_milliseconds = 400.0;
    options.tree.divergence_tokens_min = kShared;
    options.tree.spare_tokens = 32;
    options.tree.rolling_tokens = 48;
    return options;
  }
  static constexpr int64_t kShared = 8;

  Scheduler& scheduler() { return *serving_.scheduler; }
  int32_t Below(uint32_t n) { return static_cast<int32_t>(random_() % n); }
  bool Chance(double part) { return random_() < part * 4294967296.0; }
  double Pause(const LoadTenant& tenant) {  // until the next arrival
    const double uniform = (random_() + 1.0) / 4294967297.0;
    return -std::log(uniform) / tenant.per_second * 1e3;
  }

  void Arrive(double end) {
    for (size_t i = 0; i < next_.size(); ++i) {
      while (next_[i] <= serving_.clock && next_[i] < end) {
        // Now and then several come together that have much in common.
        const size_t text = random_() % std::size(texts_);
        for (int more = Chance(0.2) ? 4 : 1; more > 0; --more) Submit(i, text);
        next_[i] += Pause(scenario_.tenants[i]);
      }
      // Somebody leaves, whatever becomes of it.
      if (!asked_.empty() && Chance(scenario_.cancelled * 0.1)) {
        const auto at = std::next(asked_.begin(), Below(static_cast<uint32_t>(asked_.size())));
        at->second.cancelled = true;
        scheduler().Cancel(at->first);
      }
    }
  }
  void Submit(size_t tenant, size_t document) {
    Asked asked;
    asked.tenant = tenant;
    asked.root = roots_[tenant][Chance(0.8) ? 0 : 1];
    asked.priority = Chance(0.2) ? 1 : 0;
    const auto& text = texts_[document];
    // Often the same document and another question.
    const size_t cut = Chance(0.6) ? 120 : 1 + random_() % 180;
    asked.text.assign(text.begin(), text.begin() + static_cast<int64_t>(cut));
    if (!scenario_.alike) {
      for (Token& token : asked.text) token = Below(288);
    }
    for (uint32_t more = random_() % 60; more > 0; --more) asked.text.push_back(Below(288));
    Request request;
    request.prompt = asked.text;
    request.root = asked.root;
    request.priority = asked.priority;
    request.tokens_max = 1 + Below(static_cast<uint32_t>(scenario_.tenants[tenant].answer_max));
    const auto id = scheduler().Submit(std::move(request));
    if (id.ok()) {
      ++outcome_.submitted;
      asked_[*id] = asked;
      return;
    }
    ++outcome_.refused;
    EXPECT_EQ(id.error().code(), Code::kNoSpace);
    EXPECT_NE(id.error().ToString().find("wait already"), std::string::npos);
  }

  void See(const Event& event) {
    Asked& asked = asked_.at(event.request);
    asked.seen = step_;
    switch (event.kind) {
      case Event::Kind::kStarted:
        outcome_.reused += event.match.resume;
        if (!asked.started) Overtakes(event.request, asked);
        asked.started = true;
        return;
      case Event::Kind::kProgress:
      case Event::Kind::kPromptToken:
      case Event::Kind::kPooled:
        return;
      case Event::Kind::kToken:
        asked.text.push_back(event.sampled.token);
        return;
      case Event::Kind::kFailed:
        ++outcome_.failed;
        ADD_FAILURE() << event.error->ToString();
        break;
      case Event::Kind::kFinished:
        ++outcome_.ended;
        outcome_.cancelled += event.stop == StopReason::kCancelled;
        EXPECT_TRUE(event.stop != StopReason::kCancelled || asked.cancelled);
        EXPECT_NE(event.stop, StopReason::kContextFull);
        served_.resize(ids_.size());
        ++served_[asked.tenant];
        break;
    }
    asked_.erase(event.request);
  }
  // Nobody of the same tenant who is first in line waits while another starts, unless one that runs
  // computes what it needs.
  void Overtakes(RequestId started, const Asked& starting) {
    for (const auto& [id, other] : asked_) {
      if (other.started || other.cancelled || other.tenant != starting.tenant) continue;
      const bool first = other.priority > starting.priority ||
                         (other.priority == starting.priority && id < started);
      if (!first) continue;
      const bool parked = std::any_of(asked_.begin(), asked_.end(), [&, &self = other](auto& each) {
        const Asked& leader = each.second;
        return leader.started && leader.root == self.root &&
               CommonPrefix(leader.text, self.text) > kShared;
      });
      ++(parked ? outcome_.parked : outcome_.overtaken);
    }
  }
  void LookForThePassedOver() {
    for (const auto& [id, asked] : asked_) {
      if (!asked.started) continue;
      outcome_.longest_pass = std::max(outcome_.longest_pass, step_ - asked.seen);
    }
  }

  Scenario scenario_;
  std::mt19937 random_;
  Serving serving_;
  std::vector<Token> texts_[3];
  std::vector<TenantId> ids_;
  std::vector<std::vector<RootId>> roots_;
  std::vector<double> next_;  // arrivals
  std::vector<double> before_;
  std::vector<int64_t> served_;
  std::map<RequestId, Asked> asked_;
  int64_t step_ = 0;
  Outcome outcome_;
};

// All of a load ends, whatever else is looked at.
Outcome RunAll(const Scenario& scenario, uint32_t seed) {
  const Outcome outcome = Simulation(scenario, seed).Run();
  EXPECT_EQ(outcome.ended, outcome.submitted);
  EXPECT_EQ(outcome.failed, 0);
  EXPECT_LT(outcome.longest_idle, 1000);
  return outcome;
}

// Each tenant's part of the time is that of its weight.
void ExpectSharedByWeights(const Scenario& scenario, const Outcome& outcome, double error) {
  double total = 0.0, weights = 0.0;
  for (const double each : outcome.milliseconds) total += each;
  for (const LoadTenant& tenant : scenario.tenants) weights += tenant.weight;
  std::printf("    parts of the time:");
  for (size_t i = 0; i < scenario.tenants.size(); ++i) {
    const double part = outcome.milliseconds[i] / total;
    std::printf(" %.4f", part);
    EXPECT_NEAR(part, scenario.tenants[i].weight / weights, error) << i;
  }
  std::printf("; %lld refused\n", static_cast<long long>(outcome.refused));
}

TEST(SchedulerSim, AMinuteOfTwiceTheLoadIsSharedByWeightsAndAllEnd) {
  for (const uint32_t seed : Seeds(4)) {
    const Replayable replay(seed);
    Scenario scenario;
    scenario.tenants = {{1.0, 1.6}, {2.0, 1.6}, {4.0, 1.6, 40}};
    scenario.queue_max = 40;
    const Outcome outcome = RunAll(scenario, seed);
    EXPECT_GT(outcome.refused, 0);  // else there was no overload
    EXPECT_EQ(outcome.overtaken, 0);
    EXPECT_LE(outcome.longest_pass, 16 + scenario.running_max);
    ExpectSharedByWeights(scenario, outcome, 0.02);
  }
}

// For whoever is to have next to nothing where others want it.
TEST(SchedulerSim, ATinyWeightIsATinyPartOfTheTimeAndStillAllEnd) {
  for (const uint32_t seed : Seeds(2)) {
    const Replayable replay(seed);
    Scenario scenario;
    scenario.tenants = {{0.001, 1.0, 30}, {1.0, 20.0, 30}};
    scenario.alike = false;
    scenario.queue_max = 1 << 20;
    scenario.seconds = 15.0;
    const Outcome outcome = RunAll(scenario, seed);
    // What came before there was a crowd still runs.
    ExpectSharedByWeights(scenario, outcome, 0.04);
  }
}

TEST(SchedulerSim, WhoAsksForLittleIsNotHeldUpByWhoAsksForMuch) {
  for (const uint32_t seed : Seeds(3)) {
    const Replayable replay(seed);
    Scenario scenario;
    scenario.tenants = {{1.0, 8.0}, {1.0, 0.3}};
    scenario.queue_max = 1 << 20;
    scenario.seconds = 30.0;
    const Outcome outcome = RunAll(scenario, seed);
    // The greedy one's queue is long at the end; the other one's requests ended as they came.
    ASSERT_EQ(outcome.served.size(), 2u);
    EXPECT_GE(outcome.served[1], 3);
    EXPECT_LT(outcome.milliseconds[1], outcome.milliseconds[0] / 2);
  }
}

TEST(SchedulerSim, PoolsTooSmallForAllOfThemAndStillAllEnd) {
  Outcome all;
  for (const uint32_t seed : Seeds(10)) {
    const Replayable replay(seed);
    std::mt19937 random(seed);
    Scenario scenario;
    scenario.tenants = {{1.0, 5.0, 200}, {3.0, 2.0, 300}, {0.5, 2.0, 60, 2, 3}};
    scenario.seconds = 6.0;
    scenario.running_max = 2 + random() % 8;
    scenario.rows_max = 8 + random() % 80;
    scenario.slots = 3 + random() % 8;
    scenario.pages = scenario.slots + 5 + random() % 12;
    scenario.progress_min = random() % 3 == 0 ? 256 : 16;
    scenario.answer_tokens = random() % 2 == 0 ? 4 : 1024;  // little is promised, so they collide
    scenario.cancelled = 0.2;
    const Outcome outcome = RunAll(scenario, seed);
    EXPECT_EQ(outcome.overtaken, 0);
    all.preempted += outcome.preempted;
    all.parked += outcome.parked;
    all.evicted += outcome.evicted;
    all.cancelled += outcome.cancelled;
    all.refused += outcome.refused;
    all.reused += outcome.reused;
  }
  std::printf("    %lld preempted, %lld parked, %lld evicted, %lld cancelled, %lld refused, "
              "%lld tokens reused\n",
              static_cast<long long>(all.preempted), static_cast<long long>(all.parked),
              static_cast<long long>(all.evicted), static_cast<long long>(all.cancelled),
              static_cast<long long>(all.refused), static_cast<long long>(all.reused));
  // A load that nothing happens in proves nothing.
  EXPECT_GT(all.preempted, 10);
  EXPECT_GT(all.parked, 10);
  EXPECT_GT(all.evicted, 10);
  EXPECT_GT(all.cancelled, 10);
  EXPECT_GT(all.refused, 10);
  EXPECT_GT(all.reused, 1000);
}

TEST(SchedulerSim, AStepOfOneRowServesAllInTurn) {
  for (const uint32_t seed : Seeds(3)) {
    const Replayable replay(seed);
    Scenario scenario;
    scenario.tenants = {{1.0, 2.0, 12}, {9.0, 2.0, 12}};
    scenario.seconds = 3.0;
    scenario.rows_max = 1;
    const Outcome outcome = RunAll(scenario, seed);
    EXPECT_LE(outcome.longest_pass, 16 + 2 * scenario.running_max);
  }
}

// --- Reasons -------------------------------------------------------------------------------------

// Prefixes of texts, as hashes of all of them.
class Prefixes {
 public:
  void Add(const std::vector<Token>& text, size_t length) {
    uint64_t hash = 1;
    for (size_t i = 0; i < length; ++i) known_.insert(hash = Next(hash, text[i]));
  }
  int64_t Longest(const std::vector<Token>& text) const {
    uint64_t hash = 1;
    size_t length = 0;
    while (length < text.size() && known_.contains(hash = Next(hash, text[length]))) ++length;
    return static_cast<int64_t>(length);
  }

 private:
  static uint64_t Next(uint64_t hash, Token token) {
    return (hash ^ static_cast<uint32_t>(token)) * 0x9e3779b97f4a7c15 + 0x632be59bd9b4e019;
  }
  std::unordered_set<uint64_t> known_;
};

class Reasons {
 public:
  // Of what was asked: what is certain to have been computed, and what may have been.
  explicit Reasons(uint32_t seed, int64_t slots) : random_(seed) {
    EngineOptions engine;
    engine.rows_max = 128;
    engine.sequences_max = slots;
    engine.context_tokens = (12 + slots) * kTokensPerPage;
    SchedulerOptions options;
    options.running_max = 6;
    options.answer_tokens = 4;
    options.tree.divergence_tokens_min = 8;
    options.tree.spare_tokens = 24;
    serving_ = std::make_unique<Serving>(SmallModel(), engine, options);
    root_ = serving_->scheduler->default_root();
    for (auto& text : texts_) {
      while (text.size() < 120) text.push_back(static_cast<Token>(random_() % 288));
    }
  }
  void Run(int requests) {
    const auto on_event = [this](const Event& event) { See(event); };
    for (int i = 0; i < requests; ++i) {
      Submit();
      while (random_() % 3 == 0 || serving_->scheduler->waiting() > 8) {
        serving_->scheduler->Step(on_event);
      }
      if (i % 200 == 0) serving_->scheduler->tree().Check();
    }
    while (serving_->scheduler->Step(on_event)) {
    }
    serving_->ExpectNothingLeft();
    const TreeCounts counts = serving_->scheduler->tree().counts();
    int64_t by_reason = 0;
    for (const int64_t tokens : counts.tokens_by_reason) by_reason += tokens;
    EXPECT_EQ(by_reason, counts.computed_tokens);
  }

  int64_t started = 0, again = 0, without = 0;  // requests; those that computed known tokens
  int64_t wrong = 0;                            // whose report does not agree with what was run
  std::map<Reason, int64_t> reasons;

 private:
  struct Asked {
    std::vector<Token> text;
    int64_t progress = 0;
    bool use_cache = true, started = false;
  };
  void Submit() {
    Request request;
    const auto& text = texts_[random_() % std::size(texts_)];
    request.prompt.assign(text.begin(), text.begin() + 1 + random_() % 100);
    for (uint32_t more = random_() % 12; more > 0; --more) {
      request.prompt.push_back(static_cast<Token>(random_() % 2));
    }
    request.tokens_max = 1 + random_() % 3;
    request.root = root_;
    request.use_cache = random_() % 16 != 0;
    Asked asked{request.prompt, 0, request.use_cache, false};
    if (asked.use_cache) maybe_.Add(asked.text, asked.text.size());
    asked_[serving_->scheduler->Submit(std::move(request)).value()] = asked;
  }
  void See(const Event& event) {
    Asked& asked = asked_.at(event.request);
    if (event.kind == Event::Kind::kStarted && !asked.started) {
      asked.started = true;
      Judge(asked, event.match);
    }
    if (event.kind == Event::Kind::kProgress) asked.progress = event.tokens;
    if (event.kind == Event::Kind::kToken) {
      asked.text.push_back(event.sampled.token);
      if (asked.use_cache) maybe_.Add(asked.text, asked.text.size());
    }
    if (event.kind != Event::Kind::kFinished) return;
    // The last token was drawn and not run.
    if (asked.use_cache) surely_.Add(asked.text, asked.text.size() - 1);
    asked_.erase(event.request);
  }
  void Judge(const Asked& asked, const Match& match) {
    ++started;
    const auto prompt = static_cast<int64_t>(asked.text.size());
    // The last token is computed for its logits, unless its row is kept.
    const int64_t end = match.resume == prompt ? prompt : prompt - 1;
    const int64_t least = std::min(surely_.Longest(asked.text), end);
    const int64_t most = std::min(maybe_.Longest(asked.text), end);
    const TreeCounts counts = serving_->scheduler->tree().counts();
    bool agrees = match.prompt == prompt && match.known >= least && match.known <= most &&
                  match.resume <= match.known;
    if (match.lost() > 0) {
      ++again;
      without += match.lost_reason == Reason::kComplete;
      ++reasons[match.lost_reason];
      switch (match.lost_reason) {
        case Reason::kNoPointBeforeDivergence: break;
        case Reason::kEvictedState: case Reason::kEvictedKv: agrees &= counts.evicted > 0; break;
        case Reason::kBudgetTooSmall: agrees &= counts.refused > 0; break;
        case Reason::kCacheDisabled: agrees &= !asked.use_cache; break;
        default: agrees = false;
      }
    } else if (asked.use_cache) {
      agrees &= match.lost_reason == Reason::kComplete;
      ++reasons[match.reason];
      switch (match.reason) {
        case Reason::kComplete: agrees &= match.divergence < 0; break;
        case Reason::kNewPrefix: agrees &= match.known == 0 && least == 0; break;
        case Reason::kDiverged: agrees &= match.divergence == match.known; break;
        default: agrees = false;
      }
    }
    wrong += !agrees;
  }

  std::mt19937 random_;
  std::unique_ptr<Serving> serving_;
  RootId root_ = 0;
  std::vector<Token> texts_[6];
  Prefixes surely_, maybe_;
  std::map<RequestId, Asked> asked_;
};

TEST(SchedulerSim, EveryTokenThatIsComputedAgainHasAReasonInTenThousandRequests) {
  int64_t requests = 0, again = 0;
  std::map<Reason, int64_t> reasons;
  for (const uint32_t seed : Seeds(5)) {
    const Replayable replay(seed);
    Reasons walk(seed, 4 + static_cast<int64_t>(seed * seed) * 4);
    walk.Run(2000);
    EXPECT_EQ(walk.without, 0);
    EXPECT_EQ(walk.wrong, 0);
    requests += walk.started;
    again += walk.again;
    for (const auto& [reason, count] : walk.reasons) reasons[reason] += count;
  }
  std::printf("    %lld requests, %lld of them computed known tokens again:",
              static_cast<long long>(requests), static_cast<long long>(again));
  for (const auto& [reason, count] : reasons) {
    std::printf(" %s %lld", Name(reason), static_cast<long long>(count));
  }
  std::printf("\n");
  EXPECT_GE(requests, std::getenv("LODE_SEED") == nullptr ? 10000 : 2000);
  EXPECT_GT(again, requests / 50);
}

}  // namespace
}  // namespace lode::runtime
