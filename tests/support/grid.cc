#include "tests/support/grid.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>

#include "runtime/saved/context_seal.h"
#include "tests/support/automaton.h"
#include "tests/support/serving.h"

namespace lode::runtime {

EngineOptions OptionsOf(const GridNumerics& numerics) {
  EngineOptions options;
  options.numerics.activations = numerics.activations;
  options.numerics.kv = numerics.kv;
  return options;
}

uint64_t DigestOf(std::span<const std::byte> bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + at, 8);
    hash = (hash ^ word) * 0x9e3779b97f4a7c15;
    hash ^= hash >> 29;
  }
  for (; at < bytes.size(); ++at) hash = (hash ^ static_cast<uint64_t>(bytes[at])) * 0x100000001b3;
  return hash;
}

// --- The oracle ----------------------------------------------------------------------------------

Oracle::Oracle(const model::Model& model, const GridNumerics& numerics) {
  EngineOptions options = OptionsOf(numerics);
  options.rows_max = 1;
  options.context_tokens = kRuns * 1024;
  options.sequences_max = kRuns;
  engine_ = std::make_unique<Engine>(model, options);
  sampler_ = std::make_unique<Sampler>(engine_->vocabulary());
}

Token Oracle::Draw(const std::vector<Token>& tokens, const SamplingOptions& sampling,
                   const TokenMask* mask) {
  const auto sampled = sampler_->Sample(After(tokens).logits, sampling, tokens.size(),
                                        {.mask = mask});
  EXPECT_TRUE(sampled.ok());
  return sampled.ok() ? sampled->token : 0;
}

const Cold& Oracle::After(const std::vector<Token>& tokens) {
  Cold& cold = known_[tokens];
  if (!cold.logits.empty()) return cold;
  Run& run = RunFor(tokens);
  cold.logits.resize(static_cast<size_t>(engine_->vocabulary()));
  for (size_t i = run.tokens.size(); i < tokens.size(); ++i) {
    const StepItem item = {&*run.sequence, {&tokens[i], 1}};
    EXPECT_TRUE(engine_->Step({&item, 1}, cold.logits.data()).ok());
    run.tokens.push_back(tokens[i]);
  }
  cold.state = DigestOf(engine_->StateBytes(*run.sequence));
  return cold;
}

Oracle::Run& Oracle::RunFor(const std::vector<Token>& tokens) {
  Run* best = nullptr;
  for (Run& run : runs_) {
    if (run.tokens.size() < tokens.size() &&
        std::equal(run.tokens.begin(), run.tokens.end(), tokens.begin()) &&
        (best == nullptr || run.tokens.size() > best->tokens.size())) {
      best = &run;
    }
  }
  if (best != nullptr && best->sequence) return *best;
  Run& run = runs_[next_++ % kRuns];
  run = {};
  auto fresh = engine_->NewSequence();
  EXPECT_TRUE(fresh.ok());
  run.sequence = std::move(*fresh);
  return run;
}

// --- What is asked -------------------------------------------------------------------------------

std::vector<Token> Trunk(int which, int64_t vocabulary) {
  std::mt19937 random(static_cast<uint32_t>(77 + which));
  std::vector<Token> text;
  while (text.size() < 260) {
    text.push_back(static_cast<Token>(random() % static_cast<uint32_t>(vocabulary)));
  }
  return text;
}

