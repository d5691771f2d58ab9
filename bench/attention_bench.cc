// Attention at the widths of Nemotron-H Nano: 32 query heads, 2 kv heads, head_dim 128. GB/s counts
// the bytes of keys and values that a call reads once; GFLOP/s the two products over the keys each
// row may see, one operation for a multiplication or an addition.
//   attention_bench --benchmark_filter=Decode
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <random>
#include <string>
#include <vector>

#include "bench/roofs.h"
#include "kernels/isa.h"
#include "kernels/ops.h"

namespace lode::kernels {
namespace {

AttentionShape Shape(int64_t type) { return {32, 2, 128, static_cast<KvType>(type)}; }

std::vector<float> Random(int64_t count, float scale) {
  std::mt19937 generator(7);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = normal(generator);
  return out;
}

// Caches of `depth` tokens, filled, as many as it takes that none is left in the CPU's own caches.
class Caches {
 public:
  Caches(Context& context, const AttentionShape& shape, int64_t depth, int64_t rows)
      : pages_each_((depth + rows + kPageTokens - 1) / kPageTokens) {
    const int64_t bytes = pages_each_ * KvPageBytes(shape);
    copies_ = std::max<int64_t>(2, 256000000 / bytes);
    bytes_ = copies_ * bytes;
    memory_ = static_cast<std::byte*>(::mmap(nullptr, static_cast<size_t>(bytes_),
                                             PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::madvise(memory_, static_cast<size_t>(bytes_), MADV_HUGEPAGE);
    for (int64_t i = 0; i < copies_ * pages_each_; ++i) {
      pages_.push_back(memory_ + i * KvPageBytes(shape));
    }
    const int64_t width = shape.kv_heads * shape.head_dim;
    const auto kv = Random(kPageTokens * width, 1.0f);
    const std::vector<float> q(static_cast<size_t>(kPageTokens * shape.heads * shape.head_dim));
    std::vector<float> out(q.size());
    for (int64_t i = 0; i < copies_ * pages_each_; ++i) {  // a page as a sequence of its own
      const AttentionSequence s = {{0, kPageTokens}, 0, &pages_[static_cast<size_t>(i)], 0};
      Attention(context, shape, {&s, 1}, q.data(), shape.heads * shape.head_dim, kv.data(),
                kv.data(), width, out.data(), shape.heads * shape.head_dim);
    }
  }
  ~Caches() { ::munmap(memory_, static_cast<size_t>(bytes_)); }
  std::byte* const* Next() {
    at_ = (at_ + 1) % copies_;
    return pages_.data() + at_ * pages_each_;
  }

 private:
  int64_t pages_each_, copies_ = 0, bytes_ = 0, at_ = 0;
  std::byte* memory_ = nullptr;
  std::vector<std::byte*> pages_;
};

// `rows` rows of each of `count` sequences after `depth` tokens; with `shared` they all have the same
// pages, whose bytes then count once.
void Run(benchmark::State& state, int64_t type, int64_t depth, int64_t rows, int64_t count,
         int64_t threads, bool shared = false) {
  const AttentionShape shape = Shape(type);
  ThreadPool pool(static_cast<int>(threads));
  Context context(&pool, AttentionScratchFloats(shape));
  Caches caches(context, shape, depth, rows);
  const int64_t q_width = shape.heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  const auto q = Random(count * rows * q_width, 1.0f);
  const auto kv = Random(count * rows * kv_width, 1.0f);
  std::vector<float> out(q.size());
  std::vector<AttentionSequence> sequences(static_cast<size_t>(count));
  for (auto _ : state) {
    std::byte* const* pages = caches.Next();
    for (int64_t i = 0; i < count; ++i) {
      if (i > 0 && !shared) pages = caches.Next();
      sequences[static_cast<size_t>(i)] = {{i * rows, rows}, depth, pages, 0};
    }
    Attention(context, shape, sequences, q.data(), q_width, kv.data(), kv.data(), kv_width,
              out.data(), q_width);
  }
  const double calls = static_cast<double>(state.iterations()) * static_cast<double>(count);
  const double keys = static_cast<double>(depth) + static_cast<double>(rows + 1) / 2;
  const double bytes = static_cast<double>(KvPageBytes(shape)) / kPageTokens *
                       static_cast<double>(depth + rows);
  bench::Report(state, (shared ? calls / static_cast<double>(count) : calls) * bytes,
                calls * 4.0 * static_cast<double>(rows * q_width) * keys,
                type == 0 ? Peak::kF32 : type == 1 ? Peak::kBF16 : Peak::kInt8,
                static_cast<int>(threads));
}

void Decode(benchmark::State& state) {
  Run(state, state.range(0), state.range(1), 1, 1, state.range(2));
}
void DecodeBatch(benchmark::State& state) {
  Run(state, state.range(0), state.range(1), 1, 16, state.range(2));
}
void DecodeShared(benchmark::State& state) {
  Run(state, state.range(0), state.range(1), 1, 16, state.range(2), true);
}
void Prefill(benchmark::State& state) {
  Run(state, state.range(0), state.range(1), 512, 1, state.range(2));
}

BENCHMARK(Decode)
    ->ArgNames({"kv", "depth", "threads"})
    ->ArgsProduct({{0, 1, 2}, {0, 512, 4096, 16384, 65536}, {1, 2}})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(DecodeBatch)
    ->ArgNames({"kv", "depth", "threads"})
    ->ArgsProduct({{1}, {512, 4096, 16384}, {1, 2}})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(DecodeShared)
    ->ArgNames({"kv", "depth", "threads"})
    ->ArgsProduct({{1, 2}, {4096, 16384, 65536}, {1, 2}})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK(Prefill)
    ->ArgNames({"kv", "depth", "threads"})
    ->ArgsProduct({{0, 1, 2}, {0, 7680}, {1, 2}})
    ->UseRealTime()
    ->MeasureProcessCPUTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lode::kernels
