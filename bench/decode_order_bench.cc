// What equal bits cost an answer's token: products of one row with quantized weights, which is where
// its time goes. Three kernels read the same packed panels, cold: the product's own; the same loop
// written here with its one order (one sum per output, blocks ascending); and with the best order
// found, which is free to keep eight sums per output and to add them up at the end. (Sums over more
// columns at once, across lanes or threads, need a tree of additions per output on top.)
//
//   decode_order_bench [THREADS [ROWS COLS]]       2; 3712 2688, a shared expert of a 30 B hybrid
//
// Needs AVX-512 with VNNI. Median of interleaved rounds; the numbers to look at are the ratios.
#include <cstdio>

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "bench/figures.h"
#include "kernels/ops.h"
#include "kernels/panel.h"
#include "tensor/blocks.h"

#define LODE_BENCH_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,f16c"), always_inline)) inline

namespace lode::kernels {
namespace {

using bench::Median;
using bench::Seconds;

constexpr int64_t kColdBytes = 512 << 20;
constexpr int kRounds = 41;

struct Input {
  std::vector<int8_t> codes;      // [cols]
  std::vector<float> scales;      // [cols / 32]
  std::vector<int32_t> starts;    // -offset sum(codes), what the codes' offset adds
};

// A record's whole-number sums of 16 rows.
template <bool kFourBits>
LODE_BENCH_TARGET void Dots(const std::byte* record, const int8_t* x, int32_t start, __m512i* low,
                            __m512i* high) {
  *low = *high = _mm512_set1_epi32(start);
  for (int group = 0; group < 8; ++group) {
    int32_t four;
    std::memcpy(&four, x + 4 * group, sizeof(four));
    const __m512i input = _mm512_set1_epi32(four);
    if (kFourBits) {
      const __m512i codes = _mm512_loadu_si512(record + 64 * group);
      const __m512i mask = _mm512_set1_epi8(15);
      *low = _mm512_dpbusd_epi32(*low, _mm512_and_si512(codes, mask), input);
      const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(codes, 4), mask);
      *high = _mm512_dpbusd_epi32(*high, upper, input);
    } else {
      *low = _mm512_dpbusd_epi32(*low, _mm512_loadu_si512(record + 128 * group), input);
      *high = _mm512_dpbusd_epi32(*high, _mm512_loadu_si512(record + 128 * group + 64), input);
    }
  }
}

LODE_BENCH_TARGET __m512 Wide(__m256i halves) {
  return _mm512_maskz_cvtph_ps(static_cast<__mmask16>(0xFFFF), halves);
}

// One panel of 32 outputs with kSums sums for each.
template <bool kFourBits, int kSums>
LODE_BENCH_TARGET void Panel(const std::byte* panel, int64_t records, const Input& x, float* y) {
  constexpr int64_t kCodes = kFourBits ? 512 : 1024;
  __m512 sums[kSums][2];
  for (auto& pair : sums) pair[0] = pair[1] = _mm512_setzero_ps();
  for (int64_t r = 0; r < records; r += kSums) {
    for (int s = 0; s < kSums; ++s) {
      if (r + s >= records) break;
      const std::byte* record = panel + (r + s) * (kCodes + 64);
      _mm_prefetch(reinterpret_cast<const char*>(record + 4096), _MM_HINT_T0);
      __m512i low, high;
      Dots<kFourBits>(record, x.codes.data() + 32 * (r + s),
                      x.starts[static_cast<size_t>(r + s)], &low, &high);
      const __m512 scale = _mm512_set1_ps(x.scales[static_cast<size_t>(r + s)]);
      const auto* halves = reinterpret_cast<const __m256i*>(record + kCodes);
      const __m512 first = _mm512_mul_ps(Wide(_mm256_loadu_si256(halves)), scale);
      const __m512 second = _mm512_mul_ps(Wide(_mm256_loadu_si256(halves + 1)), scale);
      sums[s][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low), first, sums[s][0]);
      sums[s][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), second, sums[s][1]);
    }
  }
  for (int half = 0; half < 2; ++half) {
    __m512 all = sums[0][half];
    for (int s = 1; s < kSums; ++s) all = _mm512_add_ps(all, sums[s][half]);
    _mm512_storeu_ps(y + 16 * half, all);
  }
}

using Kernel = void (*)(const std::byte*, int64_t, const Input&, float*);
#define LODE_BENCH_KERNEL __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,f16c")))
template <bool kFourBits, int kSums>
LODE_BENCH_KERNEL void Run(const std::byte* panel, int64_t records, const Input& x, float* y) {
  Panel<kFourBits, kSums>(panel, records, x, y);
}

