// What contexts cost, each figure with what it has to reach:
//
//   contexts_figures fork CONFIG [TOKENS]             a fork, with states as CONFIG (a config.json)
//                                                     has them, without weights; 100000 tokens
//   contexts_figures restore MODEL FOLDER [TOKENS]    a saved context to its first token; 100000
//   contexts_figures snapshots MODEL [TOKENS]         what keeping states adds to a prompt; 16384
//   contexts_figures speculation MODEL [TOKENS]       guesses right with a known chance; 192
//   contexts_figures disk MODEL FOLDER [TOKENS]       evicted to disk, and asked for again; 8192
//
// --json for programs. Exit code 1: a figure is missed. `restore` saves pages and a state of random
// (finite) numbers, for computing them first would take minutes: their bytes cost the same to read.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "api/open.h"
#include "base/file.h"
#include "bench/figures.h"
#include "model/config.h"
#include "runtime/saved/saved_context.h"
#include "runtime/scheduler.h"
#include "runtime/tier/disk_tier.h"
#include "tests/support/memory_source.h"

namespace lode {
namespace {

using bench::CpuSeconds;
using bench::Figures;
using bench::Median;
using bench::Seconds;
using runtime::Event;
using runtime::Scheduler;
using runtime::SchedulerOptions;
using runtime::Token;
using Reach = Figures::Reach;

std::vector<Token> SomeTokens(int64_t count, int64_t vocabulary, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::vector<Token> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<Token>(random() % static_cast<uint32_t>(vocabulary)));
  }
  return tokens;
}

Result<api::Running> Open(const std::string& model, const api::RunOptions& options) {
  LODE_ASSIGN(auto source, api::OpenSource(model));
  LODE_ASSIGN(api::Running running, api::Run(std::move(source), options));
  running.FinishPacking();
  return running;
}

// With room for one text of so many tokens, what is asked of it, and two states.
Result<api::Running> OpenForOne(const std::string& model, int64_t tokens) {
  api::RunOptions options;
  options.context_tokens = tokens + 1024;
  options.kept_states = 2;
  return Open(model, options);
}

// A line of /proc/self/status in bytes; 0: it is not there.
uint64_t StatusBytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string word;
  uint64_t kilobytes = 0;
  while (status >> word) {
    if (word == field + ":") status >> kilobytes;
  }
  return kilobytes << 10;
}

// From now on VmHWM is the most that is resident from now on.
void ForgetMostResident() { std::ofstream("/proc/self/clear_refs") << 5; }

// Runs one request to its end. The seconds to its first token.
double Ask(Scheduler* scheduler, std::vector<Token> prompt, int64_t tokens_max,
           std::vector<Token>* answer = nullptr, runtime::Match* match = nullptr) {
  const double start = Seconds();
  double first = 0.0;
  runtime::Request request;
  request.prompt = std::move(prompt);
  request.tokens_max = tokens_max;
  request.root = scheduler->default_root();
  const auto id = scheduler->Submit(std::move(request));
  LODE_CHECK(id.ok());
  while (scheduler->Step([&](const Event& event) {
    if (event.kind == Event::Kind::kStarted && match != nullptr) *match = event.match;
    LODE_CHECK(event.kind != Event::Kind::kFailed);
    if (event.kind != Event::Kind::kToken) return;
    if (first == 0.0) first = Seconds() - start;
    if (answer != nullptr) answer->push_back(event.sampled.token);
  })) {
  }
  return first;
}

// --- Fork ---