namespace {

// Prompts that share beginnings, cut anywhere: at and beside the edges of pages as well. Few enough
// that the oracle knows most of them after some walks.
class Prompts {
 public:
  Prompts(uint32_t seed, int64_t vocabulary) : random_(seed) {
    for (int i = 0; i < kTrunks; ++i) trunks_[i] = Trunk(i, vocabulary);
    vocabulary_ = static_cast<int32_t>(vocabulary);
  }
  int32_t Any(int32_t below) {
    return static_cast<int32_t>(random_() % static_cast<uint32_t>(below));
  }
  bool Chance(uint32_t one_in) { return random_() % one_in == 0; }
  std::vector<Token> Next(size_t most) {
    constexpr int kCuts[] = {1, 2, 3, 20, 63, 64, 70, 101, 126, 127, 128, 129, 130, 200, 255, 257};
    const auto& trunk = trunks_[random_() % kTrunks];
    const auto cut = std::min(static_cast<size_t>(kCuts[Any(std::size(kCuts))]), most);
    std::vector<Token> prompt(trunk.begin(), trunk.begin() + static_cast<int64_t>(cut));
    constexpr int kMore[] = {0, 0, 1, 2, 9, 33};
    const int more = kMore[Any(std::size(kMore))];
    // Two endings, so that ends are shared, too.
    const int32_t ending = Any(2);
    for (int i = 0; i < more; ++i) prompt.push_back((ending + i / 3) % std::min(5, vocabulary_));
    return prompt;
  }
  std::vector<Probe> Points(size_t prompt) {
    std::vector<Probe> probes;
    for (int i = Any(4); i > 0; --i) {
      probes.push_back({1 + Any(static_cast<int32_t>(prompt)),
                        static_cast<PointRole>(Any(static_cast<int32_t>(PointRole::kEnd)))});
    }
    return probes;
  }

 private:
  std::mt19937 random_;
  std::vector<Token> trunks_[kTrunks];
  int32_t vocabulary_;
};

// What a request is answered with, cold: masks are those of the automaton itself.
class Answerer {
 public:
  Answerer(Oracle* oracle, const Request& request)
      : oracle_(*oracle),
        sampling_(request.sampling),
        prompt_(request.prompt.size()),
        tokens_min_(request.tokens_min) {
    if (request.constraint) automaton_ = *static_cast<Automaton*>(request.constraint.get());
  }
  // -1: the text is none that it could have been answered with.
  Token Next(const std::vector<Token>& text) {
    if (!automaton_) return oracle_.Draw(text, sampling_);
    const auto mask = automaton_->MaskAfter(AnswerOf(text), tokens_min_);
    return mask ? oracle_.Draw(text, sampling_, &*mask) : -1;
  }
  bool Allows(const std::vector<Token>& text, Token next) {
    if (!automaton_) return true;
    const auto mask = automaton_->MaskAfter(AnswerOf(text), tokens_min_);
    return mask && mask->allowed(next);
  }
  bool constrained() const { return automaton_.has_value(); }

 private:
  std::vector<Token> AnswerOf(const std::vector<Token>& text) const {
    return {text.begin() + static_cast<int64_t>(prompt_), text.end()};
  }

  Oracle& oracle_;
  SamplingOptions sampling_;
  size_t prompt_;
  int64_t tokens_min_;
  std::optional<Automaton> automaton_;
};

// Guesses what will be drawn, and is wrong once in three times.
class TrueDrafter : public Drafter {
 public:
  TrueDrafter(Oracle* oracle, const Request& request)
      : answerer_(oracle, request), random_(static_cast<uint32_t>(request.sampling.seed)) {}

  int64_t Propose(std::span<const int32_t> history, std::span<int32_t> drafts) override {
    std::vector<Token> text(history.begin(), history.end());
    for (int32_t& draft : drafts) {
      draft = std::max(0, answerer_.Next(text));
      if (random_() % 3 == 0) draft = draft == 0 ? 1 : draft - 1;
      if (!answerer_.Allows(text, draft)) return &draft - drafts.data() + 1;
      text.push_back(draft);
    }
    return static_cast<int64_t>(drafts.size());
  }

