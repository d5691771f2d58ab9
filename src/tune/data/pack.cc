// Packing examples of their own lengths into bins. Windows of an epoch are packed one at a time, so
// an epoch begins at once however large the data is, and a cursor is three numbers.
#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "base/text.h"
#include "tune/data/order.h"
#include "tune/data/source.h"

namespace lode::tune {
namespace {

// The largest free room of bins as a tree over their numbers: the first bin with enough is found in
// O(log n).
class FirstFit {
 public:
  FirstFit(size_t bins_max, int64_t capacity)
      : leaves_(std::bit_ceil(std::max<size_t>(1, bins_max))), free_(2 * leaves_, capacity) {}

  size_t Place(int64_t rows) {
    size_t at = 1;
    while (at < leaves_) at = free_[2 * at] >= rows ? 2 * at : 2 * at + 1;
    const size_t bin = at - leaves_;
    free_[at] -= rows;
    while (at > 1) {
      at /= 2;
      free_[at] = std::max(free_[2 * at], free_[2 * at + 1]);
    }
    return bin;
  }

 private:
  size_t leaves_;
  std::vector<int64_t> free_;
};

class PackedSource final : public DataSource {
 public:
  PackedSource(std::vector<Example> examples, const PackOptions& options)
      : examples_(std::move(examples)), options_(options) {
    uint64_t hash = Mix(options_.seed, static_cast<uint64_t>(options_.rows),
                        static_cast<uint64_t>(options_.window),
                        static_cast<uint64_t>(options_.order) * 2 + (options_.shuffle ? 1 : 0));
    int64_t rows = 0;
    for (const Example& example : examples_) {
      rows += CountRows(example);
      for (size_t t = 0; t < example.tokens.size(); ++t) {
        hash = Mix(hash, static_cast<uint64_t>(example.tokens[t]),
                   std::bit_cast<uint32_t>(example.weights[t]));
      }
      hash = Mix(hash, example.tokens.size());
    }
    fingerprint_ = hash;
    for (int64_t window = 0; window < Windows(); ++window) {
      bins_per_epoch_ += static_cast<int64_t>(PackWindow(0, window).size());
    }
    fill_ = static_cast<double>(rows) / static_cast<double>(bins_per_epoch_ * options_.rows);
    bins_ = PackWindow(0, 0);
  }

  int64_t epoch() const override { return epoch_; }
  int64_t rows_max() const override { return options_.rows; }
  int64_t bins_per_epoch() const override { return bins_per_epoch_; }
  std::string Summary() const override {
    return WithThousands(examples_.size()) + " sequences in " +
           WithThousands(static_cast<uint64_t>(bins_per_epoch_)) + " bins of " +
           WithThousands(static_cast<uint64_t>(options_.rows)) +
           Format(" rows, %.1f %% full", 100 * fill_);
  }

 protected:
  Result<Bin> NextBin() override {
    Bin bin;
    for (const int64_t index : bins_[static_cast<size_t>(bin_)]) {
      bin.push_back(examples_[static_cast<size_t>(index)]);
    }
    Advance();
    return bin;
  }
  Json Position() const override { return {{"epoch", epoch_}, {"window", window_}, {"bin", bin_}}; }
  Result<void> SetPosition(const Json& position) override {
    const int64_t epoch = GetInt(position, "epoch", -1), window = GetInt(position, "window", -1),
                  bin = GetInt(position, "bin", -1);
    if (epoch < 0 || window < 0 || window >= Windows()) return BadPosition();
    auto bins = PackWindow(epoch, window);
    if (bin < 0 || bin >= static_cast<int64_t>(bins.size())) return BadPosition();
    epoch_ = epoch;
    window_ = window;
    bin_ = bin;
    bins_ = std::move(bins);
    return {};
  }
  uint64_t Fingerprint() const override { return fingerprint_; }

