// The half of `lode selftest` that is about contexts: histories.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "api/open.h"
#include "base/result.h"

namespace lode::cli {

// One answer to the same prompt, computed in one way.
struct HistoryCell {
  std::string history;  // "cold", "cached", ...
  std::string machine;  // "1 thread, chunks of 7", ...
  int64_t rows = 0;       // of logits that were compared: those that tokens are drawn from
  int64_t different = 0;  // of these, with other bits
  int64_t reused = 0;     // tokens of the prompt that were not computed for it
};

// Every history on every machine, each compared bit for bit with a cold run, token by token, on one
// thread, alone. `on_cell` sees each as it is done; false stops with kCancelled.
Result<std::vector<HistoryCell>> CompareHistories(
    const api::Running& running, const std::vector<int32_t>& prompt, int threads,
    const std::function<bool(const HistoryCell&)>& on_cell);

// The names, in the order of CompareHistories.
std::vector<std::string> HistoryNames();

}  // namespace lode::cli
