#include "bench/roofs.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace lode::bench {
namespace {

using kernels::Peak;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The best of several rounds of `work` on all threads: what they did, by the time of the slowest.
double BestRate(int threads, const std::function<double(int thread)>& work) {
  double best = 0.0;
  for (int round = 0; round < 5; ++round) {
    std::vector<double> done(static_cast<size_t>(threads));
    std::vector<std::thread> team;
    const double start = Now();
    for (int i = 1; i < threads; ++i) {
      team.emplace_back([&, i] { done[static_cast<size_t>(i)] = work(i); });
    }
    done[0] = work(0);
    for (std::thread& member : team) member.join();
    double sum = 0.0;
    for (const double each : done) sum += each;
    best = std::max(best, sum / (Now() - start));
  }
  return best;
}

double MemoryRoof(int threads) {
  static std::map<int, double> known;
  double& rate = known[threads];
  if (rate == 0.0) {
    constexpr size_t kBytes = size_t{256} << 20;  // each thread's part; no cache holds it
    struct Free {
      void operator()(std::byte* data) const { std::free(data); }
    };
    std::vector<std::unique_ptr<std::byte, Free>> parts;
    for (int i = 0; i < threads; ++i) {
      parts.emplace_back(static_cast<std::byte*>(std::aligned_alloc(4096, kBytes)));
      std::fill(parts.back().get(), parts.back().get() + kBytes, std::byte{1});
    }
    rate = BestRate(threads, [&](int thread) {
      benchmark::DoNotOptimize(kernels::ReadAll(
          kernels::ActiveIsa(), parts[static_cast<size_t>(thread)].get(), kBytes));
      return static_cast<double>(kBytes);
    });
  }
  return rate;
}

double ArithmeticRoof(Peak peak, int threads) {
  static std::map<std::pair<Peak, int>, double> known;
  double& rate = known[{peak, threads}];
  if (rate == 0.0) {
    rate = BestRate(threads, [&](int) {
      return kernels::RunPeak(kernels::ActiveIsa(), peak, 1000000);
    });
  }
  return rate;
}

}  // namespace

void Report(benchmark::State& state, double bytes, double operations, Peak peak, int threads) {
  using benchmark::Counter;
  const auto set = [&](const char* rate, const char* share, double amount, double limit) {
    state.counters[rate] = Counter(amount / 1e9, Counter::kIsRate);
    if (limit > 0.0) state.counters[share] = Counter(amount / limit, Counter::kIsRate);
  };
  if (bytes > 0.0) set("GB", "of_memory", bytes, MemoryRoof(threads));
  if (operations > 0.0) set("GFLOP", "of_peak", operations, ArithmeticRoof(peak, threads));
}

}  // namespace lode::bench
