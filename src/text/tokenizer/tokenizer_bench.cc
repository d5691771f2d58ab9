// Tokenizer speed: MB/s of text on one thread. Arguments behind the benchmark's own flags:
// TOKENIZER.json TEXT. Expected: a cache hit costs a pattern match, a hash and a compare, some 30 ns
// for a word of 5 bytes, so well above 100 MB/s on English.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>

#include "base/file.h"
#include "text/tokenizer/tokenizer.h"

namespace {

std::unique_ptr<lode::text::Tokenizer> tokenizer;
std::string json;
std::string text;

void BM_Load(benchmark::State& state) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(lode::text::Tokenizer::FromHuggingFace(json).ok());
  }
}

void BM_Encode(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Encode(text)->size());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}

void BM_EncodeShort(benchmark::State& state) {
  const std::string_view line = std::string_view(text).substr(0, 64);
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Encode(line)->size());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * line.size()));
}

void BM_EncodeOneLetter(benchmark::State& state) {
  const std::string letters(100000, 'a');
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Encode(letters)->size());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * letters.size()));
}

void BM_Decode(benchmark::State& state) {
  const auto ids = tokenizer->Encode(text).value();
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->Decode(ids)->size());
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}

BENCHMARK(BM_Load)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Encode)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_EncodeShort);
BENCHMARK(BM_EncodeOneLetter)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Decode)->Unit(benchmark::kMillisecond);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s [--benchmark_...] TOKENIZER.json TEXT\n", argv[0]);
    return 2;
  }
  auto json_file = lode::ReadFile(argv[1]);
  auto text_file = lode::ReadFile(argv[2]);
  if (!json_file.ok() || !text_file.ok()) {
    const lode::Error& error = json_file.ok() ? text_file.error() : json_file.error();
    std::fprintf(stderr, "%s\n", error.ToString().c_str());
    return 2;
  }
  json = std::move(json_file).value();
  const std::string once = std::move(text_file).value();
  while (text.size() < (size_t{16} << 20) && !once.empty()) text += once;
  auto loaded = lode::text::Tokenizer::FromHuggingFace(json);
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n", loaded.error().ToString().c_str());
    return 2;
  }
  tokenizer = std::move(loaded).value();
  benchmark::RunSpecifiedBenchmarks();
}