Result<void> Fork(const std::string& config, int64_t tokens, Figures* figures) {
  LODE_ASSIGN(Json json, ReadJsonFile(config, {.python_numbers = true}));
  model::Model model;
  LODE_ASSIGN(model.spec, model::ReadSpec(testing::MemorySource(std::move(json))));
  runtime::EngineOptions options;
  options.numerics.activations = model::Activations::kNative;
  options.numerics.kv = kernels::KvType::kBF16;
  options.context_tokens = tokens + 4096;
  options.sequences_max = 4;
  options.rows_max = 1;
  LODE_TRY(runtime::Engine::CheckRoom(model.spec, options));
  runtime::Engine engine(model, options);
  runtime::FramePool& frames = engine.frames();
  const runtime::OwnerId owner = frames.AddOwner(0);
  std::vector<runtime::PageId> pages;
  for (int64_t i = 0; engine.has_pages() && i < runtime::PageCount(tokens); ++i) {
    pages.push_back(frames.pages().Take(owner));
  }
  const runtime::SlotId slot = engine.has_slots() ? frames.slots().Take(owner) : runtime::kNoFrame;
  if (!pages.empty()) {
    std::memset(frames.pages().data(pages.back()), 1, frames.pages().frame_bytes());
  }
  const runtime::Sequence sequence = engine.NewSequence(owner, tokens, std::move(pages), slot);
  figures->Add("state: a page", static_cast<double>(frames.pages().frame_bytes()) / 1024, "KiB");
  figures->Add("state: a slot", static_cast<double>(frames.slots().frame_bytes()) / (1 << 20),
               "MiB");
  std::vector<double> forks, firsts;
  uint64_t copied = 0;
  for (int i = 0; i < 201; ++i) {
    const double start = Seconds();
    LODE_ASSIGN(runtime::Sequence fork, engine.Fork(sequence));
    const double forked = Seconds();
    LODE_TRY(engine.Reserve(&fork, 1));
    firsts.push_back((Seconds() - start) * 1e3);
    forks.push_back((forked - start) * 1e3);
    // Whoever goes on inside a page copies it; the state is read where it is, written elsewhere.
    copied = fork.pages().back() == sequence.pages().back() ? 0 : frames.pages().frame_bytes();
  }
  const std::string of = "fork of " + std::to_string(tokens) + " tokens";
  figures->Add(of, Median(forks), "ms", Reach::kAtMost, 1.0);
  figures->Add(of + ": with room for its first token", Median(firsts), "ms", Reach::kAtMost, 1.0);
  figures->Add(of + ": the longest of 201", *std::max_element(firsts.begin(), firsts.end()), "ms");
  figures->Add(of + ": copied for its first token", static_cast<double>(copied) / (1 << 20), "MiB",
               Reach::kAtMost, 1.0);
  return {};
}

// --- Restore ---

// Random numbers that are no NaN and not infinite, in 16 or 32 bits.
std::vector<std::byte> Numbers(uint64_t bytes, bool wide, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> numbers(bytes);
  const auto put = [&](uint64_t at, auto value) {
    std::memcpy(numbers.data() + at, &value, std::min<uint64_t>(sizeof(value), bytes - at));
  };
  for (uint64_t at = 0; at < bytes; at += wide ? 4 : 2) {
    const uint32_t bits = random();
    const uint32_t exponent = 118 + (bits >> 8) % 6;
    const auto upper = static_cast<uint16_t>((bits & 0x807F) | exponent << 7);
    if (wide) {
      put(at, static_cast<uint32_t>(upper) << 16 | bits >> 16);
    } else {
      put(at, upper);
    }
  }
  return numbers;
}

Result<void> SaveRandom(const api::Running& running, runtime::ContextStore* store,
                        std::span<const Token> tokens,
                        const runtime::ContextFingerprints& prints) {
  runtime::ContextImage image;
  image.geometry = runtime::GeometryOf(*running.engine);
  image.fingerprints = prints;
  image.tokens = tokens;
  std::vector<std::vector<std::byte>> pages;
  const int64_t count = runtime::PageCount(std::ssize(tokens));
  for (int64_t i = 0; image.geometry.page_bytes > 0 && i < count; ++i) {
    pages.push_back(Numbers(image.geometry.page_bytes, running.options.numerics.kv ==
                                                           kernels::KvType::kF32,
                            static_cast<uint32_t>(i)));
  }
  for (const auto& page : pages) image.pages.emplace_back(page);
  const std::vector<std::byte> state = Numbers(image.geometry.slot_bytes, true, 99);
  runtime::ContextSnapshot snapshot;
  snapshot.offset = std::ssize(tokens);
  snapshot.state = state;
  image.snapshots.push_back(snapshot);
  LODE_ASSIGN(const auto report, store->Save("bench", image, {}));
  (void)report;
  return {};
}

