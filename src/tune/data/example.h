// What a model is taught with: token ids, and for each how much its prediction counts.
//
// The one convention of this folder: weights[t] belongs to the *label* tokens[t], predicted from
// what stands before it. A training step wants rows (what goes in, what shall come out), which is
// the same list shifted by one: RowsOf is the only place where that happens.
// Threads: values; free for all.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace lode::tune {

struct Example {
  std::vector<int32_t> tokens;
  // As many as tokens, finite, >= 0; 0: not supervised. The first never counts.
  std::vector<float> weights;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

// Examples that go through the model together. Nothing flows from one to the next: attention,
// convolution and recurrence all begin anew.
using Bin = std::vector<Example>;

// Labels with a weight that is not 0.
int64_t CountSupervised(const Example& example);
// Rows that an example takes in a batch: one less than its tokens.
inline int64_t CountRows(const Example& example) {
  return example.tokens.empty() ? 0 : example.size() - 1;
}

// How the examples of a step share its loss.
enum class LossMean {
  kToken,   // sum over supervised tokens / sum of their weights
  kSample,  // mean over examples of each one's own token mean: short answers count as much as long
};
// "token" or "sample". Errors: kBadInput that lists them.
Result<LossMean> ParseLossMean(const std::string& name);

// What each label of each example is multiplied with, so that the loss of the *whole* step is the
// sum of coefficient * -log p(label): a step may then be cut into batches in any way. Examples
// without a supervised label have coefficients 0 and are not counted.
//   returns [bin][example][label], shaped as `step`
std::vector<std::vector<std::vector<float>>> Coefficients(std::span<const Bin> step, LossMean mean);

// An example as rows of a training step: targets[r] shall follow tokens[r] and counts
// coefficients[r].
struct Rows {
  std::vector<int32_t> tokens, targets;
  std::vector<float> coefficients;
};
// `per_label`: of the example's labels, from Coefficients.
Rows RowsOf(const Example& example, std::span<const float> per_label);

}  // namespace lode::tune
