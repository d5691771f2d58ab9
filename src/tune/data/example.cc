#include "tune/data/example.h"

#include <algorithm>

#include "base/text.h"

namespace lode::tune {
namespace {

// The first label is never predicted, whatever weight it carries.
double SumOfWeights(const Example& example) {
  double sum = 0;
  for (size_t t = 1; t < example.weights.size(); ++t) sum += example.weights[t];
  return sum;
}

}  // namespace

int64_t CountSupervised(const Example& example) {
  if (example.weights.empty()) return 0;
  return std::count_if(example.weights.begin() + 1, example.weights.end(),
                       [](float weight) { return weight != 0; });
}

Result<LossMean> ParseLossMean(const std::string& name) {
  if (name == "token") return LossMean::kToken;
  if (name == "sample") return LossMean::kSample;
  return Error(Code::kBadInput, "there is no mean " + Quote(name), "means are: token, sample");
}

std::vector<std::vector<std::vector<float>>> Coefficients(std::span<const Bin> step,
                                                          LossMean mean) {
  double total = 0;
  int64_t counted = 0;
  for (const Bin& bin : step) {
    for (const Example& example : bin) {
      const double sum = SumOfWeights(example);
      total += sum;
      counted += sum > 0 ? 1 : 0;
    }
  }
  std::vector<std::vector<std::vector<float>>> all;
  for (const Bin& bin : step) {
    auto& of_bin = all.emplace_back();
    for (const Example& example : bin) {
      auto& of_example = of_bin.emplace_back(example.tokens.size(), 0.0f);
      const double sum = SumOfWeights(example);
      if (sum <= 0) continue;
      const double scale =
          mean == LossMean::kToken ? 1 / total : 1 / (sum * static_cast<double>(counted));
      for (size_t t = 1; t < of_example.size(); ++t) {
        of_example[t] = static_cast<float>(example.weights[t] * scale);
      }
    }
  }
  return all;
}

Rows RowsOf(const Example& example, std::span<const float> per_label) {
  LODE_CHECK(per_label.size() == example.tokens.size());
  Rows rows;
  if (example.tokens.empty()) return rows;
  rows.tokens.assign(example.tokens.begin(), example.tokens.end() - 1);
  rows.targets.assign(example.tokens.begin() + 1, example.tokens.end());
  rows.coefficients.assign(per_label.begin() + 1, per_label.end());
  return rows;
}

}  // namespace lode::tune