Result<void> Restore(const std::string& model, const std::string& folder, int64_t tokens,
                     Figures* figures) {
  LODE_ASSIGN(api::Running running, OpenForOne(model, tokens));
  LODE_ASSIGN(auto store, runtime::ContextStore::Open(folder));
  runtime::ContextFingerprints prints;
  prints.model.digest[0] = std::byte{1};
  std::vector<Token> text = SomeTokens(tokens, running.model->spec.vocabulary);
  LODE_TRY(SaveRandom(running, &store, text, prints));
  {
    Scheduler warm(running.engine.get(), SchedulerOptions());
    Ask(&warm, SomeTokens(40, running.model->spec.vocabulary, 2), 8);
  }
  text.push_back(1);
  std::vector<double> all, restores, cpu;
  uint64_t most = 0;
  for (int i = 0; i < 9; ++i) {
    const uint64_t before = StatusBytes("VmRSS");
    ForgetMostResident();
    Scheduler scheduler(running.engine.get(), SchedulerOptions());
    const double start = Seconds(), cpu_start = CpuSeconds();
    LODE_ASSIGN(const auto file, store.OpenContext("bench"));
    LODE_ASSIGN(const int64_t restored, runtime::RestoreContext(&scheduler, *file, prints));
    LODE_CHECK(restored == tokens);
    restores.push_back(Seconds() - start);
    most = std::max(most, StatusBytes("VmHWM") - before);
    runtime::Match match;
    Ask(&scheduler, text, 1, nullptr, &match);
    LODE_CHECK(match.resume == tokens);
    all.push_back(Seconds() - start);
    cpu.push_back(CpuSeconds() - cpu_start);
  }
  LODE_TRY(store.Remove("bench"));
  const auto bytes = static_cast<double>(running.engine->frames().pages().frame_bytes()) *
                         static_cast<double>(runtime::PageCount(tokens)) +
                     static_cast<double>(running.engine->frames().slots().frame_bytes());
  const std::string of = "restore of " + std::to_string(tokens) + " tokens";
  figures->Add(of + ": bytes", bytes / (1 << 20), "MiB");
  // Frames that were not touched before, and nothing to speak of beside them.
  figures->Add("  memory that it made resident at most", static_cast<double>(most) / (1 << 20),
               "MiB", Reach::kAtMost, bytes / (1 << 20) + 16);
  figures->Add(of + " to the first token, fresh frames", all.front(), "s", Reach::kAtMost, 0.3);
  figures->Add(of + ": of it until the state is there", restores.front(), "s");
  figures->Add(of + " to the first token, again (median of 8)",
               Median({all.begin() + 1, all.end()}), "s", Reach::kAtMost, 0.3);
  figures->Add(of + ": of it until the state is there, again",
               Median({restores.begin() + 1, restores.end()}), "s");
  figures->Add(of + ": processor seconds, again", Median({cpu.begin() + 1, cpu.end()}), "s");
  figures->Note("pages and state are random numbers, not those of a run");
  return {};
}

// --- Snapshots ---

