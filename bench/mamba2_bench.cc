// The parts of a layer that are no matrix product, at the widths of Nemotron-H Nano: the recurrence
// and everything pointwise. `rows` is 512 (a prompt) or 1 (a token); with `sequences` each has so
// many rows. GB/s counts what must move at least once, GFLOP/s the recurrence's 6 operations per
// state element.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "bench/roofs.h"
#include "kernels/ops.h"

namespace lode::kernels {
namespace {

constexpr int64_t kWidth = 2688, kInner = 4096, kHeads = 64, kHeadDim = 64, kGroups = 8;
constexpr int64_t kState = 128, kChannels = kInner + 2 * kGroups * kState, kTaps = 4;
constexpr int64_t kExperts = 128, kTopK = 6;
constexpr int64_t kProjection = 2 * kInner + 2 * kGroups * kState + kHeads;

std::vector<float> Random(int64_t count, float scale = 1.0f) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = normal(generator);
  return out;
}

struct Bench {
  int64_t rows, threads;
  ThreadPool pool;
  Context context;
  explicit Bench(const benchmark::State& state)
      : rows(state.range(0)),
        threads(state.range(1)),
        pool(static_cast<int>(threads)),
        context(&pool, 1) {}
  void Report(benchmark::State& state, double floats_per_row, double operations_per_row = 0.0) {
    const double rows_done = static_cast<double>(state.iterations() * rows);
    bench::Report(state, rows_done * floats_per_row * 4, rows_done * operations_per_row,
                  Peak::kF32, static_cast<int>(threads));
  }
};

// One sequence of `rows` rows, or (many) `rows` sequences of one row each.
void Scan(benchmark::State& state, bool many) {
  Bench b(state);
  const int64_t count = many ? b.rows : 1;
  constexpr int64_t kSlot = kHeads * kState * kHeadDim;
  // States in turn, so that a single step finds its own in memory, as in a model of many layers.
  const int64_t copies = std::max<int64_t>(count, 64);
  std::vector<float> states(static_cast<size_t>(copies * kSlot));
  const auto x = Random(b.rows * kChannels, 0.1f);
  auto dt = Random(b.rows * kHeads, 0.1f);
  for (float& v : dt) v = std::abs(v);
  const std::vector<float> a(kHeads, -1.0f), d(kHeads, 0.5f);
  std::vector<float> y(static_cast<size_t>(b.rows * kInner));
  std::vector<ScanSequence> sequences;
  for (int64_t i = 0; i < count; ++i) {
    sequences.push_back({{many ? i : 0, many ? 1 : b.rows}, nullptr, nullptr});
  }
  int64_t at = 0;
  for (auto _ : state) {
    for (ScanSequence& s : sequences) {
      s.source = s.target = states.data() + at * kSlot;
      at = (at + 1) % copies;
    }
    SelectiveScan(b.context, {kHeads, kHeadDim, kGroups, kState}, sequences, x.data(),
                  x.data() + kInner, x.data() + kInner + kGroups * kState, kChannels, dt.data(),
                  kHeads, a.data(), d.data(), y.data(), kInner);
  }
  const double state_floats =
      2.0 * kSlot * static_cast<double>(count) / static_cast<double>(b.rows);
  b.Report(state, state_floats + kChannels + kInner, 5.0 * kSlot);
}
void SelectiveScan(benchmark::State& state) { Scan(state, false); }
void SelectiveScanOfMany(benchmark::State& state) { Scan(state, true); }

void Conv(benchmark::State& state) {
  Bench b(state);
  const auto x = Random(b.rows * kProjection);
  const auto w = Random(kTaps * kChannels), bias = Random(kChannels);
  std::vector<float> history((kTaps - 1) * kChannels), out(static_cast<size_t>(b.rows * kChannels));
  const ConvSequence sequence = {{0, b.rows}, history.data(), history.data()};
  for (auto _ : state) {
    CausalConvSilu(b.context, {&sequence, 1}, x.data() + kInner, kProjection, w.data(), bias.data(),
                   kTaps, kChannels, out.data(), kChannels);
  }
  b.Report(state, 2.0 * kChannels);
}

void Norm(benchmark::State& state) {
  Bench b(state);
  const auto x = Random(b.rows * kWidth), w = Random(kWidth);
  std::vector<float> y(x.size());
  for (auto _ : state) {
    RmsNorm(b.context, x.data(), kWidth, w.data(), 1e-5f, b.rows, kWidth, y.data(), kWidth);
  }
  b.Report(state, 2.0 * kWidth);
}

void GatedNorm(benchmark::State& state) {
  Bench b(state);
  const auto z = Random(b.rows * kProjection), w = Random(kInner);
  auto y = Random(b.rows * kInner);
  for (auto _ : state) {
    GatedRmsNorm(b.context, y.data(), kInner, z.data(), kProjection, w.data(), 1e-5f, b.rows,
                 kInner, kGroups);
  }
  b.Report(state, 3.0 * kInner);
}

void SoftplusOfDt(benchmark::State& state) {
  Bench b(state);
  const auto x = Random(b.rows * kProjection), bias = Random(kHeads);
  std::vector<float> y(static_cast<size_t>(b.rows * kHeads));
  for (auto _ : state) {
    Softplus(b.context, x.data(), kProjection, bias.data(), b.rows, kHeads, y.data(), kHeads);
  }
  b.Report(state, 2.0 * kHeads);
}

void Route(benchmark::State& state) {
  Bench b(state);
  const auto logits = Random(b.rows * kExperts), bias = Random(kExperts, 0.01f);
  std::vector<int32_t> ids(static_cast<size_t>(b.rows * kTopK));
  std::vector<float> weights(ids.size());
  for (auto _ : state) {
    RouteTopK(b.context, logits.data(), bias.data(), b.rows, kExperts, kTopK, true, 2.5f,
              ids.data(), weights.data());
  }
  b.Report(state, kExperts);
}

void Arguments(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "threads"})
      ->ArgsProduct({{1, 512}, {1, 2}})
      ->UseRealTime()
      ->MeasureProcessCPUTime()
      ->Unit(benchmark::kMicrosecond);
}
BENCHMARK(SelectiveScan)->Apply(Arguments);
BENCHMARK(SelectiveScanOfMany)->ArgNames({"rows", "threads"})->Args({16, 2})->UseRealTime()->Unit(
    benchmark::kMicrosecond);
BENCHMARK(Conv)->Apply(Arguments);
BENCHMARK(Norm)->Apply(Arguments);
BENCHMARK(GatedNorm)->Apply(Arguments);
BENCHMARK(SoftplusOfDt)->Apply(Arguments);
BENCHMARK(Route)->Apply(Arguments);

}  // namespace
}  // namespace lode::kernels
