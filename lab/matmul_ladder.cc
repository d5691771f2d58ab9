// The ladder of the matrix product: the oracle, weights decoded to f32 on the way, whole numbers from
// rows as the file has them, whole numbers from panels; the last two with every instruction set of
// this machine.
//
//   matmul_ladder [TYPE [ROWS COLS]]       q4_0 3712 2688, a shared expert of a 30B hybrid
//
// Each rung prints GOP/s (a multiplication or an addition is one) for 1, 24 and 512 tokens on one thread
// and on two, the median of five, over copies of the weight that no cache holds together; and whether
// its bits are the oracle's. Rungs of whole numbers share one oracle, the f32 rung has its own.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/isa.h"
#include "kernels/ops.h"
#include "kernels/panel.h"
#include "kernels/ref/ref.h"
#include "tensor/blocks.h"

namespace lode::kernels {
namespace {

constexpr int64_t kTokens[] = {1, 24, 512};
constexpr int64_t kTokensMax = 512;
constexpr int64_t kCheckedRows = 3;           // tokens that are compared with the oracle
constexpr int64_t kColdBytes = 256 << 20;     // of weights, so that they come from memory
constexpr int kRepetitions = 5;

struct Rung {
  std::string name;
  Precision precision;
  bool packed;
  Isa isa;
};

class Ladder {
 public:
  Ladder(tensor::DType type, int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    std::vector<float> w(static_cast<size_t>(rows * cols));
    for (float& v : w) v = 0.02f * normal(generator);
    x_.resize(static_cast<size_t>(kTokensMax * cols));
    for (float& v : x_) v = normal(generator);
    y_.resize(static_cast<size_t>(kTokensMax * rows));
    const tensor::DTypeInfo& info = tensor::Info(type);
    const int64_t row_bytes = cols / info.block_elements * info.block_bytes;
    const int64_t copies = std::max<int64_t>(1, kColdBytes / (rows * row_bytes));
    for (int64_t i = 0; i < copies; ++i) {
      bytes_.emplace_back(static_cast<size_t>(rows * row_bytes));
      tensor::EncodeBlocks(type, w.data(), rows * cols, bytes_.back().data());
      Weight weight = {type, rows, cols, bytes_.back().data(), row_bytes};
      packed_.emplace_back(static_cast<std::byte*>(
          std::aligned_alloc(64, static_cast<size_t>((PackedBytes(weight) + 63) / 64 * 64))));
      for (int64_t panel = 0; panel < PanelsOf(rows); ++panel) {
        const int64_t records = RecordsOf(cols);
        const PanelFormat format = PanelFormatOf(weight);
        PackRecords(weight, format, panel, 0, records,
                    packed_.back().get() + panel * RecordsBytes(format, records));
      }
      weights_.push_back(weight);
    }
  }

  void Climb(const Rung& rung) {
    ForceIsa(rung.isa);
    std::printf("%-28s %-12s", rung.name.c_str(), Name(rung.isa));
    for (const int threads : {1, 2}) {
      ThreadPool pool(threads);
      Context context(&pool, MatMulScratchFloats(kTokensMax),
                      MatMulActivationBytes(kTokensMax, cols_, rung.precision));
      for (const int64_t tokens : kTokens) std::printf(" %8.1f", Time(&context, rung, tokens));
    }
    std::printf("   %s\n", Check(rung) ? "equal" : "NOT EQUAL");
    std::fflush(stdout);
  }

  // The oracle itself: one thread, few rows, for it is slow.
  void TimeOracle() {
    const auto start = std::chrono::steady_clock::now();
    ref::MatMul(Job(Precision::kNative, false, 0, 1));
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%-28s %-12s %8.1f\n", "the oracle", "", Operations(1) / seconds.count() * 1e-9);
  }

 private:
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };
  double Operations(int64_t tokens) const {
    return 2.0 * static_cast<double>(rows_ * cols_ * tokens);
  }
  MatMulJob Job(Precision precision, bool packed, size_t copy, int64_t tokens) {
    weights_[copy].packed = packed ? packed_[copy].get() : nullptr;
    return {&weights_[copy], x_.data(), cols_, y_.data(), rows_, tokens, Epilogue::kStore, precision};
  }
  double Time(Context* context, const Rung& rung, int64_t tokens) {
    std::vector<double> rates;
    size_t copy = 0;
    for (int i = 0; i < kRepetitions; ++i) {
      const auto start = std::chrono::steady_clock::now();
      std::chrono::duration<double> seconds(0);
      int64_t runs = 0;
      while (seconds.count() < 0.05) {
        const MatMulJob job = Job(rung.precision, rung.packed, copy, tokens);
        MatMul(*context, {&job, 1});
        copy = (copy + 1) % weights_.size();
        ++runs;
        seconds = std::chrono::steady_clock::now() - start;
      }
      rates.push_back(Operations(tokens) * static_cast<double>(runs) / seconds.count() * 1e-9);
    }
    std::nth_element(rates.begin(), rates.begin() + kRepetitions / 2, rates.end());
    return rates[kRepetitions / 2];
  }
  bool Check(const Rung& rung) {
    ref::MatMul(Job(rung.precision, rung.packed, 0, kCheckedRows));
    const std::vector<float> want(y_.begin(), y_.begin() + kCheckedRows * rows_);
    std::fill(y_.begin(), y_.end(), -1.0f);
    ThreadPool pool(1);
    Context context(&pool, MatMulScratchFloats(kCheckedRows),
                    MatMulActivationBytes(kCheckedRows, cols_, rung.precision));
    const MatMulJob job = Job(rung.precision, rung.packed, 0, kCheckedRows);
    MatMul(context, {&job, 1});
    return std::memcmp(want.data(), y_.data(), want.size() * sizeof(float)) == 0;
  }

  int64_t rows_, cols_;
  std::vector<float> x_, y_;
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<std::unique_ptr<std::byte, Free>> packed_;
  std::vector<Weight> weights_;
};

int Main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "q4_0";
  const auto type = tensor::DTypeFromName(name);
  const int64_t rows = argc > 3 ? std::atoll(argv[2]) : 3712;
  const int64_t cols = argc > 3 ? std::atoll(argv[3]) : 2688;
  if (!type.ok() || !tensor::CanEncode(*type) || rows < 1 || cols < 1 ||
      cols % tensor::Info(*type).block_elements != 0) {
    std::fprintf(stderr, "matmul_ladder [TYPE [ROWS COLS]]; whole blocks in a row\n");
    return 2;
  }
  Ladder ladder(*type, rows, cols);
  std::printf("%s, %lld x %lld, GOP/s\n%-41s %26s %26s\n%-41s", name.c_str(),
              static_cast<long long>(rows), static_cast<long long>(cols), "", "one thread",
              "two threads", "tokens");
  for (int i = 0; i < 2; ++i) {
    for (const int64_t tokens : kTokens) std::printf(" %8lld", static_cast<long long>(tokens));
  }
  std::printf("\n");
  ladder.TimeOracle();
  std::vector<Isa> isas = SupportedIsas();
  std::reverse(isas.begin(), isas.end());
  ladder.Climb({"decoded to f32 on the way", Precision::kF32, false, isas.back()});
  for (const bool packed : {false, true}) {
    for (const Isa isa : isas) {
      ladder.Climb({packed ? "whole numbers, panels" : "whole numbers, the file's rows",
                    Precision::kNative, packed, isa});
    }
  }
  return 0;
}

}  // namespace
}  // namespace lode::kernels

int main(int argc, char** argv) { return lode::kernels::Main(argc, argv); }
