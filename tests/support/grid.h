// The grid of contexts: walks of many requests through a scheduler, each row of logits, each draw
// and each state compared with cold runs, token by token, alone, on one thread. Equality is
// transitive, so whoever agrees with the cold run agrees with everybody.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "runtime/saved/saved_context.h"
#include "runtime/scheduler.h"
#include "runtime/tier/disk_tier.h"

namespace lode::runtime {

struct GridNumerics {
  const char* name;
  model::Activations activations;
  kernels::KvType kv;
};
inline constexpr GridNumerics kF32 = {"f32", model::Activations::kF32, kernels::KvType::kF32};
inline constexpr GridNumerics kNative = {"native", model::Activations::kNative,
                                         kernels::KvType::kBF16};
inline constexpr GridNumerics kInt8 = {"native, int8 KV", model::Activations::kNative,
                                       kernels::KvType::kInt8};

struct GridSubject {
  const char* path;  // in tests/golden
  GridNumerics numerics;
};
inline constexpr GridSubject kSubjects[] = {
    {"moe-nano", kF32},           {"moe-nano", kNative},
    {"latent-super", kNative},    {"dense-head80", kF32},
    {"gguf/mix-legacy.gguf", kNative}, {"gguf/mix-4bit.gguf", kNative},
    {"gguf/moe-k.gguf", kNative}, {"nvfp4-nano", kInt8},
};

EngineOptions OptionsOf(const GridNumerics& numerics);

// What a cold run says after a text.
struct Cold {
  std::vector<float> logits;
  uint64_t state = 0;  // a digest of the slot and of the pages that are full
};
uint64_t DigestOf(std::span<const std::byte> bytes);

// The oracle.
class Oracle {
 public:
  Oracle(const model::Model& model, const GridNumerics& numerics);
  const Cold& After(const std::vector<Token>& tokens);
  // The token that a cold run draws after a text.
  Token Draw(const std::vector<Token>& tokens, const SamplingOptions& sampling,
             const TokenMask* mask = nullptr);
  int64_t vocabulary() const { return engine_->vocabulary(); }

 private:
  static constexpr size_t kRuns = 16;
  struct Run {
    std::optional<Sequence> sequence;
    std::vector<Token> tokens;
  };
  // One that these tokens go on from, else a cold one in the place of the oldest.
  Run& RunFor(const std::vector<Token>& tokens);

  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Sampler> sampler_;
  Run runs_[kRuns];
  size_t next_ = 0;
  std::map<std::vector<Token>, Cold> known_;
};

// Texts that all prompts of a subject begin with; the first one is what saved contexts hold.
constexpr int kTrunks = 2;
constexpr int64_t kSavedTokens = 129;
std::vector<Token> Trunk(int which, int64_t vocabulary);

enum class Drafts : uint8_t {
  kNone,
  kTrue,  // the oracle guesses, and is wrong now and then
  kOwn,   // the model's own head, or n-grams
};
enum class Restored : uint8_t { kNot, kMapped, kRead, kZstd, kSealed, kDelta };

struct Setting {
  int64_t chunk_rows = 0;  // below 0: other ones all the time
  int64_t rows_max = 64, running_max = 4;
  int threads = 2;
  int64_t pages = 40, slots = 12;  // of the budget
  int requests = 12;
  size_t prompt_max = 1000;
  int answer = 0;  // tokens of each; 0: below 12
  int64_t progress_min = 32;
  bool cancels = false, together = false;  // they come all at once
  bool constraints = true;  // of some requests
  int64_t drafts = 0;
  Drafts drafter = Drafts::kTrue;
  Restored restored = Restored::kNot;
  bool disk = false;  // what is evicted goes there, and comes back
  Fault fault = Fault::kNone;
  SchedulerFault scheduler_fault = SchedulerFault::kNone;

  bool sound() const {
    return fault == Fault::kNone && scheduler_fault == SchedulerFault::kNone;
  }
};

struct Tally {
  int64_t rows = 0, wrong = 0;            // of logits
  int64_t draws = 0, wrong_draws = 0;
  int64_t states = 0, wrong_states = 0;
  int64_t failed = 0, drafted = 0, accepted = 0;
  int64_t whole = 0;  // requests of which nothing had to be computed
  int64_t constrained = 0, stopped = 0;  // draws under a mask; ends at a stop id
  int64_t cached = 0, preempted = 0, evicted = 0, cancelled = 0, restored = 0, promoted = 0;
  std::array<int64_t, kPointRoles> resumed{};  // requests, by the role of the point
  std::array<int64_t, 4> offsets{};            // and by its offset mod 128: 0, 1, 127, another

  int64_t errors() const { return wrong + wrong_draws + wrong_states; }
  void Add(const Tally& other);
};

// Saved contexts of one subject, one in each form.
class SavedForms {
 public:
  SavedForms(const model::Model& model, const GridSubject& subject);
  ~SavedForms();
  // Tokens that are in the scheduler's tree then.
  int64_t Restore(Scheduler* scheduler, Restored form);

 private:
  std::string folder_;
  std::optional<ContextStore> store_;
  std::unique_ptr<Sealer> sealer_;
  ContextFingerprints prints_;
};

Tally Walk(const model::Model& model, const GridNumerics& numerics, const Setting& setting,
           uint32_t seed, Oracle* oracle, SavedForms* saved = nullptr);

// --- Covering arrays -----------------------------------------------------------------------------

struct Factor {
  const char* name;
  std::vector<std::string> levels;
};
// The grid's factors, the subject first, and what a row of levels means.
const std::vector<Factor>& GridFactors();
Setting SettingOf(const std::vector<int>& row);
std::string Describe(const std::vector<int>& row);

// Rows of levels such that any `strength` levels of different factors meet in one of them. Greedy;
// the same for the same seed.
std::vector<std::vector<int>> CoveringArray(const std::vector<Factor>& factors, int strength,
                                            uint32_t seed);
// Whether they do.
bool Covers(const std::vector<std::vector<int>>& rows, const std::vector<Factor>& factors,
            int strength);

// Runs rows of the grid, subject by subject; failures name the row and its seed. With LODE_GRID set
// a matrix is printed: each level with its walks, and what was compared and differed there.
Tally RunGrid(std::vector<std::vector<int>> rows, uint32_t seed);

}  // namespace lode::runtime
