// Whether it pays to unpack a chunk of packed weights once for all tiles of tokens that pass over it
// (src/kernels/cpu/panels_expanded-inl.h). Both ways in turn, in one process and on one core, so that
// what else the machine does meets both: the median of their ratio counts, not the speeds.
//   panel_expand_bench [--json]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/matmul_parts.h"
#include "kernels/isa.h"
#include "kernels/panel.h"

namespace lode::kernels {
namespace {

constexpr int64_t kPanels = 16, kCols = 2560;
constexpr int kRounds = 60;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// Any bytes: speed does not ask what they mean.
std::unique_ptr<uint8_t, Free> Bytes(int64_t count) {
  const auto size = static_cast<size_t>((count + 63) / 64 * 64);
  auto* bytes = static_cast<uint8_t*>(std::aligned_alloc(64, size));
  std::mt19937 generator(1);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(generator() & 0x3F);
  return std::unique_ptr<uint8_t, Free>(bytes);
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

void Compare(tensor::DType dtype, bool wide, int64_t tokens, bool json, bool first) {
  Weight w;
  w.dtype = dtype;
  w.rows = kPanels * kPanelRows;
  w.cols = kCols;
  const auto packed = Bytes(PackedBytes(w));
  const auto tiles = Bytes(tokens * RecordsOf(kCols) * IntBlockBytes(wide));
  const auto scratch = Bytes(kPanelScratchFloats * 4);
  w.packed = reinterpret_cast<const std::byte*>(packed.get());
  std::vector<float> sums(static_cast<size_t>(tokens * kPanelRows));
  PanelInput input;
  input.tiles = tiles.get();
  input.wide = wide;
  input.tokens = tokens;
  const PanelKernels with = PanelKernelsFor(ActiveIsa());
  PanelKernels without = with;
  for (auto& expand : without.expand) expand = nullptr;
  const auto seconds = [&](const PanelKernels& kernels) {
    const double start = Now();
    for (int64_t panel = 0; panel < kPanels; ++panel) {
      RunPanelProduct(kernels, w, PanelFormatOf(w), panel, input,
                      reinterpret_cast<float*>(scratch.get()), sums.data());
    }
    return Now() - start;
  };
  std::vector<double> each, once, ratio;
  for (int round = 0; round < kRounds; ++round) {
    each.push_back(seconds(without));
    once.push_back(seconds(with));
    ratio.push_back(each.back() / once.back());
  }
  const double operations =
      2e-9 * static_cast<double>(w.rows * w.cols * tokens) * (wide ? 2.0 : 1.0);
  if (json) {
    std::printf("%s{\"type\": \"%s\", \"wide\": %s, \"tokens\": %lld, \"ratio\": %.3f}",
                first ? "" : ", ", tensor::Name(dtype), wide ? "true" : "false",
                static_cast<long long>(tokens), Median(ratio));
  } else {
    std::printf("%-7s %-4s %3lld tokens: %6.1f -> %6.1f GOP/s, ratio %.2f\n", tensor::Name(dtype),
                wide ? "wide" : "", static_cast<long long>(tokens), operations / Median(each),
                operations / Median(once), Median(ratio));
  }
}

int Main(bool json) {
  using tensor::DType;
  bool first = true;
  if (json) std::printf("[");
  for (const DType dtype : {DType::kNVFP4, DType::kMXFP4, DType::kQ6K, DType::kQ5K, DType::kQ4K,
                            DType::kIQ4XS, DType::kQ5_0, DType::kQ5_1}) {
    for (const bool wide : {false, true}) {
      for (const int64_t tokens : {12, 24, 96}) {
        Compare(dtype, wide, tokens, json, first);
        first = false;
      }
    }
  }
  if (json) std::printf("]\n");
  return 0;
}

}  // namespace
}  // namespace lode::kernels

int main(int argc, char** argv) {
  return lode::kernels::Main(argc > 1 && std::strcmp(argv[1], "--json") == 0);
}