 private:
  Answerer answerer_;
  std::mt19937 random_;
};

// --- A walk --------------------------------------------------------------------------------------

std::string FreshFolder(const std::string& what) {
  static int count = 0;
  return ::testing::TempDir() + "lode_" + what + "_" + std::to_string(::getpid()) + "_" +
         std::to_string(count++);
}

class Walker {
 public:
  Walker(const model::Model& model, const GridNumerics& numerics, const Setting& setting,
         uint32_t seed, Oracle* oracle, SavedForms* saved)
      : oracle_(oracle), prompts_(seed, model.spec.vocabulary), setting_(setting),
        random_(seed) {
    EngineOptions options = OptionsOf(numerics);
    options.threads = setting.threads;
    options.rows_max = setting.rows_max;
    options.sequences_max = setting.slots;
    options.context_tokens =
        std::max<int64_t>(1, setting.pages - setting.slots + 1) * kernels::kPageTokens;
    options.fault = setting.fault;
    if (setting.drafts > 0) options.trial_rows_max = setting.drafts + 1;
    engine_ = std::make_unique<Engine>(model, options);
    if (setting.disk) {
      DiskTierOptions tier;
      tier.folder = folder_ = FreshFolder("grid_disk");
      tier.buffer_bytes = 8 << 20;
      tier.free_bytes_min = 0;
      auto made = DiskTier::Make(&engine_->frames(), tier);
      EXPECT_TRUE(made.ok());
      if (made.ok()) disk_ = std::move(*made);
    }
    scheduler_ = std::make_unique<Scheduler>(engine_.get(), Scheduling());
    roots_.push_back(scheduler_->default_root());
    const TenantId other = scheduler_->AddTenant({}).value();
    roots_.push_back(scheduler_->OpenRoot(other, "salt").value());
    if (saved != nullptr && setting.restored != Restored::kNot) {
      tally_.restored = saved->Restore(scheduler_.get(), setting.restored);
    }
  }
  ~Walker() {
    scheduler_.reset();
    disk_.reset();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  Tally Run() {
    const auto on_event = [this](const Event& event) { See(event); };
    int submitted = 0;
    int64_t idle = 0, rows = 0;  // steps without any
    while (idle < 1000) {
      while (submitted < setting_.requests &&
             (submitted == 0 || setting_.together || prompts_.Chance(3))) {
        Submit();
        ++submitted;
      }
      const bool stepped = scheduler_->Step(on_event);
      if (setting_.sound()) {
        scheduler_->tree().Check();
        engine_->frames().Check();
      }
      if (!stepped && submitted == setting_.requests) break;
      idle = scheduler_->rows() == rows ? idle + 1 : 0;
      rows = scheduler_->rows();
      if (setting_.cancels && prompts_.Chance(10) && !asked_.empty()) {
        scheduler_->Cancel(std::next(asked_.begin(), prompts_.Any(static_cast<int32_t>(
                                                         asked_.size())))->first);
      }
    }
    // With a fault it may never end: that is seen, too.
    tally_.wrong += std::ssize(asked_);
    tally_.preempted = scheduler_->preemptions();
    tally_.drafted = scheduler_->drafted();
    tally_.accepted = scheduler_->accepted();
    tally_.evicted = scheduler_->tree().counts().evicted;
    if (disk_ != nullptr) tally_.promoted = disk_->counts().promoted;
    return tally_;
  }

 private:
  struct Asked {
    std::vector<Token> text;
    RootId root = 0;
    Answerer answerer;
  };

  SchedulerOptions Scheduling() {
    SchedulerOptions options;
    options.running_max = setting_.running_max;
    options.chunk_rows = std::max<int64_t>(0, setting_.chunk_rows);
    options.answer_tokens = 2;  // little is promised, so requests get into one another's way
    options.progress_min = setting_.progress_min;
    options.tree.divergence_tokens_min = 8;
    options.tree.spare_tokens = 32;
    options.tree.rolling_tokens = 48;
    options.tree.ladder_first = 64;
    options.tree.compare_published = setting_.sound() ? 1 : 0;
    options.disk = disk_.get();
    options.drafts_max = setting_.drafts;
    if (setting_.drafter == Drafts::kTrue) {
      options.drafts_fixed = setting_.drafts;
      options.drafter = [oracle = oracle_](const Request& request) {
        return std::make_unique<TrueDrafter>(oracle, request);
      };
    }
    // A clock that jumps makes chunks of all sizes.
    options.milliseconds = [this] {
      return clock_ += setting_.chunk_rows < 0 ? prompts_.Any(400) : 1.0;
    };
    options.on_logits = [this](RequestId id, int64_t position, std::span<const float> logits) {
      Compare(id, position, logits);
    };
    options.fault = setting_.scheduler_fault;
    return options;
  }

  void Submit() {
    Request request;
    request.prompt = prompts_.Next(setting_.prompt_max);
    request.tokens_max = setting_.answer > 0 ? setting_.answer : prompts_.Any(12);
    request.root = roots_[prompts_.Chance(6) ? 1 : 0];
    request.sampling.temperature = prompts_.Chance(2) ? 0.0 : 1.0;
    request.sampling.seed = static_cast<uint64_t>(prompts_.Any(3));
    request.use_cache = !prompts_.Chance(8);
    request.priority = prompts_.Any(2);
    request.probes = prompts_.Points(request.prompt.size());
    if (setting_.constraints && random_() % 3 == 0) {
      request.constraint = std::make_shared<Automaton>(random_() % 4, oracle_->vocabulary());
      request.stop_ids = {Automaton::kStop};
      request.tokens_min = static_cast<int64_t>(random_() % 5);
    }
    const Asked asked{request.prompt, request.root, Answerer(oracle_, request)};
    const auto id = scheduler_->Submit(std::move(request));
    ASSERT_TRUE(id.ok()) << id.error().ToString();
    asked_.emplace(*id, asked);
  }
  void Compare(RequestId id, int64_t position, std::span<const float> logits) {
    const std::vector<Token>& text = asked_.at(id).text;
    ++tally_.rows;
    if (position != static_cast<int64_t>(text.size())) {
      ++tally_.wrong;
      return;
    }
    const std::vector<float>& want = oracle_->After(text).logits;
    if (std::memcmp(want.data(), logits.data(), want.size() * sizeof(float)) != 0) ++tally_.wrong;
  }
  void See(const Event& event) {
    Asked& asked = asked_.at(event.request);
    switch (event.kind) {
      case Event::Kind::kStarted: {
        const Match& match = event.match;
        tally_.cached += match.resume;
        tally_.whole += match.computed() == 0;
        // Every token that is computed although it was known has a reason.
        EXPECT_TRUE(match.lost() == 0 || match.lost_reason != Reason::kComplete);
        if (match.resume == 0) return;
        ++tally_.resumed[static_cast<size_t>(match.role)];
        const int64_t in_page = match.resume % kTokensPerPage;
        ++tally_.offsets[in_page == 0 ? 0 : in_page == 1 ? 1 : in_page == 127 ? 2 : 3];
        return;
      }
      case Event::Kind::kProgress:
      case Event::Kind::kPromptToken:
      case Event::Kind::kPooled:
        return;
      case Event::Kind::kToken:
        ++tally_.draws;
        tally_.constrained += asked.answerer.constrained();
        tally_.wrong_draws += event.sampled.token != asked.answerer.Next(asked.text);
        asked.text.push_back(event.sampled.token);
        return;
      case Event::Kind::kFailed:
        ++tally_.failed;
        ADD_FAILURE() << event.error->ToString();
        break;
      case Event::Kind::kFinished:
        if (event.stop == StopReason::kCancelled) {
          ++tally_.cancelled;
        } else if (event.stop == StopReason::kStopToken) {
          ++tally_.stopped;
          tally_.wrong_draws += asked.answerer.Next(asked.text) != Automaton::kStop;
          CompareState(asked.root, asked.text);
        } else if (!asked.text.empty()) {
          CompareState(asked.root, {asked.text.begin(), asked.text.end() - 1});
        }
        break;
    }
    asked_.erase(event.request);
  }
  // The state that an answer leaves, if there was room for it: that of all tokens that have run.
  void CompareState(RootId root, const std::vector<Token>& run) {
    if (run.empty()) return;
    const auto kept = scheduler_->tree().LeaseAt(root, run);
    if (!kept) return;
    FramePool& frames = engine_->frames();
    std::vector<std::byte> bytes;
    const auto add = [&bytes](const std::byte* from, uint64_t count) {
      bytes.insert(bytes.end(), from, from + count);
    };
    if (kept->slot != kNoFrame) add(frames.slots().data(kept->slot), engine_->layout().slot_bytes);
    for (size_t i = 0; i < run.size() / kTokensPerPage && i < kept->pages.size(); ++i) {
      add(frames.pages().data(kept->pages[i]), engine_->layout().page_bytes);
    }
    ++tally_.states;
    tally_.wrong_states += DigestOf(bytes) != oracle_->After(run).state;
    for (const PageId page : kept->pages) frames.pages().Unlease(page);
    if (kept->slot != kNoFrame) frames.slots().Unlease(kept->slot);
  }

  Oracle* oracle_;
  Prompts prompts_;
  Setting setting_;
  std::mt19937 random_;
  std::string folder_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<DiskTier> disk_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<RootId> roots_;
  double clock_ = 0.0;
  std::map<RequestId, Asked> asked_;
  Tally tally_;
};

}  // namespace

void Tally::Add(const Tally& other) {
  rows += other.rows, wrong += other.wrong;
  draws += other.draws, wrong_draws += other.wrong_draws;
  whole += other.whole, constrained += other.constrained, stopped += other.stopped;
  states += other.states, wrong_states += other.wrong_states;
  failed += other.failed, drafted += other.drafted, accepted += other.accepted;
  cached += other.cached, preempted += other.preempted, evicted += other.evicted;
  cancelled += other.cancelled, restored += other.restored, promoted += other.promoted;
  for (size_t i = 0; i < resumed.size(); ++i) resumed[i] += other.resumed[i];
  for (size_t i = 0; i < offsets.size(); ++i) offsets[i] += other.offsets[i];
}

Tally Walk(const model::Model& model, const GridNumerics& numerics, const Setting& setting,
           uint32_t seed, Oracle* oracle, SavedForms* saved) {
  return Walker(model, numerics, setting, seed, oracle, saved).Run();
}

// --- Saved contexts ------------------------------------------------------------------------------

SavedForms::SavedForms(const model::Model& model, const GridSubject& subject)
    : folder_(FreshFolder("grid_saved")) {
  prints_.model = {Sha256(std::string(subject.path)), subject.path};
  prints_.numerics = {Sha256(std::string(subject.numerics.name)), subject.numerics.name};
  std::array<std::byte, 32> key{};
  key[5] = std::byte{7};
  sealer_ = MakeAesGcmSealer(key);
  auto store = ContextStore::Open(folder_);
  EXPECT_TRUE(store.ok()) << store.error().ToString();
  if (!store.ok()) return;
  store_ = std::move(*store);
  // "delta" is a delta of its first half, "plain" is whole.
  const std::vector<Token> trunk = Trunk(0, model.spec.vocabulary);
  for (const auto& [name, tokens] : {std::pair<const char*, int64_t>{"delta", 127},
                                     {"delta", kSavedTokens}, {"plain", kSavedTokens}}) {
    EngineOptions options = OptionsOf(subject.numerics);
    options.context_tokens = 1024;
    options.sequences_max = 4;
    Engine engine(model, options);
    Scheduler scheduler(&engine, {});
    Request request;
    request.prompt.assign(trunk.begin(), trunk.begin() + tokens);
    request.tokens_max = 0;
    request.root = scheduler.default_root();
    const std::vector<Token> text = request.prompt;
    EXPECT_TRUE(scheduler.Submit(std::move(request)).ok());
    while (scheduler.Step([](const Event&) {})) {
    }
    const auto done = SaveContext(&scheduler, &*store_, name, text, prints_, Json::object());
    EXPECT_TRUE(done.ok()) << done.error().ToString();
    if (done.ok()) {
      EXPECT_EQ(done->tokens, tokens);
    }
  }
  ContextSaveOptions zstd;
  zstd.zstd_level = 3;
  EXPECT_TRUE(store_->Flatten("plain", "zstd", zstd).ok());
  ContextSaveOptions sealed;
  sealed.sealer = sealer_.get();
  EXPECT_TRUE(store_->Flatten("plain", "sealed", sealed).ok());
}

SavedForms::~SavedForms() { std::filesystem::remove_all(folder_); }

int64_t SavedForms::Restore(Scheduler* scheduler, Restored form) {
  ContextOpenOptions options;
  options.map = form != Restored::kRead;
  if (form == Restored::kSealed) options.sealer = sealer_.get();
  const char* name = form == Restored::kZstd     ? "zstd"
                     : form == Restored::kSealed ? "sealed"
                     : form == Restored::kDelta  ? "delta"
                                                 : "plain";
  const auto file = store_->OpenContext(name, options);
  EXPECT_TRUE(file.ok()) << file.error().ToString();
  if (!file.ok()) return 0;
  const auto restored = RestoreContext(scheduler, **file, prints_);
  EXPECT_TRUE(restored.ok()) << restored.error().ToString();
  return restored.ok() ? *restored : 0;
}

}  // namespace lode::runtime