class Bench {
 public:
  Bench(tensor::DType type, int64_t rows, int64_t cols, int threads)
      : rows_(rows), cols_(cols), pool_(threads) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> w(static_cast<size_t>(rows * cols));
    for (float& v : w) v = 0.02F * normal(random);
    x_.resize(static_cast<size_t>(cols));
    for (float& v : x_) v = normal(random);
    const tensor::DTypeInfo& info = tensor::Info(type);
    const int64_t row_bytes = cols / info.block_elements * info.block_bytes;
    file_.resize(static_cast<size_t>(rows * row_bytes));
    tensor::EncodeBlocks(type, w.data(), rows * cols, file_.data());
    weight_ = {type, rows, cols, file_.data(), row_bytes};
    const PanelFormat format = PanelFormatOf(weight_);
    panel_bytes_ = RecordsBytes(format, RecordsOf(cols));
    const int64_t bytes = PackedBytes(weight_);
    for (int64_t i = 0; i < std::max<int64_t>(1, kColdBytes / bytes); ++i) {
      copies_.emplace_back(static_cast<std::byte*>(
          std::aligned_alloc(64, static_cast<size_t>((bytes + 8191) / 64 * 64))));
      if (i > 0) {
        std::memcpy(copies_[i].get(), copies_[0].get(), static_cast<size_t>(bytes));
        continue;
      }
      for (int64_t panel = 0; panel < PanelsOf(rows); ++panel) {
        PackRecords(weight_, format, panel, 0, RecordsOf(cols),
                    copies_[0].get() + panel * panel_bytes_);
      }
    }
    Quantize(1 << TraitsOf(format).offset_shift);
  }

  void Compare(const char* name, Kernel one, Kernel free) {
    Context context(&pool_, MatMulScratchFloats(1),
                    MatMulActivationBytes(1, cols_, Precision::kNative));
    std::vector<float> ours(static_cast<size_t>(PanelsOf(rows_) * 32)), mine(ours), other(ours);
    const auto product = [&](size_t copy) {
      weight_.packed = copies_[copy].get();
      const MatMulJob job = {&weight_, x_.data(), cols_, ours.data(), rows_, 1, Epilogue::kStore,
                             Precision::kNative};
      MatMul(context, {&job, 1});
    };
    const auto with = [&](Kernel kernel, std::vector<float>* y) {
      return [this, kernel, y](size_t copy) {
        const std::byte* panels = copies_[copy].get();
        pool_.ParallelFor(PanelsOf(rows_), 4, [&](int64_t begin, int64_t end, int) {
          for (int64_t p = begin; p < end; ++p) {
            kernel(panels + p * panel_bytes_, RecordsOf(cols_), input_, y->data() + 32 * p);
          }
        });
      };
    };
    std::vector<double> a, b, c, a_c, b_c;
    for (int round = 0; round < kRounds; ++round) {
      a.push_back(Time(product));
      b.push_back(Time(with(one, &mine)));
      c.push_back(Time(with(free, &other)));
      a_c.push_back(a.back() / c.back());
      b_c.push_back(b.back() / c.back());
    }
    double difference = 0.0;
    for (int64_t i = 0; i < rows_; ++i) {
      const auto at = static_cast<size_t>(i);
      difference = std::max<double>(difference, std::abs(mine[at] - other[at]));
    }
    const double gb = static_cast<double>(panel_bytes_ * PanelsOf(rows_)) * 1e-9;
    std::printf("%-6s GB/s: product %.1f, one order here %.1f, free order %.1f; time over the free "
                "order's: product %.3f, one order here %.3f (largest difference %.1e)\n",
                name, gb / Median(a), gb / Median(b), gb / Median(c), Median(a_c), Median(b_c),
                difference);
    std::fflush(stdout);
  }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  // Seconds of a product, over enough cold copies to be measured.
  double Time(const std::function<void(size_t)>& run) {
    constexpr int kRuns = 8;
    const double start = Seconds();
    for (int i = 0; i < kRuns; ++i) {
      run(next_);
      next_ = (next_ + 1) % copies_.size();
    }
    return (Seconds() - start) / kRuns;
  }
  void Quantize(int32_t offset) {
    for (int64_t block = 0; block < cols_ / 32; ++block) {
      const float* x = x_.data() + 32 * block;
      float most = 0.0F;
      for (int i = 0; i < 32; ++i) most = std::max(most, std::abs(x[i]));
      int32_t sum = 0;
      for (int i = 0; i < 32; ++i) {
        const auto code = static_cast<int8_t>(std::lround(x[i] * 127.0F / most));
        input_.codes.push_back(code);
        sum += code;
      }
      input_.scales.push_back(most / 127.0F);
      input_.starts.push_back(-offset * sum);
    }
  }

  int64_t rows_, cols_, panel_bytes_ = 0;
  ThreadPool pool_;
  std::vector<float> x_;
  std::vector<std::byte> file_;
  std::vector<std::unique_ptr<std::byte, Free>> copies_;
  Weight weight_;
  Input input_;
  size_t next_ = 0;
};

int Main(int argc, char** argv) {
  if (!__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512vl")) {
    std::printf("this machine has no AVX-512 with VNNI\n");
    return 0;
  }
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const int64_t rows = argc > 3 ? std::atoll(argv[2]) : 3712;
  const int64_t cols = argc > 3 ? std::atoll(argv[3]) : 2688;
  if (threads < 1 || rows < 32 || cols < 32 || cols % 32 != 0) {
    std::fprintf(stderr, "decode_order_bench [THREADS [ROWS COLS]], COLS a multiple of 32\n");
    return 2;
  }
  Bench(tensor::DType::kQ8_0, rows, cols, threads).Compare("Q8_0", Run<false, 1>, Run<false, 8>);
  Bench(tensor::DType::kQ4_0, rows, cols, threads).Compare("Q4_0", Run<true, 1>, Run<true, 8>);
  return 0;
}

}  // namespace
}  // namespace lode::kernels

int main(int argc, char** argv) { return lode::kernels::Main(argc, argv); }
#else
int main() {
  std::printf("only for x86-64\n");
  return 0;
}
#endif