// Two schedulers of one engine compute the same prompt, a step of one and a step of the other in
// turn, so that what else the machine does meets both: whole prompts differ by more than what is
// looked for.
Result<void> Snapshots(const std::string& model, int64_t tokens, Figures* figures) {
  constexpr uint32_t kPrompts = 4;
  api::RunOptions options;
  options.context_tokens = 2 * tokens + 2048;
  options.agents = 2;
  options.cache_bytes = uint64_t{3} << 30;
  LODE_ASSIGN(api::Running running, Open(model, options));
  SchedulerOptions with, without;
  without.tree.ladder_first = without.tree.rolling_tokens = without.tree.spare_tokens = 0;
  std::vector<double> ratios;
  double taken = 0.0, seconds_with = 0.0, seconds_without = 0.0;
  for (uint32_t seed = 0; seed < kPrompts; ++seed) {
    Scheduler first(running.engine.get(), with), second(running.engine.get(), without);
    for (Scheduler* scheduler : {&first, &second}) {
      runtime::Request request;
      request.prompt = SomeTokens(tokens, running.model->spec.vocabulary, seed);
      request.tokens_max = 1;
      request.root = scheduler->default_root();
      LODE_ASSIGN([[maybe_unused]] const auto id, scheduler->Submit(std::move(request)));
    }
    const auto step = [](Scheduler* scheduler, bool* going) {
      const double start = Seconds();
      *going = scheduler->Step([](const Event&) {});
      return Seconds() - start;
    };
    bool going = true;
    for (int i = 0; going; ++i) {  // each of them goes first as often
      double kept = i % 2 == 0 ? step(&first, &going) : 0.0;
      const double plain = step(&second, &going);
      if (i % 2 != 0) kept = step(&first, &going);
      // The first prompt takes the frames from the system.
      if (!going || seed == 0) continue;
      ratios.push_back(kept / plain);
      seconds_with += kept;
      seconds_without += plain;
    }
    taken = static_cast<double>(first.tree().counts().taken);
    if (second.tree().counts().taken + 2 > first.tree().counts().taken) {
      return Error(Code::kBadInput, "the prompt is too short for states to be kept in it");
    }
  }
  std::sort(ratios.begin(), ratios.end());
  const size_t quarter = ratios.size() / 4;
  figures->Add("prompt of " + std::to_string(tokens) + ": states kept", taken, "");
  figures->Add("  seconds of 3 prompts with them", seconds_with, "s");
  figures->Add("  seconds without", seconds_without, "s");
  figures->Add("  pairs of steps", static_cast<double>(ratios.size()), "");
  figures->Add("  what they cost (median of the pairs)", (Median(ratios) - 1.0) * 100, "%",
               Reach::kAtMost, 1.0);
  figures->Add("  a quarter of the pairs is below", (ratios[quarter] - 1.0) * 100, "%");
  figures->Add("  a quarter is above", (ratios[ratios.size() - 1 - quarter] - 1.0) * 100, "%");
  return {};
}

// --- Speculation ---

// Knows the text, and is wrong as often as it is told to be.
class ScriptedDrafter : public runtime::Drafter {
 public:
  ScriptedDrafter(const std::vector<Token>* text, double right, uint32_t seed)
      : text_(*text), right_(right), random_(seed) {}
  int64_t Propose(std::span<const int32_t> history, std::span<int32_t> drafts) override {
    size_t at = history.size();
    int64_t count = 0;
    for (int32_t& draft : drafts) {
      if (at >= text_.size()) break;
      draft = text_[at++];
      const bool wrong = std::generate_canonical<double, 32>(random_) >= right_;
      if (wrong) draft = draft == 0 ? 1 : draft - 1;
      ++count;
    }
    return count;
  }

 private:
  const std::vector<Token>& text_;
  double right_;
  std::mt19937 random_;
};

// Milliseconds of a step of so many rows behind these tokens, with logits of all rows; of several rows
// it is a trial of which `kept` stand. Each step has other tokens: the same ones would find their
// experts' weights in the cache.
double StepMilliseconds(runtime::Engine* engine, std::span<const Token> text, int64_t rows,
                        int64_t kept) {
  std::vector<float> logits(static_cast<size_t>(rows * engine->vocabulary()));
  auto sequence = engine->NewSequence();
  LODE_CHECK(sequence.ok());
  LODE_CHECK(engine->Append(*sequence, text, nullptr).ok());
  std::vector<double> times;
  for (int i = 0; i < 25; ++i) {
    const size_t begin = static_cast<size_t>(i * rows) % (text.size() - static_cast<size_t>(rows));
    runtime::StepItem item = {&*sequence, text.subspan(begin, static_cast<size_t>(rows)),
                              runtime::StepItem::Want::kAll};
    item.commit = rows == 1;
    const double start = Seconds();
    LODE_CHECK(engine->Step({&item, 1}, logits.data()).ok());
    if (!item.commit) engine->Keep(&*sequence, kept);
    times.push_back((Seconds() - start) * 1e3);
  }
  return Median(times);
}