 private:
  static Error BadPosition() {
    return Error(Code::kBadInput, "the cursor points outside of the data");
  }
  int64_t Windows() const {
    const auto count = static_cast<int64_t>(examples_.size());
    return (count + options_.window - 1) / options_.window;
  }
  void Advance() {
    if (++bin_ < static_cast<int64_t>(bins_.size())) return;
    bin_ = 0;
    if (++window_ == Windows()) {
      window_ = 0;
      ++epoch_;
    }
    bins_ = PackWindow(epoch_, window_);
  }
  // Bins of a window of an epoch, as indices of examples.
  std::vector<std::vector<int64_t>> PackWindow(int64_t epoch, int64_t window) const {
    const auto count = static_cast<int64_t>(examples_.size());
    const Permutation order(static_cast<uint64_t>(count),
                            Mix(options_.seed, static_cast<uint64_t>(epoch)));
    const int64_t begin = window * options_.window;
    const int64_t end = std::min(count, begin + options_.window);
    std::vector<int64_t> indices, rows;
    for (int64_t i = begin; i < end; ++i) {
      const auto index =
          options_.shuffle ? static_cast<int64_t>(order.At(static_cast<uint64_t>(i))) : i;
      indices.push_back(index);
      rows.push_back(CountRows(examples_[static_cast<size_t>(index)]));
    }
    auto bins = PackFirstFit(rows, options_.rows, options_.order);
    for (auto& bin : bins) {
      for (int64_t& item : bin) item = indices[static_cast<size_t>(item)];
    }
    if (!options_.shuffle) return bins;
    // Decreasing order leaves bins sorted by length; learning should not see that.
    const Permutation shuffled(bins.size(), Mix(options_.seed, static_cast<uint64_t>(epoch),
                                                static_cast<uint64_t>(window), uint64_t{1}));
    std::vector<std::vector<int64_t>> mixed;
    for (size_t i = 0; i < bins.size(); ++i) mixed.push_back(std::move(bins[shuffled.At(i)]));
    return mixed;
  }

  const std::vector<Example> examples_;
  const PackOptions options_;
  uint64_t fingerprint_ = 0;
  int64_t bins_per_epoch_ = 0;
  double fill_ = 0;
  int64_t epoch_ = 0, window_ = 0, bin_ = 0;
  std::vector<std::vector<int64_t>> bins_;  // of the window
};

}  // namespace

Result<PackOrder> ParsePackOrder(const std::string& name) {
  if (name == "decreasing") return PackOrder::kDecreasing;
  if (name == "shuffled") return PackOrder::kShuffled;
  return Error(Code::kBadInput, "there is no order " + Quote(name), "orders: decreasing, shuffled");
}

std::vector<std::vector<int64_t>> PackFirstFit(const std::vector<int64_t>& rows, int64_t capacity,
                                               PackOrder order) {
  std::vector<size_t> items(rows.size());
  std::iota(items.begin(), items.end(), size_t{0});
  if (order == PackOrder::kDecreasing) {
    std::stable_sort(items.begin(), items.end(),
                     [&](size_t a, size_t b) { return rows[a] > rows[b]; });
  }
  FirstFit fit(rows.size(), capacity);
  std::vector<std::vector<int64_t>> bins;
  for (const size_t item : items) {
    LODE_CHECK(rows[item] <= capacity);
    const size_t bin = fit.Place(rows[item]);
    if (bin >= bins.size()) bins.resize(bin + 1);
    bins[bin].push_back(static_cast<int64_t>(item));
  }
  return bins;
}

Result<std::unique_ptr<DataSource>> MakePacked(std::vector<Example> examples,
                                               const PackOptions& options) {
  LODE_CHECK(options.rows >= 1);
  LODE_CHECK(options.window >= 1);
  if (examples.empty()) return Error(Code::kBadInput, "there are no examples to pack");
  for (size_t i = 0; i < examples.size(); ++i) {
    if (CountRows(examples[i]) <= options.rows) continue;
    return Error(Code::kBadInput,
                 Format("sequence %zu has %lld tokens, a bin has room for %lld", i,
                        static_cast<long long>(examples[i].size()),
                        static_cast<long long>(options.rows + 1)),
                 "make bins longer, or let long sequences be truncated");
  }
  return std::unique_ptr<DataSource>(std::make_unique<PackedSource>(std::move(examples), options));
}

}  // namespace lode::tune
