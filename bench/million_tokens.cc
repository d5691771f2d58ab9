// One context of a million tokens on a small model that has every kind of block: that it completes,
// what a token of the answer costs at each depth, that the plan of memory is what is used, that a
// fork stays a handful of references, that no number overflows and no token goes unnoticed.
//
//   million_tokens [TOKENS [THREADS]] [--depths] [--json]        1048576, 2
//
// A decoded token is timed on one thread, with caches swept before it: at depth attention sweeps
// them, and a small model's Mamba layers would look slower than where all of it stays in a cache.
// Of 33 tokens the time that a quarter keeps below. --depths measures only this, within seconds: on
// keys and values that nobody computed, with Mamba layers as wide as those of a 30 B hybrid, beside
// which a few misses of a cache do not show.
//
// Random weights: nothing here says anything about what a model makes of so long a text.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bench/figures.h"
#include "runtime/engine.h"
#include "runtime/saved/context_chain.h"
#include "tests/support/random_model.h"

namespace lode {
namespace {

using bench::Figures;
using bench::Median;
using bench::Seconds;
using runtime::Engine;
using runtime::Sequence;
using runtime::StepItem;

constexpr int64_t kRows = 512;
constexpr int kDecoded = 33;  // tokens of each measurement
constexpr size_t kSweep = size_t{64} << 20;  // more than caches hold

double LowerQuartile(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 4];
}

uint64_t ResidentBytes() {
  long pages = 0, resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
  std::fclose(file);
  return static_cast<uint64_t>(resident) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

struct Depth {
  double mamba = 0.0, attention = 0.0, token = 0.0;  // microseconds of a decoded token
};

class Million {
 public:
  Million(const model::Model& model, int64_t tokens, int threads, Figures* figures)
      : model_(model), figures_(*figures), threads_(threads), sweep_(kSweep / sizeof(uint64_t), 1) {
    std::mt19937 random(1);
    for (int64_t i = 0; i < tokens; ++i) text_.push_back(static_cast<int32_t>(random() % 256));
    runtime::EngineOptions options;
    options.numerics.activations = model::Activations::kNative;
    options.numerics.kv = kernels::KvType::kBF16;
    options.threads = threads;
    options.context_tokens = tokens + 4096;
    options.sequences_max = 16;
    options.rows_max = kRows;
    plan_ = Engine::Bytes(model.spec, options);
    before_ = ResidentBytes();
    engine_.emplace(model, options);
    engine_->BetweenLayers([this] { times_.push_back(Seconds()); });
  }

  void RunDepths() {
    std::map<int64_t, Depth> depths;
    runtime::FramePool& frames = engine_->frames();
    const runtime::OwnerId owner = frames.AddOwner(0);
    for (int64_t at = 1024; at <= std::ssize(text_); at *= 2) {
      std::vector<runtime::PageId> pages;
      for (int64_t i = 0; i < runtime::PageCount(at); ++i) {
        pages.push_back(frames.pages().Take(owner));
        std::memset(frames.pages().data(pages.back()), 0, frames.pages().frame_bytes());
      }
      const auto slot = frames.slots().Take(owner, true);
      depths[at] = Measure(engine_->NewSequence(owner, at, std::move(pages), slot));
    }
    ReportDepths(depths);
  }

  void Run() {
    const auto count = static_cast<int64_t>(text_.size());
    Sequence sequence = std::move(engine_->NewSequence()).value();
    std::vector<float> logits(static_cast<size_t>(engine_->vocabulary()));
    std::optional<Sequence> near_end;
    const double start = Seconds();
    std::map<int64_t, Depth> depths;
    for (int64_t at = 0; at < count;) {
      const int64_t rows = std::min(kRows, count - at);
      Step(&sequence, at, rows, logits.data());
      at += rows;
      if (at == count - 2 * kRows) near_end.emplace(std::move(engine_->Fork(sequence)).value());
      const bool power = (at & (at - 1)) == 0;
      if ((power && at >= 1024) || at == count) {
        depths[at] = Measure(sequence);
        ExpectTokenMatters(sequence, at);
        std::fprintf(stderr, "%lld tokens, %.0f s\n", static_cast<long long>(at),
                     Seconds() - start);
      }
    }
    figures_.Add("tokens computed", static_cast<double>(count), "tokens", Figures::Reach::kAtLeast,
                 static_cast<double>(count));
    figures_.Add("seconds", Seconds() - start, "s");
    ReportDepths(depths);
    ReportMemory();
    ReportFork(sequence);
    CompareBits(sequence, &*near_end, logits);
    ReportChain();
  }

 private:
  void Step(Sequence* sequence, int64_t at, int64_t rows, float* logits) {
    const StepItem item = {sequence, std::span<const int32_t>(text_).subspan(
                                         static_cast<size_t>(at), static_cast<size_t>(rows))};
    const auto stepped = engine_->Step({&item, 1}, logits);
    LODE_CHECK(stepped.ok());
  }

  void Sweep() {
    uint64_t sum = 0;
    for (const uint64_t word : sweep_) sum += word;
    swept_ = sum;
  }

  // Tokens that a fork decodes.
  Depth Measure(const Sequence& sequence) {
    engine_->pool().SetThreads(1);
    Sequence fork = std::move(engine_->Fork(sequence)).value();
    std::vector<float> logits(static_cast<size_t>(engine_->vocabulary()));
    std::vector<double> mamba, attention, token;
    for (int i = 0; i < kDecoded; ++i) {
      Sweep();
      times_.clear();
      Step(&fork, i, 1, logits.data());
      times_.push_back(Seconds());
      double in_mamba = 0.0, in_attention = 0.0;
      for (size_t layer = 0; layer < model_.spec.layers.size(); ++layer) {
        const double seconds = times_[layer + 1] - times_[layer];
        const auto kind = model_.spec.layers[layer].kind;
        if (kind == model::BlockKind::kMamba2) in_mamba += seconds;
        if (kind == model::BlockKind::kAttention) in_attention += seconds;
      }
      mamba.push_back(in_mamba * 1e6);
      attention.push_back(in_attention * 1e6);
      token.push_back((times_.back() - times_.front()) * 1e6);
    }
    engine_->pool().SetThreads(threads_);
    return {LowerQuartile(mamba), LowerQuartile(attention), LowerQuartile(token)};
  }

  // The same rows behind this one, but one other token: another state, and other keys.
  void ExpectTokenMatters(const Sequence& sequence, int64_t at) {
    std::vector<std::byte> digests[2];
    for (const bool other : {false, true}) {
      Sequence fork = std::move(engine_->Fork(sequence)).value();
      std::vector<int32_t> rows(text_.begin(), text_.begin() + 129);
      if (other) rows[0] = (rows[0] + 1) % 256;
      const StepItem item = {&fork, rows, StepItem::Want::kNone};
      LODE_CHECK(engine_->Step({&item, 1}, nullptr).ok());
      const auto digest = runtime::Sha256(engine_->StateBytes(fork));
      digests[other].assign(digest.begin(), digest.end());
    }
    if (digests[0] != digests[1]) return;
    ++unnoticed_;
    figures_.Note("a changed token at " + std::to_string(at) + " was not seen in the state");
  }

  void ReportDepths(const std::map<int64_t, Depth>& depths) {
    double least = 1e30, most = 0.0;
    for (const auto& [at, depth] : depths) {
      const std::string where = " at " + std::to_string(at);
      figures_.Add("decoded token" + where, depth.token, "us");
      figures_.Add("  of it Mamba", depth.mamba, "us");
      figures_.Add("  of it attention", depth.attention, "us");
      least = std::min(least, depth.mamba);
      most = std::max(most, depth.mamba);
    }
    const double first = depths.begin()->second.mamba, last = depths.rbegin()->second.mamba;
    figures_.Add("Mamba at the end over Mamba at the beginning", last / first, "",
                 Figures::Reach::kAtMost, 1.15);
    figures_.Add("Mamba, most over least of all depths", most / least, "");
  }

  void ReportMemory() {
    const double measured = static_cast<double>(ResidentBytes() - before_);
    figures_.Add("plan of memory", static_cast<double>(plan_) / (1 << 20), "MiB");
    figures_.Add("measured (resident, beyond what was there)", measured / (1 << 20), "MiB");
    figures_.Add("measured over plan", measured / static_cast<double>(plan_), "",
                 Figures::Reach::kAtMost, 1.03);
    const runtime::FramePool& frames = engine_->frames();
    frames.Check();
    figures_.Add("frames committed over their budget",
                 static_cast<double>(frames.committed()) / static_cast<double>(frames.budget()), "",
                 Figures::Reach::kAtMost, 1.0);
  }

  void ReportFork(const Sequence& sequence) {
    std::vector<double> forks, firsts;
    const uint64_t used = engine_->frames().used();
    uint64_t copied = 0;
    for (int i = 0; i < 101; ++i) {
      const double start = Seconds();
      Sequence fork = std::move(engine_->Fork(sequence)).value();
      const double forked = Seconds();
      LODE_CHECK(engine_->Reserve(&fork, 1).ok());
      firsts.push_back((Seconds() - start) * 1e3);
      forks.push_back((forked - start) * 1e3);
      copied = engine_->frames().used() - used;
    }
    figures_.Add("fork", Median(forks), "ms", Figures::Reach::kAtMost, 1.0);
    figures_.Add("fork and frames for its first token", Median(firsts), "ms",
                 Figures::Reach::kAtMost, 1.0);
    figures_.Add("frames that are its own then", static_cast<double>(copied) / 1024, "KiB",
                 Figures::Reach::kAtMost, 1024);
  }

  // The last tokens again, in other steps, from a fork.
  void CompareBits(const Sequence& sequence, Sequence* fork, const std::vector<float>& logits) {
    std::vector<float> again(logits.size());
    const auto count = static_cast<int64_t>(text_.size());
    for (int64_t at = fork->tokens(); at < count;) {
      const int64_t rows = std::min<int64_t>(1 + at % 97, count - at);
      Step(fork, at, rows, again.data());
      at += rows;
    }
    const size_t bytes = logits.size() * sizeof(float);
    const bool same = std::memcmp(again.data(), logits.data(), bytes) == 0 &&
                      engine_->StateBytes(*fork) == engine_->StateBytes(sequence);
    const bool finite = std::all_of(logits.begin(), logits.end(),
                                    [](float x) { return std::isfinite(x); });
    figures_.Add("the end again in other steps: other bits", same && finite ? 0 : 1, "",
                 Figures::Reach::kAtMost, 0);
    figures_.Add("depths where a changed token leaves the state as it was", unnoticed_, "",
                 Figures::Reach::kAtMost, 0);
  }

  // The names of the text's blocks.
  void ReportChain() {
    const auto last = [this] {
      return runtime::ChainTokens({}, {}, runtime::kTokensPerPage, text_, {}).back();
    };
    const runtime::ContextDigest whole = last();
    int unseen = 0, tried = 0;
    for (size_t at = 0; at < text_.size(); at = at * 2 + 1) {
      for (const size_t place : {at, text_.size() - 1 - at}) {
        text_[place] ^= 1;
        unseen += last() == whole;
        text_[place] ^= 1;
        ++tried;
      }
    }
    figures_.Add("changed tokens that the text's digest does not see", unseen, "",
                 Figures::Reach::kAtMost, 0, "of " + std::to_string(tried));
  }

  const model::Model& model_;
  Figures& figures_;
  std::vector<int32_t> text_;
  uint64_t plan_ = 0, before_ = 0;
  std::optional<Engine> engine_;
  std::vector<double> times_;
  int unnoticed_ = 0;
  int threads_;
  std::vector<uint64_t> sweep_;
  volatile uint64_t swept_ = 0;
};

int Main(int argc, char** argv) {
  bool json = false, depths = false;
  std::vector<int64_t> numbers = {int64_t{1} << 20, 2};
  size_t given = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else if (std::strcmp(argv[i], "--depths") == 0) {
      depths = true;
    } else if (given < numbers.size() && std::atoll(argv[i]) > 0) {
      numbers[given++] = std::atoll(argv[i]);
    } else {
      std::fprintf(stderr, "million_tokens [TOKENS [THREADS]] [--depths] [--json]\n");
      return 2;
    }
  }
  if (numbers[0] < 4 * kRows) {
    std::fprintf(stderr, "at least %lld tokens\n", static_cast<long long>(4 * kRows));
    return 2;
  }
  numbers[0] = numbers[0] / kRows * kRows;
  Json config = testing::TinyHybridConfig();
  if (depths) {
    config["hidden_size"] = 1024;
    config["mamba_num_heads"] = config["mamba_head_dim"] = 64;
    config["ssm_state_size"] = 128;
    config["n_groups"] = 8;
  }
  const auto model = testing::RandomModel(std::move(config));
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.error().ToString().c_str());
    return 2;
  }
  Figures figures(json);
  Million million(**model, numbers[0], static_cast<int>(numbers[1]), &figures);
  depths ? million.RunDepths() : million.Run();
  return figures.Finish();
}

}  // namespace
}  // namespace lode

int main(int argc, char** argv) { return lode::Main(argc, argv); }