struct Spoken {
  std::vector<Token> answer;
  double seconds = 0.0;  // from the first token to the last
  int64_t steps = 0;
};

Spoken Speak(runtime::Engine* engine, const SchedulerOptions& scheduling,
             const std::vector<Token>& prompt, int64_t tokens) {
  Scheduler scheduler(engine, scheduling);
  runtime::Request request;
  request.prompt = prompt;
  request.tokens_max = tokens;
  request.root = scheduler.default_root();
  request.sampling.temperature = 1.0;  // the text must be the same at any
  request.sampling.seed = 7;
  LODE_CHECK(scheduler.Submit(std::move(request)).ok());
  Spoken spoken;
  double start = 0.0;
  while (scheduler.Step([&](const Event& event) {
    if (event.kind != Event::Kind::kToken) return;
    if (start == 0.0) start = Seconds();
    spoken.answer.push_back(event.sampled.token);
  })) {
    spoken.steps += start > 0.0 ? 1 : 0;
  }
  spoken.seconds = Seconds() - start;
  --spoken.steps;  // the prompt's
  return spoken;
}

Result<void> Speculation(const std::string& model, int64_t tokens, Figures* figures) {
  constexpr int64_t kDraftsMax = 5;
  api::RunOptions options;
  options.context_tokens = tokens + 1024;
  options.agents = 2;
  options.cache_bytes = uint64_t{64} << 20;
  options.drafts = kDraftsMax;
  LODE_ASSIGN(api::Running running, Open(model, options));
  runtime::Engine* const engine = running.engine.get();
  const std::vector<Token> prompt = SomeTokens(64, running.model->spec.vocabulary);
  Speak(engine, {}, prompt, 16);
  std::vector<Token> text = prompt;
  const Spoken once = Speak(engine, {}, prompt, tokens);
  text.insert(text.end(), once.answer.begin(), once.answer.end());
  const auto drafted = static_cast<double>(tokens - 1);
  for (const int64_t drafts : {1, 3, 5}) {
    for (const double right : {0.6, 0.9}) {
      SchedulerOptions scheduling;
      scheduling.drafts_max = scheduling.drafts_fixed = drafts;
      uint32_t seed = 1;
      scheduling.drafter = [&](const runtime::Request&) {
        return std::make_unique<ScriptedDrafter>(&text, right, seed);
      };
      // In turns, against what else the machine does.
      std::vector<double> speedups, predicted, ratios, per_step;
      int different = 0;
      for (; seed <= 9; ++seed) {
        const Spoken plain = Speak(engine, {}, prompt, tokens);
        const Spoken guessed = Speak(engine, scheduling, prompt, tokens);
        different += guessed.answer != plain.answer;
        speedups.push_back(plain.seconds / guessed.seconds);
        const double expected =
            (1.0 - std::pow(right, static_cast<double>(drafts + 1))) / (1.0 - right);
        const double one = StepMilliseconds(engine, text, 1, 1);
        const double more = StepMilliseconds(engine, text, 1 + drafts, std::lround(expected));
        predicted.push_back(expected * one / more);
        ratios.push_back(speedups.back() / predicted.back());
        per_step.push_back(drafted / static_cast<double>(guessed.steps));
      }
      char name[96];
      std::snprintf(name, sizeof(name), "%lld guesses, right with %.1f",
                    static_cast<long long>(drafts), right);
      figures->Add(std::string(name) + ": other texts", different, "", Reach::kAtMost, 0);
      figures->Add("  tokens a step", Median(per_step), "");
      figures->Add("  speed-up", Median(speedups), "x");
      figures->Add("  as the chance and the steps' times predict", Median(predicted), "x");
      figures->Add("  measured over predicted", Median(ratios), "", Reach::kAtLeast, 0.9);
    }
  }
  return {};
}

// --- Disk ---

