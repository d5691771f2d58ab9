#include "api/bench_limits.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/cpu_usage.h"
#include "base/file.h"
#include "base/text.h"
#include "base/topology.h"

namespace lode::api {
namespace {

using kernels::Isa;
using kernels::Peak;

constexpr uint64_t kReadBytes = (uint64_t{1} << 30) + (uint64_t{128} << 20);
constexpr uint64_t kReadBytesMin = uint64_t{1} << 26;
constexpr int64_t kReadGrain = int64_t{1} << 21;  // a huge page
constexpr double kPeakSeconds = 0.01;
constexpr int kPeakPieces = 8;  // a thread

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// CPU time of the calling thread: what others take meanwhile does not count.
double ThreadSeconds() {
  timespec time = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string FirstLine(const std::string& path) {
  const auto content = ReadFile(path, 4096);
  return content.ok() ? Split(*content, '\n').front() : std::string();
}

}  // namespace

LimitsMeter::LimitsMeter(ThreadPool* pool) {
  const uint64_t wanted = std::max(std::min(kReadBytes, AvailableMemoryBytes() / 4), kReadBytesMin);
  bytes_ = wanted / kReadGrain * kReadGrain;
  void* memory =
      ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  LODE_CHECK(memory != MAP_FAILED);
  ::madvise(memory, bytes_, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(memory);
  const auto pieces = static_cast<int64_t>(bytes_) / kReadGrain;
  pool->ParallelFor(pieces, 1, [&](int64_t begin, int64_t end, int) {
    // Not zeros: a system may map all zero pages to one.
    std::memset(data_ + begin * kReadGrain, 1, static_cast<size_t>((end - begin) * kReadGrain));
  });
}

LimitsMeter::~LimitsMeter() { ::munmap(data_, bytes_); }

double LimitsMeter::Read(ThreadPool* pool) {
  const Isa isa = kernels::ActiveIsa();
  std::atomic<uint64_t> sink{0};
  const double start = Now();
  pool->Run(static_cast<int64_t>(bytes_) / kReadGrain, [&](int64_t chunk, int) {
    sink += kernels::ReadAll(isa, data_ + chunk * kReadGrain, kReadGrain);
  });
  return static_cast<double>(bytes_) / (Now() - start);
}

double LimitsMeter::ReadCached(ThreadPool* pool, size_t bytes_each) {
  const Isa isa = kernels::ActiveIsa();
  const auto threads = static_cast<size_t>(pool->threads());
  const size_t bytes = std::min(bytes_each, static_cast<size_t>(bytes_) / threads) / 4096 * 4096;
  if (bytes == 0) return 0.0;
  const auto repeats = std::max<size_t>(2, (size_t{256} << 20) / bytes);
  double best = 0.0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    std::atomic<uint64_t> sink{0};
    const double start = Now();
    pool->Run(pool->threads(), [&](int64_t part, int) {
      for (size_t i = 0; i < repeats; ++i) {
        sink += kernels::ReadAll(isa, data_ + static_cast<size_t>(part) * bytes, bytes);
      }
    });
    best = std::max(best, static_cast<double>(bytes * repeats * threads) / (Now() - start));
  }
  return best;
}

double MeasurePeak(ThreadPool* pool, Isa isa, Peak peak) {
  // How many rounds take about the time wanted, from a short run on this thread.
  int64_t rounds = 2000;
  double seconds = 0.0;
  while (true) {
    const double start = ThreadSeconds();
    kernels::RunPeak(isa, peak, rounds);
    seconds = ThreadSeconds() - start;
    if (seconds > 0.1 * kPeakSeconds) break;
    rounds *= 4;
  }
  rounds = std::max<int64_t>(
      1, static_cast<int64_t>(static_cast<double>(rounds) * kPeakSeconds / seconds / kPeakPieces));
  struct alignas(64) Sum {
    double operations = 0.0, seconds = 0.0;
  };
  std::vector<Sum> sums(static_cast<size_t>(pool->threads()));
  pool->Run(int64_t{kPeakPieces} * pool->threads(), [&](int64_t, int thread) {
    Sum& sum = sums[static_cast<size_t>(thread)];
    const double start = ThreadSeconds();
    sum.operations += kernels::RunPeak(isa, peak, rounds);
    sum.seconds += ThreadSeconds() - start;
  });
  Sum all;
  for (const Sum& sum : sums) {
    all.operations += sum.operations;
    all.seconds += sum.seconds;
  }
  return all.operations / all.seconds * pool->threads();
}

Limits LimitsMeter::Measure(ThreadPool* pool) {
  const Isa isa = kernels::ActiveIsa();
  Limits limits;
  limits.read = Read(pool);
  limits.f32 = MeasurePeak(pool, isa, Peak::kF32);
  limits.bf16 = MeasurePeak(pool, isa, Peak::kBF16);
  limits.int8 = MeasurePeak(pool, isa, Peak::kInt8);
  return limits;
}

std::vector<uint64_t> CacheBytes(const std::string& root) {
  std::vector<uint64_t> bytes(3, 0);
  const std::string folder = root + "/sys/devices/system/cpu/cpu" +
                             std::to_string(ProcessAffinity().front()) + "/cache/index";
  for (int index = 0; index < 8; ++index) {
    const std::string cache = folder + std::to_string(index);
    const int level = std::atoi(FirstLine(cache + "/level").c_str());
    if (level < 1 || level > 3 || FirstLine(cache + "/type") == "Instruction") continue;
    const std::string size = FirstLine(cache + "/size");  // "32K"
    uint64_t value = std::strtoull(size.c_str(), nullptr, 10);
    if (EndsWith(size, "K")) value <<= 10;
    if (EndsWith(size, "M")) value <<= 20;
    bytes[static_cast<size_t>(level - 1)] = value;
  }
  return bytes;
}

Json MeasureMachine(ThreadPool* pool) {
  const ForeignCpuMeter foreign;
  LimitsMeter meter(pool);
  Json json;
  json["cpu"] = CpuModelName();
  json["isa"] = kernels::Name(kernels::ActiveIsa());
  json["threads"] = pool->threads();
  json["pinning"] = Name(pool->pinning());
  json["nodes"] = pool->nodes();
  json["read_bytes"] = meter.read_bytes();
  const int threads = pool->threads_max();
  std::vector<int> counts;
  for (int t = 1; t < threads; t *= 2) counts.push_back(t);
  counts.push_back(threads);
  json["read_gb_per_second"] = Json::array();
  for (const int t : counts) {
    pool->SetThreads(t);
    double best = 0.0;
    for (int i = 0; i < 3; ++i) best = std::max(best, meter.Read(pool));
    json["read_gb_per_second"].push_back({{"threads", t}, {"value", best * 1e-9}});
  }
  const std::vector<uint64_t> caches = CacheBytes();
  json["caches"] = Json::array();
  for (const int t : {1, threads}) {
    pool->SetThreads(t);
    for (size_t level = 0; level < caches.size(); ++level) {
      if (caches[level] == 0) continue;
      // The last level is shared. Half of a cache leaves room for what else is in it.
      const auto sharers = static_cast<uint64_t>(level == 2 ? t : 1);
      json["caches"].push_back(
          {{"level", level + 1},
           {"bytes", caches[level]},
           {"threads", t},
           {"read_gb_per_second", meter.ReadCached(pool, caches[level] / 2 / sharers) * 1e-9}});
    }
    if (threads == 1) break;
  }
  json["peaks"] = Json::array();
  for (const Isa isa : kernels::SupportedIsas()) {
    for (const Peak peak : {Peak::kF32, Peak::kBF16, Peak::kInt8}) {
      for (const int t : {1, threads}) {
        pool->SetThreads(t);
        json["peaks"].push_back({{"isa", kernels::Name(isa)},
                                 {"kind", kernels::Name(peak)},
                                 {"threads", t},
                                 {"gflop_per_second", MeasurePeak(pool, isa, peak) * 1e-9}});
        if (threads == 1) break;
      }
    }
  }
  pool->SetThreads(threads);
  const auto share = foreign.Share();
  json["foreign_cpu_share"] = share ? Json(*share) : Json();
  return json;
}

}  // namespace lode::api