Result<void> Evicted(const std::string& model, const std::string& folder, int64_t tokens,
                     Figures* figures) {
  LODE_ASSIGN(api::Running running, OpenForOne(model, tokens));
  runtime::DiskTierOptions tier_options;
  tier_options.folder = folder + "/evicted";
  LODE_ASSIGN(const auto tier,
              runtime::DiskTier::Make(&running.engine->frames(), tier_options));
  SchedulerOptions scheduling;
  scheduling.disk = tier.get();
  const int64_t vocabulary = running.model->spec.vocabulary;
  Scheduler scheduler(running.engine.get(), scheduling);
  const std::vector<Token> prompt = SomeTokens(tokens, vocabulary);
  std::vector<Token> next = prompt;
  next.push_back(1);
  const auto ask = [&](const std::vector<Token>& text, runtime::Match* match) {
    const double start = Seconds();
    double first = 0.0;
    runtime::Request request;
    request.prompt = text;
    request.tokens_max = 1;
    request.root = scheduler.default_root();
    request.probes = {{tokens, runtime::PointRole::kNextUser}};
    LODE_CHECK(scheduler.Submit(std::move(request)).ok());
    while (scheduler.Step([&](const Event& event) {
      LODE_CHECK(event.kind != Event::Kind::kFailed);
      if (event.kind == Event::Kind::kStarted) *match = event.match;
      if (event.kind == Event::Kind::kToken) first = Seconds() - start;
    })) {
    }
    return first;
  };
  runtime::Match match;
  const double cold = ask(next, &match);
  ask(SomeTokens(tokens + 1, vocabulary, 2), &match);  // there is room for one
  const uint64_t written = tier->counts().bytes;
  tier->Drain();
  const double warm = ask(next, &match);
  figures->Add("prompt of " + std::to_string(tokens) + ": computed", cold, "s");
  const runtime::DiskTierCounts counts = tier->counts();
  char note[160];
  std::snprintf(note, sizeof(note), "demoted %lld, refused %lld full %lld busy, promoted %lld",
                static_cast<long long>(counts.demoted), static_cast<long long>(counts.refused_full),
                static_cast<long long>(counts.refused_busy),
                static_cast<long long>(counts.promoted));
  figures->Note(note);
  figures->Add("  evicted to disk", static_cast<double>(written) / (1 << 20), "MiB");
  figures->Add("  asked for again: reused", static_cast<double>(match.resume), "tokens",
               Reach::kAtLeast, static_cast<double>(tokens));
  figures->Add("  asked for again: to the first token", warm, "s", Reach::kAtMost, cold / 4);
  figures->Add("  of it reading", match.restored_seconds, "s");
  return {};
}

int Main(int argc, char** argv) {
  std::vector<std::string> words;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else {
      words.emplace_back(argv[i]);
    }
  }
  const auto number = [&](size_t at, int64_t otherwise) {
    return at < words.size() ? std::atoll(words[at].c_str()) : otherwise;
  };
  Figures figures(json);
  Result<void> done = Error(Code::kBadInput,
                            "contexts_figures fork|restore|snapshots|speculation|disk MODEL ...",
                            "see the head of bench/contexts_figures.cc");
  const std::string what = words.empty() ? "" : words[0];
  if (what == "fork" && words.size() > 1) done = Fork(words[1], number(2, 100000), &figures);
  if (what == "restore" && words.size() > 2) {
    done = Restore(words[1], words[2], number(3, 100000), &figures);
  }
  if (what == "snapshots" && words.size() > 1) {
    done = Snapshots(words[1], number(2, 16384), &figures);
  }
  if (what == "speculation" && words.size() > 1) {
    done = Speculation(words[1], number(2, 192), &figures);
  }
  if (what == "disk" && words.size() > 2) {
    done = Evicted(words[1], words[2], number(3, 8192), &figures);
  }
  if (!done.ok()) {
    std::fprintf(stderr, "%s\n", done.error().ToString().c_str());
    return 2;
  }
  return figures.Finish();
}

}  // namespace
}  // namespace lode

int main(int argc, char** argv) { return lode::Main(argc, argv); }
